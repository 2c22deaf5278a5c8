"""Pictures of free energies, entropies and distributions along recorded observables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from nnsim.analysis.averages.profile import Profile
from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import InputError, require_choice, require_kind
from nnsim.plotting.style import COLORS, as_panels, frame, new_axes, new_figure, readable, styled, write_note

QUANTITIES = ("entropy", "free_energy", "probability")
FEW = 10  # effective frames, below which a bin tells little: the curve is drawn thin and the line in the lower panel


def plot_profile(
    profile: Profile, ax: Axes | Sequence[Axes] | None = None, *, quantity: str | None = None, note: str | None = None
) -> list[Axes]:
    """Draw a profile: along one observable a line with a band of one standard error, along two a map.

    Below a line stands the effective number of frames in each bin; where it is below 10 the line is dotted.

    Args:
        profile: from `nnsim.analysis.profile`.
        ax: two axes, one above the other (one for a map), or None for a figure of its own.
        quantity: `"entropy"`, `"free_energy"` or `"probability"`; None draws probabilities of discrete values, the
            entropy where U = 0, and the free energy otherwise.
        note: a line above the picture.

    Returns:
        The axes drawn in.

    Raises:
        InputError: an unknown quantity, more or fewer axes, or a map of discrete values.
    """
    require_kind("plot_profile", "profile", profile, Profile, "nnsim.analysis.profile(...)")
    default = "probability" if profile.discrete else "entropy" if profile.flat else "free_energy"
    kind = require_choice("plot_profile", "quantity", default if quantity is None else quantity, QUANTITIES)
    if profile.discrete and len(profile.along) > 1:
        raise InputError("plot_profile: a map of discrete values cannot be drawn; take bins = a number")
    with styled():
        if len(profile.along) == 2:
            panels = new_axes(1, 3.7) if ax is None else as_panels(ax, 1, "plot_profile")
            _draw_map(panels[0], profile, kind)
        else:
            panels = _two_panels() if ax is None else as_panels(ax, 2, "plot_profile")
            draw = _draw_values if profile.discrete else _draw_line
            draw(panels[0], profile, kind)
            _draw_frames(panels[1], profile)
            frame(panels[0], (profile.edges[0][0], profile.edges[0][-1]))
            frame(panels[1], (profile.edges[0][0], profile.edges[0][-1]))
            panels[0].figure.align_ylabels(panels)
        write_note(panels[0], note)
    return panels


def _two_panels() -> list[Axes]:
    return list(new_figure(4.4).subplots(2, 1, sharex=True, height_ratios=(3, 1)))


def _quantity(profile: Profile, kind: str) -> tuple[Floats, Floats, str]:
    """Values, their standard errors and the label."""
    if kind == "probability":
        label = "probability" if profile.discrete else "probability density"
        return np.where(profile.frames > 0, profile.p, np.nan), profile.p_error, label
    if kind == "free_energy":
        return profile.free_energy, profile.free_energy_error, "free energy $F$"
    return profile.entropy, profile.entropy_error, "entropy $S$ (nats)" if profile.flat else "$S$ = ln $p$ (nats)"


def _draw_line(ax: Axes, profile: Profile, kind: str) -> None:
    x = profile.centers[0]
    y, error, label = _quantity(profile, kind)
    ax.fill_between(x, y - error, y + error, color=COLORS[0], alpha=0.3, linewidth=0, label="standard error")
    sure = np.where(profile.effective >= FEW, y, np.nan)
    if (profile.effective[profile.frames > 0] < FEW).any():
        ax.plot(x, y, color=COLORS[0], linestyle=":", linewidth=1.2, label=f"fewer than {FEW} effective frames")
        _draw_alone(ax, x, y, error, mfc="none")
    ax.plot(x, sure, color=COLORS[0])
    _draw_alone(ax, x, sure, error)
    ax.set_ylabel(label)
    ax.legend(frameon=False)


def _draw_alone(ax: Axes, x: Floats, y: Floats, error: Floats, mfc: str = COLORS[0]) -> None:
    """Dots with errors where a bin is known and its neighbours are not: a line and a band would show nothing."""
    known = np.pad(np.isfinite(y), 1)
    alone = known[1:-1] & ~known[:-2] & ~known[2:]
    if alone.any():
        ax.errorbar(x[alone], y[alone], np.nan_to_num(error[alone]), fmt=".", color=COLORS[0], mfc=mfc)


def _draw_values(ax: Axes, profile: Profile, kind: str) -> None:
    y, error, label = _quantity(profile, kind)
    ax.errorbar(profile.centers[0], y, np.nan_to_num(error), fmt="o", color=COLORS[0], markersize=4, capsize=2)
    if kind == "probability":
        ax.vlines(profile.centers[0], 0, y, color=COLORS[0], alpha=0.4, linewidth=1.2)
        ax.set_ylim(bottom=0)
    ax.set_ylabel(label)


def _draw_frames(ax: Axes, profile: Profile) -> None:
    effective = np.where(profile.effective > 0, profile.effective, np.nan)
    edges = profile.edges[0]
    ax.stairs(np.nan_to_num(effective, nan=1e-9), edges, fill=True, color="0.75")
    ax.axhline(FEW, color="0.4", linewidth=0.9, linestyle=":")
    ax.set_yscale("log")
    ax.set_ylim(0.7, 3 * max(np.nanmax(effective), FEW))
    ax.set_ylabel("eff. frames")
    ax.set_xlabel(readable(profile.along[0]))


def _draw_map(ax: Axes, profile: Profile, kind: str) -> None:
    values, _, label = _quantity(profile, kind)
    colours = "viridis_r" if kind == "free_energy" else "viridis"  # bright is where the frames are
    mesh = ax.pcolormesh(*profile.edges, np.ma.masked_invalid(values).T, cmap=colours, rasterized=True)
    ax.figure.colorbar(mesh, ax=ax, pad=0.02).set_label(label)
    ax.set_xlabel(readable(profile.along[0]))
    ax.set_ylabel(readable(profile.along[1]))
