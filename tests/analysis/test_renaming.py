"""Other names of neurons that would make another network are refused, whatever the network is made of."""

import copy
import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnsim import Box, InputError, NNSimWarning, Simulation, Trajectory
from nnsim.analysis import align, rename_neurons, rmsd
from nnsim.analysis.renaming.structure import parts_of
from nnsim.integrators import Langevin
from nnsim.systems import NeuralNetwork, spiral_classification
from nnsim.systems.modules import mnist_cnn
from nnsim.trajectory.writer import TrajectoryWriter

FLAT, IMAGES = (6,), (4, 6, 6)
TOKENS = (5,)


class Custom(nn.Module):
    """Parts, and what is done with them."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class Cumulative(nn.Module):
    """No parameters, but it mixes the units."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(-1)


class Mean(nn.Module):
    """Over the tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class Transposed(nn.Module):
    """A linear layer whose weight is [in, out]."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size, size))
        self.bias = nn.Parameter(torch.randn(size))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


def shared(first: nn.Module, *between: nn.Module, last: nn.Module | None = None) -> nn.Module:
    return nn.Sequential(first, nn.Tanh(), *between, first, nn.Tanh(), last or nn.Linear(6, 3))


def last_twice(one: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 3), nn.Tanh(), one, nn.Tanh(), one)


def frozen(module: nn.Module, *names: str) -> nn.Module:
    for name, p in module.named_parameters():
        p.requires_grad_(name not in names)
    return module


def head(module: nn.Module) -> nn.Module:
    return nn.Sequential(module, nn.Tanh(), nn.Flatten(), nn.LazyLinear(3))


def dense(*between: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), *between, nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))


