"""The few exception types of nnsim. Every message names the value, the rule and the remedy."""

from __future__ import annotations

import math
from collections.abc import Iterable


class NNSimError(Exception):
    """Base class of every error that nnsim raises on purpose; the command line prints it as one line."""


class InputError(NNSimError, ValueError):
    """A setting or an input that cannot be used."""


class TrajectoryError(NNSimError):
    """A trajectory or checkpoint on disk that cannot be read, written or resumed."""


class DivergedError(NNSimError):
    """A NaN or an infinity appeared in the state; the message names step, walker and quantity."""


class NNSimWarning(UserWarning):
    """Something that does not stop a run but makes its result doubtful."""


def require_number(
    owner: str, name: str, value: object, *, above: float | None = None, least: float | None = None
) -> float:
    """Return `value` as a float, or raise `InputError` unless it is finite and `> above` (or `>= least`)."""
    rule = "a finite number"
    if above is not None:
        rule = f"a finite number above {above:g}"
    if least is not None:
        rule = f"a finite number of at least {least:g}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        try:
            value = float(value)  # type: ignore[arg-type]  # numpy and torch scalars
        except (TypeError, ValueError, RuntimeError):
            raise InputError(f"{owner}: {name} = {value!r} must be {rule}; give a plain number") from None
    number = float(value)
    bad = not math.isfinite(number) or (above is not None and number <= above) or (least is not None and number < least)
    if bad:
        raise InputError(f"{owner}: {name} = {number:g} must be {rule}; change {name}")
    return number


def require_integer(owner: str, name: str, value: object, *, least: int) -> int:
    """Return `value` as an int, or raise `InputError` unless it is a whole number of at least `least`."""
    whole = isinstance(value, (int, float)) and not isinstance(value, bool) and float(value).is_integer()
    if not whole and hasattr(value, "__index__") and not isinstance(value, bool):
        whole = True
    if not whole or int(value) < least:  # type: ignore[call-overload]
        raise InputError(f"{owner}: {name} = {value!r} must be a whole number of at least {least}; change {name}")
    return int(value)  # type: ignore[call-overload]


def require_choice(owner: str, name: str, value: object, choices: Iterable[str]) -> str:
    """Return `value`, or raise `InputError` unless it is one of `choices`."""
    options = list(choices)
    if value not in options:
        raise InputError(f"{owner}: {name} = {value!r} is not known; choose one of {', '.join(map(repr, options))}")
    return str(value)
