"""A line that works of every command, and the same with each of its words and options left open for a bad one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import click

from campaign.uses import Runs
from nnsim.cli import cli

WORDS = (
    "nan", "inf", "-1", "0", "1e400", "many", "", "no_such.zarr", "../x", "\x1b[31m", "a\nb", "--bogus", "2.5", "1,2",
    "/", ".", "-", "input.py", "\udcff", "x" * 300, "9" * 30,
)  # fmt: skip
# By command: arguments, then options. What stands in capitals is a run or another file.
WORKING: dict[str, tuple[str, ...]] = {
    "run": ("SCRIPT", "--steps", "20", "-o", "out.zarr", "--no-progress"),
    "sweep": ("SCRIPT", "--grid", "steps=20", "-o", "out", "--no-progress"),
    "tune": ("SCRIPT", "--seconds", "0.02"),
    "minimise": ("SCRIPT", "--steps", "3", "-o", "out.zarr", "--no-progress"),
    "info": ("PLANE",),
    "plot evolution": ("TRAINING", "--quantity", "loss", "--split", "train", "-o", "a.png"),
    "plot growth": ("PLANE", "-o", "a.png"),
    "plot paths": ("PLANE", "-o", "a.png"),
    "plot layers": ("PLANE", "-o", "a.png"),
    "plot spectrum": ("PLANE", "-o", "a.png"),
    "plot landscape": ("PLANE", "-o", "a.png"),
    "plot convergence": ("PLANE", "-o", "a.png"),
    "plot timeseries": ("PLANE", "-o", "a.png"),
    "plot histogram": ("PLANE", "-o", "a.png"),
    "plot parameters": ("PLANE", "-o", "a.png"),
    "plot map": ("SWEEP", "--x", "width", "--value", "trace_first", "--where", "depth=1", "-o", "a.png"),
    "analyze scaling": ("SWEEP", "--x", "width", "--value", "trace_first"),
    "analyze equilibrium": ("PLANE", "--of", "accuracy_test", "--width", "0.1"),
    "analyze reweight": ("PLANE", "--along", "weight_norm", "--bins", "4"),
    "analyze boltzmann": ("BOLTZMANN", "--of", "accuracy_test"),
    "analyze advantage": ("RECORDED", "--training", "TRAINING", "--of", "accuracy_test", "--width", "0.2"),
    "analyze two-sided": ("SIDE", "OTHER"),
    "analyze tempering": ("LADDER", "--of", "accuracy_test"),
    "export": ("RECORDED", "out.npz"),
    "movie": ("PLANE", "-o", "a.gif", "--fps", "2", "--seconds", "0.5"),
    "report": ("RECORDED", "-o", "a.html"),
}
# Options whose words have parts: these are tried as well.
INSIDE = {
    "--set": ("steps=*",),
    "--grid": ("steps=*", "steps=10,*"),
    "--where": ("width=*", "*=10"),
    "--tolerance": ("loss_train=*", "*=0.1"),
}


class Line(NamedTuple):
    """The words of a command; a `*` in one is for a bad word."""

    words: tuple[str, ...]
    label: str
    number: bool = False  # whether a number is wanted there
    works: bool = False  # whether it must succeed; a flag may contradict the line

    @property
    def open(self) -> bool:
        """Whether there is a place for a bad word."""
        return any("*" in word for word in self.words)

    def filled(self, word: str) -> tuple[str, ...]:
        """With a word in the open place."""
        return tuple(one.replace("*", word) for one in self.words)


def commands(group: click.Group = cli, above: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command by its whole name."""
    for name, one in group.commands.items():
        if isinstance(one, click.Group):
            yield from commands(one, f"{above}{name} ")
        else:
            yield above + name, one


def lines(runs: Runs) -> list[Line]:
    """The line that works of each command, and what can be left open in it."""
    files = {name.upper(): str(path) for name, path in vars(runs).items()}
    files["SCRIPT"] = str(runs.recorded.parent / "input.py")
    found = [Line(("*",), "*"), Line(("plot", "*", "PLANE"), "plot *"), Line(("analyze", "*", "PLANE"), "analyze *")]
    for name, one in commands():
        found += _of_command(name, one, WORKING[name])
    return [line._replace(words=tuple(files.get(word, word) for word in line.words)) for line in found]


def _of_command(name: str, one: click.Command, working: tuple[str, ...]) -> Iterator[Line]:
    start = tuple(name.split())
    yield Line((*start, *working), f"{name} {' '.join(working)}", works=True)
    arguments = [parameter for parameter in one.params if isinstance(parameter, click.Argument)]
    for place in range(len(arguments)):
        words = (*working[:place], "*", *working[place + 1 :])
        yield Line((*start, *words), f"{name} {' '.join(words)}")
    for option in one.params:
        if isinstance(option, click.Option) and "--help" not in option.opts:
            for added in _of_option(option):
                words = (*start, *_without(working, option), *added)
                number = isinstance(option.type, (click.types.IntParamType, click.types.FloatParamType))
                yield Line(words, f"{name} {' '.join(added)}", number)


def _of_option(option: click.Option) -> Iterator[tuple[str, ...]]:
    name = option.opts[-1]
    if option.is_flag:
        yield from ((flag,) for flag in (*option.opts, *option.secondary_opts) if flag.startswith("--"))
        return
    for place in range(option.nargs):
        yield (name, *["0"] * place, "*", *["1"] * (option.nargs - place - 1))
    yield from ((name, inside) for inside in INSIDE.get(name, ()))


def _without(working: tuple[str, ...], option: click.Option) -> tuple[str, ...]:
    """The words of a line without an option and its value."""
    place = next((place for place, word in enumerate(working) if word in option.opts), None)
    return working if place is None or option.is_flag else working[:place] + working[place + 2 :]
