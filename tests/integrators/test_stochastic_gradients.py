"""Mini-batch dynamics (SGLD, SGHMC) against the exact law of its discrete steps.

A linear network with mean squared error and a Gaussian prior has a quadratic U, also on a mini-batch, so that a step is
an affine map of z = q or (q, v) plus a normal number. Averaged over all orders of the points an epoch is then a linear
map of the first and second moments of z, whose fixed point is the exact stationary law at the ends of epochs.

Statistics: walkers are independent, so every standard error is that of the mean over walkers of each walker's own mean
over epochs. Each comparison asserts that the error is below 2 % of the value (of the standard deviations, for means
and off-diagonal covariances), and that the deviation is below 5 errors.
"""

import math
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import arrays_of
from exact_laws import assert_same_bits, check
from torch import nn

from nnsim import Box, Evaluation, InputError, Simulation, cv
from nnsim.bias import Wall
from nnsim.integrators import Brownian, Langevin
from nnsim.systems import AnalyticSystem, GaussianPrior, Harmonic, LossPotential, NeuralNetwork, spiral_classification
from nnsim.systems.modules import mlp

POINTS = torch.tensor([[-1.0], [0.2], [0.6], [1.5]])
VALUES = torch.tensor([[1.5], [-1.0], [0.8], [2.0]])
FACTOR, SCALE, KT = 2.0, 1.3, 0.4


def line(potential=None):
    """y = w x + b on four points: two parameters, U = FACTOR L + |q|^2 / (2 SCALE^2)."""
    potential = LossPotential(FACTOR) + GaussianPrior(SCALE) if potential is None else potential
    return NeuralNetwork(
        nn.Sequential(nn.Linear(1, 1)), (POINTS, VALUES), loss="mse", potential=potential, initial="normal"
    )


# ---------------------------------------------------------------- the exact moments of an epoch


def quadratic(points):
    """H and g of U-hat = q H q / 2 - g q + const, with L the loss of some points, for q = (w, b)."""
    x = np.hstack([POINTS.double().numpy(), np.ones((len(POINTS), 1))])[list(points)]
    y = VALUES.double().numpy()[list(points), 0]
    return 2 * FACTOR / len(x) * x.T @ x + np.eye(2) / SCALE**2, 2 * FACTOR / len(x) * x.T @ y


def posterior():
    """Mean and covariance of exp(-U / kT)."""
    H, g = quadratic(range(4))
    return np.linalg.solve(H, g), KT * np.linalg.inv(H)


def brownian_step(points, mobility):
    """q' = q - mobility (H q - g) + sqrt(2 kT mobility) xi, as (M, c, Sigma): z' = M z + c + N(0, Sigma)."""
    H, g = quadratic(points)
    return np.eye(2) - mobility * H, mobility * g, 2 * KT * mobility * np.eye(2)


def langevin_part(letter, points, h, friction, mass):
    """A part of a step on z = (w, b, v_w, v_b), as (M, c, Sigma)."""
    M, c, Sigma = np.eye(4), np.zeros(4), np.zeros((4, 4))
    if letter == "A":
        M[:2, 2:] = h * np.eye(2)
    elif letter == "B":
        H, g = quadratic(points)
        M[2:, :2], c[2:] = -h / mass * H, h / mass * g
    else:
        decay = math.exp(-friction * h)
        M[2:, 2:] *= decay
        Sigma[2:, 2:] = (1 - decay**2) * KT / mass * np.eye(2)
    return M, c, Sigma


def langevin_step(splitting, points, dt, friction, mass):
    """All parts of a splitting, one after the other; a letter given twice lasts dt / 2 each time."""
    parts = (langevin_part(x, points, dt / splitting.count(x), friction, mass) for x in splitting)
    return composed(parts)


def composed(maps):
    """One map of several, the first first."""
    total = None
    for M, c, Sigma in maps:
        total = (M, c, Sigma) if total is None else (M @ total[0], M @ total[1] + c, M @ total[2] @ M.T + Sigma)
    return total


def mixture(maps, mean, second):
    """<z'> and <z' z'^T> when each of the maps has the same probability."""
    means, seconds = [], []
    for M, c, Sigma in maps:
        across = np.outer(M @ mean, c)
        means.append(M @ mean + c)
        seconds.append(M @ second @ M.T + across + across.T + np.outer(c, c) + Sigma)
    return np.mean(means, axis=0), np.mean(seconds, axis=0)


