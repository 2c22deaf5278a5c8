"""Training curves and the entropy advantage, on series made by hand, and from the command line."""

import csv
from pathlib import Path

import numpy as np
import pytest
from command_line import error_of, nnsim, python
from conftest import statistics_scale

from nnsim import Grid, InputError, Simulation, Trajectory, cv, plotting
from nnsim.analysis import (
    Curve,
    EquilibriumTable,
    TrainingCurve,
    entropy_advantage,
    final_advantage,
    first_passage,
    training_curve,
)
from nnsim.bias import WangLandau
from nnsim.cli.plot import load_landscape, training_line
from nnsim.integrators import Adam, GradientDescent, Langevin
from nnsim.running.script import Script
from nnsim.schedules import InverseTime
from nnsim.systems import spiral_classification
from nnsim.trajectory.writer import TrajectoryWriter

NAN = float("nan")
X = np.array([[0.0, 0.5, -0.5], [-1.0, 0.0, -2.0], [0.5, -1.0, -1.0], [-3.0, -1.0, -2.5]])
Y = np.array([[0.4, 0.5, 0.5], [0.6, 0.5, 0.8], [0.0, 0.7, 0.1], [0.8, 0.9, 0.9]])


def write(path: Path, x: np.ndarray, y: np.ndarray, every: int = 1) -> Trajectory:
    """A trajectory with these two observables, x at every step and y at every `every`-th."""
    writer = TrajectoryWriter.create(path, {"integrator": {"type": "GradientDescent"}, "parameters": {}})
    for frame, row in enumerate(x):
        writer.append("observables/ln_loss_train", frame + 1, frame + 1.0, row)
        if (frame + 1) % every == 0:
            writer.append("observables/accuracy_test", frame + 1, frame + 1.0, y[frame])
    writer.flush()
    writer.close()
    return Trajectory(path)


def test_first_passage_is_on_the_straight_line_to_the_first_frame_at_or_below():
    found = first_passage(X, Y, [0.0, -0.5, -1.0, -2.0, -2.75, -4.0])
    expected = [
        [0.4, 0.5, NAN],  # in the first frame; between 0.5 and 0 the last frame counts; not seen above 0
        [0.5, 0.6, 0.5],
        [0.6, 0.7, 0.5 + 0.3 / 3],  # not the later crossing
        [0.0 + 0.8 * 2.5 / 3.5, NAN, 0.8],
        [0.8 * 3.25 / 3.5, NAN, NAN],
        [NAN, NAN, NAN],
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)


def test_frames_that_are_not_finite_are_passed_over():
    x = np.array([[0.0], [NAN], [-1.0], [np.inf]])
    y = np.array([[0.2], [9.0], [0.4], [9.0]])
    np.testing.assert_allclose(first_passage(x, y, [-0.5, -1.0, -2.0])[:, 0], [0.3, 0.4, NAN])
    assert np.isnan(first_passage(np.full((3, 1), NAN), np.zeros((3, 1)), [0.0])).all()


def test_mean_error_and_number_of_runs(tmp_path):
    curve = training_curve(write(tmp_path / "a.zarr", X, Y), levels=[-2.0, -0.5, -1.0, -9.0])
    np.testing.assert_array_equal(curve.levels, [-0.5, -1.0, -2.0, -9.0])  # from the highest down
    np.testing.assert_array_equal(curve.runs, [3, 3, 2, 0])
    assert curve.total == 3
    values = [[0.5, 0.6, 0.5], [0.6, 0.7, 0.6], [2 / 3.5, 0.8]]
    np.testing.assert_allclose(curve.mean, [*map(np.mean, values), NAN])
    errors = [np.std(row, ddof=1) / np.sqrt(len(row)) for row in values]
    np.testing.assert_allclose(curve.error, [*errors, NAN])
    rows = curve.rows()
    assert [row["runs"] for row in rows] == [3, 3, 2]
    assert list(rows[0]) == ["ln_loss_train", "mean_accuracy_test", "standard_error", "runs", "of_runs"]
    drawn = curve.curve()
    assert (drawn.x_name, drawn.y_name) == ("ln_loss_train", "accuracy_test")
    np.testing.assert_array_equal(drawn.x, curve.levels[::-1])
    np.testing.assert_array_equal(drawn.y, curve.mean[::-1])


