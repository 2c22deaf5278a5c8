"""The simulation: puts the parts together, and works out what is due when."""

from __future__ import annotations

import copy
import logging
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nnsim.describe import describe, remembering
from nnsim.errors import DivergedError, InputError, NNSimWarning, require_flag, require_integer
from nnsim.forcefield import ForceField
from nnsim.identity import ownership
from nnsim.identity.parts import identity
from nnsim.identity.source_code import LENGTH
from nnsim.lock import OutputLock
from nnsim.networks.modes import undisturbed
from nnsim.platforms.choose import AUTO, asked_for, choose, choose_again, is_listed, recorded_name, take_over
from nnsim.platforms.reference import check_finite
from nnsim.precision import Precision
from nnsim.protocols import Bias, CollectiveVariable, Integrator, Observable, Platform, Reporter, System
from nnsim.random.streams import RandomStreams, require_seed
from nnsim.running.account import describe_parts, identify_parts
from nnsim.running.checks import forces
from nnsim.running.checks import parts as checks
from nnsim.running.checks.contract import check_contract
from nnsim.running.checks.integrators import check_conserved, check_integrator, started
from nnsim.running.film import Film, FrameReporter
from nnsim.running.interrupt import GO_ON, Interrupt
from nnsim.running.monitor import Monitor
from nnsim.running.plan import Recording, check_recording, recording_plan, with_snapshots
from nnsim.running.recording import History, Recorder, filming, particle_series, standard_series
from nnsim.running.starts import starting_positions
from nnsim.running.step_error.watch import StepError
from nnsim.running.store import Store, called, require_path, require_store

if TYPE_CHECKING:
    from nnsim.running.storage import Storage

LOOK_UP_SECONDS = 0.2  # how often a run looks up from its steps: progress, interrupts, checkpoints by the clock
COMMIT_SECONDS = 2.0  # after which a run is on disk for the first time, so that it can be looked at
CHECKPOINT_SECONDS = 30.0
NOTHING_SAVED = "nothing was saved"


