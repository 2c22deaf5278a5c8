"""Many kinds of modules: loss and gradient are those of plain torch where the walkers are, or it is said why not."""

import copy
import logging
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from nnsim import InputError, Simulation, cv
from nnsim.cv import ntk
from nnsim.integrators import Langevin, MonteCarlo
from nnsim.systems import LossPotential, NeuralNetwork

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(20, 6, generator=GENERATOR)
Y = torch.randint(0, 3, (20,), generator=GENERATOR)
TOKENS = torch.randint(0, 9, (20, 5), generator=GENERATOR)
IMAGES = torch.randn(20, 2, 6, 6, generator=GENERATOR)


class Of(nn.Module):
    """A module of parts and a function of them."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def recurrent(kind: Callable[..., nn.Module], outputs: int = 5, **settings: Any) -> nn.Module:
    parts = {"e": nn.Embedding(9, 4), "r": kind(4, 5, batch_first=True, **settings), "o": nn.Linear(outputs, 3)}
    return Of(lambda s, t: s.o(s.r(s.e(t))[0][:, -1]), **parts)


def words(**settings: Any) -> nn.Module:
    return Of(lambda s, t: s.o(s.e(t).mean(1)), e=nn.Embedding(9, 4, **settings), o=nn.Linear(4, 3))


def tied() -> nn.Module:
    module = Of(lambda s, t: s.o(s.e(t).mean(1))[:, :3], e=nn.Embedding(9, 4), o=nn.Linear(4, 9, bias=False))
    module.o.weight = module.e.weight
    return module


def shared() -> nn.Module:
    layer = nn.Linear(6, 6)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(6, 3))


def normalised() -> nn.Module:
    module = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    module(X)
    return module.eval()


class LowRank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(6, 3).to(torch.bfloat16).requires_grad_(False)
        self.a, self.b = nn.Parameter(0.1 * torch.randn(6, 2)), nn.Parameter(torch.randn(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x.to(self.base.weight.dtype)).to(x.dtype) + x @ self.a @ self.b


def with_logits(s: Any, x: Tensor) -> Any:
    return SimpleNamespace(logits=s.l(x), hidden_states=None)


def layer(function: Callable[..., Any], outputs: int = 3) -> Callable[[], nn.Module]:
    return lambda: Of(function, l=nn.Linear(6, outputs))


def spectrum(s: Any, x: Tensor) -> Tensor:
    z = torch.fft.rfft(s.l(x), dim=1).abs()
    return z @ torch.arange(12.0, dtype=z.dtype).view(4, 3)


def by_columns() -> nn.Module:
    module = nn.Linear(6, 3)
    module.weight = nn.Parameter(torch.randn(6, 3).t())
    return module


RIGHT: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "LSTM": (lambda: recurrent(nn.LSTM), TOKENS),
    "GRU of two directions": (lambda: recurrent(nn.GRU, 10, bidirectional=True).eval(), TOKENS),
    "attention": (
        lambda: Of(
            lambda s, t: s.o(s.r(*(s.e(t),) * 3)[0].mean(1)),
            e=nn.Embedding(9, 4), r=nn.MultiheadAttention(4, 2, batch_first=True), o=nn.Linear(4, 3),
        ).eval(),
        TOKENS,
    ),
    "sparse embedding": (lambda: words(sparse=True), TOKENS),
    "sparse embedding by function": (
        lambda: Of(
            lambda s, t: s.o(F.embedding(t, s.e.weight, sparse=True).mean(1)), e=nn.Embedding(9, 4), o=nn.Linear(4, 3)
        ),
        TOKENS,
    ),
    "bag": (lambda: Of(lambda s, t: s.o(s.e(t)), e=nn.EmbeddingBag(9, 4, sparse=True), o=nn.Linear(4, 3)), TOKENS),
    "bag with padding": (
        lambda: Of(lambda s, t: s.o(s.e(t)), e=nn.EmbeddingBag(9, 4, padding_idx=0), o=nn.Linear(4, 3)), TOKENS
    ),
    "tied": (tied, TOKENS),
    "shared": (shared, X),
    "weight norm": (lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 3))), X),
    "spectral norm": (lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 3))).eval(), X),
    "orthogonal": (lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(6, 6)), nn.Linear(6, 3)), X),
    "batch norm at rest": (normalised, X),
    "instance norm": (
        lambda: nn.Sequential(nn.InstanceNorm2d(2, track_running_stats=True), nn.Flatten(), nn.Linear(72, 3)), IMAGES
    ),
    "low rank on half a base": (LowRank, X),
    "half": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).half(), X),
    "double": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double(), X),
    "scalar": (lambda: Of(lambda s, x: s.c * s.l(x), l=nn.Linear(6, 3), c=nn.Parameter(torch.tensor(2.0))), X),
    "empty": (lambda: Of(lambda s, x: s.l(x), l=nn.Linear(6, 3), c=nn.Parameter(torch.empty(0))), X),
    "unused": (lambda: Of(lambda s, x: s.l(x), l=nn.Linear(6, 3), c=nn.Linear(6, 7)), X),
    "columns": (by_columns, X),
    "dictionary": (lambda: Of(lambda s, x: x @ s.p["w w"], p=nn.ParameterDict({"w w": torch.randn(6, 3)})), X),
    "one module on devices": (lambda: nn.DataParallel(nn.Linear(6, 3)), X),
    "logits": (layer(with_logits), X),
    "compiled": (lambda: torch.compile(nn.Linear(6, 3)), X),
    "checkpoint": (layer(lambda s, x: checkpoint(s.l, x, use_reentrant=False)), X),
    "branch": (layer(lambda s, x: s.l(x) if s.l.weight.sum() > 0 else -s.l(x)), X),
    "complex inside": (layer(spectrum, 6), X),
    "detached in part": (lambda: Of(lambda s, x: s.l(x) + x[:, :3].detach(), l=nn.Linear(6, 3)), X),
}  # fmt: skip


def plain(module: nn.Module, names: list[str], positions: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and gradient of each walker, by writing its values into the module."""
    module = copy.deepcopy(getattr(module, "_orig_mod", module)).double()
    own = {name.removeprefix("_orig_mod."): p for name, p in module.named_parameters()}
    values = [own[name.removeprefix("_orig_mod.")] for name in names]
    rows = []
    for row in positions:
        with torch.no_grad():
            for p, part in zip(values, row.split([p.numel() for p in values]), strict=True):
                p.copy_(part.view_as(p))
        module.zero_grad()
        returned = module(x.double() if x.is_floating_point() else x)
        loss = F.cross_entropy(getattr(returned, "logits", returned), Y)
        loss.backward()
        grads = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in values]
        rows.append((loss.detach(), torch.cat([g.flatten() for g in grads])))
    losses, gradients = zip(*rows, strict=True)
    return torch.stack(losses), torch.stack(gradients)


