"""Positions to start a run from, of a trajectory or of networks."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from nnsim.errors import InputError, TrajectoryError, require_integer, shown
from nnsim.running.starts import States, refuse_others
from nnsim.trajectory.reader import Trajectory

Source = Trajectory | Path | str | torch.nn.Module | Sequence[torch.nn.Module]


def states(
    source: Source, frame: int = -1, *, step: int | None = None, walkers: int | slice | Sequence[int] | None = None
) -> States:
    """Positions to start from: the walkers of a trajectory at a frame, or networks.

    Args:
        source: a trajectory or its path, or a torch module or several, whose trainable parameters are taken.
        frame: index of a recorded frame of the positions; negative ones count from the end.
        step: the step of the frame, in place of its index.
        walkers: which ones, in this order: an index, indices or a slice; None is all.

    Returns:
        What `Simulation(positions=...)` and `nnsim.minimise` take. A simulation of fewer walkers takes the first
        states; one of more begins again with the first, whose walkers then differ by their random numbers.

    Raises:
        InputError: no such frame, step or walker, or networks with other parameters than the first.
        TrajectoryError: no trajectory, or one without positions.

    >>> import torch
    >>> from nnsim import states
    >>> states([torch.nn.Linear(2, 1) for _ in range(5)], walkers=[0, 3])
    States(2 x 3 parameters; networks 5)
    """
    if isinstance(source, torch.nn.Module):
        source = [source]
    if isinstance(source, Sequence) and not isinstance(source, str):
        found = _of_networks(source, frame, step)
    elif isinstance(source, (Trajectory, Path, str)):
        found = _of_trajectory(source if isinstance(source, Trajectory) else Trajectory(source), frame, step)
    else:
        raise InputError(
            f"states: source = {shown(source)} must be a trajectory, its path, or torch modules; give one of them"
        )
    if walkers is None:
        return found
    chosen = _chosen(len(found), walkers)
    return States(found.positions[chosen], found.parameters, {**found.source, "walkers": chosen.tolist()})


def _of_trajectory(trajectory: Trajectory, frame: int, step: int | None) -> States:
    series = trajectory.positions
    if series is None or not len(series):
        raise TrajectoryError(
            f"{trajectory.path}: no positions were recorded, so nothing can start from them; run with positions_every"
        )
    if step is not None:
        step = require_integer("states", "step", step, least=0)
        frames = np.flatnonzero(series.step == step)
        if not len(frames):
            raise InputError(
                f"states: step = {shown(step)} is no step of {trajectory.path} with positions; the last is "
                f"{series.step[-1]}"
            )
        frame = int(frames[0])
    if isinstance(frame, bool) or not isinstance(frame, (int, np.integer)) or not -len(series) <= frame < len(series):
        raise InputError(
            f"states: frame = {shown(frame)} must be an integer from {-len(series)} to {len(series) - 1}, of the "
            f"positions of {trajectory.path}; change it"
        )
    frame = int(frame) % len(series)
    positions = torch.from_numpy(np.array(series[frame])).double()
    parameters = {name: tuple(shape) for name, shape in trajectory.parameters.items()}
    run = trajectory.header.get("run")
    source = {"trajectory": str(trajectory.root), "run": run, "frame": frame, "step": int(series.step[frame])}
    return States(positions, parameters, source)


def _of_networks(modules: Sequence[torch.nn.Module], frame: int, step: int | None) -> States:
    if not modules or not all(isinstance(one, torch.nn.Module) for one in modules):
        raise InputError(f"states: source = {shown(modules)} must be torch modules, at least one; give networks")
    if frame != -1 or step is not None:
        raise InputError("states: frame and step are for a trajectory, but networks were given; leave them out")
    rows, parameters = [], [_shapes(module) for module in modules]
    for index, (module, own) in enumerate(zip(modules, parameters, strict=True)):
        refuse_others("states", f"network {index}", parameters[0], own)
        moving = [p.detach().double().flatten().cpu() for p in module.parameters() if p.requires_grad]
        rows.append(torch.cat(moving) if moving else torch.zeros(0, dtype=torch.float64))
    return States(torch.stack(rows), parameters[0], {"networks": len(modules)})


def _shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in module.named_parameters() if p.requires_grad}


def _chosen(count: int, walkers: int | slice | Sequence[int]) -> np.ndarray:
    chosen: np.ndarray = np.empty(0)
    with contextlib.suppress(IndexError, TypeError, ValueError):
        chosen = np.atleast_1d(np.arange(count)[walkers if isinstance(walkers, (int, slice)) else np.asarray(walkers)])
    if isinstance(walkers, bool) or chosen.ndim != 1 or not len(chosen):
        raise InputError(
            f"states: walkers = {shown(walkers)} must be indices from {-count} to {count - 1}, or a slice; change it"
        )
    return chosen
