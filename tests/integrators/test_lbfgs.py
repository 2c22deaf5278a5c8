"""Minimisation inside the box: against scipy's, exact minima, and what a run must keep."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import Tensor, nn

import nnsim
from nnsim import Box, InputError, Simulation, Trajectory, cv
from nnsim.bias import Umbrella
from nnsim.integrators import LBFGS
from nnsim.integrators.lbfgs import CONVERGED, STALLED
from nnsim.systems import AnalyticSystem, GaussianPrior, Harmonic, LossPotential, NeuralNetwork

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(40, 2, generator=DRAW)
Y = (2 * X[:, :1]).sin() * X[:, 1:]


class Quadratic:
    """(q - c) A (q - c) / 2 with a condition number of 1e3."""

    def __init__(self, n: int, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        turn = torch.linalg.qr(torch.randn(n, n, generator=draw, dtype=torch.float64)).Q
        self.matrix = turn @ torch.diag(torch.logspace(-1, 2, n, dtype=torch.float64)) @ turn.T
        self.centre = torch.randn(n, generator=draw, dtype=torch.float64)

    def __call__(self, q: Tensor) -> Tensor:
        d = q - self.centre
        return 0.5 * (d @ self.matrix * d).sum(1)


def rosenbrock(q: Tensor) -> Tensor:
    return (100 * (q[:, 1:] - q[:, :-1] ** 2) ** 2 + (1 - q[:, :-1]) ** 2).sum(1)


def network(box: Box | None = None, **settings: Any) -> NeuralNetwork:
    module = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1))
    data = {"train": (X[:30], Y[:30]), "test": (X[30:], Y[30:])}
    return NeuralNetwork(module, **data, loss="mse", box=box or Box(1.0), initial="uniform", **settings)


def by_scipy(function: Any, start: Tensor, limit: float | None) -> tuple[np.ndarray, float]:
    """The minimum that scipy's L-BFGS-B finds from one start."""

    def value_and_gradient(q: np.ndarray) -> tuple[float, np.ndarray]:
        leaf = torch.tensor(q)[None].requires_grad_()
        value = function(leaf)[0]
        return float(value.detach()), torch.autograd.grad(value, leaf)[0][0].numpy()

    bounds = None if limit is None else [(-limit, limit)] * len(start)
    options = {"maxiter": 5000, "maxfun": 50_000, "gtol": 1e-10, "ftol": 1e-16, "maxcor": 20}
    found = optimize.minimize(
        value_and_gradient, start.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    return found.x, found.fun


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("limit", [None, 0.5, 0.05])
def test_the_minimum_of_a_convex_function_is_that_of_scipy(seed: int, limit: float | None) -> None:
    """It is unique, so that all walkers meet in it, on the same faces of the box."""
    function, n = Quadratic(20, seed), 20
    system = AnalyticSystem(n, function, box=None if limit is None else Box(limit), start=0.0)
    size = 1.0 if limit is None else limit
    starts = size * (2 * torch.rand(5, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1)
    found = nnsim.minimise(system, starts, gradient_norm=1e-9)
    assert found.converged.all()
    exact, value = by_scipy(function, starts[0], limit)
    assert abs(found.positions.numpy() - exact).max() < 1e-7
    assert abs(found.value.numpy() - value).max() < 1e-10 * max(1.0, abs(value))
    if limit is not None:
        on_faces = found.positions.abs() == limit
        assert on_faces.any()
        assert (on_faces == on_faces[0]).all()
    assert found.iterations.max() < 200  # 146 to 159 of scipy, from another start


@pytest.mark.parametrize("limit", [None, 2.0, 0.5])
def test_rosenbrock(limit: float | None) -> None:
    """The valley is followed to (1, 1, ...), or to the best place in the box."""
    start = torch.linspace(-0.4, 0.4, 10, dtype=torch.float64)
    system = AnalyticSystem(10, rosenbrock, box=None if limit is None else Box(limit), start=start)
    found = nnsim.minimise(system, gradient_norm=1e-8)
    exact, value = by_scipy(rosenbrock, start, limit)
    assert found.converged.all()
    assert abs(found.positions[0].numpy() - exact).max() < 1e-6
    assert float(found.value[0]) == pytest.approx(value, abs=1e-10)


def test_a_network_goes_as_far_down_as_with_scipy() -> None:
    """From the same 8 starts, to the gradient norm asked for, into minima that scipy finds too."""
    system = network(potential=LossPotential(20.0) + GaussianPrior(0.7))
    found = nnsim.minimise(system, walkers=8, seed=3, gradient_norm=1e-5, steps=3000)
    assert found.converged.all()
    assert (found.gradient_norm <= 1e-5).all()
    assert (found.positions.abs() <= 1.0).all()
    one = Simulation(system, LBFGS("potential"), walkers=8, seed=3, precision="double")
    field = one.force_field
    value, gradient, energy = field.value_and_gradient(found.positions, "potential")
    assert torch.allclose(value, found.value, rtol=1e-12)
    assert torch.equal(value, energy)
    inner = found.positions.abs() < 1.0
    assert float((gradient * inner).norm(dim=1).max()) < 1.1e-5  # at the walls only what presses against them is left
    assert ((gradient * found.positions)[~inner] <= 1e-5).all()
    reached = np.array([by_scipy(lambda q: _potential(field, q), start, 1.0)[1] for start in one.state.positions])
    distances = abs(found.value.numpy()[:, None] - reached).min(axis=1)
    assert distances.max() < 1e-6  # the landscape has few minima, and both find them


def _potential(field: Any, q: Tensor) -> Tensor:
    return field.system.energy(nnsim.Evaluation(field.system, q))


def test_the_train_loss_is_minimised_where_there_is_no_potential() -> None:
    system = network()
    found = nnsim.minimise(system, walkers=3, steps=200)
    one = Simulation(system, LBFGS(), walkers=3, precision="double")
    loss = one.force_field.value_and_gradient(found.positions, "loss")[0]
    assert torch.allclose(loss, found.value, rtol=1e-12)
    assert (found.value < 0.2 * one.state.integrator_state["minimised"]).all()


def test_what_is_minimised_never_rises() -> None:
    run = Simulation(network(), LBFGS(), walkers=4, precision="double", every=1, observe=[cv.Loss("train")])
    losses = run.advance(100).history["loss_train"]
    assert (np.diff(losses, axis=0) <= 0).all()


def test_each_walker_goes_its_own_way_and_rests_at_its_end() -> None:
    """Alone, in company, and whatever the others still do: the same minimum in the same number of steps."""
    function = Quadratic(12, 5)
    starts = torch.stack([function.centre + scale for scale in (1e-3, 0.1, 3.0)])
    system = AnalyticSystem(12, function, start=0.0)
    together = nnsim.minimise(system, starts, gradient_norm=1e-8)
    assert len(set(together.iterations.tolist())) > 1
    for walker in range(3):
        alone = nnsim.minimise(system, starts[walker : walker + 1], gradient_norm=1e-8)
        assert torch.allclose(alone.positions[0], together.positions[walker], atol=1e-9)
        assert abs(int(alone.iterations) - int(together.iterations[walker])) <= 2  # rounding may cost a step
    run = Simulation(system, LBFGS("potential", gradient_norm=1e-8), positions=starts, precision="double", every=1)
    ended = int(together.iterations.min())
    run.advance(ended + 1)
    first = run.state.integrator_state["ended"] == CONVERGED
    resting = run.state.positions[first].clone()
    assert first.any()
    assert not first.all()
    run.advance(1)
    assert torch.equal(run.state.positions[first], resting)


def test_a_run_ends_with_its_last_frame_when_all_have_converged(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    starts = torch.ones(2, 3, dtype=torch.float64)
    found = nnsim.minimise(AnalyticSystem(3, Quadratic(3, 1), start=0.0), starts, every=7, output=path, progress=False)
    run = Trajectory(path)
    assert run.steps < 100
    assert run.steps % 7 == 0
    assert run.positions is not None
    assert run.positions.step.tolist() == list(range(0, run.steps + 1, 7))
    assert np.array_equal(run.positions[-1], found.positions.numpy())


def test_it_goes_on_exactly_after_a_stop(tmp_path: Path) -> None:
    def run() -> Simulation:
        return Simulation(network(), LBFGS(memory=5), walkers=3, precision="double", every=5, threads=1)

    whole = run().run(60, output=tmp_path / "whole.zarr", progress=False)
    run().run(25, output=tmp_path / "parts.zarr", progress=False)
    parts = run().run(60, output=tmp_path / "parts.zarr", resume=True, progress=False)
    for name, value in whole.state_dict()["state"]["integrator_state"].items():
        assert torch.equal(value, parts.state.integrator_state[name]), name
    assert torch.equal(whole.state.positions, parts.state.positions)


def test_in_a_periodic_box_nothing_is_a_wall() -> None:
    """cos q has its minimum at pi, on the edge of the box, which is reached from both sides and by going round."""
    system = AnalyticSystem(1, lambda q: q.cos().sum(1), box=Box(float(torch.pi), kind="periodic"), start=0.0)
    found = nnsim.minimise(system, torch.tensor([[0.1], [-0.1], [3.0], [-3.1]]), gradient_norm=1e-9)
    assert found.converged.all()
    assert abs(found.positions.abs() - torch.pi).max() < 1e-8
    assert (found.positions.abs() <= torch.pi).all()


def test_at_a_kink_it_says_that_nothing_is_lower() -> None:
    """The gradient of max(q, -2 q) is 1 or -2 wherever it exists; walkers stall at the minimum, 0."""
    system = AnalyticSystem(1, lambda q: torch.maximum(q, -2 * q).sum(1), start=1.0)
    run = Simulation(system, LBFGS("potential"), precision="double")
    run.run(500, progress=False)
    own = run.state.integrator_state
    assert own["ended"].tolist() == [STALLED]
    assert float(own["minimised"]) < 1e-8
    assert run.integrator.summary(run.state)["converged"] == "0 of 1, 1 cannot be lowered any more"


def test_starts_outside_the_box_begin_at_the_nearest_place_inside() -> None:
    system = AnalyticSystem(2, lambda q: ((q - torch.tensor([0.2, 3.0])) ** 2).sum(1), box=Box(1.0), start=0.0)
    found = nnsim.minimise(system, torch.tensor([[9.0, -9.0]]))
    assert torch.allclose(found.positions, torch.tensor([[0.2, 1.0]], dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LBFGS("energy"), "of = 'energy'"),
        (lambda: LBFGS(gradient_norm=-1.0), "gradient_norm = -1"),
        (lambda: LBFGS(memory=0), "memory = 0"),
        (lambda: nnsim.minimise(network(), of="potential"), "the potential of NeuralNetwork is 0 everywhere"),
        (lambda: nnsim.minimise(AnalyticSystem(2, Harmonic(), start=0.0), of="loss"), "has no data"),
        (lambda: nnsim.minimise(AnalyticSystem(2, Harmonic(), start=0.0), steps=-1), "steps = -1"),
        (lambda: nnsim.minimise(AnalyticSystem(2, Harmonic(), start=0.0), [1.0, 2.0, 3.0]), r"shape \[1, 3\]"),
        (
            lambda: Simulation(
                AnalyticSystem(2, Harmonic(), start=0.0),
                LBFGS("potential"),
                bias=Umbrella(cv.WeightNorm(), [1.0], 1.0),
            ),
            "a minimisation has no bias, but the simulation has umbrella",
        ),
    ],
)
def test_what_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
