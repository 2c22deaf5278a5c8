"""Wang-Landau molecular dynamics on the papers' networks: ours, a plain PyTorch loop, and the products alone.

For each network one walker-step of ours (both forward passes and gradients, the CVs, a two-dimensional bias and its
deposit, the integrator), of the eager loop of `../shared/baselines/eager_wlmd.py`, and the time of the matrix products
that the gradients of both splits take, the faster of torch's and numpy's. All in turn, several times, on one thread;
medians are compared. The 116-parameter spiral is also run on the small grid of `jax_wlmd.py`, beside that, if another
Python with jax is given.

    python benchmarks/dynamics.py [--repeats 3] [--jax PYTHON] [--write FILE] [case ...]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

import nnsim
from nnsim import Box, Grid, cv
from nnsim.bias import WangLandau
from nnsim.box import per_tensor_limits
from nnsim.integrators import Langevin, friction_from_fraction
from nnsim.schedules import InverseTime
from nnsim.systems import NeuralNetwork, house_prices, spiral_classification
from nnsim.systems.modules import mlp, mnist_cnn, resnet10

BASELINES = Path(__file__).resolve().parents[2] / "shared" / "baselines"
WIDE = Grid((-20, -20), (20, 20), spacing=0.02), 0.2
NARROW = Grid((-8, -10), (4, 10), spacing=0.1), 0.2
LOSSES = [cv.LogLoss("train"), cv.LogLoss("test")]
CLASSES = [cv.LogLoss("train"), cv.SmoothedAccuracy("test", slope=5.0, coordinate="logit")]


def network(module: nn.Module, shape: tuple[int, ...], train: int, test: int, classes: int = 0) -> NeuralNetwork:
    """Any module on random points."""
    draw = torch.Generator().manual_seed(0)
    data = []
    for count in (train, test):
        x = torch.randn(count, *shape, generator=draw)
        y = torch.randint(0, classes, (count,), generator=draw) if classes else torch.randn(count, 1, generator=draw)
        data.append((x, y))
    box = Box(per_tensor_limits([tuple(p.shape) for p in module.parameters()], 3.0))
    return NeuralNetwork(module, *data, loss="cross_entropy" if classes else "mse", box=box, initial="uniform")


def regression(width: int) -> NeuralNetwork:
    return network(mlp((2, width, width, 1)), (2,), 250, 250)


CASES: dict[str, tuple[Callable[[], NeuralNetwork], list, tuple, tuple[int, ...]]] = {
    "spiral_116": (spiral_classification, CLASSES, WIDE, (1, 64)),
    "spiral_116_small_grid": (spiral_classification, CLASSES, NARROW, (1, 64)),
    "house_6661": (house_prices, LOSSES, WIDE, (1, 8)),
    "polymer_38501": (partial(network, mlp((768, 50, 1), nn.SiLU), (768,), 449, 112), LOSSES, WIDE, (1, 8)),
    **{f"spiral_regression_{w}": (partial(regression, w), LOSSES, WIDE, (1, 8)) for w in (30, 100, 300, 1000)},
    "mnist_cnn_362": (partial(network, mnist_cnn(), (1, 28, 28), 250, 250, 10), CLASSES, WIDE, (1, 8)),
    "resnet_43604": (partial(network, resnet10(), (3, 32, 32), 256, 256, 2), CLASSES, WIDE, (1,)),
}
SIZES = {
    "house_6661": ([331, 20, 1], 730, 730),
    "polymer_38501": ([768, 50, 1], 449, 112),
    **{f"spiral_regression_{w}": ([2, w, w, 1], 250, 250) for w in (30, 100, 300, 1000)},
}


def ours(case: str, walkers: int, seconds: float) -> float:
    """Microseconds of a walker-step."""
    make, cvs, (grid, kernel), _ = CASES[case]
    dt = 3e-6
    bias = WangLandau(cvs, grid, InverseTime(maximum=6.5, scale=1e12), kernel=kernel)
    integrator = Langevin(dt, friction_from_fraction(1e-5, dt), splitting="BOA")
    simulation = nnsim.Simulation(make(), integrator, bias=bias, walkers=walkers, every=10**7, threads=1)
    return microseconds(simulation, seconds) / walkers


def microseconds(simulation: nnsim.Simulation, seconds: float = 1.0) -> float:
    """Of a step of all walkers; at least three are made."""
    simulation.advance(3)
    steps, done, begin = 1, 0, time.perf_counter()
    while time.perf_counter() - begin < seconds or done < 3:
        simulation.advance(steps)
        done += steps
        steps = min(2 * steps, 1000)
    return (time.perf_counter() - begin) / done * 1e6


def eager(case: str, seconds: float) -> float:
    """The same of the plain loop, which has networks of its own; NaN where it lacks one."""
    name = case.removesuffix("_small_grid")
    command = [sys.executable, str(BASELINES / "eager_wlmd.py"), name]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return float(json.loads(lines[-1])["us_per_step"]) if lines else eager_gradients(case)


def eager_gradients(case: str) -> float:
    """Forward and backward of both splits by autograd, where the plain loop has no such network."""
    system = CASES[case][0]()
    module, loss = system.module, nn.functional.cross_entropy
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        for split in ("train", "test"):
            outputs = module(system.points(split))
            torch.autograd.grad(loss(outputs, system.targets(split)), list(module.parameters()))
        times.append(time.perf_counter() - begin)
    return min(times) * 1e6


def jax(python: str, walkers: int) -> float:
    """The jitted JAX loop, on its small grid."""
    command = [python, str(BASELINES / "jax_wlmd.py"), "--walkers", str(walkers)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return float(json.loads(lines[-1])["us_per_walker_step"])


def products(case: str, seconds: float) -> float:
    """Microseconds of the matrix products of both splits: forward, and gradients of weights and inputs."""
    total, (sizes, *counts) = 0.0, SIZES[case]
    for points in counts:
        for layer, (a, b) in enumerate(pairwise(sizes)):
            x, w, d = torch.randn(points, a), torch.randn(b, a), torch.randn(points, b)
            pairs = [(x, w.T), (d.T, x)] + ([(d, w)] if layer else [])
            total += sum(min(_product(torch.mm, *pair), _product(np.dot, *(t.numpy() for t in pair))) for pair in pairs)
    return total


def _product(multiply: Callable, a, b) -> float:
    times = []
    for _ in range(30):
        begin = time.perf_counter()
        multiply(a, b)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e6


def measured(cases: list[str], repeats: int, seconds: float, other: str | None) -> dict[str, dict[str, float]]:
    """Medians of microseconds, by case and by what was measured; `other` is a Python with jax."""
    torch.set_num_threads(1)
    times: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for repeat in range(repeats):
        for case in cases:
            found = times[case]
            for walkers in CASES[case][3]:
                found[f"nnsim, {walkers} walkers"].append(ours(case, walkers, seconds))
                if other and case == "spiral_116_small_grid":
                    found[f"jax, {walkers} walkers"].append(jax(other, walkers))
            if BASELINES.exists():
                found["eager"].append(eager(case, seconds))
            if case in SIZES:
                found["products"].append(products(case, seconds))
        print(f"repeat {repeat + 1} of {repeats} done", file=sys.stderr)
    return {case: {what: statistics.median(one) for what, one in found.items()} for case, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", nargs="*", default=list(CASES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--jax", metavar="PYTHON")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    medians = measured(arguments.case, arguments.repeats, arguments.seconds, arguments.jax)
    for case, found in medians.items():
        for what, value in found.items():
            against = "   ".join(
                f"{found[other] / value:7.2f} x {other}" for other in ("eager", "products") if other in found
            )
            print(f"{case:<24}{what:<22}{value:12.1f} us   {against}")
    if arguments.write:
        arguments.write.write_text(json.dumps(medians, indent=1) + "\n")


if __name__ == "__main__":
    main()
