"""Figure 1b of arXiv 2503.13145: equilibrium against training for four networks and two lengths of training.

The networks 2-W-W-W-2 (W = 6, 10, 14, 20: 116 to 942 parameters). Equilibrium: the annealed Boltzmann chains of
`spiral_boltzmann.py`, several independent runs, as many sweeps for each network (Wang-Landau walkers of the wider ones
would need more than 1e9 moves to find low losses). Training: the runs of `spiral_training.py`, looked at after a tenth
of their steps (short) and at their end (long). Each training run is compared with the equilibrium accuracy at its own
final train loss, or where it passed ln L = -4 if it went on from there: eight comparisons.

    python examples/figure1.py                # figure1/figure1.png and figure1.csv, half an hour on two cores
    python examples/figure1.py --quick        # fewer and shorter runs, 3 minutes

Every run is a trajectory in the folder; one that is complete is not done again, one that was interrupted is resumed.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import spiral_boltzmann
import spiral_training
from rich.console import Console
from rich.table import Table

import nnsim
from nnsim import plotting
from nnsim.analysis import Curve, FinalAdvantage, equilibrium, final_advantage
from nnsim.files import write_table

WIDTHS = (6, 10, 14, 20)
FRAMES = 400  # of a Boltzmann run
LOWEST = -4.0  # ln L_train down to which equilibrium and training are compared
FULL = {"runs": 4, "chains": 3, "sweeps": 8000, "trainings": 100, "steps": 30_000}
QUICK = {"runs": 2, "chains": 2, "sweeps": 1500, "trainings": 40, "steps": 10_000}


def completed(path: Path, simulation: nnsim.Simulation) -> nnsim.Trajectory:
    """The trajectory of a simulation, run or resumed if it is not complete."""
    if not path.exists() or nnsim.Trajectory(path).steps < simulation.steps:
        simulation.run(output=path, resume=path.exists())
    return nnsim.Trajectory(path)


def equilibrium_curves(folder: Path, width: int, size: int, runs: int, chains: int, sweeps: int) -> list[Curve]:
    """Mean test accuracy at each ln L_train, of independent runs; `size` is the number of parameters."""
    curves, every = [], sweeps * size // FRAMES
    for seed in range(runs):
        simulation = spiral_boltzmann.build(
            width=width,
            highest=100.0 * size,
            chains=chains,
            steps=every * FRAMES,
            ramp=round(0.4 * every * FRAMES),
            seed=seed,
            every=every,
        )
        trajectory = completed(folder / f"boltzmann_{width}_{seed}.zarr", simulation)
        curves.append(equilibrium(trajectory, "ln_loss_train", "accuracy_test").fine)
    return curves


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


def compare(
    folder: Path, width: int, runs: int, chains: int, sweeps: int, trainings: int, steps: int
) -> list[Comparison]:
    """Short and long training of one network."""
    simulation = spiral_training.build(hidden=(width,) * 3, runs=trainings, steps=steps)
    size = sum(math.prod(shape) for shape in simulation.system.parameters.values())
    trained = completed(folder / f"sgd_{width}.zarr", simulation)
    curves = equilibrium_curves(folder, width, size, runs, chains, sweeps)
    return [
        Comparison(width, size, name, at, final_advantage(curves, trained, at=at, lowest=LOWEST))
        for name, at in (("short", steps // 10), ("long", steps))
    ]


def write(comparisons: list[Comparison], folder: Path) -> None:
    """The table, as a file and on the screen, and the picture."""
    rows = [one.row() for one in comparisons]
    write_table(rows, folder / "figure1.csv")
    shown = Table(title=f"test accuracy at the loss where training ends, or at ln L = {LOWEST:g}", title_justify="left")
    for name in ("network", "training", "ln L", "equilibrium", "trained", "advantage", "runs"):
        shown.add_column(name, justify="right", no_wrap=True)
    for one, r in zip(comparisons, (one.result for one in comparisons), strict=True):
        accuracies = f"{r.level:.2f}", f"{r.equilibrium:.3f}", f"{r.training:.3f}"
        advantage = f"{r.advantage:+.3f} ± {r.standard_error:.3f}"
        shown.add_row(f"3x{one.width}", one.training, *accuracies, advantage, f"{r.runs}/{r.total}")
    Console().print(shown)
    labels = [f"3×{one.width}\n{one.training}" for one in comparisons]
    axes = plotting.plot_advantages(labels, [one.result for one in comparisons])
    click.echo(f"picture: {plotting.save(axes, folder / 'figure1.png')}")


@click.command()
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Folder; figure1 or figure1_quick.")
@click.option("--quick", is_flag=True, help="Fewer and shorter runs: minutes, larger errors.")
def main(output: Path | None, quick: bool) -> None:
    """Draw Figure 1b: equilibrium against training for four networks and two lengths of training."""
    output = output or Path("figure1_quick" if quick else "figure1")
    output.mkdir(parents=True, exist_ok=True)
    amount = QUICK if quick else FULL
    try:
        write([one for width in WIDTHS for one in compare(output, width, **amount)], output)
    except nnsim.NNSimError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
