"""Monte Carlo, in torch and compiled, against exact answers."""

import itertools

import numpy as np
import pytest
import torch
from conftest import statistics_scale
from torch import nn

from nnsim import Box, Grid, InputError, Lattice, Simulation, Trajectory, cv
from nnsim.bias import Wall, WangLandau
from nnsim.integrators import Acceptance, FixedStep, Langevin, MixedStep, MonteCarlo, TunedStep
from nnsim.integrators.monte_carlo import StepSize
from nnsim.platforms import ReferencePlatform
from nnsim.platforms.native import NativeMonteCarlo
from nnsim.precision import Precision
from nnsim.schedules import InverseTime, RampHoldInverseTime
from nnsim.systems import GaussianPrior, LossPotential, NeuralNetwork
from nnsim.systems.modules import mlp

PLATFORMS = ("reference", "native")


def points(n: int, width: int, seed: int) -> torch.Tensor:
    """Multiples of 1/8: sums of them with weights of +-1 are exact, so a tie of two outputs is a tie everywhere."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-8, 9, (n, width)) / 8)


def labels(n: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 2, n))


# ---------------------------------------------------------------------- networks on a lattice


def binary_network(sizes: tuple[int, ...], count: int) -> NeuralNetwork:
    train, test = (points(count, sizes[0], 1), labels(count, 2)), (points(count, sizes[0], 3), labels(count, 4))
    return NeuralNetwork(mlp(sizes), train, test, box=Lattice([-1, 1]), initial="uniform")


def states_by_errors(system: NeuralNetwork, count: int) -> np.ndarray:
    """Number of states with each number of right answers on train and test, [count + 1, count + 1]."""
    system.prepare(Precision.named("double"), torch.device("cpu"))
    found = np.zeros((count + 1, count + 1))
    states = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=system.size)), dtype=torch.float64)
    for block in states.split(8192):
        outputs = system.forward(block, ("train", "test"))
        right = []
        for split in ("train", "test"):
            margin = (outputs[split][..., 1] - outputs[split][..., 0]) * (2 * system.targets(split) - 1)
            right.append((margin > 0).sum(1).numpy())
        np.add.at(found, tuple(right), 1)
    return found


def sampled_entropy(
    system: NeuralNetwork, count: int, platform: str, seed: int, moves: int, walkers: int
) -> np.ndarray:
    half = 0.5 / count
    grid = Grid((-half, -half), (1 + half, 1 + half), bins=count + 1, kind="bins")
    bias = WangLandau([cv.Accuracy("train"), cv.Accuracy("test")], grid, InverseTime(0.05, 2 * grid.shape[0] ** 2))
    simulation = Simulation(
        system, MonteCarlo(), bias=bias, walkers=walkers, seed=seed, platform=platform, precision="double", every=10**9
    )
    simulation.advance(moves)
    assert type(simulation.platform) is {"native": NativeMonteCarlo, "reference": ReferencePlatform}[platform]
    return np.where(bias.visits.numpy() > 0, bias.potential.numpy(), np.nan)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "count", "platform", "moves", "walkers"),
    [
        ((2, 2, 2), 4, "reference", 12_000, 128),  # 12 weights
        ((3, 2, 2), 8, "native", 4_000_000, 1),  # 14 weights
        ((3, 3, 2), 8, "native", 16_000_000, 2),  # 20 weights, walkers that share
    ],
)
def test_exact_number_of_states_of_binary_networks(sizes, count, platform, moves, walkers):
    system = binary_network(sizes, count)
    exact = states_by_errors(system, count)
    assert exact.sum() == 2**system.size
    scale = statistics_scale(0.15)
    moves = int(moves * scale)
    runs = np.stack([sampled_entropy(system, count, platform, seed, moves, walkers) for seed in range(24, 32)])
    exists = exact > 0
    assert (np.isfinite(runs).all(axis=0) == exists).all()  # every state is found, and none that is not there
    entropy = runs[:, exists] - runs[:, exists].mean(axis=1, keepdims=True)
    expected = np.log(exact[exists]) - np.log(exact[exists]).mean()
    error = entropy.std(axis=0, ddof=1) / np.sqrt(len(runs))
    # An error estimated from 8 runs is itself uncertain by a quarter: bins share their mean square.
    pooled = np.maximum(error, np.sqrt((error**2).mean()))
    assert error.max() < 0.07 / np.sqrt(scale)
    assert (np.abs(entropy.mean(axis=0) - expected) < 5 * pooled).all()


@pytest.mark.slow
@pytest.mark.parametrize("platform", PLATFORMS)
def test_ties_of_outputs_on_a_lattice(platform):
    """Equal rows of weights make equal outputs, though sums in another order differ in the last bit: a tie is no hit.

    Shares of all 4096 states by accuracy; 20 walkers of 20000 moves (reference: 200 walkers of 2000), errors from the
    spread over walkers.
    """
    rng = np.random.default_rng(0)
    x, y = torch.from_numpy(rng.normal(size=(5, 2))), torch.tensor([0, 1, 0, 1, 1])
    system = NeuralNetwork(mlp((2, 2, 2)), (x, y), (x, y), box=Lattice([-1, 1]), initial="uniform")
    exact = states_by_errors(system, 5).sum(axis=1)
    walkers, moves, every = (20, 20_000, 20) if platform == "native" else (200, 2000, 20)
    running = Simulation(
        system, MonteCarlo(), observe=[cv.Accuracy("train")], bias=WangLandau(
            cv.Accuracy("train"), Grid(-0.1, 1.1, bins=6, kind="bins"), RampHoldInverseTime(1e-12, 0, 1e15)
        ), walkers=walkers, seed=2, every=every, precision="double", platform=platform, threads=1,
    )  # fmt: skip
    running.advance(moves)
    level = np.round(5 * running.history["accuracy_train"]).astype(int)
    for right, share in enumerate(exact / exact.sum()):
        each = (level == right).mean(axis=0)
        error = each.std(ddof=1) / np.sqrt(walkers)
        assert abs(each.mean() - share) < 4.5 * error + 1e-4, (right, each.mean(), share, error)


@pytest.mark.slow
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("precision", ["single", "mixed", "double"])
def test_every_value_of_a_lattice_is_as_likely_in_every_precision(platform, precision):
    """Values that float32 cannot hold; 100 walkers of 18 parameters, 1000 moves, errors over walkers."""
    system = NeuralNetwork(
        mlp((3, 3, 2)), (torch.ones(2, 3), torch.tensor([0, 1])), box=Lattice([-0.3, 0.1, 0.7]), initial="uniform"
    )
    running = Simulation(
        system, MonteCarlo(), walkers=100, seed=1, every=50, positions_every=50, precision=precision, platform=platform
    )
    running.advance(1000)
    places = running.history["position"]
    for value in (-0.3, 0.1, 0.7):
        each = (np.abs(places - value) < 1e-6).mean(axis=(0, 2))
        assert abs(each.mean() - 1 / 3) < 4.5 * each.std(ddof=1) / np.sqrt(100)


def test_a_lattice_refuses_dynamics_and_bad_values():
    system = binary_network((2, 2, 2), 4)
    with pytest.raises(
        InputError, match=r"Langevin moves continuously, but the parameters live on a lattice; use Monte"
    ):
        Simulation(system, Langevin(1e-3, 1.0))
    for values in ([1.0], [1.0, 1.0], [0.0, float("nan")]):
        with pytest.raises(InputError, match="two or more different finite numbers"):
            Lattice(values)


def test_values_of_a_lattice():
    lattice = Lattice([-1.0, 0.0, 2.0])
    here = lattice.uniform(1000, 3, torch.Generator().manual_seed(0))
    for value in (-1.0, 0.0, 2.0):  # 5 standard errors
        assert abs((here == value).double().mean() - 1 / 3) < 5 * (2 / 9 / 3000) ** 0.5
    assert lattice.shifted(torch.tensor([-1.0, 0.0, 2.0, 2.0]), torch.tensor([0, 1, 1, 2])).tolist() == [-1, 2, -1, 0]
    lattice.confine_(here.add_(0.2))
    assert bool(lattice.contains(here).all())


LATTICES = {"two": [-1.0, 1.0], "three": [-1.0, 0.0, 2.0]}


@pytest.mark.slow
@pytest.mark.parametrize(("platform", "move"), [("reference", "one"), ("reference", "all"), ("native", "one")])
@pytest.mark.parametrize("values", LATTICES.values(), ids=LATTICES.keys())
def test_every_state_of_a_lattice_has_its_weight(platform, move, values):
    """All 8 or 27 states of three parameters, at U = L / 2, seen at every second move only, and the ways between them.

    400 walkers (native: 320) of 500 (1250) moves, errors from the spread over walkers. The states of two values that
    differ in an odd number of places would come by turns if every move changed one.
    """
    x, y = torch.tensor([[0.5, -1.0], [1.0, 0.25]]), torch.tensor([[0.3], [-0.4]])
    walkers, moves = (320, 1250) if platform == "native" else (400, 500)
    system = NeuralNetwork(
        mlp((2, 1)), (x, y), loss="mse", potential=LossPotential(0.5), box=Lattice(values), initial="uniform"
    )
    simulation = Simulation(
        system, MonteCarlo(move=move), walkers=walkers, seed=3, every=2, positions_every=2, precision="double",
        platform=platform, threads=1,
    ).advance(moves)  # fmt: skip
    m = len(values)
    states = torch.tensor(list(itertools.product(values, repeat=3)), dtype=torch.float64)
    weights = torch.exp(-0.5 * ((states[:, :2] @ x.double().T + states[:, 2:]) - y[:, 0]).square().mean(1)).numpy()
    digits = np.searchsorted(values, simulation.history["position"])
    state = digits @ np.array([m**2, m, 1])
    visited = np.stack([np.bincount(row, minlength=m**3) / len(state) for row in state.T])
    error = visited.std(axis=0, ddof=1) / walkers**0.5
    assert (visited.sum(axis=0) > 0).all()
    assert error.max() < 0.01
    assert (np.abs(visited.mean(axis=0) - weights / weights.sum()) < 5 * error).all()
    # Detailed balance: as often from a to b as from b to a.
    flow = np.zeros((walkers, m**3, m**3))
    for walker, row in enumerate(state.T):
        np.add.at(flow[walker], (row[:-1], row[1:]), 1)
    net = flow - flow.transpose(0, 2, 1)
    spread = net.std(axis=0, ddof=1) / walkers**0.5
    assert (np.abs(net.mean(axis=0)) <= 5.5 * np.maximum(spread, flow.mean(axis=0) ** 0.5 / walkers**0.5)).all()


# ---------------------------------------------------------------------- closed forms


def linear_neuron(potential: object = None, box: Box | None = None) -> NeuralNetwork:
    """Two inputs, one output, squared loss, targets that it can fit: L is a quadratic form of the three parameters."""
    generator = np.random.default_rng(5)
    x = torch.from_numpy(generator.normal(size=(12, 2)))
    y = x @ torch.tensor([[0.3], [-0.2]], dtype=torch.float64) + 0.1
    return NeuralNetwork(mlp((2, 1)), (x, y), (x, y), loss="mse", potential=potential, box=box, initial="uniform")


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [None, 0.2])
def test_density_of_states_of_a_linear_neuron(kernel):
    """S(ln L) = (3 / 2) ln L + constant as long as the ellipsoid of loss L lies inside the box."""
    kind = "bins" if kernel is None else "spline"
    grid = Grid(-6.0, -1.0, spacing=0.25, kind=kind)
    entropies = []
    for seed in range(8):
        bias = WangLandau(cv.LogLoss("train"), grid, InverseTime(0.05, 2 * grid.shape[0]), kernel=kernel)
        integrator = MonteCarlo(MixedStep(1e-2, 1.0))
        system = linear_neuron(box=Box(1.5))
        system.initial, system.initial_scale = "module", 1.0
        with torch.no_grad():  # a start on the grid
            for parameter, value in zip(system.module.parameters(), ([[0.5, -0.2]], [0.1]), strict=True):
                parameter.copy_(torch.tensor(value))
        simulation = Simulation(system, integrator, bias=bias, seed=seed, precision="double", every=10**9)
        simulation.advance(int(2_000_000 * statistics_scale()))
        values = grid.on_nodes(bias.potential).numpy()
        entropies.append(values - values.mean())
    entropies = np.stack(entropies)
    expected = 1.5 * grid.centers()
    error = entropies.std(axis=0, ddof=1) / np.sqrt(8)
    pooled = np.maximum(error, np.sqrt((error**2).mean()))
    inner = slice(2, -2) if kernel else slice(None)  # a mirrored kernel bends S at the grid's edge
    assert error.max() < 0.2
    deviation = entropies.mean(axis=0)[inner] - expected[inner]
    assert (np.abs(deviation - deviation.mean()) < 5 * pooled[inner]).all()


@pytest.mark.slow
@pytest.mark.parametrize(("platform", "move"), [("reference", "one"), ("reference", "all"), ("native", "one")])
def test_gaussian_posterior_of_a_linear_neuron(platform, move):
    """U = 20 L + |q|^2 / 2 is quadratic: mean and covariance are known, and Metropolis has no error of the step."""
    beta, system = 20.0, linear_neuron(LossPotential(20.0) + GaussianPrior(1.0))
    system.initial = "normal"
    x, y = system.data("train")
    design = torch.cat((x, torch.ones(len(x), 1)), dim=1).double()
    precision = 2 * beta * design.T @ design / len(x) + torch.eye(3)
    mean = torch.linalg.solve(precision, 2 * beta * design.T @ y[:, 0].double() / len(x))
    walkers, step = 400, FixedStep(0.6 if move == "one" else 0.4)
    simulation = Simulation(
        system, MonteCarlo(step, move=move), walkers=walkers, seed=1, platform=platform, precision="double",
        every=20, positions_every=20,
    )  # fmt: skip
    simulation.advance(2000)
    frames = torch.from_numpy(simulation.history["position"][25:])
    by_walker = frames.mean(0)
    error = by_walker.std(0) / walkers**0.5
    assert bool((error < 0.02).all())
    assert bool(((by_walker.mean(0) - mean).abs() < 5 * error).all())
    second = ((frames - mean)[..., :, None] * (frames - mean)[..., None, :]).mean(0)
    error = second.std(0) / walkers**0.5
    assert bool(((second.mean(0) - torch.linalg.inv(precision)).abs() < 5 * error).all())


# ---------------------------------------------------------------------- the native platform is the reference one


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "tanh", "silu", "sigmoid"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "two_classes"])
def test_losses_and_cvs_agree_with_torch_after_many_moves(activation, loss):
    generator = np.random.default_rng(0)
    x = torch.from_numpy(generator.normal(size=(30, 3)))
    if loss == "mse":
        y, outputs, cvs = torch.from_numpy(generator.normal(size=(30, 2))), 2, []
    else:
        outputs = 2 if loss == "two_classes" else 4
        y = torch.from_numpy(generator.integers(0, outputs, 30))
        cvs = [cv.SmoothedAccuracy("test", slope=3.0, coordinate="logit", scale=0.5)]
    module = mlp((3, 7, 5, outputs), activation)
    kind = "mse" if loss == "mse" else "cross_entropy"
    system = NeuralNetwork(module, (x[:20], y[:20]), (x[20:], y[20:]), loss=kind, box=Box(2.0), initial="uniform")
    cvs = [cv.LogLoss("train"), cv.Loss("test"), *cvs]
    grid = Grid([-10, 0, -10][: len(cvs)], [5, 200, 10][: len(cvs)], bins=20)
    bias = WangLandau(cvs, grid, RampHoldInverseTime(0.01, 0, 1e9), kernel=None)
    simulation = Simulation(system, MonteCarlo(), bias=bias, walkers=2, precision="double", every=10**9)
    assert isinstance(simulation.platform, NativeMonteCarlo)
    simulation.advance(int(1_000_000 * statistics_scale()) // 2)
    energy, _, s = simulation.force_field.energies(simulation.state.positions, 0)
    np.testing.assert_allclose(simulation.state.cvs, s, rtol=1e-9)
    np.testing.assert_allclose(simulation.state.energy, energy, rtol=1e-9)
    assert bool((simulation.state.integrator_state["accepted"] > 1000).all())


def spiral(
    platform: str = "native", walkers: int = 3, threads: int = 1, step: object = None, **more: object
) -> Simulation:
    from nnsim.systems import spiral_classification

    grid = Grid((-8, -1 / 80), (2, 81 / 80), bins=(100, 41), kind="bins")
    bias = WangLandau([cv.LogLoss("train"), cv.Accuracy("test")], grid, RampHoldInverseTime(0.5, 0, 1e4))
    return Simulation(
        spiral_classification(), MonteCarlo(step), bias=bias, observe=[Acceptance()], walkers=walkers, seed=3,
        platform=platform, threads=threads, every=700, **more,
    )  # fmt: skip


def same(one: Simulation, other: Simulation) -> None:
    a, b = one.state_dict(), other.state_dict()
    for name in ("positions", "energy", "cvs", "bias_energy"):
        assert torch.equal(a["state"][name], b["state"][name]), name
    for name in ("potential", "visits", "deposits", "outside"):
        assert np.array_equal(a["bias"]["wang_landau"][name], b["bias"]["wang_landau"][name]), name
    for name, value in a["platform"].items():
        assert np.array_equal(value, b["platform"][name]), name


@pytest.mark.parametrize("step", [MixedStep(), TunedStep(warmup=3000), 0.1])
def test_the_native_result_does_not_depend_on_threads_or_pieces(step):
    whole, pieces = spiral(threads=1, step=step), spiral(threads=2, step=step)
    whole.advance(5300)
    for part in (1, 999, 1000, 1234, 2066):
        pieces.advance(part)
    same(whole, pieces)
    assert 0.9 * 3 * 5300 <= whole.force_field.biases[0].deposits <= 3 * 5300  # the rest waits for the next merge


def test_many_walkers_on_few_bins_do_not_overshoot():
    """Sixteen walkers that fill the same hill unseen by each other would raise it sixteen times."""
    train = (torch.ones(1, 1), torch.zeros(1, 1))
    system = NeuralNetwork(mlp((1, 1)), train=train, loss="mse", box=Box(1.0), initial="uniform")
    bias = WangLandau(cv.LogLoss("train"), Grid(-4.0, 0.0, bins=20, kind="bins"), RampHoldInverseTime(1.0, 0, 1e9))
    simulation = Simulation(system, MonteCarlo(2.0), bias=bias, walkers=16, seed=1, every=10**9, threads=1)
    simulation.advance(20_000)
    s = simulation.force_field.biases[0].potential
    # L = (w + b)^2 with w and b uniform in [-1, 1]: u = |w + b| has the density 1 - u / 2, and ln L = 2 ln u
    u = torch.exp(torch.linspace(-3.9, -0.1, 20, dtype=torch.float64) / 2)
    exact = torch.log(u * (1 - u / 2))
    difference = s - exact
    # An increment of 1 kT leaves fluctuations: 21 to 24 kT for three seeds. A merge every 100 moves made 176 to 574 kT,
    # one every 1000 moves 4000 to 7500 kT of them.
    assert float((difference - difference.mean()).abs().max()) < 60


@pytest.mark.slow
@pytest.mark.parametrize("platform", PLATFORMS)
def test_resume_is_bitwise(tmp_path, platform):
    steps = 2600 if platform == "native" else 600
    whole = spiral(platform, step=TunedStep(warmup=1000)).run(2 * steps, output=tmp_path / "whole.zarr", progress=False)
    spiral(platform, step=TunedStep(warmup=1000)).run(steps, output=tmp_path / "parts.zarr", progress=False)
    parts = spiral(platform, step=TunedStep(warmup=1000))
    parts.run(2 * steps, output=tmp_path / "parts.zarr", resume=True, progress=False)
    same(whole, parts)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_moves_out_of_the_box_or_the_grid_are_rejected_and_counted_where_the_walker_stands(platform):
    simulation = spiral(platform, step=1e9)  # such a step leaves the box
    before = simulation.state.positions.clone()
    steps = 1000 if platform == "native" else 20
    simulation.advance(steps)
    assert torch.equal(simulation.state.positions, before)
    bias = simulation.force_field.biases[0]
    assert (bias.deposits, bias.outside) == (3 * steps, 0)
    assert int((bias.visits > 0).sum()) <= 3


def test_a_tuned_step_reaches_its_acceptance_and_is_frozen_then():
    simulation = spiral(walkers=4, step=TunedStep(initial=1e-3, target=0.5, warmup=20_000, largest=10.0))
    simulation.advance(20_000)
    size = simulation.state.integrator_state["step_size"].clone()
    before = simulation.state.integrator_state["accepted"].clone()
    simulation.advance(20_000)
    assert torch.equal(size, simulation.state.integrator_state["step_size"])
    rate = (simulation.state.integrator_state["accepted"] - before) / 20_000
    assert bool(((rate > 0.3) & (rate < 0.7)).all()), rate


def test_moves_of_all_parameters_go_to_the_reference():
    assert isinstance(Simulation(linear_neuron(box=Box(1.0)), MonteCarlo(0.1, move="all")).platform, ReferencePlatform)


def test_an_own_step_size_goes_to_the_reference():
    class Halving(StepSize):
        def sizes(self, state):
            return torch.full((state.walkers,), 0.5**state.step, dtype=torch.float64)

    simulation = Simulation(linear_neuron(box=Box(1.0)), MonteCarlo(Halving()), walkers=2)
    assert isinstance(simulation.advance(3).platform, ReferencePlatform)
    with pytest.raises(InputError, match="the step size Halving has no native code"):
        Simulation(linear_neuron(box=Box(1.0)), MonteCarlo(Halving()), platform="native")


def test_subclasses_that_compute_something_else_go_to_the_reference():
    class Confined(NeuralNetwork):
        def energy(self, evaluation):
            return 1e3 * evaluation.positions.square().sum(1).double()

    class Doubled(cv.Loss):
        def __call__(self, evaluation):
            return 2 * super().__call__(evaluation)

    class Frozen(MixedStep):
        def sizes(self, state):
            return torch.zeros(state.walkers, dtype=torch.float64)

    data = (points(6, 4, 1), labels(6, 2))
    grid, schedule = Grid(0.0, 10.0, bins=5, kind="bins"), RampHoldInverseTime(0.1, 0, 1e9)
    plain = NeuralNetwork(mlp((4, 3, 2)), data)
    for system, step, one in (
        (Confined(mlp((4, 3, 2)), data), None, cv.Loss()),
        (plain, Frozen(), cv.Loss()),
        (plain, None, Doubled()),
    ):
        bias = WangLandau(one, grid, schedule)
        assert isinstance(Simulation(system, MonteCarlo(step), bias=bias).platform, ReferencePlatform)
    bias = WangLandau([cv.Loss(), cv.Loss()], Grid((0, 0), (10, 10), bins=5, kind="bins"), schedule)
    assert isinstance(Simulation(plain, MonteCarlo(), bias=bias).platform, ReferencePlatform)


def test_what_was_deposited_since_the_last_merge_is_recorded_and_a_bias_can_be_frozen(tmp_path):
    running = spiral(walkers=2, step=0.1)
    running.run(1234, output=tmp_path / "run.zarr", progress=False)
    bias = running.force_field.biases[0]
    assert bias.deposits < 2 * 1234  # some still wait for the merge
    recorded = Trajectory(tmp_path / "run.zarr").bias("wang_landau")
    assert int(np.asarray(recorded.tables["visits"]).sum()) == recorded.attrs["deposits"] == 2 * 1234
    bias.frozen = True
    running.advance(3000)
    assert bias.deposits == int(bias.visits.sum()) == 2 * 1234
    bias.frozen = False
    running.advance(3000)
    assert bias.deposits > 2 * 1234


def test_what_native_code_does_not_know_goes_to_the_reference_or_is_refused():
    conv = nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(4, 2))
    data = (points(6, 4, 0).float(), labels(6, 0))
    for system, bias, reason in (
        (NeuralNetwork(conv, data), (), "the system is no dense network"),
        (NeuralNetwork(mlp((4, 3, 2)), data), Wall(cv.WeightNorm(), upper=1.0), "the CV 'weight_norm' has no native"),
    ):
        assert isinstance(Simulation(system, MonteCarlo(0.1), bias=bias).platform, ReferencePlatform)
        with pytest.raises(InputError, match=reason):
            Simulation(system, MonteCarlo(0.1), bias=bias, platform="native")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MonteCarlo(0.0), "MonteCarlo: step = 0 must be a finite number above 0"),
        (lambda: MonteCarlo("0.5"), "MonteCarlo: step = '0.5' must be a finite number above 0"),
        (lambda: MonteCarlo([0.5]), r"MonteCarlo: step = \[0.5\] must be a finite number above 0"),
        (lambda: MonteCarlo(True), "MonteCarlo: step = True must be a finite number above 0"),
        (lambda: MonteCarlo(np.array([0.5])), "MonteCarlo: step = array"),
        (lambda: MonteCarlo(MixedStep), "MonteCarlo: step = <class"),
        (lambda: MonteCarlo(0.1, kT=-1), "kT = -1"),
        (lambda: MonteCarlo(0.1, move="some"), "move = 'some' is not known"),
        (lambda: MixedStep(1.0, 0.1), "largest = 0.1 must be a finite number of at least 1"),
        (lambda: TunedStep(target=1.5), "target = 1.5 must be below 1"),
        (lambda: TunedStep(warmup=-1), "warmup = -1"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("step", [np.float32(0.5), np.int64(1), torch.tensor(0.5)], ids=["float32", "int64", "tensor"])
def test_a_step_may_be_a_scalar_of_numpy_or_torch(step):
    assert MonteCarlo(step).step_size == FixedStep(float(step))


@pytest.mark.slow
def test_entropy_of_a_real_network_against_plain_sampling():
    """S(ln L_train) of 2-4-2 on the spiral, where uniform draws from the box see it too (arXiv 2503.13145's prior)."""
    from nnsim.systems import spiral_classification

    system = spiral_classification(hidden=(4,), box=Box(3.0))
    grid = Grid(-0.4, 2.0, spacing=0.1, kind="bins")
    counts, generator = np.zeros(grid.shape), torch.Generator().manual_seed(0)
    for _ in range(int(160 * statistics_scale(0.25))):
        q = system.box.uniform(25_000, system.size, generator)
        ln_loss = torch.log(system.loss(system.forward(q, ("train",))["train"], "train"))
        counts += np.histogram(ln_loss, bins=grid.shape[0], range=(-0.4, 2.0))[0]
    assert counts.min() > 100
    runs = []
    for seed in range(6):
        bias = WangLandau(cv.LogLoss("train"), grid, InverseTime(0.02, 2 * grid.shape[0]))
        integrator = MonteCarlo(MixedStep(1e-2, 3.0))
        simulation = Simulation(system, integrator, bias=bias, walkers=4, seed=seed, threads=2, every=10**9)
        simulation.advance(int(1_600_000 * statistics_scale(0.25)))
        runs.append(bias.potential.numpy() - bias.potential.numpy().mean())
    entropy, expected = np.stack(runs), np.log(counts) - np.log(counts).mean()
    spread = entropy.std(axis=0, ddof=1) / np.sqrt(len(runs))
    error = np.sqrt(np.maximum(spread, np.sqrt((spread**2).mean())) ** 2 + 1 / counts)  # and that of the draws
    assert error.max() < 0.15
    assert (np.abs(entropy.mean(axis=0) - expected) < 5 * error).all()
