"""Compiled dynamics against the reference platform, with the same random numbers."""

from __future__ import annotations

import pytest
import torch
from conftest import statistics_scale
from torch import nn

import nnsim
from nnsim import Box, Grid, cv
from nnsim.bias import OPES, Boltzmann, Metadynamics, ReplicaExchange, Umbrella, Wall, WangLandau
from nnsim.integrators import (
    Adam,
    Brownian,
    GradientDescent,
    HybridMonteCarlo,
    Langevin,
    NoseHoover,
    StepDecay,
    VelocityVerlet,
)
from nnsim.schedules import ExponentialRamp, FlatnessHalving, InverseTime
from nnsim.systems import NeuralNetwork
from nnsim.systems.potentials import GaussianPrior, LossPotential

LN_LOSS, ACCURACY = cv.LogLoss("train"), cv.SmoothedAccuracy("test", coordinate="logit")
TRAIN, TEST = cv.Loss("train"), cv.Loss("test")


def classifier(potential=None, loss="cross_entropy", box=None, activation=nn.Tanh) -> NeuralNetwork:
    generator = torch.Generator().manual_seed(3)
    x, x_test = torch.randn(23, 3, generator=generator), torch.randn(11, 3, generator=generator)
    y, y_test = (torch.randint(0, 3, (len(one),), generator=generator) for one in (x, x_test))
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(3, 8), activation(), nn.Linear(8, 5), nn.SiLU(), nn.Linear(5, 3))
    return NeuralNetwork(
        module, (x, y), (x_test, y_test), potential=potential, loss=loss, box=box or Box(2.0), initial="normal",
        initial_scale=0.5,
    )  # fmt: skip


LENGTH = round(1000 * statistics_scale(0.7))  # steps


def both(system, integrator, steps=LENGTH, walkers=3, precision="double", **settings):
    """The simulation on both platforms, after so many steps; `bias` is a function that makes new ones."""
    found = []
    make = settings.pop("bias", lambda: [])
    for platform in ("reference", "native"):
        simulation = nnsim.Simulation(
            system, integrator, bias=make(), walkers=walkers, seed=5, every=10**6, precision=precision, threads=1,
            platform=platform, **settings,
        )  # fmt: skip
        found.append(simulation.advance(steps))
    return found


def assert_same(reference, native, tolerance=1e-10):
    one, other = reference.state_dict(), native.state_dict()
    assert one["state"]["step"] == other["state"]["step"]
    assert one["state"]["draws"] == other["state"]["draws"]  # what is drawn next is the same
    for name, value in _tensors({"state": one["state"], "bias": one["bias"]}).items():
        found = _tensors({"state": other["state"], "bias": other["bias"]})[name]
        assert (found.dtype, found.shape) == (value.dtype, value.shape), name
        scale = 1 + float(value.abs().max()) if value.numel() else 1.0
        assert float((value.double() - found.double()).abs().max() if value.numel() else 0) <= tolerance * scale, name


def _tensors(tree, path=""):
    found = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= _tensors(value, f"{path}/{key}")
        elif isinstance(value, torch.Tensor) and key not in ("generator",):
            found[f"{path}/{key}"] = value
        elif isinstance(value, (int, float)):
            found[f"{path}/{key}"] = torch.tensor(value, dtype=torch.float64)
    return found


def wang_landau():
    return [
        WangLandau([LN_LOSS, ACCURACY], Grid((-4, -10), (3, 10), spacing=0.1), InverseTime(0.5, 1e3), kernel=0.2),
        Wall(LN_LOSS, upper=0.5, strength=50.0),
    ]


# The time steps are so short that the motion of 1000 steps is not yet chaotic, and differences are those of rounding.
INTEGRATORS = {
    **{f"langevin_{s}": Langevin(0.004, 1.0, splitting=s) for s in ("BAOAB", "OBABO", "BAOA", "BOA", "ABOBA", "OBAB")},
    "langevin_newton": Langevin(0.004, 0.0, splitting="BAB"),
    "verlet": VelocityVerlet(0.004),
    "brownian": Brownian(0.004, 2.0),
    "euler": Brownian(0.004, 2.0, scheme="euler-maruyama"),
    "nose_hoover": NoseHoover(0.004, 1.0),
    "nose_hoover_massive": NoseHoover(0.004, 1.0, chain=2, massive=True, substeps=2),
    "hybrid": HybridMonteCarlo(0.004, steps=3, refreshment=0.7),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", INTEGRATORS)
def test_integrators(name):
    system = classifier(LossPotential(20.0) + GaussianPrior(1.0))
    assert_same(*both(system, INTEGRATORS[name], steps=LENGTH if "massive" not in name else 300))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["langevin_BAOAB", "verlet", "brownian", "nose_hoover", "hybrid"])
def test_learning_bias(name):
    assert_same(*both(classifier(), INTEGRATORS[name], steps=400, bias=wang_landau))


@pytest.mark.slow
def test_masses_schedule_and_periodic_box():
    masses = torch.linspace(0.5, 2.0, 95, dtype=torch.float64)
    integrator = Langevin(0.004, 1.0, ExponentialRamp(2.0, 0.5, steps=500), masses=masses)
    system = classifier(LossPotential(20.0), box=Box(1.0, kind="periodic"))
    with pytest.warns(nnsim.NNSimWarning, match="jumps"):
        assert_same(*both(system, integrator))


