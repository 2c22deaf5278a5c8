"""`nnsim analyze tempering`: S(ln L), and another observable at given ln L, from a ladder with two sides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nnsim.cli.options import OutputPath, debug_option, may_overwrite, save_table, table_option, trajectory_argument
from nnsim.cli.terminal import say

if TYPE_CHECKING:
    from nnsim.analysis import Tempering


@click.command()
@trajectory_argument
@click.option("--of", help="The observable to average at given ln L; default: ln_loss_test.")
@click.option("--since", default=0.5, show_default=True, help="Fraction of the run to leave out at its beginning.")
@click.option(
    "--tolerance", type=float, help="Error asked of the difference of the sides; default: 0.03 of a logarithm."
)
@table_option
@click.option("--picture", type=OutputPath(), help="The picture to write, .png, .pdf or .svg.")
@debug_option
def tempering(
    trajectory: Path, of: str | None, since: float, tolerance: float | None, output: Path | None, picture: Path | None
) -> None:
    """Average at given ln L_train on a ladder of temperatures, and find S(ln L_train).

    S comes by thermodynamic integration from the loss on each rung and, where neighbours overlap by 0.03, by MBAR too.
    Half of the ladders of nnsim.tempering began at trained networks, half at random ones; where they do not meet, or
    the ladder made no round trips, it says that the numbers are none of equilibrium.

    \b
    Examples:
      nnsim analyze tempering house_prices.zarr --picture tempering.png
      nnsim analyze tempering run.zarr --of accuracy_test --since 0.6 -o tempering.csv
    """
    from nnsim import analysis

    found = analysis.tempering(trajectory, of, since=since, tolerance=tolerance)
    _print(found, since)
    save_table(found.rows(), output)
    if picture is not None:
        from nnsim import plotting

        plotting.save(plotting.plot_tempering(trajectory, found), picture, overwrite=may_overwrite())
        say(f"picture: {picture}")


def _print(found: Tempering, since: float) -> None:
    from nnsim.report.rungs import rung_heading, rung_rows

    say(f"{found.ladders} ladders of {len(found.beta)} rungs, after {100 * since:g} % of the run:")
    rows = [rung_heading(found), *rung_rows(found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    say(f"round trips along the ladder: {found.trips}")
    say(f"MBAR is refused: {found.refused}; S is that of thermodynamic integration" if found.refused else "")
    say(found.verdict)
