"""Time evolution of the tangent kernel's entropy and trace, and of the loss: figures 1, 4 and 5 of arXiv 2410.07451.

Each study has three rows: two activations, a narrow and a wide network, a shallow and a deep one, as in the paper.
Every network is trained from several starts by `ntk_training.py`; the picture shows the mean over them and its spread,
train and test, the raw curve and its running average.

    python examples/ntk_evolution.py mnist              # dense networks: minutes on two cores
    python examples/ntk_evolution.py convolution        # convolutional networks on the same images
    python examples/ntk_evolution.py mpg                # regression on Auto MPG
    python examples/ntk_evolution.py digits             # needs no download
    python examples/ntk_evolution.py mnist --paper      # the paper's length and number of points: hours

Every row is a sweep in the folder: what is done is not done again, what was interrupted is resumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
from matplotlib.figure import Figure

import nnsim
from nnsim import plotting
from nnsim.analysis import sweep_runs
from nnsim.cli.sweep import sweep_display
from nnsim.running.script import Script
from nnsim.running.sweep import Sweep

TRAINING = Path(__file__).with_name("ntk_training.py")
QUANTITIES = ("ntk_entropy", "ntk_trace", "loss")


@dataclass(frozen=True)
class Row:
    """One comparison: a title, what changes, and what stays."""

    title: str
    grid: str
    fixed: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """Three comparisons on one data set, with settings for minutes and for the paper's figure."""

    rows: tuple[Row, Row, Row]
    quick: tuple[str, ...]
    paper: tuple[str, ...]


def rows(shape: tuple[int, int], widths: tuple[int, int, int], depths: tuple[int, int, int]) -> tuple[Row, Row, Row]:
    """Activations at (width, depth); two widths at a depth; two depths at a width."""
    width, depth = shape
    narrow, wide, at_depth = widths
    shallow, deep, at_width = depths
    return (
        Row(f"width {width}, depth {depth}", "activation=relu,tanh", (f"width={width}", f"depth={depth}")),
        Row(f"depth {at_depth}", f"width={narrow},{wide}", (f"depth={at_depth}",)),
        Row(f"width {at_width}", f"depth={shallow},{deep}", (f"width={at_width}",)),
    )


PAPER = ("epochs=500", "every=1", "kernel_points=none", "runs=3")
STUDIES = {
    "mnist": Study(
        rows((50, 2), (12, 1000, 3), (2, 10, 100)), ("epochs=60", "every=2", "kernel_points=200", "runs=3"), PAPER
    ),
    "convolution": Study(
        rows((64, 3), (12, 64, 3), (1, 3, 32)), ("epochs=24", "every=2", "kernel_points=50", "runs=3"), PAPER
    ),
    "mpg": Study(
        rows((500, 3), (100, 1000, 5), (2, 10, 100)), ("epochs=60", "every=2", "kernel_points=none", "runs=3"), PAPER
    ),
    "digits": Study(
        rows((50, 2), (12, 500, 3), (2, 6, 100)), ("epochs=150", "every=2", "kernel_points=200", "runs=3"), PAPER
    ),
}


def run_row(name: str, row: Row, amount: tuple[str, ...], folder: Path, jobs: int) -> None:
    """Run what is not done of one comparison."""
    settings = (f"data={name}", *row.fixed, *amount)
    sweep = Sweep(Script(TRAINING), folder, grid=[row.grid], overrides=settings, jobs=jobs)
    display = sweep_display()
    try:
        sweep.run(display)
    finally:
        display.stop()
    if sweep.failures():
        raise nnsim.NNSimError(f"{folder}: {len(sweep.failures())} runs failed; see log.txt in their folders")


def draw(study: Study, folders: list[Path], path: Path) -> Path:
    """All comparisons in one picture: a row each, entropy, trace and loss side by side."""
    figure = Figure(figsize=(10.2, 9.0), layout="constrained")
    parts = figure.subfigures(len(folders), 1)
    for part, row, folder in zip(parts, study.rows, folders, strict=True):
        axes = list(part.subplots(1, len(QUANTITIES)))
        plotting.plot_evolution(sweep_runs(folder), QUANTITIES, axes=axes, title=row.title)
    return plotting.save(figure, path)


@click.command()
@click.argument("study", type=click.Choice(list(STUDIES)))
@click.option("--paper", is_flag=True, help="The paper's number of epochs and kernels on all points: hours.")
@click.option("--jobs", type=int, default=2, show_default=True, help="Networks that train at the same time.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder; ntk_STUDY or ntk_STUDY_paper."
)
def main(study: str, paper: bool, jobs: int, output: Path | None) -> None:
    """Train, and draw entropy, trace and loss against the epoch."""
    chosen = STUDIES[study]
    folder = output or Path(f"ntk_{study}_paper" if paper else f"ntk_{study}")
    folders = [folder / name for name in ("activation", "width", "depth")]
    try:
        for row, one in zip(chosen.rows, folders, strict=True):
            run_row(study, row, chosen.paper if paper else chosen.quick, one, jobs)
        click.echo(f"picture: {draw(chosen, folders, folder / 'evolution.png')}")
    except nnsim.NNSimError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
