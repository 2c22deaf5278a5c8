"""`nnsim analyze two-sided`: whether runs from two kinds of starts meet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nnsim.cli.options import OutputPath, debug_option, may_overwrite, save_table, table_option
from nnsim.cli.terminal import say
from nnsim.errors import InputError

if TYPE_CHECKING:
    from nnsim.analysis import TwoSided


@click.command("two-sided")
@click.argument("trajectories", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A run of the other side; may be given several times. Two trajectories without it are a side each.",
)
@click.option("--of", multiple=True, help="An observable to compare; default: all.")
@click.option("--since", default=0.5, show_default=True, help="Fraction of the runs to leave out at their beginning.")
@click.option(
    "--tolerance", multiple=True, metavar="NAME=ERROR", help="Error of the difference that is asked of an observable."
)
@table_option
@click.option("--picture", type=OutputPath(), help="The picture to write, .png, .pdf or .svg.")
@debug_option
def two_sided(
    trajectories: tuple[Path, ...],
    against: tuple[Path, ...],
    of: tuple[str, ...],
    since: float,
    tolerance: tuple[str, ...],
    output: Path | None,
    picture: Path | None,
) -> None:
    """Compare runs from trained and from random starts at the same conditions: at equilibrium they agree.

    Walkers of a side are independent, and their spread gives the errors. The verdict names what differs, what still
    drifts, and whether the two sides began apart, without which an agreement shows nothing.

    \b
    Examples:
      nnsim analyze two-sided trained.zarr random.zarr --picture sides.png
      nnsim analyze two-sided a0.zarr a1.zarr --against b0.zarr --against b1.zarr --tolerance ln_loss_test=0.03
    """
    sides = _sides(trajectories, against)
    from nnsim import analysis

    found = analysis.two_sided(*sides, of=of or None, since=since, tolerance=dict(map(_asked, tolerance)))
    _print(found, [analysis.start_of(_first(side)) for side in sides])
    save_table(found.rows(), output)
    if picture is not None:
        from nnsim import plotting

        plotting.save(plotting.plot_two_sided(*sides, found), picture, overwrite=may_overwrite())
        say(f"picture: {picture}")


def _sides(given: Sequence[Path], against: Sequence[Path]) -> tuple[Sequence[Path], Sequence[Path]]:
    if against:
        return given, against
    if len(given) != 2:
        raise InputError(
            f"nnsim analyze two-sided: {len(given)} trajectories do not say which side they are of; give two, or those "
            "of the other side with --against"
        )
    return given[:1], given[1:]


def _first(side: Sequence[Path]):  # type: ignore[no-untyped-def]
    from nnsim.trajectory.reader import Trajectory

    return Trajectory(side[0])


def _asked(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise InputError(f"--tolerance {text}: write --tolerance name=error, such as ln_loss_test=0.03") from None


def _print(found: TwoSided, starts: Sequence[str]) -> None:
    from nnsim.report.blocks import with_error

    rows = [("", "A", "B", "A - B", "")]
    for one in found.observables:
        values = (*zip(one.mean, one.error, strict=True), (one.difference, one.standard_error))
        rows.append((one.name, *(with_error(*pair) for pair in values), one.verdict))  # type: ignore[arg-type]
    for side, start, walkers in zip("AB", starts, found.walkers, strict=True):
        say(f"{side}: {walkers} walkers {start}")
    say(f"after {100 * found.since:g} % of the runs:")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    say(found.verdict)