# A network, the shape of its points, and by what its neurons may be renamed: all of names (of arrays), text and points.
ALL, BY_POINTS, NEVER = {"names", "text", "points"}, {"points"}, set[str]()
ZOO: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], set[str]]] = {
    "dense": (lambda: dense(nn.Tanh()), FLAT, ALL),
    "dense without biases": (
        lambda: nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)), FLAT, ALL,
    ),
    "linear": (lambda: dense(), FLAT, ALL),
    "dropout": (lambda: dense(nn.GELU(), nn.Dropout(0.0)), FLAT, ALL),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 4, 1), nn.Tanh(), nn.Flatten(),
            nn.Linear(16, 3),
        ), IMAGES, {"text", "points"},
    ),
    "nested": (
        lambda: nn.Sequential(nn.Sequential(nn.Linear(6, 5), nn.SiLU()), nn.Sequential(nn.Linear(5, 3))), FLAT,
        {"text", "points"},
    ),
    "frozen features": (
        lambda: frozen(nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)),
                       "0.weight", "0.bias"), FLAT, ALL,
    ),
    "a class of one's own": (
        lambda: Custom(lambda s, x: s.b(torch.tanh(s.a(x))), a=nn.Linear(6, 8), b=nn.Linear(8, 3)), FLAT, BY_POINTS,
    ),
    "softmax between": (lambda: dense(nn.Softmax(1)), FLAT, {"names", "points"}),  # no text says that it is over units
    "depthwise": (lambda: head(nn.Conv2d(4, 4, 3, groups=4)), IMAGES, NEVER),
    "depthwise, more channels": (lambda: head(nn.Conv2d(4, 8, 3, groups=4)), IMAGES, NEVER),
    "grouped": (lambda: head(nn.Conv2d(4, 6, 3, groups=2)), IMAGES, NEVER),
    "transposed": (lambda: head(nn.ConvTranspose2d(4, 4, 3)), IMAGES, NEVER),
    "transposed without bias": (lambda: head(nn.ConvTranspose2d(4, 2, 2, bias=False)), IMAGES, NEVER),
    "grouped later": (
        lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.Tanh(), head(nn.Conv2d(4, 4, 3, groups=4))), IMAGES, NEVER,
    ),
    "transposed linear": (lambda: nn.Sequential(Transposed(6), nn.Tanh(), nn.Linear(6, 3)), FLAT, NEVER),
    "square embedding": (lambda: nn.Sequential(nn.Embedding(6, 6), Mean(), nn.Linear(6, 3)), TOKENS, NEVER),
    "flattened embedding": (lambda: nn.Sequential(nn.Embedding(10, 2), nn.Flatten(), nn.Linear(10, 3)), TOKENS, NEVER),
    "embedding bag": (lambda: nn.Sequential(nn.EmbeddingBag(6, 6), nn.Linear(6, 3)), TOKENS, NEVER),
    "used twice": (lambda: shared(nn.Linear(6, 6)), FLAT, NEVER),
    "used twice, last": (lambda: last_twice(nn.Linear(3, 3)), FLAT, NEVER),
    "residual": (
        lambda: Custom(lambda s, x: s.c(torch.tanh(s.b(torch.tanh(s.a(x)))) + s.a(x)), a=nn.Linear(6, 8),
                       b=nn.Linear(8, 8), c=nn.Linear(8, 3)), FLAT, NEVER,
    ),
    "residual to the inputs": (
        lambda: Custom(lambda s, x: s.b(x + torch.tanh(s.a(x))), a=nn.Linear(6, 6), b=nn.Linear(6, 3)), FLAT, NEVER,
    ),
    "registered in another order": (
        lambda: Custom(lambda s, x: s.a(torch.tanh(s.b(x))), a=nn.Linear(8, 6), b=nn.Linear(6, 8)), FLAT, NEVER,
    ),
    "side by side": (
        lambda: Custom(lambda s, x: s.a(x) + s.b(x), a=nn.Linear(6, 6), b=nn.Linear(6, 6)), FLAT, NEVER,
    ),
    "recurrent by hand": (
        lambda: Custom(lambda s, x: s.b(torch.tanh(s.a(torch.tanh(s.a(x))))), a=nn.Linear(6, 6), b=nn.Linear(6, 3)),
        FLAT, NEVER,
    ),
    "LSTM": (lambda: Custom(lambda s, x: s.o(s.r(x[:, None])[0][:, 0]), r=nn.LSTM(6, 5, batch_first=True),
                            o=nn.Linear(5, 3)), FLAT, NEVER),
    "attention": (lambda: Custom(lambda s, x: s.o(s.r(*(x[:, None],) * 3)[0][:, 0]), o=nn.Linear(6, 3),
                                 r=nn.MultiheadAttention(6, 2, batch_first=True)).eval(), FLAT, NEVER),
    "bilinear": (
        lambda: Custom(lambda s, x: s.o(s.b(x, x)), b=nn.Bilinear(6, 6, 5), o=nn.Linear(5, 3)), FLAT, BY_POINTS,
    ),
    "layer norm": (lambda: dense(nn.LayerNorm(8), nn.ReLU()), FLAT, NEVER),
    "layer norm without parameters": (
        lambda: dense(nn.LayerNorm(8, elementwise_affine=False)), FLAT, {"names", "points"},
    ),
    "batch norm": (lambda: dense(nn.BatchNorm1d(8)).eval(), FLAT, NEVER),
    "batch norm without parameters": (lambda: trained(dense(nn.BatchNorm1d(8, affine=False))), FLAT, NEVER),
    "instance norm": (
        lambda: nn.Sequential(nn.Conv2d(4, 5, 3), nn.InstanceNorm2d(5, affine=True), nn.Flatten(), nn.Linear(80, 3)),
        IMAGES, NEVER,
    ),
    "PReLU for each": (lambda: dense(nn.PReLU(8)), FLAT, NEVER),
    "gated": (lambda: nn.Sequential(nn.Linear(6, 8), nn.GLU(), nn.Linear(4, 3)), FLAT, NEVER),
    "sums of the units": (lambda: dense(Cumulative()), FLAT, NEVER),
    "pool of the units": (lambda: dense(nn.AvgPool1d(3, 1, 1)), FLAT, NEVER),
    "frozen between": (lambda: frozen(dense(nn.Tanh()), "2.weight", "2.bias"), FLAT, NEVER),
    "frozen bias": (lambda: frozen(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), "0.bias"), FLAT, NEVER),
    "linear over rows": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 1), nn.Tanh(), nn.Linear(6, 2), nn.Flatten(), nn.Linear(72, 3)),
        IMAGES, NEVER,
    ),
    "flattened from the back": (
        lambda: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Linear(3, 4), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)), FLAT,
        NEVER,
    ),
    "weights of the pruned": (lambda: pruned(), FLAT, NEVER),
    "parametrised": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, 3)), FLAT,
        NEVER,
    ),
}  # fmt: skip


