"""`nnsim tune`: which platform, how many walkers and threads are fastest for an input script."""

from __future__ import annotations

from pathlib import Path

import click

from nnsim.cli.options import debug_option, set_option
from nnsim.cli.terminal import say
from nnsim.errors import InputError


@click.command()
@click.argument("script", type=click.Path(path_type=Path))
@set_option
@click.option("--walkers", metavar="N,N,...", help="Numbers of walkers to try; the script needs a setting `walkers`.")
@click.option("--seconds", type=float, default=3.0, show_default=True, help="For each measurement.")
@debug_option
def tune(script: Path, overrides: tuple[str, ...], walkers: str | None, seconds: float) -> None:
    """Measure platforms, walkers and threads for a few seconds each, and say what to put into the script.

    \b
    Examples:
      nnsim tune examples/spiral_wlmd.py
      nnsim tune examples/spiral_wlmd.py --walkers 1,8,64 --seconds 1
    """
    from rich.console import Console
    from rich.table import Table

    from nnsim.platforms import tune as measure
    from nnsim.running.script import Script

    loaded = Script(script)

    def build(count):  # type: ignore[no-untyped-def]
        own = overrides if count is None else (*overrides, f"walkers={count}")
        return loaded.simulation(loaded.settings(own))

    counts = [None] if walkers is None else _counts(walkers)
    speeds = list(measure.tune(build, counts, seconds=seconds))
    table = Table("platform", "walkers", "threads", "us for a walker-step", "walker-steps in a second", "")
    for one in speeds:
        time = f"{1e6 / one.rate:.4g}" if one.rate else "-"
        table.add_row(one.platform, str(one.walkers), str(one.threads), time, f"{one.rate:.4g}", one.note)
    Console().print(table)
    fastest = max(speeds, key=lambda one: one.rate)
    say(f"fastest: nnsim.Simulation(..., {fastest.setting})")


def _counts(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--walkers {text}: must be whole numbers with commas between, such as 1,8,64") from None
