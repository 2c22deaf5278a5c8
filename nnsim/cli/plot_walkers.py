"""`nnsim plot paths`, `layers` and `spectrum`: where walkers went, and what their networks are like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nnsim.cli.options import bias_option, debug_option, picture_option, trajectory_argument
from nnsim.cli.pictures import save_picture

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory


@click.command()
@trajectory_argument
@click.option("--walker", "walkers", type=int, multiple=True, help="Which walker; may be given several times.")
@click.option("--all", "everyone", is_flag=True, help="All walkers, in one colour.")
@click.option("--cv", "cvs", nargs=2, metavar="X Y", help="Two CVs of the bias; by default its first two.")
@bias_option
@picture_option
@debug_option
def paths(
    trajectory: Path,
    walkers: tuple[int, ...],
    everyone: bool,
    cvs: tuple[str, str] | None,
    bias: str | None,
    output: Path | None,
) -> None:
    """Draw the paths of walkers over the landscape of two CVs, with where they start and end; by default of four.

    \b
    Examples:
      nnsim plot paths spiral_wlmd.zarr
      nnsim plot paths spiral_wlmd.zarr --walker 0 --walker 5
      nnsim plot paths spiral_wlmd.zarr --all -o paths.pdf
    """
    from nnsim import plotting
    from nnsim.errors import InputError
    from nnsim.trajectory.reader import Trajectory

    if everyone and walkers:
        raise InputError("--all and --walker exclude each other; leave one out")
    run = Trajectory(trajectory)
    chosen = range(_walkers_of(run)) if everyone else walkers or None
    save_picture(plotting.plot_paths(run, walkers=chosen, cvs=cvs or None, bias=bias), output, trajectory, "paths")


@click.command()
@trajectory_argument
@click.option("--walker", "walkers", type=int, multiple=True, help="Of this walker; several times; default all.")
@picture_option
@debug_option
def layers(trajectory: Path, walkers: tuple[int, ...], output: Path | None) -> None:
    """Draw how the weights and biases of each layer are distributed against the step: median and bands.

    \b
    Example:
      nnsim plot layers spiral_wlmd.zarr
    """
    from nnsim import plotting

    save_picture(plotting.plot_layers(trajectory, walkers=walkers or None), output, trajectory, "layers")


@click.command()
@trajectory_argument
@click.option("--observable", metavar="NAME", help="Such as ntk_spectrum_train; by default the only spectrum.")
@click.option("--times", default=8, show_default=True, help="At most so many steps.")
@click.option("--walker", type=int, help="Of this walker; by default the mean over all.")
@click.option("--decades", default=10.0, show_default=True, help="Below the largest eigenvalue that are drawn.")
@picture_option
@debug_option
def spectrum(
    trajectory: Path, observable: str | None, times: int, walker: int | None, decades: float, output: Path | None
) -> None:
    """Draw the eigenvalues of the tangent kernel against their rank, at several steps.

    \b
    Example:
      nnsim plot spectrum run.zarr --times 5
    """
    from nnsim import plotting

    drawn = plotting.plot_spectrum(trajectory, observable, times=times, walker=walker, decades=decades)
    save_picture(drawn, output, trajectory, "spectrum")


def _walkers_of(run: Trajectory) -> int:
    return max((int(run[name].shape[1]) for name in run.observables if len(run[name].shape) > 1), default=1)
