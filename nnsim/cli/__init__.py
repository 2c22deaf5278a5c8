"""The command line: one file for each command."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
import warnings
from typing import Any

import click

from nnsim.cli.analyze import analyze
from nnsim.cli.export import export
from nnsim.cli.info import info
from nnsim.cli.minimise import minimise
from nnsim.cli.movie import movie
from nnsim.cli.options import debug_option
from nnsim.cli.plot import plot
from nnsim.cli.report import report
from nnsim.cli.run import run
from nnsim.cli.sweep import sweep
from nnsim.cli.terminal import say
from nnsim.cli.tune import tune
from nnsim.errors import NNSimError, NNSimWarning, printable
from nnsim.running.interrupt import InterruptedRun

# click 8.1 prints the help itself and raises nothing.
_NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())


class _Commands(click.Group):
    """Says in one line where a run stands that was stopped; click would take it for any Ctrl-C."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except InterruptedRun as stopped:
            say(stopped, err=True)
            sys.exit(stopped.exit_status)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nnsim")
@debug_option
def cli() -> None:
    """Treat neural networks as molecular systems.

    \b
    Examples:
      nnsim run input.py                        run an input script
      nnsim run input.py --help                 its settings and their defaults
      nnsim run input.py --set width=100 --steps 1e6
      nnsim run input.py --resume               go on after a stop or a crash
      nnsim tune input.py                       what runs it fastest
      nnsim minimise input.py                   its minima, by L-BFGS in the box
      nnsim sweep input.py --grid width=10,30 --seeds 3 --jobs 2
      nnsim info input.zarr                     what is in a trajectory
      nnsim plot landscape input.zarr -o S.png  the entropy landscape
      nnsim movie input.zarr -o input.mp4       how it filled
      nnsim report input.zarr -o report.html    all of that on one page
      nnsim analyze equilibrium input.zarr --of accuracy_test
      nnsim export input.zarr input.h5          for mdtraj; also .dcd, .trr, .csv, .npz...
    """


for command in (run, tune, minimise, sweep, info, plot, analyze, export, movie, report):
    cli.add_command(command)


def main() -> None:
    """Entry point: every error is one line and exit status 2; with --debug a traceback comes first."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    warnings.simplefilter("always", NNSimWarning)
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("nnsim").setLevel(logging.INFO)  # what was chosen automatically
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except _NO_ARGUMENTS as error:
        click.echo(error.format_message(), err=True)  # the whole help, to be read and not an error in one line
        sys.exit(2)
    except Exception as error:
        if "--debug" in sys.argv:
            say(traceback.format_exc().rstrip(), err=True)
        _fail(_one_line(error), 2)


class _Printable(logging.Formatter):
    """What the log says of parts that a file names cannot rule the terminal either."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n")


def _one_line(error: Exception) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, NNSimError):
        return str(error)
    return f"{type(error).__name__}: {error} (--debug shows where)"


def _fail(message: str, status: int) -> None:
    say("Error: " + " ".join(message.split()), err=True)
    sys.exit(status)


def _show_warning(message: Any, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    where = "" if issubclass(category, NNSimWarning) else f"{filename}, line {lineno}: "
    with contextlib.suppress(BrokenPipeError):  # a run goes on although nobody reads what it says
        say(f"Warning: {where}{' '.join(str(message).split())}", err=True)
