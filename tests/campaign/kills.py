"""Kills and signals at a random moment, and two processes on one output: nothing that was committed is lost.

Afterwards the trajectory reads as the beginning of an uninterrupted run, and the same command with --resume ends with
the same bits; a sweep that is repeated has the same runs and the same table. Pictures, films, tables, pages and exports
are there in whole, or not at all. Nothing half-written is left over.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from command_line import killed, launch, wait_for
from warm import Copy

from campaign import Trial
from campaign.commands import COMMANDS, command, is_whole, repeated, strange
from campaign.runs import (
    STEPS,
    SWEEP,
    content,
    end,
    failure,
    finish,
    finished,
    finished_sweep,
    leftovers,
    numbers,
    one_line,
    results,
    same,
    script,
)
from nnsim import NNSimError, Trajectory
from nnsim.running.interrupt import UNCLAIMED
from nnsim.running.sweep import LOCK

PAUSE = "0.04"  # seconds that a killed run waits at each of its 40 reports
LONGEST = 3.0  # seconds until a kill, of which starting takes less than one
SIGNALS = (signal.SIGTERM, *UNCLAIMED)
HOW = ("", "--overwrite", "--resume")


class Scene(NamedTuple):
    """Where a trial is, on which kind of run, and an uninterrupted one of it."""

    work: Path
    kind: str
    whole: Path
    rng: random.Random


Kind = tuple[Callable[[Scene, Any], Trial], Sequence[Any]]


def kills(count: int, rng: random.Random) -> Iterator[Trial]:
    """So many trials, of each kind in turn, and within each kind of every variant in turn."""
    kinds: list[Kind] = [
        (_run, ["run", "resume"]),
        (_two_runs, list(itertools.product(HOW, HOW))),
        (_sweep, ["sweep", "run", "all"]),
        (_command, list(COMMANDS)),
        (_signalled, list(itertools.product(COMMANDS, ["process", "group"]))),
        (_beside_a_sweep, ["sweep", *HOW]),
        (_twice, list(COMMANDS)),
        (_readers, [None]),
    ]
    turns = [(trial, itertools.cycle(rng.sample(variants, len(variants)))) for trial, variants in kinds]
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            kind = rng.choice(list(STEPS))
            work = Path(folder) / f"kill_{number}"
            work.mkdir()
            script(work, kind)
            trial, variants = turns[number % len(turns)]
            yield trial(Scene(work, kind, finished(kind), rng), next(variants))
            shutil.rmtree(work)


def _begin(work: Path, *more: str) -> Copy:
    return launch("run", "input.py", "--no-progress", *filter(None, more), cwd=work, PAUSE=PAUSE)


def _killed(process: Copy, after: float) -> None:
    time.sleep(after)
    killed(process)


# ---------------------------------------------------------------------------------------------------------------- runs


def _run(scene: Scene, what: str) -> Trial:
    """A run that is killed and resumed; or whose resume is killed, too."""
    after = scene.rng.uniform(0.5, LONGEST)
    _killed(_begin(scene.work), after)
    if what == "resume" and (scene.work / "input.zarr").exists():
        _killed(_begin(scene.work, "--resume"), scene.rng.uniform(0.5, LONGEST))
    return Trial("kill", f"{what}, {scene.kind}, after {after:.2f} s", *_goes_on(scene))


def _goes_on(scene: Scene) -> tuple[str, str]:
    run = scene.work / "input.zarr"
    if run.exists():
        outcome = _is_beginning(run, numbers(scene.whole))
        if outcome[0] != "right" and "not written anything yet" not in outcome[1]:
            return outcome
    again = ("--resume",) if run.exists() else ()
    status, err = finish("run", "input.py", "--no-progress", *again, cwd=scene.work)
    return failure(status, err) if status else _is_right(scene, "right", err)


def _is_right(scene: Scene, outcome: str, detail: str) -> tuple[str, str]:
    """The outcome if the run is as an uninterrupted one, and nothing is left over."""
    if not same(numbers(scene.work / "input.zarr"), numbers(scene.whole)):
        return "silent", f"other numbers than of a run alone; {detail}"
    left = leftovers(scene.work)
    return ("silent", f"left over: {left}") if left else (outcome, detail)


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


def _two_runs(scene: Scene, how: tuple[str, str]) -> Trial:
    """Two runs into one output at about the same time: one is refused, or has its turn when the other has ended.

    A first one that overwrites or resumes finds half of a run there.
    """
    first, second = how
    if first:
        half = finished(scene.kind, "--steps", STEPS[scene.kind] // 2)
        shutil.copytree(half.parent, scene.work, dirs_exist_ok=True)
        script(scene.work, scene.kind)
    processes = [_begin(scene.work, first)]
    time.sleep(scene.rng.choice([0.0, scene.rng.uniform(0.0, LONGEST)]))
    processes.append(_begin(scene.work, second))
    label = f"run {second} beside run {first}, {scene.kind}"
    ends = [end(process) for process in processes]
    if all(status == 2 for status, _ in ends):  # one found the other, which found a run there: nothing was done yet
        ends.append(end(_begin(scene.work, first)))
    return Trial("two", label, *_of_two(scene, ends))


def _of_two(scene: Scene, ends: list[tuple[int, str]]) -> tuple[str, str]:
    if any(not one_line(err) for _, err in ends):
        return "raw", str(ends)
    if all(status for status, _ in ends):
        return failure(*ends[-1])
    return _is_right(scene, "right" if not any(status for status, _ in ends) else "told", str(ends))


def _readers(scene: Scene, _: None) -> Trial:
    """What reads a run that is at work, which the run does not notice."""
    process = _begin(scene.work)
    run, label = scene.work / "input.zarr", f"readers beside a run, {scene.kind}"
    wait_for(lambda: _has_frames(run), process)
    while process.poll() is None:
        outcome = _is_beginning(run, numbers(scene.whole))
        for number, arguments in enumerate((("info", run), ("report", run, "-o", "page.html", "--overwrite"))):
            status, err = finish(*arguments, cwd=scene.work)
            if not one_line(err) or (status and not number):
                return Trial("two", label, *failure(status, err))
        if outcome[0] != "right":
            return Trial("two", label, *outcome)
    status, err = end(process)
    return Trial("two", label, *(failure(status, err) if status else _is_right(scene, "right", "")))


def _has_frames(run: Path) -> bool:
    try:
        return Trajectory(run).steps > 0
    except NNSimError:
        return False


# -------------------------------------------------------------------------------------------------------------- sweeps


def _begin_sweep(scene: Scene, jobs: str = "2") -> Copy:
    return launch(*SWEEP, "--jobs", jobs, cwd=scene.work, PAUSE=PAUSE)


def _sweep(scene: Scene, victim: str) -> Trial:
    """A sweep that is killed, one of its runs, or all of them at once; then the same command once more."""
    jobs, after = scene.rng.choice("12"), scene.rng.uniform(0.5, LONGEST + 1)
    process = _begin_sweep(scene, jobs)
    if victim == "run":
        wait_for(lambda: _runs(scene), process)
        after = scene.rng.uniform(0.0, LONGEST - 1)
    time.sleep(after)
    runs = _runs(scene)
    if victim != "run":
        killed(process)
    for one in {"sweep": [], "run": runs[:1], "all": runs}[victim]:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(one, signal.SIGKILL)
    label = f"{victim} of a sweep with --jobs {jobs}, {scene.kind}, after {after:.2f} s"
    if victim == "run":
        status, err = end(process)
        if not one_line(err) or (status == 0 and runs and "1 failed" in err):
            return Trial("kill", label, "raw", err)
    return Trial("kill", label, *_sweep_goes_on(scene))


def _runs(scene: Scene) -> list[int]:
    """The processes of a sweep's runs, as its lock notes them."""
    try:
        return json.loads((scene.work / "input-sweep" / LOCK).read_text())["runs"]
    except (OSError, ValueError):  # not there yet, or being written
        return []


