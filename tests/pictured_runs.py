"""Small trajectories written by hand, for pictures and films: what is in them is known exactly."""

from pathlib import Path
from typing import Any

import numpy as np

from nnsim import Trajectory
from nnsim.trajectory.writer import TrajectoryWriter

BINS, SNAPSHOTS, FRAMES, WALKERS = 12, 5, 40, 3
NAMES = ("ln_loss_train", "accuracy_test", "weight_norm")
PARAMETERS = {"0.weight": [4, 2], "0.bias": [4], "2.weight": [1, 4]}


def hill(cvs: int) -> np.ndarray:
    """S on the bins, its rim never visited."""
    x = np.indices((BINS,) * cvs) - (BINS - 1) / 2
    return 20 - 0.5 * (x**2).sum(axis=0)


def make_run(path: Path, cvs: int = 2, snapshots: int = SNAPSHOTS, spectrum: bool = True) -> Trajectory:
    """A Wang-Landau run of 400 steps: V grows as the share of the run, times S; kT = 2; frames every 10 steps."""
    rng = np.random.default_rng(0)
    writer = TrajectoryWriter.create(path, {"system": {"flat": True}, "parameters": PARAMETERS})
    grid = {"lower": [0.0] * cvs, "upper": [1.0] * cvs, "bins": [BINS] * cvs, "periodic": [False] * cvs}
    attrs: dict[str, Any] = {"type": "WangLandau", "cvs": NAMES[:cvs], "grid": grid | {"kind": "bins"}, "kT": 2.0}
    writer.set_attrs("nnsim/bias/wl", attrs | {"increment": 1e-4, "outside": 0.0, "step": FRAMES * 10})
    potential = 2.0 * np.clip(hill(cvs), 0, None)
    visits = (potential > 0).astype(float)
    for name, table in (("potential", potential), ("visits", visits)):
        writer.put(f"nnsim/bias/wl/{name}", table)
    for frame in range(1, FRAMES + 1):
        step = 10 * frame
        for name in NAMES:
            writer.append(f"observables/{name}", step, float(step), rng.uniform(0.2, 0.8, WALKERS))
        writer.append("observables/wl_increment", step, float(step), np.float64(1e-4))
        writer.append("particles/parameters/position", step, float(step), rng.standard_normal((WALKERS, 16)))
        if spectrum:
            eigenvalues = frame * 10.0 ** -np.arange(6)
            writer.append("observables/ntk_spectrum_train", step, float(step), np.tile(eigenvalues, (WALKERS, 1)))
        if snapshots and frame % (FRAMES // snapshots) == 0:
            share = frame / FRAMES
            for name, table in (("potential", share * potential), ("visits", visits)):
                writer.append(f"nnsim/bias/wl/snapshots/{name}", step, float(step), table)
    writer.close()
    return Trajectory(path)
