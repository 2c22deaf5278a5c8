"""Figure 1b of arXiv 2503.13145: equilibrium against training for four networks and two lengths of training.

The networks 2-W-W-W-2 (W = 6, 10, 14, 20: 116 to 942 parameters) of `spiral_wlmc.py`. Equilibrium: independent
Wang-Landau Monte Carlo runs with a bias on ln L_train. Training: runs of `spiral_training.py`, looked at after a tenth
of their steps (short) and at their end (long). Each training run is compared with the equilibrium accuracy at its own
train loss, which gives eight comparisons.

    python examples/figure1.py                # figure1/figure1.png and figure1.csv, about 20 minutes on two cores
    python examples/figure1.py --quick        # fewer and shorter runs, 3 minutes

Every run is a trajectory in the folder; one that is complete is not done again, one that was interrupted is resumed.
"""

from __future__ import annotations

import csv
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import spiral_training
import spiral_wlmc
from rich.console import Console
from rich.table import Table

import nnsim
from nnsim import plotting
from nnsim.analysis import Curve, EquilibriumTable, FinalAdvantage, equilibrium, final_advantage

WIDTHS = (6, 10, 14, 20)
LOWEST = -8.0  # of ln L_train
FULL = {"runs": 4, "moves": 200_000_000, "trainings": 100, "steps": 30_000}
QUICK = {"runs": 2, "moves": 20_000_000, "trainings": 40, "steps": 10_000}


def completed(path: Path, simulation: nnsim.Simulation) -> nnsim.Trajectory:
    """The trajectory of a simulation, run or resumed if it is not complete."""
    if not path.exists() or nnsim.Trajectory(path).steps < simulation.steps:
        simulation.run(output=path, resume=path.exists())
    return nnsim.Trajectory(path)


def equilibrium_curves(folder: Path, width: int, runs: int, moves: int) -> list[Curve]:
    """Mean test accuracy at each ln L_train, of independent runs."""
    tables: list[EquilibriumTable] = []
    for seed in range(runs):
        simulation = spiral_wlmc.build(width=width, plane=False, seed=seed, lowest=LOWEST, steps=moves // 2)
        trajectory = completed(folder / f"wlmc_{width}_{seed}.zarr", simulation)
        tables.append(equilibrium(trajectory, "ln_loss_train", "accuracy_test"))
    return [table.fine for table in tables]


@dataclass(frozen=True)
class Comparison:
    """One of the eight: a network and a length of training."""

    width: int
    parameters: int
    training: str
    steps: int
    result: FinalAdvantage

    def row(self) -> dict[str, Any]:
        network = {"network": f"3x{self.width}", "parameters": self.parameters}
        training = {"training": self.training, "steps": self.steps}
        numbers = {"advantage": self.result.advantage, "standard_error": self.result.standard_error}
        return {**network, **training, **asdict(self.result), **numbers}


def compare(folder: Path, width: int, runs: int, moves: int, trainings: int, steps: int) -> list[Comparison]:
    """Short and long training of one network."""
    curves = equilibrium_curves(folder, width, runs, moves)
    simulation = spiral_training.build(hidden=(width,) * 3, runs=trainings, steps=steps)
    trained = completed(folder / f"sgd_{width}.zarr", simulation)
    size = sum(math.prod(shape) for shape in simulation.system.parameters.values())
    lengths = {"short": steps // 10, "long": steps}
    return [Comparison(width, size, name, at, final_advantage(curves, trained, at=at)) for name, at in lengths.items()]


def write(comparisons: list[Comparison], folder: Path) -> None:
    """The table, as a file and on the screen, and the picture."""
    rows = [one.row() for one in comparisons]
    with (folder / "figure1.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    shown = Table(title="test accuracy at the train loss at which training ends", title_justify="left")
    for name in ("network", "training", "mean ln L", "equilibrium", "trained", "advantage", "runs"):
        shown.add_column(name, justify="right")
    for one, r in zip(comparisons, (one.result for one in comparisons), strict=True):
        accuracies = f"{r.level:.2f}", f"{r.equilibrium:.3f}", f"{r.training:.3f}"
        advantage = f"{r.advantage:+.3f} ± {r.standard_error:.3f}"
        training = f"{one.training}, {one.steps} steps"
        shown.add_row(f"3x{one.width}", training, *accuracies, advantage, f"{r.runs} of {r.total}")
    Console().print(shown)
    labels = [f"3×{one.width}\n{one.training}" for one in comparisons]
    axes = plotting.plot_advantages(labels, [one.result for one in comparisons])
    click.echo(f"picture: {plotting.save(axes, folder / 'figure1.png')}")


@click.command()
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=Path("figure1"), show_default=True)
@click.option("--quick", is_flag=True, help="Fewer and shorter runs: minutes, larger errors.")
def main(output: Path, quick: bool) -> None:
    """Draw Figure 1b: equilibrium against training for four networks and two lengths of training."""
    output.mkdir(parents=True, exist_ok=True)
    amount = QUICK if quick else FULL
    write([one for width in WIDTHS for one in compare(output, width, **amount)], output)


if __name__ == "__main__":
    main()
