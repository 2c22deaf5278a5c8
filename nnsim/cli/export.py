"""`nnsim export`: files for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from nnsim.cli.options import OutputPath, debug_option, trajectory_argument
from nnsim.cli.terminal import say


@click.command()
@trajectory_argument
@click.argument("output", type=OutputPath())
@click.option("--format", metavar="NAME", help="Instead of by the end of OUTPUT; zarrmd for a folder NAME.zarr.")
@click.option("--walker", type=int, help="The walker, from 0; default 0, or all of them in .npz and .csv.")
@click.option("--every", type=int, help="Only every so many frames.")
@click.option("--selection", metavar="TEXT", help="Only these parameters, such as 'layer 1 and weight'.")
@click.option(
    "--observable",
    "observables",
    multiple=True,
    metavar="NAME",
    help="Only this observable, in .npz, .csv and zarrmd; may be given several times.",
)
@click.option(
    "--positions/--no-positions",
    default=None,
    help="Whether .npz and .csv hold positions; by default .npz does.",
)
@click.option("--frame", type=int, help="The frame of the positions for .safetensors; default -1, the last.")
@click.option("--step", type=int, help="The step of that frame, in place of --frame.")
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
@debug_option
def export(
    trajectory: Path,
    output: Path,
    format: str | None,
    walker: int | None,
    every: int | None,
    selection: str | None,
    observables: tuple[str, ...],
    positions: bool | None,
    frame: int | None,
    step: int | None,
    overwrite: bool,
) -> None:
    """Write a trajectory for another program, in the format that OUTPUT ends in.

    \b
      .h5           mdtraj: positions of one walker, topology, times
      .dcd, .trr    mdtraj, VMD, MDAnalysis: positions of one walker
      .zarrmd       MDAnalysis (zarrtraj): positions of one walker, observables
      .npz          numpy: observables and positions of all walkers
      .csv          observables, one row for each step and walker
      .safetensors  the parameters at one frame, by name, for torch

    For the MD formats the parameter x is an atom at (x, 0, 0), a neuron is a residue and a layer a chain; numbers are
    float32 (zarrmd: as recorded) and have no unit: that mdtraj calls them nm and ps means nothing (.dcd holds 10 x, as
    its unit is the angstrom; mdtraj divides by 10 again). Beware of what such programs do unasked: they rotate and
    superpose frames, even in place, and take 3 dimensions, while parameter space has no such symmetry. .xtc and .pdb
    are refused, as they round to 3 decimals.

    \b
    Examples:
      nnsim export run.zarr run.h5 --walker 2
      nnsim export run.zarr run.csv --observable ln_loss_train
      nnsim export run.zarr run.npz --selection 'layer 0 and bias'
      nnsim export run.zarr net.safetensors --frame -1 --walker 0
      nnsim export run.zarr run.zarrmd
    """
    from nnsim.export import export as write

    say(
        write(
            trajectory,
            output,
            format=format,
            overwrite=overwrite,
            walker=walker,
            every=every,
            selection=selection,
            observables=observables or None,
            with_positions=positions,
            frame=frame,
            step=step,
        )
    )
