"""Compiled Monte Carlo follows the path of the reference, has exact laws, and what it cannot take is said."""

import logging
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import nnsim
from conftest import statistics_scale
from scipy.integrate import quad
from torch import nn

from nnsim import Box, Grid, Lattice, Simulation, Trajectory, cv
from nnsim.bias import OPES, Boltzmann, Metadynamics, ReplicaExchange, Umbrella, Wall, WangLandau
from nnsim.cv.split import SplitCV
from nnsim.integrators import FixedStep, Langevin, MixedStep, MonteCarlo, TunedStep
from nnsim.platforms import ReferencePlatform
from nnsim.platforms.native import NativeMonteCarlo
from nnsim.protocols import Bias
from nnsim.running.progress import summary
from nnsim.schedules import LinearRamp, RampHoldInverseTime
from nnsim.systems import AnalyticSystem, GaussianPrior, Harmonic, LossPotential, NeuralNetwork, spiral_classification
from nnsim.systems.losses import CrossEntropy
from nnsim.systems.modules import mlp

PLATFORMS = ("reference", "native")
LOSS, LN_LOSS = cv.Loss("train"), cv.LogLoss("train")
SMOOTHED = cv.SmoothedAccuracy("test", slope=3.0)
TEST_GAP = cv.LogLoss("test") - LN_LOSS


def data(outputs: int = 2, count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(5)
    x = torch.from_numpy(generator.normal(size=(count, 3)))
    return x, torch.from_numpy(generator.integers(0, outputs, count))


def network(module: nn.Module | None = None, **settings: Any) -> NeuralNetwork:
    x, y = data()
    train, test = settings.pop("train", (x[:7], y[:7])), settings.pop("test", (x[7:], y[7:]))
    return NeuralNetwork(
        module or mlp((3, 5, 4, 2)), train, None if len(train[0]) == len(x) else test,
        **{"box": Box(1.0), "initial": "uniform", "potential": LossPotential(5.0) + GaussianPrior(1.0), **settings},
    )  # fmt: skip


def without_biases(*places: int) -> nn.Sequential:
    """A network of three layers, those at the places without biases."""
    sizes = [(3, 5), (5, 4), (4, 2)]
    layers: list[nn.Module] = []
    for place, (a, b) in enumerate(sizes):
        layers += [nn.Linear(a, b, bias=place not in places), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


# ---------------------------------------------------------------------- the same path


KT = 0.8


def flat(cvs: Any, kind: str = "bins", kernel: float | None = None) -> WangLandau:
    """A bias that grows by the same increment all the time, with which one walker feels what it does step by step."""
    spans = {LN_LOSS: (-6.0, 4.0, 100), SMOOTHED: (-0.1, 1.1, 12), TEST_GAP: (-3.0, 5.0, 80)}
    lower, upper, bins = zip(*(spans[one] for one in (cvs if isinstance(cvs, list) else [cvs])), strict=True)
    grid = Grid(lower, upper, bins, kind=kind)
    return WangLandau(cvs, grid, RampHoldInverseTime(0.05, 0, 1e9), kernel=kernel, kT=KT)


def classifier(loss: Any, labels: list[int], outputs: int = 3, kind: str = "tanh") -> Callable[[], NeuralNetwork]:
    """A network of three layers for 7 train and 5 test points with these targets."""
    x, y = data()[0], torch.tensor(labels)

    def system() -> NeuralNetwork:
        return network(
            mlp((3, 5, 4, outputs), kind), train=(x[:7], y[:7]), test=(x[7:], y[7:]), loss=loss, potential=None
        )

    return system


def every_measure() -> list[Bias]:
    """Biases on the losses and accuracies of both splits, of which one deposits."""
    return [
        Wall(SMOOTHED, lower=0.4, strength=30.0), flat(LN_LOSS), Wall(cv.LogLoss("test"), upper=0.5, strength=3.0),
        Wall(cv.SmoothedAccuracy("train", coordinate="logit"), upper=0.5, strength=2.0),
        Wall(cv.Accuracy("train"), lower=0.5, strength=5.0), Wall(cv.Accuracy("test"), lower=0.5, strength=5.0),
    ]  # fmt: skip


CLASSES, SKIPPING = [0, 1, 2, 2, 1, 0, 1, 2, 0, 1, 0, 1], [0, -1, 2, 2, 1, 0, -1, 2, -1, 1, 0, 1]
ANSWERS = [0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0]
SEVERAL = [[one, 1 - one, other] for one, other in zip(ANSWERS, ANSWERS[1:] + ANSWERS[:1], strict=True)]
WEIGHTS = torch.tensor([0.5, 2.0, 1.0])
LOSSES: dict[str, Callable[[], NeuralNetwork]] = {
    "three classes": classifier("cross_entropy", CLASSES),
    "bce of one logit": classifier("bce", ANSWERS, 1),
    "bce of several": classifier("bce", SEVERAL),
    "bce, weighted": classifier(nn.BCEWithLogitsLoss(weight=WEIGHTS, pos_weight=2 * WEIGHTS), SEVERAL),
    "bce, an output that does not count": classifier(
        nn.BCEWithLogitsLoss(weight=torch.tensor([1.0, 0.0, 2.0])), SEVERAL
    ),
    "bce, a sum": classifier(nn.BCEWithLogitsLoss(reduction="sum"), SEVERAL),
    "class weights": classifier(nn.CrossEntropyLoss(weight=WEIGHTS), CLASSES),
    "label smoothing": classifier(nn.CrossEntropyLoss(label_smoothing=0.2), CLASSES),
    "ignored labels": classifier(nn.CrossEntropyLoss(ignore_index=-1), SKIPPING),
    "ignored among two": classifier(nn.CrossEntropyLoss(ignore_index=-1), [min(y, 1) for y in SKIPPING], 2),
    "all together": classifier(
        nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.2, ignore_index=-1), SKIPPING, 3, "relu"
    ),
    "a sum": classifier(nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.2, reduction="sum"), CLASSES),
}

