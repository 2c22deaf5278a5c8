"""A run that is kept: its record and its checkpoint, in step with each other."""

from __future__ import annotations

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
from nnsim.protocols import Bias, CollectiveVariable, said
from nnsim.running.checks.parts import comes_round, period_of
from nnsim.running.recording import Recorder, bias_numbers, particle_series, standard_series
from nnsim.running.store import Store
from nnsim.running.zarr_store import ZarrStore, checkpoint_path

if TYPE_CHECKING:
    from nnsim.simulation import Simulation

__all__ = ["Storage", "checkpoint_path", "header", "warn_of_environment"]


class Storage:
    """The record and the checkpoint of one run, in a store.

    A checkpoint holds, beside the simulation, how many frames of each series the store had when it was taken. A resume
    cuts the series back to these counts: what was recorded after the checkpoint is computed again. Both carry the same
    random `run`, so that a checkpoint left behind by an earlier run is not taken for this one's. Frames of step 0, if
    there are any, come before the first checkpoint, so that every checkpoint counts them.

    Attributes:
        path: the output as it was given.
        store: where everything is kept.
        recorder: writes what is recorded.
        run: name of the run, in the header and in its checkpoint.
        saved_step: step of the newest checkpoint.
    """

    def __init__(self, simulation: Simulation, store: Store, run: str | None) -> None:
        self.simulation, self.path, self.store, self.run = simulation, store.path, store, run
        self.recorder = Recorder([*standard_series(simulation), *particle_series(simulation)], store)
        self.saved_step = simulation.state.step

    @classmethod
    def open(
        cls,
        simulation: Simulation,
        output: OutputLock | Path | str | Store,
        *,
        resume: bool,
        overwrite: bool,
        accept_changes: bool = False,
    ) -> Storage:
        """Start a new output, or, with `resume`, load its checkpoint into the simulation and go on.

        What has changed since the run was begun is refused, or with `accept_changes` written into its header. The
        output, a store, a path or the lock of one, is locked from before anything is read or made until `release`.
        """
        if resume and overwrite:
            raise InputError("resume and overwrite exclude each other; choose one")
        if accept_changes and not resume:
            raise InputError("accept_changes is for a run that goes on; use it with resume=True (--resume)")
        store = output if isinstance(output, Store) else ZarrStore(output)
        if resume and not store.exists():
            raise TrajectoryError(f"{store.path}: nothing to resume there; start without --resume, or check the path")
        store.lock()
        with released_on_error(store):
            if resume and store.begun():
                return cls._resume(simulation, store, accept_changes)
            simulation.prepare()
            # Checkpoints of an earlier trajectory that lie there are not of this run; the first save replaces them.
            run = uuid.uuid4().hex
            store.create({**header(simulation), "run": run}, overwrite=overwrite)
            return cls(simulation, store, run)._begin()

    @classmethod
    def _resume(cls, simulation: Simulation, store: Store, accept: bool) -> Storage:
        recorded = store.header()
        run = recorded.get("run")
        saved = store.checkpoint(run)
        simulation.resume_on(recorded.get("platform"))
        changed = changes.accepted_changes(recorded, simulation, store.path, accept)
        warn_of_environment(recorded, store.path)
        if saved is None:
            simulation.prepare()
            store.resume({})
            return cls(simulation, store, run)._record(changed, recorded)._begin()
        if changed:
            own = simulation.state_dict()
            if simulation.platform_of(saved["simulation"]) != simulation.platform.name:
                del own["platform"]  # which hands over what it has
            changes.check_fit(saved["simulation"], own, store.path)
        simulation.load_state_dict(saved["simulation"])
        if changed:
            changes.check_inside(simulation, changed, store.path)
            simulation.refresh()
        store.resume(saved["counts"])
        return cls(simulation, store, run)._record(changed, recorded)

    def _record(self, changed: list[str], recorded: dict[str, Any]) -> Storage:
        """Let the header say what was changed at this step, and what the run is made of from here on."""
        if changed:
            now = {**header(self.simulation), **changes.record(changed, recorded, self.simulation)}
            self.store.set_attrs("parameters/nnsim", now)
        return self

    def _begin(self) -> Storage:
        """The frames of step 0, if they are asked for, and the first checkpoint."""
        if self.simulation.recording.start and self.simulation.state.step == 0:
            self.recorder.start(self.simulation)
        self.save()
        return self

    def begin(self, target: int) -> None:
        """Note how far the run shall go, and since when, so that others know what is missing and how long it takes."""
        going = {"since": time.time(), "from_step": self.simulation.state.step}
        self.store.set_attrs("parameters/nnsim", {"target": target, "going": going})

    def commit(self) -> None:
        """Write everything recorded so far for those who look; a resume goes back to the newest checkpoint."""
        self._flush()

    def save(self) -> None:
        """Write everything recorded so far, then the checkpoint."""
        counts = self._flush()
        self.store.save({"run": self.run, "simulation": self.simulation.state_dict(), "counts": counts})
        self.saved_step = self.simulation.state.step

    def close(self) -> None:
        """Write what was recorded since the last checkpoint and close the store."""
        self._flush()
        self.store.close()

    def release(self) -> None:
        """Let others write there, whether or not everything was written."""
        self.store.release()

    def _flush(self) -> dict[str, int]:
        """Put the newest tables and numbers of the biases, then every buffered frame."""
        with self.simulation.platform.settled():
            for bias in self.simulation.force_field.biases:
                self._put_tables(bias)
        written = {"step": self.simulation.state.step, "at": time.time()}
        error = self.simulation.step_error.record(self.simulation)
        self.store.set_attrs("parameters/nnsim", {"step_error": error, "written": written})
        return self.store.flush()

    def _put_tables(self, bias: Bias) -> None:
        group, tables = f"nnsim/bias/{bias.name}", bias.tables()
        if not tables:
            return
        for key, table in tables.items():
            self.store.put(f"{group}/{key}", np.asarray(table.detach().cpu()), None)
        numbers: dict[str, Any] = {**bias_numbers(bias), "deposits": bias.deposits}
        numbers["discrete"] = [bool(said(cv, CollectiveVariable, "discrete")) for cv in bias.cvs]
        told = {**describe(bias), **describe(bias.for_readers())}
        self.store.set_attrs(group, {**told, **numbers, "step": self.simulation.state.step})


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
        "kT": describe(simulation.integrator.kT),
        "start": simulation.start_record,
        **_described(simulation),
        "platform_reason": simulation.platform_reason,
        "evaluation": simulation.evaluation,
        "description": changes.DESCRIPTION,
        "identity": simulation.identity(),
        **environment(),
    }


def _described(simulation: Simulation) -> dict[str, Any]:
    """The parts, and of biases what a reader needs to evaluate them; no resume compares that."""
    found = simulation.describe()
    told = {bias.name: describe(bias.for_readers()) for bias in simulation.force_field.biases}
    return {**found, "bias": {name: {**settings, **told[name]} for name, settings in found["bias"].items()}}


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
