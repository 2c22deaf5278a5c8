"""Measures compiled dynamics and writes the tables and the picture of docs/performance.md.

Cases beside their baselines (see `dynamics.py`), how the cost of a step grows, what a second thread brings, what
recording costs, and how long a simulation takes to begin. On a quiet machine: all of it takes a quarter of an hour.

    python benchmarks/performance.py [--repeats 3] [--jax PYTHON]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import csv
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dynamics
import matplotlib.pyplot as plt
import torch
from dynamics import microseconds

import nnsim
from nnsim import Box, Grid, cv
from nnsim.bias import Umbrella, WangLandau
from nnsim.integrators import GradientDescent, Langevin
from nnsim.plotting import STYLE
from nnsim.schedules import InverseTime
from nnsim.systems import NeuralNetwork, spiral_classification
from nnsim.systems.modules import mlp

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURE = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.png"
RESULTS = ROOT / "benchmarks" / "results"
LOSSES = [cv.LogLoss("train"), cv.LogLoss("test"), cv.SmoothedAccuracy("test", slope=5.0, coordinate="logit")]


def simulation(system: NeuralNetwork, dimensions: int = 2, **settings: object) -> nnsim.Simulation:
    """Langevin dynamics with a Wang-Landau bias on so many CVs, which hardly grows."""
    cells = {1: 1000, 2: 1000, 3: 100}[dimensions]
    grid = Grid(dimensions * (-20.0,), dimensions * (20.0,), bins=cells)
    bias = WangLandau(LOSSES[:dimensions], grid, InverseTime(maximum=1e-9, scale=1e12), kernel=5 * 40.0 / cells)
    return nnsim.Simulation(
        system, Langevin(1e-4, 1.0), bias=bias, **{"walkers": 1, "every": 10**7, "threads": 1, **settings}
    )


def points(count: int) -> NeuralNetwork:
    """A 2-30-30-2 network on so many random points, half of them to test it."""
    draw = torch.Generator().manual_seed(0)
    half = count // 2
    data = [(torch.randn(half, 2, generator=draw), torch.randint(0, 2, (half,), generator=draw)) for _ in range(2)]
    return NeuralNetwork(mlp((2, 30, 30, 2)), *data, loss="cross_entropy", initial="normal", initial_scale=0.5)


def growth() -> dict[str, list[tuple[float, float]]]:
    """Microseconds of a walker-step by parameters, points, walkers and dimensions of the bias."""
    found: dict[str, list[tuple[float, float]]] = {"parameters": [], "points": [], "walkers": [], "CVs of the bias": []}
    for width in (3, 10, 30, 100, 300, 1000):
        system = dynamics.regression(width)
        found["parameters"].append((system.size, microseconds(simulation(system))))
    for count in (20, 100, 500, 2000, 10_000):
        found["points"].append((count, microseconds(simulation(points(count)))))
    for walkers in (1, 2, 4, 16, 64, 256):
        one = simulation(spiral_classification(), walkers=walkers)
        found["walkers"].append((walkers, microseconds(one) / walkers))
    for dimensions in (1, 2, 3):
        one = simulation(spiral_classification(), dimensions)
        found["CVs of the bias"].append((dimensions, microseconds(one)))
    return found


def second_thread(repeats: int) -> dict[str, float]:
    """How much faster two threads are than one, by case."""
    cases = {
        "spiral, 116 parameters, 2 walkers": (spiral_classification, 2),
        "spiral, 116 parameters, 64 walkers": (spiral_classification, 64),
        "house prices, 6661 parameters, 2 walkers": (dynamics.CASES["house_6661"][0], 2),
        "convolutions, 362 parameters, 2 walkers": (dynamics.CASES["mnist_cnn_362"][0], 2),
        "2-300-300-1, 2 walkers": (dynamics.CASES["spiral_regression_300"][0], 2),
    }
    found = {}
    for name, (system, walkers) in cases.items():
        ratios = []
        for _ in range(repeats):
            one, two = (microseconds(simulation(system(), walkers=walkers, threads=threads)) for threads in (1, 2))
            ratios.append(one / two)
        found[name] = statistics.median(ratios)
    return found


def recording(repeats: int, steps: int = 1_000_000) -> float:
    """Share that positions and three observables every 100 steps add to a run of one walker on the spiral."""

    def seconds(every: int) -> float:
        observed = [cv.Accuracy("test"), cv.Loss("test"), cv.Accuracy("train")]
        one = simulation(spiral_classification(), every=every, positions_every=every, observe=observed)
        with tempfile.TemporaryDirectory() as folder:
            one.run(100, output=Path(folder) / "begun.zarr", progress=False)
            begin = time.perf_counter()
            one.run(100 + steps, output=Path(folder) / "run.zarr", progress=False)
            return time.perf_counter() - begin

    return statistics.median(seconds(100) / seconds(10**7) for _ in range(repeats)) - 1


def training(repeats: int) -> float:
    """How many times faster a hundred training runs of the spiral are than in torch."""
    system = spiral_classification(box=Box(kind="open"), initial="reinitialise")
    ratios = []
    for _ in range(repeats):
        settings = {"walkers": 100, "every": 50, "observe": [LOSSES[0], cv.Accuracy("test")], "threads": 1}
        compiled, torch_ = (
            microseconds(nnsim.Simulation(system, GradientDescent(0.05), platform=platform, **settings), 2.0)
            for platform in ("native", "reference")
        )
        ratios.append(torch_ / compiled)
    return statistics.median(ratios)


def share_of_the_bias(repeats: int) -> float:
    """What part of a step on house prices a two-dimensional Wang-Landau bias takes, beside springs on the same CVs."""
    system, shares = dynamics.CASES["house_6661"][0](), []
    for _ in range(repeats):
        springs = nnsim.Simulation(
            system, Langevin(1e-4, 1.0), bias=Umbrella(LOSSES[:2], [0.0, 0.0], 1.0), every=10**7, threads=1
        )
        shares.append(1 - microseconds(springs, 2.0) / microseconds(simulation(system), 2.0))
    return statistics.median(shares)


BEGIN = """
import time
begin = time.perf_counter()
import nnsim
from nnsim import Grid, cv
from nnsim.bias import Metadynamics
from nnsim.integrators import Langevin
from nnsim.systems import spiral_classification
bias = Metadynamics(cv.LogLoss("train"), Grid(-3, 2, bins=50), height=0.1, sigma=0.2, pace=5)
nnsim.Simulation(spiral_classification(), Langevin(0.01, 1.0), bias=bias, threads=1, every=100).advance(1)
print(time.perf_counter() - begin)
"""


def first_step() -> tuple[float, float]:
    """Seconds until the first step is done, from the first import on: with nothing compiled, and again."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        command = [sys.executable, "-c", BEGIN]
        runs = [subprocess.run(command, env=environment, check=True, capture_output=True, text=True) for _ in range(2)]
    return tuple(float(one.stdout) for one in runs)


