"""Six methods on one network: the entropy S(ln L_train), what it cost, and how far independent runs differ.

    python benchmarks/methods.py small          the 22 parameters of a 2-4-2 network on the spiral, in a box of +-3
    python benchmarks/methods.py spiral         the 116 parameters of PAPERS.md
    python benchmarks/methods.py spiral_long    the same for Monte Carlo, with 20 times the evaluations
    python benchmarks/methods.py spiral_dynamics --methods wlmd metadynamics    and for dynamics, with 6.5 times as many

Every method is run several times from random starts, on the spiral with the same number of network evaluations (a move
of Monte Carlo counts as one, a step of a dynamics, which takes a gradient, as one too). Each finished run is a file in
benchmarks/results/methods, and a run that is there is not done again; the table and the picture are made from them.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).resolve().parent / "results"
RUNS = RESULTS / "methods"
DOCS = Path(__file__).resolve().parents[1] / "docs"
METHODS = ("wlmc", "wlmd", "wlhmc", "metadynamics", "umbrella", "tempering")
NAMES = {
    "wlmc": "Wang-Landau Monte Carlo",
    "wlmd": "Wang-Landau dynamics",
    "wlhmc": "Wang-Landau hybrid Monte Carlo",
    "metadynamics": "well-tempered metadynamics",
    "umbrella": "umbrella windows + MBAR",
    "tempering": "parallel tempering + MBAR",
}
SPACING = 0.1  # of all bins of ln L
ACCURACY_WIDTH = 0.2  # of the bins from which the mean accuracy at a value of ln L is taken


@dataclass(frozen=True)
class Problem:
    """A network, and what each method is told about it.

    Attributes:
        hidden, box: of the network (box None is that of the papers).
        low, high: range of ln L that is compared.
        margin: how far grids of Monte Carlo go beyond it at the lower and upper end; those of a dynamics hold walls.
        steps: smallest and largest of the mixed step sizes of Monte Carlo.
        dt, friction: of the dynamics; hmc: time step and number of steps of hybrid Monte Carlo.
        budget: evaluations of the network in a run; longer: by how much it is multiplied for some of the methods.
        walkers: of Monte Carlo and of the dynamics.
        mc, md, hmd: increment of Monte Carlo, dynamics and hybrid Monte Carlo, the part of the run during which it is
            held, and the part of that by which the 1/t decay is shifted (see `RampHoldInverseTime`).
        height, bias_factor: of metadynamics.
        weighted: whether S of metadynamics comes from the frames weighted with exp((V - c(t)) / kT), which do not mind
            that V lags behind, or from the final V, which is smooth and needs no frames.
        stiffness: of umbrella windows, one for each bin.
        beta: of the ladder.
        wall: strength of the walls of a dynamics.
        levels: values of ln L at which the mean accuracy is given.
    """

    hidden: tuple[int, ...]
    box: float | None
    low: float
    high: float
    margin: tuple[float, float]
    steps: tuple[float, float]
    dt: float
    friction: float
    hmc: tuple[float, int]
    budget: float
    walkers: tuple[int, int]
    mc: tuple[float, float, float]
    md: tuple[float, float, float]
    hmd: tuple[float, float, float]
    height: float
    bias_factor: float
    weighted: bool
    stiffness: float
    beta: tuple[float, ...]
    levels: tuple[float, ...]
    longer: tuple[tuple[str, float], ...] = ()
    wall: float = 3000.0


PROBLEMS = {
    "small": Problem(
        hidden=(4,),
        box=3.0,
        low=-0.6,
        high=2.7,
        margin=(0.2, 0.5),
        steps=(1e-2, 3.0),
        dt=0.004,
        friction=1.0,
        hmc=(0.03, 20),
        budget=8e6,
        walkers=(4, 256),
        mc=(0.02, 0.001, 0.0),
        md=(7.5e-4, 0.15, 0.9),
        hmd=(0.015, 0.15, 0.9),
        height=0.01,
        bias_factor=4.0,
        weighted=True,
        stiffness=150.0,
        levels=(-0.4, 0.0, 1.0, 2.0),
        beta=(-1.0, -0.6, -0.3, -0.1, 0.0, 0.3, 1.0, 3.0, 7.0, 13.0, 21.0, 30.0, 40.0, 60.0),
        # compiled moves are cheap; and until the history of a bias hardly shows in S
        longer=(("wlmc", 7.5), ("tempering", 7.5), ("wlhmc", 3.0)),
    ),
    "spiral": Problem(
        hidden=(6, 6, 6),
        box=None,
        low=-5.0,
        high=0.5,
        margin=(1.0, 0.5),
        steps=(0.3, 1.6),
        dt=0.004,
        friction=5.0,
        hmc=(0.006, 20),
        budget=1e7,
        walkers=(2, 64),
        mc=(0.001, 0.4, 0.0),
        md=(0.02, 0.15, 0.98),
        hmd=(0.08, 0.4, 0.9),
        height=0.1,
        bias_factor=60.0,
        weighted=False,
        stiffness=300.0,
        levels=(-4.0, -3.0, -2.0, -1.0),
        beta=(0.0, *np.geomspace(2, 6000, 31)),
    ),
}
# Monte Carlo is compiled: 20 times the evaluations take it less time than the dynamics need for theirs.
PROBLEMS["spiral_long"] = replace(PROBLEMS["spiral"], budget=2e8, mc=(0.001, 0.025, 0.0))
# Dynamics is compiled: four runs of each method take half an hour of two cores. Low losses are stiff: at friction 1 the
# kinetic temperature below -5 was 1.19 with this dt and 2.6 with 0.004, and S much too low.
PROBLEMS["spiral_dynamics"] = replace(
    PROBLEMS["spiral"], budget=5.5e7, dt=0.002, margin=(0.5, 0.5), wall=300.0, md=(0.004, 0.3, 0.95)
)


# ---------------------------------------------------------------------- the six methods


def simulation(problem: Problem, method: str, seed: int) -> tuple[Any, int]:
    """The simulation, and its number of steps."""
    from nnsim import Box, Simulation, cv
    from nnsim.systems import spiral_classification

    box = {} if problem.box is None else {"box": Box(problem.box)}
    system = spiral_classification(hidden=problem.hidden, points_per_class=20, **box)
    loss = cv.LogLoss("train")
    build: Callable[..., tuple[Any, Any, int, int]] = globals()[f"_{method}"]
    integrator, bias, walkers, evaluations_a_step = build(problem, loss)
    steps = round(problem.budget / (walkers * evaluations_a_step))
    frames = min(120_000 // walkers, 4000)  # MBAR takes time in proportion
    running = Simulation(
        system, integrator, bias=bias, observe=[loss, cv.Accuracy("test")], walkers=walkers, seed=seed,
        every=max(steps // frames, 1), positions_every=0, threads=1,
    )  # fmt: skip
    return running, steps


def _monte_carlo(problem: Problem) -> Any:
    from nnsim.integrators import MixedStep, MonteCarlo

    return MonteCarlo(MixedStep(*problem.steps))


def _schedule(settings: tuple[float, float, float], deposits: float) -> Any:
    from nnsim.schedules import RampHoldInverseTime

    increment, hold, shift = settings
    return RampHoldInverseTime(increment, 0, hold * deposits, shift * hold * deposits)


def _wlmc(problem: Problem, loss: Any) -> tuple[Any, Any, int, int]:
    from nnsim import Grid
    from nnsim.bias import WangLandau

    grid = Grid(problem.low - problem.margin[0], problem.high + problem.margin[1], spacing=SPACING, kind="bins")
    bias = WangLandau(loss, grid, _schedule(problem.mc, problem.budget))
    return _monte_carlo(problem), bias, problem.walkers[0], 1


def _walled(problem: Problem, loss: Any, make: Callable[[Any], Any]) -> list[Any]:
    """A bias on a spline grid, and a wall inside the grid on either side."""
    from nnsim import Grid
    from nnsim.bias import Wall

    lower, upper = problem.low - problem.margin[0], problem.high + problem.margin[1] - SPACING
    grid = Grid(lower - 0.5, upper + 0.5, spacing=SPACING / 2, kind="spline")
    return [make(grid), Wall(loss, lower=lower, upper=upper, strength=problem.wall)]


def _wlmd(problem: Problem, loss: Any) -> tuple[Any, Any, int, int]:
    from nnsim.bias import WangLandau
    from nnsim.integrators import Langevin

    schedule = _schedule(problem.md, problem.budget)
    biases = _walled(problem, loss, lambda grid: WangLandau(loss, grid, schedule, kernel=0.05))
    return Langevin(problem.dt, problem.friction), biases, problem.walkers[1], 1


def _wlhmc(problem: Problem, loss: Any) -> tuple[Any, Any, int, int]:
    from nnsim.bias import WangLandau
    from nnsim.integrators import HybridMonteCarlo

    dt, steps = problem.hmc
    schedule = _schedule(problem.hmd, problem.budget / (steps + 1))
    biases = _walled(problem, loss, lambda grid: WangLandau(loss, grid, schedule, kernel=0.05))
    return HybridMonteCarlo(dt, steps), biases, problem.walkers[1], steps + 1  # the bias changes: one gradient more


def _metadynamics(problem: Problem, loss: Any) -> tuple[Any, Any, int, int]:
    from nnsim.bias import Metadynamics
    from nnsim.integrators import Langevin

    settings = {"height": problem.height, "sigma": 0.05, "pace": 10, "bias_factor": problem.bias_factor}
    biases = _walled(problem, loss, lambda grid: Metadynamics(loss, grid, **settings))
    return Langevin(problem.dt, problem.friction), biases, problem.walkers[1], 1


def _umbrella(problem: Problem, loss: Any) -> tuple[Any, Any, int, int]:
    from nnsim.bias import Umbrella

    centers = np.arange(problem.low - problem.margin[0], problem.high + problem.margin[1], SPACING)
    return _monte_carlo(problem), Umbrella(loss, centers, problem.stiffness), len(centers), 1


def _tempering(problem: Problem, loss: Any) -> tuple[Any, Any, int, int]:
    from nnsim import cv
    from nnsim.bias import ReplicaExchange

    walkers, every = len(problem.beta), 100
    pilot = round(0.25 * problem.budget / walkers)
    return _monte_carlo(problem), ReplicaExchange(cv.Loss("train"), problem.beta, every=every, pilot=pilot), walkers, 1


# ---------------------------------------------------------------------- what is measured


def one_run(name: str, method: str, seed: int) -> dict[str, Any]:
    """S at the places (null where no frame has been), accuracy at the levels, round trips, evaluations, seconds."""
    from nnsim import Trajectory
    from nnsim.analysis import round_trips

    problem = PROBLEMS[name]
    problem = replace(problem, budget=problem.budget * dict(problem.longer).get(method, 1.0))
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        running, steps = simulation(problem, method, seed)
        running.run(steps, output=Path(folder) / "run.zarr", progress=False)
        sampled = time.process_time()
        run = Trajectory(Path(folder) / "run.zarr")
        losses = run["ln_loss_train"][:]
        entropy = _entropy(problem, method, running, run)
        accuracy = _accuracy(run, problem.levels)
        trips = int(round_trips(losses, problem.low, problem.high).sum())
    bias = running.force_field.biases[0]
    extra = {}
    if method == "tempering":
        extra = {"rung_trips": int(bias.round_trips.sum()), "swap_rates": bias.swap_probability().tolist()}
    per_step = problem.hmc[1] + 1 if method == "wlhmc" else 1
    return {
        "problem": name, "method": method, "seed": seed, "evaluations": steps * running.walkers * per_step,
        "walkers": running.walkers, "seconds": round(sampled - start, 1), "round_trips": trips, **extra,
        "entropy": _storable(entropy - np.nanmax(entropy)), "accuracy": _storable(accuracy),
    }  # fmt: skip


def _storable(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 4) for value in values]


def _places(problem: Problem) -> np.ndarray:
    """Values of ln L at which S is compared, the two ends of the range among them."""
    return problem.low + SPACING * np.arange(round((problem.high - problem.low) / SPACING) + 1)


def _entropy(problem: Problem, method: str, running: Any, run: Any) -> np.ndarray:
    """S at the places, up to a constant: a density at points, from the density of bins by its local slope."""
    from nnsim.analysis import EntropyLandscape, profile

    places, half = _places(problem), SPACING / 2
    if method in ("umbrella", "tempering") or (method == "metadynamics" and problem.weighted):
        between = (places[0] - half, places[-1] + half)
        return profile(run, "ln_loss_train", bins=len(places), between=between, since=0.25, blocks=2).entropy
    landscape = EntropyLandscape.from_bias(running.force_field.biases[0])
    return np.array([landscape.at(ln_loss_train=place) for place in places])


def _accuracy(run: Any, levels: tuple[float, ...]) -> np.ndarray:
    """Mean accuracy at given ln L, in equilibrium; NaN where a run has too few frames on both sides of the value."""
    from nnsim.analysis import equilibrium

    found = equilibrium(run, "ln_loss_train", "accuracy_test", width=ACCURACY_WIDTH, since=0.25, centred=True)
    near = [np.abs(found.at - level) < 1e-6 for level in levels]
    return np.array([found.mean[one][0] if one.any() else np.nan for one in near])


# ---------------------------------------------------------------------- table and picture


def load(name: str) -> list[dict[str, Any]]:
    rows = [json.loads(file.read_text()) for file in sorted(RUNS.glob("*.json"))]
    return [row for row in rows if row["problem"] == name]


def summary(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each method: S with its standard error, evaluations, seconds, accuracy, round trips.

    S is known up to a constant, which is taken off every single run as its mean over the places that all runs know.
    """
    places, found = _places(PROBLEMS[name]), []
    known = np.isfinite(np.array([row["entropy"] for row in rows], dtype=float)).all(axis=0)
    for method in METHODS:
        own = [row for row in rows if row["method"] == method]
        if len(own) < 2:
            continue
        entropy = np.array([row["entropy"] for row in own], dtype=float)
        entropy -= entropy[:, known].mean(axis=1, keepdims=True)
        spread = entropy.std(axis=0, ddof=1) / np.sqrt(len(own))
        # An error estimated from few runs is itself uncertain: no place's is below the mean square of all.
        error = np.maximum(spread, np.sqrt(np.nanmean(spread**2)))
        found.append(
            {
                "method": method, "runs": len(own), "places": places, "entropy": entropy.mean(axis=0),
                "error": error, "each": entropy, "accuracy": np.array([row["accuracy"] for row in own], dtype=float),
                **{key: np.array([row[key] for row in own]) for key in ("evaluations", "seconds", "round_trips")},
            }
        )  # fmt: skip
    return found


