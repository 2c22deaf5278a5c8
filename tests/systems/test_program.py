"""Networks as programs: each of many modules is traced, kept to the general way, or refused; a traced one is right."""

import copy
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from test_module_zoo import IMAGES, REFUSED, RIGHT, TOKENS, Of, X, Y, hooked, layer, shared, tied
from torch import Tensor, nn

from nnsim import Box, InputError, Simulation
from nnsim.cv import ntk
from nnsim.cv.ntk.tangent import TangentKernel
from nnsim.integrators import Langevin, MonteCarlo
from nnsim.networks.copies import unwrapped
from nnsim.networks.layout import Layout
from nnsim.networks.program import Program, program_of
from nnsim.systems import LossPotential, NeuralNetwork
from nnsim.systems.modules import ResidualBlock, mlp, mnist_cnn, mnist_pooled_cnn, resnet10

SIGNALS = torch.randn(20, 2, 9, generator=torch.Generator().manual_seed(1))


class Residual(nn.Module):
    """A block that writes its sum in place, as torchvision's do."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False), nn.GroupNorm(2, 4)
        self.two = nn.Conv2d(4, 4, 3, padding="same", dilation=2)
        self.shortcut, self.relu, self.out = nn.Conv2d(2, 4, 1, stride=2), nn.ReLU(inplace=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = self.two(self.relu(self.norm(self.one(x))))
        out += self.shortcut(x)
        return self.out(torch.flatten(F.adaptive_avg_pool2d(self.relu(out), 1), 1))


def by_functions(s: nn.Module, x: Tensor) -> Tensor:
    h = F.max_pool2d(F.leaky_relu(s.c(x), 0.2), 2)
    h = F.gelu(h.permute(0, 2, 3, 1), approximate="tanh").permute(0, 3, 1, 2)
    h = h.view(h.size(0), -1) / 2 - 1
    return 0.5 * F.linear(F.layer_norm(h, (36,), s.n.weight, s.n.bias, 1e-3), s.o.weight, s.o.bias) + s.o.bias


def seen_again(s: nn.Module, x: Tensor) -> Tensor:
    h = s.l(x)
    r = h
    h += 1
    return h + r.relu()


TRACED: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "mlp": (lambda: mlp((6, 5, 4, 3), "silu"), X),
    "nested": (lambda: nn.Sequential(nn.Flatten(), mlp((72, 5, 4), "gelu"), nn.Softplus(2.0), nn.Linear(4, 3)), IMAGES),
    "selected MNIST": (mnist_cnn, torch.randn(3, 1, 28, 28)),
    "pooled MNIST": (lambda: mnist_pooled_cnn(4, 3, "tanh"), torch.randn(3, 1, 28, 28)),
    "ResNet-10": (resnet10, torch.randn(3, 3, 32, 32)),
    "residual in place": (Residual, IMAGES),
    "by functions": (
        lambda: Of(by_functions, c=nn.Conv2d(2, 4, 3, padding=1), n=nn.LayerNorm(36), o=nn.Linear(36, 3)), IMAGES
    ),
    "signals": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 3, stride=2, groups=2), nn.ELU(0.5), nn.MaxPool1d(2, 1), nn.AvgPool1d(2), nn.Flatten(),
            nn.Dropout().eval(), nn.Linear(4, 3), nn.LogSoftmax(1),
        ),
        SIGNALS,
    ),
    "mean of tokens": RIGHT["sparse embedding"],
    "layer used twice": (shared, X),
    "fixed in part": (lambda: nn.Sequential(nn.Linear(6, 5).requires_grad_(False), nn.Tanh(), nn.Linear(5, 3)), X),
    "tied": (lambda: Of(lambda s, x: s.a(F.tanh(s.b(x))).mean(2), a=(t := nn.Linear(4, 4)), b=t), torch.randn(9, 3, 4)),
    "batch norm at rest": RIGHT["batch norm at rest"],
    "scalar": RIGHT["scalar"],
    "unused": RIGHT["unused"],
    "logits": RIGHT["logits"],
    "checkpoint": RIGHT["checkpoint"],
}  # fmt: skip


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return torch.relu(x)

    @staticmethod
    def backward(ctx: object, g: Tensor) -> Tensor:
        return g


def without_gradients(s: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        h = torch.relu(x)
    return s.l(h)


FALLBACK: dict[str, tuple[Callable[[], nn.Module], Tensor, str]] = {
    "LSTM": (*RIGHT["LSTM"], r"layer 'r' \(LSTM\) is not known"),
    "attention": (*RIGHT["attention"], r"layer 'r' \(MultiheadAttention\) is not known"),
    "weight norm": (*RIGHT["weight norm"], r"layer '0' \(ParametrizedLinear\) is parametrised"),
    "orthogonal": (*RIGHT["orthogonal"], r"layer '0' \(ParametrizedLinear\) is parametrised"),
    "branch": (*RIGHT["branch"], "control flow, or a loop, that depends on data"),
    "tied and cut": (tied, TOKENS, "the function getitem: a part of a tensor"),
    "bag": (*RIGHT["bag"], r"layer 'e' \(EmbeddingBag\) is not known"),
    "low rank on half a base": (*RIGHT["low rank on half a base"], "the function getattr: the attribute dtype"),
    "complex inside": (*RIGHT["complex inside"], "the function fft_rfft is not known"),
    "forward hook": (
        hooked(lambda m: m[1].register_forward_hook(lambda *_: None)), X, r"layer '1' \(Tanh\) has a hook"
    ),
    "own gradient": (layer(lambda s, x: Rounded.apply(s.l(x))), X, "without gradients, or has gradients of its own"),
    "without gradients": (layer(without_gradients), X, "without gradients, or has gradients of its own"),
    "detached": (layer(lambda s, x: s.l(x) + s.l(x).detach()), X, "the function detach is not known"),
    "changed in place, read again": (layer(seen_again), X, "iadd: a change in place of what is read elsewhere"),
    "weights computed": (layer(lambda s, x: F.linear(x, s.l.weight * 2)), X, "before it comes to the points"),
    "over the points": (layer(lambda s, x: s.l(x) - s.l(x).mean(0)), X, "mean: an operation over the points"),
    "circular": (
        lambda: nn.Sequential(nn.Conv2d(2, 1, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(36, 3)),
        IMAGES, r"layer '0' \(Conv2d\): padding_mode = 'circular'",
    ),
}  # fmt: skip


def program(module: nn.Module, x: Tensor) -> Program:
    found = program_of(unwrapped(module), x)
    assert isinstance(found, Program), found
    return found


@pytest.mark.parametrize("case", TRACED)
def test_a_program_computes_what_its_module_does(case: str) -> None:
    make, x = TRACED[case]
    torch.manual_seed(5)
    module = make()
    found = program(module, x)
    module = copy.deepcopy(module).double()
    x = x.double() if x.is_floating_point() else x
    own = {name: p for name, p in module.named_parameters() if p.requires_grad}
    size = sum(p.numel() for p in own.values())
    for seed in range(2):
        q = 0.3 * torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        q.requires_grad_()
        with torch.no_grad():
            for p, part in zip(own.values(), q.split([p.numel() for p in own.values()]), strict=True):
                p.copy_(part.view_as(p))
        returned = module(x)
        expected = getattr(returned, "logits", returned)
        outputs = found.outputs(q, x)
        torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-12)
        weights = torch.linspace(1, 2, outputs.numel(), dtype=torch.float64).view_as(outputs)
        (gradient,) = torch.autograd.grad((outputs * weights).sum(), q)
        parts = torch.autograd.grad((expected * weights).sum(), list(own.values()), materialize_grads=True)
        exact = torch.cat([g.to_dense().flatten() for g in parts])
        torch.testing.assert_close(gradient, exact, rtol=0, atol=1e-11 * float(exact.abs().max()))
    values = x[:3]
    made = [values]
    for one in found.operations:
        tensors = {key: found.tensor(place, q) for key, place in one.parameters.items()}
        made.append(one([made[number] for number in one.reads], tensors))
        assert made[-1].shape == (3, *(one.shape or ()))


@pytest.mark.parametrize("case", TRACED)
def test_every_parameter_has_one_place(case: str) -> None:
    make, x = TRACED[case]
    module = make()
    found = program(module, x)
    own = {name: p for name, p in module.named_parameters() if p.requires_grad}
    assert {name: place.shape for name, place in found.places.items()} == {name: p.shape for name, p in own.items()}
    numbers = [i for place in found.places.values() if place.at for i in range(place.at.start, place.at.stop)]
    assert numbers == list(range(sum(p.numel() for p in own.values())))
    for one in found.operations:
        for place in one.parameters.values():
            if place.at is None:
                assert found.fixed[place.name].shape == place.shape
            else:
                assert found.places[place.name] == place


@pytest.mark.parametrize("case", FALLBACK)
def test_what_is_not_traced_is_named_and_still_a_system(case: str) -> None:
    make, x, reason = FALLBACK[case]
    torch.manual_seed(5)
    module = make()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    state = torch.get_rng_state()
    found = program_of(module, x)
    assert isinstance(found, str)
    assert "\n" not in found
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())
    assert re.search(reason, found), found
    if case != "over the points":  # whose outputs depend on the rest of the batch
        NeuralNetwork(module, (x, Y))


@pytest.mark.parametrize("case", ["dropout", "batch norm", *(one for one in REFUSED if "hook" in one)])
def test_what_is_refused_as_a_system_has_no_program(case: str) -> None:
    parts = {"dropout": nn.Dropout(), "batch norm": nn.BatchNorm1d(8)}
    module = nn.Sequential(nn.Linear(6, 8), parts[case], nn.Linear(8, 3)) if case in parts else REFUSED[case][0]()
    with pytest.raises(InputError):
        NeuralNetwork(module, (X, Y))
    if case != "accumulation hook":  # of a parameter, which no call notices
        assert isinstance(program_of(module, X), str)


def test_resnet_is_traced_whole() -> None:
    found = program(resnet10(), torch.randn(3, 3, 32, 32))
    kinds = [one.kind for one in found.operations]
    count = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    assert count == {
        "activation": 10, "add": 4, "average_pool": 1, "convolution": 12, "flatten": 1, "layer_norm": 8, "linear": 1,
        "permute": 16,
    }  # fmt: skip
    assert max(place.at.stop for place in found.places.values() if place.at) == 43604
    first = found.operations[15]
    assert (first.kind, first.layer, first.shape) == ("convolution", "3.branch.0", (12, 16, 16))
    assert first.settings == {
        "kernel_size": (3, 3), "stride": (2, 2), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1
    }  # fmt: skip
    norm = next(one for one in found.operations if one.kind == "layer_norm")
    assert norm.settings == {"normalized_shape": (6,), "eps": 1e-5}
    assert [len(found.readers(number)) for number in (0, 2, found.result)] == [1, 2, 0]
    assert all(len(found.users(name)) == 1 for name in found.places)


def test_a_layer_used_twice_and_tied_weights_have_two_users() -> None:
    assert program(shared(), X).users("0.weight") == [0, 2]
    make, x = TRACED["tied"]
    assert program(make(), x).users("a.weight") == [0, 2]
    assert program(make(), x).users("b.weight") == []


def test_points_are_needed_for_shapes_alone() -> None:
    without = program_of(mnist_cnn())
    assert isinstance(without, Program)
    assert [one.kind for one in without.operations] == [
        one.kind for one in program(mnist_cnn(), torch.randn(3, 1, 28, 28)).operations
    ]
    assert {one.shape for one in without.operations} == {None}
    blocks = program_of(resnet10())
    assert isinstance(blocks, Program)
    assert [one.kind for one in blocks.operations].count("movedim") == 16
    assert program_of(Of(lambda s, x: s.l(x).squeeze(1), l=nn.Linear(6, 3))) == (
        "the function squeeze: a shape that only points tell"
    )


class Backwards(nn.Module):
    """A dense network of an own class, whose layers are defined in another order than they act in."""

    def __init__(self, middle: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        self.middle = middle
        self.last, self.second, self.first = nn.Linear(4, 3), nn.Linear(5, 4, bias=False), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.middle(self.first(x.flatten(1)))
        return self.last(self.middle(self.second(h)))


@pytest.mark.slow
@pytest.mark.parametrize("middle", [torch.tanh, F.silu, F.gelu])
def test_a_dense_network_of_an_own_class_can_be_batched(middle: Callable[[Tensor], Tensor]) -> None:
    """As `walkers` asks; unasked it is evaluated as it was before, since runs are repeated to the last bit."""
    torch.manual_seed(5)
    module = Backwards(middle)
    x = X.view(20, 2, 3)
    found = []
    for walkers, kind in (("auto", "vmap"), ("batched", "batched")):
        system = NeuralNetwork(module, (x, Y), walkers=walkers, potential=LossPotential(1.0))
        assert system.kind == kind
        run = Simulation(system, Langevin(0.01, 1.0), walkers=3, precision="double", seed=1).advance(3)
        q = run.state.positions.clone().requires_grad_()
        outputs = run.system.forward(q, ("train",))["train"]
        (slope,) = torch.autograd.grad(outputs.square().sum(), q, create_graph=True)
        (second,) = torch.autograd.grad(slope.square().sum(), q)  # as a bias on a gradient needs it
        found.append((run.state.positions, run.state.energy, run.state.forces, outputs, slope, second))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_native_code_takes_layers_in_the_order_in_which_they_act() -> None:
    system = NeuralNetwork(Backwards(F.relu), (X, Y), walkers="batched", box=Box(2.0), potential=LossPotential(5.0))
    found = []
    for platform in ("native", "reference"):
        run = Simulation(
            system, MonteCarlo(0.3), walkers=2, precision="double", platform=platform, seed=1, every=10**9
        ).advance(200)
        found.append(run.state.positions)
    torch.testing.assert_close(*found, rtol=0, atol=0)


@pytest.mark.parametrize(
    "make", [lambda: nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 3)), shared, Residual]
)
def test_what_is_not_dense_cannot_be_batched(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(InputError, match=r"walkers = 'batched' needs a Sequential of Linear layers .* use 'auto'"):
        NeuralNetwork(make(), (IMAGES if make is Residual else X, Y), walkers="batched")


class Halved(nn.Linear):
    """A layer of an own class, which scales what goes in."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(0.5 * torch.tanh(x))


