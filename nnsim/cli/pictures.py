"""What the commands of `nnsim plot` have in common: the option `--style`, and how a picture is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nnsim.cli.options import may_overwrite
from nnsim.cli.terminal import say

STYLE_NAMES = ("screen", "column", "wide", "slides")  # as in nnsim.plotting.style, which imports matplotlib


def _use_style(context: click.Context, _: click.Parameter, name: str | None) -> None:
    if name is not None and not context.resilient_parsing:
        from nnsim.plotting import use_style

        context.with_resource(use_style(name))


style_option = click.option(
    "--style",
    type=click.Choice(STYLE_NAMES),
    callback=_use_style,
    expose_value=False,
    help="Final size: column 3.4 inches and letters of 8 points, wide 7 and 8, slides 10 and 18; default 5 and 12.",
)


def save_picture(drawn: Any, output: Path | None, trajectory: Path, kind: str) -> None:
    """Write a picture to the path asked for, or to one named after the trajectory, and say so."""
    from nnsim import plotting

    path = output or Path(f"{trajectory.absolute().name.removesuffix('.zarr')}_{kind}.png")
    plotting.save(drawn, path, overwrite=may_overwrite())
    say(f"picture: {path}")
