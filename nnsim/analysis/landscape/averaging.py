"""The mean of entropies of independent runs, each of which is known up to a constant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import InputError

if TYPE_CHECKING:
    from nnsim.analysis.landscape.landscape import EntropyLandscape


def mean_of_runs(runs: Sequence[EntropyLandscape]) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """Which bins all have visited, and the mean and standard error of S there; see `EntropyLandscape.average`."""
    _require_alike(runs)
    visited = np.logical_and.reduce([run.visited for run in runs])
    if not visited.any():
        raise InputError("EntropyLandscape.average: no bin was visited by all runs; run longer")
    mean, error = mean_and_error(np.stack([run.entropy - run.entropy[visited].mean() for run in runs]))
    error[~visited] = np.nan
    return visited, mean, error


def mean_and_error(values: Floats) -> tuple[Floats, Floats]:
    """Mean and standard error along the first axis; NaN where any is NaN, and error NaN for a single one."""
    count = len(values)
    mean = values.mean(axis=0)
    if count < 2:
        return mean, np.full_like(mean, np.nan)
    return mean, np.asarray(values.std(axis=0, ddof=1) / np.sqrt(count))


def _require_alike(runs: Sequence[EntropyLandscape]) -> None:
    """Refuse runs that are not independent ones of one system on one grid."""
    owner = "EntropyLandscape.average"
    if len(runs) < 2:
        raise InputError(f"{owner}: {len(runs)} run(s); at least 2 independent runs are needed for a standard error")
    sources = [run.source for run in runs if run.source is not None]
    twice = [one for one in sources if sources.count(one) > 1]
    if twice:
        raise InputError(f"{owner}: {twice[0]} twice is no independent run; give each run once")
    for run in runs[1:]:
        same = len(run.axes) == len(runs[0].axes) and all(
            a.matches(b) for a, b in zip(run.axes, runs[0].axes, strict=True)
        )
        if not same:
            raise InputError(
                f"{owner}: the runs have different grids, {runs[0]!r} and {run!r}; use the same CVs and Grid"
            )
        if None not in (run.size, runs[0].size) and run.size != runs[0].size:
            raise InputError(
                f"{owner}: runs of systems of {runs[0].size} and {run.size} parameters have different entropies; "
                "average only runs of one system"
            )
        if run.flat != runs[0].flat:
            raise InputError(f"{owner}: some runs have U = 0 and others have not; average only runs of one system")
