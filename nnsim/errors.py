"""The few exception types of nnsim. Every message names the value, the rule and the remedy."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

TOO_LARGE = 2**64  # for any count or seed: neither torch nor numpy can hold it


def printable(text: object, keep: str = "") -> str:
    r"""Return a text without control characters, which could rule a terminal or turn the order of letters round.

    What files hold is shown like this: escape sequences, line breaks and marks of direction appear as `\x1b`, `\n`,
    `\u202e`. Those in `keep` stay.

    >>> print(printable("\x1b[31mred"))
    \x1b[31mred
    """
    found = str(text)
    if found.isprintable():
        return found
    return "".join(one if one.isprintable() or one in keep else one.encode("unicode_escape").decode() for one in found)


class NNSimError(Exception):
    """Base class of every error that nnsim raises on purpose, in one line: a path may hold a line break."""

    keep = ""  # control characters that are shown as they are

    def __str__(self) -> str:
        return printable(super().__str__(), keep=self.keep)


class InputError(NNSimError, ValueError):
    """A setting or an input that cannot be used."""


class TrajectoryError(NNSimError):
    """A trajectory or checkpoint on disk that cannot be read, written or resumed."""


class DivergedError(NNSimError):
    """A NaN or an infinity appeared in the state; the message names step, walker and quantity."""


class NNSimWarning(UserWarning):
    """Something that does not stop a run but makes its result doubtful."""

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n")


def require_number(
    owner: str, name: str, value: object, *, above: float | None = None, least: float | None = None
) -> float:
    """Return `value` as a float, or raise `InputError` unless it is finite and `> above` (or `>= least`)."""
    rule = "a finite number"
    if above is not None:
        rule = f"a finite number above {above:g}"
    if least is not None:
        rule = f"a finite number of at least {least:g}"
    try:
        if _no_real(value):
            raise TypeError
        number = float(value)  # type: ignore[arg-type]  # numpy and torch scalars too
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError(f"{owner}: {name} = {shown(value)} must be {rule}; give a plain number") from None
    bad = not math.isfinite(number) or (above is not None and number <= above) or (least is not None and number < least)
    if bad:
        raise InputError(f"{owner}: {name} = {number:g} must be {rule}; change {name}")
    return number + 0.0  # -0.0 is 0: numpy takes it for a scale below 0


def require_each(
    owner: str, name: str, value: object, *, above: float | None = None, least: float | None = None
) -> float | tuple[float, ...]:
    """Return one number as a float, or one for each walker [W] as a tuple, each as `require_number` has it.

    Raises `InputError` for something else: of lists, arrays and tensors those that are empty, or no list of numbers.
    """
    several = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    if not several and not getattr(value, "ndim", 0):  # of an array or a tensor
        return require_number(owner, name, value, above=above, least=least)
    rule = "a number, or one for each walker"
    numbers = require_numbers(owner, name, value, rule)
    if numbers.ndim != 1:
        raise InputError(f"{owner}: {name} of shape {tuple(numbers.shape)} must be {rule}; give them as [W]")
    named = ((f"{name}[{walker}]", one) for walker, one in enumerate(numbers.tolist()))
    return tuple(require_number(owner, one, number, above=above, least=least) for one, number in named)


def require_integer(owner: str, name: str, value: object, *, least: int) -> int:
    """Return `value` as an int, or raise `InputError` unless it is a whole number of at least `least`."""
    try:
        whole = isinstance(value, float) and value.is_integer()
        number = int(value) if whole else operator.index(value)  # type: ignore[call-overload, arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise InputError(f"{owner}: {name} = {shown(value)} must be a whole number of at least {least}; change {name}")
    if number >= TOO_LARGE:
        raise InputError(f"{owner}: {name} = {shown(value)} must be below 2^64; take a smaller {name}")
    return number


def require_flag(owner: str, name: str, value: object) -> bool:
    """Return `value` as a bool, or raise `InputError` unless it is True or False: the text "no" would count as true."""
    if not _is_flag(value):
        raise InputError(f"{owner}: {name} = {shown(value)} must be True or False; change {name}")
    return bool(value)


def _is_flag(value: object) -> bool:
    """Whether it is a truth value, of Python or numpy."""
    return type(value).__name__ in ("bool", "bool_")


def _no_real(value: object) -> bool:
    """Whether it is text, a truth value or complex, which float() and torch would take: "0.5", True, 1j."""
    kind = str(getattr(value, "dtype", ""))
    return isinstance(value, (str, bytes)) or _is_flag(value) or kind.endswith("bool") or "complex" in kind


def require_integers(owner: str, name: str, value: object, *, least: int) -> list[int]:
    """Return a list of whole numbers of at least `least`, from any list, array or tensor, or raise `InputError`."""
    parts = None if isinstance(value, (str, bytes, Mapping)) else _listed(value)
    if parts is None:
        raise InputError(f"{owner}: {name} = {shown(value)} must be a list of whole numbers; change {name}")
    return [require_integer(owner, name, one, least=least) for one in parts]


def require_pair(owner: str, name: str, value: object) -> tuple[float, float]:
    """Return two finite numbers, from any list, array or tensor of two, or raise `InputError`."""
    parts = [] if isinstance(value, (str, bytes, Mapping)) else _listed(value)
    if parts is None or len(parts) != 2:
        raise InputError(f"{owner}: {name} = {shown(value)} must be two numbers, (low, high); change {name}")
    low, high = (require_number(owner, name, one) for one in parts)
    return low, high


def require_several(owner: str, name: str, value: object, kind: type[T], source: str) -> list[T]:
    """Return a list of objects of one kind, from any number of them or a single one, or raise `InputError`.

    Args:
        owner: who asks, for messages.
        name: of the argument.
        value: what was given.
        kind: the class.
        source: what makes such objects, for messages.
    """
    things = [value] if isinstance(value, kind) else _listed(value)
    if things is None or not all(isinstance(one, kind) for one in things):
        raise InputError(
            f"{owner}: {name} = {shown(value)} must be one or more {kind.__name__}; give what {source} gives"
        )
    return things


def _listed(value: Any) -> list[Any] | None:
    """The parts of something that can be gone through, or None."""
    try:
        return list(value)
    except TypeError:
        return None


def require_choice(owner: str, name: str, value: object, choices: Iterable[str]) -> str:
    """Return `value`, or raise `InputError` unless it is one of `choices`."""
    options = list(choices)
    if not isinstance(value, str) or value not in options:  # an array would be compared element by element
        raise InputError(
            f"{owner}: {name} = {shown(value)} is not known; choose one of {', '.join(map(repr, options))}"
        )
    return value


def require_text(owner: str, name: str, value: object) -> str:
    """Return `value`, or raise `InputError` unless it is a text."""
    if not isinstance(value, str):
        raise InputError(f"{owner}: {name} = {shown(value)} must be a name; give a text")
    return value


def require_texts(owner: str, name: str, value: object) -> list[str]:
    """Return a list of texts, from several or a single one, or raise `InputError`."""
    texts: list[Any] | None = [value] if isinstance(value, (str, bytes)) else _listed(value)
    if texts is None or not all(isinstance(one, str) for one in texts):
        raise InputError(f"{owner}: {name} = {shown(value)} must be names; give a text, or a list of them")
    return texts


def require_kind(owner: str, name: str, value: object, kind: type[T], source: str) -> T:
    """Return `value`, or raise `InputError` unless it is of a kind; `source` tells what makes such objects."""
    if not isinstance(value, kind):
        raise InputError(f"{owner}: {name} = {shown(value)} must be of the kind {kind.__name__}; give {source}")
    return value


def require_path(owner: str, name: str, value: object) -> Path:
    """Return `value` as a path, or raise `InputError` unless it is one or a text."""
    if not isinstance(value, (str, Path)) or "\0" in str(value):
        raise InputError(f"{owner}: {name} = {shown(value)} must be a path; give that of a file or folder")
    return Path(value)


def require_numbers(owner: str, name: str, value: object, rule: str = "a number or numbers") -> Tensor:
    """Return a float64 copy of a number, list, array or tensor, or raise `InputError` if it is none or empty."""
    import numpy as np
    import torch

    try:
        if _no_real(value if hasattr(value, "dtype") else np.asarray(value)):
            raise TypeError
        numbers = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{owner}: {name} = {shown(value)} must be {rule}; give plain numbers") from None
    if not numbers.numel():
        raise InputError(f"{owner}: {name} = {shown(value)} must be {rule}, but is empty; give at least one")
    return numbers.detach().clone()  # what the caller does to an array later must not matter


def settle_number(thing: object, name: str, *, above: float | None = None, least: float | None = None) -> None:
    """Replace an attribute, of a frozen dataclass too, by what `require_number` makes of it."""
    number = require_number(type(thing).__name__, name, getattr(thing, name), above=above, least=least)
    object.__setattr__(thing, name, number)


def require_cv(owner: str, name: str, value: object) -> None:
    """Raise `InputError` unless `value` can be a collective variable: it has a name and maps evaluations to values."""
    named = isinstance(getattr(value, "name", None), str)
    if isinstance(value, type) or not callable(value) or not named:
        raise InputError(
            f"{owner}: {name} = {shown(value)} must be a collective variable; "
            "give an object such as nnsim.cv.LogLoss('train')"
        )


def shown(value: object, length: int = 80) -> str:
    """`repr` in one line of bounded length, for messages."""
    text = " ".join(repr(value).split())
    return text if len(text) <= length else text[: length - 3] + "..."


def listed(names: Sequence[str], most: int = 3) -> str:
    """Some names in one line, and how many there are beside them; empty for none."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def first_line(error: Exception) -> str:
    """What an error of torch says, in one line of bounded length."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:120]
