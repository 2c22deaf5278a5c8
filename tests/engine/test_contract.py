"""What the protocols require: a part that forgets it is refused when the simulation is made, in one line."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import pytest
from own_parts import Brownian, Centre, Spread, Springs, Umbrella

from nnsim import InputError, Simulation, protocols
from nnsim.running.checks.contract import attributes_of, defaults_of, methods_of


class Bell:
    """A reporter that rings at each tenth step."""

    def due(self, step: int) -> int:
        return step + 10 - step % 10

    def report(self, simulation: Simulation) -> None:
        self.rung = simulation.state.step


WHOLE: dict[Any, tuple[type, tuple[Any, ...]]] = {
    protocols.System: (Springs, (2, 1.0)),
    protocols.CollectiveVariable: (Centre, ()),
    protocols.Observable: (Spread, ()),
    protocols.Bias: (Umbrella, (Centre(), 1.0, 4.0)),
    protocols.Integrator: (Brownian, (0.1,)),
    protocols.Reporter: (Bell, ()),
}
CASES = [(protocol, name) for protocol in WHOLE for name in methods_of(protocol)]


def a_class(protocol: Any, inherits: bool, without: str = "") -> type:
    """The own part of a protocol without one method; one that does not inherit has all else as its own."""
    own = {name: value for name, value in vars(WHOLE[protocol][0]).items() if name in ("__init__", "__call__", "name")}
    own |= {name: value for name, value in vars(WHOLE[protocol][0]).items() if not name.startswith("_")}
    if not inherits:
        own = {name: inspect.getattr_static(protocol, name) for name in defaults_of(protocol)} | own
    own.pop(without, None)
    return type("Own", (protocol,) if inherits else (), own)


def simulation(protocol: Any, part: Any) -> Simulation:
    parts: dict[Any, Any] = {one: kind(*arguments) for one, (kind, arguments) in WHOLE.items()}
    parts[protocol] = part
    cv = parts[protocols.CollectiveVariable]
    if protocol is not protocols.Bias:
        parts[protocols.Bias].cvs = [cv]
    return Simulation(
        parts[protocols.System],
        parts[protocols.Integrator],
        bias=parts[protocols.Bias],
        observe=[parts[protocols.Observable]],
        reporters=[parts[protocols.Reporter]],
        walkers=2,
        every=5,
    )


@pytest.mark.slow
@pytest.mark.parametrize("inherits", [True, False], ids=["inherits", "stranger"])
@pytest.mark.parametrize("protocol", WHOLE, ids=lambda one: one.__name__)
def test_whole_parts_run(protocol: Any, inherits: bool) -> None:
    part = a_class(protocol, inherits)(*WHOLE[protocol][1])
    made = simulation(protocol, part).advance(10)
    assert made.state.step == 10
    assert len(made.history["spread"]) == 2


@pytest.mark.parametrize("inherits", [True, False], ids=["inherits", "stranger"])
@pytest.mark.parametrize(("protocol", "method"), CASES, ids=[f"{one.__name__}.{name}" for one, name in CASES])
def test_a_forgotten_method_is_named(protocol: Any, method: str, inherits: bool) -> None:
    part = a_class(protocol, inherits, without=method)(*WHOLE[protocol][1])
    with pytest.raises(InputError) as raised:
        simulation(protocol, part)
    told = str(raised.value)
    assert "Own" in told
    assert method in told
    assert "\n" not in told


@pytest.mark.parametrize(("protocol", "method"), CASES, ids=[f"{one.__name__}.{name}" for one, name in CASES])
def test_a_method_of_other_arguments_is_named(protocol: Any, method: str) -> None:
    part = a_class(protocol, inherits=True)
    setattr(part, method, lambda self: None)
    with pytest.raises(InputError, match=f"^Own: the method {method} is missing, or takes other arguments; define "):
        simulation(protocol, part(*WHOLE[protocol][1]))


def test_strangers_have_all_that_is_used() -> None:
    """What a part that does not inherit has no defaults for."""
    for protocol in (protocols.System, protocols.Bias, protocols.Integrator):
        for name in defaults_of(protocol):
            part = a_class(protocol, inherits=False, without=name)
            if hasattr(part(*WHOLE[protocol][1]), name):
                continue  # set by its __init__
            with pytest.raises(InputError, match=rf"^Own: {name} is missing; derive the class from nnsim\.protocols\."):
                simulation(protocol, part(*WHOLE[protocol][1]))


def test_what_is_required_is_what_has_no_body() -> None:
    """Of each protocol: a method is marked exactly if its body is `...`."""
    tree = ast.parse(inspect.getsource(protocols))
    found = 0
    for node in (one for one in tree.body if isinstance(one, ast.ClassDef)):
        empty = {
            one.name for one in node.body if isinstance(one, ast.FunctionDef) and ast.unparse(one.body[-1]) == "..."
        }
        marked = {
            one.name
            for one in node.body
            if isinstance(one, ast.FunctionDef) and "required" in map(ast.unparse, one.decorator_list)
        }
        assert empty == marked, node.name
        found += len(marked)
    assert found >= len(CASES)
    assert set(methods_of(protocols.Integrator)) == {"init"}  # a step is its own or that of a program
    assert set(attributes_of(protocols.Bias)) == {"name", "cvs"}
