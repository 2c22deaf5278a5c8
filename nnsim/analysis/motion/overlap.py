"""Overlap between walkers, the order parameter of spin glasses: whether they have found the same network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.images import nearest
from nnsim.analysis.landscape.axes import Curve, Floats
from nnsim.analysis.motion.blocks import Recorded, Selection, Shapes
from nnsim.analysis.motion.correlation import autocorrelation_time
from nnsim.errors import InputError, require_integer

PIECES = 8  # of the record, for the errors of the distribution


@dataclass(frozen=True, eq=False)
class Overlap:
    """Overlaps of all pairs of walkers.

    Attributes:
        matrix: mean over the frames, [W, W]; 1 on the diagonal.
        error: standard error of `matrix`, [W, W], with the correlation of the frames in it; 0 on the diagonal.
        pairs: the walkers a < b of each pair, [P, 2].
        values: of each frame and pair, [T, P], from -1 to 1.
        time: of the frames, [T], reduced units; numbers of the frames for an array.
    """

    matrix: Floats
    error: Floats
    pairs: NDArray[np.int64]
    values: Floats
    time: Floats

    def distribution(self, bins: int = 50) -> Curve:
        """Density P(q) over frames and pairs, on [-1, 1], with standard errors from 8 pieces of the record.

        One peak: all walkers are in one valley. Peaks apart, or a broad P(q): several; a mean over such walkers depends
        on where they started.

        Raises:
            InputError: bins below 1.

        Reference: G. Parisi, DOI 10.1103/PhysRevLett.50.1946.
        """
        edges = np.linspace(-1, 1, require_integer("distribution", "bins", bins, least=1) + 1)
        parts = np.array_split(self.values, min(PIECES, len(self.values)))
        heights = np.array([np.histogram(part, edges, density=True)[0] for part in parts])
        error = heights.std(axis=0, ddof=1) / np.sqrt(len(parts)) if len(parts) > 1 else np.full(bins, np.nan)
        density = np.histogram(self.values, edges, density=True)[0]
        return Curve(0.5 * (edges[1:] + edges[:-1]), density, error, "overlap", "density")


def overlap(
    frames: Any,
    *,
    centre: Any = None,
    selection: Selection = None,
    parameters: Shapes | None = None,
    period: Any = None,
) -> Overlap:
    r"""Overlap of the walkers with each other at the same time.

        q_ab(t) = sum_i x_ia x_ib / (|x_a| |x_b|),        x_a = q_a(t) - centre

    Independent directions in n dimensions have q = 0 with a standard deviation of 1 / sqrt(n). Renamed neurons lower q
    although the networks are the same: overlaps of their outputs, given as an array [T, W, points * outputs] with the
    mean output as `centre`, do not see names.

    Args:
        frames: `Trajectory`, its path, its positions, or an array [T, W, n] of these, of outputs or of anything else.
        centre: subtracted from all walkers, [n] or [W, n], such as a common start; None is 0. In a periodic box, which
            has no middle, it must be given: x is the difference to its nearest image.
        selection: of parameters, as for `rmsd`.
        parameters: names and shapes, as for `rmsd`.
        period: width of a periodic box, as for `rmsd`.

    Raises:
        InputError: a single walker, one at the centre, which has no direction, a periodic box without a centre, or as
            for `rmsd`.

    Reference: M. Mezard, G. Parisi, M. A. Virasoro, Spin Glass Theory and Beyond (1987); of networks: M. Baity-Jesi et
    al., arXiv 1803.06969.
    """
    recorded = Recorded("overlap", frames, "positions", selection=selection, parameters=parameters, period=period)
    count, walkers, _ = recorded.shape
    if walkers < 2:
        raise InputError("overlap: a single walker has no partner; give two or more")
    if centre is None and recorded.period is not None:
        raise InputError(
            "overlap: the box is periodic, so that no direction from 0 is that of a walker; give centre=, a point to "
            "whose nearest image differences are taken, or look at rmsd"
        )
    middle = np.zeros((walkers, recorded.size)) if centre is None else recorded.vector("centre", centre)
    middle = middle[:, recorded.columns]
    first, second = np.triu_indices(walkers, 1)
    values = np.empty((count, len(first)))
    for rows, block in recorded.blocks():
        values[rows] = _cosines(nearest(block - middle, recorded.period), rows.start)[:, first, second]
    matrix, error = np.eye(walkers), np.zeros((walkers, walkers))
    matrix[first, second] = matrix[second, first] = values.mean(axis=0)
    errors = [autocorrelation_time(pair).mean_error if count > 1 else np.nan for pair in values.T]
    error[first, second] = error[second, first] = errors
    return Overlap(matrix, error, np.stack((first, second), axis=1), values, recorded.time())


def _cosines(block: Floats, start: int) -> Floats:
    """Cosines of the angles between walkers, [B, W, W]."""
    length = np.linalg.norm(block, axis=2, keepdims=True)
    if not length.all():
        frame, walker = np.argwhere(length[:, :, 0] == 0)[0]
        raise InputError(f"overlap: walker {walker} is at the centre in frame {start + frame}; choose another centre")
    unit = block / length
    return np.asarray((unit @ unit.swapaxes(1, 2)).clip(-1, 1))