def trained(module: nn.Module) -> nn.Module:
    """With running statistics of its own for each unit."""
    module(torch.randn(50, 6) * torch.arange(1, 7))
    return module.eval()


def pruned() -> nn.Module:
    from torch.nn.utils import prune

    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    prune.l1_unstructured(module[0], "weight", 0.5)
    return module


def points_of(shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if shape == TOKENS:
        return torch.randint(0, 6, (20, *shape), generator=generator)
    return torch.randn(20, *shape, generator=generator)


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in module.named_parameters() if p.requires_grad}


def same_function(module: nn.Module, one: np.ndarray, two: np.ndarray, x: Tensor) -> bool:
    outputs = []
    for flat in (one, two):
        network, first = copy.deepcopy(module).double(), 0
        for p in network.parameters():
            if p.requires_grad:
                p.data = torch.from_numpy(flat[first : first + p.numel()].copy()).reshape(p.shape)
                first += p.numel()
        outputs.append(network(x.double() if x.is_floating_point() else x).detach())
    return torch.allclose(*outputs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ZOO)
def test_a_renaming_is_proven_or_refused(name: str, tmp_path: Path) -> None:
    make, shape, ways = ZOO[name]
    torch.manual_seed(3)
    module, x = make(), points_of(shape)
    module(x)  # lazy layers learn their sizes
    shapes, rng = shapes_of(module), np.random.default_rng(0)
    frames = rng.standard_normal((3, 1, sum(int(np.prod(shape)) for shape in shapes.values())))
    path = tmp_path / "run.zarr"
    writer = TrajectoryWriter.create(path, {"parameters": shapes, "walkers": 1, "system": {"module": str(module)}})
    for step, frame in enumerate(frames):
        writer.append("particles/parameters/position", step, float(step), frame)
    writer.close()
    run = Trajectory(path)
    assert run.positions is not None
    asked: dict[str, Callable[[], Any]] = {
        "names": lambda: align(frames[2, 0], frames[0, 0], shapes),
        "text": lambda: align(run.positions, frames[0, 0]),
        "points": lambda: align(frames[2, 0], frames[0, 0], shapes, module=module, points=x),
    }
    known = set()
    for way, ask in asked.items():
        try:
            found = ask()
        except InputError:
            continue
        known.add(way)
        assert found.proof == {"text": "module"}.get(way, way)
        renamed = found.positions.reshape(-1, frames.shape[2])[-1]
        assert not np.array_equal(renamed, frames[2, 0])
        if way != "names":
            assert same_function(module, frames[2, 0], renamed, x)
    # names alone see neither what has no parameters nor what is fixed, as is written where they are asked
    blind = {
        "sums of the units",
        "pool of the units",
        "batch norm without parameters",
        "frozen bias",
        "transposed linear",
    }
    assert known - ({"names"} if name in blind else set()) == ways
    if "text" not in ways:
        with pytest.raises(InputError):
            rmsd(run, align=True)
    else:
        assert rmsd(run, align=True).values[2, 0] < rmsd(run).values[2, 0]
        assert rmsd(path, align=True, module=module, points=x).proof == "points"


@pytest.mark.parametrize("name", ZOO)
def test_a_module_at_hand_tells_by_its_program(name: str) -> None:
    """Also one of a class of its own; and never more than what points show."""
    make, shape, ways = ZOO[name]
    torch.manual_seed(3)
    module, x = make(), points_of(shape)
    module(x)
    shapes = shapes_of(module)
    q, reference = np.random.default_rng(0).standard_normal((2, sum(int(np.prod(s)) for s in shapes.values())))
    try:
        found = align(q, reference, shapes, module=module)
    except InputError:
        assert "text" not in ways
        assert name != "a class of one's own"
    else:
        assert "points" in ways
        assert found.proof == "module"
        assert same_function(module, q, found.positions, x)


