"""Small runs that the campaign does things to, and how they are compared."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nnsim import EntropyLandscape, Trajectory

HERE = Path(__file__).parents[1]
COMMAND = [sys.executable, "-c", "from nnsim.cli import main; main()"]
# Both learn, record every kind of series, and are slow enough to be killed in between.
SCRIPTS = {
    "dynamics": """
import nnsim, os, time
from nnsim import Box, Grid, cv
from nnsim.bias import Metadynamics
from nnsim.integrators import Langevin
from nnsim.systems import LossPotential, spiral_classification

def build(steps: int = {steps}) -> nnsim.Simulation:
    class Slow:
        def due(self, step): return step - step % 10 + 10
        def report(self, simulation): time.sleep(float(os.environ.get("PAUSE", "0")))
    bias = Metadynamics(cv.LogLoss("train"), Grid(-3, 2, bins=50), height=0.1, sigma=0.2, pace=5)
    system = spiral_classification(hidden=(3,), points_per_class=6, box=Box(3.0), potential=LossPotential(5.0))
    return nnsim.Simulation(system, Langevin(dt=0.01, friction=1.0), bias=bias, observe=[cv.Accuracy("test")],
        walkers=2, every=5, velocities_every=20, steps=steps, checkpoint_every=40, threads=1, reporters=[Slow()])
""",
    "monte_carlo": """
import nnsim, os, time
from nnsim import Box, Grid, cv
from nnsim.bias import WangLandau
from nnsim.integrators import MixedStep, MonteCarlo
from nnsim.schedules import RampHoldInverseTime
from nnsim.systems import spiral_classification

def build(steps: int = {steps}) -> nnsim.Simulation:
    class Slow:
        def due(self, step): return step - step % 100 + 100
        def report(self, simulation): time.sleep(float(os.environ.get("PAUSE", "0")))
    bias = WangLandau(cv.LogLoss("train"), Grid(-2, 3, bins=25, kind="bins"), RampHoldInverseTime(0.05, 0, 1e4))
    system = spiral_classification(hidden=(3,), points_per_class=6, box=Box(3.0))
    return nnsim.Simulation(system, MonteCarlo(MixedStep(0.01, 2.0)), bias=bias, observe=[cv.Accuracy("test")],
        walkers=2, every=50, steps=steps, checkpoint_every=400, threads=1, reporters=[Slow()])
""",
}
STEPS = {"dynamics": 400, "monte_carlo": 4000}


def script(folder: Path, kind: str) -> Path:
    """The input script of a kind, written into a folder."""
    path = folder / "input.py"
    path.write_text(SCRIPTS[kind].format(steps=STEPS[kind]))
    return path


def start(*arguments: object, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """`nnsim ARGUMENTS` in a process of its own."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(*arguments: object, cwd: Path, seconds: float = 120) -> tuple[int, str]:
    """Exit status and what was printed on stderr."""
    process = start(*arguments, cwd=cwd)
    try:
        _, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return -1, "stuck"
    return process.returncode, err


def one_line(text: str) -> bool:
    """Whether what a command says on stderr has one line of error at most, and nothing for programmers."""
    return "Traceback" not in text and sum(line.startswith("Error") for line in text.splitlines()) <= 1


def content(path: Path) -> dict[str, Any]:
    """Everything that a trajectory tells, by name."""
    run = Trajectory(path)
    found: dict[str, Any] = {"header": run.header, "steps": run.steps}
    series = {name: run[name] for name in run.observables} | {"position": run.positions, "velocity": run.velocities}
    for name, one in series.items():
        if one is not None:
            found |= {
                name: np.asarray(one[:]),
                f"{name}.step": np.asarray(one.step),
                f"{name}.time": np.asarray(one.time),
            }
    for name in run.bias_names:
        record = run.bias(name)
        found[f"{name}.attrs"] = dict(record.attrs)
        found[f"{name}.entropy"] = EntropyLandscape.from_trajectory(run, name).entropy
        found |= {f"{name}.{table}": values for table, values in record.tables.items()}
        found |= {f"{name}.snapshots.{key}": np.asarray(one[:]) for key, one in record.snapshots.items()}
    return found


def same(one: Any, other: Any) -> bool:
    """To the last bit, NaN like NaN."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return one == other or (one != one and other != other)


@cache
def finished(kind: str, folder: Path) -> Path:
    """A run that nothing was done to."""
    folder = folder / f"whole_{kind}"
    folder.mkdir(parents=True)
    script(folder, kind)
    status, err = finish("run", "input.py", "--no-progress", cwd=folder)
    assert status == 0, err
    return folder / "input.zarr"


def numbers(path: Path) -> dict[str, Any]:
    """What a run has computed: all of `content` but the header, which tells the time and the machine."""
    return {name: value for name, value in content(path).items() if name != "header" and not name.endswith(".attrs")}
