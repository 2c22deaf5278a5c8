"""Positions or velocities [T, W, n], in memory or on disk, of which a bounded part is read at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.averages.common_frames import opened
from nnsim.analysis.checks import as_numbers
from nnsim.analysis.images import centre, period_of_positions
from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import InputError, require_number, shown
from nnsim.networks.layout import places_of
from nnsim.trajectory.record import read_header
from nnsim.trajectory.selection import select

Shapes = Mapping[str, Sequence[int]]
Selection = Any  # None, a slice, indices [k], a mask [n], or words as in nnsim.trajectory.selection

BLOCK_BYTES = 16 * 2**20  # of frames, as float64
BATCH_BYTES = 192 * 2**20  # of columns, as they are stored


class Recorded:
    """Frames of a trajectory, of one of its series or of an array, in one form.

    Args:
        owner: who asks, for messages.
        frames: array or `Series` [T, W, n], a `Trajectory`, or its path.
        what: `"positions"` or `"velocities"`: which series of a trajectory.
        selection: which parameters; see `indices_of`.
        parameters: names and shapes of the tensors; None takes those of a trajectory.
        period: width of the periodic box, a number or [n]; None takes that of a trajectory.

    Attributes:
        shape: (T, W, number of selected parameters).
        periods: after how much each of the n parameters comes round, [n]; None if they do not, as velocities.
        header: of the trajectory, also of one that a series belongs to; empty for arrays.

    Raises:
        InputError: no such series, other dimensions, no frames, a selection that fits nothing, or a periodic box whose
            width was not recorded.
    """

    def __init__(
        self,
        owner: str,
        frames: Any,
        what: str,
        *,
        selection: Selection = None,
        parameters: Shapes | None = None,
        period: Any = None,
    ) -> None:
        self.owner, self.what = owner, what
        self.series, self.header = _series(owner, frames, what)
        self.parameters = parameters if parameters is not None else self.header.get("parameters")
        shape = tuple(self.series.shape)
        if len(shape) != 3 or 0 in shape:
            raise InputError(
                f"{owner}: {what} of shape {shape} must be [frames, walkers, parameters], none of them 0; "
                "add the missing axes, such as array[:, None, :] for one walker"
            )
        self.columns = indices_of(owner, selection, shape[2], self.parameters)
        self.size = shape[2]
        self.shape = (shape[0], shape[1], len(np.empty(shape[2], np.bool_)[self.columns]))
        self.periods = require_period(owner, period, self.size)
        if self.periods is None and getattr(self.series, "name", what) in ("position", "positions"):
            places = getattr(self.series, "parameters", None)  # of a slice
            self.periods = period_of_positions(owner, self.header, np.arange(self.size) if places is None else places)

    @property
    def period(self) -> Floats | None:
        """After how much the selected parameters come round, [k]; None if they do not."""
        return None if self.periods is None else self.periods[self.columns]

    def centre(self, axes: tuple[int, ...]) -> Floats:
        """Mean over frames, axis 0, or over frames and walkers, axes 0 and 1, of nearest images in a periodic box."""
        count = math.prod(self.shape[axis] for axis in axes)

        def average(function: Callable[[Floats], NDArray[Any]]) -> NDArray[Any]:
            return np.asarray(sum(function(block).sum(axis=axes) / count for _, block in self.blocks()))

        if self.period is None:
            return average(lambda block: block)
        start = self.read(0, 1)[0]
        return centre(self.owner, average, self.period, start[0] if len(axes) > 1 else start)

    def read(self, start: int, stop: int, *, selected: bool = True) -> Floats:
        """Frames from `start` to before `stop`, [frames, W, k] (or all n parameters), float64; refuses NaN."""
        block = np.asarray(self.series[start:stop], dtype=np.float64)
        block = block[:, :, self.columns] if selected else block
        if not np.isfinite(block).all():
            frame = start + int(np.argmin(np.isfinite(block).all(axis=(1, 2))))
            raise InputError(f"{self.owner}: {self.what} of frame {frame} are not all finite; leave such frames out")
        return block

    def blocks(self, *, selected: bool = True) -> Iterator[tuple[slice, Floats]]:
        """All frames in order, a bounded number at a time: which they are, and [frames, W, k]."""
        frames, walkers, _ = self.shape
        rows = max(1, BLOCK_BYTES // (8 * walkers * self.size))
        for start in range(0, frames, rows):
            stop = min(start + rows, frames)
            yield slice(start, stop), self.read(start, stop, selected=selected)

    def batches(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """All frames of a bounded number of the W k columns at a time: which they are, and [T, columns]."""
        frames, walkers, size = self.shape
        kind = np.float32 if self.series.dtype == np.float32 else np.float64
        width = max(1, BATCH_BYTES // (np.dtype(kind).itemsize * frames))
        for first in range(0, walkers * size, width):
            chosen = slice(first, min(first + width, walkers * size))
            batch = np.empty((frames, chosen.stop - first), kind)
            for rows, block in self.blocks():
                batch[rows] = block.reshape(len(block), -1)[:, chosen]
            yield chosen, batch

    def column_ranges(self) -> list[tuple[int, int]]:
        """First and last parameter of parts of the columns of all walkers that are bounded in memory as float64."""
        frames, walkers, size = self.shape
        width = max(1, BATCH_BYTES // (8 * frames * walkers))
        return [(first, min(first + width, size)) for first in range(0, size, width)]

    def interval(self, given: float | None) -> float:
        """Time between frames: as given, else of the series, else 1; refuses uneven frames."""
        if given is not None:
            return require_number(self.owner, "interval", given, above=0.0)
        return spacing(self.owner, self.series)

    def time(self) -> Floats:
        """Time of each frame, [T]; the number of the frame for an array."""
        return _time(self.series)

    def vector(self, name: str, value: Any) -> Floats:
        """Parameters given as [n] or [W, n], as [W, n] float64."""
        return vectors(self.owner, name, value, self.shape[1], self.size)


def _series(owner: str, frames: Any, what: str) -> tuple[Any, Mapping[str, Any]]:
    """Something with `shape` and slices of frames, and the header of its trajectory."""
    if isinstance(frames, (str, Path)):
        frames = opened(frames, owner)
    if hasattr(frames, "header"):
        series = getattr(frames, what)
        if series is None:
            setting = "velocities_every" if what == "velocities" else "positions_every"
            raise InputError(f"{owner}: {frames.path} has no {what}; record them with Simulation({setting}=...)")
        return series, frames.header
    if hasattr(frames, "shape") and hasattr(frames, "step"):
        return frames, header_of(frames)
    return as_numbers(owner, what, frames), {}


def require_period(owner: str, period: Any, size: int) -> Floats | None:
    """A period that was given, a number or one for each of `size` parameters, as [size]; None stays None."""
    if period is None:
        return None
    numbers = as_numbers(owner, "period", period).astype(np.float64)
    if numbers.shape not in ((), (size,)) or not (np.isfinite(numbers) & (numbers > 0)).all():
        raise InputError(f"{owner}: period must be a number above 0, or one for each of {size}; change period")
    return np.broadcast_to(numbers, size)


def vectors(owner: str, name: str, value: Any, walkers: int, size: int) -> Floats:
    """Parameters [n] or [W, n] as [W, n] float64."""
    array = as_numbers(owner, name, value).astype(np.float64)
    if array.shape not in ((size,), (walkers, size)) or not np.isfinite(array).all():
        raise InputError(
            f"{owner}: {name} of shape {array.shape} must be finite numbers of shape ({size},) or ({walkers}, {size}); "
            f"change {name}"
        )
    return np.broadcast_to(array, (walkers, size))


def layers_of(parameters: Shapes) -> dict[str, NDArray[np.int64]]:
    """Places in the flat positions of each layer, the tensors of one module, by the name of the module.

    >>> {name: at.tolist() for name, at in layers_of({"0.weight": (1, 2), "0.bias": (1,), "2.bias": (1,)}).items()}
    {'0': [0, 1, 2], '2': [3]}
    """
    found: dict[str, list[NDArray[np.int64]]] = {}
    for name, at in places_of(parameters).items():
        owner, parametrised, _ = name.partition(".parametrizations.")
        layer = owner if parametrised else name.rpartition(".")[0]
        found.setdefault(layer, []).append(np.arange(at.start, at.stop))
    return {layer: np.concatenate(parts) for layer, parts in found.items()}


def require_shapes(owner: str, parameters: Shapes | None) -> Shapes:
    """The names and shapes, or `InputError` if they are none."""
    if not isinstance(parameters, Mapping):
        raise InputError(
            f"{owner}: parameters = {shown(parameters)} must be names and shapes of the tensors; give "
            "trajectory.header['parameters'], or a dictionary such as {'0.weight': (10, 784), ...}"
        )
    if not all(isinstance(name, str) and _is_shape(shape) for name, shape in parameters.items()):
        raise InputError(
            f"{owner}: parameters = {shown(parameters)} must be shapes by the names of tensors; give them as in "
            "{'0.weight': (10, 784), '0.bias': (10,)}"
        )
    return parameters


def require_parameters(owner: str, parameters: Shapes | None, size: int) -> Shapes:
    """The names and shapes, or `InputError` if they are unknown or do not make `size` parameters."""
    parameters = require_shapes(owner, parameters)
    total = total_of(parameters)
    if total != size:
        raise InputError(f"{owner}: parameters make {total} numbers, but the positions have {size}; change parameters")
    return parameters


def _is_shape(shape: object) -> bool:
    sizes = list(shape) if isinstance(shape, Sequence) and not isinstance(shape, str) else [None]
    return all(isinstance(one, (int, np.integer)) and one >= 0 for one in sizes)


def indices_of(owner: str, selection: Selection, size: int, parameters: Shapes | None) -> Any:
    """A selection as a slice or as indices [k] into the n = `size` parameters.

    Args:
        owner: who asks, for messages.
        selection: None (all), a slice, indices [k], a mask [n], or words such as `"layer 1 and weight"`
            (`nnsim.trajectory.selection`).
        size: number of parameters.
        parameters: names and shapes, for words.

    Raises:
        InputError: nothing selected, indices out of range, or words without names and shapes.
    """
    if selection is None:
        return slice(None)
    if isinstance(selection, str):
        return select(require_parameters(owner, parameters, size), selection)
    try:
        chosen: NDArray[Any] = np.arange(size)[selection if isinstance(selection, slice) else np.asarray(selection)]
    except (IndexError, TypeError, ValueError):
        chosen = np.empty(0)
    if chosen.ndim != 1 or not len(chosen):
        raise InputError(
            f"{owner}: selection = {shown(selection)} must choose some of {size} parameters; give a slice, indices "
            "[k], a mask or words such as 'layer 1'"
        )
    return selection if isinstance(selection, slice) else chosen


def header_of(series: Any) -> Mapping[str, Any]:
    """The header of the trajectory that a series belongs to; of some of the parameters it does not tell the names."""
    if not hasattr(series, "root"):
        return {}
    header = read_header(series.root)
    places = getattr(series, "parameters", None)  # of a slice
    some = places is not None and not np.array_equal(places, np.arange(total_of(header.get("parameters") or {})))
    return {name: value for name, value in header.items() if not (some and name == "parameters")}


def module_text(header: Mapping[str, Any]) -> str | None:
    """The torch module of a run as it printed itself; None where there is none."""
    text = header.get("system", {}).get("module")
    return text if isinstance(text, str) else None


def total_of(parameters: Shapes) -> int:
    """Number of parameters."""
    return sum(math.prod(shape) for shape in parameters.values())


def _time(series: Any) -> Floats:
    return np.asarray(series.time if hasattr(series, "time") else np.arange(series.shape[0]), dtype=np.float64)


def spacing(owner: str, series: Any) -> float:
    """Time between the frames of a series; 1 for an array; refuses frames that are not evenly spaced."""
    if not hasattr(series, "time") or series.shape[0] < 2:
        return 1.0
    apart = np.diff(_time(series))
    if apart[0] <= 0 or np.abs(apart - apart[0]).max() > 1e-6 * apart[0] + 1e-12 * np.abs(_time(series)).max():
        raise InputError(
            f"{owner}: frames at uneven times, {apart.min():g} to {apart.max():g} apart; leave out those that do not "
            "fit, or give interval= if only their labels are off"
        )
    return float(apart.mean())
