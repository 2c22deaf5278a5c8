"""`nnsim info`: what is in a trajectory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nnsim.cli.options import debug_option, trajectory_argument
from nnsim.errors import listed

if TYPE_CHECKING:
    from nnsim.trajectory import Trajectory


@click.command()
@trajectory_argument
@debug_option
def info(trajectory: Path) -> None:
    """Say what is in a trajectory; also while a run is writing it.

    \b
    Example:
      nnsim info spiral_wlmd.zarr
    """
    from nnsim.trajectory import Trajectory

    rows = describe_trajectory(Trajectory(trajectory))
    width = max(len(name) for name in rows) + 2
    for name, value in rows.items():
        click.echo(f"{name + ':':<{width}}{value}")


def describe_trajectory(trajectory: Trajectory) -> dict[str, str]:
    """What `nnsim info` prints, line by line."""
    header = trajectory.header
    system = header.get("system", {})
    size = sum(math.prod(shape) for shape in header.get("parameters", {}).values())
    versions = header.get("versions", {})
    rows = {
        "trajectory": str(trajectory.path),
        "made by": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "system": f"{system.get('type')}, {size} parameters, {header.get('walkers')} walkers",
        "integrator": _flat(header.get("integrator", {})),
        "precision, seed": f"{header.get('precision')}, {header.get('seed')}",
        "platform": _platform(header),
        "error of time step": _step_error(header),
        "settings": _flat(header.get("settings", {})) or "none",
        "last committed step": str(trajectory.steps),
        "missing": listed(trajectory.missing()),
        "of other programs": listed(trajectory.foreign()),
    }
    rows = {name: value for name, value in rows.items() if value}
    for number, change in enumerate(header.get("changes", []), 1):
        rows[f"change {number}, at step {change['step']}"] = "; ".join(change["changed"])
    recorded = {name: trajectory[name] for name in trajectory.observables}
    particles = {"position": trajectory.positions, "velocity": trajectory.velocities}
    for name, series in {**recorded, **particles}.items():
        if series is not None:
            rows[f"  {name}"] = f"{len(series)} frames {tuple(series.shape[1:])}"
    for name in trajectory.bias_names:
        attributes = trajectory.bias(name).attrs
        rows[f"bias {name}"] = _flat(
            {key: attributes[key] for key in ("type", "increment", "deposits", "outside") if key in attributes}
        )
    return rows


def _platform(header: dict[str, Any]) -> str:
    """The platform, and why it was not the fastest for such an integrator."""
    name, reason = str(header.get("platform")), header.get("platform_reason")
    return f"{name} ({reason})" if reason else name


def _step_error(header: dict[str, Any]) -> str:
    """What the run has measured of it; empty where it could not, as in a run of an older version."""
    found = header.get("step_error") or {}
    advice = f"; TOO LARGE, try dt = {found['try']:.2g}" if found.get("too_large") and found.get("try") else ""
    return str(found.get("words", "")) + advice


def _flat(values: dict[str, Any]) -> str:
    shown = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in values.values())
    return ", ".join(f"{name}={text}" for name, text in zip(values, shown, strict=True))
