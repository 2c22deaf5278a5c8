"""Microseconds for a move of Wang-Landau Monte Carlo, beside a C++ program with a full forward pass for each move.

The spiral network 2-W-W-W-2 on 40 train and 40 test points, ln L_train and test accuracy as collective variables, one
thread; then two walkers on two threads. The baseline needs g++ and libgsl-dev. Everything is measured in turn, several
times, and medians are compared.

    python benchmarks/monte_carlo.py [--repeats 5] [--widths 6 20] [--baseline .../wlmc_full_forward.cpp]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BASELINE = Path(__file__).resolve().parents[2] / "shared" / "baselines" / "wlmc_full_forward.cpp"


def simulation(width: int, walkers: int, threads: int):
    import nnsim
    from nnsim import Grid, cv
    from nnsim.bias import WangLandau
    from nnsim.integrators import MonteCarlo
    from nnsim.schedules import InverseTime
    from nnsim.systems import spiral_classification

    grid = Grid(lower=(-10, -1 / 80), upper=(10, 81 / 80), bins=(400, 41), kind="bins")
    bias = WangLandau([cv.LogLoss("train"), cv.Accuracy("test")], grid, InverseTime(1e-3, 1e12))
    system = spiral_classification(hidden=(width,) * 3)
    return nnsim.Simulation(system, MonteCarlo(0.1), bias=bias, walkers=walkers, threads=threads, every=10**9)


def microseconds(width: int, walkers: int = 1, threads: int = 1, seconds: float = 2.0) -> float:
    """Microseconds of wall time for one move of each walker."""
    running = simulation(width, walkers, threads)
    running.advance(1_000_000)  # compiled, and far enough that merges are rare
    moves, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        running.advance(1_000_000)
        moves += 1_000_000
    return (time.perf_counter() - start) / moves * 1e6


def compiled(source: Path, folder: str) -> Path | None:
    """The baseline's program, or None with a word why."""
    program = Path(folder) / "baseline"
    command = ["g++", "-O3", "-march=native", "-o", str(program), str(source), "-lgslcblas"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no baseline ({error}); it needs {source}, g++ and libgsl-dev", file=sys.stderr)
        return None
    return program


def baseline_microseconds(program: Path, width: int, processes: int = 1) -> float:
    """Microseconds of wall time for one move of each of so many processes at once."""
    moves = 1_000_000 if width < 10 else 100_000
    command = [str(program), str(width), str(moves)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return max(float(json.loads(one.communicate()[0])["us_per_move"]) for one in running)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--widths", type=int, nargs="+", default=[6, 20])
    parser.add_argument("--baseline", type=Path, default=BASELINE)
    arguments = parser.parse_args()
    start = time.perf_counter()
    simulation(arguments.widths[0], 1, 1).advance(1)
    print(f"first move after {time.perf_counter() - start:.1f} s, imports and cached compilation included")
    with tempfile.TemporaryDirectory() as folder:
        program = compiled(arguments.baseline, folder)
        for width in arguments.widths:
            measure(width, program, arguments.repeats)


def measure(width: int, program: Path | None, repeats: int) -> None:
    """Everything in turn, several times, and the medians."""
    base, base_gain, one, gain = [], [], [], []
    for _ in range(repeats):
        one.append(microseconds(width))
        gain.append(2 * one[-1] / microseconds(width, walkers=2, threads=2))
        if program:
            base.append(baseline_microseconds(program, width))
            base_gain.append(2 * base[-1] / baseline_microseconds(program, width, processes=2))
    own = statistics.median(one)
    line = f"width {width}: {own:.2f} us a move"
    if base:
        line += f", C++ baseline {statistics.median(base):.2f} us: {statistics.median(base) / own:.1f}x"
    line += f"; two walkers on two threads: {statistics.median(gain):.2f}x one"
    if base:
        line += f" (two processes of the baseline: {statistics.median(base_gain):.2f}x, what the machine gives)"
    print(line)


if __name__ == "__main__":
    main()
