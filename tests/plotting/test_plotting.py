"""Plots: what is drawn, how it is labelled, and what is refused. The trajectory is one in memory."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from nnsim.analysis import Axis, Curve, EntropyLandscape, natural_value
from nnsim.errors import InputError
from nnsim.plotting import (
    COLORS,
    STYLE,
    plot_histogram,
    plot_landscape,
    plot_parameters,
    plot_timeseries,
    readable,
    save,
)


class Series:
    def __init__(self, values: np.ndarray, every: int = 10) -> None:
        self.values, self.step, self.shape = values, np.arange(len(values)) * every, values.shape
        self.time = self.step * 1e-3

    def __getitem__(self, key: Any) -> np.ndarray:
        return self.values[key]


class FakeTrajectory:
    """What the plots use of an `nnsim.Trajectory`: 40 frames, 3 walkers, 20 parameters in 4 tensors."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.header = {"parameters": {"0.weight": [3, 4], "0.bias": [3], "2.weight": [1, 4], "2.bias": []}}
        self.positions: Series | None = Series(rng.standard_normal((40, 3, 20)))
        self.record = {
            "ln_loss_train": Series(rng.standard_normal((40, 3))),
            "accuracy_test": Series(rng.uniform(0, 1, (20, 3)), every=20),
            "increment": Series(1 / np.arange(1.0, 41)),
            "spectrum": Series(rng.standard_normal((40, 3, 5))),
            "empty": Series(np.zeros((0, 3))),
            "odd": Series(np.zeros((5, 3)), every=7),
        }

    @property
    def observables(self) -> list[str]:
        return list(self.record)

    def __getitem__(self, name: str) -> Series:
        return self.record[name]


@pytest.fixture
def trajectory() -> Any:
    return FakeTrajectory()


def axis(name: str, low: float, high: float, bins: int) -> Axis:
    edges = np.linspace(low, high, bins + 1)
    return Axis(name, 0.5 * (edges[1:] + edges[:-1]), edges)


def landscape(depth: float = 4.0, flat: bool = True, seed: int = 0) -> EntropyLandscape:
    axes = (axis("ln_loss_train", -6, 2, 40), axis("10x_smoothed_accuracy_test", -1, 11, 48))
    x, a = np.meshgrid(axes[0].centers, axes[1].centers, indexing="ij")
    noise = 0.1 * np.random.default_rng(seed).standard_normal(x.shape)
    visited = (x > -5) & (x < 1) & (a > 2) & (a < 9)
    return EntropyLandscape(depth * x - 0.2 * (a - 5 + x / 2) ** 2 + noise, visited, axes, flat=flat)


def colorbar_of(ax: Any) -> Any:
    return next(c for c in ax.collections if isinstance(c, QuadMesh)).colorbar


def test_map_of_a_landscape_with_its_equilibrium() -> None:
    runs = EntropyLandscape.average([landscape(seed=seed) for seed in range(4)])
    curve = runs.equilibrium(0, 1)
    reference = Curve(np.array([-3.0, 0.0]), np.array([6.0, 5.0]))
    ax = plot_landscape(runs, curve, reference=reference, reference_label="exact", note="not converged: increment 0.1")
    assert ax.get_xlabel() == r"ln $L_\mathrm{train}$"
    assert ax.get_ylabel() == "10 × smoothed test accuracy"
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["equilibrium", "exact"]
    assert ax.get_title(loc="left").replace("\n", " ") == "not converged: increment 0.1"
    mesh = next(c for c in ax.collections if isinstance(c, QuadMesh))
    drawn: Any = np.ma.asarray(mesh.get_array())
    np.testing.assert_array_equal(np.ma.getmaskarray(drawn), ~runs.visited.T)  # white where not visited
    np.testing.assert_array_equal(drawn.compressed(), runs.entropy.T[runs.visited.T])
    assert mesh.get_cmap().name == "viridis"
    assert colorbar_of(ax).ax.get_ylabel() == "entropy $S$ (nats)"
    assert colorbar_of(ax).extend == "neither"
    # only the part that was visited, to the edges of its bins
    np.testing.assert_allclose((*ax.get_xlim(), *ax.get_ylim()), (-5, 1, 2, 9))
    dots = next(line for line in ax.lines if line.get_marker() == "o")
    known = np.isfinite(curve.y)
    np.testing.assert_array_equal(dots.get_xydata(), np.column_stack([curve.x, curve.y])[known])
    assert (dots.get_markerfacecolor(), dots.get_markeredgecolor()) == (COLORS[1], "white")


def test_map_in_the_quantity_behind_the_coordinate() -> None:
    value, name = natural_value("10x_smoothed_accuracy_test")
    one = landscape()
    ax = plot_landscape(one, one.equilibrium(0, 1, value=value), value=value)
    assert ax.get_ylabel() == readable(name) == "smoothed test accuracy"
    np.testing.assert_allclose(ax.get_ylim(), (0.2, 0.9))
    assert plot_landscape(one, value=value, value_label="A").get_ylabel() == "A"