class Simulation:
    r"""W walkers of a system, moved by an integrator under biases.

    A bias of expensive CVs may be evaluated every k steps only, by multiple time stepping (r-RESPA, in impulse form):
    a pair (bias, k) in `bias`. With f the forces of all else and f_b = -dV_b/dq those of the bias, velocity Verlet is
    then, for each k steps,

        v <- v + (k dt/2) f_b(q) / m
        k times: v <- v + (dt/2) f(q) / m;  q <- q + dt v;  v <- v + (dt/2) f(q) / m
        v <- v + (k dt/2) f_b(q) / m

    symplectic and reversible, with an error of second order in k dt; k dt must stay well below half the shortest period
    of the motion, where the impulses resonate with it. The bias is evaluated, exerts its force k times as strong and
    learns at the steps 0, k, 2k, ... only. There all energies and CVs are right and may be recorded; between them its
    CVs in `state.cvs`, and its share of `state.bias_energy`, are those of the last such step.

    Args:
        system: parameters, box, data and potential.
        integrator: how the walkers move.
        bias: a bias or several, or pairs (bias, interval k in steps); the walkers share them.
        observe: what else to record: observables, or pairs (observable, interval in steps).
        positions: where the walkers start, in place of the system's own start: [W, n], or [n] for all of them, or
            `nnsim.states(...)`, a frame of a trajectory or networks.
        preparation: called with the simulation once before the first step of a new run, and never after a resume: it
            may let the walkers start elsewhere (`set_positions`) and settle what the biases save, such as the ladder of
            `ReplicaExchange`. See `nnsim.tempering`.
        walkers: number of independent copies W, at least 1; None is as many as there are `positions`, or 1.
        seed: of all random numbers, at least 0 and below 2^64: each follows from (seed, purpose, walker, step), see
            `nnsim.random.RandomStreams`, which lives in the state.
        steps: length of the run; `run` and the command line may override it.
        every: interval of observables, in steps, at least 1.
        record_start: also record all of them, positions and velocities once at step 0, as they are at the start; else
            the first frame is that of step `every`.
        positions_every: interval of the positions; None is `every` on disk and never in memory, 0 is never.
        velocities_every: interval of the velocities; None or 0 is never.
        snapshot_every: interval of snapshots of the biases' tables; None is 100 x `every` and, of large tables, at
            least one step for each of their bytes per position of all walkers.
        checkpoint_every: interval of checkpoints in steps; None is every 30 seconds, and the first after 2.
        precision: `"single"`, `"mixed"` or `"double"`, see `nnsim.precision`.
        device: of torch, such as `"cpu"` or `"cuda"`.
        threads: number of CPU threads for torch; None leaves it as it is.
        platform: `"native"` (compiled), `"device"` (blocks of steps on a GPU), `"reference"` (torch, step by step), or
            `"auto"`, the fastest that can run it. Where a faster one is made for such an integrator and cannot, the
            reason is logged, recorded, and `platform_reason`. Or one of your own.
        reporters: your own reporters.
        output: default path of the trajectory, relative to the folder that is the present one now; None keeps
            observables in memory, as `history`.

    Raises:
        InputError: a number out of its range, an absent device, parts that do not fit each other; a bias with an
            interval above 1 under an integrator that cannot leave it out (as Monte Carlo, or Brownian dynamics), one
            that moves, one whose own `pace` or `every` is no multiple of the interval, or its CVs or the bias energy
            recorded at other steps; under a dynamics, a potential, loss, CV or bias whose gradient is not its
            derivative (see `nnsim.running.checks.gradients`).

    Reference: multiple time stepping: M. Tuckerman, B. J. Berne and G. J. Martyna, J. Chem. Phys. 97, 1990 (1992),
    doi:10.1063/1.463137; of biases: M. J. Ferrarotti, S. Bottaro, A. Perez-Villa and G. Bussi, J. Chem. Theory Comput.
    11, 139 (2015), doi:10.1021/ct5007086.

    >>> from nnsim import Box, Simulation
    >>> from nnsim.integrators import Langevin
    >>> from nnsim.systems import AnalyticSystem, Harmonic
    >>> simulation = Simulation(AnalyticSystem(3, Harmonic(), start=0.0), Langevin(dt=0.1, friction=1.0), walkers=2)
    >>> simulation.advance(10).state.step
    10
    """

    @undisturbed
    def __init__(
        self,
        system: System,
        integrator: Integrator,
        *,
        bias: Bias | tuple[Bias, int] | Sequence[Bias | tuple[Bias, int]] = (),
        observe: Sequence[Observable | tuple[Observable, int]] = (),
        positions: Any = None,
        preparation: Callable[[Simulation], None] | None = None,
        walkers: int | None = None,
        seed: int = 0,
        steps: int | None = None,
        every: int = 100,
        record_start: bool = False,
        positions_every: int | None = None,
        velocities_every: int | None = None,
        snapshot_every: int | None = None,
        checkpoint_every: int | None = None,
        precision: str = "mixed",
        device: str = "cpu",
        threads: int | None = None,
        platform: str | Platform | type[Platform] = AUTO,
        reporters: Sequence[Reporter] = (),
        output: str | Path | None = None,
    ) -> None:
        self.threads = None if threads is None else require_integer("Simulation", "threads", threads, least=1)
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if walkers is not None:
            walkers = require_integer("Simulation", "walkers", walkers, least=1)
        self.seed = require_seed("Simulation", seed)
        self.steps = None if steps is None else require_integer("Simulation", "steps", steps, least=0)
        self.checkpoint_every = (
            None
            if checkpoint_every is None
            else require_integer("Simulation", "checkpoint_every", checkpoint_every, least=1)
        )
        self.precision = Precision.named(precision)
        self.device = checks.torch_device(device)
        platforms = asked_for(platform)
        # Copies, because both are brought to the precision of this run and may serve in another.
        self.system = copy.copy(check_contract("system", system, System))
        self.integrator = copy.copy(check_contract("integrator", integrator, Integrator))
        check_integrator(self.integrator)
        self.reporters = [check_contract("reporter", one, Reporter) for one in checks.several(reporters)]
        self.output = None if output is None else require_path(output)
        self._preparation = checks.require_preparation(preparation)
        self._folder = Path.cwd()  # what `output` is relative to, wherever a reporter goes
        self.recording: Recording = recording_plan(
            every, positions_every, velocities_every, snapshot_every, observe, record_start
        )
        self.settings: Mapping[str, Any] = {}  # of the input script, set by whoever ran it
        self.script: str | None = None
        self.history = History()
        self.monitor = Monitor(self.recording.every)
        self.step_error = StepError()
        self._slice_steps = 1  # how many the platform does between two looks up, learnt along the way

        pairs = checks.with_intervals("bias", bias, Bias, default=1)
        biases = [one for one, _ in pairs]
        for cv in (cv for one in biases for cv in one.cvs):
            check_contract("collective variable", cv, CollectiveVariable)
        self.force_field = ForceField(self.system, biases, [interval for _, interval in pairs])
        observed = [thing for thing, _ in self.recording.observables]
        checks.check_parts(self.integrator, self.force_field, observed)
        checks.check_intervals(self.integrator, self.force_field)
        check_recording(self.recording, self.force_field)
        ownership.refuse_used(self)
        checksums: dict[int, Any] = {}
        with remembering(checksums):  # before anything runs, since parts may keep what they have seen
            self._identity = identify_parts(self) | _own_platform(platforms[0])
            if preparation is not None:
                self._identity["preparation"] = {"function": identity(preparation)}
        self.system.prepare(self.precision, self.device)
        for one in biases:
            one.prepare(self.device)
        self._platforms = platforms
        self._start(positions, walkers)
        tables = sum(table.nbytes for one in biases for table in one.tables().values())
        self.recording = with_snapshots(self.recording, tables, self.state.positions.numel())
        self._begun_on = self.platform.name
        self.automatic_platform = isinstance(platform, str) and platform == AUTO
        standard_series(self)  # refuses different things of one name
        with remembering(checksums):
            self._description = describe_parts(self)  # now, because parts may count what they do
        ownership.take(self)

    def _start(self, given: Any, walkers: int | None) -> None:
        """The state at step 0, of walkers at given positions or where the system lets them start."""
        generator, biases = RandomStreams(self.seed, self.device), self.force_field.biases
        for one in biases:
            one.attach(self.integrator, generator)
        if given is None:
            self.walkers, self.start_record = walkers or 1, self.system.start_record()
            positions = self.system.initial_positions(self.walkers, generator)
        else:
            positions, self.start_record = starting_positions(given, walkers, self.system)
            self.walkers = len(positions)
        positions = positions.to(self.device, self.precision.state).contiguous()
        if note := self.start_record.get("unseeded"):
            logging.getLogger("nnsim").info(note)
        gradients, size = self.integrator.needs_gradients, self.integrator.batch_size
        self.evaluation = self.system.plan_evaluation(positions, size, gradients)
        s = self.force_field.probe(positions, gradients)
        forces.check_gradients(self.integrator, self.force_field, positions, s, self.precision)
        checks.check_periods(self.force_field)
        checks.check_edges(self.integrator, self.force_field, positions)
        self.state = started(self.integrator, positions, self.force_field, generator)
        check_finite(self.state)
        check_conserved(self.integrator, self.state)
        checks.check_observables(self.state, self.force_field, [thing for thing, _ in self.recording.observables])
        self.force_field.start_biases(self.state.cvs)
        self.platform, self.platform_reason = choose(self, self._platforms)

    @undisturbed
    def set_positions(self, positions: Any) -> Simulation:
        """Let the walkers start elsewhere, as `Simulation(positions=...)` does; before the first step only.

        Args:
            positions: [W, n], or [n] for all walkers, or `nnsim.states(...)`.

        Raises:
            InputError: steps were made already, or as when the simulation is made.
        """
        if self.state.step:
            raise InputError(
                f"Simulation: positions are where a run starts, but this one is at step {self.state.step}; make "
                "another simulation"
            )
        self._start(positions, self.walkers)
        return self

    def resume_on(self, recorded: str | None) -> None:
        """Stay on the platform that a run has had so far, as its header calls it, unless told otherwise."""
        self.platform, self.platform_reason = choose_again(self, recorded, self.automatic_platform)
        self._begun_on = recorded_name(recorded) or self.platform.name
        same = recorded_name(recorded) == self.platform.name
        self._description["platform"] = recorded if same else self.platform.name

    def prepare(self) -> None:
        """Do what was asked for before the first step, unless that is done."""
        todo, self._preparation = self._preparation, None
        if todo is not None:
            todo(self)
            self._description = describe_parts(self)

    # ------------------------------------------------------------------ running

    @undisturbed
    def advance(self, steps: int) -> Simulation:
        """`steps` more steps, calling the reporters that are due; nothing is written to disk."""
        steps = require_integer("Simulation", "steps", steps, least=0)
        self.prepare()
        self._advance_to(self.state.step + steps, [self._memory_recorder(), *self.reporters])
        return self

    @undisturbed
    def run(
        self,
        steps: int | None = None,
        *,
        output: str | Path | OutputLock | Store | None = None,
        resume: bool = False,
        overwrite: bool = False,
        accept_changes: bool = False,
        progress: bool | None = None,
    ) -> Simulation:
        """Run until step `steps`, the total length, also after a resume.

        Args:
            steps: total length; None is the simulation's own `steps`.
            output: folder of the trajectory, the lock of one that the caller holds, or a store of your own, see
                `nnsim.Store`; None is the simulation's own, and without one `history` is filled instead. Nobody else
                can write there until the run has ended.
            resume: continue from the checkpoint of `output`.
            overwrite: replace an existing `output`.
            accept_changes: with `resume`, go on also where parts, code or data have changed, which is written into the
                record with the step at which it happened; else they are refused.
            progress: show a progress bar and a summary; None shows them with an output only.

        Raises:
            InputError: no length given, or a negative one; a resume with something changed.
            TrajectoryError: the output exists, is written by another run, cannot be written, or cannot be resumed.
            DivergedError: a NaN or infinity appeared; the last good checkpoint is kept.
            InterruptedRun: Ctrl-C or another signal to stop, after the checkpoint was written; it is no `Exception`.
        """
        target = self.steps if steps is None else require_integer("Simulation", "steps", steps, least=0)
        if target is None:
            raise InputError("Simulation: no length given; use run(steps=...), Simulation(steps=...) or --steps")
        flags = {"resume": resume, "overwrite": overwrite, "accept_changes": accept_changes}
        resume, overwrite, accept_changes = (require_flag("Simulation", name, flag) for name, flag in flags.items())
        path = self._output(output)
        show = path is not None if progress is None else progress
        if path is None and resume:
            raise InputError("Simulation: resume needs the output to resume; give output=...")
        if path is None and accept_changes:
            raise InputError("Simulation: accept_changes is for a run that goes on; use it with resume=True")
        storage: Storage | None = None

        def stands() -> str:
            if storage is None:
                return NOTHING_SAVED if path is None else f"while {called(path)} was being opened; {GO_ON}"
            return f"saved up to step {storage.saved_step}; {GO_ON}"

        with Interrupt(stands) as interrupt:  # from before the first thing is written
            if path is not None:
                from nnsim.running.storage import Storage

                storage = Storage.open(self, path, resume=resume, overwrite=overwrite, accept_changes=accept_changes)
            try:
                self._run_on(storage, target, resume, show, interrupt)
            finally:
                if storage is not None:
                    storage.release()
        return self

    def _output(self, given: str | Path | OutputLock | Store | None) -> Path | OutputLock | Store | None:
        """Where the run is to be written, if anywhere."""
        if given is None:
            return None if self.output is None else self._folder / self.output
        if isinstance(given, OutputLock):
            return given
        return Path(given) if isinstance(given, (str, os.PathLike)) else require_store(given)

    def _run_on(self, storage: Storage | None, target: int, resume: bool, show: bool, interrupt: Interrupt) -> None:
        """Run on an output that is open, and close it; after an error it is left as it is."""
        if storage is None:
            self.prepare()
        else:
            storage.begin(target)
        recorder = self._memory_recorder() if storage is None else storage.recorder
        if 0 < self.state.step >= target and not resume:
            warnings.warn(
                f"Simulation: run({target}) does nothing, since the simulation is at step {self.state.step} already "
                f"and {target} is the total length; give a larger total, or advance({target}) for {target} more steps",
                NNSimWarning,
                stacklevel=3,
            )
        try:
            reporters = [recorder, self.monitor, self.step_error, *self.reporters]
            self._run(target, reporters, storage, show, interrupt)
        except DivergedError as error:
            if storage is None:
                raise
            storage.close()
            raise DivergedError(f"{error}; the last good checkpoint, of step {storage.saved_step}, is kept") from None
        if storage is not None:
            storage.close()

    def _memory_recorder(self) -> Recorder:
        """Of the history, into which it first records step 0, if that is asked for and not done yet."""
        series = standard_series(self)
        if self.recording.positions_every is not None:
            series += particle_series(self)
        recorder = Recorder([one for one in series if "/snapshots/" not in one.name], self.history)
        if self.recording.start and self.state.step == 0 and not self.history.names:
            recorder.start(self)
        return recorder

    def _run(
        self, target: int, reporters: list[Reporter], storage: Storage | None, show: bool, interrupt: Interrupt
    ) -> None:
        """Advance to the target with checkpoints and progress, until the interrupt."""
        from nnsim.running.progress import Progress

        shown = time.monotonic()
        due = shown + COMMIT_SECONDS
        with Progress(self, target, show) as progress:

            def look_up() -> bool:
                nonlocal due, shown
                if time.monotonic() - shown > LOOK_UP_SECONDS:
                    progress.update()
                    shown = time.monotonic()
                if storage and time.monotonic() > due:
                    (storage.save if self.checkpoint_every is None else storage.commit)()
                    due = time.monotonic() + CHECKPOINT_SECONDS
                return interrupt.requested or self._finished()

            start = self.state.step
            while self.state.step < target and not (interrupt.requested or self._finished()):
                stop = target
                if self.checkpoint_every is not None:
                    step = self.state.step
                    stop = min(target, step - step % self.checkpoint_every + self.checkpoint_every)
                self._advance_to(stop, reporters, look_up)
                if storage and self.state.step == stop < target:
                    storage.save()
            self.step_error.finish(self)
            if storage and self.state.step >= start:
                storage.save()
            stopped = interrupt.requested and self.state.step < target
            progress.finish(stopped)
            if stopped:
                interrupt.raise_(f"after step {self.state.step}; {GO_ON if storage else NOTHING_SAVED}")

    def _advance_to(
        self, target: int, reporters: Sequence[Reporter], look_up: Callable[[], bool] = lambda: False
    ) -> None:
        """Advance in slices that end where a reporter is due; `look_up` is called now and then and may end it.

        Slices do not end where the platform keeps frames of the steps for the reporters.
        """
        stop = False
        if self.state.step < target:
            ownership.use(self)
        film, takers, reporters = filming(self, reporters)
        while self.state.step < target and not stop:
            due = min([target, *(_due(reporter, self.state.step) for reporter in reporters)])
            while self.state.step < due and not stop:
                self._slice(due, film, takers)
                if self.state.step == due:
                    self._report(reporters)
                stop = look_up()

    def _slice(self, due: int, film: Film | None, takers: Sequence[FrameReporter]) -> None:
        """Some steps, at most up to `due`, as many as go between two looks up."""
        before, begin = self.state.step, time.perf_counter()
        steps = min(self._slice_steps, due - before)
        if film is None:
            self.state = self.platform.advance(self.state, steps)
        else:
            try:
                self.state = self.platform.film(self.state, steps, film)
            finally:  # also those before something became NaN
                for frames in film.developed():
                    for taker in takers:
                        taker.take(self, frames)
        elapsed = time.perf_counter() - begin
        fitting = int(LOOK_UP_SECONDS / max(elapsed / steps, 1e-9))
        self._slice_steps = max(1, min(fitting, 2 * self._slice_steps + 8))

    def _finished(self) -> bool:
        """Whether nothing moves any more, and the last frame has been recorded."""
        return self.state.step % self.recording.every == 0 and self.integrator.finished(self.state)

    def _report(self, reporters: Sequence[Reporter]) -> None:
        step = self.state.step
        for reporter in reporters:
            if reporter.due(step - 1) == step:
                reporter.report(self)

    # ------------------------------------------------------------------ state and record

    def kinetic_temperature(self) -> Tensor:
        """Kinetic temperature 2 K / n of each walker, [W], in units of energy; after the O step of a Langevin step."""
        return 2 * self.state.integrator_state["kinetic_energy"] / self.state.positions.shape[1]

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes along the run: the state and the biases."""
        return {
            "state": self.state.state_dict(),
            "bias": {bias.name: bias.state_dict() for bias in self.force_field.biases},
            "platform": self.platform.state_dict(),
            "platform_name": self.platform.name,
            "evaluation": self.evaluation,
            "monitor": self.monitor.state_dict(),
            "step_error": self.step_error.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        ownership.use(self)
        self._preparation = None
        self.evaluation = self.system.follow_plan(saved.get("evaluation", {}))  # not in version 0.2
        self.state.load_state_dict(saved["state"])
        for bias in self.force_field.biases:
            bias.load_state_dict(saved["bias"][bias.name])
        take_over(self, saved["platform"], self.platform_of(saved))
        self.monitor.load_state_dict(saved["monitor"])
        if "step_error" in saved:  # not in version 0.1
            self.step_error.load_state_dict(saved["step_error"], self)

    def platform_of(self, saved: dict[str, Any]) -> str:
        """Name of the platform that saved a state; up to version 0.2 the header alone told it."""
        return str(saved.get("platform_name", self._begun_on))

    def refresh(self) -> None:
        """Work out energies, CVs and forces anew, after something that they depend on was changed."""
        self.integrator.refresh(self.state, self.force_field)
        check_finite(self.state)

    def describe(self) -> dict[str, Any]:
        """How the simulation was set up, as JSON values, for people and analyses."""
        return {"settings": describe(self._own_settings()), **self._description}

    def identity(self) -> dict[str, Any]:
        """All that makes the run what it is, code and fixed tensors included, as JSON; what a resume compares."""
        plain = ("seed", "walkers", "precision", "platform", "recording")
        found = {name: {**known} for name, known in self._identity.items()}
        found["system"]["flat"] = self.force_field.flat
        described = self._description["integrator"]
        functions = ("dt_at", "friction_at", "kT_at")
        found["integrator"] |= {name: described[name] for name in functions if name in described}
        return {
            "settings": identity(self._own_settings()),
            **{name: self._description[name] for name in plain},
            **found,
        }

    def _own_settings(self) -> dict[str, Any]:
        """The settings of the script, without those of its length and the like."""
        return {name: value for name, value in self.settings.items() if name not in LENGTH}


def _own_platform(platform: Platform) -> dict[str, Any]:
    """The identity of a platform of the user's own, before it has run anything."""
    return {} if is_listed(platform) else {"own_platform": identity(platform)}


def _due(reporter: Reporter, step: int) -> int:
    due = reporter.due(step)
    if due <= step:
        raise InputError(
            f"{type(reporter).__name__}: due({step}) returned {due}; it must return a later step than it was given"
        )
    return due