# ---------------------------------------------------------------- the page


TITLES = {
    "spiral_116": "spiral, 116 parameters",
    "spiral_116_small_grid": "the same, on the grid of the JAX loop",
    "house_6661": "house prices, 6661",
    "polymer_38501": "polymer, 38501 (SiLU)",
    "spiral_regression_30": "2-30-30-1, 1051",
    "spiral_regression_100": "2-100-100-1, 10501",
    "spiral_regression_300": "2-300-300-1, 91501",
    "spiral_regression_1000": "2-1000-1000-1, 1005001",
    "mnist_cnn_362": "convolutions on MNIST, 362",
    "resnet_43604": "ResNet-10, 43604 (256 + 256 images)",
}


def case_table(medians: dict[str, dict[str, float]]) -> str:
    """A row for each case and number of walkers."""
    rows = ["| network | walkers | step of a walker | plain PyTorch loop | JAX loop | over the products alone |"]
    rows.append("|---|---|---|---|---|---|")
    for case, found in medians.items():
        for what, value in found.items():
            if not what.startswith("nnsim"):
                continue
            walkers = what.split()[1]
            other = {name: found.get(name) for name in ("eager", f"jax, {walkers} walkers", "products")}
            eager, jax, products = other.values()
            cells = [
                TITLES[case], walkers, _time(value),
                f"{eager / value:.3g}x slower" if eager else "-",
                f"{jax / value:.2g}x slower" if jax else "-",
                f"{value / products:.2f}x" if products else "-",
            ]  # fmt: skip
            rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _time(microseconds: float) -> str:
    return f"{microseconds / 1000:.3g} ms" if microseconds >= 1000 else f"{microseconds:.3g} us"


def rest_table(threads: dict[str, float], share: float, begin: tuple[float, float], gain: float, bias: float) -> str:
    """Training, the bias, what two threads bring, what recording costs, and the start."""
    rows = ["| what | measured |", "|---|---|"]
    rows.append(f"| a hundred training runs of the spiral | {gain:.1f}x faster than in torch |")
    rows.append(f"| a 2-D Wang-Landau bias, house prices | {100 * bias:.0f} % of a step |")
    rows += [f"| two threads: {name} | {gain:.2f}x one |" for name, gain in threads.items()]
    rows.append(f"| positions and 3 observables every 100 steps, on disk, in a run of 10 s | {100 * share:+.0f} % |")
    rows.append(f"| first step, nothing compiled yet | {begin[0]:.0f} s |")
    rows.append(f"| first step, compiled before | {begin[1]:.1f} s |")
    return "\n".join(rows)


def write(tables: dict[str, str]) -> None:
    """Put tables between their marks on the page."""
    text = PAGE.read_text()
    for name, table in tables.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        assert re.search(pattern, text, flags=re.DOTALL), name
        text = re.sub(pattern, lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text, flags=re.DOTALL)
    PAGE.write_text(text)


def draw(found: dict[str, list[tuple[float, float]]]) -> None:
    """How the cost grows, in four panels."""
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, 4, figsize=(10.5, 2.8), layout="constrained")
        for axes, (name, pairs) in zip(panels, found.items(), strict=True):
            x, y = zip(*pairs, strict=True)
            axes.plot(x, y, "o-")
            axes.set_yscale("log")
            if name != "CVs of the bias":
                axes.set_xscale("log")
            else:
                axes.set_xticks(x)
            axes.set_xlabel(name)
            axes.set_ylim(1, None if name in ("parameters", "points") else 100)
        panels[0].set_ylabel("step of a walker (us)")
        figure.savefig(PICTURE, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jax", metavar="PYTHON", help="a Python that has jax, for the jitted loop of the same step")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    medians = dynamics.measured(list(dynamics.CASES), arguments.repeats, 2.0, arguments.jax)
    found = growth()
    tables = {
        "cases": case_table(medians),
        "rest": rest_table(
            second_thread(arguments.repeats),
            recording(arguments.repeats),
            first_step(),
            training(arguments.repeats),
            share_of_the_bias(arguments.repeats),
        ),
    }
    with (RESULTS / "performance.csv").open("w", newline="") as file:
        rows = [(case, what, value) for case, one in medians.items() for what, value in one.items()]
        rows += [(f"growth with {name}", x, y) for name, pairs in found.items() for x, y in pairs]
        csv.writer(file).writerows([("case", "what", "microseconds"), *rows])
    write(tables)
    draw(found)


if __name__ == "__main__":
    main()