def test_colours_of_a_deep_landscape_are_clipped() -> None:
    deep = landscape(depth=100.0)
    bar = colorbar_of(plot_landscape(deep))
    low, high = bar.mappable.get_clim()
    assert high == 0
    assert np.mean(deep.entropy[deep.visited] < low) == pytest.approx(0.05, abs=0.01)
    assert bar.extend == "min"
    bar = colorbar_of(plot_landscape(deep, span=50.0))
    assert bar.mappable.get_clim() == (-50, 0)


def test_with_a_potential_it_is_not_called_entropy() -> None:
    ax = plot_landscape(landscape(flat=False))
    assert colorbar_of(ax).ax.get_ylabel() == r"ln Boltzmann weight, $-F/kT$"


def test_line_of_a_landscape_in_one_dimension() -> None:
    runs = EntropyLandscape.average([landscape(seed=seed) for seed in range(4)]).marginal(0)
    exact = Curve(runs.axes[0].centers, 4 * runs.axes[0].centers)
    ax = plot_landscape(runs, reference=exact, reference_label="exact")
    assert ax.get_ylabel() == "entropy $S$ (nats)"
    assert ax.get_legend_handles_labels()[1] == ["exact", "mean of 4 runs", "standard error"]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), runs.entropy)
    single = plot_landscape(landscape().marginal(0))
    assert single.get_legend() is None
    assert not single.collections  # no band without an error


def test_drawing_into_given_axes() -> None:
    axes = Figure().subplots(1, 2)
    assert plot_landscape(landscape(), ax=axes[0]) is axes[0]
    assert plot_landscape(landscape().marginal(0), ax=axes[1]) is axes[1]


def test_letters_are_8_points_in_a_column() -> None:
    figure = plot_landscape(landscape()).figure
    smallest = min(STYLE[key] for key in STYLE if key.endswith("size"))
    assert isinstance(figure, Figure)
    assert smallest * 3.4 / figure.get_figwidth() >= 8


def test_timeseries(trajectory: Any) -> None:
    panels: Any = plot_timeseries(trajectory, ["ln_loss_train", "accuracy_test", "increment"], note="short")
    top, middle, bottom = panels
    assert [panel.get_ylabel() for panel in (top, middle, bottom)] == [
        r"ln $L_\mathrm{train}$",
        "test accuracy",
        "increment",
    ]
    assert bottom.get_xlabel() == "step"
    assert len(top.lines) == 4  # three walkers and their mean
    values = trajectory["ln_loss_train"].values
    np.testing.assert_array_equal(top.lines[0].get_xydata(), np.column_stack([np.arange(40) * 10, values[:, 0]]))
    np.testing.assert_allclose(top.lines[-1].get_ydata(), values.mean(1))
    assert top.lines[-1].get_linewidth() > top.lines[0].get_linewidth()
    assert len(bottom.lines) == 1  # one number for all walkers
    assert top.get_title(loc="left") == "short"
    thin: Any = plot_timeseries(trajectory, "ln_loss_train", max_points=10, max_walkers=2)[0]
    assert [len(line.get_xdata()) for line in thin.lines] == [10, 10, 10]
    np.testing.assert_allclose(thin.lines[-1].get_ydata(), values[::4].mean(1))  # of all walkers
    single: Any = plot_timeseries(trajectory, "ln_loss_train", max_points=1)[0]
    assert {line.get_marker() for line in single.lines} == {"."}  # a line through one frame would show nothing


@pytest.mark.slow
def test_labels_of_neighbouring_panels_do_not_run_into_each_other(trajectory: Any) -> None:
    names = ["wang_landau_on_two_cvs_mean_increment", "replica_exchange_least_swap_rate", "umbrella_mean_work_done"]
    for name in names:
        trajectory.record[name] = trajectory.record["increment"]
    panels: Any = plot_timeseries(trajectory, names)
    figure = panels[0].figure
    figure.draw_without_rendering()
    boxes = [panel.yaxis.label.get_window_extent() for panel in panels]
    assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes))
    assert boxes[0].y1 < figure.bbox.height
    assert " ".join(panels[1].get_ylabel().split()) == "replica exchange least swap rate"


