"""kill -9 at a random moment, of one process and of two on one output: nothing that was committed is lost.

Afterwards the trajectory reads as the beginning of an uninterrupted run, and the same command with --resume ends with
the same bits. Pictures, tables and exports are there in whole, or not at all.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from campaign import Trial
from campaign.runs import content, finish, finished, numbers, one_line, same, script, start
from nnsim import NNSimError

PAUSE = "0.1"  # seconds that a killed run waits at each of its 40 reports
LONGEST = 6.0  # seconds until a kill, the two of starting included


def kills(count: int, rng: random.Random) -> Iterator[Trial]:
    """So many kills, of each kind in turn."""
    with tempfile.TemporaryDirectory() as folder:
        wholes = {kind: finished(kind, Path(folder)) for kind in ("dynamics", "monte_carlo")}
        kinds = [_run, _resume, _two_runs, _command, _over, _resume_of_live]
        for number in range(count):
            kind = rng.choice(list(wholes))
            work = Path(folder) / f"kill_{number}"
            work.mkdir()
            script(work, kind)
            trial = kinds[number % len(kinds)]
            yield trial(work, kind, wholes[kind], rng)
            shutil.rmtree(work)


def _begin(work: Path, *more: object) -> subprocess.Popen[str]:
    return start("run", "input.py", "--no-progress", *more, cwd=work, PAUSE=PAUSE)


def _killed(process: subprocess.Popen[str], after: float) -> None:
    time.sleep(after)
    process.kill()
    process.communicate()


def _run(work: Path, kind: str, whole: Path, rng: random.Random) -> Trial:
    """A run, which is then resumed."""
    after = rng.uniform(0.5, LONGEST)
    _killed(_begin(work), after)
    return Trial("kill", f"run, {kind}, after {after:.2f} s", *_goes_on(work, whole))


def _resume(work: Path, kind: str, whole: Path, rng: random.Random) -> Trial:
    """A run, and its resume."""
    first, second = rng.uniform(1.5, LONGEST), rng.uniform(0.5, LONGEST)
    _killed(_begin(work), first)
    if (work / "input.zarr").exists():
        _killed(_begin(work, "--resume"), second)
    return Trial("kill", f"resume, {kind}, after {first:.2f} and {second:.2f} s", *_goes_on(work, whole))


def _goes_on(work: Path, whole: Path) -> tuple[str, str]:
    run = work / "input.zarr"
    if run.exists():
        outcome = _is_beginning(run, numbers(whole))
        if outcome[0] != "right" and "not written anything yet" not in outcome[1]:
            return outcome
    again = ("--resume",) if run.exists() else ()
    status, err = finish("run", "input.py", "--no-progress", *again, cwd=work)
    if status:
        return ("lost" if one_line(err) else "raw"), err
    return ("right", "") if same(numbers(run), numbers(whole)) else ("silent", "other numbers after a resume")


def _is_beginning(run: Path, whole: dict[str, Any]) -> tuple[str, str]:
    """Whether every series is the beginning of that of the uninterrupted run."""
    try:
        found = content(run)
    except NNSimError as error:
        return "told", str(error)
    except Exception as error:  # whatever it is, it is a failure
        return "raw", f"{type(error).__name__}: {error}"
    for name, values in found.items():
        if name.endswith(".step") and name in whole:
            series = name.removesuffix(".step")
            if not same(found[series], whole[series][: len(values)]) or not same(values, whole[name][: len(values)]):
                return "silent", f"{series} is not that of the run"
    return "right", ""


def _two_runs(work: Path, kind: str, whole: Path, rng: random.Random) -> Trial:
    """Two runs into one output at about the same time: one is refused, the other is as if alone."""
    first = _begin(work)
    time.sleep(rng.uniform(0.0, 3.0))
    return _second(work, kind, whole, first, "run")


def _over(work: Path, kind: str, whole: Path, rng: random.Random) -> Trial:
    """--overwrite of a run that is at work."""
    first = _begin(work)
    time.sleep(rng.uniform(2.5, 4.0))
    return _second(work, kind, whole, first, "run --overwrite", "--overwrite")


def _resume_of_live(work: Path, kind: str, whole: Path, rng: random.Random) -> Trial:
    """--resume of a run that is at work."""
    first = _begin(work)
    time.sleep(rng.uniform(2.5, 4.0))
    return _second(work, kind, whole, first, "run --resume", "--resume")


def _second(work: Path, kind: str, whole: Path, first: subprocess.Popen[str], what: str, *more: str) -> Trial:
    second = _begin(work, *more)
    results = [(process.communicate(timeout=180)[1], process.returncode) for process in (first, second)]
    label = f"{what} beside a run, {kind}"
    if any(not one_line(err) for err, _ in results):
        return Trial("two", label, "raw", str(results))
    done = [status == 0 for _, status in results]
    if not any(done):
        return Trial("two", label, "lost", str(results))
    if not same(numbers(work / "input.zarr"), numbers(whole)):
        return Trial("two", label, "silent", f"other numbers than of a run alone; exit statuses {results}")
    return Trial("two", label, "told" if not all(done) else "right", str(results))


def _command(work: Path, kind: str, whole: Path, rng: random.Random) -> Trial:
    """A plot, a table or an export that is killed leaves a whole file, or none."""
    arguments, name = rng.choice(
        [
            (("plot", "landscape", whole, "-o", "out.png"), "out.png"),
            (("plot", "timeseries", whole, "-o", "out.pdf"), "out.pdf"),
            (("analyze", "equilibrium", whole, "--of", "accuracy_test", "-o", "out.csv"), "out.csv"),
            (("export", whole, "out.npz"), "out.npz"),
            (("report", whole, "-o", "out.html"), "out.html"),
        ]
    )
    after = rng.uniform(0.3, 5.0)
    _killed(start(*arguments, cwd=work), after)
    file = work / name
    label = f"{' '.join(map(str, arguments[:2]))} after {after:.2f} s"
    if file.exists() and not _is_whole(file):
        return Trial("kill", label, "silent", f"{name} is cut off")
    status, err = finish(*arguments, cwd=work)
    if status:
        return Trial("kill", label, "lost" if one_line(err) else "raw", err)
    left = sorted(one.name for one in work.iterdir() if one.name not in {name, "input.py"})
    stale = [one for one in left if "partial" not in one and "tmp" not in one]
    return Trial("kill", label, "right" if not stale else "silent", f"left over: {left}" if left else "")


def _is_whole(file: Path) -> bool:
    data = file.read_bytes()
    if file.suffix == ".png":
        return data.endswith(b"IEND\xaeB`\x82")
    if file.suffix == ".pdf":
        return data.rstrip().endswith(b"%%EOF")
    if file.suffix == ".html":
        return data.rstrip().endswith(b"</html>")
    if file.suffix == ".npz":
        with np.load(file) as entries:
            return len([entries[name] for name in entries]) > 0
    return data.endswith(b"\n")