def test_signs_are_told_by_programs() -> None:
    layers = {"a": nn.Linear(6, 8), "b": nn.Linear(8, 3)}
    q, reference = np.random.default_rng(0).standard_normal((2, 83))
    odd = Custom(lambda s, x: 2 * s.b(0.5 * F.hardtanh(torch.tanh(s.a(x)))).tanh(), **layers)
    found = align(q, reference, shapes_of(odd), signs=True, module=odd)
    assert (found.signs[0] < 0).any()
    assert same_function(odd, q, found.positions, points_of(FLAT))
    for function in (torch.relu, lambda h: torch.tanh(h) + 1, lambda h: F.hardtanh(h, -1, 2)):
        uneven = Custom(lambda s, x, function=function: s.b(function(s.a(x))), **layers)
        assert align(q, reference, shapes_of(uneven), module=uneven).proof == "module"
        with pytest.raises(InputError, match="of which its text does not tell"):
            align(q, reference, shapes_of(uneven), signs=True, module=uneven)


ACTIVATIONS = {
    nn.Tanh: True, nn.Softsign: True, nn.Identity: True, nn.Hardtanh: True, nn.Tanhshrink: True, nn.Hardshrink: True,
    nn.Softshrink: True, nn.ReLU: False, nn.GELU: False, nn.SiLU: False, nn.Sigmoid: False, nn.LeakyReLU: False,
    nn.LogSigmoid: False, nn.Softplus: False, nn.ELU: False,
}  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_signs_are_those_of_odd_activations_alone(activation: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module, x = dense(activation()), points_of(FLAT)
    shapes, rng = shapes_of(module), np.random.default_rng(1)
    q, reference = rng.standard_normal((2, sum(int(np.prod(shape)) for shape in shapes.values())))
    for proof in ({"module": module}, {"module": module, "points": x}):
        assert same_function(module, q, align(q, reference, shapes, **proof).positions, x)
        if ACTIVATIONS[activation]:
            found = align(q, reference, shapes, signs=True, **proof)
            assert (found.signs[0] < 0).any()
            assert same_function(module, q, found.positions, x)
        else:
            with pytest.raises(InputError, match="leave signs out"):
                align(q, reference, shapes, signs=True, **proof)


def test_an_uneven_hardtanh_and_a_largest_value_are_not_odd() -> None:
    for between in ([nn.Hardtanh(-1.0, 2.0)], [nn.MaxPool2d(2)], [nn.Tanh(), nn.ReLU()]):
        module = nn.Sequential(nn.Conv2d(4, 5, 1), *between, nn.Flatten(), nn.LazyLinear(3))
        module(points_of(IMAGES))
        shapes = shapes_of(module)
        q = np.random.default_rng(0).standard_normal(sum(int(np.prod(shape)) for shape in shapes.values()))
        align(q, q[::-1], shapes, module=module)
        with pytest.raises(InputError, match="which is not odd, so that signs of neurons cannot be changed"):
            align(q, q[::-1], shapes, signs=True, module=module)


def test_a_refusal_names_the_layer_and_the_remedy() -> None:
    module, x = ZOO["residual"][0](), points_of(FLAT)
    shapes = shapes_of(module)
    q = np.random.default_rng(0).standard_normal(sum(int(np.prod(shape)) for shape in shapes.values()))
    with pytest.raises(InputError, match="other names of the 8 outputs of layer a change what the network computes"):
        align(q, q[::-1], shapes, module=module, points=x)
    for asked, words in (
        ({}, r"the name a\.weight does not tell what its layer does.*give system=.*check=False if you know it"),
        ({"module": module}, "the network is, or holds, a Custom, of which its text does not tell"),
        ({"module": module, "points": torch.zeros(5, 7)}, r"the module cannot evaluate points of shape \(5, 7\)"),
        ({"points": x}, "points without a network; give module="),
        ({"module": module, "system": module}, "give system or module, not both"),
        ({"system": object()}, "system = object has no torch module"),
        ({"module": "mlp", "points": x}, r"module = str must be a torch\.nn\.Module"),
        ({"module": nn.Linear(6, 3), "points": x}, "the module has other parameters than the run"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            align(q, q[::-1], shapes, **asked)
        assert "\n" not in str(caught.value)
        with pytest.raises(InputError):
            rename_neurons(q, shapes, [np.arange(8)[::-1], np.arange(8)], **asked)
    assert align(q, q[::-1], shapes, check=False).proof == "none"
    chain = ZOO["a class of one's own"][0]()
    own = shapes_of(chain)
    p = np.random.default_rng(0).standard_normal(sum(int(np.prod(shape)) for shape in own.values()))
    assert align(p, p[::-1], own, module=chain, points=x).proof == "points"
    with pytest.raises(InputError, match="the points do not show what the outputs of layer a are for"):
        align(p * 0, p, own, module=silent(chain), points=torch.zeros(20, 6))


def silent(module: Any) -> nn.Module:
    """A network whose outputs do not depend on its first layer."""
    found = copy.deepcopy(module)
    found.function = lambda s, x: s.b(0 * s.a(x)[:, :1].expand(-1, 8))
    return found


def test_signs_by_names_alone_are_told() -> None:
    shapes = {"0.weight": (4, 3), "0.bias": (4,), "2.weight": (2, 4)}
    q = np.random.default_rng(0).standard_normal(24)
    with pytest.warns(NNSimWarning, match="do not tell whether the activation is odd.*give system= or module="):
        align(q, q[::-1], shapes, signs=True)
    with pytest.warns(NNSimWarning, match="rename_neurons: names and shapes do not tell"):
        rename_neurons(q, shapes, [np.arange(4)], [np.array([1, 1, -1, 1])])
    assert (rename_neurons(q, shapes, [np.arange(4)], [np.ones(4)]) == q).all()


def test_names_that_may_stand_for_something_else() -> None:
    for shapes, words in (
        ({"0.weight": (6, 6), "2.weight": (3, 6)}, "without a bias may be an embedding"),
        ({"0.weight": (6, 2), "2.weight": (3, 6)}, "without a bias may be an embedding"),
        ({"0.weight": (6, 6), "0.bias": (6,), "3.weight": (3, 6)}, "is square, so that it may be used twice"),
        ({"0.weight": (6, 3), "0.bias": (6,), "2.weight": (6, 6)}, r"2\.weight of shape \[6, 6\] is square"),
        ({"0.weight": (6, 3, 1), "2.weight": (3, 6)}, "may be of a transposed or grouped convolution"),
        ({"2.weight": (6, 4), "0.weight": (3, 6)}, "the layer numbered 0 may not follow 2"),
        ({"0.weight": (6, 4), "4.weight": (3, 6)}, "the layer numbered 4 may not follow 0, or not directly"),
        ({"0.weight": (6, 4), "1.bias": (6,), "2.weight": (3, 6)}, r"1\.bias is not of the layer before it"),
        ({"net.0.weight": (6, 4), "net.2.weight": (3, 6)}, "does not tell what its layer does"),
    ):
        q = np.ones(sum(int(np.prod(shape)) for shape in shapes.values()))
        with pytest.raises(InputError, match=words):
            align(q, q, shapes)


@pytest.mark.slow
def test_runs_are_aligned_by_what_they_recorded(tmp_path: Path) -> None:
    """A run of the spiral knows its module; points prove the same; and no script is run for it."""
    system = spiral_classification(hidden=(5, 4), activation="tanh", box=Box(3.0))
    path = tmp_path / "run.zarr"
    simulation = Simulation(system, Langevin(0.05, 1.0), walkers=2, every=5)
    simulation.run(20, output=path, progress=False)
    run = Trajectory(path)
    assert run.positions is not None
    by_text = rmsd(run, align=True, signs=True)
    assert by_text.proof == "module"
    assert (by_text.values <= rmsd(run).values + 1e-12).all()
    for known in (system, simulation):
        by_points = rmsd(run, align=True, signs=True, system=known)
        assert by_points.proof == "points"
        assert np.array_equal(by_points.values, by_text.values)
    found = align(run.positions, run.positions[0], signs=True)
    assert np.allclose(found.rmsd, by_text.values)
    assert align(run.slice(frames=[1, 3]), run.positions[0]).positions.shape == (2, 2, run.positions.shape[2])
    with pytest.raises(InputError, match="must be names and shapes"):
        align(run.slice(parameters="layer 0"), run.positions[0, :, :10])
    with pytest.raises(InputError, match=r"layer 1 is ReLU\(\), which is not odd"):
        align(*both(relu_run(tmp_path / "relu.zarr")), signs=True)


def relu_run(path: Path) -> Trajectory:
    system = spiral_classification(hidden=(5,), activation="relu", box=Box(3.0))
    Simulation(system, Langevin(0.05, 1.0), every=5).run(10, output=path, progress=False)
    return Trajectory(path)


def both(run: Trajectory) -> tuple[Any, Any]:
    assert run.positions is not None
    return run.positions, run.positions[0]


def test_convolutions_of_the_built_in_systems_are_chains() -> None:
    module = mnist_cnn()
    shapes = shapes_of(module)
    q = np.random.default_rng(0).standard_normal(sum(int(np.prod(shape)) for shape in shapes.values()))
    x = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = align(q, q[::-1], shapes, module=module)
    assert found.proof == "module"
    assert np.array_equal(found.positions, align(q, q[::-1], shapes, module=module, points=x).positions)


def test_renaming_in_a_periodic_box_comes_as_close_as_any_names_bring() -> None:
    """Distances are those to nearest images; compared with all 24 x 8 names of a small network."""
    shapes = {"0.weight": (3, 2), "0.bias": (3,), "2.weight": (2, 3)}
    rng = np.random.default_rng(5)
    known: dict[str, Any] = {"period": rng.uniform(0.5, 1.5, 15), "check": False}
    for _ in range(5):
        q, reference = rng.uniform(-0.5, 0.5, (2, 15))
        for signs in (False, True):
            turns = list(itertools.product((1.0, -1.0), repeat=3)) if signs else [(1.0, 1.0, 1.0)]
            names = itertools.product(itertools.permutations(range(3)), turns)
            every = [rename_neurons(q, shapes, [list(p)], [turn], check=False) for p, turn in names]
            least = min(np.sqrt(near(one - reference, known["period"]).mean()) for one in every)
            found = align(q, reference, shapes, signs=signs, starts=8, **known)
            assert found.rmsd == pytest.approx(least, rel=1e-12)
            frames = np.stack([q, reference])[:, None]
            again = rmsd(frames, 1, align=True, signs=signs, parameters=shapes, starts=8, **known)
            assert again.values[0, 0] == pytest.approx(least, rel=1e-12)


def near(difference: np.ndarray, period: np.ndarray) -> np.ndarray:
    images = difference[..., None] + period[..., None] * np.arange(-3, 4)
    return np.abs(images).min(axis=-1) ** 2


def test_the_parts_of_a_printed_module() -> None:
    module = nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Tanh())), nn.Softmax(dim=1))
    found = parts_of(str(module))
    assert [str(part) for part in found] == [
        "layer 0.0 is Linear(in_features=2, out_features=3, bias=True)", "layer 0.1.0 is Tanh()",
        "layer 1 is Softmax(dim=1)",
    ]  # fmt: skip
    assert parts_of(str(nn.Sequential(nn.TransformerEncoderLayer(4, 2)))) == "TransformerEncoderLayer"
    assert parts_of(str(nn.Sequential(nn.Sequential(), nn.Linear(2, 3)))) != []


def test_a_network_of_a_system_is_tried_in_the_precision_of_the_module() -> None:
    module = dense(nn.Tanh()).double()
    x, y = points_of(FLAT).double(), torch.zeros(20, dtype=torch.long)
    system = NeuralNetwork(module, (x, y), box=Box(5.0))
    shapes = shapes_of(module)
    q = np.random.default_rng(0).standard_normal(system.size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert align(q, q[::-1], shapes, system=system, signs=True).proof == "points"