def _sweep_goes_on(scene: Scene) -> tuple[str, str]:
    """The same command once more, as soon as the runs of a killed sweep have ended, has the same bits in the end."""
    until = time.monotonic() + 120
    while True:
        status, err = finish(*SWEEP, "--jobs", "2", cwd=scene.work)
        if "still at work" not in err or time.monotonic() > until:
            break
        time.sleep(0.2)
    return failure(status, err) if status else _sweep_is_right(scene, "right", err)


def _sweep_is_right(scene: Scene, outcome: str, detail: str) -> tuple[str, str]:
    found, right = results(scene.work / "input-sweep"), finished_sweep(scene.kind)
    if not same(found, right):
        changed = [name for name in right if not same(found.get(name), right[name])]
        return "silent", f"other than a sweep alone: {changed}; {detail}"
    left = leftovers(scene.work)
    return ("silent", f"left over: {left}") if left else (outcome, detail)


def _beside_a_sweep(scene: Scene, what: str) -> Trial:
    """A second sweep in the same folder, or a run into the output of one of a sweep's runs."""
    process = _begin_sweep(scene)
    if what == "sweep":
        time.sleep(scene.rng.choice([0.0, scene.rng.uniform(0.0, LONGEST)]))
        ends = [end(one) for one in (_begin_sweep(scene), process)]
    else:
        run = Path("input-sweep") / "seed=1" / "run.zarr"
        wait_for((scene.work / run.parent / "log.txt").exists, process)
        time.sleep(scene.rng.uniform(0.0, LONGEST - 1))
        ends = [end(one) for one in (_begin(scene.work, "--set", "seed=1", "-o", str(run), what), process)]
    label = f"{what or 'run'} beside a sweep, {scene.kind}"
    if any(not one_line(err) for _, err in ends):
        return Trial("two", label, "raw", str(ends))
    if ends[1][0] and what == "sweep" and ends[0][0]:
        return Trial("two", label, *failure(*ends[1]))
    if ends[1][0]:  # a run was refused its output, or the sweep came second: it is repeated
        return Trial("two", label, *_sweep_goes_on(scene))
    return Trial("two", label, *_sweep_is_right(scene, "told" if ends[0][0] else "right", str(ends)))