@pytest.mark.parametrize("frozen", [(), ("1.branch.1.weight", "3.bias")])
def test_the_kernel_of_layers_of_own_classes_goes_by_their_programs(frozen: tuple[str, ...]) -> None:
    """Normalisations over channels, of which torch has no layer, need no Jacobian; the kernel is the same."""
    torch.manual_seed(5)
    module = nn.Sequential(nn.Conv2d(2, 3, 1), ResidualBlock(3, 4, 2), nn.Flatten(), Halved(36, 3)).double()
    for name, p in module.named_parameters():
        p.requires_grad_(name not in frozen)
    x = IMAGES.double()
    layout = Layout({name: tuple(p.shape) for name, p in module.named_parameters() if p.requires_grad})
    found = TangentKernel(module, layout, x, dtype=torch.float64)
    assert found.rest == ()
    assert {f"{name}.{own}" for name, owns in found.rules.items() for own in owns} == {*layout.shapes}
    for outputs in ("mean", "all"):
        kernels = [ntk.kernel(module, x, outputs=outputs, method=method) for method in ("layerwise", "jacobian")]
        torch.testing.assert_close(*kernels, rtol=1e-10, atol=1e-10 * float(kernels[1].abs().max()))


def test_other_threads_go_on_while_a_module_is_traced() -> None:
    other, stop = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), threading.Event()
    expected = other(X)

    def evaluate() -> int:
        calls = 0
        while not stop.is_set():
            torch.testing.assert_close(other(X), expected, rtol=0, atol=0)
            calls += 1
        return calls

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(evaluate)
        for _ in range(20):
            program(mlp((6,) * 20), X)
        stop.set()
        assert running.result() > 0
