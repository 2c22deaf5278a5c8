"""The spectrum of the tangent kernel in the course of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from nnsim.analysis.averages.common_frames import opened
from nnsim.errors import InputError, require_integer, require_number
from nnsim.plotting.style import frame, new_axes, readable, step_bar, step_colors, styled, write_note

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

OWNER = "plot_spectrum"
START = "ntk_spectrum_"


def plot_spectrum(
    trajectory: Trajectory | str | Path,
    name: str | None = None,
    ax: Axes | None = None,
    *,
    times: int = 8,
    walker: int | None = None,
    decades: float = 10.0,
    note: str | None = None,
) -> Axes:
    r"""Draw the eigenvalues of the tangent kernel against their rank on logarithmic axes, at several steps.

        rank r = 1, 2, ..., size        lambda_r, the largest first

    Lines go from dark, early, to light, late. Each is the mean over the walkers at each rank. A kernel of fewer
    parameters than points has zeros: eigenvalues so many decades below the largest are left out as rounding.

    Args:
        trajectory: of a run that observed `nnsim.cv.NTKSpectrum`, or its path.
        name: the observable, such as `ntk_spectrum_train`, [T, W, size]; None takes the only one.
        ax: axes to draw in, or None for a figure of its own.
        times: at most so many moments, at least 1, evenly spread over the frames, the first and last among them.
        walker: of one walker alone; None is the mean.
        decades: below the largest eigenvalue that are drawn, above 0; 10 suits kernels in float64 and 5 in float32.
        note: a line above the picture.

    Raises:
        InputError: no spectrum recorded, several and none named, another observable, or an unknown walker.

    Reference: arXiv 2410.07451.
    """
    run = opened(trajectory)
    of = _observable(run, name)
    count = require_integer(OWNER, "times", times, least=1)
    span = require_number(OWNER, "decades", decades, above=0.0)
    series = run[of]
    if walker is not None:
        walker = require_integer(OWNER, "walker", walker, least=0)
    if walker is not None and walker >= series.shape[1]:
        raise InputError(f"{OWNER}: walker = {walker} must be one of 0 to {series.shape[1] - 1}; change walker")
    frames = np.unique(
        np.linspace(len(series) - 1 if count == 1 else 0, len(series) - 1, min(count, len(series))).round()
    )
    chosen = frames.astype(np.int64)
    values = np.asarray(series[chosen.tolist()], dtype=np.float64)  # [times, W, size]
    spectra = values.mean(axis=1) if walker is None else values[:, walker]
    if not np.isfinite(spectra).all() or not (spectra > 0).any():
        raise InputError(f"{OWNER}: {of} has no finite value above 0 at some of these steps; the run has diverged")
    floor = float(spectra.max()) * 10.0**-span
    steps = series.step[chosen]
    colors, scale = step_colors(steps)
    with styled():
        ax = ax or new_axes(1, 3.6)[0]
        rank = np.arange(1, spectra.shape[1] + 1)
        for step, spectrum, color in zip(steps, spectra, colors, strict=True):
            ax.plot(rank, np.where(spectrum > floor, spectrum, np.nan), color=color, label=f"step {step}")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_minor_formatter(NullFormatter())
        if len(rank) < 100:  # powers of ten would be too few
            ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        frame(ax, (1.0, float(max(rank[-1], 2))))
        ax.set_xlabel(f"rank in the {readable(of)}")
        ax.set_ylabel(r"eigenvalue $\lambda$" + _of_whom(series.shape[1], walker))
        step_bar(ax, scale)
        write_note(ax, note)
    return ax


def _of_whom(walkers: int, walker: int | None) -> str:
    if walker is not None:
        return f" (walker {walker})"
    return f"\n(mean of {walkers} walkers)" if walkers > 1 else ""


def _observable(trajectory: Trajectory, name: str | None) -> str:
    found = [one for one in trajectory.observables if one.startswith(START)]
    if name is not None:
        if name not in trajectory:
            listed = ", ".join(trajectory.observables) or "none"
            raise InputError(f"{OWNER}: {name!r} was not recorded; it has: {listed}")
        if len(trajectory[name].shape) != 3:
            raise InputError(
                f"{OWNER}: {name!r} has no eigenvalues [W, size] in a frame; choose one such as {START}train"
            )
        return name
    if not found:
        raise InputError(f"{OWNER}: no spectrum was recorded; observe nnsim.cv.NTKSpectrum('train') in the run")
    if len(found) > 1:
        raise InputError(f"{OWNER}: there are {', '.join(found)}; name one with --observable")
    return found[0]
