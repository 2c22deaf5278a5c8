"""CVs that are made of others by arithmetic, compiled, against the reference platform and against plain autograd."""

from __future__ import annotations

import pytest
import torch
from test_native_dynamics import assert_same, both, classifier

import nnsim
from nnsim import Grid, cv
from nnsim.bias import Metadynamics, Umbrella, Wall, WangLandau
from nnsim.cv.loss import LogLoss
from nnsim.integrators import HybridMonteCarlo, Langevin
from nnsim.schedules import InverseTime
from nnsim.systems.potentials import GaussianPrior, LossPotential

TRAIN, TEST = cv.Loss("train"), cv.Loss("test")
ACCURACY = cv.SmoothedAccuracy("test", slope=3.0)
LOGIT = cv.SmoothedAccuracy("train", coordinate="logit", scale=2.0)
GAP = cv.LogLoss("test") - cv.LogLoss("train")

# What is made of L (train, test), A and the logit, and the same as plain arithmetic of tensors.
COMBINED = {
    "difference": (GAP, lambda train, test, a, b: test.log() - train.log()),
    "negative": (-TRAIN, lambda train, test, a, b: -train),
    "numbers": (2 * TEST - TRAIN / 3 + 1, lambda train, test, a, b: 2 * test - train / 3 + 1),
    "product": (TRAIN * ACCURACY, lambda train, test, a, b: train * a),
    "square": (TRAIN * TRAIN, lambda train, test, a, b: train**2),
    "quotient": (TEST / TRAIN, lambda train, test, a, b: test / train),
    "reciprocal": (1 / (1 + TRAIN), lambda train, test, a, b: 1 / (1 + train)),
    "powers": (TEST**3 + ACCURACY**-1.5, lambda train, test, a, b: test**3 + a**-1.5),
    "power 0": (TEST + TRAIN**0, lambda train, test, a, b: test + 1),
    "deep": (
        ((GAP**2 + LOGIT) * (TRAIN - GAP)) / (2 - ACCURACY),
        lambda train, test, a, b: ((test.log() - train.log()) ** 2 + b) * (train - test.log() + train.log()) / (2 - a),
    ),
}


def plain(simulation, formula):
    """The formula and its gradient at the positions of a simulation, in double precision by torch alone."""
    q = simulation.state.positions.detach().clone().requires_grad_()
    evaluation = nnsim.Evaluation(simulation.system, q)
    train, test = evaluation.loss("train"), evaluation.loss("test")
    values = formula(train, test, ACCURACY(evaluation), LOGIT(evaluation))
    (gradient,) = torch.autograd.grad(values.sum(), q)
    return values.detach(), gradient


@pytest.mark.parametrize("name", COMBINED)
def test_values_and_forces_are_those_of_the_formula(name):
    combined, formula = COMBINED[name]
    for platform in ("reference", "native"):
        spring = Umbrella(combined, 0.3, 2.0)
        simulation = nnsim.Simulation(
            classifier(), Langevin(0.002, 1.0), bias=spring, walkers=3, precision="double", platform=platform
        )
        simulation.advance(2)
        values, gradient = plain(simulation, formula)
        forces = -2.0 * (values - 0.3)[:, None] * gradient
        torch.testing.assert_close(simulation.state.cvs[:, 0], values, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(simulation.state.forces, forces, rtol=1e-12, atol=1e-12)


def several():
    """Two grids, a wall and a spring, on CVs some of which are parts of others."""
    ratio = (TEST / TRAIN).named("ratio")
    return [
        WangLandau([GAP, ACCURACY], Grid((-2, 0), (2, 1), 40), InverseTime(0.5, 1e3), kernel=(0.2, 0.05)),
        Metadynamics([ratio, GAP * ratio], Grid((0, -4), (4, 4), 40), height=0.3, sigma=(0.2, 0.4), pace=7),
        Wall(-GAP, upper=0.1, strength=20.0),
        Umbrella(GAP**2 + LOGIT, 1.0, 3.0),
    ]


RUNS = {
    "wang_landau": (
        Langevin(0.004, 1.0),
        lambda: WangLandau(GAP, Grid(-2, 2, spacing=0.1), InverseTime(0.5, 1e3), kernel=0.2),
    ),
    "metadynamics": (
        Langevin(0.004, 1.0),
        lambda: Metadynamics(GAP, Grid(-2, 2, 40), height=0.3, sigma=0.2, pace=7, bias_factor=5.0),
    ),
    "several": (Langevin(0.002, 1.0), several),
    "hybrid": (HybridMonteCarlo(0.004, steps=3, refreshment=0.7), several),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_thousand_steps(name):
    integrator, bias = RUNS[name]
    system = classifier(LossPotential(5.0) + GaussianPrior(1.0))
    reference, native = both(system, integrator, 1000, bias=bias)
    assert_same(reference, native)


def test_what_is_recorded_is_computed_natively():
    """The same series from both platforms, some of them of CVs that no bias acts on."""
    observed = [GAP, (TRAIN * cv.Accuracy("test")).named("product"), cv.Accuracy("test") / 2, TRAIN]
    histories = []
    for platform in ("reference", "native"):
        simulation = nnsim.Simulation(
            classifier(LossPotential(20.0)), Langevin(0.004, 1.0), observe=observed, walkers=3, seed=2, every=10,
            precision="double", platform=platform,
        )  # fmt: skip
        if platform == "native":
            assert [one.name for one in simulation.platform.filmed(observed)] == [one.name for one in observed]
        histories.append(simulation.run(100, progress=False).history)
    for one in observed:
        assert abs(histories[0][one.name] - histories[1][one.name]).max() < 1e-10
    assert abs(histories[1]["product"]).max() > 0.1


class Doubled(LogLoss):
    def __call__(self, evaluation):
        return 2 * super().__call__(evaluation)


OBSTACLES = {
    "an own method of a part": (
        GAP * Doubled("train"),
        "the CV 'ln_loss_train', a part of '(ln_loss_test_minus_ln_loss_train)_times_ln_loss_train', has an own method "
        "__call__",
    ),
    "a part of the parameters": (
        1 + cv.WeightNorm(),
        "the CV 'weight_norm', a part of '1_plus_weight_norm', has no native code",
    ),
    "a function": (cv.Function(torch.exp, GAP, name="ratio"), "the CV 'ratio' has no native code"),
    "a function as a part": (
        2 * cv.Function(torch.exp, GAP, name="ratio"),
        "the CV 'ratio', a part of '2_times_ratio', has no native code",
    ),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_what_is_not_native_says_which_part(name):
    combined, reason = OBSTACLES[name]
    simulation = nnsim.Simulation(classifier(), Langevin(0.002, 1.0), bias=Umbrella(combined, 0.3, 2.0))
    assert simulation.platform.name == "reference"
    assert reason in simulation.platform_reason


def test_what_becomes_infinite_is_told_at_its_step():
    """A power overflows at the positions of one walker: native code says so as the reference does."""
    said = []
    for platform in ("reference", "native"):
        simulation = nnsim.Simulation(
            classifier(box=nnsim.Box(kind="open")), Langevin(1e-6, 1.0), walkers=3, platform=platform, threads=1,
            precision="double", bias=Umbrella((TRAIN / 5) ** 1000, 0.0, 1e-3),
        )  # fmt: skip
        simulation.advance(3)
        simulation.state.positions[1] *= 100
        with pytest.raises(nnsim.DivergedError, match=r"step 4: cvs of walker 1 became NaN or infinite") as caught:
            simulation.advance(5)
        said.append(str(caught.value))
    assert said[0] == said[1]
