"""What analyses refuse of the arrays and numbers that they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsim.errors import InputError, require_number, shown

Floats = NDArray[np.float64]


def as_numbers(owner: str, name: str, value: Any) -> NDArray[Any]:
    """An array of real numbers, float32 kept and all else made float64."""
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf" or value is True or value is False:  # arrays of those are masks
            raise TypeError
        return array if array.dtype == np.float32 else array.astype(np.float64, copy=False)
    except (TypeError, ValueError):
        raise InputError(f"{owner}: {name} = {shown(value)} must be real numbers; give an array of them") from None


def as_floats(owner: str, name: str, value: Any, axes: int | None = None) -> Floats:
    """An array of real numbers as float64, of so many axes if that is asked for."""
    array = as_numbers(owner, name, value).astype(np.float64)
    if axes is not None and array.ndim != axes:
        rule = "a list [N]" if axes == 1 else f"an array of {axes} axes"
        raise InputError(f"{owner}: {name} of shape {array.shape} must be {rule}; change {name}")
    return array


def require_fraction(owner: str, since: object) -> float:
    """Return `since` as a float, or raise `InputError` unless it is from 0 to below 1."""
    try:
        number = require_number(owner, "since", since, least=0.0)
    except InputError:
        number = 1.0
    if number >= 1:
        raise InputError(f"{owner}: since = {_plain(since)} must be at least 0 and below 1; change since")
    return number


def _plain(value: object) -> str:
    """A number in a few digits, anything else as it prints itself."""
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else shown(value)
