"""A run on disk: its trajectory and its checkpoint, kept in step with each other."""

from __future__ import annotations

import os
import time
import uuid
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnsim.describe import describe, differences, environment
from nnsim.errors import InputError, NNSimWarning, TrajectoryError
from nnsim.identity import changes
from nnsim.lock import OutputLock, released_on_error
from nnsim.networks.layout import places_of
from nnsim.running.checkpoint import DamagedCheckpoint, load_checkpoint, previous_path, save_checkpoint
from nnsim.running.checks.parts import comes_round, period_of
from nnsim.running.recording import Recorder, bias_numbers, particle_series, standard_series
from nnsim.trajectory.frames import recorded_steps
from nnsim.trajectory.layout import is_starting
from nnsim.trajectory.record import opened_header
from nnsim.trajectory.writer import TrajectoryWriter

if TYPE_CHECKING:
    from nnsim.protocols import Bias
    from nnsim.simulation import Simulation


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


class Storage:
    """The trajectory and the checkpoint of one run.

    A checkpoint holds, beside the simulation, how many frames of each series the trajectory had when it was taken. A
    resume cuts the trajectory back to these counts: what was recorded after the checkpoint is computed again. Both
    carry the same random `run`, so that a checkpoint left behind by an earlier trajectory is not taken for this one's.
    The checkpoint before the newest is kept too, for a resume that finds the newest damaged. Frames of step 0, if there
    are any, come before the first checkpoint, so that every checkpoint counts them.

    Attributes:
        path: the output as it was given.
        root: where it is, absolute and without links.
        writer: of the trajectory.
        recorder: writes what is recorded.
        run: name of the run, in the trajectory and in its checkpoint.
        saved_step: step of the newest checkpoint.
    """

    def __init__(self, simulation: Simulation, lock: OutputLock, writer: TrajectoryWriter) -> None:
        self.simulation, self.path, self.root, self.writer = simulation, lock.output, lock.root, writer
        with released_on_error(writer):
            self.recorder = Recorder([*standard_series(simulation), *particle_series(simulation)], writer)
            self.run = opened_header(self.root).get("run")
        self.saved_step = simulation.state.step
        self._keep = False  # whether what lies there is a whole checkpoint of this run

    @classmethod
    def open(
        cls,
        simulation: Simulation,
        output: OutputLock | Path | str,
        *,
        resume: bool,
        overwrite: bool,
        accept_changes: bool = False,
    ) -> Storage:
        """Start a new output, or, with `resume`, load its checkpoint into the simulation and go on.

        What has changed since the run was begun is refused, or with `accept_changes` written into its header. The
        output, given by its path or its lock, is locked from before anything is read or made until `release`.
        """
        if resume and overwrite:
            raise InputError("resume and overwrite exclude each other; choose one")
        if accept_changes and not resume:
            raise InputError("accept_changes is for a run that goes on; use it with resume=True (--resume)")
        if resume and not os.path.exists(output):
            raise TrajectoryError(f"{output}: nothing to resume there; start without --resume, or check the path")
        with OutputLock.of(output) as lock:
            if resume and not is_starting(lock.root):
                return cls._resume(simulation, lock, accept_changes)
            # Checkpoints of an earlier trajectory that lie there are not of this run; the first save replaces them.
            head = {**header(simulation), "run": uuid.uuid4().hex}
            return cls(simulation, lock, TrajectoryWriter.create(lock, head, overwrite=overwrite))._begin()

    @classmethod
    def _resume(cls, simulation: Simulation, lock: OutputLock, accept: bool) -> Storage:
        recorded = opened_header(lock.root)
        saved, found = cls._own_checkpoint(lock, recorded)
        simulation.resume_on(recorded.get("platform"))
        changed = changes.accepted_changes(recorded, simulation, lock.output, accept)
        warn_of_environment(recorded, lock.output)
        if saved is None:
            storage = cls(simulation, lock, TrajectoryWriter.resume(lock, {}))
            return storage._record(changed, recorded)._begin()
        if changed:
            changes.check_fit(saved["simulation"], simulation.state_dict(), lock.output)
        simulation.load_state_dict(saved["simulation"])
        if changed:
            changes.check_inside(simulation, changed, lock.output)
            simulation.refresh()
        storage = cls(simulation, lock, TrajectoryWriter.resume(lock, saved["counts"]))
        storage._keep = found == checkpoint_path(lock.root)
        return storage._record(changed, recorded)

    @staticmethod
    def _own_checkpoint(lock: OutputLock, recorded: dict[str, Any]) -> tuple[dict[str, Any] | None, Path | None]:
        """The newest whole checkpoint of this very run, and its file; None for one that was killed before its first."""
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
            if saved and saved.get("run") == recorded.get("run"):
                if path != checkpoint and (path != earlier or any("damaged" in one for one in damage)):
                    _warn_of_step(saved, recorded_steps(lock.root), damage, path)
                return saved, path
        steps = recorded_steps(lock.root)
        if steps or any("damaged" in one for one in damage):
            raise TrajectoryError(
                f"{lock.output} cannot be resumed: its checkpoint {checkpoint.name} is missing, damaged, or that of "
                f"another run ({', '.join(damage) or 'another run'}), and so is the one before; put a copy back, or "
                f"start a new run with another --output: what was recorded up to step {steps} is whole, and "
                "--overwrite would remove it"
            )
        return None, None

    def _record(self, changed: list[str], recorded: dict[str, Any]) -> Storage:
        """Let the header say what was changed at this step, and what the run is made of from here on."""
        if changed:
            now = {**header(self.simulation), **changes.record(changed, recorded, self.simulation)}
            with released_on_error(self.writer):
                self.writer.set_attrs("parameters/nnsim", now)
        return self

    def _begin(self) -> Storage:
        """The frames of step 0, if they are asked for, and the first checkpoint."""
        with released_on_error(self.writer):
            previous_path(checkpoint_path(self.root)).unlink(missing_ok=True)
            if self.simulation.recording.start and self.simulation.state.step == 0:
                self.recorder.start(self.simulation)
            self.save()
        return self

    def begin(self, target: int) -> None:
        """Note how far the run shall go, and since when, so that others know what is missing and how long it takes."""
        going = {"since": time.time(), "from_step": self.simulation.state.step}
        self.writer.set_attrs("parameters/nnsim", {"target": target, "going": going})

    def commit(self) -> None:
        """Write everything recorded so far for those who look; a resume goes back to the newest checkpoint."""
        self._flush()

    def save(self) -> None:
        """Write everything recorded so far, then the checkpoint."""
        counts = self._flush()
        simulation = self.simulation
        tree = {"run": self.run, "simulation": simulation.state_dict(), "counts": counts}
        path = checkpoint_path(self.root)
        save_checkpoint(path, tree, keep=self._keep)
        self._keep = True
        self.saved_step = simulation.state.step

    def close(self) -> None:
        """Write what was recorded since the last checkpoint and close the trajectory."""
        self._flush()
        self.writer.close()

    def release(self) -> None:
        """Let others write there, whether or not everything was written."""
        self.writer.release()

    def _flush(self) -> dict[str, int]:
        """Put the newest tables and numbers of the biases, then every buffered frame."""
        with self.simulation.platform.settled():
            for bias in self.simulation.force_field.biases:
                self._put_tables(bias)
        written = {"step": self.simulation.state.step, "at": time.time()}
        error = self.simulation.step_error.record(self.simulation)
        self.writer.set_attrs("parameters/nnsim", {"step_error": error, "written": written})
        return self.writer.flush()

    def _put_tables(self, bias: Bias) -> None:
        group, tables = f"nnsim/bias/{bias.name}", bias.tables()
        if not tables:
            return
        for key, table in tables.items():
            self.writer.put(f"{group}/{key}", np.asarray(table.detach().cpu()), None)
        numbers: dict[str, Any] = {**bias_numbers(bias), "deposits": getattr(bias, "deposits", None)}
        numbers["discrete"] = [bool(getattr(cv, "discrete", False)) for cv in bias.cvs]
        self.writer.set_attrs(group, {**describe(bias), **numbers, "step": self.simulation.state.step})


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