@pytest.mark.slow
@pytest.mark.parametrize("case", RIGHT)
def test_loss_and_gradient_are_those_of_plain_torch(case: str) -> None:
    make, x = RIGHT[case]
    torch.manual_seed(5)
    module = make()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        system = NeuralNetwork(module, (x, Y), (x[:8], Y[:8]), potential=LossPotential(10.0))
    for precision, tolerance in (("mixed", 1e-5), ("double", 1e-11)):
        run = Simulation(
            system, Langevin(0.02, 1.0), walkers=2, precision=precision, observe=[cv.Accuracy("test")], every=3
        ).advance(3)
        loss, gradient = plain(module, list(system.parameters), run.state.positions, x)
        torch.testing.assert_close(run.state.energy, 10 * loss, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(run.state.forces, -10 * gradient, rtol=0, atol=10 * tolerance)
        assert gradient.abs().max() > 1e-3
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())


def test_names_are_those_of_the_users_module() -> None:
    parallel = NeuralNetwork(nn.DataParallel(nn.Linear(6, 3)), (X, Y))
    assert list(parallel.parameters) == ["module.weight", "module.bias"]
    kernels = [ntk.kernel(one, X) for one in (parallel.module, nn.DataParallel(parallel.module.module))]
    torch.testing.assert_close(*kernels)


def pruned() -> nn.Module:
    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    torch.nn.utils.prune.l1_unstructured(module[0], "weight", 0.5)
    return module