BIASES = {
    "flatness": lambda: WangLandau(LN_LOSS, Grid(-4, 3, 70), FlatnessHalving(0.5, check_every=50), kernel=0.2),
    "hills": lambda: Metadynamics(LN_LOSS, Grid(-4, 3, 70), height=0.3, sigma=0.2, pace=7),
    "tempered": lambda: Metadynamics(
        [TRAIN, TEST], Grid((0, 0), (4, 4), (40, 40)), height=0.3, sigma=0.3, pace=5, bias_factor=5.0
    ),
    "two_grids": lambda: [
        Metadynamics(LN_LOSS, Grid(-4, 3, 70), height=0.3, sigma=0.2, pace=7),
        WangLandau(ACCURACY, Grid(-10, 10, 100), InverseTime(0.5, 1e3), kernel=0.4),
    ],
    "kernels": lambda: OPES(LN_LOSS, 12.0, pace=7),
    "kernels_of_two": lambda: [
        OPES([TEST, ACCURACY], 12.0, pace=5, sigma=(0.3, 0.5), explore=True, name="wide"),
        OPES(TRAIN, 8.0, pace=12, sigma=0.1, bias_factor=float("inf")),
        Metadynamics(LN_LOSS, Grid(-4, 3, 70), height=0.3, sigma=0.2, pace=7),
    ],
    "umbrella": lambda: Umbrella([LN_LOSS, ACCURACY], [[-1.0, 1.0], [0.0, 0.0], [0.5, -1.0]], 30.0),
    "steered": lambda: Umbrella(LN_LOSS, 0.0, 30.0, velocity=-2e-3, until=600),
    "boltzmann": lambda: Boltzmann(TEST, [1.0, 10.0, 30.0], ramp=300),
    "exchange": lambda: ReplicaExchange(TRAIN, [1.0, 5.0, 30.0], every=20),
    "exchange_beside_others": lambda: [
        ReplicaExchange(TRAIN, [1.0, 5.0, 30.0], every=20),
        ReplicaExchange(TEST, [0.0, 1.0, 2.0], every=30, name="second"),
        WangLandau(LN_LOSS, Grid(-4, 3, 70), FlatnessHalving(0.1, check_every=50), kernel=0.2),
        Umbrella(TEST, 1.0, 1.0, velocity=1e-3, until=600),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BIASES)
def test_biases(name):
    steps = 400 if name == "kernels_of_two" else 1000  # paths under many narrow kernels drift apart by rounding
    assert_same(*both(classifier(), Langevin(0.002, 1.0), steps, bias=BIASES[name]))


TRAINING = {
    "descent": GradientDescent(0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "batches": GradientDescent(0.1, momentum=0.5, batch_size=5, schedule=StepDecay(every=100, factor=0.5)),
    "adam": Adam(0.01),
    "adam_batches": Adam(0.01, batch_size=8, confine=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINING)
@pytest.mark.parametrize("potential", [None, LossPotential(3.0)], ids=["flat", "potential"])
def test_training(name, potential):
    assert_same(*both(classifier(potential), TRAINING[name], steps=500), tolerance=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("integrator", [Langevin(0.01, 1.0, batch_size=5), Brownian(0.01, 1.0, batch_size=23)])
def test_mini_batches_of_dynamics(integrator):
    assert_same(*both(classifier(LossPotential(20.0) + GaussianPrior(1.0)), integrator))


def of_several_cvs():
    """A bias of two CVs and a well-tempered one of three: threads deposit in parts of their tables."""
    accuracy = cv.SmoothedAccuracy("train", slope=5.0, coordinate="logit")
    three = [LN_LOSS, cv.LogLoss("test"), accuracy]
    return [
        WangLandau(three[:2], Grid((-4, -4), (3, 3), 40), InverseTime(0.5, 1e3), kernel=(0.4, 0.7)),
        Metadynamics(three, Grid((-4, -4, -9), (3, 3, 9), 20), height=0.3, sigma=(0.5, 0.5, 1), pace=3, bias_factor=5),
    ]


@pytest.mark.parametrize("bias", [wang_landau, of_several_cvs])
def test_neither_threads_nor_cuts_change_a_bit(bias):
    runs = []
    for threads, cuts in ((1, [300]), (2, [300]), (3, [1, 7, 100, 192])):
        simulation = nnsim.Simulation(
            classifier(), Langevin(0.02, 1.0), bias=bias(), walkers=5, threads=threads, platform="native"
        )
        for steps in cuts:
            simulation.advance(steps)
        runs.append(_tensors({"state": simulation.state.state_dict(), "bias": simulation.state_dict()["bias"]}))
    for other in runs[1:]:
        for name, value in runs[0].items():
            assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("precision", ["single", "mixed"])
def test_single_precision_stays_near(precision):
    reference, native = both(classifier(), Langevin(0.02, 1.0), steps=5, bias=wang_landau, precision=precision)
    assert_same(reference, native, tolerance=2e-5)


WHAT_MOVES = {
    **dict.fromkeys(("langevin_BAOAB", "langevin_BOA", "langevin_newton", "nose_hoover"), ("velocities",)),
    "brownian": (),
}


@pytest.mark.parametrize(
    ("name", "quantity"), [(name, one) for name, more in WHAT_MOVES.items() for one in ("positions", "forces", *more)]
)
def test_what_is_not_finite_is_told_at_its_step(name, quantity):
    """Also if it is one of many numbers and the loss does not feel it yet."""
    simulation = nnsim.Simulation(
        classifier(LossPotential(20.0), box=Box(kind="open")),
        INTEGRATORS[name],
        walkers=3,
        platform="native",
        threads=1,
    )
    simulation.advance(5)
    getattr(simulation.state, quantity)[1, -1] = float("inf")
    with pytest.raises(nnsim.DivergedError, match=r"step 6: .* of walker 1 became"):
        simulation.advance(100)
