"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nnsim.errors import InputError

if TYPE_CHECKING:
    from nnsim.running.starts import States
    from nnsim.trajectory.reader import Trajectory


class OutputPath(click.Path):
    """A path to write to; an empty one, as an unset shell variable gives, is not this folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty text, which `Path` would take for the present folder."""
        if value == "":
            raise InputError("--output '': must be the name of a file or folder to write; give one, or leave it out")
        return super().convert(value, param, ctx)


_OVERWRITE = "nnsim.overwrite"


def _note_overwrite(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta[_OVERWRITE] = value


overwrite_option = click.option(
    "--overwrite",
    is_flag=True,
    expose_value=False,
    callback=_note_overwrite,
    help="Replace a file that this command has not made; its own earlier ones always are.",
)


def may_overwrite() -> bool:
    """Whether the present command was given --overwrite."""
    return bool(click.get_current_context().meta.get(_OVERWRITE))


def save_table(rows: Sequence[Mapping[str, Any]], output: Path | None) -> None:
    """Write a table to the CSV file asked for, if there is one."""
    if output is not None:
        from nnsim.files import write_table

        write_table(rows, output, overwrite=may_overwrite())


debug_option = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
picture_option = click.option("-o", "--output", type=OutputPath(), help="The picture to write, .png, .pdf or .svg.")
table_option = click.option("-o", "--output", type=OutputPath(), help="Also write the table to this CSV file.")
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Change a setting of the script."
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


def start_options(command: Any) -> Any:
    """The options --start and --start-frame, which `start_states` takes."""
    frame = click.option(
        "--start-frame", type=int, metavar="N", help="With --start, another frame of its positions than the last."
    )
    start = click.option(
        "--start", type=click.Path(path_type=Path), help="Start the walkers from those of this trajectory."
    )
    return start(frame(command))


def start_states(start: Path | None, frame: int | None, resume: bool) -> States | None:
    """What the walkers are to start from, if that was asked for."""
    if start is None:
        if frame is not None:
            raise InputError("--start-frame is the frame of a trajectory to start from; give that with --start")
        return None
    if resume:
        raise InputError("--start is for a new run, but with --resume one goes on; leave one of them out")
    from nnsim.trajectory.states import states

    return states(start, -1 if frame is None else frame)


def length_of(text: str) -> int:
    """The number of steps of --steps."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not number.is_integer() or number < 0:
        raise InputError(f"--steps {text}: must be a whole number of at least 0, such as 20000 or 1e6")
    return int(number)


def open_runs(paths: Sequence[Path]) -> list[Trajectory]:
    """Open trajectories of independent runs; one that is given twice, also as a copy, would count twice."""
    from nnsim.trajectory.runs import open_runs as opened

    return opened(paths)


def conditions_of(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Names and values of --where NAME=VALUE."""
    pairs = [text.partition("=") for text in texts]
    for name, equals, _ in pairs:
        if not equals:
            raise InputError(f"--where {name}: write --where name=value")
    return [(name, wanted) for name, _, wanted in pairs]