def header(simulation: Simulation) -> dict[str, Any]:
    """What the trajectory says about the run."""
    shapes = {name: list(shape) for name, shape in simulation.system.parameters.items()}
    return {
        "parameters": shapes,
        "offsets": {name: place.start for name, place in places_of(shapes).items()},
        "box": simulation.system.box.record(),
        "periods": _periods(simulation),
        "script": simulation.script,
        "time_step": simulation.integrator.time_step,
        "kT": describe(getattr(simulation.integrator, "kT", None)),
        "start": simulation.system.start_record(),
        **simulation.describe(),
        "platform_reason": simulation.platform_reason,
        "description": changes.DESCRIPTION,
        "identity": simulation.identity(),
        **environment(),
    }


def _periods(simulation: Simulation) -> dict[str, float]:
    """Periods of those recorded quantities that come round, such as a parameter in a periodic box."""
    box = simulation.system.box
    things = [*simulation.force_field.cvs, *(thing for thing, _ in simulation.recording.observables)]
    return {thing.name: period_of(thing, box) or 0.0 for thing in things if comes_round(thing, box)}


def warn_of_environment(recorded: dict[str, Any], path: Path) -> None:
    """Warn where versions, threads or machine differ, so that the last bits may."""
    around = environment()
    other = differences({key: recorded.get(key) for key in around}, around)
    if other:
        warnings.warn(
            f"{path} is resumed in another environment ({'; '.join(other)}): the result is as good, but not the same "
            "to the last bit",
            NNSimWarning,
            stacklevel=2,
        )