def law_of_epochs(step, size, after=None):
    """Mean and covariance at the ends of epochs in the stationary state.

    Args:
        step: maps the points of a mini-batch to the affine map of a step on them.
        size: of a mini-batch.
        after: the part of a step that a state has behind it after the gradient of the next mini-batch is known.
    """
    orders = set()
    for order in permutations(range(4)):
        orders.add(tuple(tuple(sorted(order[i : i + size])) for i in range(0, 4, size)))
    known = {batch: step(batch) for batch in {batch for order in orders for batch in order}}
    epochs = [composed([known[batch] for batch in order]) for order in sorted(orders)]
    n = len(epochs[0][1])
    mean, second = np.zeros(n), np.eye(n)
    for _ in range(100_000):
        old = mean, second
        mean, second = mixture(epochs, mean, second)
        if np.allclose(old[0], mean, rtol=0, atol=1e-15) and np.allclose(old[1], second, rtol=0, atol=1e-15):
            break
    else:
        raise AssertionError("the moments do not converge")
    if after is not None:
        mean, second = mixture([after(batch) for batch in combinations(range(4), size)], mean, second)
    return mean, second - np.outer(mean, mean)


DYNAMICS = {
    "Euler-Maruyama": (
        0.08,
        lambda dt, size: Brownian(2 * dt, 2.0, KT, "euler-maruyama", batch_size=size),
        lambda dt, size: law_of_epochs(lambda batch: brownian_step(batch, dt), size),
    ),
    "BAO": (
        0.25,
        lambda dt, size: Langevin(dt, 1.5, KT, "BAO", masses=0.5, batch_size=size),
        lambda dt, size: law_of_epochs(lambda batch: langevin_step("BAO", batch, dt, 1.5, 0.5), size),
    ),
    "BAOAB": (  # a step from one gradient to the next begins and ends with half a kick, which use the same gradient
        0.25,
        lambda dt, size: Langevin(dt, 1.5, KT, "BAOAB", masses=0.5, batch_size=size),
        lambda dt, size: law_of_epochs(
            lambda batch: composed(
                langevin_part(letter, batch, h, 1.5, 0.5)
                for letter, h in (("B", dt / 2), ("B", dt / 2), ("A", dt / 2), ("O", dt), ("A", dt / 2))
            ),
            size,
            lambda batch: langevin_part("B", batch, dt / 2, 1.5, 0.5),
        ),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])  # batches of 2 and 2, of 3 and 1 points
@pytest.mark.parametrize("kind", DYNAMICS)
def test_stationary_law_at_the_ends_of_epochs(kind, size):
    """2000 walkers x 40 epochs, two epochs apart, against the exact law of this dt; the full gradient's differs."""
    dt, make, law = DYNAMICS[kind]
    mean, covariance = law(dt, size)
    simulation = Simulation(line(), make(dt, size), walkers=2000, seed=1, precision="double").advance(100)
    upper = np.triu_indices(len(mean))
    firsts, seconds = 0.0, 0.0
    for _ in range(40):
        state = simulation.advance(4).state
        z = state.positions if len(mean) == 2 else torch.cat([state.positions, state.velocities], dim=1)
        centred = z.numpy() - mean
        firsts, seconds = firsts + centred, seconds + centred[:, upper[0]] * centred[:, upper[1]]
    deviation = np.sqrt(np.diag(covariance))
    check(firsts.T / 40, np.zeros(len(mean)), scale=deviation)
    _, error = check(seconds.T / 40, covariance[upper], scale=np.outer(deviation, deviation)[upper])
    exact_gradients = law(dt, 4)[1]
    assert np.max(np.abs(exact_gradients - covariance)[upper] / error) > 10


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "order"), [("Euler-Maruyama", 1), ("BAO", 1), ("BAOAB", 2)])
def test_the_law_tends_to_the_posterior(kind, order):
    """Mean and covariance of q in the exact law: the larger of their errors falls as dt^order."""
    steps, law = np.array([0.02, 0.01, 0.005]), DYNAMICS[kind][2]
    errors = []
    for dt in steps:
        mean, covariance = law(dt, 2)
        errors.append(
            max(np.abs(a - b).max() for a, b in zip((mean[:2], covariance[:2, :2]), posterior(), strict=True))
        )
    print(errors)
    np.testing.assert_allclose(np.diff(np.log(errors)) / np.diff(np.log(steps)), order, atol=0.1)


# ---------------------------------------------------------------- the estimate


def spiral(potential="loss", **settings):
    torch.manual_seed(0)
    potential = LossPotential(30.0) + GaussianPrior(2.0) if potential == "loss" else potential
    return spiral_classification(
        (5, 4), points_per_class=10, box=Box(kind="open"), initial="reinitialise", potential=potential, **settings
    )


def integrators(**settings):
    return {
        "BAOAB": Langevin(0.01, 5.0, 1.0, **settings),
        "OBABO, masses": Langevin(0.01, 5.0, 1.0, "OBABO", masses=torch.linspace(0.5, 2, 49), **settings),
        "ABABA": Langevin(0.01, 0.0, 1.0, "ABABA", **settings),  # two gradients a step and one at its end
        "leimkuhler-matthews": Brownian(0.001, 1.0, 1.0, **settings),
        "euler-maruyama": Brownian(0.001, 1.0, 1.0, "euler-maruyama", **settings),
    }


