"""`nnsim plot evolution`: quantities along training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nnsim.cli.options import conditions_of, debug_option, open_runs, picture_option
from nnsim.cli.pictures import save_picture
from nnsim.errors import InputError

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

PLAN = "sweep.json"  # as in nnsim.analysis.sweep_table, which imports numpy


@click.command("evolution")
@click.argument("paths", metavar="RUN...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--label", "labels", multiple=True, help="Name of a curve; once for each, in their order.")
@click.option(
    "--quantity",
    "quantities",
    multiple=True,
    metavar="NAME",
    help="What to draw, such as loss for loss_train and loss_test; by default ntk_entropy, ntk_trace and loss.",
)
@click.option("--split", "splits", multiple=True, help="By default train and test.")
@click.option("--where", "conditions", multiple=True, metavar="NAME=VALUE", help="Only points of a sweep with this.")
@click.option("--window", type=int, help="Frames of the running average, odd; by default about a 20th, 1 is none.")
@click.option("--epoch", type=int, help="Steps per epoch; by default those that the trajectory says.")
@click.option("--log", "log", multiple=True, metavar="NAME", help="Logarithmic; by default ntk_trace and loss.")
@click.option("--linear", is_flag=True, help="No logarithmic axis of a quantity.")
@click.option("--log-x", is_flag=True, help="An axis of ln(1 + epoch), which shows the early epochs.")
@click.option("--wide", is_flag=True, help="Panels side by side, for the width of two columns.")
@click.option("--raw/--no-raw", default=True, show_default=True, help="Draw the mean without running average too.")
@click.option("--drop-diverged", is_flag=True, help="Leave runs with numbers that are not finite out.")
@click.option("--title", help="A line above the first panel.")
@picture_option
@debug_option
def evolution(
    paths: tuple[Path, ...],
    labels: tuple[str, ...],
    quantities: tuple[str, ...],
    splits: tuple[str, ...],
    conditions: tuple[str, ...],
    window: int | None,
    epoch: int | None,
    log: tuple[str, ...],
    linear: bool,
    log_x: bool,
    wide: bool,
    raw: bool,
    drop_diverged: bool,
    title: str | None,
    output: Path | None,
) -> None:
    """Draw quantities along training: mean over the walkers, their standard deviation, and a running average.

    Each RUN is a trajectory, whose walkers are the seeds of one curve, or the folder of a sweep: a curve for each
    setting, with its seeds taken together. Curves are named by the settings in which the runs differ.

    \b
    Examples:
      nnsim plot evolution narrow.zarr wide.zarr --label "width 12" --label "width 500" -o evolution.png
      nnsim plot evolution input-sweep --where depth=3 --log-x --wide
      nnsim plot evolution run.zarr --quantity loss --quantity accuracy --window 5
    """
    from nnsim import plotting
    from nnsim.plotting.evolution import LOGARITHMIC, NAMES, SPLITS, require_recorded

    if linear and log:
        raise InputError("--log and --linear exclude each other; leave one out")
    curves = _curves(paths, conditions)
    if labels:
        if len(labels) != len(curves):
            raise InputError(
                f"--label is given {len(labels)} times for {len(curves)} curves ({'; '.join(curves)}); "
                "give one for each, in this order"
            )
        if len(set(labels)) < len(labels):
            raise InputError("--label: two curves have the same name; give each its own")
        curves = dict(zip(labels, curves.values(), strict=True))
    elif len(curves) == 1:
        curves = {"": next(iter(curves.values()))}  # nothing to tell apart
    require_recorded(curves, quantities, splits or SPLITS)  # what was asked for by name is not left out
    drawn = plotting.plot_evolution(
        curves,
        quantities or NAMES,
        splits or SPLITS,
        window=window,
        epoch=epoch,
        log=() if linear else log or LOGARITHMIC,
        log_x=log_x,
        raw=raw,
        wide=wide,
        title=title,
        diverged="drop" if drop_diverged else "refuse",
    )
    save_picture(drawn, output, paths[0], "evolution")


def _curves(paths: tuple[Path, ...], conditions: tuple[str, ...]) -> dict[str, list[Trajectory]]:
    """The runs of each curve, by its name."""
    from nnsim.analysis.training.evolution import sweep_runs

    where = conditions_of(conditions)
    sweeps = [path for path in paths if (path / PLAN).is_file()]
    if where and not sweeps:
        raise InputError("--where chooses among the points of a sweep, and none is given; leave it out")
    singles = [path for path in paths if path not in sweeps]
    names = dict(zip(singles, run_names(singles, open_runs(singles)), strict=True))
    found: dict[str, list[Trajectory]] = {}
    for path in paths:
        own: Mapping[str, list[Trajectory]]
        own = sweep_runs(path, where) if path in sweeps else {names[path]: open_runs([path])}
        for name, runs in own.items():
            found[f"{path.absolute().name}: {name}" if name in found else name] = runs
    return found


def run_names(paths: list[Path], runs: list[Trajectory]) -> list[str]:
    """The settings in which runs differ, such as `width=30`, or the names of their files where that does not do."""
    from nnsim.analysis.training.sweep_table import label

    files = [path.absolute().name.removesuffix(".zarr") for path in paths]
    files = files if len(set(files)) == len(files) else [str(path) for path in paths]
    settings: list[dict[str, Any]] = [run.header.get("settings") or {} for run in runs]
    names = list(dict.fromkeys(name for one in settings for name in one))
    texts = [{name: label(one[name]) if name in one else "-" for name in names} for one in settings]
    differing = [name for name in names if len({text[name] for text in texts}) > 1]
    for left_out in (("seed",), ()):  # the seed only where nothing else tells the runs apart
        told = [", ".join(f"{name}={text[name]}" for name in differing if name not in left_out) for text in texts]
        if all(told) and len(set(told)) == len(told):
            return told
    return files