# ------------------------------------------------------------------------------------------------ files of the commands


def _begin_command(scene: Scene, name: str) -> Copy:
    return launch(*command(name, scene.whole), cwd=scene.work)


def _reach(scene: Scene, name: str, process: Copy) -> str:
    """Wait until something is half-written and a little more, or half the time for any moment; tells which."""
    if scene.rng.random() < 0.5:
        after = scene.rng.uniform(0.2, 3.0)
        time.sleep(after)
        return f"after {after:.2f} s"
    while process.poll() is None and not strange(scene.work, name):
        time.sleep(0.001)
    time.sleep(scene.rng.choice([0.0, scene.rng.uniform(0.0, 0.1), scene.rng.uniform(0.0, 1.0)]))
    return "while it writes"


def _command(scene: Scene, name: str) -> Trial:
    """A picture, film, table, page or export that is killed leaves it whole, or none."""
    process = _begin_command(scene, name)
    when = _reach(scene, name, process)
    killed(process)
    return Trial("kill", f"{name} of {scene.kind} {when}", *repeated(scene.work, name, scene.whole))


def _signalled(scene: Scene, what: tuple[str, str]) -> Trial:
    """A signal to such a command, or to it and what it has started, leaves nothing half-written at all."""
    name, whom = what
    number = scene.rng.choice(SIGNALS)
    process = _begin_command(scene, name)
    when = _reach(scene, name, process)
    if process.poll() is None:
        (os.killpg if whom == "group" else os.kill)(process.pid, number)
    status, err = end(process)
    label = f"{number.name} to the {whom} of {name} of {scene.kind} {when}"
    if status not in (0, -number, 128 + number) or len(err.splitlines()) > 1 or not one_line(err):
        return Trial("signal", label, "raw", f"{status}: {err}")
    if left := strange(scene.work, name):
        return Trial("signal", label, "silent", f"left over: {left}")
    return Trial("signal", label, *repeated(scene.work, name, scene.whole))


def _twice(scene: Scene, name: str) -> Trial:
    """The same command twice at once."""
    first = _begin_command(scene, name)
    time.sleep(scene.rng.choice([0.0, scene.rng.uniform(0.0, 0.5)]))
    ends = [end(process) for process in (_begin_command(scene, name), first)]
    label = f"{name} of {scene.kind} twice at once"
    if any(not one_line(err) for _, err in ends):
        return Trial("two", label, "raw", str(ends))
    if all(status for status, _ in ends):
        return Trial("two", label, *failure(*ends[0]))
    if not is_whole(scene.work / name, scene.whole) or strange(scene.work, name):
        return Trial("two", label, "silent", f"{ends}, {list(scene.work.iterdir())}")
    return Trial("two", label, "told" if any(status for status, _ in ends) else "right", str(ends))
