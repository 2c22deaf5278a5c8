"""A run in a folder `NAME.zarr`, with its checkpoint beside it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nnsim.errors import NNSimWarning, TrajectoryError
from nnsim.lock import OutputLock
from nnsim.running.checkpoint import DamagedCheckpoint, load_checkpoint, previous_path, save_checkpoint
from nnsim.running.store import Store
from nnsim.trajectory.frames import recorded_steps
from nnsim.trajectory.layout import is_starting
from nnsim.trajectory.record import opened_header
from nnsim.trajectory.writer import TrajectoryWriter


def checkpoint_path(trajectory: Path) -> Path:
    """`run.checkpoint.npz` beside `run.zarr`, and `run-checkpoint.npz` beside `run`: no two outputs share one.

    It is beside the folder itself, whatever links lead there.
    """
    root = Path(os.path.realpath(trajectory))
    end = ".checkpoint.npz" if root.name.endswith(".zarr") else "-checkpoint.npz"
    return root.parent / (root.name.removesuffix(".zarr") + end)


def _earlier_path(trajectory: Path) -> Path:
    """Where version 0.1 had it: beside the path as it was given, and with one name for `run` and `run.zarr`."""
    return trajectory.with_name(trajectory.name.removesuffix(".zarr") + ".checkpoint.npz")


class ZarrStore(Store):
    """The trajectory and the checkpoints of one run.

    The checkpoint before the newest is kept too, for a resume that finds the newest damaged.

    Args:
        output: the folder, or the lock of it that the caller holds.
    """

    def __init__(self, output: OutputLock | Path | str) -> None:
        self._output = output
        self.path = output.output if isinstance(output, OutputLock) else Path(output)
        self._lock: OutputLock | None = None
        self._writer: TrajectoryWriter | None = None
        self._loaded: Path | None = None  # the checkpoint that the run goes on from
        self._keep = False  # whether what lies there is a whole checkpoint of this run

    def exists(self) -> bool:
        """Whether there is anything of that name."""
        return os.path.exists(self._output)

    def begun(self) -> bool:
        """Whether there is more than the mark of a run that has not written anything yet."""
        return self.exists() and not is_starting(self._held.root)

    def lock(self) -> None:
        """Take a share of the lock that was given, or a new one."""
        self._lock = OutputLock.of(self._output)

    def release(self) -> None:
        """Let others write there, as if this process were killed now."""
        if self._writer is not None:
            self._writer.release()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def _held(self) -> OutputLock:
        assert self._lock is not None, "the store is not locked"
        return self._lock

    @property
    def writer(self) -> TrajectoryWriter:
        """Of the trajectory, once it was created or resumed."""
        assert self._writer is not None, "the store was neither created nor resumed"
        return self._writer

    # ------------------------------------------------------------------ the start

    def create(self, header: Mapping[str, Any], *, overwrite: bool) -> None:
        """Begin a new trajectory; a newest checkpoint that lies there is of another run, and goes at the first save."""
        self._writer = TrajectoryWriter.create(self._held, dict(header), overwrite=overwrite)
        self._forget()

    def _forget(self) -> None:
        """Remove the checkpoint before the newest, which is of another run."""
        previous_path(checkpoint_path(self._held.root)).unlink(missing_ok=True)

    def header(self) -> dict[str, Any]:
        """The header, after a look at all metadata."""
        return opened_header(self._held.root)

    def steps(self) -> int:
        """Step of the last committed frame."""
        return recorded_steps(self._held.root)

    def checkpoint(self, run: str | None) -> dict[str, Any] | None:
        """The newest whole checkpoint of this very run; None for one that was killed before its first."""
        lock = self._held
        checkpoint = checkpoint_path(lock.root)
        damage = [] if checkpoint.exists() else [f"{checkpoint.name} is missing"]
        # that of version 0.1 last: it may have been left behind when the run went on
        earlier = _earlier_path(lock.absolute)
        for path in dict.fromkeys((checkpoint, previous_path(checkpoint), earlier)):
            try:
                saved = load_checkpoint(path) if path.exists() else {}
            except DamagedCheckpoint:
                damage.append(f"{path.name} is damaged")
                continue
            if saved and saved.get("run") == run:
                if path != checkpoint and (path != earlier or any("damaged" in one for one in damage)):
                    _warn_of_step(saved, self.steps(), damage, path)
                self._loaded = path
                return saved
        steps = self.steps()
        if steps or any("damaged" in one for one in damage):
            raise TrajectoryError(
                f"{lock.output} cannot be resumed: its checkpoint {checkpoint.name} is missing, damaged, or that of "
                f"another run ({', '.join(damage) or 'another run'}), and so is the one before; put a copy back, or "
                f"start a new run with another --output: what was recorded up to step {steps} is whole, and "
                "--overwrite would remove it"
            )
        return None

    def resume(self, counts: Mapping[str, int]) -> None:
        """Cut the trajectory back to these counts."""
        self._writer = TrajectoryWriter.resume(self._held, dict(counts))
        self._keep = self._loaded == checkpoint_path(self._held.root)
        if self._loaded is None:
            self._forget()

    # ------------------------------------------------------------------ the run

    def append(self, series: str, step: int, time: float, value: np.ndarray) -> None:
        """See `TrajectoryWriter`."""
        self.writer.append(series, step, time, value)

    def extend(self, series: str, steps: np.ndarray, times: np.ndarray, values: np.ndarray) -> None:
        """See `TrajectoryWriter`."""
        self.writer.extend(series, steps, times, values)

    def put(self, path: str, array: np.ndarray, attrs: dict[str, Any] | None = None) -> None:
        """See `TrajectoryWriter`."""
        self.writer.put(path, array, attrs)

    def set_attrs(self, group: str, attrs: dict[str, Any]) -> None:
        """See `TrajectoryWriter`."""
        self.writer.set_attrs(group, attrs)

    def flush(self) -> dict[str, int]:
        """See `TrajectoryWriter`."""
        return self.writer.flush()

    def save(self, tree: dict[str, Any]) -> None:
        """Replace the checkpoint, and keep the one before it if it is of this run."""
        save_checkpoint(checkpoint_path(self._held.root), tree, keep=self._keep)
        self._keep = True

    def close(self) -> None:
        """Write what was recorded since the last checkpoint, and let others write there."""
        self.writer.close()
        self.release()


def _warn_of_step(saved: dict[str, Any], steps: int, damage: list[str], path: Path) -> None:
    """Say how far back a run goes that resumes from the checkpoint before the newest."""
    step = int(saved["simulation"]["state"]["step"])
    if not damage and steps <= step:
        return  # nothing is lost
    warnings.warn(
        f"{' and '.join(damage) or 'the newest checkpoint is of another run'}: the run goes back to the one before, "
        f"{path.name}, of step {step}; {max(steps - step, 0)} of the {steps} steps recorded are computed again",
        NNSimWarning,
        stacklevel=2,
    )