PERIODIC = Box(lower=-0.4, upper=0.9, kind="periodic")

# Name: the system, the step, the biases, and the number of walkers.
PATHS: dict[str, tuple[Callable[[], NeuralNetwork], Any, Callable[[], Any], int]] = {
    "fixed": (network, 0.3, lambda: (), 3),
    "mixed": (network, MixedStep(1e-2, 2.0), lambda: (), 3),
    "tuned": (network, TunedStep(warmup=900), lambda: (), 3),
    "open": (lambda: network(box=Box(kind="open"), initial="normal"), 0.5, lambda: (), 2),
    "periodic": (lambda: network(box=PERIODIC), 0.3, lambda: (), 3),
    "periodic, far": (lambda: network(box=PERIODIC), MixedStep(0.1, 50.0), lambda: (), 3),
    "periodic, tuned": (lambda: network(box=PERIODIC), TunedStep(warmup=900), lambda: (), 3),
    "lattice of two": (lambda: network(box=Lattice([-1, 1]), potential=LossPotential(1.0)), None, lambda: (), 3),
    "lattice of three": (
        lambda: network(box=Lattice([-1, 0, 0.5]), potential=LossPotential(1.0)), TunedStep(), lambda: (), 3
    ),
    "wang-landau": (lambda: network(potential=None), MixedStep(1e-2, 2.0), lambda: flat(LN_LOSS), 1),
    "wang-landau, spline, two": (
        lambda: network(potential=None), 0.5, lambda: flat([LN_LOSS, SMOOTHED], "spline", 0.1), 1
    ),
    "wang-landau, periodic": (lambda: network(potential=None, box=PERIODIC), 0.5, lambda: flat(LN_LOSS), 1),
    "wang-landau, lattice": (lambda: network(potential=None, box=Lattice([-1, 1])), None, lambda: flat(LN_LOSS), 1),
    "wang-landau beside walls": (
        lambda: network(potential=None), 0.5,
        lambda: [
            Wall(SMOOTHED, lower=0.4, strength=300.0), flat(LN_LOSS), Wall(LN_LOSS, upper=0.0, strength=20.0),
            Wall(cv.LogLoss("test"), upper=0.5, lower=-2.0, strength=3.0, shape="linear"),
        ], 1,
    ),
    "two CVs beside walls": (
        lambda: network(potential=None), 0.5,
        lambda: [
            Wall(cv.Loss("test"), upper=1.0, strength=50.0), flat([SMOOTHED, LN_LOSS], "spline", 0.1),
            Wall(LN_LOSS, lower=-1.0, strength=20.0),
        ], 1,
    ),
    "wang-landau of a difference": (
        lambda: network(potential=None), 0.5,
        lambda: [
            Wall(TEST_GAP**2 / (1 + LOSS), upper=0.5, strength=20.0), flat([TEST_GAP, SMOOTHED], "spline", 0.1),
            Wall(cv.LogLoss("test") - LN_LOSS * 1.0, lower=-0.5, strength=20.0),
        ], 1,
    ),
    "springs on products and powers": (
        lambda: network(potential=None), 0.5,
        lambda: Umbrella([LOSS * SMOOTHED, -(TEST_GAP**3), 2 - cv.Accuracy("train")], [0.3, 0.1, 1.5], 30.0), 3,
    ),
    "walls alone": (
        network, 0.5,
        lambda: [Wall(LOSS, lower=0.7), Wall(cv.SmoothedAccuracy("test"), upper=0.6, shape="linear", strength=30.0)], 3,
    ),
    "umbrella beside a wall": (
        lambda: network(potential=None), 0.5,
        lambda: [Wall(cv.LogLoss("test"), upper=0.0, strength=10.0), Umbrella(LN_LOSS, [-1.0, -0.5, 0.5], 50.0)], 3,
    ),
    "boltzmann beside a wall": (
        lambda: network(potential=None), 0.5,
        lambda: [Wall(cv.LogLoss("test"), upper=0.0, strength=10.0), Boltzmann(LOSS, [1, 5, 20], ramp=500, kT=KT)], 3,
    ),
    "replica exchange beside a wall": (
        lambda: network(potential=None), 0.5,
        lambda: [Wall(SMOOTHED, lower=0.3, strength=10.0), ReplicaExchange(LOSS, [1, 5, 20], every=7, kT=KT)], 6,
    ),
    "kernels beside a wall": (
        network, 0.3,
        lambda: [Wall(LOSS, lower=0.6), OPES([LN_LOSS, SMOOTHED], 6.0, pace=10, sigma=(0.3, 0.1), kT=KT)], 3,
    ),
    "kernels that explore": (network, 0.3, lambda: OPES(LN_LOSS, 6.0, pace=3, sigma=0.3, explore=True, kT=KT), 3),
    "kernels of a measured width": (network, 0.3, lambda: OPES(LN_LOSS, 6.0, pace=1, kT=KT), 3),
    "no biases": (lambda: network(without_biases(0, 1, 2)), 0.3, lambda: (), 3),
    "no bias in the first": (lambda: network(without_biases(0)), 0.3, lambda: Wall(LOSS, lower=0.6), 3),
    "no bias in the middle": (lambda: network(without_biases(1), potential=None), 0.3, lambda: flat(LN_LOSS), 1),
    "no bias in the last": (lambda: network(without_biases(2), box=PERIODIC), 0.3, lambda: (), 3),
    "no hidden layer": (lambda: network(nn.Sequential(nn.Linear(3, 2, bias=False))), 0.3, lambda: (), 3),
    **{name: (system, 0.5, every_measure, 1) for name, system in LOSSES.items()},
    "probabilities": (
        lambda: network(train=(data()[0], torch.softmax(data()[0][:, :2], 1)), loss=nn.CrossEntropyLoss(WEIGHTS[:2])),
        0.5, lambda: Wall(LN_LOSS, upper=0.0), 3,
    ),
    "answers between no and yes": (
        lambda: network(
            train=(data()[0], torch.sigmoid(data()[0][:, :2])), loss=nn.BCEWithLogitsLoss(pos_weight=WEIGHTS[:2])
        ),
        0.5, lambda: Wall(LN_LOSS, upper=0.0), 3,
    ),
    "a sum of squares": (
        lambda: network(train=(data()[0], data()[0][:, :2]), loss=nn.MSELoss(reduction="sum")),
        0.5, lambda: Wall(LOSS, upper=8.0), 3,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", PATHS)
def test_both_platforms_take_the_same_path(name: str) -> None:
    """1500 moves of each walker in full, 4000 without bias: the same are accepted, numbers agree but for rounding."""
    system, step, biases, walkers = PATHS[name]
    runs = [
        Simulation(
            system(), MonteCarlo(step, kT=KT), bias=biases(), walkers=walkers, seed=11, precision="double",
            platform=platform, threads=1,
        )
        for platform in PLATFORMS
    ]  # fmt: skip
    total = int((1500 if runs[0].force_field.biases else 4000) * statistics_scale(0.3))
    for moves in (100, total - 100):
        reference, native = (run.advance(moves).state for run in runs)
        accepted = native.integrator_state["accepted"]
        assert torch.equal(reference.integrator_state["accepted"], accepted)
        for one in ("positions", "energy", "cvs"):
            torch.testing.assert_close(getattr(native, one), getattr(reference, one), rtol=1e-7, atol=1e-9)
        if "step_size" in reference.integrator_state:
            torch.testing.assert_close(native.integrator_state["step_size"], reference.integrator_state["step_size"])
    assert bool(((accepted > 50) & (accepted < total - 10)).all()), accepted
    with runs[1].platform.settled():
        energies = [run.force_field.bias_energy(run.state.cvs, run.state.step) for run in runs]
        torch.testing.assert_close(*energies, rtol=1e-7, atol=1e-9)
        for ours, theirs in zip(*(run.force_field.biases for run in runs), strict=True):
            for key, table in ours.tables().items():
                torch.testing.assert_close(theirs.tables()[key], table, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["single", "mixed"])
def test_both_platforms_begin_alike_in_every_precision(precision: str) -> None:
    """Until rounding decides on a move, which takes longer than 300 of them here; with limits that are not float32."""
    positions = []
    for platform in PLATFORMS:
        simulation = Simulation(
            network(box=Box(lower=-0.3, upper=0.7, kind="periodic")), MonteCarlo(MixedStep(1e-2, 5.0)), walkers=3,
            seed=2, precision=precision, platform=platform,
        ).advance(300)  # fmt: skip
        assert bool(simulation.system.box.contains(simulation.state.positions).all())
        positions.append(simulation.state.positions)
    torch.testing.assert_close(*positions, rtol=1e-5, atol=1e-5)


def test_numbers_of_a_walker_do_not_depend_on_the_others_or_on_threads() -> None:
    def run(walkers: int, threads: int) -> torch.Tensor:
        simulation = Simulation(network(), MonteCarlo(0.3), walkers=walkers, seed=1, threads=threads)
        assert isinstance(simulation.platform, NativeMonteCarlo)
        return simulation.advance(5000).state.positions

    assert torch.equal(run(8, 2)[:4], run(4, 1))


# ---------------------------------------------------------------------- exact laws


def one_weight(**settings: Any) -> NeuralNetwork:
    """One parameter w, uniform in [-1, 1], and L = w^2."""
    train = (torch.ones(1, 1), torch.zeros(1, 1))
    box = Box(1.0)
    return NeuralNetwork(
        nn.Sequential(nn.Linear(1, 1, bias=False)), train, loss="mse", **{"box": box, "initial": "uniform", **settings}
    )


def moments(simulation: Simulation, functions: list[Callable[[np.ndarray], np.ndarray]]) -> list[tuple[float, float]]:
    """Mean of each function of the recorded parameter, after the first tenth, and its standard error over walkers."""
    w = simulation.history["position"][..., 0]
    each = [function(w[len(w) // 10 :]).mean(axis=0) for function in functions]
    return [(float(one.mean()), float(one.std(ddof=1) / len(one) ** 0.5)) for one in each]


@pytest.mark.slow
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("shape", ["quadratic", "linear"])
def test_a_wall_has_its_boltzmann_factor(shape: str, platform: str) -> None:
    """p(w) ~ exp(-V(w^2) / kT) with walls at w^2 = 0.1 and 0.6; 200 walkers, 1000 moves (native: 40 of 20 000)."""
    kT, strength, low, high = 0.7, 9.0, 0.1, 0.6
    walkers, moves = (40, 20_000) if platform == "native" else (200, 1000)
    walls = [
        Wall(LOSS, lower=low, strength=strength, shape=shape),
        Wall(cv.Loss("test"), upper=high, strength=strength, shape=shape),
    ]
    system = one_weight(test=(torch.ones(1, 1), torch.zeros(1, 1)))
    simulation = Simulation(
        system, MonteCarlo(0.5, kT=kT), bias=walls, walkers=walkers, seed=4, every=10, positions_every=10,
        precision="double", platform=platform,
    ).advance(moves)  # fmt: skip

    def weight(w: float) -> float:
        beyond = max(low - w * w, w * w - high, 0.0)
        return math.exp(-strength * (beyond**2 / 2 if shape == "quadratic" else beyond) / kT)

    norm = quad(weight, -1, 1, points=[0])[0]
    functions = [lambda w: w**2, lambda w: w**4, lambda w: (w**2 < low) * 1.0, lambda w: (w**2 > high) * 1.0]
    for function, (mean, error) in zip(functions, moments(simulation, functions), strict=True):
        points = sorted({s * math.sqrt(edge) for s in (-1, 1) for edge in (low, high)})
        exact = quad(lambda w, f=function: float(f(w)) * weight(w), -1, 1, points=points, limit=200)[0] / norm
        assert error < 0.01
        assert abs(mean - exact) < 5 * error


@pytest.mark.slow
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("beta", [0.0, 3.0])
def test_the_law_of_a_periodic_parameter(beta: float, platform: str) -> None:
    """p(w) ~ exp(-beta w^2) on the circle [-0.5, 1.5), with steps across the seam; 200 (native: 40) walkers."""
    walkers, moves = (40, 20_000) if platform == "native" else (200, 1000)
    box = Box(lower=-0.5, upper=1.5, kind="periodic")
    simulation = Simulation(
        one_weight(box=box, potential=LossPotential(beta)), MonteCarlo(MixedStep(0.2, 3.0)), walkers=walkers, seed=4,
        every=10, positions_every=10, precision="double", platform=platform,
    ).advance(moves)  # fmt: skip
    norm = quad(lambda w: math.exp(-beta * w * w), -0.5, 1.5)[0]
    functions: list[Callable] = [
        *(lambda w, m=m: np.cos(np.pi * m * (w + 0.5)) for m in (1, 2, 3)),
        *(lambda w, m=m: np.sin(np.pi * m * (w + 0.5)) for m in (1, 2, 3)),
        lambda w: (w > 1.3) * 1.0,
    ]
    w = simulation.history["position"]
    assert -0.5 <= w.min() < -0.49
    assert (1.4 if beta else 1.49) < w.max() <= 1.5
    for function, (mean, error) in zip(functions, moments(simulation, functions), strict=True):
        exact = quad(lambda w, f=function: float(f(w)) * math.exp(-beta * w * w), -0.5, 1.5, points=[1.3])[0] / norm
        assert error < 0.015
        assert abs(mean - exact) < 5 * error


def test_density_of_states_beside_a_wall_without_a_layers_bias() -> None:
    """L = w^2 with w uniform has S(ln L) = ln L / 2 + constant; a wall at ln L = -1 adds V_wall to it, with U = 0.

    Eight runs of 400 000 moves, the standard error from their spread; below the wall S alone is seen.
    """
    found = []
    grid = Grid(-6.0, 0.0, bins=24, kind="bins")
    for seed in range(8):
        bias = WangLandau(LN_LOSS, grid, RampHoldInverseTime(0.01, 0, 2e5))
        walls = [Wall(LN_LOSS, upper=-1.0, strength=8.0), bias]
        simulation = Simulation(one_weight(), MonteCarlo(MixedStep(0.02, 1.0)), bias=walls, seed=seed, every=10**9)
        assert isinstance(simulation.advance(400_000).platform, NativeMonteCarlo)
        found.append(bias.potential.numpy() - bias.potential.numpy().mean())
    s = np.linspace(-6, 0, 24 * 200 + 1)
    density = np.exp(s / 2 - 4 * np.maximum(s + 1, 0) ** 2)
    exact = np.log([np.trapezoid(density[i : i + 201], s[i : i + 201]) for i in range(0, 24 * 200, 200)])
    error = np.std(found, axis=0, ddof=1) / 8**0.5
    pooled = np.maximum(error, np.sqrt((error**2).mean()))
    assert error.max() < 0.15
    assert (np.abs(np.mean(found, axis=0) - (exact - exact.mean())) < 5 * pooled).all()


# ---------------------------------------------------------------------- a step that adapts does not vanish


@pytest.mark.slow
@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_tuned_step_stays_above_its_least_size(platform: str) -> None:
    """A walker far outside the grid is refused every move of a warm-up, which would shrink its step to nothing."""
    bias = WangLandau(LOSS, Grid(0.2, 0.3, bins=4, kind="bins"), RampHoldInverseTime(0.01, 0, 1e9))
    system = one_weight()
    system.initial_positions = lambda walkers, generator: torch.tensor([[0.5], [0.95]], dtype=torch.float64)  # type: ignore[method-assign]
    step = TunedStep(initial=1e-3, warmup=2000, largest=0.4)
    simulation = Simulation(
        system, MonteCarlo(step), bias=bias, walkers=2, platform=platform, precision="double", every=10**9
    ).advance(2000)
    sizes = simulation.state.integrator_state["step_size"]
    assert sizes[1].item() == pytest.approx(4e-7, rel=1e-9)
    assert 1e-3 < sizes[0].item() <= 0.4


# ---------------------------------------------------------------------- what native code does not take


class CountingUpdates(WangLandau):
    def update(self, s, step, mask=None):  # type: ignore[no-untyped-def]
        self.updates = getattr(self, "updates", 0) + 1
        return super().update(s, step, mask)


class OwnTrial(MonteCarlo):
    def _trial(self, state, force_field):  # type: ignore[no-untyped-def]
        return super()._trial(state, force_field)


class SteepWall(Wall):
    def energy(self, s, step):  # type: ignore[no-untyped-def]
        return 2 * super().energy(s, step)


class HalfPotential(LossPotential):
    def __call__(self, evaluation):  # type: ignore[no-untyped-def]
        return 0.5 * super().__call__(evaluation)


class Shifted(CrossEntropy):
    def __call__(self, outputs, targets):  # type: ignore[no-untyped-def]
        return super().__call__(outputs, targets) + 1


class OwnCV(SplitCV):
    kind = "own"

    def __call__(self, evaluation):  # type: ignore[no-untyped-def]
        return evaluation.loss(self.split)


class Doubled(cv.Loss):
    def __call__(self, evaluation):  # type: ignore[no-untyped-def]
        return 2 * super().__call__(evaluation)


class Confined(NeuralNetwork):
    def energy(self, evaluation):  # type: ignore[no-untyped-def]
        return evaluation.positions.square().sum(1).double()


class Halving(FixedStep):
    def sizes(self, state):  # type: ignore[no-untyped-def]
        return super().sizes(state) / 2


def own_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(outputs, targets)


def confined() -> NeuralNetwork:
    return Confined(mlp((3, 2)), data(), box=Box(1.0), initial="uniform")


def assigned() -> NeuralNetwork:
    system = network()
    system.energy = lambda evaluation: evaluation.positions[:, 0].double()  # type: ignore[method-assign]
    return system


def twice() -> WangLandau:
    return WangLandau([LOSS, LOSS], Grid((0, 0), (20, 20), bins=40), RampHoldInverseTime(0.1, 0, 1e9))


def grid() -> Grid:
    return Grid(-6.0, 4.0, bins=40)


LEFT: dict[str, tuple[Callable[[], Any], Callable[[], MonteCarlo], Callable[[], Any], str]] = {
    "a subclass of a bias": (
        network, MonteCarlo, lambda: CountingUpdates(LN_LOSS, grid(), RampHoldInverseTime(0.1, 0, 1e9)),
        "the bias 'wang_landau' (CountingUpdates) has an own method update",
    ),
    "a subclass of a wall": (network, MonteCarlo, lambda: SteepWall(LOSS, upper=1.0), "has an own method energy"),
    "another bias": (
        network, MonteCarlo, lambda: Metadynamics(LN_LOSS, grid(), 0.1, 0.5, 10),
        "the bias 'metadynamics' (Metadynamics) has no native code; native code knows walls and one bias",
    ),
    "a moving umbrella": (network, MonteCarlo, lambda: Umbrella(LOSS, 0.5, 10.0, velocity=1e-3), "(Umbrella) has no"),
    "Boltzmann on another CV": (network, MonteCarlo, lambda: Boltzmann(LN_LOSS, [1.0]), "on the train loss"),
    "two biases": (
        network, MonteCarlo, lambda: [Boltzmann(LOSS, [1.0]), Umbrella(LOSS, 0.5, 10.0)], "there are several biases",
    ),
    "one CV twice": (network, MonteCarlo, twice, "has one CV on two axes"),
    "a CV of the parameters": (network, MonteCarlo, lambda: Wall(cv.WeightNorm(), upper=2.0), "'weight_norm' has no"),
    "an own CV": (network, MonteCarlo, lambda: Wall(OwnCV("train"), upper=2.0), "the CV 'own_train' has no native"),
    "a sum with an own CV": (
        network, MonteCarlo, lambda: Wall(LOSS + OwnCV("train"), upper=2.0),
        "the CV 'own_train', a part of 'loss_train_plus_own_train', has no native code",
    ),
    "a function of CVs": (
        network, MonteCarlo, lambda: Wall(cv.Function(torch.exp, LOSS), upper=2.0), "'exp_of_loss_train' has no native"
    ),
    "a subclass of a CV": (network, MonteCarlo, lambda: Wall(Doubled(), upper=2.0), "has an own method __call__"),
    "a subclass of the integrator": (
        network, lambda: OwnTrial(0.1), lambda: (), "OwnTrial has an own method _trial, which native code would"
    ),
    "a subclass of a step": (network, lambda: MonteCarlo(Halving(0.1)), lambda: (), "the step size Halving has an own"),
    "moves of all": (network, lambda: MonteCarlo(0.1, move="all"), lambda: (), "only moves of one parameter"),
    "a schedule": (network, lambda: MonteCarlo(0.1, kT=LinearRamp(1.0, 0.1, steps=10)), lambda: (), "a schedule of kT"),
    "an own loss": (lambda: network(loss=own_loss), MonteCarlo, lambda: (), "the system is no dense network"),
    "a subclass of a loss": (lambda: network(loss=Shifted()), MonteCarlo, lambda: (), "a built-in loss and potential"),
    "a subclass of a potential": (
        lambda: network(potential=HalfPotential(1.0)), MonteCarlo, lambda: (), "a built-in loss and potential"
    ),
    "a subclass of the system": (confined, MonteCarlo, lambda: (), "the system Confined has an own method energy"),
    "an assigned method": (assigned, MonteCarlo, lambda: (), "the system NeuralNetwork has an own method energy"),
    "another system": (
        lambda: AnalyticSystem(2, Harmonic(), start=0.0), lambda: MonteCarlo(0.1), lambda: (), "system AnalyticSystem"
    ),
    "convolutions": (
        lambda: network(nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 2, 2), nn.Flatten(), nn.Linear(4, 2))),
        MonteCarlo, lambda: (), "the system is no dense network with one activation",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", LEFT)
def test_why_a_run_is_slow_is_said(name: str, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """In one line of the log, in the summary, in the record and by `nnsim info`; asked for by name, it is refused."""
    system, integrator, bias, reason = LEFT[name]
    caplog.set_level(logging.INFO, logger="nnsim")
    simulation = Simulation(system(), integrator(), bias=bias(), every=1)
    lines = [record.getMessage() for record in caplog.records if "platform" in record.getMessage()]
    assert len(lines) == 1
    assert re.match(r"\w+ runs on the reference platform, which can be hundreds of times slower .*\(native: ", lines[0])
    assert reason in lines[0]
    assert "\n" not in lines[0]
    assert simulation.platform_reason is not None
    assert simulation.platform_reason in lines[0]
    assert type(simulation.platform) is ReferencePlatform
    assert summary(simulation)["platform"] == f"reference ({simulation.platform_reason})"
    if name in ("a subclass of a bias", "moves of all"):
        simulation.run(3, output=tmp_path / "run.zarr", progress=False)
        assert Trajectory(tmp_path / "run.zarr").header["platform_reason"] == simulation.platform_reason
        assert f"reference ({simulation.platform_reason})" in nnsim("info", tmp_path / "run.zarr").out
        assert nnsim("report", tmp_path / "run.zarr", "-o", tmp_path / "report.html").status == 0
        assert reason.split("'")[-1] in (tmp_path / "report.html").read_text()
        again = Simulation(system(), integrator(), bias=bias(), every=1)
        again.run(6, output=tmp_path / "run.zarr", resume=True, progress=False)
        assert again.state.step == 6
    with pytest.raises(ValueError, match=r"^platform = 'native': .*; use platform='reference'$") as refused:
        Simulation(system(), integrator(), bias=bias(), platform="native")
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: Simulation(network(), MonteCarlo(0.1), walkers=3, threads=2),
            "native: compiled moves, threads=2 (the fastest)",
        ),
        (
            lambda: Simulation(network(), MonteCarlo(0.1), platform="reference", threads=1),
            "reference: steps in torch, threads=1 (as asked for)",
        ),
        (
            lambda: Simulation(network(), Langevin(dt=0.01, friction=1.0), threads=2),
            "native: compiled steps, threads=1 (the fastest)",
        ),
        (
            lambda: Simulation(AnalyticSystem(2, Harmonic(), start=0.0), Langevin(dt=0.01, friction=1.0), threads=1),
            "reference: steps in torch, threads=1 (the fastest)",
        ),
    ],
    ids=["native", "asked for", "dynamics", "analytic"],
)
def test_where_no_speed_is_lost_the_platform_is_said_with_the_progress(
    make: Callable[[], Simulation],
    said: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.INFO, logger="nnsim")
    simulation = make().run(3, output=tmp_path / "run.zarr", progress=False)
    assert simulation.platform_reason is None
    assert not [record for record in caplog.records if "platform" in record.getMessage()]
    assert summary(simulation)["platform"] == said
    simulation.run(6, output=tmp_path / "run.zarr", resume=True)
    assert capsys.readouterr().out.splitlines()[0] == said
    assert Trajectory(tmp_path / "run.zarr").header["platform_reason"] is None
    assert re.search(r"platform: +\w+\n", nnsim("info", tmp_path / "run.zarr").out)


def test_subclasses_that_change_nothing_there_run_natively() -> None:
    """Those that only describe themselves, start elsewhere or record something."""

    class Told(WangLandau):
        def __init__(self, note: str) -> None:
            super().__init__(LN_LOSS, grid(), RampHoldInverseTime(0.1, 0, 1e9))
            self.note = note

        def observables(self) -> dict[str, float]:
            return {**super().observables(), "notes": len(self.note)}

    class Elsewhere(NeuralNetwork):
        def initial_positions(self, walkers: int, generator: torch.Generator) -> torch.Tensor:
            return torch.zeros(walkers, self.size, dtype=torch.float64)

    class Named(MonteCarlo):
        """Nothing new."""

    system = Elsewhere(mlp((3, 2)), data(), box=Box(1.0))
    simulation = Simulation(system, Named(0.1), bias=Told("once"), every=10)
    assert isinstance(simulation.advance(20).platform, NativeMonteCarlo)
    assert simulation.history["wang_landau_notes"].tolist() == [4.0, 4.0]


def test_a_class_of_the_same_name_is_not_taken_for_the_built_in_one() -> None:
    theirs = type("MonteCarlo", (MonteCarlo,), {"_trial": lambda self, state, force_field: state.positions.clone()})
    simulation = Simulation(network(), theirs(0.1), walkers=2)
    before = simulation.state.positions.clone()
    assert torch.equal(simulation.advance(20).state.positions, before)


def test_a_run_begun_on_the_reference_platform_goes_on_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As those that an older version could not take to the native one, such as with a wall."""

    def build(platform: str) -> Simulation:
        return Simulation(network(), MonteCarlo(0.1), bias=Wall(LOSS, upper=1.0), every=5, seed=3, platform=platform)

    build("reference").run(20, output=tmp_path / "run.zarr", progress=False)
    caplog.set_level(logging.INFO, logger="nnsim")
    resumed = build("auto").run(40, output=tmp_path / "run.zarr", resume=True, progress=False)
    assert type(resumed.platform) is ReferencePlatform
    assert "native: the run so far is not from there" in caplog.text
    assert torch.equal(resumed.state.positions, build("reference").advance(40).state.positions)
    with pytest.raises(ValueError, match="platform: reference -> native"):
        build("native").run(60, output=tmp_path / "run.zarr", resume=True, progress=False)


def test_the_command_line_shows_the_line(tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(
        "import nnsim\nfrom nnsim.integrators import MonteCarlo\nfrom nnsim.systems import spiral_classification\n"
        "def build():\n"
        "    return nnsim.Simulation(spiral_classification(hidden=(3,)), MonteCarlo(0.1, move='all'), steps=5)\n"
    )
    done = nnsim("run", script, "-o", tmp_path / "slow.zarr")
    assert done.status == 0
    assert "only moves of one parameter have native code" in done.out


def test_a_bias_of_ones_own_without_anything_native() -> None:
    class Own(Bias):
        name, cvs = "own", (LOSS,)

        def energy(self, s, step):  # type: ignore[no-untyped-def]
            return s[:, 0]

    simulation = Simulation(spiral_classification(hidden=(3,)), MonteCarlo(0.1), bias=Own())
    assert simulation.platform_reason == (
        "native: the bias 'own' (Own) has no native code; native code knows walls and one bias: WangLandau, OPES, an "
        "Umbrella at rest, or Boltzmann or ReplicaExchange on the train loss"
    )
