"""Entropy and trace of the tangent kernel, and the loss, over widths and depths: figure 2 of arXiv 2410.07451.

Dense networks on MNIST, before and after training (`ntk_training.py`), as maps; and how entropy and trace grow with the
width at each depth and with the depth at each width, as exponents of power laws with their errors.

    python examples/ntk_architecture.py                  # 4 widths, 4 depths: minutes on two cores
    python examples/ntk_architecture.py --data digits    # needs no download
    python examples/ntk_architecture.py --paper          # 20 widths from 10 to 3162, depths 1 to 10: days

The sweep is in the folder: what is done is not done again, what was interrupted is resumed. Beside it are the picture,
sweep.csv with all results, and scaling.csv with the exponents.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from matplotlib.figure import Figure
from ntk_evolution import TRAINING
from rich.console import Console
from rich.table import Table

import nnsim
from nnsim import plotting
from nnsim.analysis import Scaling, SweepTable, read_sweep, scaling
from nnsim.cli.sweep import sweep_display
from nnsim.files import write_table
from nnsim.running.script import Script
from nnsim.running.sweep import Sweep

WIDTHS = ",".join(str(round(width)) for width in np.geomspace(10, 3162, 20))
PAPER = (f"width={WIDTHS}", "depth=1,2,3,4,5,6,7,8,9,10"), ("epochs=500", "every=500", "kernel_points=none", "runs=3")
QUICK = ("width=10,32,100,316", "depth=1,2,3,5"), ("epochs=30", "every=30", "kernel_points=200", "runs=3")
MOMENTS = {"first": "at the start", "last": "after training"}


def columns(table: SweepTable) -> dict[str, str]:
    """Column of each quantity, without `_first` or `_last`."""
    names = ("ntk_entropy_train", "ntk_trace_train", "loss_train")
    return {
        name: next(column.removesuffix("_first") for column in table if column.startswith(name) and "_first" in column)
        for name in names
    }


def draw(table: SweepTable, path: Path) -> Path:
    """Entropy, trace and loss over width and depth, before training above and after it below."""
    figure = Figure(figsize=(15.0, 8.4), layout="constrained")
    axes = figure.subplots(len(MOMENTS), 3)
    for row, (moment, said) in zip(axes, MOMENTS.items(), strict=True):
        for ax, (name, column) in zip(row, columns(table).items(), strict=True):
            grid = table.mean_over_seeds("width", "depth", f"{column}_{moment}")
            plotting.plot_sweep(grid, ax, log=name == "ntk_trace_train" or (name, moment) == ("loss_train", "last"))
            ax.set_title(said, loc="left")
    return plotting.save(figure, path)


def exponents(table: SweepTable) -> list[Scaling]:
    """Growth of entropy and trace with the width at each depth, and with the depth at each width."""
    found = []
    for name, column in columns(table).items():
        for moment in MOMENTS if name != "loss_train" else ():
            for x in ("width", "depth"):
                found += scaling(table, x, f"{column}_{moment}")
    return found


def report(found: list[Scaling], path: Path) -> None:
    """The exponents, as a file and on the screen."""
    rows = [{"quantity": one.value, "x": one.x_name, **one.row()} for one in found]
    write_table(rows, path)
    shown = Table(title="quantity ~ x^exponent", title_justify="left")
    for name in ("quantity", "x", "at", "exponent"):
        shown.add_column(name, no_wrap=True)
    for one in found:
        at = ", ".join(f"{key} {value}" for key, value in one.given.items())
        shown.add_row(one.value, one.x_name, at, f"{one.law.exponent:+.3f} ± {one.law.exponent_error:.3f}")
    Console().print(shown)


@click.command()
@click.option("--data", default="mnist", show_default=True, help="mnist, convolution (depth up to 3), mpg or digits.")
@click.option("--paper", is_flag=True, help="The paper's widths, depths and length: days.")
@click.option("--jobs", type=int, default=2, show_default=True, help="Networks that train at the same time.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Folder; ntk_architecture_DATA.")
def main(data: str, paper: bool, jobs: int, output: Path | None) -> None:
    """Train networks of many widths and depths, and draw maps."""
    grid, amount = PAPER if paper else QUICK
    folder = output or Path(f"ntk_architecture_{data}{'_paper' if paper else ''}")
    display = sweep_display()
    try:
        sweep = Sweep(Script(TRAINING), folder, grid=grid, overrides=(f"data={data}", *amount), jobs=jobs)
        try:
            sweep.run(display)
        finally:
            display.stop()
        table = read_sweep(folder)
        report(exponents(table), folder / "scaling.csv")
        click.echo(f"picture: {draw(table, folder / 'architecture.png')}")
    except nnsim.NNSimError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
