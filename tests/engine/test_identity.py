"""What makes a thing what it is: every difference in what it computes is seen, none that does not matter, and no end.

Each difference is one that a resume must notice; each of what is alike is one that must not stop it.
"""

import copy
import dataclasses
import functools
import json
import linecache
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import odd_things
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nnsim import Box, CollectiveVariable, Evaluation, Grid, Simulation, State, cv
from nnsim.bias import Metadynamics, Wall
from nnsim.describe import Network, describe
from nnsim.identity.changes import Differences
from nnsim.identity.parts import UNSEEN, identity, same
from nnsim.integrators import Langevin, MonteCarlo
from nnsim.systems import AnalyticSystem, Harmonic, LossPotential, NeuralNetwork

SCALE = 2.0


def differences(one: Any, other: Any) -> list[str]:
    found = Differences()
    found.compare(json.loads(json.dumps(identity(one))), identity(other), "it")  # as a header gives it back
    return found.lines


def written(folder: Path, text: str, name: str = "nnsim_script_of_a_test") -> types.ModuleType:
    """A module of the user's, made from a text; a new one of the same file each time, as in another process."""
    path = folder / f"{name}.py"
    path.write_text(text)
    linecache.checkcache(str(path))
    module = types.ModuleType(name)
    module.__file__ = str(path)
    exec(compile(text, str(path), "exec"), module.__dict__)
    sys.modules[name] = module
    return module


# ------------------------------------------------------------------------------------------------------------- oddities


ODD = odd_things.things()


@pytest.mark.parametrize("name", ODD)
def test_odd_things_are_described_without_an_error(name: str) -> None:
    thing = ODD[name]
    found = identity(thing)
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(identity(thing)))
    assert differences(thing, thing) == []
    assert len(json.dumps(found)) < 100_000
    json.dumps(describe(thing))


@pytest.mark.slow
def test_they_are_the_same_in_another_process() -> None:
    """Neither addresses, nor the order of sets, nor hashes are in it."""
    path = Path(odd_things.__file__)
    said = []
    for seed in ("1", "2"):
        command = [sys.executable, str(path)]
        environment = {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1", "PATH": "/usr/bin"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        said.append(done.stdout)
    assert said[0] == said[1]
    assert "0x" not in said[0]


def test_looking_changes_nothing(tmp_path: Path) -> None:
    """A file has a detach() too, and a logger leads to the streams of the program."""
    with (tmp_path / "a").open("w") as file:
        describe(file), identity(file)
        file.write("still open")
    assert (tmp_path / "a").read_text() == "still open"
    lazy = odd_things.Lazy()
    identity(lazy), describe(lazy)
    assert "table" not in vars(lazy)
    assert [name for name, thing in ODD.items() if UNSEEN in json.dumps(identity(thing))] == [
        *("chain", "objects", "opaque", "logger", "streams", "weak", "functions", "made", "of Python", "types", "more"),
        "tensors",
    ]


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
nested = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner) | st.frozensets(plain, max_size=3)
    ),
)


@pytest.mark.slow
@given(nested)
@settings(max_examples=100, deadline=None)
def test_values_come_back_from_a_header(value: Any) -> None:
    found = identity(value)
    assert json.loads(json.dumps(found)) == found
    assert identity(copy.deepcopy(value)) == found


# ----------------------------------------------------------------------------------------------------------- functions


def scaled(w: Any, extra: Any = None) -> Callable[[Tensor], Tensor]:
    return lambda x: w * x