@pytest.mark.parametrize("how", ["batched", "vmap", "loop"])
def test_the_mean_over_all_mini_batches_is_exact(how):
    """A network that is not linear: 15 walkers at one place, one for each pair of the 6 points."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(6, 3, generator=generator), torch.randint(2, (6,), generator=generator)
    system = NeuralNetwork(
        mlp((3, 4, 2), "tanh"), (x, y), potential=LossPotential(7.0) + GaussianPrior(), initial="normal", walkers=how
    )
    simulation = Simulation(system, Langevin(0.1, 1.0), walkers=1, precision="double")
    field = simulation.force_field
    positions = simulation.state.positions.repeat(15, 1)
    found = field.batch_forces(positions, torch.tensor(list(combinations(range(6), 2))))
    torch.testing.assert_close(found.forces.mean(0), simulation.state.forces[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.energy.mean(), simulation.state.energy[0], rtol=1e-12, atol=1e-12)
    assert found.forces.std(0).max() > 0.1
    assert found.cvs.shape == (15, 0)
    assert not found.bias_energy.any()


@pytest.mark.parametrize("kind", integrators())
def test_a_batch_of_all_points_is_the_full_gradient(kind):
    """The same noise, and forces equal to rounding."""
    whole, batch = (
        Simulation(spiral(), integrators(batch_size=size)[kind], walkers=3, precision="double").advance(50)
        for size in (None, 20)
    )
    for name in ("positions", "velocities", "forces", "energy"):
        torch.testing.assert_close(getattr(batch.state, name), getattr(whole.state, name), rtol=1e-9, atol=1e-9)
    assert whole.state.generator.draws() == batch.state.generator.draws()


@pytest.mark.parametrize("kind", integrators())
def test_the_state_belongs_to_the_mini_batch_of_its_step(kind):
    """Also in the last, smaller, batch of an epoch; between two reports no split is ever evaluated."""
    simulation = Simulation(spiral(), integrators(batch_size=6)[kind], walkers=2, precision="double")

    def refuse(*_):
        raise AssertionError("all points are evaluated")

    forward, simulation.system.forward = simulation.system.forward, refuse
    for step in range(1, 9):
        state = simulation.advance(1).state
        first = step % 4 * 6
        index = state.integrator_state["order"][:, first : first + 6]
        assert index.shape[1] == (2 if step % 4 == 3 else 6)
        points, labels = (values["train"][index] for values in (simulation.system._points, simulation.system._targets))
        leaf = state.positions.clone().requires_grad_()
        losses = []
        for w in range(2):
            outputs = simulation.system._forward(leaf[w : w + 1], points[w])
            losses.append(nn.functional.cross_entropy(outputs[0], labels[w]))
        energy = 30 * torch.stack(losses) + leaf.square().sum(1) / 8
        (gradient,) = torch.autograd.grad(energy.sum(), leaf)
        torch.testing.assert_close(state.energy, energy.detach(), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(state.forces, -gradient, rtol=1e-9, atol=1e-9)
    simulation.system.forward = forward


@pytest.mark.slow
def test_recorded_cvs_are_exact():
    simulation = Simulation(
        spiral(), Langevin(0.01, 5.0, batch_size=6), observe=[cv.Loss("train")], walkers=3, every=10, precision="double"
    ).advance(30)
    state = simulation.state
    loss = Evaluation(simulation.system, state.positions).loss("train")
    np.testing.assert_allclose(simulation.history["loss_train"][-1], loss, rtol=1e-12)
    exact = 30 * loss + state.positions.square().sum(1) / 8
    assert bool(((state.energy - exact).abs() > 1e-3).all())  # which is an estimate
    np.testing.assert_allclose(simulation.history["potential_energy"][-1], state.energy)


@pytest.mark.parametrize(
    "integrator",
    [Langevin(0.01, 20.0, batch_size=10), Brownian(0.001, 1.0, scheme="euler-maruyama", batch_size=5)],
    ids=["SGHMC", "SGLD"],
)
def test_a_classifier_is_sampled(integrator):
    """From random starts the loss falls; at the ends of epochs the next estimates of U scatter around U.

    20 walkers x 25 frames. Within an epoch the batches left have a higher loss than those the walkers moved on already.
    """
    system = spiral(LossPotential(300.0))
    simulation = Simulation(system, integrator, observe=[cv.Loss("train")], walkers=20, every=40)
    start = Evaluation(simulation.system, simulation.state.positions).loss("train").mean()
    simulation.advance(1000)
    loss, U = simulation.history["loss_train"], simulation.history["potential_energy"]
    error = U - 300 * loss
    print(float(start), loss.mean(1), error.mean(), error.std())
    assert loss[-8:].mean() < start - 0.1
    assert error.std() > 1
    assert abs(error.mean()) < 5 * error.std() / math.sqrt(error.size)


# ---------------------------------------------------------------- resume, settings


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["BAOAB", "OBABO, masses", "leimkuhler-matthews", "euler-maruyama"])
def test_two_halves_equal_the_whole_in_the_middle_of_an_epoch(tmp_path: Path, kind):
    def build():
        return Simulation(
            spiral(), integrators(batch_size=6)[kind], observe=[cv.Loss("train")], walkers=3, every=3,
            velocities_every=5,
        )  # fmt: skip

    whole = build().run(46, output=tmp_path / "whole.zarr", progress=False)
    build().run(22, output=tmp_path / "halves.zarr", progress=False)  # four batches are an epoch
    second = build().run(46, output=tmp_path / "halves.zarr", resume=True, progress=False)
    assert_same_bits(second.state_dict(), whole.state_dict())
    assert arrays_of(tmp_path / "halves.zarr") == arrays_of(tmp_path / "whole.zarr")


def test_another_batch_size_is_not_resumed(tmp_path: Path):
    path = tmp_path / "run.zarr"
    Simulation(spiral(), Langevin(0.01, 5.0, batch_size=6)).run(3, output=path, progress=False)
    with pytest.raises(InputError, match=r"integrator.batch_size: 6 -> 7"):
        Simulation(spiral(), Langevin(0.01, 5.0, batch_size=7)).run(9, output=path, resume=True, progress=False)


MAKE = {
    "Langevin": lambda size: Langevin(0.1, 1.0, batch_size=size),
    "Brownian": lambda size: Brownian(0.1, 1.0, batch_size=size),
}


@pytest.mark.parametrize("name", MAKE)
def test_what_cannot_be_estimated_is_refused(name):
    make = MAKE[name]
    for size in (0, -1, 2.5, "all"):
        with pytest.raises(InputError, match=rf"{name}: batch_size = .* must be a whole number of at least 1"):
            make(size)
    with pytest.raises(InputError, match=rf"{name}: batch_size = 21 must be at most the number of train points, 20"):
        Simulation(spiral(), make(21))
    with pytest.raises(
        InputError, match=rf"{name}: a bias needs the exact CVs, which a mini-batch only .*\(wall_upper"
    ):
        Simulation(spiral(), make(5), bias=Wall(cv.LogLoss("train"), upper=3.0))
    with pytest.raises(InputError, match=rf"{name}: AnalyticSystem has no data, so no train loss"):
        Simulation(AnalyticSystem(3, Harmonic(), start=0.0), make(5))
    with pytest.raises(InputError, match=rf"{name}: U = 0, so batch_size = 5 leaves nothing to estimate"):
        Simulation(spiral(potential=None), make(5))
    with pytest.raises(InputError, match=rf"{name}: U does not depend on the train loss, so batch_size = 5"):
        Simulation(spiral(potential=GaussianPrior()), make(5))

    class Exact(AnalyticSystem):
        def targets(self, split):
            return torch.zeros(9)

    with pytest.raises(InputError, match=rf"{name}: Exact has no batch_loss\(positions, index\), which mini-batches"):
        Simulation(Exact(3, Harmonic(), start=0.0), make(5))


def test_an_energy_of_outputs_is_refused():
    for ask in (lambda e: e.outputs("train").sum((1, 2)), lambda e: e.positions.sum(1) + e.targets("train").sum()):
        with pytest.raises(InputError, match=r"were asked of a mini-batch, which only has loss\('train'\)"):
            Simulation(spiral(potential=ask), Langevin(0.1, 1.0, batch_size=5))
    test = (torch.randn(3, 2), torch.tensor([0, 1, 1]))
    system = NeuralNetwork(mlp((2, 3, 2), "tanh"), (torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1])), test)
    positions = system.initial_positions(2, torch.Generator())
    batch = Evaluation(system, positions, ("test", "train"), torch.tensor([[0, 1], [2, 3]]))
    assert torch.equal(batch.outputs("test"), Evaluation(system, positions).outputs("test"))  # other splits are whole
    assert batch.loss("train").shape == (2,)


@pytest.mark.slow
def test_every_precision():
    for precision in ("single", "mixed", "double"):
        for integrator in (Langevin(0.01, 5.0, batch_size=6), Brownian(0.01, 5.0, batch_size=6)):
            state = Simulation(spiral(), integrator, walkers=2, precision=precision).advance(9).state
            assert state.forces.dtype == state.positions.dtype
            assert state.energy.dtype == torch.float64
