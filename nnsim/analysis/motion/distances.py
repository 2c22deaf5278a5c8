r"""How far networks are from each other: rmsd and rmsf in parameter space.

Nothing is superposed: translations and rotations are no symmetries of a network. The symmetries it has, renamed
neurons and signs of odd activations, are taken out by `align=True`; what then is left of a distance is real.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnsim.analysis.images import nearest
from nnsim.analysis.landscape.axes import Floats
from nnsim.analysis.motion.blocks import Recorded, Selection, Shapes, layers_of, module_text, require_parameters
from nnsim.analysis.renaming.align import align_one, starts_of
from nnsim.analysis.renaming.chain import Chain
from nnsim.analysis.renaming.proof import Grounds
from nnsim.errors import InputError, require_flag, require_integer


@dataclass(frozen=True, eq=False)
class Rmsd:
    """Root mean squared distance of each frame to a reference.

    Attributes:
        time: of the frames, [T], reduced units; numbers of the frames for an array.
        values: [T, W], in units of the parameters.
        layers: the same over the parameters of each layer alone, [T, W] each; empty unless asked for.
        aligned: whether hidden neurons were renamed to come closest.
        proof: what shows that the renamed networks compute the same, as in `Alignment`; empty without an alignment.
    """

    time: Floats
    values: Floats
    layers: dict[str, Floats] = field(default_factory=dict)
    aligned: bool = False
    proof: str = ""


def rmsd(
    frames: Any,
    reference: Any = 0,
    *,
    selection: Selection = None,
    by_layer: bool = False,
    align: bool = False,
    signs: bool = False,
    parameters: Shapes | None = None,
    period: Any = None,
    starts: int = 4,
    seed: int = 0,
    system: Any = None,
    module: Any = None,
    points: Any = None,
    check: bool = True,
) -> Rmsd:
    r"""Root mean squared distance of each walker to a reference, without superposition.

        rmsd(t) = sqrt( 1/n sum_i (q_i(t) - r_i)^2 )

    In a periodic box each q_i - r_i is that to the nearest image.
    A random walk of n parameters has rmsd(t)^2 = 2 D t (`diffusion_coefficient`). Frames are read in blocks, so that
    memory does not grow with the length of the trajectory.

    Args:
        frames: `Trajectory`, its path, its positions, or an array [T, W, n].
        reference: number of a frame (negative counts from the end; each walker to itself at that frame), or
            parameters [n] or [W, n].
        selection: of the parameters that are counted: None (all), a slice, indices, a mask [n], or words such as
            `"layer 1 and weight"` (`nnsim.trajectory.selection`). The alignment uses all parameters nevertheless.
        by_layer: also for each layer alone, the tensors of one module, by the module's name.
        align: rename hidden neurons of each frame to come closest to the reference first (`nnsim.analysis.align`, which
            says what is known to leave a network as it is, and is refused otherwise).
        signs: with `align`, also try the sign of each neuron; only where the activation is odd, such as tanh.
        parameters: names and shapes of the tensors; a trajectory knows its own.
        period: width of a periodic box, a number or [n]; None takes that of a trajectory, and of an array that there is
            none.
        starts: of the alignment, see `align`.
        seed: of the alignment.
        system: what shows that renamed networks compute the same, see `align`; mostly a trajectory knows it.
        module: likewise.
        points: likewise.
        check: likewise.

    Raises:
        InputError: other shapes, an unknown frame, a selection that fits nothing, values that are not finite, a
            trajectory of nnsim 0.1 in a periodic box without `period`, or with `align` a network that is not known to
            be a chain of layers.

    Reference: the measure is that of M. P. Allen, D. J. Tildesley, Computer Simulation of Liquids (2017), ch. 8, in n
    dimensions; with alignment it is the distance that S. K. Ainsworth, J. Hayase, S. Srinivasa, arXiv 2209.04836,
    sec. 3.2 minimises.

    >>> q = np.zeros((2, 1, 4)); q[1] = 3.0
    >>> rmsd(q).values[:, 0].tolist()
    [0.0, 3.0]
    """
    flags = {"by_layer": by_layer, "align": align, "signs": signs, "check": check}
    by_layer, align, signs, check = (require_flag("rmsd", name, flag) for name, flag in flags.items())
    recorded = Recorded("rmsd", frames, "positions", selection=selection, parameters=parameters, period=period)
    count, walkers, _ = recorded.shape
    target = _reference(recorded, reference)
    names = require_parameters("rmsd", recorded.parameters, recorded.size) if by_layer or align else None
    layers = _selected_layers(recorded, names) if by_layer and names is not None else {}
    values, parts = np.empty((count, walkers)), {name: np.empty((count, walkers)) for name in layers}
    closest, proof = None, ""
    if align and names is not None:
        grounds = Grounds(module_text(recorded.header), system, module, points, check)
        chain, proof = grounds.chain("rmsd", names, target[0], signs)
        closest = _Closest(chain, target, signs, starts, seed, recorded.periods)
    for rows, block in recorded.blocks(selected=False):
        block = block if closest is None else closest(block)
        squares = nearest(block - target, recorded.periods)[:, :, recorded.columns] ** 2
        values[rows] = np.sqrt(squares.mean(axis=2))
        for name, at in layers.items():
            parts[name][rows] = np.sqrt(squares[:, :, at].mean(axis=2))
    return Rmsd(recorded.time(), values, parts, align, proof)


def _reference(recorded: Recorded, reference: Any) -> Floats:
    """The reference of each walker, [W, n]."""
    count = recorded.shape[0]
    if isinstance(reference, (int, np.integer)) and not isinstance(reference, bool):
        if not -count <= reference < count:
            raise InputError(f"rmsd: reference = {reference} must be one of {count} frames; change reference")
        frame = int(reference) % count
        return recorded.read(frame, frame + 1, selected=False)[0]
    return recorded.vector("reference", reference)


def _selected_layers(recorded: Recorded, names: Shapes) -> dict[str, Any]:
    """Places of each layer among the selected parameters; layers without any are left out."""
    chosen = np.arange(recorded.size)[recorded.columns]
    found = {layer: np.flatnonzero(np.isin(chosen, at)) for layer, at in layers_of(names).items()}
    return {layer: at for layer, at in found.items() if len(at)}


class _Closest:
    """Frames [B, W, n] with their hidden neurons renamed to come closest to the reference of each walker."""

    def __init__(
        self, chain: Chain, target: Floats, signs: bool, starts: int, seed: int, period: Floats | None
    ) -> None:
        self.chain, self.target, self.signs, self.period = chain, target, signs, period
        count, seed = require_integer("rmsd", "starts", starts, least=1), require_integer("rmsd", "seed", seed, least=0)
        self.starts = starts_of(chain, count, seed, signs)

    def __call__(self, block: Floats) -> Floats:
        aligned = np.empty_like(block)
        for frame in range(len(block)):
            for walker, target in enumerate(self.target):
                q = block[frame, walker]
                naming = align_one(self.chain, q, target, self.signs, self.starts, self.period)
                aligned[frame, walker] = self.chain.rename(q, naming)
        return aligned


@dataclass(frozen=True, eq=False)
class Rmsf:
    """Fluctuation of each parameter about its mean.

    Attributes:
        mean: of each parameter over the frames, [W, k], in units of the parameters.
        values: root mean squared fluctuation, [W, k].
        error: standard error of `values`, [W, k], from blocks of the record; NaN with fewer than two.
    """

    mean: Floats
    values: Floats
    error: Floats


def rmsf(
    frames: Any,
    *,
    selection: Selection = None,
    parameters: Shapes | None = None,
    blocks: int = 8,
    period: Any = None,
) -> Rmsf:
    r"""Root mean squared fluctuation of each parameter about its mean over the frames, walker by walker.

        rmsf_i = sqrt( <(q_i - <q_i>)^2> )

    Its standard error is from the spread of the mean square over `blocks` equal pieces of the record,
    SE(rmsf_i) = SE(<(q_i - <q_i>)^2>) / (2 rmsf_i). It is right if a piece is much longer than what the parameter
    remembers (`autocorrelation_time`); before that it, and the fluctuation, are too small.

    In a periodic box the mean is the intrinsic one, about which the squared differences to nearest images are least
    (`nnsim.analysis.images`), given as its image nearest to the first frame. A parameter that is spread over the whole
    period has none, of which it is warned; its fluctuation then is at most that of an even spread, period / sqrt(12).

    Args:
        frames: `Trajectory`, its path, its positions, or an array [T, W, n].
        selection: of parameters, as for `rmsd`.
        parameters: names and shapes, as for `rmsd`.
        blocks: number of pieces, at least 2; fewer where there are fewer frames.
        period: width of a periodic box, as for `rmsd`.

    Raises:
        InputError: as for `rmsd`, or blocks below 2.

    Reference: as mdtraj.rmsf, without its superposition; the blocks are those of H. Flyvbjerg, H. G. Petersen,
    DOI 10.1063/1.457480.
    """
    blocks = require_integer("rmsf", "blocks", blocks, least=2)
    recorded = Recorded("rmsf", frames, "positions", selection=selection, parameters=parameters, period=period)
    count, mean = recorded.shape[0], recorded.centre((0,))
    edges = np.linspace(0, count, min(blocks, count) + 1).astype(np.int64)
    squares = np.zeros((len(edges) - 1, *recorded.shape[1:]))
    for rows, block in recorded.blocks():
        piece = np.searchsorted(edges, np.arange(rows.start, rows.stop), side="right") - 1
        _add_by_piece(squares, piece, nearest(block - mean, recorded.period) ** 2)
    values = np.sqrt(squares.sum(axis=0) / count)
    error = np.full_like(values, np.nan)
    if len(squares) > 1:
        of_pieces = squares / np.diff(edges)[:, None, None]
        spread = of_pieces.std(axis=0, ddof=1) / np.sqrt(len(squares))
        np.divide(spread, 2 * values, out=error, where=values > 0)
    return Rmsf(mean, values, error)


def _add_by_piece(total: Floats, piece: Sequence[int] | Any, block: Floats) -> None:
    """Add frames to the sum of the piece that each belongs to."""
    for number in np.unique(piece):
        total[number] += block[piece == number].sum(axis=0)
