"""Diagnostics of Wang-Landau runs, on snapshots made by hand with known answers, and their pictures."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import error_of, nnsim
from matplotlib.figure import Figure

from nnsim import Box, Grid, InputError, Simulation, Trajectory, cv
from nnsim.analysis import (
    Diagnosis,
    EntropyChange,
    EntropyLandscape,
    HistogramFlatness,
    convergence_records,
    diagnose,
    entropy_change,
    entropy_difference,
    flatness,
    histogram_flatness,
    round_trips,
    round_trips_by,
)
from nnsim.bias import WangLandau
from nnsim.integrators import MixedStep, MonteCarlo
from nnsim.plotting import COLORS, plot_convergence
from nnsim.schedules import InverseTime
from nnsim.systems import AnalyticSystem
from nnsim.trajectory.writer import TrajectoryWriter

KT = 2.0
# S along s (4 bins of width 1 from 0) in four snapshots at steps 10, 20, 30 and 40. The constants 5 and 9 mean nothing.
ENTROPY = [[0.0, 0.0, 0.0, 0.0], [5.0, 6.0, 5.0, 6.0], [9.0, 12.0, 9.0, 12.0], [9.0, 12.0, 9.0, 12.0]]
VISITS = [[10, 10, 10, 0], [20, 20, 20, 4], [30, 26, 30, 14], [44, 36, 40, 40]]
NAMES = ("s", "t")


def make(
    path: Path,
    series: Any = None,
    entropy: Any = ENTROPY,
    visits: Any = VISITS,
    *,
    step: int | None = None,
    histograms: bool = True,
    header: dict[str, Any] | None = None,
) -> Trajectory:
    """A run with two walkers and snapshots every 10 steps; with two CVs if the tables have two axes."""
    tables, counts = np.asarray(entropy, dtype=float) * KT, np.asarray(visits)
    frames = 10 * len(tables)
    series = np.full((frames, 2), 0.5) if series is None else np.asarray(series, dtype=float)
    shape = tables.shape[1:]
    cvs = list(NAMES[: len(shape)])
    grid = {"lower": [0.0] * len(shape), "upper": [float(n) for n in shape], "bins": list(shape)}
    grid |= {"periodic": [False] * len(shape), "kind": "bins"}
    attrs = {"type": "WangLandau", "cvs": cvs, "grid": grid, "kT": KT, "increment": 1e-4, "outside": 0.0}
    writer = TrajectoryWriter.create(path, {"system": {"flat": True}, "parameters": {}} | (header or {}))
    writer.set_attrs("nnsim/bias/wl", attrs | {"step": frames if step is None else step})
    writer.put("nnsim/bias/wl/potential", tables[-1])
    writer.put("nnsim/bias/wl/visits", counts[-1])
    for now in range(1, frames + 1):
        for name in cvs:
            writer.append(f"observables/{name}", now, float(now), series[now - 1])
        writer.append("observables/wl_increment", now, float(now), np.float64(1 / now))
        if now % 10 == 0:
            where = "nnsim/bias/wl/snapshots"
            writer.append(f"{where}/potential", now, float(now), tables[now // 10 - 1])
            if histograms:
                writer.append(f"{where}/visits", now, float(now), counts[now // 10 - 1])
    writer.close()
    return Trajectory(path)


def trips(frames: int = 40) -> np.ndarray:
    """Two walkers between 0.5 and 3.5: one turns every 4 frames, the other reaches the far end once, in frame 25."""
    first = np.where(np.arange(frames) // 4 % 2, 3.5, 0.5)
    second = np.where(np.arange(frames) == 24, 3.5, 0.5)
    return np.column_stack([first, second])


def line(values: Any, visited: Any = None) -> EntropyLandscape:
    shape = np.shape(values)
    grid = {"lower": [0.0], "upper": [float(shape[0])], "bins": list(shape), "periodic": [False], "kind": "bins"}
    return EntropyLandscape.from_coefficients(
        values, np.ones(shape) if visited is None else visited, 1.0, grid, ["s"], True, discrete=[True]
    )


# ---------------------------------------------------------------------- flatness


def test_flatness_is_the_least_visited_over_the_mean() -> None:
    assert flatness([5, 5, 5]) == 1
    assert flatness([0, 2, 4]) == pytest.approx(2 / 3)  # a bin never visited does not count
    assert flatness([0, 2, 4], known=[True, True, True]) == 0
    assert flatness([[1, 3], [0, 8]]) == pytest.approx(1 / 4)
    assert math.isnan(flatness([0, 0]))
    assert math.isnan(flatness([0, 3], known=[True, False]))


def test_flatness_of_a_run_and_of_its_later_part(tmp_path: Path) -> None:
    found = histogram_flatness(make(tmp_path / "line.zarr"))
    # since the snapshot at step 20: 24, 16, 20, 36 visits
    assert found == HistogramFlatness(36 / 40, 16 / 24, 36 / 40, 16 / 24)
    # along t the visits are 12, 8 after and 6, 2 before
    plane = np.array([[[0, 0], [2, 0]], [[2, 2], [4, 0]], [[4, 4], [4, 2]], [[6, 6], [6, 2]]])
    run = make(tmp_path / "plane.zarr", entropy=np.zeros((4, 2, 2)), visits=plane)
    found = histogram_flatness(run, cv="t")
    assert found == HistogramFlatness(8 / 10, 6 / 6, 2 / 5, 2 / 3)
    assert histogram_flatness(run) == HistogramFlatness(8 / 10, 4 / 6, 2 / 5, 2 / 3)
    with pytest.raises(InputError, match="'u' is not a CV of the bias 'wl'; choose from s, t"):
        histogram_flatness(run, cv="u")


def test_flatness_late_is_unknown_without_a_snapshot_near_half(tmp_path: Path) -> None:
    late = histogram_flatness(make(tmp_path / "a.zarr", step=1000)).late  # the snapshots end at 4 % of the run
    assert math.isnan(late)
    run = make(tmp_path / "b.zarr", histograms=False)
    assert math.isnan(histogram_flatness(run).late)
    assert histogram_flatness(run).whole == 36 / 40
    assert math.isfinite(diagnose(run).late_change.rms)


# ---------------------------------------------------------------------- changes of S


def test_change_of_entropy_has_no_constant() -> None:
    before = line([0.0, 0.0, 0.0, 0.0])
    assert entropy_change(before, line([7.0, 7.0, 7.0, 7.0])) == (0, 0)
    assert entropy_change(before, line([5.0, 6.0, 5.0, 6.0])) == pytest.approx((0.5, 0.5))
    # 3 bins in common: changes 0, 0, 3 minus their mean, 1
    grown = entropy_change(line([1.0, 1.0, 1.0, 0.0], [1, 1, 1, 0]), line([1.0, 1.0, 4.0, 50.0]))
    assert grown == pytest.approx((math.sqrt((1 + 1 + 4) / 3), 2))
    assert all(map(math.isnan, entropy_change(before, line([1.0, 0.0, 0.0, 0.0], [1, 0, 0, 0]))))
    with pytest.raises(InputError, match="different grids"):
        entropy_change(before, line([0.0] * 5))


def test_difference_of_entropy_and_its_standard_error() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 4))
    runs = [line(row + 100 * rng.normal()) for row in values]
    single = entropy_difference(runs[0], 0.5, 3.5)
    assert single.value == pytest.approx(values[0, 0] - values[0, 3])
    assert math.isnan(single.error)
    differences = values[:, 0] - values[:, 3]
    found = entropy_difference(EntropyLandscape.average(runs), 0.5, 3.5)
    assert found.value == pytest.approx(differences.mean())
    assert found.error == pytest.approx(differences.std(ddof=1) / math.sqrt(5))
    assert entropy_difference(EntropyLandscape.average(runs), 3.5, 0.5, "s").value == pytest.approx(-found.value)


def test_difference_of_entropy_where_it_is_not_known() -> None:
    runs = [line([1.0, 2.0, 3.0, 4.0], visited) for visited in ([1, 1, 1, 1], [1, 1, 1, 0])]
    assert entropy_difference(runs[0], 0.5, 3.5).value == -3
    assert math.isnan(entropy_difference(EntropyLandscape.average(runs), 0.5, 3.5).value)
    with pytest.raises(InputError, match=r"s = 0\.2 and 0\.7 lie in one bin of the grid, of width 1; move them apart"):
        entropy_difference(runs[0], 0.2, 0.7)
    with pytest.raises(InputError, match="s = 9 is outside the grid"):
        entropy_difference(runs[0], 0.2, 9)


# ---------------------------------------------------------------------- along a run


def test_round_trips_by_given_steps() -> None:
    series = trips()
    until = np.array([0, 8, 9, 16, 17, 24, 25, 26, 40])
    steps = np.arange(1, 41)
    expected = [round_trips(series[:step], 0.5, 3.5).sum() if step else 0 for step in until]
    np.testing.assert_array_equal(round_trips_by(series, steps, until, 0.5, 3.5), expected)
    # the first walker is back in frames 9, 17, 25, 33; the second in 26
    np.testing.assert_array_equal(expected, [0, 0, 1, 1, 2, 2, 3, 4, 5])
    np.testing.assert_array_equal(round_trips_by(series[:, 0], steps, [40], 0.5, 3.5), [4])
    np.testing.assert_array_equal(round_trips_by(np.zeros((0, 2)), [], [3], 0.5, 3.5), [0])


def test_record_of_a_run_made_by_hand(tmp_path: Path) -> None:
    (record,) = convergence_records([make(tmp_path / "run.zarr", trips())], between=(3.5, 0.5))
    assert (record.name, record.cv, record.low, record.high, record.walkers) == ("run.zarr", "s", 0.5, 3.5, 2)
    np.testing.assert_array_equal(record.step, [10, 20, 30, 40])
    np.testing.assert_array_equal(record.moves, [20, 40, 60, 80])
    np.testing.assert_allclose(record.increment, [1 / 10, 1 / 20, 1 / 30, 1 / 40])
    np.testing.assert_array_equal(record.round_trips, [1, 2, 4, 5])
    # step 20: the fourth bin is new; changes 0, 1, 0. step 30: 0, 2, 0, 2. step 40: none
    np.testing.assert_allclose(record.change, [np.nan, math.sqrt(2) / 3, 1, 0], atol=1e-12)
    np.testing.assert_allclose(record.largest_change, [np.nan, 2 / 3, 1, 0], atol=1e-12)
    # since the start; since step 10: 10, 10, 10, 4; since 10 (nearest to 15, the first of two): 20, 16, 20, 14;
    # since 20: 24, 16, 20, 36
    np.testing.assert_allclose(record.flatness, [1, 4 / 8.5, 14 / 17.5, 16 / 24])
    np.testing.assert_allclose(record.difference, [np.nan, -1, -3, -3])
    np.testing.assert_allclose(record.entropy.entropy, [-3, 0, -3, 0])


def test_the_last_checkpoint_is_a_report_if_it_is_much_later(tmp_path: Path) -> None:
    def steps(step: int) -> list[int]:
        run = make(tmp_path / f"{step}.zarr", trips(), step=step)
        return convergence_records([run], between=(0.5, 3.5))[0].step.tolist()

    assert steps(44) == [10, 20, 30, 40]
    assert steps(45) == [10, 20, 30, 40, 45]


def test_independent_runs_have_the_same_ends(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(-1, 5, size=(2, 40, 2))  # some outside the grid, [0, 4]
    runs = [make(tmp_path / f"{n}.zarr", one) for n, one in enumerate(values)]
    inside = values[(values >= 0) & (values <= 4)]
    for record in convergence_records(runs):
        np.testing.assert_allclose((record.low, record.high), np.quantile(inside, (0.1, 0.9)))


def test_records_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no trajectory; give at least one"):
        convergence_records([])
    still = make(tmp_path / "still.zarr")
    with pytest.raises(InputError, match="s has not moved on the grid"):
        convergence_records([still])
    with pytest.raises(InputError, match="has no Wang-Landau bias 'other'; it has: wl"):
        convergence_records([still], bias="other")


# ---------------------------------------------------------------------- the verdict


def diagnosis(late: float = 1.0, change: float = 0.0) -> Diagnosis:
    parts = (HistogramFlatness(1.0, late, 1.0, late), EntropyChange(change, change))
    return Diagnosis("s", -1.0, 1.0, 100, 8, 1e-4, 0.1, 0.0, 1.0, 1.0, *parts)


def test_verdict_of_flatness_and_change() -> None:
    assert diagnosis().problems() == []
    assert diagnosis(late=math.nan, change=math.nan).problems() == []  # what is not known is not judged
    assert "least visited bin has 0.2 of the mean (converged: at least 0.25)" in diagnosis(late=0.2).problems()[0]
    assert "S still changed by 3 nats (converged: below 1)" in diagnosis(change=3.0).problems()[0]
    assert "flatness 0.2, late change of S 3 nats" in str(diagnosis(0.2, 3.0))
    assert "flatness" not in str(diagnosis(math.nan, math.nan))


def test_diagnosis_of_a_run_made_by_hand(tmp_path: Path) -> None:
    run = make(tmp_path / "run.zarr", trips(), step=60)
    state = diagnose(run, between=(0.5, 3.5))  # half of the run is step 30, since when S has not changed
    assert state.flatness == histogram_flatness(run)
    assert state.flatness.late == 10 / 15  # 14, 10, 10, 26
    assert state.late_change == pytest.approx((0, 0))
    out = nnsim("analyze", "equilibrium", run.path, "--of", "s", "--width", "1", "--between", "0.5", "3.5").out
    assert "flatness:            0.9 of the whole run, 0.67 in the later part (least visited bin / mean)" in out
    assert "change of S:         0 nats rms in the later part, at most 0 nats" in out
    earlier = diagnose(make(tmp_path / "shorter.zarr", trips()), between=(0.5, 3.5))  # since step 20: 4, 6, 4, 6
    assert earlier.late_change == pytest.approx((1, 1))


# ---------------------------------------------------------------------- pictures


def test_picture_of_one_run(tmp_path: Path) -> None:
    (record,) = convergence_records([make(tmp_path / "run.zarr", trips())], between=(0.5, 3.5))
    panels: Any = plot_convergence(record, note="short")
    drawn = [panel.lines[0] for panel in panels]
    rows = (record.increment, record.flatness, record.change, record.round_trips, record.difference)
    for curve, row in zip(drawn, rows, strict=True):
        np.testing.assert_array_equal(curve.get_xdata(), [20, 40, 60, 80])
        np.testing.assert_array_equal(curve.get_ydata(), row)
    assert [panel.get_yscale() for panel in panels] == ["log", "linear", "log", "linear", "linear"]
    assert panels[0].get_title(loc="left") == "short"
    assert panels[0].get_legend() is None
    assert panels[-1].get_xlabel() == "steps of all walkers"
    title = panels[-1].get_title(loc="left")
    assert title == "$\\Delta S = S(0.5) - S(3.5)$ along s:\n−3.0 nats at the end (one run: no error)"


def test_picture_of_several_runs(tmp_path: Path) -> None:
    """Differences -3 and -4: mean -3.5 with the standard error 0.5."""
    other = [*ENTROPY[:3], [9.0, 12.0, 9.0, 13.0]]
    runs = [make(tmp_path / "a.zarr", trips()), make(tmp_path / "b.zarr", trips(), entropy=other)]
    records = convergence_records(runs, between=(0.5, 3.5))
    panels: Any = plot_convergence(records)
    assert [curve.get_color() for curve in panels[0].lines[:2]] == list(COLORS[:2])
    assert [text.get_text() for text in panels[0].get_legend().get_texts()] == ["a", "b"]
    assert panels[-1].get_title(loc="left").endswith("−3.50 ± 0.50 nats, mean of 2 runs")
    (band,) = panels[-1].patches
    np.testing.assert_allclose((band.get_y(), band.get_height()), (-4, 1))
    given = list(Figure().subplots(5, 1))
    assert plot_convergence(records * 7, given) == given
    assert given[0].get_legend() is None  # 14 names help nobody
    assert given[0].lines[6].get_linestyle() == "--"


def test_picture_before_both_ends_were_visited(tmp_path: Path) -> None:
    entropy, visits = ENTROPY[:1] * 2, VISITS[:1] * 2
    run = make(tmp_path / "run.zarr", trips(20), entropy=entropy, visits=visits)
    panels = plot_convergence(convergence_records([run], between=(0.5, 3.5)))
    assert panels[-1].get_title(loc="left").endswith("not known: not yet visited")
    assert panels[2].get_yscale() == "linear"  # S has not changed: no logarithm


def test_picture_refuses_what_does_not_fit(tmp_path: Path) -> None:
    runs = [make(tmp_path / "run.zarr", trips())]
    one, other = (convergence_records(runs, between=(0.5, high))[0] for high in (3.5, 2.5))
    with pytest.raises(InputError, match="no record; give at least one"):
        plot_convergence([])
    with pytest.raises(InputError, match="between different values of the CV"):
        plot_convergence([one, other])
    with pytest.raises(InputError, match="2 axes for 5 panels"):
        plot_convergence(one, list(Figure().subplots(2, 1)))


# ---------------------------------------------------------------------- the command line


def harmonic(path: Path, steps: int = 3000, seed: int = 0) -> Path:
    """Wang-Landau Monte Carlo along the one coordinate of a box, where S is constant."""
    simulation = Simulation(
        AnalyticSystem(1, box=Box(1.0)),
        MonteCarlo(MixedStep(0.1, 1.0)),
        bias=WangLandau(cv.Parameter(0), Grid(-1, 1, 10, kind="bins"), InverseTime(0.1, 10)),
        walkers=4,
        seed=seed,
        every=10,
        snapshot_every=500,
    )
    simulation.run(steps, output=path, progress=False)
    return path


@pytest.mark.slow
def test_convergence_of_a_real_run(tmp_path: Path) -> None:
    """S is constant and there are 12000 deposits: it is known to far better than a nat."""
    paths = [harmonic(tmp_path / f"{seed}.zarr", seed=seed) for seed in (1, 2)]
    name = Trajectory(paths[0]).bias("wang_landau").attrs["cvs"][0]
    state = diagnose(Trajectory(paths[0]), between=(-0.9, 0.9))
    assert state.problems() == []
    records = convergence_records([Trajectory(path) for path in paths], between=(-0.9, 0.9))
    for record in records:
        assert record.step.tolist() == [500, 1000, 1500, 2000, 2500, 3000]
        assert record.flatness[-1] > 0.5
        assert record.change[-1] < 0.5
        assert abs(record.difference[-1]) < 1
        assert record.round_trips[-1] == state.round_trips or record is not records[0]
        assert (np.diff(record.round_trips) > 0).all()
    picture = tmp_path / "convergence.png"
    result = nnsim("plot", "convergence", *paths, "--between", "-0.9", "0.9", "--cv", name, "-o", picture)
    assert result.status == 0, result.err
    assert result.out.strip() == f"picture: {picture}"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000


@pytest.mark.slow
def test_command_line_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("run.zarr"), trips())
    assert nnsim("plot", "convergence", "run.zarr").status == 0
    assert Path("run_convergence.png").exists()
    command = ("plot", "convergence", "run.zarr")
    assert "'u' is not a CV of the bias 'wl'; choose from s (--cv)" in error_of(*command, "--cv", "u")
    assert "no Wang-Landau bias 'other'; it has: wl" in error_of(*command, "--bias", "other")
    assert "must be two different finite numbers" in error_of(*command, "--between", "2", "2")
    assert "lie in one bin of the grid" in error_of(*command, "--between", "0.1", "0.2")
    assert "s = 9 is outside the grid, [0, 4]" in error_of(*command, "--between", "0.1", "9")
    assert "are the same trajectory twice" in error_of(*command, "run.zarr")
    make(Path("short.zarr"), trips(10), entropy=ENTROPY[:1], visits=VISITS[:1])
    assert "short.zarr has 1 snapshot(s) of the bias, and 2 are needed" in error_of("plot", "convergence", "short.zarr")
    TrajectoryWriter.create(Path("none.zarr"), {"parameters": {}}).close()
    assert "has no Wang-Landau bias" in error_of("plot", "convergence", "none.zarr")
    make(Path("wide.zarr"), trips(), entropy=np.zeros((4, 5)), visits=np.ones((4, 5)))
    assert "the runs have different grids" in error_of(*command, "wide.zarr", "--between", "0.5", "3.5")