def test_several_trajectories_are_one_ensemble(tmp_path):
    parts = [write(tmp_path / "a.zarr", X[:, :1], Y[:, :1]), write(tmp_path / "b.zarr", X[:, 1:], Y[:, 1:])]
    together, whole = training_curve(parts), training_curve(write(tmp_path / "c.zarr", X, Y))
    for name in ("levels", "mean", "error", "runs"):
        np.testing.assert_array_equal(getattr(together, name), getattr(whole, name))
    # from the highest start, 0.5, to the lowest value, -3
    np.testing.assert_array_equal(whole.levels, np.arange(2, -13, -1) / 4)
    assert np.isnan(training_curve(parts, levels=[-2.75]).error[0])  # one run has no spread


def test_only_frames_that_both_have_count(tmp_path):
    curve = training_curve(write(tmp_path / "a.zarr", X, Y, every=2), levels=[-2.0])
    # frames 2 and 4: walker 0 goes from -1 to -3, walker 1 stays above, walker 2 starts at -2
    assert curve.mean[0] == pytest.approx((0.7 + 0.8) / 2)
    assert curve.runs[0] == 2


def test_what_is_refused(tmp_path):
    trajectory = write(tmp_path / "a.zarr", X, Y)
    with pytest.raises(InputError, match="loss_test was not recorded; there is accuracy_test, ln_loss_train"):
        training_curve(trajectory, of="loss_test")
    for levels in ([], [0.0, NAN]):
        with pytest.raises(InputError, match="levels must be one or more finite numbers"):
            training_curve(trajectory, levels=levels)
    with pytest.raises(InputError, match="spacing"):
        training_curve(trajectory, spacing=0.0)
    with pytest.raises(InputError, match="crosses no multiple of 8"):
        training_curve(write(tmp_path / "b.zarr", X - 1, Y), spacing=8.0)
    with pytest.raises(InputError, match="no trajectory"):
        training_curve([])


def trained() -> TrainingCurve:
    levels, mean, error = np.array([-1.0, -2.0, -3.0]), np.array([0.6, 0.7, 0.75]), np.array([0.03, 0.04, NAN])
    return TrainingCurve("ln_loss_train", "accuracy_test", levels, mean, error, np.array([5, 4, 1]), 5)


def test_advantage_with_its_error():
    curve = Curve(np.array([-4.0, -3.0, -2.0, -1.0, 0.0]), np.array([0.9, 0.9, NAN, 0.8, 0.5]), np.full(5, 0.04))
    first, last = entropy_advantage(curve, trained())
    assert first == pytest.approx(
        {
            "ln_loss_train": -1.0,
            "equilibrium_accuracy_test": 0.8,
            "equilibrium_error": 0.04,
            "training_accuracy_test": 0.6,
            "training_error": 0.03,
            "advantage": 0.2,
            "standard_error": 0.05,
            "runs": 5,
            "of_runs": 5,
        }
    )
    assert (last["ln_loss_train"], last["runs"]) == (-3.0, 1)
    assert last["advantage"] == pytest.approx(0.15)
    assert np.isnan(last["standard_error"])
    without = entropy_advantage(Curve(curve.x, curve.y), trained())
    assert np.isnan(without[0]["standard_error"])


def test_advantage_of_tables():
    def table(mean: float) -> EquilibriumTable:
        edges, means = np.array([-2.5, -1.5, -0.5]), np.array([mean, mean])
        empty = Curve(edges, edges)
        return EquilibriumTable(
            "ln_loss_train", "accuracy_test", edges, means, means / 10, np.array([1, 1]), fine=empty
        )

    one = entropy_advantage(table(0.8), trained())
    assert [row["advantage"] for row in one] == pytest.approx([0.2, 0.1])
    assert one[0]["equilibrium_error"] == pytest.approx(0.08)
    two = entropy_advantage([table(0.8), table(0.9)], trained())
    assert two[0]["advantage"] == pytest.approx(0.25)
    assert two[0]["equilibrium_error"] == pytest.approx(0.05)


def test_advantage_refuses_what_does_not_fit():
    x, y = np.array([-1.5, -2.5]), np.array([0.8, 0.9])
    with pytest.raises(InputError, match="no level in common"):
        entropy_advantage(Curve(x, y), trained())
    with pytest.raises(InputError, match="equilibrium has loss_test at given ln_loss_train, but training"):
        entropy_advantage(Curve(x - 0.5, y, None, "ln_loss_train", "loss_test"), trained())


