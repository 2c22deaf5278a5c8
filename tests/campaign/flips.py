"""A bit flips in a file of a finished run: whatever is read afterwards is as it was, or the flip is named.

Every file of the trajectory and the checkpoint take their turn, and every kind of file as often as any other. What is
read is all of the trajectory (`content`) and, where the checkpoint was hit, a resume by some more steps.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from campaign import Trial
from campaign.runs import content, finish, finished, numbers, one_line, same, script
from nnsim import NNSimError
from nnsim.running.checkpoint import previous_path
from nnsim.running.storage import checkpoint_path


def flips(count: int, rng: random.Random) -> Iterator[Trial]:
    """So many flips, one after the other, on both kinds of run."""
    with tempfile.TemporaryDirectory() as folder:
        places = {kind: finished(kind) for kind in ("dynamics", "monte_carlo")}
        truths = {kind: content(path) for kind, path in places.items()}
        longer = {kind: _longer(path, Path(folder) / kind) for kind, path in places.items()}
        for number in range(count):
            kind = rng.choice(list(places))
            target = _choose(places[kind], rng)
            work = Path(folder) / f"flip_{number}"
            work.mkdir()
            yield _flip(kind, places[kind], target, work, rng, truths[kind], longer[kind])
            shutil.rmtree(work)


def _choose(run: Path, rng: random.Random) -> Path:
    """A file of the run: first its kind (chunks of values, steps and tables, each kind of metadata), then one of it."""
    kinds = defaultdict(list)
    for file in sorted([*(one for one in run.rglob("*") if one.is_file()), checkpoint_path(run)]):
        chunk = file.parent.name if not file.name.startswith(".") else ""
        kinds[file.suffix + file.name if file.name.startswith(".") else chunk].append(file)
    return rng.choice(kinds[rng.choice(sorted(kinds))])


def _longer(run: Path, folder: Path) -> dict[str, Any]:
    """The same run, gone on with for some steps, in a folder of its own."""
    shutil.copytree(run.parent, folder)
    copy = folder / "longer.zarr"
    _copy(run, copy)
    steps = _go_on(copy)
    assert steps[0] == 0, steps
    return numbers(copy)


def _copy(run: Path, to: Path) -> None:
    shutil.copytree(run, to)
    shutil.copy(checkpoint_path(run), checkpoint_path(to))
    shutil.copy(previous_path(checkpoint_path(run)), previous_path(checkpoint_path(to)))


def _go_on(run: Path) -> tuple[int, str]:
    """Some more steps."""
    more = 100 if "dynamics" in run.parent.name else 1000
    total = {100: 500, 1000: 5000}[more]
    return finish("run", "input.py", "--resume", "--no-progress", "--steps", total, "-o", run.name, cwd=run.parent)


def _flip(
    kind: str, run: Path, target: Path, work: Path, rng: random.Random, truth: dict[str, Any], longer: dict[str, Any]
) -> Trial:
    copy = work / f"whole_{kind}" / run.name
    copy.parent.mkdir()
    script(copy.parent, kind)
    _copy(run, copy)
    inside = target.is_relative_to(run)
    hit = copy / target.relative_to(run) if inside else checkpoint_path(copy)
    what = str(target.relative_to(run.parent))
    data = bytearray(hit.read_bytes())
    if not data:
        return Trial("flip", f"{kind} {what}", "right", "an empty file")
    bit = rng.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    hit.write_bytes(data)
    outcome, detail = _read(copy, truth) if inside else _resumed(copy, longer)
    return Trial("flip", f"{kind} {what} bit {bit}", outcome, detail)


def _read(run: Path, truth: dict[str, Any]) -> tuple[str, str]:
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            found = content(run)
    except NNSimError as error:
        return ("told" if "\n" not in str(error) else "raw"), str(error)
    except Exception as error:  # whatever it is, it is a failure
        return "raw", f"{type(error).__name__}: {error}"
    if same(found, truth):
        return "right", ""
    changed = [name for name in truth if not same(found.get(name), truth[name])]
    return ("told" if seen else "silent"), f"{changed}"


def _resumed(run: Path, longer: dict[str, Any]) -> tuple[str, str]:
    """A resume gives the same bits, from this checkpoint or from one before, or says that it cannot."""
    status, err = _go_on(run)
    if status < 0:
        return "stuck", err
    if not one_line(err):
        return "raw", err
    if status:
        return "told", err
    return ("right", "") if same(numbers(run), longer) else ("silent", "other numbers after a resume")
