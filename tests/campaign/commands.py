"""Commands that make files, and what of them must be there in whole or not at all."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from campaign.runs import failure, finish

# name of the output -> arguments, in which RUN stands for the trajectory and OUT for the output
COMMANDS: dict[str, tuple[str, ...]] = {
    "film.mp4": ("movie", "RUN", "-o", "OUT", "--seconds", "1"),
    "out.h5": ("export", "RUN", "OUT"),
    "landscape.png": ("plot", "landscape", "RUN", "-o", "OUT"),
    "out.zarrmd": ("export", "RUN", "OUT"),
    "report.html": ("report", "RUN", "-o", "OUT"),
    "out.npz": ("export", "RUN", "OUT"),
    "table.csv": ("analyze", "equilibrium", "RUN", "--of", "accuracy_test", "-o", "OUT"),
    "out.dcd": ("export", "RUN", "OUT"),
    "film.gif": ("movie", "RUN", "-o", "OUT", "--seconds", "1"),
    "out.trr": ("export", "RUN", "OUT"),
    "series.pdf": ("plot", "timeseries", "RUN", "-o", "OUT"),
    "out.csv": ("export", "RUN", "OUT", "--positions"),
    "series.svgz": ("plot", "timeseries", "RUN", "-o", "OUT"),
    "out.safetensors": ("export", "RUN", "OUT"),
}


def command(name: str, run: Path) -> list[str]:
    """What makes the output of a name from a run."""
    return [str(run) if one == "RUN" else name if one == "OUT" else one for one in COMMANDS[name]]


def sizes(output: Path) -> dict[str, int]:
    """The length of a file, or of each file of a folder: what is cut off has another one. Empty for nothing."""
    files = [output] if output.is_file() else [path for path in output.rglob("*") if path.is_file()]
    return {str(path.relative_to(output)): path.stat().st_size for path in files}


@cache
def made(name: str, run: Path) -> dict[str, int]:
    """The sizes of an output that nothing was done to."""
    status, err = finish(*command(name, run), cwd=run.parent)
    assert status == 0, err
    return sizes(run.parent / name)


def is_whole(output: Path, run: Path) -> bool:
    """Whether it is as an uninterrupted command makes it; a page tells its times, which may be shorter or longer."""
    found, right = sizes(output), made(output.name, run)
    return found.keys() == right.keys() and all(
        abs(found[one] - right[one]) <= SLACK.get(output.suffix, 0) for one in found
    )


SLACK = {".html": 64, ".svgz": 64}


def strange(work: Path, name: str) -> list[str]:
    """What lies in a folder beside the output, the script and its run."""
    return sorted(one.name for one in work.iterdir() if one.name not in {name, "input.py"})


def repeated(work: Path, name: str, run: Path) -> tuple[str, str]:
    """The outcome of the same command once more: the output is made, nothing is left over.

    An export that is there already is refused, since its formats have no mark.
    """
    was_there = (work / name).exists()
    if was_there and not is_whole(work / name, run):
        return "silent", f"{name} is cut off: {sizes(work / name)}"
    status, err = finish(*command(name, run), cwd=work)
    refused = was_there and COMMANDS[name][0] == "export" and "exists already" in err
    if status and not refused:
        return failure(status, err)
    if not is_whole(work / name, run):
        return "silent", f"{name} is not what the command makes: {sizes(work / name)}"
    left = strange(work, name)
    return ("silent", f"left over: {left}") if left else ("told" if refused else "right", err)
