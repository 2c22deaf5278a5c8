"""`nnsim info`: what is in a trajectory."""

from __future__ import annotations

import math
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nnsim.cli.options import debug_option, trajectory_argument
from nnsim.cli.terminal import say
from nnsim.errors import listed, printable
from nnsim.lock import holder

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory


@click.command()
@trajectory_argument
@debug_option
def info(trajectory: Path) -> None:
    """Say what is in a trajectory; also while a run is writing it.

    \b
    Example:
      nnsim info spiral_wlmd.zarr
    """
    from nnsim.trajectory.reader import Trajectory

    rows = describe_trajectory(Trajectory(trajectory))
    width = max(len(name) for name in rows) + 2
    for name, value in rows.items():
        say(printable(f"{name + ':':<{width}}{value}"))


def describe_trajectory(trajectory: Trajectory) -> dict[str, str]:
    """What `nnsim info` prints, line by line."""
    header = trajectory.header
    system = header.get("system", {})
    size = sum(math.prod(shape) for shape in header.get("parameters", {}).values())
    versions = header.get("versions", {})
    writer = holder(trajectory.path)
    rows = {
        "trajectory": str(trajectory.path),
        "made by": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "system": f"{system.get('type')}, {size} parameters, {header.get('walkers')} walkers",
        "integrator": _flat(header.get("integrator", {})),
        "precision, seed": f"{header.get('precision')}, {header.get('seed')}",
        "started from": _start(header.get("start")),
        "platform": _platform(header),
        "error of time step": _step_error(header),
        "settings": _flat(header.get("settings", {})) or "none",
        "last committed step": str(trajectory.steps),
        "being written by": _writer(writer),
        "progress": _progress(header, trajectory.steps, time.time(), live=bool(writer)),
        "last write": _last_write(trajectory, time.time()),
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


def _writer(note: dict[str, Any]) -> str:
    return f"process {note['process']} on {note['host']} since {note.get('since')}" if note else ""


def _progress(header: dict[str, Any], committed: int, now: float, *, live: bool) -> str:
    """How far a run is, how fast it was, and how long it takes if it is live; empty for a file that does not say."""
    target, written, going = (header.get(name) for name in ("target", "written", "going"))
    if not isinstance(target, int) or target <= 0:
        return ""
    step, at = _numbers(written, "step", "at") or (committed, now)
    parts = [f"step {step:.0f} of {target} ({100 * step / target:.3g} %)"]
    since, first = _numbers(going, "since", "from_step") or (at, step)
    if first < step < target and since < at:
        rate = (step - first) / (at - since)
        parts.append(f"{rate:.3g} steps/s")
        if live:
            parts.append(f"{_duration(max(0.0, (target - step) / rate - (now - at)))} left")
    return ", ".join(parts)


def _last_write(trajectory: Trajectory, now: float) -> str:
    at = _numbers(trajectory.header.get("written"), "at")
    (moment,) = at or ((trajectory.path / "nnsim" / ".zattrs").stat().st_mtime,)  # of an older version
    try:
        date = datetime.fromtimestamp(moment).isoformat(" ", "seconds")
    except (OverflowError, OSError, ValueError):
        return ""
    return f"{_duration(max(0.0, now - moment))} ago, at {date}"


def _numbers(record: object, *names: str) -> tuple[float, ...]:
    """These numbers of a record; none if one is missing or something else."""
    found = [record.get(name) for name in names] if isinstance(record, dict) else []
    numbers = [one for one in found if isinstance(one, (int, float)) and math.isfinite(one)]
    return tuple(numbers) if len(numbers) == len(names) else ()


def _duration(seconds: float) -> str:
    try:
        return f"{seconds:.0f} s" if seconds < 120 else str(timedelta(seconds=round(seconds)))
    except OverflowError:
        return "for ever"


def _platform(header: dict[str, Any]) -> str:
    """The platform, and why it was not the fastest for such an integrator."""
    name, reason = str(header.get("platform")), header.get("platform_reason")
    return f"{name} ({reason})" if reason else name


def _start(start: object) -> str:
    """Where the walkers started, if not where the system lets them."""
    told = start if isinstance(start, dict) else {}
    if "trajectory" in told:
        return f"frame {told.get('frame')}, of step {told.get('step')}, of {told['trajectory']}"
    if "networks" in told:
        return f"{told['networks']} networks"
    return "given positions" if "positions" in told else ""


def _step_error(header: dict[str, Any]) -> str:
    """What the run has measured of it; empty where it could not, as in a run of an older version."""
    found = header.get("step_error") or {}
    advice = f"; TOO LARGE, try dt = {found['try']:.2g}" if found.get("too_large") and found.get("try") else ""
    return str(found.get("words", "")) + advice


def _flat(values: dict[str, Any]) -> str:
    shown = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in values.values())
    return ", ".join(f"{name}={text}" for name, text in zip(values, shown, strict=True))
