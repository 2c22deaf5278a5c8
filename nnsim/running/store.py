"""What a backend must offer to keep a run: its header, series, tables and checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from nnsim.errors import InputError, shown
from nnsim.lock import OutputLock
from nnsim.protocols import required
from nnsim.running.checks.contract import forgotten, form

if TYPE_CHECKING:
    from collections.abc import Mapping


@runtime_checkable
class Store(Protocol):
    """Keeps one run: a folder, by `nnsim.running.zarr_store`, or what you make of it, `run(output=MyStore(...))`.

    A run is a header (JSON), series (frames with step and time), tables of its biases with their attributes (JSON), and
    a checkpoint: a tree of dicts with string keys, whose leaves are tensors, arrays, numbers, texts, None, or lists of
    these. What `flush` counted may be relied on; a resume cuts every series back to the counts of its checkpoint, and
    what came later is computed again. The calls come in this order: `lock`; `create`, or `header`, `steps`,
    `checkpoint` and `resume`; then what the run writes; `close`, which is left out after an error; `release`.

    Attributes:
        path: what messages call it.
    """

    path: Path

    def exists(self) -> bool:
        """Whether there is something to resume, be it only a mark that a run is about to begin; asked before `lock`."""
        return self.begun()

    @required
    def begun(self) -> bool:
        """Whether a run has begun there."""
        ...

    def lock(self) -> None:
        """Take the sole right to write there.

        Raises:
            TrajectoryError: somebody else has it.
        """
        return

    def release(self) -> None:
        """Let others write there, whether or not everything was written; this may be called again."""
        return

    # ------------------------------------------------------------------ the start

    @required
    def create(self, header: Mapping[str, Any], *, overwrite: bool) -> None:
        """Begin a new run there, without series, tables and checkpoints of an earlier one.

        Raises:
            TrajectoryError: a run is there and shall not be replaced, or it cannot be.
        """
        ...

    @required
    def header(self) -> dict[str, Any]:
        """The header of the run that is there, with all that `set_attrs` added, checked."""
        ...

    @required
    def steps(self) -> int:
        """Step of the last frame that was flushed, of any series; 0 without frames."""
        ...

    @required
    def checkpoint(self, run: str | None) -> dict[str, Any] | None:
        """The newest whole tree of `save` that bears this `run`; None where none was saved before the run ended.

        Raises:
            TrajectoryError: there was one, and it is lost.
        """
        ...

    @required
    def resume(self, counts: Mapping[str, int]) -> None:
        """Go on after so many frames of each series; later ones, and series without a count, are removed."""
        ...

    # ------------------------------------------------------------------ the run

    @required
    def append(self, series: str, step: int, time: float, value: np.ndarray) -> None:
        """Add one frame, which is the caller's: copy it.

        Args:
            series: such as `observables/NAME`, `particles/parameters/position` or `nnsim/bias/NAME/snapshots/TABLE`.
            step: step of the simulation.
            time: time of the simulation, in reduced units.
            value: the frame, [...]; every frame of a series has the shape and type of its first.
        """
        ...

    def extend(self, series: str, steps: np.ndarray, times: np.ndarray, values: np.ndarray) -> None:
        """Add T frames [T, ...] of the steps and times [T]: `append` for each, unless you know a faster way."""
        for step, time, value in zip(steps.tolist(), times.tolist(), values, strict=True):
            self.append(series, step, time, np.asarray(value))

    @required
    def put(self, path: str, array: np.ndarray, attrs: dict[str, Any] | None = None) -> None:
        """Replace the array called `nnsim/bias/NAME/TABLE`, and its attributes unless they are None."""
        ...

    @required
    def set_attrs(self, group: str, attrs: dict[str, Any]) -> None:
        """Add to, or replace, attributes (JSON) of `parameters/nnsim`, the header, or of `nnsim/bias/NAME`."""
        ...

    @required
    def flush(self) -> dict[str, int]:
        """Make everything so far safe, and give the number of frames of each series."""
        ...

    @required
    def save(self, tree: dict[str, Any]) -> None:
        """Replace the checkpoint; at every moment the old or the new one is whole."""
        ...

    @required
    def close(self) -> None:
        """Flush, and let others write there."""
        ...


def require_store(output: object) -> Store:
    """Return a store, or raise `InputError` if it is none, or lacks a method."""
    kind = type(output)
    if isinstance(output, type) or not (isinstance(output, Store) or Store in kind.__mro__):
        raise InputError(
            f"Simulation: output = {shown(output)} must be a path; give the folder to write, NAME.zarr, or a store of "
            "your own, derived from nnsim.Store"
        )
    for name in forgotten(kind, Store):
        raise InputError(f"{kind.__name__}: the method {name} is missing; define {form(Store, name)}")
    if not hasattr(output, "path"):
        raise InputError(f"{kind.__name__}: the attribute path is missing; set it to what messages shall call it")
    return output  # type: ignore[return-value]


def require_path(output: object) -> str | Path:
    """Return the path of an output, or raise `InputError` if it is none."""
    if not isinstance(output, (str, Path)):
        raise InputError(f"Simulation: output = {shown(output)} must be a path; give the folder to write, NAME.zarr")
    return output


def called(output: Path | OutputLock | Store) -> Path:
    """What messages call an output."""
    if isinstance(output, OutputLock):
        return output.output
    return output if isinstance(output, Path) else output.path
