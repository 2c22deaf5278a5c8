"""Slices, growth of the bias, paths, layers and spectra: what is drawn is what the trajectory holds."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from command_line import error_of, nnsim
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.image import imread
from pictured_runs import BINS, FRAMES, NAMES, WALKERS, hill, make_run

from nnsim import Trajectory
from nnsim.analysis import EntropyLandscape
from nnsim.errors import InputError
from nnsim.plotting import (
    COLORS,
    STYLES,
    plot_growth,
    plot_landscape,
    plot_layers,
    plot_paths,
    plot_slices,
    plot_spectrum,
    readable,
    save,
    use_style,
)
from nnsim.plotting.layers import layer_groups
from nnsim.plotting.style import WIDTH, active_style


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Trajectory]:
    """Runs with one, two and three CVs."""
    folder = tmp_path_factory.mktemp("runs")
    return {cvs: make_run(folder / f"run{cvs}.zarr", cvs) for cvs in (1, 2, 3)}


def mesh_of(ax: Any) -> np.ndarray:
    mesh = next(c for c in ax.collections if isinstance(c, QuadMesh))
    values: Any = np.ma.asarray(mesh.get_array())
    return np.asarray(values.filled(np.nan))


def known(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, np.nan)


def overlaps(figure: Any) -> list[tuple[str, str]]:
    """Pairs of texts of a figure that lie on each other."""
    figure.draw_without_rendering()
    hidden = set()
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:  # not drawn, but it has a place
                hidden |= {tick.label1, tick.label2}
    texts = [t for t in figure.findobj(matplotlib.text.Text) if t.get_text().strip() and t.get_visible()]
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts if t not in hidden]
    pairs = [(a, b) for place, a in enumerate(boxes) for b in boxes[place + 1 :]]
    return [(a[0], b[0]) for a, b in pairs if a[1].padded(-1.5).overlaps(b[1].padded(-1.5))]


# ----------------------------------------------------------------------------------------------------------- slices


@pytest.mark.slow
def test_slices_are_bins_of_the_landscape_with_one_scale(runs: dict[int, Trajectory]) -> None:
    landscape = EntropyLandscape.from_trajectory(runs[3])
    panels = plot_slices(landscape, count=4, along="accuracy_test", note="not converged")
    meshes = [next(c for c in panel.collections if isinstance(c, QuadMesh)) for panel in panels]
    assert len(panels) == 4
    assert {mesh.get_clim() for mesh in meshes} == {(np.nanmin([mesh_of(p) for p in panels]), 0.0)}
    visited = np.flatnonzero(landscape.visited.any(axis=(0, 2)))
    for panel, place in zip(panels, visited[np.linspace(0, len(visited) - 1, 4).round().astype(int)], strict=True):
        np.testing.assert_array_equal(mesh_of(panel), landscape.entropy[:, place].T)
        assert float(panel.get_title().replace("−", "-")) == pytest.approx(landscape.axes[1].centers[place], abs=0.006)
    figure: Any = panels[0].figure
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["not converged", "slices at test accuracy ="]
    assert figure.get_supxlabel() == readable(NAMES[0])
    assert figure.get_supylabel() == "weight norm"
    assert not overlaps(figure)


def test_slices_at_chosen_values_into_given_axes(runs: dict[int, Trajectory]) -> None:
    landscape = EntropyLandscape.from_trajectory(runs[3])
    axes = list(Figure().subplots(1, 2))
    panels = plot_slices(landscape, axes, values=[0.5, 0.3])
    assert panels == axes
    np.testing.assert_array_equal(mesh_of(panels[1]), landscape.entropy[:, :, int(0.3 * BINS)].T)
    assert axes[1].get_xlabel() == readable(NAMES[0])
    with pytest.raises(InputError, match="2 axes has no slices"):
        plot_slices(landscape.marginal(0, 1))
    with pytest.raises(InputError, match=r"weight_norm = 0\.01 was not visited; choose values between"):
        plot_slices(EntropyLandscape(hill(3), hill(3) > 10, landscape.axes), values=[0.01])
    with pytest.raises(InputError, match="values is empty"):
        plot_slices(landscape, values=[])
    with pytest.raises(InputError, match="count = 0"):
        plot_slices(landscape, count=0)
    with pytest.raises(InputError, match="no axis 'pie'"):
        plot_slices(landscape, along="pie")
    with pytest.raises(InputError, match="or plot_slices of three"):
        plot_landscape(landscape)


# ----------------------------------------------------------------------------------------------------------- growth


def test_growth_of_the_bias_along_one_cv(runs: dict[int, Trajectory]) -> None:
    (ax,) = plot_growth(runs[1])
    assert [line.get_label() for line in ax.lines] == [f"step {step}" for step in (80, 160, 240, 320, 400)]
    for line, share in zip(ax.lines, (0.2, 0.4, 0.6, 0.8, 1.0), strict=True):
        np.testing.assert_allclose(line.get_ydata(), known(share * hill(1)), rtol=1e-12)
    shades = [sum(matplotlib.colors.to_rgb(line.get_color())) for line in ax.lines]
    assert shades == sorted(shades)  # from dark to light
    assert ax.get_ylabel() == "bias $V/kT$"
    (ax,) = plot_growth(runs[1], quantity="entropy", times=2)
    assert len(ax.lines) == 2
    found = EntropyLandscape.from_trajectory(runs[1])  # at the centres of the bins, where the bias has means over them
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), found.entropy, rtol=1e-12)


def test_growth_as_maps_and_along_one_of_two_cvs(runs: dict[int, Trajectory]) -> None:
    panels = plot_growth(runs[2], times=3, note="a note")
    assert [panel.get_title() for panel in panels] == ["step 160", "step 240", "step 400"]
    for panel, share in zip(panels, (0.4, 0.6, 1.0), strict=True):
        np.testing.assert_allclose(mesh_of(panel), known(share * hill(2)).T, rtol=1e-12)
        mesh: Any = next(c for c in panel.collections if isinstance(c, QuadMesh))
        assert mesh.get_clim() == (0.0, hill(2).max())
    assert not overlaps(panels[0].figure)
    (ax,) = plot_growth(runs[2], along="accuracy_test", times=1)
    expected = np.log(np.exp(np.clip(hill(2), 0, None)).mean(axis=0))
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.where((hill(2) > 0).any(axis=0), expected, np.nan))
    (ax,) = plot_growth(runs[3], quantity="entropy", times=1)  # of three CVs, along the first
    found = EntropyLandscape.from_trajectory(runs[3]).marginal(0)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), found.entropy, rtol=1e-12)


def test_growth_is_refused_by_name(runs: dict[int, Trajectory]) -> None:
    with pytest.raises(InputError, match="quantity = 'pie' is not known"):
        plot_growth(runs[1], quantity="pie")
    with pytest.raises(InputError, match="times = 0"):
        plot_growth(runs[1], times=0)
    with pytest.raises(InputError, match="no axis 'pie'"):
        plot_growth(runs[2], along="pie")
    with pytest.raises(InputError, match="2 axes for 5 panels"):
        plot_growth(runs[2], list(Figure().subplots(1, 2)))


# ------------------------------------------------------------------------------------------------------------ paths


def test_paths_of_walkers(runs: dict[int, Trajectory]) -> None:
    run = runs[2]
    ax = plot_paths(run, walkers=[2, 0])
    paths = [line for line in ax.lines if len(line.get_xdata()) > 1]  # type: ignore[arg-type]
    assert len(paths) == 2
    for line, walker in zip(paths, (2, 0), strict=True):
        expected = np.column_stack([run[name][:, walker] for name in NAMES[:2]])
        np.testing.assert_array_equal(line.get_xydata(), expected)
    ends = {line.get_label(): line for line in ax.lines if line.get_marker() in "os"}
    first: Any = ends["_start of walker 2"].get_xydata()
    last: Any = ends["walker 2"].get_xydata()
    np.testing.assert_array_equal(first[0], [run[name][0, 2] for name in NAMES[:2]])
    np.testing.assert_array_equal(last[0], [run[name][-1, 2] for name in NAMES[:2]])
    np.testing.assert_array_equal(mesh_of(ax), EntropyLandscape.from_trajectory(run).entropy.T)
    texts = [text.get_text() for text in ax.figure.legends[0].get_texts()]
    assert texts == ["at step 10", f"at step {10 * FRAMES}", "walker 2", "walker 0"]
    figure: Any = ax.figure
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().y0 >= ax.get_window_extent().y1  # outside the data


def test_long_paths_are_thinned_and_keep_their_end(runs: dict[int, Trajectory]) -> None:
    ax = plot_paths(runs[2], max_points=7, cvs=("accuracy_test", "ln_loss_train"))
    paths = [line for line in ax.lines if len(line.get_xdata()) > 1]  # type: ignore[arg-type]
    assert len(paths) == WALKERS
    x: Any = paths[0].get_xdata()
    assert len(x) <= 7
    assert (x[0], x[-1]) == tuple(runs[2]["accuracy_test"][[0, -1], 0])
    assert ax.get_xlabel() == "test accuracy"


def test_many_walkers_have_one_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pictured_runs.WALKERS", 9)
    ax = plot_paths(make_run(tmp_path / "many.zarr", spectrum=False), walkers=range(9), ax=Figure().subplots())
    paths = [line for line in ax.lines if len(line.get_xdata()) > 1]  # type: ignore[arg-type]
    assert {line.get_color() for line in paths} == {COLORS[0]}
    legend: Any = ax.get_legend()
    assert legend.get_texts()[-1].get_text() == "9 walkers"


def test_paths_are_refused_by_name(runs: dict[int, Trajectory]) -> None:
    with pytest.raises(InputError, match="landscape of ln_loss_train alone has no paths; draw them with plot_times"):
        plot_paths(runs[1])
    with pytest.raises(InputError, match="walker 3 must be one of 0 to 2"):
        plot_paths(runs[2], walkers=[3])
    with pytest.raises(InputError, match=r"walkers = \[1, 1\] must be different"):
        plot_paths(runs[2], walkers=[1, 1])
    with pytest.raises(InputError, match="no axis 'pie'"):
        plot_paths(runs[2], cvs=("pie", "accuracy_test"))
    with pytest.raises(InputError, match="max_points = 1"):
        plot_paths(runs[2], max_points=1)


# ----------------------------------------------------------------------------------------------- layers and spectra


def test_distributions_of_layers(runs: dict[int, Trajectory]) -> None:
    panels = plot_layers(runs[2], walkers=[0, 2], bands=(0.8,))
    positions: Any = runs[2].positions
    values = positions[:][:, [0, 2]]
    places = [slice(0, 8), slice(8, 12), slice(12, 16)]  # 0.weight, 0.bias, 2.weight
    assert len(panels) == 3
    for panel, place in zip(panels, places, strict=True):
        group = values[:, :, place].reshape(FRAMES, -1)
        median: Any = panel.lines[0].get_xydata()
        np.testing.assert_array_equal(median[:, 0], positions.step)
        np.testing.assert_allclose(median[:, 1], np.median(group, axis=1))
        band: Any = next(c for c in panel.collections if isinstance(c, PolyCollection)).get_paths()[0].vertices
        limits = np.quantile(group, (0.1, 0.9), axis=1)
        np.testing.assert_allclose((band[:, 1].min(), band[:, 1].max()), (limits[0].min(), limits[1].max()))
    assert [panel.get_ylabel() for panel in panels] == ["layer 0", "", "layer 2"]
    assert [panel.get_title() for panel in panels] == ["weights", "biases", ""]
    assert not overlaps(panels[0].figure)
    few = plot_layers(runs[2], max_layers=1, max_frames=5)
    assert [len(panel.lines[0].get_xdata()) for panel in few] == [5, 5]  # type: ignore[arg-type]
    assert few[0].get_title(loc="left").replace("\n", " ") == "1 of 2 layers"


def test_layers_by_the_names_of_tensors() -> None:
    groups = layer_groups({"a.b.weight": [2], "a.b.bias": [], "scale": [3], "a.b.extra": [1]})
    assert {key: {kind: place.tolist() for kind, place in one.items()} for key, one in groups.items()} == {
        "a.b": {"weights": [0, 1, 6], "biases": [2]},
        "scale": {"weights": [3, 4, 5]},
    }


def test_spectra(runs: dict[int, Trajectory]) -> None:
    ax = plot_spectrum(runs[2], times=3, decades=4.5)
    assert [line.get_label() for line in ax.lines] == ["step 10", "step 210", "step 400"]
    values = runs[2]["ntk_spectrum_train"][:, 0]
    for line, row in zip(ax.lines, values[[0, 20, -1]], strict=True):
        y: Any = line.get_ydata()
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 7))
        expected = np.where(row > values.max() * 10**-4.5, row, np.nan)
        np.testing.assert_allclose(y, expected)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_xlabel() == "rank in the NTK spectrum (train)"
    assert "mean of 3 walkers" in ax.get_ylabel()
    assert not overlaps(ax.figure)
    one = plot_spectrum(runs[2], "ntk_spectrum_train", times=1, walker=2)
    np.testing.assert_allclose(one.lines[0].get_ydata(), values[-1])


def test_layers_and_spectra_are_refused_by_name(runs: dict[int, Trajectory], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"bands = \[1.5\] must be shares"):
        plot_layers(runs[1], bands=[1.5])
    with pytest.raises(InputError, match=r"walkers = \[7\] must be among 0 to 2"):
        plot_layers(runs[1], walkers=[7])
    with pytest.raises(InputError, match="max_frames = 1"):
        plot_layers(runs[1], max_frames=1)
    with pytest.raises(InputError, match="'pie' was not recorded"):
        plot_spectrum(runs[1], "pie")
    with pytest.raises(InputError, match="'weight_norm' has no eigenvalues"):
        plot_spectrum(runs[1], "weight_norm")
    with pytest.raises(InputError, match="walker = 3 must be one of 0 to 2"):
        plot_spectrum(runs[1], walker=3)
    with pytest.raises(InputError, match="decades = 0"):
        plot_spectrum(runs[1], decades=0)
    with pytest.raises(InputError, match=r"observe nnsim\.cv\.NTKSpectrum"):
        plot_spectrum(make_run(tmp_path / "none.zarr", spectrum=False))


# ---------------------------------------------------------------------------------------------------- styles and CLI


@pytest.mark.parametrize("name", STYLES)
def test_sizes_of_a_style(name: str, runs: dict[int, Trajectory], tmp_path: Path) -> None:
    with use_style(name) as style:
        ax = plot_spectrum(runs[1])
        path = save(ax, tmp_path / "picture.png")
        assert active_style() is style
    figure: Any = ax.figure
    assert figure.get_figwidth() == style.width
    assert {text.get_fontsize() for text in (ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels())} == {style.letters}
    assert imread(path).shape[1] == round(style.width * style.dpi)
    assert active_style().width == WIDTH  # as before
    assert not overlaps(figure)


def test_letters_of_a_column_are_those_of_the_design_where_it_is_printed() -> None:
    assert STYLES["column"].letters / STYLES["column"].width == pytest.approx(12.0 / WIDTH, rel=0.03)


def test_an_unknown_style() -> None:
    with (
        pytest.raises(InputError, match="style = 'pie' is not known; choose one of 'screen'"),
        use_style("pie"),
    ):
        pass


def test_readable_names_of_the_tangent_kernel() -> None:
    assert readable("ntk_entropy_train_200points") == "NTK entropy (train, 200 points)"
    assert readable("ntk_trace_test_all_class3_5x20points_seed1_per_row") == (
        "NTK trace (test, all outputs, class 3, 5 × 20 points, seed 1, per row)"
    )
    assert readable("ntk_magnitude_variance") == "NTK magnitude variance"
    assert readable("10x_ntk_entropy_train_normalised") == "10 × NTK entropy (train, normalised)"


@pytest.fixture
def folder(runs: dict[int, Trajectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with links to the runs."""
    for cvs, run in runs.items():
        (tmp_path / f"run{cvs}.zarr").symlink_to(run.path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("landscape", "run1.zarr"),
        ("landscape", "run2.zarr"),
        ("landscape", "run3.zarr", "--slices", "accuracy_test"),
        ("growth", "run1.zarr", "--quantity", "entropy", "--times", "3"),
        ("growth", "run2.zarr"),
        ("growth", "run2.zarr", "--along", "accuracy_test"),
        ("paths", "run2.zarr", "--walker", "2", "--walker", "0"),
        ("paths", "run3.zarr", "--all", "--cv", "accuracy_test", "weight_norm"),
        ("layers", "run2.zarr", "--walker", "1"),
        ("spectrum", "run2.zarr", "--times", "4", "--walker", "0"),
        ("timeseries", "run2.zarr"),
        ("convergence", "run1.zarr"),
    ],
)
def test_each_picture_from_the_command_line(folder: Path, arguments: tuple[str, ...]) -> None:
    result = nnsim("plot", *arguments, "--style", "column", "-o", "picture.svg")
    assert result == (0, "picture: picture.svg\n", "")
    assert f'width="{3.4 * 72:g}' in (folder / "picture.svg").read_text()[:2000]


def test_the_command_line_says_what_is_wrong(folder: Path) -> None:
    assert nnsim("plot", "spectrum", "run2.zarr").out == "picture: run2_spectrum.png\n"
    assert "--all and --walker exclude each other" in error_of("plot", "paths", "run2.zarr", "--all", "--walker", "1")
    assert "'pie' is not one of" in error_of("plot", "layers", "run2.zarr", "--style", "pie")
    assert "--slices weight_norm needs a landscape of three" in error_of(
        "plot", "landscape", "run2.zarr", "--slices", "weight_norm"
    )
    assert "no axis 'pie'; choose one of" in error_of("plot", "landscape", "run3.zarr", "--slices", "pie")
    line = error_of("plot", "landscape", "run3.zarr", "--observable", "weight_norm")
    assert "--observable weight_norm needs a landscape of two CVs" in line