def scaled_loss(w: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda outputs, targets: w * torch.nn.functional.cross_entropy(outputs, targets)


def with_default(k: float) -> Callable[..., Any]:
    def function(x: Any, factor: float = k, *, shift: float = 0.0) -> Any:
        return factor * x + shift

    return function


def calling(inner: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: inner(x) + 1


class Adder:
    def __init__(self, k: Any) -> None:
        self._k = k

    def __call__(self, x: Any) -> Any:
        return x + self._k

    def method(self, x: Any) -> Any:
        return x - self._k


# one thing, another that computes something else, and what is named
TENSOR = torch.arange(12.0)
OTHER = TENSOR + 1e-6 * (torch.arange(12) == 7)
DIFFERENT: dict[str, tuple[Any, Any, str]] = {
    "a number in a closure": (scaled(1.0), scaled(7.0), "it.closure.w: 1.0 -> 7.0"),
    "a tensor in a closure": (scaled(TENSOR), scaled(OTHER), "it.closure.w: float32 [12], sha256 "),
    "a few numbers": (scaled(torch.ones(2)), scaled(torch.tensor([1.0, 9.0])), "[1.0, 1.0] -> float32 [1.0, 9.0]"),
    "a type of numbers": (scaled(torch.ones(2)), scaled(torch.ones(2).double()), "float32 [1.0, 1.0] -> float64"),
    "an array": (scaled(TENSOR.numpy()), scaled(OTHER.numpy()), "it.closure.w: "),
    "a bfloat16": (scaled(TENSOR.bfloat16()), scaled((TENSOR + 0.125).bfloat16()), "it.closure.w: torch.bfloat16"),
    "a function in a closure": (calling(scaled(1)), calling(scaled(2)), "it.closure.inner.closure.w: 1 -> 2"),
    "another function in it": (calling(torch.sin), calling(torch.cos), "sin -> torch._VariableFunctionsClass.cos"),
    "a default": (with_default(1.0), with_default(2.0), "it.defaults.factor: 1.0 -> 2.0"),
    "two lambdas of a line": ((lambda x: x + 1), (lambda x: x + 2), "it: lambda x: x + 1 -> lambda x: x + 2"),
    "a partial": (functools.partial(scaled, 1), functools.partial(scaled, 2), "it.arguments: [1] -> [2]"),
    "its keywords": (functools.partial(scaled, w=1), functools.partial(scaled, w=2), "it.keywords.w: 1 -> 2"),
    "a private attribute": (Adder(1), Adder(2), "it._k: 1 -> 2"),
    "a bound method": (Adder(1).method, Adder(2).method, "it.of._k: 1 -> 2"),
    "a lambda in an object": (Adder(lambda x: x), Adder(lambda x: -x), "it._k: lambda x: x -> lambda x: -x"),
    "behind a library's wrapper": (torch.no_grad()(scaled(1)), torch.no_grad()(scaled(2)), "closure.w: 1 -> 2"),
    "behind vmap": (torch.vmap(scaled(1)), torch.vmap(scaled(2)), "closure.w: 1 -> 2"),
    "compiled": (torch.compile(scaled(1)), torch.compile(scaled(2)), "it.closure.w: 1 -> 2"),
    "cached": (functools.lru_cache(scaled(1)), functools.lru_cache(scaled(2)), "it.function.closure.w: 1 -> 2"),
    "of a class": (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1), "label_smoothing: 0.0 -> 0.1"),
    "class weights": (
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.0])),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0])),
        "it.buffers.weight: float32 [1.0, 1.0] -> float32 [1.0, 9.0]",
    ),
    "executed": (eval("lambda x: x + 1"), eval("lambda x: x + 2"), "the code of <lambda> has changed"),
    "its globals": (eval("lambda: z", {"z": 1}), eval("lambda: z", {"z": 2}), "it.globals.z: 1 -> 2"),
    "a generator": (np.random.default_rng(1), np.random.default_rng(2), "Generator in the state"),
    "in a table": ({"a": [1, {"b": scaled(1)}]}, {"a": [1, {"b": scaled(2)}]}, "it.a[1].b.closure.w: 1 -> 2"),
    "a long list": (list(range(1000)), [*range(999), 0], "1000 values, sha256 "),
    "a long text": ("x" * 1000, "x" * 999 + "y", "letters, sha256 "),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_is_named(name: str) -> None:
    one, other, message = DIFFERENT[name]
    (line,) = differences(one, other)
    assert message in line
    assert not same(one, other)


ALIKE: dict[str, Callable[[], Any]] = {
    "closure": lambda: scaled(TENSOR.clone(), extra=object()),
    "method": lambda: Adder(3).method,
    "CV": lambda: cv.Energy(lambda q: (q**2).sum(1)),
    "distance": lambda: cv.Distance(torch.arange(3.0)),
    "module": lambda: nn.CrossEntropyLoss(weight=torch.ones(3)),
    "biases": lambda: Metadynamics(cv.LogLoss("train"), Grid(-7, 2, 90), height=0.5, sigma=0.2, pace=5),
}


@pytest.mark.parametrize("name", ALIKE)
def test_what_is_made_alike_is_alike(name: str) -> None:
    make = ALIKE[name]
    assert differences(make(), make()) == []
    assert same(make(), make())