def test_advantage_at_the_end_of_training(tmp_path):
    trajectory = write(tmp_path / "a.zarr", X, Y)  # ends at ln L = -3, -1, -2.5 with accuracies 0.8, 0.9, 0.9
    names = ("ln_loss_train", "accuracy_test")
    lines = [Curve(np.array([-4.0, 0.0]), np.array([1.0, 0.6]) + shift, None, *names) for shift in (0.0, 0.02)]
    found = final_advantage(lines, trajectory, last=0.1)
    expected = np.array([0.9, 0.7, 0.85]) + 0.01
    assert (found.given, found.of, found.runs, found.total) == (*names, 3, 3)
    assert found.level == pytest.approx(np.mean([-3.0, -1.0, -2.5]))
    assert found.equilibrium == pytest.approx(expected.mean())
    assert found.training == pytest.approx(np.mean([0.8, 0.9, 0.9]))
    assert found.advantage == pytest.approx(np.mean(expected - [0.8, 0.9, 0.9]))
    assert found.equilibrium_error == pytest.approx(0.01)  # half the difference of two runs
    assert found.training_error == pytest.approx(np.std(expected - [0.8, 0.9, 0.9], ddof=1) / np.sqrt(3))
    assert found.standard_error == pytest.approx(np.hypot(found.equilibrium_error, found.training_error))

    early = final_advantage(lines[:1], trajectory, at=2, last=0.5)  # the frame of step 2 alone
    assert early.training == pytest.approx(np.mean([0.6, 0.5, 0.8]))
    assert np.isnan(early.equilibrium_error)
    both = final_advantage(lines, trajectory, at=2, last=1.0)  # steps 1 and 2
    assert both.training == pytest.approx(np.mean([0.5, 0.65]))  # the second run is above the curve's end
    assert both.runs == 2

    narrow = Curve(np.array([-2.8, -0.5]), np.array([0.7, 0.7]), None, *names)  # the first run ends below it
    assert final_advantage([narrow], trajectory, last=0.1).runs == 2
    stopped = final_advantage(lines[:1], trajectory, last=0.1, lowest=-2.0)  # where runs 1 and 3 pass -2
    assert stopped.level == pytest.approx(np.mean([-2.0, -1.0, -2.0]))
    assert stopped.training == pytest.approx(np.mean([0.8 * 2.5 / 3.5, 0.9, 0.8]))
    with pytest.raises(InputError, match="no training run ends where the equilibrium is known"):
        final_advantage([Curve(np.array([1.0, 2.0]), np.array([0.7, 0.7]), None, *names)], trajectory)
    with pytest.raises(InputError, match="curves of 0 kinds"):
        final_advantage([], trajectory)
    with pytest.raises(InputError, match="last"):
        final_advantage(lines, trajectory, last=0.0)


def test_no_torch(tmp_path):
    code = "import sys; from nnsim.analysis import training_curve, entropy_advantage; print('torch' in sys.modules)"
    assert python(code, tmp_path).out == "False\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A short Wang-Landau run and two short trainings of the same spiral."""
    path = tmp_path_factory.mktemp("advantage")
    loss, smooth, exact = cv.LogLoss("train"), cv.SmoothedAccuracy("test", scale=10.0), cv.Accuracy("test")
    bias = WangLandau(
        [loss, smooth], Grid(lower=(-4, -1), upper=(2, 11), spacing=0.1), InverseTime(0.3, 1e5), kernel=0.2
    )
    sampled = Simulation(
        spiral_classification(), Langevin(4e-3, 25.0), bias=bias, observe=[exact], walkers=16, every=10
    )
    sampled.run(1500, output=path / "wl.zarr", progress=False)
    for name, integrator in (("sgd", GradientDescent(0.2)), ("adam", Adam(0.01))):
        system = spiral_classification(initial="reinitialise")
        runs = Simulation(system, integrator, observe=[loss, exact], walkers=6, every=10)
        runs.run(1000, output=path / f"{name}.zarr", progress=False)
    return path


@pytest.mark.slow
def test_line_over_a_landscape(folder):
    landscape, runs = load_landscape([Trajectory(folder / "wl.zarr")]), [Trajectory(folder / "sgd.zarr")]
    curve, label = training_line(runs, landscape, None)
    assert label.startswith("SGD test accuracy,\nmean of ")  # the axis is that of the smoothed accuracy
    assert label.endswith("6 runs")
    ax = plotting.plot_landscape(landscape, training=curve, training_label=label)
    line = next(line for line in ax.lines if line.get_label() == label)
    assert line.get_color() == plotting.COLORS[3]
    known = np.isfinite(curve.y)
    np.testing.assert_array_equal(line.get_xydata(), np.column_stack([curve.x, curve.y])[known])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [label]
    with pytest.raises(InputError, match="the training curve needs a landscape of two axes"):
        plotting.plot_landscape(landscape.marginal(0), training=curve)


