"""How well the entropy of the 116-parameter spiral is known after 1.5e8 Monte Carlo moves, for several settings.

Ten independent runs of each setting, all from a random start: the estimate of S(-5) - S(0.5) (S a density in ln L_train
at these two points, from the marginal of the final bias), its spread over the runs, and the round trips that the walker
made between these two values. The ratio of the standard errors to that of the papers' schedule comes with a
bootstrap interval over the runs.

    python benchmarks/convergence.py [--runs 10] [--moves 1.5e8] [--jobs 2] [--settings papers recommended plane]

About 45 s of one core for a run of 1.5e8 moves. Each finished run is a line of the CSV, and a run that is there already
is not done again, so that the study can be interrupted.
"""

from __future__ import annotations

import argparse
import csv
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
LOW, HIGH = -5.0, 0.5  # ln L_train between which the entropy and the round trips are taken
SETTINGS = {
    "papers": "papers' schedule 5/(cycle + 10), step tuned to an acceptance of 0.5 (at most 0.5), ln L x accuracy",
    "recommended": "increment 0.001, from 5e6 moves on as 1/t; steps of 0.3 to 1.6, ln L alone",
    "plane": "increment 0.05, from 1e6 moves on as 1/t; steps of 0.3 to 1.6, ln L x accuracy",
}
FIELDS = ["setting", "seed", "moves", "entropy_difference", "round_trips", "seconds"]


def simulation(setting: str, seed: int, moves: int):
    import nnsim
    from nnsim import Grid, cv
    from nnsim.bias import WangLandau
    from nnsim.integrators import MixedStep, MonteCarlo, TunedStep
    from nnsim.schedules import CycleDecay, RampHoldInverseTime
    from nnsim.systems import spiral_classification

    loss, accuracy, half = cv.LogLoss("train"), cv.Accuracy("test"), 0.5 / 40
    plane = Grid(lower=(-6, -half), upper=(1, 1 + half), bins=(70, 41), kind="bins")
    wide = MixedStep(smallest=0.3, largest=1.6)
    if setting == "papers":
        bias, step = WangLandau([loss, accuracy], plane, CycleDecay()), TunedStep(target=0.5, largest=0.5)
    elif setting == "plane":
        bias, step = WangLandau([loss, accuracy], plane, RampHoldInverseTime(0.05, ramp=0, hold=1e6)), wide
    else:
        line = Grid(lower=-6, upper=1, bins=70, kind="bins")
        bias, step = WangLandau(loss, line, RampHoldInverseTime(0.001, ramp=0, hold=5e6)), wide
    system = spiral_classification(hidden=(6, 6, 6), points_per_class=20)
    return nnsim.Simulation(
        system, MonteCarlo(step), bias=bias, walkers=1, seed=seed, steps=moves, every=10_000, threads=1
    )


def one_run(setting: str, seed: int, moves: int) -> dict[str, Any]:
    """A row of the table."""
    from nnsim.analysis import EntropyLandscape, round_trips

    start = time.process_time()
    running = simulation(setting, seed, moves).run(progress=False)
    landscape = EntropyLandscape.from_bias(running.force_field.biases[0]).marginal("ln_loss_train")
    low, high = (landscape.at(ln_loss_train=value) for value in (LOW, HIGH))
    return {
        "setting": setting,
        "seed": seed,
        "moves": moves,
        "entropy_difference": round(low - high, 3),
        "round_trips": int(round_trips(running.history["ln_loss_train"], LOW, HIGH).sum()),
        "seconds": round(time.process_time() - start, 1),
    }


def ratio_interval(ours: np.ndarray, theirs: np.ndarray, level: float = 0.9) -> tuple[float, float, float]:
    """Ratio of the standard deviations, and its bootstrap interval over the runs."""
    rng = np.random.default_rng(0)
    draws = 20_000
    spreads = [
        values[rng.integers(len(values), size=(draws, len(values)))].std(axis=1, ddof=1) for values in (ours, theirs)
    ]
    low, high = np.quantile(spreads[0] / spreads[1], [(1 - level) / 2, (1 + level) / 2])
    return ours.std(ddof=1) / theirs.std(ddof=1), low, high


def read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: value if key == "setting" else float(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        ]


def append(path: Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| setting | runs | S(-5) - S(0.5) | spread over runs | standard error of their mean | round trips a run |",
        "|---|---|---|---|---|---|",
    ]
    values = {}
    for setting, words in SETTINGS.items():
        own = [row for row in rows if row["setting"] == setting]
        if len(own) < 2:
            continue
        found = values[setting] = np.array([row["entropy_difference"] for row in own])
        trips = np.array([row["round_trips"] for row in own])
        spread = found.std(ddof=1)
        lines.append(
            f"| {words} | {len(own)} | {found.mean():.1f} | {spread:.1f} | {spread / np.sqrt(len(own)):.1f} "
            f"| {trips.mean():.1f} ({trips.min():.0f} to {trips.max():.0f}) |"
        )
    if "papers" in values:
        lines.append("")
        for setting in [name for name in values if name != "papers"]:
            ratio, low, high = ratio_interval(values[setting], values["papers"])
            lines.append(
                f"Standard error of `{setting}` over that of `papers`: {ratio:.2f} (bootstrap 90 % interval {low:.2f} "
                f"to {high:.2f})."
            )
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Every run as a dot: its entropy difference against its round trips."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    ax = figure.add_subplot()
    for setting, color, marker in zip(SETTINGS, ("#D55E00", "#0072B2", "#009E73"), "os^", strict=True):
        own = [row for row in rows if row["setting"] == setting]
        if own:
            x, y = ([row[key] for row in own] for key in ("round_trips", "entropy_difference"))
            ax.plot(x, y, marker, color=color, label=setting.replace("_", " "), alpha=0.8, markersize=5)
    ax.set_xlabel(f"round trips between ln L = {LOW:g} and {HIGH:g}")
    ax.set_ylabel(f"S({LOW:g}) − S({HIGH:g})")
    ax.legend(frameon=False)
    figure.savefig(path, dpi=200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--moves", type=float, default=1.5e8)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--csv", type=Path, default=HERE / "results" / "convergence.csv")
    parser.add_argument("--picture", type=Path, default=HERE.parent / "docs" / "convergence.png")
    arguments = parser.parse_args()
    moves = int(arguments.moves)
    done = {(row["setting"], row["seed"]) for row in read(arguments.csv) if row["moves"] == moves}
    wanted = [(setting, seed) for seed in range(arguments.runs) for setting in arguments.settings]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        missing = [job for job in wanted if job not in done]
        for finished in as_completed([pool.submit(one_run, *job, moves) for job in missing]):
            append(arguments.csv, finished.result())
            print(finished.result(), flush=True)
    rows = [row for row in read(arguments.csv) if row["moves"] == moves]
    draw(rows, arguments.picture)
    print(table(rows))


if __name__ == "__main__":
    main()