TEXT = '''
import math, torch
from functools import partial
K = 2.0
SCALE = torch.arange(20.0)

def inner(x):
    """Says something."""
    return K * x  # a comment

def outer(x):
    return inner(x) + SCALE.sum()

def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)

class Base:
    factor = 1.0
    def helper(self, x):
        return self.factor * inner(x)

class Loss(Base):
    def __init__(self, w=1.0):
        self._w = w
        self.calls = 0
        self.__cache = {}
    def __call__(self, o, t):
        self.calls += 1
        self.__cache[len(self.__cache)] = self.calls
        return self._w * self.helper(o)

def make(k):
    class Local:
        def __call__(self, x):
            return k * x
    return Local()

pair = (lambda x: x + 1, lambda x: x + 2)
one = pair[1]
'''

# a text in the file, what it becomes, what is looked at, and what is said; nothing is said of what does not matter
CHANGES = [
    ("K = 2.0", "K = 3.0", "outer", "it.code 'inner()'.globals.K: 2.0 -> 3.0"),
    ("arange(20.0)", "arange(20.0) * 2", "outer", "it.code 'outer()'.globals.SCALE: float32 [20]"),
    ("K * x  #", "K * x + 1  #", "outer", "it.code 'inner()': return K * x -> return K * x + 1"),
    ("n == 0 or odd", "n == 2 or odd", "odd", "it.code 'even()': return n == 0 or odd(n - 1) -> return n == 2"),
    ("factor = 1.0", "factor = 2.0", "Loss()", "it.code.Base.factor: 1.0 -> 2.0"),
    ("self.factor * inner(x)", "inner(x)", "Loss()", "it.code.Base.helper: return self.factor * inner(x) -> "),
    ("K = 2.0", "K = 3.0", "Loss()", "it.code 'inner()'.globals.K: 2.0 -> 3.0"),
    ("class Loss(Base):", "class Loss(Base, dict):", "Loss", "it.code.Loss.bases: "),
    ("w=1.0", "w=2.0", "Loss()", "it._w: 1.0 -> 2.0"),
    ("x + 2)", "x + 3)", "one", "it: lambda x: x + 2 -> lambda x: x + 3"),
    ("return k * x", "return k + x", "make(3)", "it.class.__call__: return k * x -> return k + x"),
    ("return k * x", "return k * x", "make(4)", "it.class.__call__.closure.k: 3 -> 4"),
    ("  # a comment", "  # another", "outer", None),
    ('"""Says something."""', '"""Says another thing."""', "outer", None),
    ("import math, torch", "import math, torch\n\n\n# lines", "Loss()", None),
    ("x + 1, lambda", "x + 9, lambda", "one", None),
    ("pair = (lambda", "pair = (   lambda", "one", None),
    ("return K * x", "return (K * x)", "outer", None),
    ("import math", "import json", "outer", None),
]


@pytest.mark.parametrize(("old", "new", "what", "message"), CHANGES)
def test_code_of_the_users_own(tmp_path: Path, old: str, new: str, what: str, message: str | None) -> None:
    assert old in TEXT
    before = identity(eval(what.replace("make(4)", "make(3)"), vars(written(tmp_path, TEXT))))
    now = identity(eval(what, vars(written(tmp_path, TEXT.replace(old, new)))))
    found = Differences()
    found.compare(before, now, "it")
    assert not found.unseen
    assert bool(found.lines) == (message is not None), found.lines
    assert message is None or any(message in line for line in found.lines), found.lines


def test_what_an_object_keeps_as_it_runs_does_not_count(tmp_path: Path) -> None:
    """Counters and caches; nor do globals and variables around a function that it sets itself."""
    module = written(tmp_path, TEXT)
    loss = module.Loss()
    before = identity(loss)
    for _ in range(3):
        loss(torch.ones(1), None)
    assert loss.calls == 3
    assert identity(loss) == before

    calls, seen = 0, []

    def function(x: int) -> int:
        nonlocal calls
        calls += 1
        seen.append(x)
        return x

    before = identity(function)
    function(3)
    assert (calls, seen) == (1, [3])
    assert identity(function) == before


def test_a_file_that_was_edited_since_is_not_believed(tmp_path: Path) -> None:
    module = written(tmp_path, TEXT)
    assert "source" in identity(module.outer)["code"]["inner()"]
    (tmp_path / "nnsim_script_of_a_test.py").write_text(TEXT.replace("K * x", "K + x"))
    found = identity(module.outer)["code"]
    assert "bytecode" in found["inner()"]
    assert "source" in found["outer()"]  # of which the text is the same


