"""Runs along the entropy of the tangent kernel: resumed to the bit, of conserved energy, with the right distribution.

2-4-2 networks with tanh on ten points of a noisy XOR.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import arrays_of
from conftest import statistics_scale
from numpy.typing import NDArray
from torch import nn
from torch.func import functional_call

from nnsim import Box, DivergedError, Grid, InputError, Simulation, Trajectory, cv
from nnsim.analysis import frame_weights
from nnsim.bias import Metadynamics, Umbrella, Wall, WangLandau
from nnsim.cv import ntk
from nnsim.integrators import GradientDescent, HybridMonteCarlo, Langevin, MonteCarlo, VelocityVerlet
from nnsim.platforms.native import NativeMonteCarlo
from nnsim.precision import Precision
from nnsim.running.checkpoint import load_checkpoint
from nnsim.schedules import InverseTime
from nnsim.systems import GaussianPrior, LossPotential, NeuralNetwork

POINTS = 10
ENTROPY = cv.NTKEntropy("train")
NAME = ENTROPY.name


def points() -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy corners of a square, whose opposite ones are of one class."""
    generator = torch.Generator().manual_seed(2)
    corners = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]]).repeat(3, 1)[:POINTS]
    labels = torch.tensor([0, 0, 1, 1]).repeat(3)[:POINTS]
    return corners + 0.3 * torch.randn(POINTS, 2, generator=generator), labels


def module() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))


def network(**settings: object) -> NeuralNetwork:
    """U = 5 L + sum q^2 / 2, from independent normal starts."""
    x, y = points()
    chosen = {"potential": LossPotential(5.0) + GaussianPrior(1.0), "initial": "normal", **settings}
    return NeuralNetwork(module(), (x, y), (x + 0.1, y), **chosen)


def hills(pace: int = 6, height: float = 0.05, **settings: object) -> Metadynamics:
    grid = Grid(0.0, 2.4, spacing=0.04)  # ln 10 = 2.30
    return Metadynamics(ENTROPY, grid, height=height, sigma=0.1, pace=pace, **settings)


# -------------------------------------------------------------------------------------------------------------- resume


def stepped(path: Path | None, steps: int, *, resume: bool = False) -> Simulation:
    """Metadynamics whose kernel is computed every third step, with a wall on the loss at every one."""
    simulation = Simulation(
        network(), Langevin(0.02, 2.0), bias=[(hills(bias_factor=4.0), 3), Wall(cv.LogLoss("train"), upper=0.0)],
        observe=[(cv.NTKTrace("train"), 4), (cv.NTKSpectrum("test", points=5, subsamples=2), 6), cv.LossDerivative()],
        walkers=3, seed=5, every=9, positions_every=7, snapshot_every=12, checkpoint_every=25,
    )  # fmt: skip
    return simulation.run(steps, output=path, resume=resume, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [25, 62])
def test_metadynamics_with_multiple_time_steps_resumes_to_the_bit(tmp_path: Path, stop: int) -> None:
    """Stopped between two kernels: 25 and 62 are no multiples of 3."""
    stepped(tmp_path / "whole.zarr", 130)
    stepped(tmp_path / "halves.zarr", stop)
    stepped(tmp_path / "halves.zarr", 130, resume=True)
    assert arrays_of(tmp_path / "halves.zarr") == arrays_of(tmp_path / "whole.zarr")
    one, other = (load_checkpoint(tmp_path / f"{name}.checkpoint.npz")["simulation"] for name in ("halves", "whole"))
    assert str(one) == str(other)
    assert torch.equal(torch.as_tensor(one["state"]["positions"]), torch.as_tensor(other["state"]["positions"]))
    biases = (torch.as_tensor(saved["bias"]["metadynamics"]["potential"]) for saved in (one, other))
    assert torch.equal(*biases)
    assert Trajectory(tmp_path / "whole.zarr")[NAME][:].std() > 0.01


# -------------------------------------------------------------------------------------------------------------- energy


