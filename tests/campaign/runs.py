"""Small runs that the campaign does things to, and how they are compared."""

from __future__ import annotations

import atexit
import tempfile
from functools import cache
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import numpy as np
from command_line import ended, launch
from warm import Copy

from nnsim import EntropyLandscape, Trajectory
from nnsim.analysis import read_sweep

LONGEST_SECONDS, STUCK = 120, -1000
# Both learn, record every kind of series, and are slow enough to be killed in between.
SCRIPTS = {
    "dynamics": """
import nnsim, os, time
from nnsim import Box, Grid, cv
from nnsim.bias import Metadynamics
from nnsim.integrators import Langevin
from nnsim.systems import LossPotential, spiral_classification

def build(steps: int = {steps}, seed: int = 0) -> nnsim.Simulation:
    class Slow:
        def due(self, step): return step - step % 10 + 10
        def report(self, simulation): time.sleep(float(os.environ.get("PAUSE", "0")))
    bias = Metadynamics(cv.LogLoss("train"), Grid(-3, 2, bins=50), height=0.1, sigma=0.2, pace=5)
    system = spiral_classification(hidden=(3,), points_per_class=6, box=Box(3.0), potential=LossPotential(5.0))
    return nnsim.Simulation(system, Langevin(dt=0.01, friction=1.0), bias=bias, observe=[cv.Accuracy("test")],
        walkers=2, every=5, velocities_every=20, steps=steps, checkpoint_every=40, threads=1, seed=seed,
        reporters=[Slow()])
""",
    "monte_carlo": """
import nnsim, os, time
from nnsim import Box, Grid, cv
from nnsim.bias import WangLandau
from nnsim.integrators import MixedStep, MonteCarlo
from nnsim.schedules import RampHoldInverseTime
from nnsim.systems import spiral_classification

def build(steps: int = {steps}, seed: int = 0) -> nnsim.Simulation:
    class Slow:
        def due(self, step): return step - step % 100 + 100
        def report(self, simulation): time.sleep(float(os.environ.get("PAUSE", "0")))
    bias = WangLandau(cv.LogLoss("train"), Grid(-2, 3, bins=25, kind="bins"), RampHoldInverseTime(0.05, 0, 1e4))
    system = spiral_classification(hidden=(3,), points_per_class=6, box=Box(3.0))
    return nnsim.Simulation(system, MonteCarlo(MixedStep(0.01, 2.0)), bias=bias, observe=[cv.Accuracy("test")],
        walkers=2, every=50, steps=steps, checkpoint_every=400, threads=1, seed=seed, reporters=[Slow()])
""",
}
STEPS = {"dynamics": 400, "monte_carlo": 4000}


def script(folder: Path, kind: str) -> Path:
    """The input script of a kind, written into a folder."""
    path = folder / "input.py"
    path.write_text(SCRIPTS[kind].format(steps=STEPS[kind]))
    return path


def finish(*arguments: object, cwd: Path, **environment: str) -> tuple[int, str]:
    """Exit status and what was printed on stderr."""
    return end(launch(*arguments, cwd=cwd, **environment))


def end(process: Copy) -> tuple[int, str]:
    """Likewise, of a process that has begun."""
    try:
        status, _, err = ended(process, LONGEST_SECONDS)
    except TimeoutExpired:
        return STUCK, "stuck"
    return status, err


def failure(status: int, err: str) -> tuple[str, str]:
    """The outcome of a command that should have worked."""
    return ("stuck" if status == STUCK else "lost" if one_line(err) else "raw"), err


def one_line(text: str) -> bool:
    """Whether what a command says on stderr has one line of error at most, and nothing for programmers."""
    errors = sum(line.startswith("Error") for line in text.splitlines())
    return errors <= 1 and "Traceback" not in text and "--debug shows where" not in text


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
def _untouched() -> Path:
    """A folder for the runs that nothing is done to, which all trials are compared with."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return Path(folder.name)


@cache
def finished(kind: str, *more: object) -> Path:
    """A run that nothing was done to; `more` are options."""
    folder = _untouched() / f"whole_{kind}{''.join(map(str, more))}"
    folder.mkdir()
    script(folder, kind)
    status, err = finish("run", "input.py", "--no-progress", *more, cwd=folder)
    assert status == 0, err
    return folder / "input.zarr"


SWEEP = ("sweep", "input.py", "--seeds", "2", "--no-progress")


@cache
def finished_sweep(kind: str) -> dict[str, Any]:
    """The results of a sweep that nothing was done to."""
    folder = _untouched() / f"sweep_{kind}"
    folder.mkdir()
    script(folder, kind)
    status, err = finish(*SWEEP, "--jobs", "2", cwd=folder)
    assert status == 0, err
    return results(folder / "input-sweep")


def results(sweep: Path) -> dict[str, Any]:
    """What a sweep has computed: its table, but for the seconds, and the numbers of its runs."""
    table = read_sweep(sweep)
    columns = {name: np.asarray(table[name]).astype(str) for name in table if name != "seconds"}
    return {**columns, **{path.parent.name: numbers(path) for path in sorted(sweep.glob("*/run.zarr"))}}


# What may begin with a dot: the metadata of arrays and groups.
ZARR = {".zarray", ".zattrs", ".zgroup"}


def leftovers(folder: Path) -> list[str]:
    """Half-written and hidden files, locks and marks, which nothing that has ended may leave."""
    found = (path.relative_to(folder) for path in folder.rglob("*"))
    return sorted(str(path) for path in found if path.name.startswith(".") and path.name not in ZARR)


def numbers(path: Path) -> dict[str, Any]:
    """What a run has computed: all of `content` but the header, which tells the time and the machine."""
    return {name: value for name, value in content(path).items() if name != "header" and not name.endswith(".attrs")}
