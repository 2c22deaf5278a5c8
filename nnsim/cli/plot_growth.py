"""`nnsim plot growth`: how a bias grows."""

from __future__ import annotations

from pathlib import Path

import click

from nnsim.cli.options import bias_option, debug_option, picture_option, trajectory_argument
from nnsim.cli.pictures import save_picture

QUANTITIES = ("bias", "entropy")  # as in nnsim.plotting.growth


@click.command()
@trajectory_argument
@click.option("--along", metavar="CV", help="Lines along this CV; by default maps of two CVs, or along the first.")
@click.option("--quantity", type=click.Choice(QUANTITIES), default="bias", show_default=True, help="V/kT, or S.")
@click.option("--times", type=int, help="At most so many moments; by default 8 lines, or 6 maps.")
@bias_option
@picture_option
@debug_option
def growth(
    trajectory: Path, along: str | None, quantity: str, times: int | None, bias: str | None, output: Path | None
) -> None:
    """Draw how the bias grows: its snapshots at several steps, as lines along one CV or maps of two.

    \b
    Examples:
      nnsim plot growth spiral_wlmc.zarr
      nnsim plot growth spiral_wlmc.zarr --along ln_loss_train --quantity entropy --times 5
    """
    from nnsim import plotting

    drawn = plotting.plot_growth(trajectory, along=along, quantity=quantity, times=times, bias=bias)
    save_picture(drawn, output, trajectory, "growth")
