"""A run under any biases: which of them act on all walkers alike, which in states, and when its frames begin to count.

| bias | V |
|---|---|
| WangLandau | the final one |
| Metadynamics | V(s, t) - c(t) as recorded at the time of the frame, or the final one |
| OPES | V(s, t) as recorded at the time of the frame, or the final one |
| Wall, Umbrella with one centre | as set |
| Umbrella with a centre for each walker | u_k, the windows |
| Boltzmann, ReplicaExchange | u_k = beta_k s, the values of beta |

V(s, t) - c(t): P. Tiwary and M. Parrinello, J. Phys. Chem. B 119, 736 (2015), doi:10.1021/jp504920s, eq. 12.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.averages import bias_values, kinds
from nnsim.analysis.averages.bias_values import StateFamily
from nnsim.analysis.averages.common_frames import frames_at
from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import InputError, require_number

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory


class Values:
    """Records [T, W] at given steps, each read once."""

    def __init__(self, trajectory: Trajectory, steps: NDArray[np.int64]) -> None:
        self.trajectory, self.steps = trajectory, steps
        self._known: dict[str, Floats] = {}

    def __call__(self, name: str) -> Floats:
        """The record of an observable, [T, W]."""
        if name not in self._known:
            self._known[name] = frames_at(self.trajectory, name, self.steps)
        return self._known[name]


class BiasedRun:
    """The biases of a run, sorted by how their frames are weighted."""

    def __init__(self, trajectory: Trajectory, final_bias: bool) -> None:
        self.trajectory, self.path = trajectory, trajectory.path
        self.biases = kinds.bias_settings(trajectory)
        self.learnt = {} if final_bias else self._of("hills", "kernels")
        for name, settings in self.biases.items():
            if not kinds.is_known(settings):
                raise InputError(
                    f"{self.path}: the bias {name!r} is of type {settings.get('type')}, whose weights are not known; "
                    f"import the module that teaches its formula, {settings['formula']!r} (nnsim.analysis.teach)"
                )
        if self.learnt and any(one["kind"] == "grid" and name not in self.learnt for name, one in self.biases.items()):
            raise InputError(
                f"{self.path}: the recorded energies of {next(iter(self.learnt))!r} hold those of a Wang-Landau bias "
                "that grew too; use the final bias (final_bias=True, --final-bias)"
            )
        for name in self.offsets:
            if f"{name}_offset" not in trajectory:
                raise InputError(
                    f"{self.path} has no record {name}_offset of c(t), by which frames of different times compare; use "
                    "the final bias (final_bias=True, --final-bias)"
                )

    def _of(self, *formulas: str) -> dict[str, dict[str, Any]]:
        return {name: settings for name, settings in self.biases.items() if settings["formula"] in formulas}

    @property
    def offsets(self) -> dict[str, dict[str, Any]]:
        """The learnt biases whose energies are told up to c(t)."""
        return {name: one for name, one in self.learnt.items() if one["formula"] == "hills"}

    @property
    def ladders(self) -> dict[str, dict[str, Any]]:
        """The biases with a beta for each walker."""
        return self._of("slope", "ladder")

    @property
    def windows(self) -> dict[str, dict[str, Any]]:
        """The umbrellas with a row for each walker."""
        rows = {name: len(bias_values.umbrella_rows(name, one)[0]) for name, one in self._of("harmonic").items()}
        return {name: self.biases[name] for name, count in rows.items() if count > 1}

    @property
    def kT(self) -> float:
        """Temperature of the dynamics."""
        found = self.trajectory.header.get("kT")
        if isinstance(found, (str, Mapping)):  # what describes a schedule
            raise InputError(
                f"{self.path}: kT followed a schedule, so its frames belong to no single temperature; run at a "
                "constant kT"
            )
        if isinstance(found, list):
            raise InputError(
                f"{self.path}: each of {len(found)} walkers has a kT of its own, so their frames belong to no single "
                "temperature; run at one kT for all walkers, or take averages of each walker from its own record"
            )
        known = [found, *(settings.get("kT") for settings in self.biases.values())]
        for value in known:
            if value is not None:
                return float(value)
        raise InputError(
            f"{self.path} has no kT: a dynamics without a temperature has no equilibrium to weight for; "
            "give a run at a temperature"
        )

    @property
    def names(self) -> list[str]:
        """Observables that the weights are made of."""
        found = [cv for name, one in self.biases.items() if name not in self.learnt for cv in kinds.reads(one)]
        found += [f"{name}_beta" for name in self._of("ladder")]
        if self.learnt:
            found += ["bias_energy", *(f"{name}_offset" for name in self.offsets)]
        return found or [self._anything()]

    def _anything(self) -> str:
        """Some observable with a number for each walker, to tell the frames of a run without biases."""
        for name in self.trajectory.observables:
            if len(self.trajectory[name].shape) == 2:
                return name
        raise InputError(f"{self.path} has no observable with a number for each walker; record one")

    def after(self, since: float) -> float:
        """The step after which frames count."""
        after = since * self.trajectory.steps
        for name, settings in self.biases.items():
            ramp = settings.get("pilot") or settings.get("ramp") or 0
            if settings["formula"] == "harmonic" and np.any(settings["velocity"]):
                ramp = settings.get("until") or 0
            if ramp and ramp >= self.trajectory.steps:
                raise InputError(
                    f"{self.path} ends at step {self.trajectory.steps}, before the first {ramp} steps of the bias "
                    f"{name!r}, which belong to no equilibrium, are over; run longer"
                )
            after = max(after, ramp)
        return after

    def families(self, steps: NDArray[np.int64]) -> list[StateFamily]:
        """The biases that act on walkers in different ways."""
        found = []
        for name, settings in self.windows.items():
            shape = (len(steps), self._walkers(settings["cvs"][0]))
            found.append(bias_values.umbrella_windows(name, settings, shape, self.kT))
        for name, settings in self.ladders.items():
            cv = settings["cvs"][0]
            if settings["formula"] == "ladder":
                beta = frames_at(self.trajectory, f"{name}_beta", steps)
            else:
                beta = np.broadcast_to(np.asarray(settings["beta"], np.float64), (len(steps), self._walkers(cv)))
            found.append(bias_values.boltzmann_states(cv, beta))
        return found

    @property
    def state_cvs(self) -> list[str]:
        """The CVs by which the states of the walkers differ."""
        return list(dict.fromkeys(cv for one in (*self.windows.values(), *self.ladders.values()) for cv in one["cvs"]))

    def states_differ_by(self, given: str) -> bool:
        """Whether the walkers are in states that differ by a known function of one observable, or of its logarithm."""
        cvs = self.state_cvs
        return len(cvs) == 1 and given in (cvs[0], f"ln_{cvs[0]}")

    @property
    def exchanges(self) -> bool:
        """Whether walkers swap their states."""
        return bool(self._of("ladder"))

    def round_trips(self, after: float) -> dict[str, int]:
        """Round trips that all walkers of each replica exchange made after a step, where they were counted."""
        found = {}
        for name in self._of("ladder"):
            if f"{name}_round_trips" in self.trajectory:
                series = self.trajectory[f"{name}_round_trips"]
                counts, before = np.asarray(series[:], np.float64), int(np.sum(series.step <= after))
                found[name] = int(counts[-1] - (counts[before - 1] if before else 0.0))
        return found

    def _walkers(self, name: str) -> int:
        return self.trajectory[name].shape[1]

    def shared(
        self, values: Values, families: list[StateFamily], state: NDArray[np.int64], picks: NDArray[np.int64]
    ) -> Floats:
        """V / kT [T, W] of the biases that all walkers share."""
        if self.learnt:
            # the recorded energy is that of all biases at that time: those of the state are taken off, c(t) too
            own = [family.reduced(values)[picks[:, j]] for j, family in enumerate(families)]
            of_state = sum(np.take_along_axis(one, state[None], axis=0)[0] for one in own)
            offset = np.zeros(len(values.steps))
            for name in self.offsets:
                offset = offset + frames_at(self.trajectory, f"{name}_offset", values.steps, False)
            return (values("bias_energy") - offset[:, None]) / self.kT - of_state
        total = np.zeros_like(values(self.names[0]))
        for name, settings in self.biases.items():
            if (known := bias_values.restraint(settings)) is not None:
                total += known(values, self.kT)
            elif settings["kind"] == "grid":
                total += bias_values.on_grid(self.trajectory, name, settings, values, self.kT)
        return total

    def sets(self, walkers: int, state: NDArray[np.int64]) -> NDArray[np.int64]:
        """The set of each walker, [W]; all in one where the walkers cannot be cut into sets that sample alike."""
        exchange = self._of("ladder")
        if exchange:
            rungs = [int(settings["rungs"]) for settings in exchange.values()]
            whole = len(rungs) == 1 and not self.windows and walkers % rungs[0] == 0
            return np.arange(walkers) // rungs[0] if whole else np.zeros(walkers, np.int64)
        turn, seen = [], Counter[int]()
        for one in state[0].tolist() if state.size else [0] * walkers:
            turn.append(seen[one])
            seen[one] += 1
        alike = len(set(seen.values())) == 1
        return np.array(turn, np.int64) if alike else np.zeros(walkers, np.int64)


def joint_states(families: list[StateFamily]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """State of each frame [T, W] under all families together, and the states of each of them, [K, families]."""
    if not families:
        return np.zeros((0, 0), np.int64), np.zeros((1, 0), np.int64)
    if len(families) == 1:
        return families[0].state, np.arange(len(families[0].labels))[:, None]
    stacked = np.stack([family.state.reshape(-1) for family in families], axis=1)
    picks, state = np.unique(stacked, axis=0, return_inverse=True)
    return state.reshape(families[0].state.shape), picks


def factor_names(run: BiasedRun, beta: float | None, kT: float | None) -> list[str]:
    """Observables that another ensemble needs."""
    names = [] if kT is None else ["potential_energy"]
    return names if beta is None else [*names, _loss_name(run)]


def _loss_name(run: BiasedRun) -> str:
    for name in ("loss_train", "ln_loss_train", *(one["cvs"][0] for one in run.ladders.values())):
        if name in run.trajectory:
            return str(name)
    raise InputError(
        f"{run.path} has neither loss_train nor ln_loss_train, which an ensemble at a beta is made of; record one"
    )


def _refuse_estimates(trajectory: Trajectory) -> None:
    """Raise `InputError` where the recorded energies are those of mini-batches."""
    size = (trajectory.header.get("integrator") or {}).get("batch_size")
    if size is not None:
        raise InputError(
            f"{trajectory.path}: energies of mini-batches (batch_size = {size}) are estimates, whose noise would "
            "weight the frames; another kT needs a run without batch_size"
        )


def target_factor(run: BiasedRun, values: Values, beta: float | None, kT: float | None) -> Floats | float:
    """Ln of the factor that makes another ensemble of that without the biases, [T, W]."""
    total: Floats | float = 0.0
    if beta is not None:
        name = _loss_name(run)
        s = values(name)
        total = total - require_number("frame_weights", "beta", beta) * (np.exp(s) if name == "ln_loss_train" else s)
    if kT is not None:
        target = require_number("frame_weights", "kT", kT, above=0.0)
        _refuse_estimates(run.trajectory)
        if run.trajectory.header.get("system", {}).get("flat", False):
            raise InputError(
                f"frame_weights: kT = {target:g} changes nothing in a system with U = 0; leave it out, or give beta"
            )
        total = total + values("potential_energy") * (1 / run.kT - 1 / target)
    return total
