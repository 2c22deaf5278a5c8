r"""Frames drawn at values of CVs as equilibrium would draw them.

    p_n = w_n / sum_m w_m        w = exp(V / kT) / g(x), the weight that takes the biases off (`nnsim.analysis.weights`)

over the frames m whose CVs x lie in a bin around the values. At given x only ratios of weights count; g is what their
sum is as a function of x, so that the picks lie evenly in the bin: else, where S is steep, nearly all of them would be
at its upper edge, and their averages would not be those at the value. Nor does the constant in V of a run matter: each
run r gives an estimate of the same distribution, in which its share is its effective number of frames,

    p_n = a_r w_n / sum_{m in r} w_m        a_r = N_r / sum_s N_s        N_r = (sum w)^2 / sum w^2
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.averages.common_frames import all_opened, frames_at, require_one_network
from nnsim.analysis.averages.local_mean import smooth_level
from nnsim.analysis.averages.weights import frame_weights
from nnsim.analysis.landscape.axes import Axis, Floats
from nnsim.errors import InputError, require_integer, require_number

if TYPE_CHECKING:
    from nnsim.analysis.landscape.landscape import EntropyLandscape
    from nnsim.trajectory.reader import Trajectory


@dataclass(frozen=True, eq=False)
class FrameSample:
    """Frames drawn from a bin: their plain averages are equilibrium averages at the values in its middle.

    Attributes:
        runs: the trajectories.
        run: index of the trajectory of each pick, [n].
        frame: index of its frame of the positions there, [n].
        step: its step, [n].
        walker: its walker, [n].
        weight: probability p with which it was drawn, of those of all frames in the bin, whose sum is 1, [n]. It is
            used up by the draw: do not weight the picks with it again.
        values: its CVs, [n, k].
        names: their names, k.
        ranges: the bin: name of a CV -> lower and upper limit.
        available: number of frames in the bin to draw from.
        effective: their effective number, 1 / sum p^2: more picks than that repeat information.
    """

    runs: tuple[Trajectory, ...]
    run: NDArray[np.int64]
    frame: NDArray[np.int64]
    step: NDArray[np.int64]
    walker: NDArray[np.int64]
    weight: Floats
    values: Floats
    names: tuple[str, ...]
    ranges: Mapping[str, tuple[float, float]]
    available: int
    effective: float

    def __len__(self) -> int:
        return len(self.frame)

    def positions(self, parameters: Any = None) -> np.ndarray:
        """Parameters of each pick, [n, k]; `parameters` as in `Trajectory.slice`."""
        found: list[Any] = [None] * len(self)
        for i in np.lexsort((self.frame, self.run)).tolist():  # in the order of the chunks on disk
            run = self.runs[self.run[i]]
            found[i] = run.slice(self.frame[i], self.walker[i], parameters)[0, 0]
        return np.stack(found)

    def module(self, pick: int, **options: Any) -> Any:
        """The torch module of a pick; `options` as of `Trajectory.module`, which may run the recorded script.

        Raises:
            InputError: no such pick, and as `Trajectory.module`.
        """
        number = require_integer("FrameSample.module", "pick", pick, least=-len(self))
        if number >= len(self):
            raise InputError(f"FrameSample.module: pick = {number} must be below the {len(self)} picks; change pick")
        pick = number
        return self.runs[self.run[pick]].module(int(self.frame[pick]), int(self.walker[pick]), **options)


@dataclass(frozen=True)
class _Candidates:
    """Frames of one run in the bin."""

    frame: NDArray[np.int64]
    step: NDArray[np.int64]
    walker: NDArray[np.int64]
    values: Floats
    weight: Floats  # sum 1

    @property
    def effective(self) -> float:
        return float(1 / np.square(self.weight).sum()) if len(self.weight) else 0.0


def sample_frames(
    landscape: EntropyLandscape,
    runs: Trajectory | str | Path | Iterable[Trajectory | str | Path],
    values: Mapping[str, float],
    *,
    n: int,
    seed: int,
    width: float | None,
    since: float,
    final_bias: bool,
) -> FrameSample:
    """What `EntropyLandscape.sample` does; see there."""
    from nnsim.trajectory.runs import Trajectories

    owner = "EntropyLandscape.sample"
    count = require_integer(owner, "n", n, least=1)
    generator = np.random.default_rng(require_integer(owner, "seed", seed, least=0))
    limits = _limits(landscape, values, width)
    opened = Trajectories(all_opened(runs, owner))
    require_one_network(opened, owner)
    found = [_candidates(run, landscape.names, limits, since, final_bias) for run in opened]
    available = sum(len(one.frame) for one in found)
    if available < count:
        bins = ", ".join(f"{axis.name} in [{low:g}, {high:g}]" for axis, low, high in limits)
        raise InputError(
            f"{owner}: {available} frames with recorded positions and a weight have {bins}, fewer than n = {count}; "
            "take fewer or a larger width, record positions more often (positions_every), or run longer"
        )
    effective = np.array([one.effective for one in found])
    shares = effective / effective.sum()
    p = np.concatenate([share * one.weight for share, one in zip(shares, found, strict=True)])
    picks = systematic(p, count, generator)
    run = np.repeat(np.arange(len(found)), [len(one.frame) for one in found])
    columns = {
        name: np.concatenate([getattr(one, name) for one in found])[picks]
        for name in ("frame", "step", "walker", "values")
    }
    ranges = {axis.name: (low, high) for axis, low, high in limits}
    return FrameSample(
        tuple(opened), run[picks], weight=p[picks], names=landscape.names, ranges=ranges, available=available,
        effective=float(1 / np.square(p).sum()), **columns,
    )  # fmt: skip


def systematic(p: Floats, n: int, generator: np.random.Generator) -> NDArray[np.int64]:
    r"""Draw n indices with probabilities p, each as often as it must be and no more: n p_i, rounded down or up.

        u_k = (U + k) / n        k = 0 ... n - 1, one uniform U        i_k: sum_{j < i} p_j <= u_k < sum_{j <= i} p_j

    The mean number of draws of i is n p_i, as with independent draws, but an index is repeated only if p_i > 1/n.

    Args:
        p: probabilities, [N], sum 1.
        n: number of draws.
        generator: of numpy.

    Returns:
        [n], increasing.

    Reference: G. Kitagawa, J. Comput. Graph. Stat. 5, 1 (1996), doi:10.1080/10618600.1996.10474692; R. Douc and
    O. Cappe, arXiv cs/0507025, section 2.4.
    """
    places = (generator.random() + np.arange(n)) / n
    total = np.cumsum(p)
    last = int(np.flatnonzero(p)[-1])  # rounding may leave the sum below 1
    return np.minimum(np.searchsorted(total / total[-1], places, side="right"), last).astype(np.int64)


def full_name(landscape: EntropyLandscape, name: str) -> str:
    """The CV that a name or its beginning up to an underscore stands for: `ln_loss` for `ln_loss_train`."""
    if name in landscape.names:
        return name
    fits = [one for one in landscape.names if one.startswith(name + "_") or one.endswith("_" + name)]
    if len(fits) != 1:
        what = f"stands for {' and '.join(fits)}" if fits else "is no CV of this landscape"
        raise InputError(f"EntropyLandscape.sample: {name!r} {what}; choose one of {', '.join(landscape.names)}")
    return fits[0]


def _limits(
    landscape: EntropyLandscape, values: Mapping[str, float], width: float | None
) -> list[tuple[Axis, float, float]]:
    """Axis, lower and upper limit of each CV that is given."""
    owner = "EntropyLandscape.sample"
    if not values:
        raise InputError(f"{owner}: no value was given; name one, such as {landscape.names[0]}=...")
    given: dict[str, float] = {}
    for name, value in values.items():
        full = full_name(landscape, name)
        if full in given:
            raise InputError(f"{owner}: two values for {full}; give one")
        given[full] = require_number(owner, name, value)
    wide = None if width is None else require_number(owner, "width", width, above=0.0)
    found = []
    for name, value in given.items():
        axis = landscape.axes[landscape.axis_index(name)]
        low, high = axis.edges[(place := axis.bin_of(value)) : place + 2]
        if wide is not None or not axis.discrete:
            reach = (axis.width if wide is None else wide) / 2
            low, high = value - reach, value + reach
        found.append((axis, float(low), float(high)))
    return found


def _candidates(
    run: Trajectory,
    names: tuple[str, ...],
    limits: list[tuple[Axis, float, float]],
    since: float,
    final_bias: bool,
) -> _Candidates:
    """The frames of one run that lie in the bin and have positions and a weight."""
    series = run.positions
    if series is None or not len(series):
        raise InputError(f"{run.path} has no frames of the positions to pick from; run with positions_every")
    weights = frame_weights(run, since=since, final_bias=final_bias, names=names, among=series.step)
    steps = np.intersect1d(weights.steps, series.step)
    rows = np.flatnonzero(np.isin(weights.steps, steps))
    log_weights = weights.log_weights[rows]
    cvs = {name: frames_at(run, name, steps) for name in names} if len(steps) else {}
    inside = np.isfinite(log_weights)
    for axis, low, high in limits if len(steps) else []:
        inside &= _inside(cvs[axis.name], axis, low, high)
    row, walker = np.nonzero(inside)
    logs = log_weights[row, walker]
    for axis, low, high in limits if len(logs) else []:
        if not axis.discrete:
            logs = logs - _level(cvs[axis.name][row, walker], logs, axis, low, high)
    weight = np.exp(logs - logs.max()) if len(logs) else logs
    frame = np.searchsorted(series.step, steps[row])
    table = np.array([cvs[name][row, walker] for name in names] if len(steps) else np.zeros((len(names), 0)))
    return _Candidates(frame, steps[row], walker, table.T, weight / weight.sum() if len(weight) else weight)


def _level(s: Floats, logs: Floats, axis: Axis, low: float, high: float) -> Floats:
    """Ln of the sum of the weights as a function of a CV, at each frame of the bin."""
    if axis.periodic:
        s = low + np.mod(s - low, float(axis.edges[-1] - axis.edges[0]))
    return smooth_level(s, logs, np.zeros(len(s), np.int64), np.array([low, high]), of_sum=True)


def _inside(s: Floats, axis: Axis, low: float, high: float) -> NDArray[np.bool_]:
    """Which values lie in [low, high); the upper edge of the grid belongs to its last bin."""
    if axis.periodic:
        period = axis.edges[-1] - axis.edges[0]
        if high - low >= period:
            return np.isfinite(s)
        return np.mod(s - low, period) < high - low
    last = high >= axis.edges[-1]
    return (s >= low) & ((s <= high) if last else (s < high))
