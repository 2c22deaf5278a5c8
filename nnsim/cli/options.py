"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

debug_option = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
picture_option = click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The picture to write, .png, .pdf or .svg."
)
trajectory_argument = click.argument("trajectory", type=click.Path(path_type=Path))
bias_option = click.option("--bias", help="Name of the Wang-Landau bias, if there are several.")
between_option = click.option(
    "--between",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="Count round trips of the first CV between these values; by default its 10 % and 90 % points.",
)
