"""The two-sided test: right verdicts of walkers whose equilibrium is known, and its refusals."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import error_of, nnsim
from conftest import statistics_scale

import nnsim as package
from nnsim import InputError, Simulation, Trajectory, analysis, cv, report
from nnsim.analysis.averages.two_sided import AGREE, ALIKE, DIFFER, DRIFTING
from nnsim.bias import Boltzmann, ReplicaExchange, Wall, WangLandau
from nnsim.grid import Grid
from nnsim.integrators import GradientDescent, Langevin
from nnsim.schedules import InverseTime, LinearRamp
from nnsim.systems import AnalyticSystem, DoubleWell, Harmonic, spiral_classification

Q = cv.Parameter(0)
R2 = cv.WeightNorm()


def run(path: Path, start: float | None, steps: int = 1000, seed: int = 0, system: Any = None, **settings: Any) -> Path:
    """Ten coordinates in a harmonic well, 8 walkers at kT = 1, started all at one place or at their own, 0."""
    shape = {"walkers": 8, "every": 10, "observe": [Q, R2], "record_start": True, "threads": 1, **settings}
    integrator = shape.pop("integrator", None) or Langevin(0.1, 1.0)
    one = Simulation(
        system or AnalyticSystem(10, Harmonic(), start=0.0),
        integrator,
        seed=seed,
        positions=None if start is None else np.full(10, start),
        positions_every=0,
        **shape,
    )
    one.run(steps, output=path, progress=False)
    return path


def test_walkers_in_one_well_meet(tmp_path: Path) -> None:
    """Means, errors and verdict; the mean of both sides is the known one within 4.5 standard errors."""
    a, b = run(tmp_path / "a.zarr", 5.0), run(tmp_path / "b.zarr", None, seed=1)
    found = analysis.two_sided(a, b)
    assert found.at_equilibrium, found.verdict
    assert found.verdict.startswith("at equilibrium as far as seen: the two sides met in all of ")
    assert found.walkers == (8, 8)
    by_name = {one.name: one for one in found.observables}
    assert set(by_name) == {"parameter_0", "weight_norm", "potential_energy", "kinetic_temperature"}
    for name, exact in (("parameter_0", 0.0), ("potential_energy", 5.0)):
        one = by_name[name]
        assert one.began[0] > 3
        assert one.apart
        assert one.verdict == AGREE
        mean, error = one.together
        assert abs(mean - exact) < 4.5 * error
        values = Trajectory(a)[name]
        late = values[:][values.step > 500]
        assert one.mean[0] == pytest.approx(late.mean(), rel=1e-9)
        assert one.error[0] == pytest.approx(late.mean(axis=0).std(ddof=1) / 8**0.5, rel=1e-9)
    assert by_name["kinetic_temperature"].verdict == ALIKE


def test_two_wells_are_no_equilibrium(tmp_path: Path) -> None:
    """A barrier of 20 kT: each side stays in its well, and nothing else tells."""
    system = AnalyticSystem(10, DoubleWell(20.0), start=1.0)
    a = run(tmp_path / "a.zarr", -1.0, system=system, integrator=Langevin(0.02, 1.0))
    b = run(tmp_path / "b.zarr", 1.0, system=system, integrator=Langevin(0.02, 1.0), seed=1)
    found = analysis.two_sided(a, b)
    assert not found.at_equilibrium
    assert found.verdict.startswith("not at equilibrium: the two sides differ in parameter_0")
    verdicts = {one.name: one.verdict for one in found.observables}
    assert verdicts["parameter_0"] == DIFFER
    assert verdicts["kinetic_temperature"] == ALIKE


def test_what_is_under_way_drifts(tmp_path: Path) -> None:
    """Overdamped relaxation that takes longer than the run, from two sides at the same distance of the mean."""
    slow = {"integrator": Langevin(0.02, 50.0), "steps": 1000}
    a, b = run(tmp_path / "a.zarr", 3.0, **slow), run(tmp_path / "b.zarr", 3.0, seed=1, **slow)
    found = analysis.two_sided(a, b, of="potential_energy")
    assert [one.verdict for one in found.observables] == [DRIFTING]
    assert "there is a drift in potential_energy" in found.verdict
    assert "began alike" in found.verdict


def test_an_agreement_of_what_began_alike_shows_nothing(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a.zarr", 0.0), run(tmp_path / "b.zarr", None, seed=1)
    found = analysis.two_sided(a, b)
    assert not found.at_equilibrium
    assert found.problems == ["the two sides began alike, so that their agreement shows nothing"]


@pytest.mark.slow
def test_how_often_it_doubts_what_is_right(tmp_path: Path) -> None:
    """In 5 % at most a difference, and a drift: of 80 independent pairs of sides of 8 walkers (reduced: 16).

    The differences over their errors have the variance of Student's t with about 14 degrees of freedom, 14 / 12, known
    to a factor of 1 + sqrt(3 / pairs) or so. Limits are at 4.5 standard errors.
    """
    pairs = round(80 * statistics_scale(0.2))
    found, settings = [], {"integrator": Langevin(0.2, 1.0), "every": 5, "steps": 300}
    for k in range(pairs):
        a = run(tmp_path / f"a{k}.zarr", 4.0, seed=2 * k, **settings)
        b = run(tmp_path / f"b{k}.zarr", None, seed=2 * k + 1, **settings)
        found.append(analysis.two_sided(a, b))
    for word in (DIFFER, DRIFTING):
        doubted = sum(any(one.verdict == word for one in each.observables) for each in found)
        assert doubted <= 0.05 * pairs + 4.5 * np.sqrt(0.05 * 0.95 * pairs)
    scores = [one.difference / one.standard_error for each in found for one in each.observables[:3]]
    assert abs(np.log(np.var(scores) * 12 / 14)) < 4.5 * np.sqrt(3 / len(scores))


def test_several_runs_are_one_side(tmp_path: Path) -> None:
    a = [run(tmp_path / f"a{k}.zarr", 5.0, seed=k) for k in range(2)]
    b = [run(tmp_path / f"b{k}.zarr", None, seed=10 + k) for k in range(2)]
    found = analysis.two_sided(a, b, of=["weight_norm"])
    assert found.walkers == (16, 16)
    assert found.observables[0].p_difference > 1e-3
    single = analysis.two_sided(a[0], b[0], of=["weight_norm"])
    assert found.observables[0].standard_error < single.observables[0].standard_error


def test_states_are_compared_each_with_its_own(tmp_path: Path) -> None:
    ladder = {"integrator": Langevin(0.1, 1.0, kT=[0.5] * 4 + [2.0] * 4)}
    a, b = run(tmp_path / "a.zarr", 5.0, **ladder), run(tmp_path / "b.zarr", None, seed=1, **ladder)
    found = analysis.two_sided(a, b, of="potential_energy")
    assert [one.name for one in found.observables] == ["potential_energy at kT = 0.5", "potential_energy at kT = 2"]
    assert found.walkers == (4, 4)
    for one, kT in zip(found.observables, (0.5, 2.0), strict=True):
        mean, error = one.together
        assert abs(mean - 5 * kT) < 5 * error
        assert one.verdict == AGREE
    slope = {"bias": Boltzmann(R2, beta=[0.5] * 4 + [1.0] * 4)}
    c, d = run(tmp_path / "c.zarr", 5.0, **slope), run(tmp_path / "d.zarr", None, seed=1, **slope)
    names = [one.name for one in analysis.two_sided(c, d, of="weight_norm").observables]
    assert names == [f"weight_norm at beta of boltzmann = {beta:g}" for beta in (0.5, 1.0)]


def test_a_tolerance_asks_for_an_error(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a.zarr", 5.0), run(tmp_path / "b.zarr", None, seed=1)
    assert analysis.two_sided(a, b, tolerance={"potential_energy": 10.0}).at_equilibrium
    found = analysis.two_sided(a, b, tolerance={"potential_energy": 1e-4})
    assert re.fullmatch(
        r"not at equilibrium: the difference in potential_energy is known to [\d.]+ only, asked for 0.0001",
        found.verdict,
    )


# ---------------------------------------------------------------------------------------------------------- refusals


def test_conditions_that_differ_or_change_are_refused(tmp_path: Path) -> None:
    a = run(tmp_path / "a.zarr", 5.0, steps=100)
    others = {
        r"different conditions \(.*dt: 0.1 -> 0.05": {"integrator": Langevin(0.05, 1.0)},
        r"different conditions \(at: \['kT = 1'\] -> \['kT = 2'\]": {"integrator": Langevin(0.1, 1.0, kT=2.0)},
        r"different conditions \(bias.wall": {"bias": Wall(R2, upper=50.0)},
        r"different conditions \(parameters": {"system": AnalyticSystem(10, Harmonic(2.0), start=0.0)},
        "kT of .* changes along the run": {"integrator": Langevin(0.1, 1.0, kT=LinearRamp(2.0, 1.0, steps=50))},
        "the bias 'wang_landau' of .* learns": {
            "bias": WangLandau(R2, Grid(0.0, 60.0, 60), InverseTime(0.1, 10.0), kernel=2.0)
        },
        r"bias.replica_exchange: \(none\)": {"bias": ReplicaExchange(R2, beta=np.linspace(0.1, 1.0, 8))},
        "is turned on along the run": {"bias": Boltzmann(R2, beta=[0.1] * 8, ramp=50)},
    }
    for number, (message, settings) in enumerate(others.items()):
        start = None if "system" in settings else 5.0
        b = run(tmp_path / f"{number}.zarr", start, steps=100, seed=1, **settings)
        if message.startswith(r"different conditions \(parameters"):
            message = "different conditions"
        with pytest.raises(InputError, match=message):
            analysis.two_sided(a, b)
    system = spiral_classification()
    for seed in range(2):
        Simulation(system, GradientDescent(0.1), walkers=2, seed=seed, every=10, observe=[cv.Loss("train")]).run(
            50, output=tmp_path / f"training{seed}.zarr", progress=False
        )
    with pytest.raises(InputError, match="has no temperature"):
        analysis.two_sided(tmp_path / "training0.zarr", tmp_path / "training1.zarr")


def test_what_else_is_refused(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a.zarr", 5.0, steps=100), run(tmp_path / "b.zarr", None, steps=100, seed=1)
    single = run(tmp_path / "single.zarr", None, steps=100, walkers=1)
    short = run(tmp_path / "short.zarr", None, steps=60, seed=2, every=20)
    wrong: list[tuple[Any, str]] = [
        (lambda: analysis.two_sided(a, a), "are the same run"),
        (lambda: analysis.two_sided([], b), "no trajectory"),
        (lambda: analysis.two_sided(a, 3), "must be a trajectory"),
        (lambda: analysis.two_sided(a, b, of="loss"), "of = 'loss' must be a number for each walker"),
        (lambda: analysis.two_sided(a, b, of=[]), r"of = \[\] must name"),
        (lambda: analysis.two_sided(a, b, since=1.0), "since = 1"),
        (lambda: analysis.two_sided(a, b, tolerance={"loss": 0.1}), "tolerance of 'loss'"),
        (lambda: analysis.two_sided(a, b, tolerance={"weight_norm": 0.0}), "tolerance of weight_norm = 0"),
        (lambda: analysis.two_sided(a, single), "1 walker of a state on a side"),
        (lambda: analysis.two_sided(a, short), "has 2 frames of .* after the part since = 0.5"),
    ]
    for make, message in wrong:
        with pytest.raises(InputError, match=message):
            make()


# ---------------------------------------------------------------------------------------- command line and report


def test_command_line_and_report(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a.zarr", 5.0), run(tmp_path / "b.zarr", None, seed=1)
    picture, table = tmp_path / "sides.png", tmp_path / "sides.csv"
    result = nnsim("analyze", "two-sided", a, b, "--picture", picture, "-o", table)
    assert result.status == 0, result.err
    assert "at equilibrium as far as seen" in result.out
    assert picture.stat().st_size > 10_000
    assert table.read_text().startswith("observable,mean_a,")
    several = nnsim("analyze", "two-sided", a, "--against", b, "--of", "weight_norm", "--tolerance", "weight_norm=1e-6")
    assert "not at equilibrium: the difference in weight_norm is known to" in several.out
    assert "which side they are of" in error_of("analyze", "two-sided", a)
    assert "write --tolerance name=error" in error_of("analyze", "two-sided", a, b, "--tolerance", "weight_norm")
    page = report.make([a, b])
    assert "Two kinds of starts" in page
    assert "from given positions" in page
    assert "Two-sided test:" in page
    system = AnalyticSystem(10, DoubleWell(20.0), start=1.0)
    wells = [
        run(tmp_path / f"{k}.zarr", start, system=system, integrator=Langevin(0.02, 1.0), seed=k)
        for k, start in enumerate((-1.0, None))
    ]
    page = report.make(wells)
    assert "Not at equilibrium" in page
    assert "the two sides differ in parameter_0" in page
    alike = report.make(
        [run(tmp_path / "c.zarr", None, seed=2, steps=200), run(tmp_path / "d.zarr", None, seed=3, steps=200)]
    )
    assert "Two kinds of starts" not in alike


def test_rows_can_be_stored(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a.zarr", 5.0, steps=200), run(tmp_path / "b.zarr", None, seed=1, steps=200)
    rows = analysis.two_sided(a, b).rows()
    assert json.loads(json.dumps(rows)) == rows
    assert package.analysis.start_of(Trajectory(a)) == "from given positions"