def frozen() -> Metadynamics:
    """Hills along the whole range of the entropy, that grow no more."""
    bias = hills(pace=4, height=1.0)
    for place in (0.5, 0.8, 1.1, 1.3, 1.5, 1.6, 1.9):
        bias.update(torch.tensor([[place]], dtype=torch.float64), 4)
    bias.frozen = True
    return bias


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 4])
def test_a_frozen_bias_conserves_energy_to_second_order(k: int) -> None:
    """For 0.8 time units, at the multiples of 4 steps: rms over 4 walkers and 10 frames, at four time steps."""
    steps, errors = np.array([0.02, 0.01, 0.005, 0.0025]), []
    for dt in steps:
        run = Simulation(
            network(initial_scale=0.7), VelocityVerlet(dt), bias=(frozen(), k), walkers=4, seed=4, every=4,
            precision="double", record_start=True,
        ).advance(round(0.8 / dt))  # fmt: skip
        history, size = run.history, run.state.positions.shape[1]
        energy = history["potential_energy"] + history["bias_energy"] + size / 2 * history["kinetic_temperature"]
        assert np.ptp(history["bias_energy"], axis=0).max() > 0.1  # the bias took part
        change = energy[1:] - energy[0]
        errors.append(np.sqrt(np.mean(change[:: len(change) // 10] ** 2)))
    assert 1.9 < np.polyfit(np.log(steps), np.log(errors), 1)[0] < 2.1
    assert errors[-1] > 1e-9  # truncation, not rounding


# ------------------------------------------------------------------------------------------------------- other methods


def entropies(positions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Entropy of the kernel at positions [W, n]."""
    return ntk.entropy(ntk.kernel(module(), points()[0], positions=torch.from_numpy(positions))).numpy()


METHODS: dict[str, Callable[[], Simulation]] = {
    "Monte Carlo": lambda: Simulation(
        network(), MonteCarlo(0.3), bias=Umbrella(ENTROPY, 1.5, 20.0), walkers=3, every=10, positions_every=10
    ),
    "hybrid Monte Carlo": lambda: Simulation(
        network(), HybridMonteCarlo(0.1, 5), bias=Umbrella(ENTROPY, 1.5, 20.0), walkers=3, every=10, positions_every=10
    ),
    "Wang-Landau": lambda: Simulation(
        network(potential=None, box=Box(3.0), initial_scale=0.5), Langevin(0.05, 1.0), walkers=3, every=10,
        bias=WangLandau(
            [cv.LogLoss("train"), ENTROPY], Grid((-4.0, 0.0), (2.0, 2.4), spacing=(0.1, 0.1)), InverseTime(0.01, 1e3),
            kernel=(0.2, 0.2),
        ),
        positions_every=10,
    ),
    "training on mini-batches": lambda: Simulation(
        network(), GradientDescent(0.1, batch_size=4), observe=[ENTROPY], walkers=3, every=10, positions_every=10
    ),
}  # fmt: skip


@pytest.mark.parametrize("build", METHODS.values(), ids=METHODS.keys())
def test_the_record_is_the_entropy_of_the_recorded_positions(build: Callable[[], Simulation]) -> None:
    """Of each of three walkers, and no platform without kernels takes the run."""
    run = build().advance(30)
    assert not isinstance(run.platform, NativeMonteCarlo)
    assert np.ptp(run.history[NAME][-1]) > 1e-3
    np.testing.assert_allclose(run.history[NAME][-1], entropies(run.history["position"][-1]), rtol=1e-5)


def test_a_diverged_run_names_the_step() -> None:
    """Not an error of LAPACK's, with every measure of the kernel recorded at every step."""
    observed = [
        kind("train")
        for kind in (cv.NTKEntropy, cv.NTKSpectrum, cv.NTKCovarianceEntropy, cv.NTKMagnitudeEntropy, cv.NTKTrace)
    ]
    relu = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))  # which lets numbers grow
    system = NeuralNetwork(relu, points(), initial="normal")
    run = Simulation(
        system, VelocityVerlet(1e18), bias=hills(pace=1, height=1.0), observe=observed, walkers=2, every=1
    )  # fmt: skip
    with pytest.raises(DivergedError, match=r"step \d+: .* of walker"):
        run.advance(50)


def tripled(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda _, inputs, output: 3 * output)
    return layer


def with_one_activation() -> nn.Module:
    tanh = nn.Tanh()
    return nn.Sequential(nn.Linear(2, 4), tanh, nn.Linear(4, 4), tanh, nn.Linear(4, 2))


@pytest.mark.parametrize("build", [with_one_activation, lambda: tripled(module())], ids=["one activation", "hook"])
def test_networks_that_only_look_dense(build: Callable[[], nn.Module]) -> None:
    """One activation at two places, or a hook on the whole: outputs and kernel are those of the module itself."""
    net, (x, y) = build().double(), points()
    system = NeuralNetwork(net, (x, y))
    system.prepare(Precision.named("double"), torch.device("cpu"))
    start = system.initial_positions(2, torch.Generator())
    torch.testing.assert_close(system.forward(start, ("train",))["train"][1], net(x.double()))
    named = dict(net.named_parameters())
    rows = torch.func.jacrev(lambda p: functional_call(net, p, (x.double(),)))(named)
    jacobian = torch.cat([row.flatten(2) for row in rows.values()], dim=2)
    expected = torch.einsum("iop,jop->ij", jacobian, jacobian) / 2
    torch.testing.assert_close(ntk.kernel(net, x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory", [1.5e3, 3e3, None])
def test_the_kernel_of_one_linear_layer_for_walkers_a_few_at_a_time(memory: float | None) -> None:
    layer, x = nn.Sequential(nn.Linear(3, 2)).double(), torch.randn(4, 3, dtype=torch.float64)
    found = ntk.kernel(layer, x, positions=torch.zeros(5, 8, dtype=torch.float64), max_memory=memory)
    torch.testing.assert_close(found, (x @ x.T + 1).expand(5, -1, -1))


def test_the_entropy_refuses_a_second_derivative() -> None:
    q = torch.randn(1, 22, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    entropy = ntk.entropy(ntk.kernel(module().double(), points()[0], positions=q))
    (slope,) = torch.autograd.grad(entropy.sum(), q, create_graph=True)
    with pytest.raises(InputError, match="once, not twice"):
        slope.square().sum().backward()


# -------------------------------------------------------------------------------------------------------- distribution

EDGES = np.array([0.8, 0.95, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.4])
RUNS = 8
Floats = NDArray[np.float64]


def shares(entropy: Floats, weights: Floats) -> Floats:
    """Weight of the frames in each bin, of all."""
    return np.histogram(entropy, EDGES, weights=weights)[0] / weights.sum()


@cache
def unbiased() -> tuple[Floats, Floats]:
    """Share of each bin with its error, from 64 independent walkers of compiled Monte Carlo, 1e5 moves each in full."""
    moves = round(100_000 * statistics_scale())
    run = Simulation(
        network(box=Box(3.0)), MonteCarlo(0.5), observe=[ENTROPY], walkers=64, seed=1, every=200, threads=1
    ).advance(moves)  # fmt: skip
    assert isinstance(run.platform, NativeMonteCarlo)
    frames = run.history[NAME][len(run.history[NAME]) // 10 :]
    found = np.array([shares(one, np.ones(len(one))) for one in frames.T])
    return found.mean(0), found.std(0, ddof=1) / np.sqrt(len(found))


def reweighted(folder: Path) -> tuple[Floats, Floats]:
    """The same from 8 independent runs of metadynamics, each of 32 walkers and 2400 steps of 0.1 in full.

    Also the shares without weights. The autocorrelation of the entropy falls to 0.1 within 40 steps.
    """
    steps, found = round(2400 * statistics_scale()), []
    for seed in range(RUNS):
        path = folder / f"{seed}.zarr"
        Simulation(
            network(box=Box(3.0)), Langevin(0.1, 1.0), bias=hills(pace=20, height=0.05, bias_factor=4.0), walkers=32,
            seed=seed, every=20, positions_every=0, threads=1,
        ).run(steps, output=path, progress=False)  # fmt: skip
        weights = frame_weights(path, since=0.3, blocks=2)
        frames = weights.values(NAME)
        w = np.exp(weights.log_weights - weights.log_weights.max())
        found.append((shares(frames, w), shares(frames, np.ones_like(w))))
    return np.array([one for one, _ in found]), np.array([one for _, one in found])


@pytest.mark.slow
def test_metadynamics_along_the_entropy_recovers_its_distribution(tmp_path: Path) -> None:
    """Bins of 0.05 to 0.15 nats: Welch's t of 8 runs against 64 walkers below 5; seeds are fixed."""
    expected, error = unbiased()
    weighted, plain = reweighted(tmp_path)
    assert expected.min() > 0.005
    assert expected.sum() > 0.9
    assert error.max() < 0.02
    own = weighted.std(0, ddof=1) / np.sqrt(RUNS)
    assert own.max() < 0.02
    t = (weighted.mean(0) - expected) / np.hypot(own, error)
    print(f"shares {expected.round(3)}, errors {own.round(4)} and {error.round(4)}, t {t.round(1)}")
    assert np.abs(t).max() < 5
    biased = (plain.mean(0) - expected) / np.hypot(plain.std(0, ddof=1) / np.sqrt(RUNS), error)
    assert np.abs(biased).max() > 10  # without the weights it is another distribution
