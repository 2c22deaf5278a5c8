"""Averages and S along a ladder: exact for a quadratic loss, and no number without a doubt where there is one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import error_of, nnsim

import nnsim as package
from nnsim import Box, InputError, Simulation, analysis, cv, plotting, report
from nnsim.analysis.averages.sides import in_order
from nnsim.analysis.averages.tempering import NOT
from nnsim.bias import ReplicaExchange
from nnsim.integrators import Langevin
from nnsim.running.starts import States
from nnsim.systems import NeuralNetwork

N, RUNGS, LADDERS = 8, 6, 8


def quadratic() -> NeuralNetwork:
    """L = |w|^2 of 8 weights in a wide box, so that S(ln L) = 4 ln L; the test loss is twice that of half of them."""
    torch.manual_seed(0)
    points = torch.linalg.qr(torch.randn(N, N))[0] * N**0.5
    targets = torch.zeros(N, 1)
    some = points[: N // 2]
    return NeuralNetwork(
        torch.nn.Linear(N, 1, bias=False), (points, targets), test=(some, targets[: N // 2]), loss="mse",
        box=Box(6.0), initial="uniform",
    )  # fmt: skip


def ladder(path: Path, beta: Any, steps: int = 3000, seed: int = 10, apart: float = 3.0, **settings: Any) -> Path:
    """A run of 8 ladders, half of them from near the minimum, half from far away."""
    system = quadratic()
    exchange = ReplicaExchange(cv.Loss("train"), list(beta), every=20, name="tempering")
    dt = 0.7 / np.sqrt(2 * np.asarray(beta))
    walkers = len(beta) * LADDERS
    positions = torch.full((walkers, N), apart, dtype=torch.float64)
    positions[walkers // 2 :] = 0.01
    sides = ["random"] * (walkers // 2) + ["trained"] * (walkers // 2)
    Simulation(
        system,
        settings.pop("integrator", None) or Langevin(exchange.each(dt), exchange.each(0.3 / dt, 1 / dt, ramp=200)),
        bias=exchange,
        observe=[cv.LogLoss("train"), cv.LogLoss("test")],
        positions=States(positions, dict(system.parameters), {"positions": "given", "sides": sides}),
        walkers=walkers, seed=seed, every=10, record_start=True, positions_every=0, threads=1, **settings,
    ).run(steps, output=path, progress=False)  # fmt: skip
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ladder(tmp_path_factory.mktemp("ladder") / "run.zarr", np.geomspace(1, 30, RUNGS))


def test_a_quadratic_loss(run: Path) -> None:
    """S = 4 ln L by both ways, <ln L> = psi(4) - ln beta, and the test loss in its ratio, to 4.5 standard errors."""
    found = analysis.tempering(run, tolerance=0.2)
    assert found.at_equilibrium, found.verdict
    assert (found.ladders, len(found.beta)) == (LADDERS, RUNGS)
    assert found.trips > 5
    digamma = 1.256117668431800
    assert np.all(np.abs(found.x - (digamma - np.log(found.beta))) < 4.5 * found.x_error)
    exact = 4 * (found.x - found.x[0])
    assert np.all(np.abs(found.integral - exact)[1:] < 4.5 * found.integral_error[1:] + found.integration)
    assert np.all(np.abs(found.mbar - exact)[1:] < 4.5 * found.mbar_error[1:])
    assert found.entropy_error[-1] < 0.4
    ratio = found.y - found.x  # ln of twice a number of the beta distribution of 2 and 2: psi(2) - psi(4) + ln 2
    assert np.all(np.abs(ratio - (0.422784335098467 - digamma + np.log(2))) < 4.5 * found.y_error)
    peak = found.mode - found.x  # of u (1 - u) u, the density of ln u: at u = 2 / 3
    assert np.all(np.abs(peak - np.log(4 / 3)) < np.maximum(4.5 * found.mode_error, 0.15))


def test_the_overlap_is_that_of_the_definition(run: Path) -> None:
    """Rows add up to 1, and neighbours on this ladder of one factor all overlap alike."""
    found = analysis.tempering(run)
    assert np.allclose(found.overlap.sum(axis=1), 1, atol=1e-5)
    assert found.neighbour_overlap.shape == (RUNGS - 1,)
    assert np.ptp(found.neighbour_overlap[1:-1]) < 0.08
    assert not found.refused


def test_without_overlap_mbar_is_refused_and_the_integral_holds(tmp_path: Path) -> None:
    """Rungs a factor of 20 apart: nothing is swapped, each rung is judged by its two sides, and S still is 4 ln L."""
    path = ladder(tmp_path / "far.zarr", np.geomspace(1, 8000, 4), steps=2000)
    found = analysis.tempering(path, tolerance=0.2)
    assert "overlap by" in found.refused
    assert np.isnan(found.mbar).all()
    assert found.at_equilibrium, found.verdict
    exact = 4 * (found.x - found.x[0])
    assert np.all(np.abs(found.entropy - exact)[1:] < 4.5 * found.entropy_error[1:])
    text = nnsim("analyze", "tempering", path, "--tolerance", 0.2).out
    assert "MBAR is refused: rungs" in text


def test_a_case_made_to_fail(tmp_path: Path) -> None:
    """Steps far too short to get anywhere: every number has "not at equilibrium" beside it, in all that is shown."""
    path = ladder(tmp_path / "stuck.zarr", np.geomspace(1, 30, RUNGS), steps=300, integrator=Langevin(1e-4, 1.0))
    found = analysis.tempering(path)
    assert not found.at_equilibrium
    assert "the two sides differ in ln_loss_train" in found.verdict
    assert {row["equilibrium"] for row in found.rows()} == {NOT}
    shown = nnsim("analyze", "tempering", path, "-o", tmp_path / "t.csv", "--picture", tmp_path / "t.png").out
    rows = [line for line in shown.splitlines() if line[:1].isdigit() and "ladders" not in line]
    assert len(rows) == RUNGS
    assert all(line.endswith(NOT) for line in rows)
    assert (tmp_path / "t.csv").read_text().count(NOT) == RUNGS
    assert (tmp_path / "t.png").stat().st_size > 10_000
    page = report.make(path)
    assert page.lower().count(NOT) >= RUNGS + 2
    assert plotting.plot_tempering(path, found)[0].get_title("left") == NOT


def test_a_ladder_that_overlaps_but_makes_no_trips(tmp_path: Path) -> None:
    """Both sides agree on each rung, but none was ever swapped along the ladder."""
    path = ladder(tmp_path / "few.zarr", np.geomspace(1, 30, RUNGS), steps=1500)
    found = analysis.tempering(path, tolerance=0.5)
    assert found.trips
    none = analysis.Tempering(**{**vars(found), "trips": 0})
    assert "no walker made a round trip along the ladder" in none.verdict
    assert not none.at_equilibrium


def test_rungs_in_their_order() -> None:
    """Two ladders of three rungs, whose walkers have swapped."""
    values = np.array([[10.0, 11, 12, 20, 21, 22]])
    rung = np.array([[2, 0, 1, 0, 1, 2]])
    assert in_order(values, rung, 3).tolist() == [[11, 12, 10, 20, 21, 22]]


def test_what_is_no_such_run(run: Path, tmp_path: Path) -> None:
    for call, told in (
        (lambda: analysis.tempering(run, "ln_loss_train"), "tempering: of = 'ln_loss_train' must be a recorded"),
        (lambda: analysis.tempering(run, since=1.0), "since"),
        (lambda: analysis.tempering(run, tolerance=0.0), "tempering: tolerance = 0"),
        (lambda: analysis.tempering(run, since=0.999), "to tell errors from; give 8 frames and 3 ladders"),
        (lambda: plotting.plot_tempering(run, "x"), "plot_tempering: result = 'x' must be what tempering gave"),
        (lambda: analysis.two_sided(tmp_path / "plain.zarr"), "no recorded side, not of two sides"),
        (lambda: analysis.tempering(tmp_path / "plain.zarr"), "has no ladder of beta as its only bias"),
    ):
        if "plain" in told or not (tmp_path / "plain.zarr").exists():
            Simulation(quadratic(), Langevin(0.1, 1.0), walkers=2, every=5).run(
                20, output=tmp_path / "plain.zarr", overwrite=True, progress=False
            )
        with pytest.raises(InputError, match=told.replace("(", "\\(")):
            call()
    assert "has no ladder" in error_of("analyze", "tempering", tmp_path / "plain.zarr")


def test_the_sides_of_one_run(run: Path) -> None:
    """The general test of two sides goes by rungs too, and names them."""
    found = analysis.two_sided(run, of="ln_loss_train")
    assert found.walkers == (LADDERS // 2, LADDERS // 2)
    assert [one.base for one in found.observables] == ["ln_loss_train"] * RUNGS
    assert found.observables[0].name == "ln_loss_train at beta of tempering = 1"
    x = analysis.tempering(run).x
    assert [one.together[0] for one in found.observables] == pytest.approx(x.tolist(), abs=1e-9)
    shown = json.dumps(package.Trajectory(run).header["start"]["sides"])
    assert shown.count("trained") == RUNGS * LADDERS // 2
