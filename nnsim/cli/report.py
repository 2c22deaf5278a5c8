"""`nnsim report`: one page about a run."""

from __future__ import annotations

from pathlib import Path

import click

from nnsim.cli.options import OutputPath, between_option, bias_option, debug_option
from nnsim.cli.terminal import say


@click.command()
@click.argument("trajectories", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("-o", "--output", type=OutputPath(), help="The page to write; by default NAME.html in this folder.")
@click.option("--title", help="Of the page; by default the name of the trajectory.")
@click.option("--overwrite", is_flag=True, help="Replace an output that is no report; earlier reports always are.")
@between_option
@bias_option
@debug_option
def report(
    trajectories: tuple[Path, ...],
    output: Path | None,
    title: str | None,
    overwrite: bool,
    between: tuple[float, float] | None,
    bias: str | None,
) -> None:
    """Write one HTML page about a run: warnings, numbers, pictures, settings, environment, script.

    The page needs no other file and no network, and can be read on a telephone. Several trajectories are independent
    runs of the same thing: landscapes are averaged, and the convergence compares them. An earlier report is replaced,
    as nnsim plot replaces pictures; any other file only with --overwrite.

    \b
    Examples:
      nnsim report spiral_wlmc.zarr
      nnsim report run0.zarr run1.zarr run2.zarr -o report.html --between -2 0
    """
    from nnsim.report import write

    path = output or Path(f"{trajectories[0].absolute().name.removesuffix('.zarr')}.html")
    written = write(trajectories, path, overwrite=overwrite, title=title, bias=bias, between=between)
    say(f"report: {written}, {written.stat().st_size / 1e6:.2f} MB")