def hooked(register: Callable[[nn.Module], Any]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        register(module)
        return module

    return make


def unpicklable() -> nn.Module:
    module = nn.Linear(6, 3)
    module.log = (line for line in ("a", "b"))
    return module


REFUSED: dict[str, tuple[Callable[[], nn.Module], Tensor, str]] = {
    "old weight norm": (
        lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 3))), X,
        r"cannot be copied, since layer '0' \(Linear\) keeps the computed tensor 'weight'.*parametrizations.weight_",
    ),
    "pruned": (pruned, X, r"since layer '0' \(Linear\) keeps the computed tensor 'weight'.*prune.remove it"),
    "generator": (unpicklable, X, r"the module cannot be copied \(TypeError: cannot pickle 'generator' object\)"),
    "tuple": (layer(lambda s, x: (s.l(x), None)), X, r"returns a tuple; it must return a tensor \[N, C\]"),
    "dictionary": (layer(lambda s, x: {"scores": s.l(x)}), X, r"returns a dict; it must return a tensor \[N, C\]"),
    "sequence": (lambda: nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 3)), TOKENS, r"have shape \(8, 5, 3\) for 8"),
    "gradient clipping": (
        hooked(lambda m: m[0].weight.register_hook(lambda g: g.clamp(-1, 1))), X,
        r"the parameter '0.weight' has a hook on its gradient, which would not be called: .* handle.remove\(\)",
    ),
    "accumulation hook": (
        hooked(lambda m: m[2].bias.register_post_accumulate_grad_hook(lambda p: None)), X, r"'2.bias' has a hook"
    ),
    "backward hook": (
        hooked(lambda m: m[1].register_full_backward_hook(lambda *_: None)), X,
        r"layer '1' \(Tanh\) has a backward hook, which may change gradients",
    ),
    "backward pre-hook": (
        hooked(lambda m: m.register_full_backward_pre_hook(lambda *_: None)), X, r"layer 'module' \(Sequential\) has a"
    ),
    "complex": (
        lambda: Of(lambda s, x: (x @ s.w).abs(), w=nn.Parameter(torch.randn(6, 3, dtype=torch.cfloat))), X,
        r"'w' is complex, but parameters and buffers are turned into real numbers; .* torch.view_as_real",
    ),
    "function that fails": (
        lambda: lambda: 1 / 0, X,  # type: ignore[return-value]
        r"a function without arguments that makes one \(it fails: ZeroDivisionError: division by zero\)",
    ),
    "function of no module": (lambda: lambda: 5, X, r"the function module returns a int; it must make a Module"),  # type: ignore[return-value]
    "function of an argument": (lambda: nn.Linear, X, r"without arguments that makes one \(it fails: TypeError"),  # type: ignore[return-value]
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_right_is_refused_by_name(case: str) -> None:
    make, x, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as caught:
        NeuralNetwork(make(), (x, Y))
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*None of the inputs have requires_grad")
def test_reentrant_checkpointing_is_refused_under_a_dynamics() -> None:
    """Torch gives no gradient there unless the points need one."""
    module = Of(
        lambda s, x: s.o(checkpoint(s.l, checkpoint(s.l, x, use_reentrant=True), use_reentrant=True)),
        l=nn.Linear(6, 6), o=nn.Linear(6, 3),
    )  # fmt: skip
    system = NeuralNetwork(module, (X, Y), potential=LossPotential(1.0))
    with pytest.raises(InputError, match=r"Langevin needs forces, but .*use_reentrant=True"):
        Simulation(system, Langevin(0.01, 1.0))
    Simulation(system, MonteCarlo()).advance(3)


def test_a_seed_must_be_one() -> None:
    for seed, words in ((-1, "seed = -1"), (2**32, "seed = 4294967296 must be below 2\\^32"), (0.5, "seed = 0.5")):
        with pytest.raises(InputError, match=words):
            NeuralNetwork(lambda: nn.Linear(6, 3), (X, Y), seed=seed)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="seed = 3 has no effect on a module that is made already; give a function"):
        NeuralNetwork(nn.Linear(6, 3), (X, Y), seed=3)


class HalfReset(nn.Linear):
    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)


def test_a_reset_that_leaves_a_parameter_is_refused() -> None:
    """All walkers would start alike in it, without a word."""
    system = NeuralNetwork(lambda: HalfReset(6, 3), (X, Y), initial="reinitialise")
    with pytest.raises(
        InputError, match=r"reset_parameters leaves the parameter 'bias' as it is, so all walkers would"
    ):
        Simulation(system, MonteCarlo(), walkers=2)


def test_models_with_logits_are_announced_like_others(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="nnsim"):
        system = NeuralNetwork(layer(with_logits)(), (X, Y))
    assert system.kind == "vmap"
    assert len(caplog.messages) == 1
    assert ntk.kernel(system.module, X).shape == (20, 20)
