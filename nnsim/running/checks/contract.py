"""What the protocols require of a part, also of one that does not inherit from them.

The protocols themselves say it: an attribute without a value, and a method that is marked `required`, must be the
part's own. Beside these, a part that does not inherit must have all else that the protocol has defaults for.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from nnsim.errors import InputError, shown
from nnsim.protocols import CollectiveVariable, Observable, is_required

LENIENT = (Observable, CollectiveVariable)  # of which all but the required may be missing


def attributes_of(protocol: Any) -> list[str]:
    """Names of the attributes that a part must have: those without a value."""
    names = {name for one in _protocols(protocol) for name in inspect.get_annotations(one)}
    return sorted(name for name in names if not hasattr(protocol, name))


def methods_of(protocol: Any) -> list[str]:
    """Names of the methods that a part must have of its own, in the order of the protocol; inherited ones first."""
    names = dict.fromkeys(name for one in _protocols(protocol) for name in vars(one))
    return [name for name in names if is_required(getattr(protocol, name, None))]


def defaults_of(protocol: Any) -> list[str]:
    """Names of all that the protocol gives to whoever inherits from it."""
    needed = {*attributes_of(protocol), *methods_of(protocol)}
    names = dict.fromkeys(name for one in _protocols(protocol) for name in (*inspect.get_annotations(one), *vars(one)))
    return [name for name in names if name not in needed and not name.startswith("_")]


def forgotten(kind: type, protocol: Any) -> list[str]:
    """Names of the required methods that a class does not have of its own."""
    found = {name: getattr(kind, name, None) for name in methods_of(protocol)}
    return [name for name, method in found.items() if not callable(method) or is_required(method)]


def form(protocol: Any, name: str) -> str:
    """How a method is to be defined, such as `energy(s, step)`."""
    return f"{name}({', '.join(_parameters(protocol, name))})"


def _protocols(protocol: Any) -> Iterator[type]:
    """A protocol and those that it extends, the most general first."""
    return (one for one in reversed(protocol.__mro__) if one.__module__ == protocol.__module__)


def check_contract(what: str, part: Any, protocol: Any) -> Any:
    """The part, if it is an object that keeps its protocol.

    Args:
        what: it is called in messages, such as "bias".
        part: any object.
        protocol: one of those of `nnsim.protocols`.

    Raises:
        InputError: a class, an object that lacks an attribute or a method or whose method takes other arguments.
    """
    owner, classes = type(part).__name__, type(part).__mro__
    if protocol is Observable and CollectiveVariable in classes:
        protocol = CollectiveVariable
    if isinstance(part, type):
        raise InputError(f"Simulation: the class {part.__name__} is no {what}; give an object, {part.__name__}(...)")
    missing = [name for name in attributes_of(protocol) if not hasattr(part, name)]
    lacking = [name for name in methods_of(protocol) if not hasattr(part, name)]
    inherits = protocol in classes
    if (missing and not inherits) or lacking == methods_of(protocol):
        needs = ", ".join((*attributes_of(protocol), *methods_of(protocol)))
        raise InputError(
            f"Simulation: {shown(part)} is no {what}: {owner} has no {', '.join((*missing, *lacking))}; give an object "
            f"with {needs}, such as a subclass of nnsim.protocols.{protocol.__name__}"
        )
    if missing:
        raise InputError(f"{owner}: the attribute {missing[0]} is missing, which each {what} needs; set it")
    for name in methods_of(protocol):
        method = getattr(part, name, None)
        if is_required(method) or not takes(method, _parameters(protocol, name)):
            define = form(protocol, name)
            raise InputError(f"{owner}: the method {name} is missing, or takes other arguments; define {define}")
    unsaid = [name for name in defaults_of(protocol) if not inherits and not has(part, name)]
    if unsaid and protocol not in LENIENT:
        raise InputError(
            f"{owner}: {', '.join(unsaid)} is missing; derive the class from nnsim.protocols.{protocol.__name__}"
        )
    return part


def has(part: Any, name: str) -> bool:
    """Whether there is an attribute, without asking a property, which may not know before the first state is made."""
    return hasattr(type(part), name) or hasattr(part, name)


def _parameters(protocol: Any, name: str) -> list[str]:
    """Names of the arguments of a method, without `self`."""
    return list(inspect.signature(getattr(protocol, name)).parameters)[1:]


def takes(method: Any, arguments: list[str]) -> bool:
    """Whether something can be called with so many arguments."""
    if not callable(method):
        return False
    try:
        inspect.signature(method).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # of code that is not Python's, whose arguments nobody knows
        return True
    return True
