"""`nnsim analyze scaling`: how the results of a sweep grow with a setting."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nnsim.cli.options import conditions_of, debug_option, save_table, table_option
from nnsim.cli.terminal import print_table, say

if TYPE_CHECKING:
    from nnsim.analysis.training.scaling import Scaling


@click.command("scaling")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--x", required=True, metavar="NAME", help="The swept setting, such as width.")
@click.option("--value", required=True, metavar="COLUMN", help="Column of the table, such as ntk_trace_train_first.")
@click.option(
    "--law",
    type=click.Choice(("power", "log")),
    default="power",
    show_default=True,
    help="value = prefactor x^exponent, or value = intercept + slope ln x.",
)
@click.option("--where", "conditions", multiple=True, metavar="NAME=VALUE", help="Only points with this setting.")
@click.option("--weighted", is_flag=True, help="Weights from the standard errors; for ten or more seeds.")
@table_option
@debug_option
def scaling(
    folder: Path,
    x: str,
    value: str,
    law: str,
    conditions: tuple[str, ...],
    weighted: bool,
    output: Path | None,
) -> None:
    """Fit how a column of a sweep's table grows with a setting, for each value of the other swept settings.

    Points are means over the seeds; their standard errors give the error of the exponent, and chi2/dof says whether the
    law holds: it is about 1 where it does. The columns are those of sweep.csv: of an observable NAME there are
    NAME_first and NAME_last, in the first and in the last frame.

    \b
    Examples:
      nnsim analyze scaling input-sweep --x width --value ntk_trace_train_first
      nnsim analyze scaling input-sweep --x width --value ntk_entropy_train_last --law log --where depth=3 -o law.csv
    """
    from nnsim import analysis

    given = conditions_of(conditions)
    found = analysis.scaling(analysis.read_sweep(folder), x, value, law=law, given=given, weighted=weighted)
    save_table([one.row() for one in found], output)
    _print(found, law)


def _print(found: list[Scaling], law: str) -> None:
    first = found[0]
    formula = f"prefactor {first.x_name}^exponent" if law == "power" else f"intercept + slope ln {first.x_name}"
    shown = []
    numbers = ("exponent", "prefactor") if law == "power" else ("slope", "intercept")
    names = (*first.given, *numbers, "chi2/dof", "points", "seeds")
    for one in found:
        row = one.row()
        fits = [f"{row[name]:.4g} ± {row[f'{name}_error']:.2g}" for name in numbers]
        reduced = row["chi2_per_degree"]
        few, many = min(one.seeds), max(one.seeds)
        chi2 = "not known" if math.isnan(reduced) else f"{reduced:.3g}"
        seeds = str(many) if few == many else f"{few} to {many}"
        shown.append([*(row[name] for name in one.given), *fits, chi2, str(row["points"]), seeds])
    print_table(f"{first.value} = {formula}", names, shown)
    if any(math.isnan(one.law.chi2) for one in found):
        say("chi2 not known: some errors over the seeds are not, so those are from the scatter around the line")