def test_plot_from_the_command_line(folder):
    arguments = ["plot", "landscape", folder / "wl.zarr", "--training", folder / "sgd.zarr"]
    result = nnsim(
        *arguments, "--training", folder / "adam.zarr", "--observable", "accuracy_test", "-o", folder / "S.svg"
    )
    assert result.status == 0, result.err
    picture = (folder / "S.svg").read_text()
    assert "SGD and Adam" in picture
    assert "leave it out, or --marginal" in error_of(*arguments, "--marginal", "ln_loss_train")
    assert "has no observable" in error_of(*arguments, "--observable", "smoothed_accuracy_train")


def test_advantage_from_the_command_line(folder):
    table = folder / "advantage.csv"
    arguments = ["analyze", "advantage", folder / "wl.zarr", "--of", "accuracy_test", "--training", folder / "sgd.zarr"]
    result = nnsim(*arguments, "--width", 0.1, "--output", table)
    assert result.status == 0, result.err
    assert "of 6" in result.out
    assert "NOT CONVERGED: " in result.out  # as nnsim analyze equilibrium says of the same run
    with table.open() as file:
        rows = list(csv.DictReader(file))
    levels = [float(row["ln_loss_train"]) for row in rows]
    assert levels == sorted(levels, reverse=True)
    curve = training_curve(Trajectory(folder / "sgd.zarr"), levels=levels)
    for row, mean, error, runs in zip(rows, curve.mean, curve.error, curve.runs, strict=True):
        assert float(row["training_accuracy_test"]) == pytest.approx(mean)
        assert float(row["training_error"]) == pytest.approx(error, nan_ok=True)
        assert int(row["runs"]) == runs
        difference = float(row["equilibrium_accuracy_test"]) - mean
        assert float(row["advantage"]) == pytest.approx(difference)
    assert "training" in error_of(*arguments[:-2])
    assert nnsim(*arguments, "--width", 0.2, "--centred", "--output", table).status == 0
    with table.open() as file:
        levels = np.array([float(row["ln_loss_train"]) for row in csv.DictReader(file)])
    at_centre = np.isclose(levels / 0.2, np.round(levels / 0.2), atol=1e-9)
    assert at_centre[1:-1].all()  # of the outermost bins the walkers may have seen a part only


def test_advantage_of_the_most_probable_value(folder):
    table, smooth = folder / "probable.csv", cv.SmoothedAccuracy("test", scale=10.0)
    system, of = spiral_classification(initial="reinitialise"), smooth.name
    training = Simulation(system, GradientDescent(0.2), observe=[cv.LogLoss("train"), smooth], walkers=4, every=10)
    training.run(1000, output=folder / "smooth.zarr", progress=False)
    runs = [folder / "wl.zarr", "--training", folder / "smooth.zarr"]
    assert nnsim("analyze", "advantage", *runs, "--of", of, "--most-probable", "--output", table).status == 0
    expected = load_landscape([Trajectory(folder / "wl.zarr")]).most_probable(0, 1)
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        k = int(np.argmin(abs(expected.x - float(row["ln_loss_train"]))))
        assert float(row[f"equilibrium_{of}"]) == pytest.approx(expected.y[k])


@pytest.mark.slow
def test_runs_of_the_example_are_those_of_the_reference(tmp_path):
    """PAPERS.md: of 100 runs 83, 72, 67 reach ln L = -2, -3, -4, where the mean test accuracy is 0.80 below -4."""
    full = statistics_scale() == 1
    runs, steps = (100, 30_000) if full else (40, 15_000)
    script = Script(Path(__file__).parents[2] / "examples" / "spiral_training.py")
    script.simulation(script.settings([f"runs={runs}"])).run(steps, output=tmp_path / "sgd.zarr", progress=False)
    curve = training_curve(Trajectory(tmp_path / "sgd.zarr"), levels=[-2, -3, -4, -4.5])
    for reached, share in zip(curve.runs, (0.83, 0.72, 0.67), strict=False):
        spread = np.sqrt(share * (1 - share) * (1 / runs + 1 / 100))  # 100 runs in the reference
        assert abs(reached / runs - share) < 4 * spread
    assert abs(curve.mean[-1] - 0.80) < 4 * np.hypot(curve.error[-1], 0.008) + 0.005  # the reference has two digits
