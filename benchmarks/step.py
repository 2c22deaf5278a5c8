"""Microseconds for a walker-step of Wang-Landau molecular dynamics, beside a plain PyTorch loop of one walker.

The 116-parameter spiral network, the baseline's grid (-20 to 20, spacing 0.02, in ln L_train and the logit of the
smoothed accuracy) and its kernel of 81 x 81 nodes, one thread. Both are measured in turn, several times; medians are
compared, since the machine may be busy. Then the peak memory of 8 walkers of the regression network of 1e6 parameters.

    python benchmarks/step.py [--repeats 5] [--walkers 1 64] [--baseline ../shared/baselines/eager_wlmd.py]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

BASELINE = Path(__file__).resolve().parents[2] / "shared" / "baselines" / "eager_wlmd.py"


def spiral(walkers: int):
    import nnsim
    from nnsim import Grid, cv
    from nnsim.bias import WangLandau
    from nnsim.integrators import Langevin, friction_from_fraction
    from nnsim.schedules import InverseTime
    from nnsim.systems import spiral_classification

    dt = 3e-6
    cvs = [cv.LogLoss("train"), cv.SmoothedAccuracy("test", slope=5.0, coordinate="logit")]
    grid = Grid(lower=(-20, -20), upper=(20, 20), spacing=0.02)
    bias = WangLandau(cvs, grid, InverseTime(maximum=6.5, scale=1e12), kernel=0.2)  # 10 bins, cut at 4 sigma: 81 nodes
    integrator = Langevin(dt=dt, friction=friction_from_fraction(1e-5, dt), splitting="BOA")
    return nnsim.Simulation(spiral_classification(), integrator, bias=bias, walkers=walkers, every=10**6, threads=1)


def microseconds(walkers: int, seconds: float = 2.0) -> float:
    """Microseconds of a walker-step."""
    simulation = spiral(walkers)
    simulation.advance(20)
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        simulation.advance(20)
        steps += 20
    return (time.perf_counter() - start) / steps / walkers * 1e6


def baseline_microseconds(script: Path) -> float:
    output = subprocess.run(
        [sys.executable, str(script), "--threads", "1", "spiral_116"], check=True, capture_output=True, text=True
    ).stdout
    return float(json.loads(output.splitlines()[-1])["us_per_step"])


def million_parameters(queue: multiprocessing.Queue) -> None:
    """Peak memory, in GB, of 8 walkers of 2-1000-1000-1 in mixed precision; in a process of its own."""
    import nnsim
    from nnsim import Grid, cv
    from nnsim.bias import WangLandau
    from nnsim.integrators import Langevin
    from nnsim.schedules import InverseTime
    from nnsim.systems import spiral_regression

    cvs = [cv.LogLoss("train"), cv.LogLoss("test")]
    bias = WangLandau(cvs, Grid((-10, -10), (10, 10), spacing=0.1), InverseTime(0.1, 1e4), kernel=0.3)
    system = spiral_regression(hidden=(1000, 1000), initial="reinitialise")
    simulation = nnsim.Simulation(system, Langevin(1e-5, 1.0), bias=bias, walkers=8, every=10**6, threads=1)
    simulation.advance(1)
    start = time.perf_counter()
    simulation.advance(5)
    step = (time.perf_counter() - start) / 5 / 8 * 1e3
    queue.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2, system.size, step))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--walkers", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--baseline", type=Path, default=BASELINE)
    arguments = parser.parse_args()

    baseline: list[float] = []
    own: dict[int, list[float]] = {walkers: [] for walkers in arguments.walkers}
    for repeat in range(arguments.repeats):
        if arguments.baseline.exists():
            baseline.append(baseline_microseconds(arguments.baseline))
        for walkers, times in own.items():
            times.append(microseconds(walkers))
        print(f"repeat {repeat + 1} of {arguments.repeats} done", file=sys.stderr)

    print("microseconds for a walker-step, 116 parameters, one thread (median, smallest, largest)")
    print(
        _row("plain PyTorch loop, 1 walker", baseline, baseline) if baseline else f"no baseline: {arguments.baseline}"
    )
    for walkers, times in own.items():
        print(_row(f"nnsim, {walkers} walker{'s' if walkers > 1 else ''}", times, baseline))

    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=million_parameters, args=(queue,))
    process.start()
    memory, size, step = queue.get()
    process.join()
    print(f"8 walkers of {size} parameters, mixed precision: peak memory {memory:.2f} GB, {step:.0f} ms a walker-step")


def _row(name: str, times: list[float], baseline: list[float]) -> str:
    median = statistics.median(times)
    ratio = f"{statistics.median(baseline) / median:7.2f}x" if baseline else ""
    return f"{name:<30}{median:10.1f}{min(times):10.1f}{max(times):10.1f}{ratio}"


if __name__ == "__main__":
    main()
