"""Quantities along training: exact on records made by hand, pictures, and the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import error_of, nnsim, python
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from nnsim import InputError, Simulation, Trajectory, cv
from nnsim.analysis import evolution, running_average, steps_per_epoch, sweep_runs
from nnsim.errors import NNSimWarning
from nnsim.integrators import Adam
from nnsim.plotting import COLORS, plot_evolution, save
from nnsim.systems import spiral_classification
from nnsim.trajectory.writer import TrajectoryWriter

NAN = float("nan")
Y = np.array([[1.0, 2.0, 6.0], [2.0, 4.0, 9.0], [0.0, 1.0, 2.0], [4.0, 4.0, 4.0], [5.0, 6.0, 7.0]])  # [T, R]


def header(points: int = 100, batch: int | None = 30, **settings: Any) -> dict[str, Any]:
    """What the header of a training run says of its epochs: 100 points in batches of 30 are 4 steps."""
    return {
        "integrator": {"type": "Adam", "batch_size": batch},
        "system": {"data": {"train": [{"shape": [points, 2]}, {"shape": [points]}]}},
        "settings": settings,
        "parameters": {},
    }


def write(path: Path, head: dict[str, Any] | None = None, every: int = 20, **columns: np.ndarray) -> Trajectory:
    """A trajectory with a frame of these observables every 20 steps, from step 0 on."""
    writer = TrajectoryWriter.create(path, header() if head is None else head)
    for name, values in columns.items():
        for frame, row in enumerate(values):
            writer.append(f"observables/{name}", frame * every, float(frame), row)
    writer.flush()
    writer.close()
    return Trajectory(path)


def training(path: Path, offset: float = 0.0, frames: int = 41, walkers: int = 3, **settings: Any) -> Trajectory:
    """Entropy, trace and loss, train and test, that look like training."""
    rng, t = np.random.default_rng(0), np.arange(frames)[:, None]
    columns = {}
    for split, slow in (("train", 10.0), ("test", 20.0)):
        noise = rng.standard_normal((3, frames, walkers))
        columns[f"ntk_entropy_{split}"] = 1.5 + offset + 0.01 * t + 0.02 * noise[0]
        columns[f"ntk_trace_{split}"] = 100 * (1 + t) * np.exp(0.2 * noise[1])
        columns[f"loss_{split}"] = 2 * np.exp(-t / slow + 0.2 * noise[2])
    return write(path, header(**settings), **columns)


# ---------------------------------------------------------------------------------------------------------- the numbers


def test_mean_spread_and_epochs(tmp_path: Path) -> None:
    found = evolution(write(tmp_path / "a.zarr", loss_train=Y), "loss_train", window=3)
    np.testing.assert_array_equal(found.step, [0, 20, 40, 60, 80])
    np.testing.assert_array_equal(found.epoch, [0.0, 5.0, 10.0, 15.0, 20.0])
    np.testing.assert_array_equal(found.values, Y)
    np.testing.assert_allclose(found.mean, [3.0, 5.0, 1.0, 4.0, 6.0], rtol=1e-15)
    np.testing.assert_allclose(found.std, [7**0.5, 13**0.5, 1.0, 0.0, 1.0], rtol=1e-15)
    np.testing.assert_allclose(found.standard_error, found.std / 3**0.5, rtol=1e-15)
    np.testing.assert_allclose(found.running, [3.0, 3.0, 10 / 3, 11 / 3, 6.0], rtol=1e-15)
    assert found.lowest() == (40, pytest.approx(1.0))
    assert found.highest() == (80, pytest.approx(6.0))
    assert found.runs == tuple(f"{tmp_path}/a.zarr, walker {w}" for w in range(3))
    rows = found.rows()
    assert list(rows[0]) == [
        "step", "epoch", "mean_loss_train", "standard_deviation", "standard_error", "running_average"
    ]  # fmt: skip
    assert (len(rows), rows[3]["step"], rows[3]["epoch"]) == (5, 60, 15.0)


def test_running_average_keeps_lines_and_ends() -> None:
    line = 3.0 - 0.25 * np.arange(12)
    for window in (1, 3, 7, 11):
        np.testing.assert_allclose(running_average(line, window), line, rtol=0, atol=1e-14)
    y = np.random.default_rng(1).standard_normal(11)
    for window in (1, 3, 5, 11):
        half = [min(window // 2, i, 10 - i) for i in range(11)]
        expected = [y[i - h : i + h + 1].mean() for i, h in enumerate(half)]
        np.testing.assert_allclose(running_average(y, window), expected, rtol=1e-13)
    np.testing.assert_array_equal(running_average([4.0], 1), [4.0])


def test_several_trajectories_are_one_ensemble(tmp_path: Path) -> None:
    parts = [write(tmp_path / "a.zarr", x=Y[:, :1]), write(tmp_path / "b.zarr", x=Y[:, 1:])]
    together = evolution(parts, "x")
    whole = evolution(str(write(tmp_path / "c.zarr", x=Y).path), "x")
    for name in ("step", "epoch", "values", "mean", "std", "running"):
        np.testing.assert_array_equal(getattr(together, name), getattr(whole, name))
    assert together.runs[1] == f"{tmp_path}/b.zarr, walker 0"
    alone = evolution(parts[0], "x")
    assert np.isnan(alone.std).all()
    assert np.isnan(alone.standard_error).all()
    np.testing.assert_array_equal(alone.mean, Y[:, 0])
    number = evolution(write(tmp_path / "d.zarr", x=Y[:, 0]), "x")  # one number for all walkers
    assert number.values.shape == (5, 1)


def test_steps_per_epoch(tmp_path: Path) -> None:
    def of(head: dict[str, Any]) -> Trajectory:
        return write(tmp_path / f"{len(list(tmp_path.iterdir()))}.zarr", head, x=Y)

    assert steps_per_epoch(of(header(1000, 128))) == 8
    assert steps_per_epoch(of(header(1024, 128))) == 8
    assert steps_per_epoch(of(header(100, None))) == 1
    assert steps_per_epoch(of({"parameters": {}})) == 1
    unknown = of({"integrator": {"batch_size": 5}, "parameters": {}})
    with pytest.raises(InputError, match=r"does not say how many train points .* give epoch"):
        evolution(unknown, "x")
    np.testing.assert_array_equal(evolution(unknown, "x", epoch=10).epoch, [0, 2, 4, 6, 8])
    with pytest.raises(InputError, match=r"an epoch has 4 steps in .* and 8 in"):
        evolution([of(header(100, 30)), of(header(1000, 128))], "x")


@pytest.mark.parametrize("bad", [NAN, np.inf])
def test_a_run_that_diverged(tmp_path: Path, bad: float) -> None:
    y = Y.copy()
    y[3:, 1] = bad
    run = write(tmp_path / "a.zarr", x=y, fine=Y)
    with pytest.raises(InputError, match=rf"'x' is {bad} at step 60 in .*a.zarr, walker 1; .*drop"):
        evolution(run, "x")
    with pytest.warns(NNSimWarning, match="1 of 3 runs are left out because they diverged"):
        found = evolution(run, "x", diverged="drop")
    np.testing.assert_array_equal(found.values, Y[:, [0, 2]])
    assert found.dropped == (f"{tmp_path}/a.zarr, walker 1",)
    assert found.runs == (f"{tmp_path}/a.zarr, walker 0", f"{tmp_path}/a.zarr, walker 2")
    other = evolution(run, "fine", leave_out=found.dropped)
    np.testing.assert_array_equal(other.values, Y[:, [0, 2]])
    assert other.dropped == found.dropped
    y[2] = bad
    with pytest.raises(InputError, match="no other run is finite throughout"):
        evolution(write(tmp_path / "b.zarr", x=y), "x", diverged="drop")


def test_what_is_refused(tmp_path: Path) -> None:
    run = write(tmp_path / "a.zarr", x=Y, spectrum=np.zeros((5, 3, 7)))
    for change, message in (
        ({"name": "loss"}, r"a.zarr has no observable 'loss'; it has spectrum, x"),
        ({"name": "spectrum"}, r"'spectrum' has 7 numbers for each walker"),
        ({"window": 4}, r"window = 4 must be an odd number of frames, to have a middle; take 3 or 5"),
        ({"window": 7}, r"window = 7 must be at most the number of frames, 5"),
        ({"window": 0}, r"window = 0 must be a whole number of at least 1"),
        ({"epoch": 0}, r"epoch = 0 must be"),
        ({"diverged": "ignore"}, r"diverged = 'ignore' is not known"),
        ({"leave_out": ["walker 9"]}, r"leave_out = 'walker 9' is none of the runs"),
        ({"leave_out": [f"{tmp_path}/a.zarr, walker {w}" for w in range(3)]}, r"leave_out names all 3 runs"),
    ):
        settings: dict[str, Any] = {"name": "x", **change}
        with pytest.raises(InputError, match=f"evolution: .*{message}"):
            evolution(run, **settings)
    with pytest.raises(InputError, match="no trajectory"):
        evolution([], "x")
    with pytest.raises(InputError, match="are the same run"):
        evolution([run, run], "x")
    other = write(tmp_path / "b.zarr", x=Y[:4])
    with pytest.raises(InputError, match=r"5 frames at steps 0 to 80 in .*a.zarr and 4 frames at steps 0 to 60 in"):
        evolution([run, other], "x")


# ------------------------------------------------------------------------------------------------------------ pictures


def lines_of(panel: Any, width: float = 2.0) -> list[Any]:
    return [line for line in panel.lines if line.get_linewidth() == width]


def overlapping(figure: Any) -> list[str]:
    """Pairs of texts and legends of a picture that overlap, or reach beyond it."""
    figure.draw_without_rendering()
    boxes = {}
    for number, ax in enumerate(figure.axes):
        labels = [ax.yaxis.label, ax.xaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()]
        low, high = ax.get_ylim()
        labels = [one for one in labels if one.get_text() and one.get_visible()]
        inside = [one for one in labels if one not in ax.get_yticklabels() or low <= one.get_position()[1] <= high]
        boxes |= {f"{number} {k} {one.get_text()}": one.get_window_extent() for k, one in enumerate(inside)}
        boxes[f"panel {number}"] = ax.get_window_extent()
    for legend in (*figure.legends, *filter(None, (ax.get_legend() for ax in figure.axes))):
        boxes["legend"] = legend.get_window_extent()
    names = list(boxes)
    bad = [f"{a} / {b}" for i, a in enumerate(names) for b in names[i + 1 :] if boxes[a].overlaps(boxes[b])]
    width, height = figure.bbox.width + 1, figure.bbox.height + 1
    outside = [a for a, box in boxes.items() if min(box.x0, box.y0) < -1 or box.x1 > width or box.y1 > height]
    return bad + outside


def test_what_is_drawn(tmp_path: Path) -> None:
    runs = {"narrow": training(tmp_path / "a.zarr"), "broad": [training(tmp_path / "b.zarr", 0.5)]}
    panels: Any = plot_evolution(runs, window=5, title="width")
    assert [panel.get_ylabel() for panel in panels] == ["NTK entropy", "NTK trace", "loss"]
    assert [panel.get_yscale() for panel in panels] == ["linear", "log", "log"]
    assert [panel.get_xlabel() for panel in panels] == ["", "", "epoch"]
    assert panels[0].get_title(loc="left") == "width"
    for panel, name in zip(panels, ("ntk_entropy", "ntk_trace", "loss"), strict=True):
        bold, faint = lines_of(panel), lines_of(panel, 0.6)
        assert [(line.get_color(), line.get_linestyle()) for line in bold] == [
            (COLORS[0], "-"), (COLORS[0], "--"), (COLORS[1], "-"), (COLORS[1], "--")
        ]  # fmt: skip
        for line, thin, band, (key, split) in zip(
            bold, faint, panel.collections, [(k, s) for k in runs for s in ("train", "test")], strict=True
        ):
            curve = evolution(runs[key], f"{name}_{split}", window=5)
            np.testing.assert_array_equal(line.get_xydata(), np.column_stack([curve.epoch, curve.running]))
            np.testing.assert_array_equal(thin.get_xydata(), np.column_stack([curve.epoch, curve.mean]))
            edges, spread = band.get_paths()[0].vertices, running_average(curve.std, 5)
            assert edges[:, 1].max() == pytest.approx((curve.running + spread).max())
            low = curve.running - spread
            assert edges[:, 1].min() == pytest.approx(
                (low if name == "ntk_entropy" else np.maximum(low, 0.1 * curve.running)).min()
            )
    (legend,) = panels[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["narrow", "broad", "train", "test"]
    assert panels[0].get_xlim() == (0.0, 40 * 20 / 4)


@pytest.mark.slow
@pytest.mark.parametrize("wide", [False, True], ids=["stacked", "wide"])
def test_nothing_overlaps(tmp_path: Path, wide: bool) -> None:
    for labels in (["", "x"], [f"width={10 * 3**k}, depth={k}" for k in range(8)]):
        runs = {key: training(tmp_path / f"{len(labels)}-{k}.zarr", 0.1 * k) for k, key in enumerate(labels)}
        panels = plot_evolution(runs, wide=wide, log_x=wide)
        assert overlapping(panels[0].figure) == []
    assert len({to_rgba(line.get_color()) for line in lines_of(panels[0])}) == 8


def test_drawing_into_given_axes(tmp_path: Path) -> None:
    run = training(tmp_path / "a.zarr")
    figure = Figure(figsize=(10, 6), layout="constrained")
    rows = figure.subplots(2, 3)
    for row in rows:
        assert plot_evolution({"one": run}, axes=list(row)) == list(row)
        assert row[2].get_legend() is not None
        assert [ax.get_xlabel() for ax in row] == ["epoch"] * 3
    assert overlapping(figure) == []
    with pytest.raises(InputError, match="3 axes for 2 panels"):
        plot_evolution({"one": run}, ["loss", "ntk_trace"], axes=list(rows[0]))


def test_choices(tmp_path: Path) -> None:
    run = training(tmp_path / "a.zarr")
    (panel,) = plot_evolution({"a": run}, ["loss", "reward"], ["test"], window=1, log=(), log_x=True)
    (line,) = panel.lines  # the mean is its own average
    np.testing.assert_array_equal(line.get_ydata(), evolution(run, "loss_test").mean)
    assert panel.get_yscale() == "linear"
    assert [text.get_text() for text in panel.get_xticklabels()] == ["0", "1", "10", "100"]
    places = panel.transData.transform([(0, 1), (9, 1), (99, 1)])[:, 0]
    assert places[2] - places[1] == pytest.approx(places[1] - places[0])  # ln(1 + epoch)
    (panel,) = plot_evolution({"a": run}, "loss", raw=False)
    assert len(panel.lines) == 2
    (wide,) = plot_evolution({"a": run}, "loss", wide=True)
    assert wide.figure.get_figwidth() == 5.0  # type: ignore[union-attr]


def test_names_that_go_on_after_the_split(tmp_path: Path) -> None:
    run = write(tmp_path / "a.zarr", ntk_entropy_train_20points=Y, ntk_entropy_test_20points=Y, reward=Y)
    first, second = plot_evolution({"a": run}, ["ntk_entropy", "reward"])
    assert " ".join(first.get_ylabel().split()) == "NTK entropy (20 points)"
    assert (len(lines_of(first)), len(lines_of(second))) == (2, 1)
    several = write(tmp_path / "b.zarr", ntk_entropy_train_class0=Y, ntk_entropy_train_class1=2 * Y)
    with pytest.raises(
        InputError, match=r"fits ntk_entropy_train_class0, .*choose one, as 'ntk_entropy_{split}_class0'"
    ):
        plot_evolution({"a": several})
    (panel,) = plot_evolution({"a": several}, ["ntk_entropy_{split}_class1"])
    np.testing.assert_allclose(lines_of(panel)[0].get_ydata(), evolution(several, "ntk_entropy_train_class1").running)


def test_a_diverged_run_is_left_out_of_every_panel(tmp_path: Path) -> None:
    loss = Y.copy()
    loss[2, 0] = NAN
    run = write(tmp_path / "a.zarr", loss_train=loss, accuracy_train=Y)
    with pytest.raises(InputError, match="walker 0"):
        plot_evolution({"a": run}, ["accuracy", "loss"])
    with pytest.warns(NNSimWarning, match="1 of 3 runs"):
        panels = plot_evolution({"a": run}, ["accuracy", "loss"], window=1, diverged="drop")
    np.testing.assert_allclose(lines_of(panels[0])[0].get_ydata(), Y[:, 1:].mean(axis=1))
    assert "left out: 1 run that diverged" in [text.get_text() for text in panels[0].texts]


def test_pictures_that_are_refused(tmp_path: Path) -> None:
    run = write(tmp_path / "a.zarr", loss_train=-Y, x=Y)
    with pytest.raises(InputError, match="none of reward, ntk_trace was recorded; there is loss_train, x"):
        plot_evolution({"a": run}, ["reward", "ntk_trace"])
    with pytest.raises(InputError, match="loss is nowhere above 0"):
        plot_evolution({"a": run}, ["loss"])
    with pytest.raises(InputError, match="no runs"):
        plot_evolution({})
    with pytest.raises(InputError, match="0 splits"):
        plot_evolution({"a": run}, splits=())


def test_loss_that_reaches_zero(tmp_path: Path) -> None:
    loss = np.array([[1.0, 2.0], [0.5, 0.1], [0.0, 0.0]])
    (panel,) = plot_evolution({"a": write(tmp_path / "a.zarr", loss_train=loss)}, "loss")
    assert panel.get_ylim()[0] > 0
    save(panel, tmp_path / "a.png")


@pytest.mark.slow
def test_a_real_training_run(tmp_path: Path) -> None:
    """Entropy and trace of the kernel of a 2-6-2 network, from its initialisation on."""
    observe = [kind(split) for kind in (cv.NTKEntropy, cv.NTKTrace, cv.Loss) for split in ("train", "test")]
    system = spiral_classification(hidden=(6,), points_per_class=20)
    run = Simulation(
        system, Adam(0.01, batch_size=16), observe=observe, walkers=3, every=3, record_start=True, precision="double"
    )
    run.run(30, output=tmp_path / "run.zarr", progress=False)
    opened = Trajectory(tmp_path / "run.zarr")
    assert steps_per_epoch(opened) == 3  # 40 points
    found = evolution(opened, "ntk_trace_train")
    np.testing.assert_array_equal(found.epoch, np.arange(11))
    np.testing.assert_array_equal(found.values, opened["ntk_trace_train"][:])
    panels = plot_evolution({"2-6-2": opened})
    assert len(panels) == 3
    save(panels, tmp_path / "run.png")


# --------------------------------------------------------------------------------------------- sweeps, command line


def sweep(folder: Path, undone: tuple[str, ...] = ()) -> Path:
    """A sweep over width and seed, with the trajectories of its points."""
    points = {}
    for width in (10, 30):
        for seed in (0, 1):
            name = f"width={width},seed={seed}"
            points[name] = {"width": width, "seed": seed}
            (folder / name).mkdir(parents=True)
            if name in undone:
                continue
            training(folder / name / "run.zarr", 0.1 * seed, walkers=2)
            (folder / name / "done.json").write_text(json.dumps({"settings": {}, "observables": {}}))
    plan = {"script": "s.py", "sha256": "", "set": {}, "steps": None, "swept": ["width", "seed"], "points": points}
    (folder / "sweep.json").write_text(json.dumps(plan))
    return folder


@pytest.mark.slow
def test_points_of_a_sweep_with_their_seeds_together(tmp_path: Path) -> None:
    found = sweep_runs(sweep(tmp_path / "s"))
    assert {key: len(runs) for key, runs in found.items()} == {"width=10": 2, "width=30": 2}
    assert evolution(found["width=10"], "loss_train").values.shape == (41, 4)
    assert list(sweep_runs(tmp_path / "s", width="30")) == ["s"]  # a single setting needs no name
    with pytest.raises(InputError, match="no width = 20; choose one of 10, 30"):
        sweep_runs(tmp_path / "s", width=20)
    part = sweep(tmp_path / "part", undone=("width=10,seed=0", "width=10,seed=1", "width=30,seed=1"))
    with pytest.warns(NNSimWarning, match="3 of 4 points are not done"):
        assert {key: len(runs) for key, runs in sweep_runs(part).items()} == {"width=30": 1}
    with pytest.raises(InputError, match="none of the 2 points asked for is done"):
        sweep_runs(part, width=10)


@pytest.mark.slow
def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    drawn: dict[str, Any] = {}

    def keep(runs: Any, *arguments: Any, **options: Any) -> Any:
        drawn.update(labels=list(runs), counts=[len(one) for one in runs.values()], panels=None)
        drawn["panels"] = plot_evolution(runs, *arguments, **options)
        return drawn["panels"]

    monkeypatch.setattr("nnsim.plotting.plot_evolution", keep)
    training(tmp_path / "a.zarr", width=10, hidden=[6, 6], seed=0)
    training(tmp_path / "b.zarr", 0.2, width=30, hidden=[6, 6], seed=1)
    training(tmp_path / "c.zarr", 0.4, width=30, hidden=[6, 6], seed=2)
    sweep(tmp_path / "s")
    for arguments, labels in (
        (["a.zarr"], [""]),
        (["a.zarr", "b.zarr"], ["width=10", "width=30"]),
        (["a.zarr", "b.zarr", "c.zarr"], ["width=10, seed=0", "width=30, seed=1", "width=30, seed=2"]),
        (["s"], ["width=10", "width=30"]),
        (["s", "a.zarr"], ["width=10", "width=30", "a"]),
        (["a.zarr", "b.zarr", "--label", "few", "--label", "many"], ["few", "many"]),
    ):
        done = nnsim("plot", "evolution", *arguments, "--quantity", "loss", "-o", "p.png")
        assert done.status == 0, done.err
        assert drawn["labels"] == labels
        assert len(drawn["panels"]) == 1
    done = nnsim("plot", "evolution", "s", "--where", "width=30", "--window", "3", "--log-x", "--wide", "--linear")
    assert done.out == "picture: s_evolution.png\n", done.err
    assert (tmp_path / "s_evolution.png").stat().st_size > 2000
    assert drawn["counts"] == [2]
    assert [panel.get_yscale() for panel in drawn["panels"]] == ["linear"] * 3


@pytest.mark.slow
def test_wrong_commands(tmp_path: Path) -> None:
    run, other = (str(training(tmp_path / f"{name}.zarr").path) for name in "ab")
    for arguments, message in (
        ([run, run], "the same trajectory twice"),
        ([run, "--label", "x", "--label", "y"], "--label is given 2 times for 1 curves (a)"),
        ([run, other, "--label", "x", "--label", "x"], "two curves have the same name"),
        ([run, "--quantity", "loss", "--quantity", "reward"], "none of reward was recorded; there is loss_test"),
        ([run, "--where", "width=3"], "none is given; leave it out"),
        ([run, "--where", "width"], "write --where name=value"),
        ([run, "--window", "4"], "window = 4 must be an odd number"),
        ([run, "--log", "loss", "--linear"], "exclude each other"),
        ([str(tmp_path / "none.zarr")], "none.zarr"),
    ):
        assert message in error_of("plot", "evolution", *arguments, "-o", str(tmp_path / "p.png"))


def test_the_command_line_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys, nnsim.cli; sys.exit(bool({'torch', 'matplotlib', 'numpy'} & set(sys.modules)))"
    assert python(code, tmp_path).status == 0
    code = "import sys, nnsim.analysis; sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    assert python(code, tmp_path).status == 0
