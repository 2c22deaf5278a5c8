r"""Weights that take all biases of a run off its frames.

    one state      w_n = exp(V(x_n) / kT)                                  V of all biases
    K states       w_n = exp(V(x_n) / kT) / sum_k N_k exp(f_k - u_k(x_n))  V of those that all walkers share (MBAR)

For V of each bias see `nnsim.analysis.biased_run`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsim.analysis.averages.bias_values import StateFamily
from nnsim.analysis.averages.biased_run import BiasedRun, Values, factor_names, joint_states, target_factor
from nnsim.analysis.averages.bins import jackknife
from nnsim.analysis.averages.common_frames import common_steps, frames_at, opened
from nnsim.analysis.averages.independence import Doubts, doubts_of_frames, doubts_of_trips
from nnsim.analysis.averages.mbar import log_mixture, overlap, solve_mbar
from nnsim.analysis.checks import as_floats, require_fraction
from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import InputError, require_flag, require_integer, shown

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

LARGEST = 10**7  # frames x states that MBAR is given; its time and memory grow with their product
MOST_STATES = 2000
SHARED = 1e-3  # frames of a state in common with the others, below which free energies are not known at all


@dataclass(frozen=True, eq=False)
class FrameWeights:
    r"""Weights of the frames of a run in the ensemble without its biases.

    Attributes:
        trajectory: where the frames come from.
        steps: of the frames, [T].
        log_weights: ln w [T, W], with sum w = 1; -inf where a CV of a bias is not finite.
        kT: temperature of the ensemble that the weights are for.
        blocks: block of each frame, [T, W], from 0; blocks are about independent (see `frame_weights`).
        sets: set of each walker, [W]: walkers of different sets are independent, and all sets sample alike.
        states: what tells the states apart that MBAR has combined, K dictionaries; empty if all walkers are in one.
        counts: N_k, number of frames of each state, [K].
        free_energies: f_k = -ln of the integral of exp(-u_k), [K], that of the first state 0.
        overlap: of the states, from 0 to 1 (see `nnsim.analysis.mbar.overlap`); 1 for a single state.
        stride: of the recorded frames every so many count, to bound the cost of MBAR; 1 is all of them.
        doubts: what speaks against the errors of what is made of them; where they are withheld, none is given.
    """

    trajectory: Trajectory
    steps: NDArray[np.int64]
    log_weights: Floats
    kT: float
    blocks: NDArray[np.int64]
    sets: NDArray[np.int64]
    states: list[dict[str, Any]] = field(default_factory=list)
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    free_energies: Floats = field(default_factory=lambda: np.zeros(0))
    overlap: float = 1.0
    stride: int = 1
    doubts: Doubts = field(default_factory=Doubts)
    _factor: Floats = field(default_factory=lambda: np.zeros(0))  # ln w, [T, W], but for the mixture of states
    _reduced: Floats = field(default_factory=lambda: np.zeros(0))  # u_k, [K, N], frames sorted by state
    _order: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # frames in that order, [N]

    @property
    def neighbour_overlap(self) -> float:
        """Overlap of neighbours in a chain of as many states, each overlapping its neighbours only, of this `overlap`.

        Ends of a chain of K states compare through all between them, so its eigenvalue gap falls as 1 / K^2 however
        well neighbours overlap: gap = 2 p (1 - cos(pi / K)), p the probability to come from a state to a neighbour.
        Below 0.03 it is poor (Klimovich, Shirts and Mobley, doi:10.1007/s10822-015-9840-9); above 1/2 the states
        overlap beyond their neighbours, too.
        """
        return self.overlap / (2 * (1 - np.cos(np.pi / max(2, len(self.states)))))

    @property
    def effective(self) -> float:
        """Effective number of frames, (sum w)^2 / sum w^2 (Kish)."""
        weights = np.exp(self.log_weights - self.log_weights.max())
        return float(weights.sum() ** 2 / np.square(weights).sum())

    def values(self, name: str) -> Floats:
        """The record of an observable at these frames, [T, W].

        Raises:
            InputError: an observable that was not recorded at all of them, or not one number for each walker.
            TrajectoryError: one that was not recorded.
        """
        found = frames_at(self.trajectory, name, self.steps)
        if found.shape != self.log_weights.shape:
            raise InputError(
                f"{name} has shape {found.shape[1:]} in a frame of {self.log_weights.shape[1]} walkers; one number for "
                "each walker is needed"
            )
        return found

    @property
    def tells_errors(self) -> bool:
        """Whether there are blocks enough, and nothing against them, to tell errors."""
        return self.block_count > 1 and not self.doubts.withheld

    @property
    def block_count(self) -> int:
        """Number of blocks."""
        return int(self.blocks.max()) + 1

    def left_out(self, block: int) -> Floats:
        """Ln w [T, W] made without the frames of a block, which get -inf; MBAR is solved anew without them.

        Raises:
            InputError: no such block.
        """
        keep = self.blocks != self._block(block)
        if not len(self.states):
            return _normalised(np.where(keep, self.log_weights, -np.inf))
        mine, counts = self._without(keep)
        mixture = np.full(keep.size, np.inf)
        mixture[self._order[mine]] = log_mixture(self._reduced[:, mine], counts, self._left_out[block])
        return _normalised(self._factor - mixture.reshape(keep.shape))

    def _block(self, block: int) -> int:
        number = require_integer("FrameWeights.left_out", "block", block, least=0)
        if number >= self.block_count:
            raise InputError(f"FrameWeights.left_out: block = {number} must be below {self.block_count}; change block")
        return number

    @cached_property
    def _left_out(self) -> list[Floats]:
        """f_k without each block."""
        found = []
        for block in range(self.block_count):
            mine, counts = self._without(self.blocks != block)
            found.append(solve_mbar(self._reduced[:, mine], counts, self.free_energies))
        return found

    def _without(self, keep: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Which of the frames sorted by state are kept, and how many of each state."""
        mine = keep.reshape(-1)[self._order]
        state = np.repeat(np.arange(len(self.counts)), self.counts)
        return mine, np.bincount(state[mine], minlength=len(self.counts))

    @cached_property
    def free_energy_errors(self) -> Floats:
        """Standard errors of the f_k relative to the first, [K], by leaving out one block at a time; NaN for one."""
        if not len(self.states) or not self.tells_errors:
            return np.full(len(self.states), np.nan)
        return jackknife(np.stack(self._left_out))

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each state of MBAR: what it is, f_k with its error, and its number of frames."""
        numbers = zip(self.states, self.free_energies, self.free_energy_errors, self.counts, strict=True)
        return [{**label, "f": float(f), "f_error": float(e), "frames": int(n)} for label, f, e, n in numbers]


def frame_weights(
    trajectory: Trajectory | str | Path,
    *,
    since: float = 0.5,
    beta: float | None = None,
    kT: float | None = None,
    final_bias: bool = False,
    blocks: int = 8,
    names: Sequence[str] = (),
    among: ArrayLike | None = None,
) -> FrameWeights:
    r"""Weights of the frames of a run under any biases, for averages without them.

    Walkers, or frames, of different states (umbrella windows, values of beta) are combined by MBAR. The error of what
    is made of the weights comes from blocks of the record, left out one at a time:

    - where walkers, or ladders and other sets of walkers that hold each state once, are independent and at least as
      many as `blocks`, each block is a group of them;
    - otherwise the record of each set is also cut into pieces, one after the other in time. A piece must be much longer
      than the time a set takes to forget its past.

    All walkers share what a learnt bias knows (as Wang-Landau or OPES): its error shows in independent runs only.

    Args:
        trajectory: of a run with any number of the biases listed above, or none; or its path.
        since: fraction of the run that is left out at its beginning, from 0 to below 1. The ramp of `Boltzmann`, the
            pilot run of `ReplicaExchange` and the way of an `Umbrella` that has moved and stopped are always left out.
        beta: additional factor exp(-beta L), L the train loss (recorded as `loss_train` or `ln_loss_train`), or, where
            neither was recorded, the CV of the `Boltzmann` or `ReplicaExchange` bias; for a system with U = 0 this
            is the ensemble at loss temperature 1 / beta.
        kT: another temperature than the run's, above 0: a factor exp(U / kT_run - U / kT).
        final_bias: for metadynamics and OPES, take the final V for all frames instead of V(s, t) - c(t) and V(s, t).
        blocks: number of blocks, at least 2.
        names: observables that must have been recorded at the frames too.
        among: steps whose frames are wanted most: where there are more frames than MBAR is given, all others are left
            out first.

    Raises:
        InputError: a bias whose frames cannot be weighted (the message says why), a run that ends before its ramp or
            pilot, a number out of its range, states without overlap, or a record that lacks what is needed.
        TrajectoryError: an observable that was not recorded.
    """
    owner = "frame_weights"
    since = require_fraction(owner, since)
    final_bias = require_flag(owner, "final_bias", final_bias)
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise InputError(f"{owner}: names = {shown(names)} must be a list of observables; give [name, ...]")
    count = require_integer(owner, "blocks", blocks, least=2)
    among = None if among is None else as_floats(owner, "among", among)
    trajectory = opened(trajectory, owner)
    run = BiasedRun(trajectory, final_bias)
    wanted = [*run.names, *factor_names(run, beta, kT), *names]
    steps = common_steps(trajectory, list(dict.fromkeys(wanted)), run.after(since))
    families = run.families(steps)
    state, picks = joint_states(families)
    stride = 1
    if len(picks) > MOST_STATES:
        raise InputError(f"frame_weights: the frames are of {len(picks)} states, more than {MOST_STATES}; take fewer")
    if len(picks) > 1:
        stride = -(-len(picks) * state.size // LARGEST)
        if stride > 1 and among is not None and (chosen := np.isin(steps, among)).any():
            steps, state = steps[chosen], state[chosen]
            stride = max(1, -(-len(picks) * state.size // LARGEST))
        steps, state = steps[stride - 1 :: stride], state[stride - 1 :: stride]
    _refuse_single_frame(len(steps), len(picks))
    values = Values(trajectory, steps)
    factor = run.shared(values, families, state, picks) + target_factor(run, values, beta, kT)
    reduced: Floats = np.zeros(1)
    for j, family in enumerate(families):
        reduced = reduced + family.reduced(values)[picks[:, j]]
    sets = run.sets(factor.shape[1], state)
    described: dict[str, Any] = {"kT": run.kT if kT is None else float(kT), "sets": sets, "stride": stride}
    described["blocks"] = _blocks(len(steps), sets, count)
    looked_at = [values(name) for name in (run.state_cvs if len(picks) > 1 else names)]
    few = doubts_of_frames([one for one in looked_at if one.ndim == 2], state, len(picks))
    described["doubts"] = few.and_of(doubts_of_trips(run, run.after(since), int(sets.max()) + 1))
    if len(picks) > 1:
        found = _combined(factor, reduced, state)
        labels = [_label(families, pick) for pick in picks]
        return FrameWeights(trajectory, steps, states=labels, **described, **found)
    factor = np.where(np.isfinite(factor), factor + reduced[0], -np.inf)
    return FrameWeights(trajectory, steps, _normalised(factor), **described)


def _refuse_single_frame(frames: int, states: int) -> None:
    if states > 1 and frames < 2:
        raise InputError(
            f"frame_weights: {frames} frame of each walker is too few to combine {states} states; record more often, "
            "run longer, or lower since"
        )


def _combined(factor: Floats, reduced: Floats, state: NDArray[np.int64]) -> dict[str, Any]:
    """The parts of `FrameWeights` that come from MBAR."""
    flat, order = state.reshape(-1), np.argsort(state, axis=None, kind="stable")
    u = reduced.reshape(len(reduced), -1)[:, order]
    if not np.isfinite(u).all():
        raise InputError("frame_weights: a CV of the states is not finite in some frames; leave them out with since")
    counts = np.bincount(flat, minlength=len(reduced))
    f = solve_mbar(u, counts)
    common = overlap(u, counts, f)
    if common * counts.min() < SHARED:
        raise InputError(
            f"frame_weights: the {len(counts)} states have no overlap ({common:.1g}): some have no frames in common "
            "with the others; put states between them, or run longer"
        )
    mixture = np.empty(len(flat))
    mixture[order] = log_mixture(u, counts, f)
    factor = np.where(np.isfinite(factor), factor, -np.inf)
    weights = _normalised(factor - mixture.reshape(factor.shape))
    parts = {"log_weights": weights, "counts": counts, "free_energies": f, "overlap": common}
    return {**parts, "_factor": factor, "_reduced": u, "_order": order}


def _label(families: list[StateFamily], pick: NDArray[np.int64]) -> dict[str, Any]:
    return {key: value for family, k in zip(families, pick, strict=True) for key, value in family.labels[k].items()}


def _blocks(frames: int, sets: NDArray[np.int64], blocks: int) -> NDArray[np.int64]:
    """Block of each frame, [T, W]: groups of sets, or pieces in time of each set."""
    count = int(sets.max()) + 1
    groups = min(count, blocks)
    pieces = min(-(-blocks // groups), frames)
    return (np.arange(frames) * pieces // frames)[:, None] * groups + sets * groups // count


def _normalised(log_weights: Floats) -> Floats:
    """The same with sum w = 1."""
    top = log_weights.max()
    if not np.isfinite(top):
        raise InputError("frame_weights: no frame has a weight; the CVs of the biases are not finite")
    return log_weights - top - np.log(np.exp(log_weights - top).sum())