def test_histograms(trajectory: Any) -> None:
    ax = plot_histogram(trajectory, "ln_loss_train", last=0.5, bins=7)
    values = trajectory["ln_loss_train"].values[20:]
    heights, _ = np.histogram(values, 7)
    outline: Any = ax.patches[0].get_path().vertices
    assert outline[:, 1].max() == heights.max()
    np.testing.assert_allclose((outline[:, 0].min(), outline[:, 0].max()), (values.min(), values.max()))
    pair = plot_histogram(trajectory, ["ln_loss_train", "accuracy_test"], bins=5)
    counts: Any = np.ma.asarray(next(c for c in pair.collections if isinstance(c, QuadMesh)).get_array()).filled(0)
    loss = trajectory["ln_loss_train"].values[::2]  # the steps at which both were recorded
    expected = np.histogram2d(loss.ravel(), trajectory["accuracy_test"].values.ravel(), 5)[0].T
    np.testing.assert_array_equal(np.nan_to_num(counts), expected)
    assert pair.get_ylabel() == "test accuracy"


def test_parameter_traces(trajectory: Any) -> None:
    panels = plot_parameters(trajectory, walker=2, max_traces=4)
    assert [panel.get_ylabel() for panel in panels] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert [len(panel.lines) for panel in panels] == [4, 3, 4, 1]
    positions = trajectory.positions.values
    np.testing.assert_array_equal(panels[1].lines[0].get_ydata(), positions[:, 2, 12])
    np.testing.assert_array_equal(panels[3].lines[0].get_ydata(), positions[:, 2, 19])
    assert panels[-1].get_xlabel() == "step (walker 2)"
    (one,) = plot_parameters(trajectory, layers="2.weight")
    np.testing.assert_array_equal(one.lines[3].get_ydata(), positions[:, 0, 18])
    few = plot_parameters(trajectory, max_panels=2)
    assert few[0].get_title(loc="left") == "2 of 4 tensors"


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_save(tmp_path: Path, ending: str) -> None:
    path = save(plot_landscape(landscape(), landscape().equilibrium(0, 1)), tmp_path / f"picture.{ending}")
    assert path.stat().st_size > 2000


def test_save_says_why_it_cannot(tmp_path: Path) -> None:
    ax = plot_landscape(landscape().marginal(0))
    with pytest.raises(InputError, match=r"must end in a known format; use one of .*\.png"):
        save(ax, tmp_path / "picture.doc")
    with pytest.raises(InputError, match="known format"):
        save(ax, tmp_path / "picture")
    with pytest.raises(InputError, match=r"the folder of .* does not exist"):
        save(ax.figure, tmp_path / "none" / "picture.png")  # type: ignore[arg-type]
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        save([ax], tmp_path / "taken.png")


def test_bad_input_is_named(trajectory: Any) -> None:
    with pytest.raises(InputError, match="no observable 'loss'; it has: ln_loss_train, accuracy_test"):
        plot_timeseries(trajectory, "loss")
    with pytest.raises(InputError, match="'spectrum' has 5 numbers"):
        plot_histogram(trajectory, "spectrum")
    with pytest.raises(InputError, match="no frames yet"):
        plot_timeseries(trajectory, "empty")
    with pytest.raises(InputError, match="give at least one"):
        plot_timeseries(trajectory, [])
    with pytest.raises(InputError, match="3 observables; give one or two"):
        plot_histogram(trajectory, ["increment"] * 3)
    with pytest.raises(InputError, match="last = 2 must be at most 1"):
        plot_histogram(trajectory, "increment", last=2)
    trajectory.record["odd"].step += 3
    with pytest.raises(InputError, match="never recorded at the same step"):
        plot_histogram(trajectory, ["accuracy_test", "odd"])
    with pytest.raises(InputError, match="walker = 3 must be one of 0 to 2"):
        plot_parameters(trajectory, walker=3)
    with pytest.raises(InputError, match=r"no parameter '9\.weight'; choose from 0\.weight, 0\.bias"):
        plot_parameters(trajectory, layers="9.weight")
    trajectory.positions = None
    with pytest.raises(InputError, match="no positions"):
        plot_parameters(trajectory)
    with pytest.raises(InputError, match="needs a landscape of two axes"):
        plot_landscape(landscape().marginal(0), Curve(np.zeros(1), np.zeros(1)))
    cube = EntropyLandscape(np.zeros((2, 2, 2)), np.ones((2, 2, 2), bool), tuple(axis(n, 0, 1, 2) for n in "abc"))
    with pytest.raises(InputError, match="3 axes cannot be drawn"):
        plot_landscape(cube)
    with pytest.raises(InputError, match="span = -1"):
        plot_landscape(landscape(), span=-1)
    with pytest.raises(InputError, match="1 axes for 2 panels"):
        plot_timeseries(trajectory, ["increment", "odd"], Figure().subplots())


def test_readable_names() -> None:
    assert readable("loss_test") == r"$L_\mathrm{test}$"
    assert readable("logit_smoothed_accuracy_test") == "logit of smoothed test accuracy"
    assert readable("ln_energy") == "ln $E$"
    assert readable("weight_norm") == "weight norm"


@pytest.mark.slow
def test_plotting_needs_neither_torch_nor_pyplot() -> None:
    code = "import sys, nnsim.plotting; sys.exit(bool({'torch', 'matplotlib.pyplot'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