def test_functions_without_source_of_another_python_cannot_be_compared() -> None:
    function = eval("lambda x: x + 1")
    found = Differences()
    found.compare({**identity(function), "python": "3.99", "bytecode": "other"}, identity(function), "loss")
    assert found.lines == []
    assert found.unseen == ["loss (a function without source, or of another Python)"]


def test_a_module_with_the_name_of_one_of_pythons_is_the_users_own(tmp_path: Path) -> None:
    found = [identity(written(tmp_path, f"def loss(x):\n    return {k} * x\n", "sched").loss) for k in (2, 3)]
    assert found[0] != found[1]


def test_modules_of_the_users_own_are_looked_through(tmp_path: Path) -> None:
    helpers = "inner = 3\ndef scale(x):\n    return {} * x\nunused = {}\n"
    text = "import helpers_of_a_test\ndef loss(x):\n    return helpers_of_a_test.scale(x)\n"
    found = []
    for one, other in ((2, 1), (5, 1), (2, 7)):
        written(tmp_path, helpers.format(one, other), "helpers_of_a_test")
        found.append(identity(written(tmp_path, text).loss))
    assert found[0] == found[2]  # what is not used does not count
    assert found[0] != found[1]


# ------------------------------------------------------------------------------------------------------------- modules


class Net(nn.Module):
    def __init__(self, power: int = 1) -> None:
        super().__init__()
        self.base = nn.Linear(3, 4).requires_grad_(False)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 2)
        self.power, self._hidden, self.activation = power, [1.0, 2.0], torch.tanh
        self.register_buffer("mask", torch.ones(4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.activation(self.norm(self.base(x)) * self.mask) ** self.power)


def net(change: Callable[[Net], Any] = lambda net: None, power: int = 1) -> Net:
    torch.manual_seed(0)
    made = Net(power).eval()
    change(made)
    return made


MODULES: dict[str, tuple[Callable[[Any], Any], str | None]] = {
    "frozen weights": (lambda m: m.base.weight.add_(1e-6), "it.frozen 'base.weight': float32 [4, 3], sha256 "),
    "a buffer": (lambda m: m.norm.running_mean.add_(1), "it.buffers 'norm.running_mean': "),
    "a buffer that is not saved": (lambda m: m.mask.mul_(2), "it.buffers.mask: "),
    "training": (lambda m: m.train(), "it.training: [] -> all"),
    "training of a layer": (lambda m: m.norm.train(), "it.training: [] -> ['norm']"),
    "a number": (lambda m: setattr(m, "power", 2), "it: layers '(itself)'.power: 1 -> 2"),
    "a private list": (lambda m: m._hidden.append(3), "it: layers '(itself)'._hidden: "),
    "a function": (lambda m: setattr(m, "activation", torch.relu), "it: layers '(itself)'.activation: "),
    "another layer": (lambda m: setattr(m, "head", nn.Linear(5, 2).eval()), "it: layers.head.in_features: 4 -> 5"),
    "an epsilon": (lambda m: setattr(m.norm, "eps", 1e-3), "it: layers.norm.eps: 1e-05 -> 0.001"),
    "a hook": (lambda m: m.head.register_forward_hook(lambda *all: all[-1] * 2), "it: layers.head.hooks: "),
    "what moves": (lambda m: m.head.weight.add_(1), None),
}


@pytest.mark.parametrize("name", MODULES)
@torch.no_grad()
def test_what_stays_of_a_network_counts(name: str) -> None:
    change, message = MODULES[name]
    found = differences(Network(net()), Network(net(change)))
    assert len(found) == (message is not None), found
    if message is not None:
        assert message in found[0]


def test_heads_of_attention_count() -> None:
    """Not in the text of the module, and of the same shapes."""
    one, two = (nn.MultiheadAttention(4, heads) for heads in (1, 2))
    assert str(one) == str(two)
    assert any("num_heads: 1 -> 2" in line for line in differences(Network(one), Network(two)))


def test_elsewhere_a_parameter_is_a_number() -> None:
    """A prior around the weights that a network begins with is another one for other weights."""
    one, two = net(), net(lambda m: m.head.weight.data.add_(1))
    found = differences(scaled(one), scaled(two))
    assert any("it.closure.w.parameters 'head.weight': " in line for line in found)


# --------------------------------------------------------------------------------------------------------- nnsim's own


class Tilted(CollectiveVariable):
    """With a setting that only its methods know."""

    name = "tilted"

    def __init__(self, slope: float) -> None:
        self.__slope = slope

    def __call__(self, evaluation: Evaluation) -> Tensor:
        return self.__slope * evaluation.positions.sum(-1)


class Warm(Langevin):
    """A subclass of a part: its settings, and one of its own."""

    def __init__(self, dt: float, extra: float) -> None:
        super().__init__(dt, friction=1.0)
        self._extra = extra


@dataclasses.dataclass(frozen=True)
class Sharp(cv.SmoothedAccuracy):
    power: float = 1.0


class OwnStep:
    def __init__(self, size: float) -> None:
        self._size = size

    def sizes(self, state: State) -> Tensor:
        return torch.full((state.walkers,), self._size, dtype=torch.float64)


X, Y = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 2


def network(**settings: Any) -> NeuralNetwork:
    return NeuralNetwork(settings.pop("module", net()), (X, settings.pop("y", Y)), **settings)


def limits(last: float) -> Box:
    return Box(lower=-2, upper=torch.cat([torch.linspace(1, 2, 17), torch.tensor([last])]))


PARTS: dict[str, tuple[Any, Any, str]] = {
    "box": (AnalyticSystem(18, box=limits(1.5)), AnalyticSystem(18, box=limits(1.6)), "it.box.edges.upper: "),
    "digits of a box": (Box(lower=0, upper=0.12345678), Box(lower=0, upper=0.12345679), "it.edges.upper: "),
    "CV of a lambda": (cv.Energy(lambda q: q), cv.Energy(lambda q: 2 * q), "it.function: lambda q: q -> lambda q: 2"),
    "reference": (cv.Distance(torch.ones(3)), cv.Distance(torch.zeros(3)), "it.reference: "),
    "own CV": (Tilted(1.0), Tilted(2.0), "it._Tilted__slope: 1.0 -> 2.0"),
    "own CV under a bias": (Wall(Tilted(1.0), upper=1), Wall(Tilted(2.0), upper=1), "it.cv._Tilted__slope: 1.0 -> 2.0"),
    "subclass": (Warm(0.1, 1.0), Warm(0.1, 2.0), "it._extra: 1.0 -> 2.0"),
    "setting of a subclass": (Warm(0.1, 1.0), Warm(0.2, 1.0), "it.dt: 0.1 -> 0.2"),
    "field of a subclass": (Sharp(power=1.0), Sharp(power=2.0), "it.power: 1.0 -> 2.0"),
    "schedule": (Langevin(0.1, 1.0, lambda t: 1.0), Langevin(0.1, 1.0, lambda t: 2.0), "it.kT: lambda t: 1.0 -> "),
    "masses": (Langevin(0.1, 1.0, masses=TENSOR + 1), Langevin(0.1, 1.0, masses=OTHER + 1), "it.masses: float64 [12]"),
    "own step size": (MonteCarlo(OwnStep(1.0)), MonteCarlo(OwnStep(2.0)), "it.step_size._size: 1.0 -> 2.0"),
    "start": (AnalyticSystem(12, start=TENSOR), AnalyticSystem(12, start=OTHER), "it.start: float64 [12]"),
    "potential": (
        network(potential=LossPotential(1.0) + scaled(1)),
        network(potential=LossPotential(1.0) + scaled(2)),
        "it.potential.parts[1].closure.w: 1 -> 2",
    ),
    "labels": (network(), network(y=Y.roll(1)), "it.data.train: "),
    "loss": (network(loss=scaled_loss(1)), network(loss=scaled_loss(2)), "it.loss.closure.w: 1 -> 2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PARTS))
def test_settings_of_parts(name: str) -> None:
    one, other, message = PARTS[name]
    (line,) = differences(one, other)
    assert message in line


def test_what_parts_work_out_of_their_settings_does_not_count() -> None:
    """A part that has been prepared for a run, and moved, is the same as a new one."""
    bias = Metadynamics(cv.Energy(Harmonic()), Grid(0, 50, 100), height=0.1, sigma=1.0, pace=10)
    system, integrator = AnalyticSystem(3, Harmonic(), box=Box(5.0), start=0.5), Warm(0.1, 1.0)
    before = [identity(part) for part in (system, integrator, bias)]
    simulation = Simulation(system, integrator, bias=bias, walkers=2, precision="single").advance(30)
    assert bias.deposits > 0
    assert [identity(part) for part in (simulation.system, simulation.integrator, bias)] == before
