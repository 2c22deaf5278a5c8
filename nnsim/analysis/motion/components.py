"""Principal components of trajectories: the few directions in parameter space along which walkers move most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nnsim.analysis.checks import as_floats
from nnsim.analysis.images import nearest
from nnsim.analysis.landscape.axes import Floats
from nnsim.analysis.motion.blocks import Recorded, Selection, Shapes
from nnsim.errors import InputError, require_integer

LARGE = 1000  # matrices beyond this are not diagonalised as a whole
MOST = 12_000  # frames or parameters, whichever are fewer: their matrix then takes 1.2 GB


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """Directions of largest variance.

    Attributes:
        mean: mean of the parameters over all frames and walkers, [k].
        components: orthonormal directions, [C, k]; the largest entry of each is positive.
        variance: along each, [C], descending, in squared units of the parameters.
        explained: fraction of the total variance along each, [C].
        projections: of each frame, [T, W, C], in units of the parameters.
        time: of the frames, [T], reduced units; numbers of the frames for an array.
        period: of the parameters in a periodic box, [k]; None otherwise.
    """

    mean: Floats
    components: Floats
    variance: Floats
    explained: Floats
    projections: Floats
    time: Floats
    period: Floats | None = None

    def project(self, frames: Any) -> Floats:
        """Projections of other frames [..., k], of the same selection, onto the components, [..., C].

        Raises:
            InputError: another number of parameters, or something that is no finite number.
        """
        given = frames[...] if hasattr(frames, "step") else frames
        values = as_floats("project", "frames", given)
        if not np.isfinite(values).all():
            raise InputError("project: frames are not all finite; leave such frames out")
        if values.shape[-1:] != self.mean.shape:
            raise InputError(
                f"project: frames of shape {values.shape} must end with {len(self.mean)} parameters; change frames"
            )
        return np.asarray(nearest(values - self.mean, self.period) @ self.components.T)

    @property
    def cosine_content(self) -> Floats:
        r"""How much the projections look like those of a random walk, which are cosines, [W, C], from 0 to 1.

            c_k = 2 / T (sum_t cos(pi k t / T) p_k(t))^2 / sum_t p_k(t)^2,        k = 1, 2, ...

        Near 1 in the first components: the record is too short to show anything but diffusion, whatever the fractions
        of variance suggest. NaN for a walker that does not move.

        Reference: B. Hess, DOI 10.1103/PhysRevE.62.8438 and DOI 10.1103/PhysRevE.65.031910; for training of
        networks J. Antognini, J. Sohl-Dickstein, arXiv 1806.08805.
        """
        count, _, components = self.projections.shape
        at = (np.arange(count) + 0.5) / count
        waves = np.cos(np.pi * at[:, None] * np.arange(1, components + 1))
        own = self.projections - self.projections.mean(axis=0)
        overlap, power = np.einsum("tc,twc->wc", waves, own) ** 2, (own**2).sum(axis=0)
        return np.divide(2 / count * overlap, power, out=np.full_like(power, np.nan), where=power > 0)


def principal_components(
    frames: Any,
    *,
    components: int = 10,
    selection: Selection = None,
    parameters: Shapes | None = None,
    period: Any = None,
) -> PrincipalComponents:
    r"""Principal components of the positions, over all frames and walkers together.

        C = 1/(N - 1) sum_f (q_f - <q>)(q_f - <q>)^T,        C u_k = variance_k u_k

    with N = T W frames of k parameters. The smaller of two matrices is diagonalised: C [k, k], or for many parameters
    and few frames X X^T [N, N] of the centred frames X, which has the same eigenvalues but for N - 1; its eigenvectors
    a_k give u_k = X^T a_k / |X^T a_k|. Nothing is superposed; see `align` for the symmetries of networks.

    In a periodic box <q> is the intrinsic mean (`nnsim.analysis.images`), and q_f - <q> goes to the nearest image, not
    along the path: walkers that have come round to the same place are at the same place. That needs parameters that
    are not spread over the whole period, of which it is warned.

    Args:
        frames: `Trajectory`, its path, its positions, or an array [T, W, n].
        components: how many, C; fewer where there are fewer frames or parameters.
        selection: of parameters, as for `rmsd`.
        parameters: names and shapes, as for `rmsd`.
        period: width of a periodic box, as for `rmsd`.

    Raises:
        InputError: fewer than 2 frames, frames that do not differ, both sizes above 12000, or as for `rmsd`.

    Reference: A. Amadei, A. B. M. Linssen, H. J. C. Berendsen, DOI 10.1002/prot.340170408; the smaller matrix:
    L. Sirovich, DOI 10.1090/qam/910462.
    """
    owner = "principal_components"
    wanted = require_integer(owner, "components", components, least=1)
    recorded = Recorded(owner, frames, "positions", selection=selection, parameters=parameters, period=period)
    count, size = recorded.shape[0] * recorded.shape[1], recorded.shape[2]
    if count < 2:
        raise InputError(f"{owner}: {count} frame has no variance; give at least 2")
    if min(count, size) > MOST:
        raise InputError(
            f"{owner}: {count} frames of {size} parameters are both more than {MOST}; take every so many frames, or "
            "select fewer parameters"
        )
    mean = recorded.centre((0, 1))
    rounding = (1e-14 * float(np.abs(mean).max())) ** 2 * size  # of the mean of equal numbers
    by_frames = count <= size
    matrix = (_gram if by_frames else _covariance)(recorded, mean) / (count - 1)
    total, most = float(np.trace(matrix)), min(wanted, len(matrix), count - 1)
    if not total > rounding:
        raise InputError(f"{owner}: all frames are the same; there is no direction to find")
    variance, vectors = _largest(matrix, most)
    real = variance > 1e-12 * total  # beyond the rank of the frames directions are arbitrary
    variance, vectors = variance[real], vectors[:, real]
    directions = _directions(recorded, mean, vectors) if by_frames else vectors.T.copy()
    largest = np.abs(directions).argmax(axis=1)
    directions *= np.sign(directions[np.arange(len(directions)), largest])[:, None]
    projections = np.empty((*recorded.shape[:2], len(directions)))
    for rows, block in recorded.blocks():
        projections[rows] = nearest(block - mean, recorded.period) @ directions.T
    explained = variance / total
    return PrincipalComponents(mean, directions, variance, explained, projections, recorded.time(), recorded.period)


def _largest(matrix: Floats, count: int) -> tuple[Floats, Floats]:
    """The largest eigenvalues of a symmetric matrix, descending, and their eigenvectors as columns."""
    from scipy.linalg import eigh
    from scipy.sparse.linalg import eigsh

    size = len(matrix)
    if size > LARGE and 10 * count < size:  # Lanczos takes seconds where the whole spectrum takes minutes
        values, vectors = eigsh(matrix, count, v0=np.random.default_rng(0).standard_normal(size))
        order = np.argsort(values)[::-1]
        return values[order], vectors[:, order]
    values, vectors = eigh(matrix, subset_by_index=(size - count, size - 1), overwrite_a=True, check_finite=False)
    return values[::-1], vectors[:, ::-1]


def _covariance(recorded: Recorded, mean: Floats) -> Floats:
    """Sum over frames of x x^T, [k, k]."""
    total = np.zeros((len(mean), len(mean)))
    for _, block in recorded.blocks():
        centred = nearest(block - mean, recorded.period).reshape(-1, len(mean))
        total += centred.T @ centred
    return total


def _gram(recorded: Recorded, mean: Floats) -> Floats:
    """Scalar products of all centred frames, [T W, T W], from a bounded number of columns at a time."""
    frames, walkers, _ = recorded.shape
    total = np.zeros((frames * walkers, frames * walkers))
    for first, last in recorded.column_ranges():
        part = np.empty((frames, walkers, last - first))
        period = None if recorded.period is None else recorded.period[first:last]
        for rows, block in recorded.blocks():
            part[rows] = nearest(block[:, :, first:last] - mean[first:last], period)
        flat = part.reshape(frames * walkers, -1)
        total += flat @ flat.T
    return total


def _directions(recorded: Recorded, mean: Floats, vectors: Floats) -> Floats:
    """X^T a for each eigenvector a [N, C] of the frames, normalised, [C, k]."""
    weights = vectors.reshape(*recorded.shape[:2], -1)
    total = np.zeros((weights.shape[2], len(mean)))
    for rows, block in recorded.blocks():
        centred = nearest(block - mean, recorded.period)
        total += np.einsum("twc,twk->ck", weights[rows], centred, optimize=True)
    return np.asarray(total / np.linalg.norm(total, axis=1, keepdims=True))
