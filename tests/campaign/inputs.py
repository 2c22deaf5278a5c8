"""Bad input of every public class, function and command: taken as what it is, or refused in one line.

Each part has a call that works, each command a line that works. In a trial one argument, option or word of it is
replaced by something else: what is no number, count, flag or text where one is wanted must be refused, and whatever
happens must be an error of nnsim of one line, or a result.
"""

from __future__ import annotations

import contextlib
import inspect
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from command_line import nnsim as command

from campaign import Trial
from campaign.lines import WORDS, Line, lines
from campaign.parts import PARTS, Call
from campaign.uses import Runs, uses
from nnsim import NNSimError

NAN = float("nan")
BAD: tuple[Any, ...] = (
    NAN, float("inf"), -1, 0, 1.5, "many", "", None, [], [1.0, "x"], {}, object(), True, 10**30, -0.0, b"x", 1j,
    np.array([[1.0]]), torch.tensor(NAN), lambda: 1, (NAN, 1.0), [NAN], np.array([1j]), "a\nb", "\x1b[31m", int,
)  # fmt: skip
# What is never a number, a count or a flag; "many" stands for any text. Arrays of one number count as that number.
NO_NUMBERS = ("many", "", "a\nb", "\x1b[31m", b"x", 1j, {}, True, (NAN, 1.0), [NAN], [1.0, "x"])
NEVER: dict[type, Callable[[Any], bool]] = {
    bool: lambda bad: not isinstance(bad, bool),
    int: lambda bad: _no_number(bad) or (isinstance(bad, float) and not bad.is_integer()),
    float: lambda bad: _no_number(bad),
    str: lambda bad: isinstance(bad, (bytes, complex, dict, float, bool, torch.Tensor)) or type(bad) is object,
    list: lambda bad: isinstance(bad, (bytes, complex, dict)) or type(bad) is object or bad is int or _is_complex(bad),
}
# Arguments that take more than their working value shows: (call, argument), and the kinds of what they take.
ALSO: dict[tuple[str, str], tuple[type, ...]] = {
    ("atom_order", "parameters"): (dict,),
    ("evolution", "leave_out"): (dict,),
    ("scaling", "given"): (dict,),
    ("plot_evolution", "log"): (dict,),
    ("Series[]", "walkers"): (bool,),  # numpy's rule
}


def inputs(count: int, rng: random.Random) -> Iterator[Trial]:
    """So many bad inputs, two of three to classes and functions, the others to commands."""
    with _place() as runs:
        calls, templates = {**PARTS, **uses(runs)}, lines(runs)
        names = sorted(calls)
        for number in range(count):
            if number % 3 == 2:
                yield of_line(rng.choice(templates), rng.choice(WORDS))
            else:
                name = rng.choice(names)
                yield of_call(name, calls[name], rng.choice(sorted(calls[name][1])), rng.choice(BAD))


def every_call(names: Callable[[str], bool] = lambda name: True) -> Iterator[Trial]:
    """Every bad value in every argument of every call of such a name."""
    with _place() as runs:
        for name, call in {**PARTS, **uses(runs)}.items():
            if names(name):
                yield from (of_call(name, call, key, bad) for key in call[1] for bad in BAD)


def every_line(names: Callable[[str], bool] = lambda name: True) -> Iterator[Trial]:
    """Every bad word in every place of the line of every command of such a name."""
    with _place() as runs:
        for line in lines(runs):
            if names(line.label):
                yield from (of_line(line, word) for word in (WORDS if line.open else WORDS[:1]))


@contextlib.contextmanager
def _place() -> Iterator[Runs]:
    """Runs in a folder of their own, and another one to be in, which outputs may be written to."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "here").mkdir()
        runs = Runs.made(Path(folder))
        with contextlib.chdir(Path(folder) / "here"):
            yield runs


def of_call(name: str, call: Call, key: str, bad: Any) -> Trial:
    """What becomes of a call with one bad argument."""
    function, good = call
    label = f"{name}({key}={bad!r:.40})"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(**{**good, key: bad})
    except NNSimError as error:
        pointing = str(error).startswith("select: ")  # which shows the text below, with a mark under the word
        return Trial("input", label, "told" if pointing or "\n" not in str(error) else "raw", str(error))
    except (IndexError, TypeError) as error:  # what Python says of a wrong index
        return Trial("input", label, "told" if name.endswith("[]") else "raw", f"{type(error).__name__}: {error}")
    except Exception as error:  # whatever it is, it is a failure
        return Trial("input", label, "raw", f"{type(error).__name__}: {error}")
    finally:
        plt.close("all")
    return Trial("input", label, "silent" if _wrong(name, call, key, bad) else "right", "taken")


def _wrong(name: str, call: Call, key: str, bad: Any) -> bool:
    """Whether it is nothing that the argument may be: by the kind of the value that works, and the annotation."""
    function, good = call
    if isinstance(bad, ALSO.get((name, key), ())):
        return False
    found = inspect.signature(function).parameters.get(key)
    annotation = "" if found is None else str(found.annotation)
    if bad is None and ("None" in annotation or found is None or found.default is None):
        return False
    if ("Sequence" in annotation or "Iterable" in annotation) and isinstance(bad, list) and not bad:
        return False
    kind = next((kind for kind in NEVER if isinstance(good[key], kind)), list)
    return NEVER[kind](bad)


def _no_number(bad: Any) -> bool:
    same = any(type(bad) is type(one) and bad == one for one in NO_NUMBERS if one == one)
    nan = isinstance(bad, (float, torch.Tensor)) and bool(bad != bad)
    return same or nan or bad is None or callable(bad) or type(bad) is object or _is_complex(bad)


def _is_complex(bad: Any) -> bool:
    return isinstance(bad, np.ndarray) and np.iscomplexobj(bad)


def of_line(line: Line, word: str) -> Trial:
    """What becomes of a command with one bad word, in an empty folder."""
    label = f"nnsim {line.label}" + (f" with {word!r:.40}" if line.open else "")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, contextlib.chdir(folder):
        try:
            status, _, err = command(*line.filled(word))
        except BaseException as error:  # what escapes the command line is a traceback for the user
            return Trial("input", label, "raw", f"{type(error).__name__}: {error}")
        finally:
            plt.close("all")
    errors = [one for one in err.splitlines() if one.startswith("Error")]
    if ("Traceback" in err and "--debug" not in line.words) or "--debug shows where" in err or len(errors) > 1:
        return Trial("input", label, "raw", err)
    if "\x1b[31m" in err:
        return Trial("input", label, "raw", "control characters on the terminal")
    if line.works and status:
        return Trial("input", label, "raw", f"a line that should work: {err}")
    if line.number and not status and word in ("nan", "many", "", "1,2", "1e400"):
        return Trial("input", label, "silent", "taken as a number")
    return Trial("input", label, "told" if status else "right", err)