def table(found: list[dict[str, Any]]) -> str:
    """Markdown; the difference is that of S at the two ends of the range."""
    low, high = found[0]["places"][[0, -1]]
    lines = [
        f"| method | runs | evaluations a run | seconds a run | largest SE of S | S({low:g}) - S({high:g}) "
        "| spread over runs | round trips a run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        ends = one["each"][:, 0] - one["each"][:, -1]
        entropy = f"{np.nanmax(one['error']):.2f} | {ends.mean():.2f} | {ends.std(ddof=1):.2f}"
        if np.isnan(ends).any():
            entropy = f"- | not reached by {np.isnan(ends).sum()} of {len(ends)} | -"
        trips = "-" if one["method"] == "umbrella" else f"{one['round_trips'].mean():.1f}"
        lines.append(
            f"| {NAMES[one['method']]} | {one['runs']} | {_power(one['evaluations'].mean())} "
            f"| {np.median(one['seconds']):.0f} | {entropy} | {trips} |"
        )
    return "\n".join(lines)


def _power(number: float) -> str:
    return f"{number:.1e}".replace("e+0", "e").replace(".0e", "e")


def pairs(found: list[dict[str, Any]]) -> str:
    """Largest difference of each two methods, in combined standard errors."""
    lines = []
    for i, one in enumerate(found):
        for other in found[:i]:
            deviation = (one["entropy"] - other["entropy"]) / np.hypot(one["error"], other["error"])
            worst = int(np.nan_to_num(np.abs(deviation)).argmax())
            lines.append(
                f"{one['method']} - {other['method']}: {deviation[worst]:+.1f} SE at {one['places'][worst]:.2f}"
            )
    return "\n".join(lines)


def accuracies(found: list[dict[str, Any]], levels: tuple[float, ...]) -> str:
    """Mean accuracy at each level, with its spread over the runs and, where not all know it, how many do."""
    lines = [
        "| method | " + " | ".join(f"ln L = {level:g}" for level in levels) + " |",
        "|---" * (len(levels) + 1) + "|",
    ]
    for one in found:
        cells = []
        for column in one["accuracy"].T:
            values = column[np.isfinite(column)]
            few = "" if len(values) == len(column) else f" ({len(values)} runs)"
            cells.append(f"{values.mean():.3f} ± {values.std(ddof=1):.3f}{few}" if len(values) > 1 else "-")
        lines.append(f"| {NAMES[one['method']]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_csv(found: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "ln_loss_train", "entropy", "standard_error"])
        for one in found:
            for x, s, error in zip(one["places"], one["entropy"], one["error"], strict=True):
                writer.writerow([one["method"], f"{x:.2f}", f"{s:.3f}", f"{error:.3f}"])


def draw(found: list[dict[str, Any]], path: Path) -> None:
    """S of all methods above, what they differ from their mean below."""
    from matplotlib.figure import Figure

    colors = ("#000000", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7")
    figure = Figure(figsize=(5.2, 5.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1.4))
    weights = np.array([1 / one["error"] ** 2 for one in found if np.isfinite(one["entropy"]).all()])
    entropies = [one["entropy"] for one in found if np.isfinite(one["entropy"]).all()]
    middle = (weights * entropies).sum(axis=0) / weights.sum(axis=0)
    for i, one in enumerate(found):
        color, x = colors[METHODS.index(one["method"])], one["places"] + 0.012 * (i - (len(found) - 1) / 2)
        label = f"{NAMES[one['method']]}, {_power(one['evaluations'].sum())} evaluations"
        top.plot(one["places"], one["entropy"], "o-", color=color, label=label, markersize=2.5, linewidth=0.8)
        bottom.errorbar(x, one["entropy"] - middle, one["error"], fmt="o", color=color, markersize=2.5, linewidth=0.8)
    bottom.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    whole = [one for one in found if np.isfinite(one["entropy"]).all()]  # a method that got lost leaves the picture
    for ax, values in ((top, [one["entropy"] for one in whole]), (bottom, [one["entropy"] - middle for one in whole])):
        low, high = np.min(values), np.max(values)
        ax.set_ylim(low - 0.15 * (high - low), high + 0.15 * (high - low))
    top.set_ylabel("S (nats, mean 0)")
    bottom.set_ylabel("S − weighted mean")
    bottom.set_xlabel(r"ln L$_\mathrm{train}$")
    top.legend(frameon=False, fontsize="x-small", loc="lower right")
    figure.savefig(path, dpi=200)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("problem", choices=list(PROBLEMS))
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    arguments = parser.parse_args()
    RUNS.mkdir(parents=True, exist_ok=True)
    files = {
        (method, seed): RUNS / f"{arguments.problem}_{method}_{seed}.json"
        for seed in range(arguments.runs)
        for method in arguments.methods
    }
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        jobs = {pool.submit(one_run, arguments.problem, *key): file for key, file in files.items() if not file.exists()}
        for finished in as_completed(jobs):
            row = finished.result()
            jobs[finished].write_text(json.dumps(row) + "\n")
            print(row["method"], row["seed"], row["seconds"], "s, round trips", row["round_trips"], flush=True)
    found = summary(arguments.problem, load(arguments.problem))
    write_csv(found, RESULTS / f"methods_{arguments.problem}.csv")
    draw(found, DOCS / f"methods_{arguments.problem}.png")
    levels = PROBLEMS[arguments.problem].levels
    print(table(found), pairs(found), accuracies(found, levels), sep="\n\n")


if __name__ == "__main__":
    main()
