"""Settings of a script: what `--set` makes of a text, and what a script may do to end itself."""

from pathlib import Path
from typing import Any

import pytest
from command_line import error_of

from nnsim import InputError
from nnsim.running.script import Script

TYPED = """
from collections.abc import Sequence
from pathlib import Path

def build(
    odd: "Nonsense[3]" = 4, remark: "how many there are" = 2, listed: [1, 2] = 5, counted: int = 1e3,
    hidden: tuple = (6, 6), mixed: tuple = (1, 2.5), empty: tuple = (), anything: list = [], words: list = ["a"],
    seed: int = None, where: Path = None, sizes: tuple = None, given: tuple[int, ...] | None = (1,),
    chosen: set[int] = {1}, kinds: set = {"a"}, fixed: frozenset = frozenset({2.0}), row: Sequence = (1, 2),
    number: list[int] = None,
): ...
"""


def settings(folder: Path, text: str, *overrides: str) -> dict[str, Any]:
    path = folder / "input.py"
    path.write_text(text)
    return Script(path).settings(overrides)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("odd=7", 7),
        ("remark=7", 7),
        ("listed=7", 7),
        ("counted=1e4", 10000),  # its annotation counts although others cannot be evaluated
        ("hidden=3,4", (3, 4)),
        ("mixed=3,4", (3.0, 4.0)),
        ("empty=3,4.5,x", (3, 4.5, "x")),
        ("anything=1e3", [1000]),
        ("words=1,b", ["1", "b"]),
        ("seed=none", None),
        ("seed=3", 3),
        ("where=none", None),
        ("where=a/b", Path("a/b")),
        ("sizes=none", None),
        ("sizes=3,4", (3, 4)),
        ("given=none", None),
        ("given=2,3", (2, 3)),
        ("chosen=3,4,3", {3, 4}),
        ("chosen={3}", {3}),
        ("kinds=x,y", {"x", "y"}),
        ("fixed=3", frozenset({3.0})),
        ("row=3,4", (3, 4)),
        ("number=3", [3]),
        ("number=None", None),
    ],
)
def test_conversions(tmp_path: Path, text: str, value: Any) -> None:
    found = settings(tmp_path, TYPED, text)[text.partition("=")[0]]
    assert found == value
    assert type(found) is type(value)
    if isinstance(value, (tuple, list)):
        assert [type(one) for one in found] == [type(one) for one in value]


@pytest.mark.parametrize(
    ("text", "kind"), [("hidden=a", "tuple[int, ...]"), ("seed=x", "int | None"), ("chosen=a", "set[int]")]
)
def test_conversions_that_fail_name_the_type(tmp_path: Path, text: str, kind: str) -> None:
    with pytest.raises(InputError, match=r"is no ") as caught:
        settings(tmp_path, TYPED, text)
    assert f"is no {kind}; give another value" in str(caught.value)


def test_any_name_for_a_build_that_takes_keywords(tmp_path: Path) -> None:
    text = "def build(n: int = 2, *args, **kwargs): ..."
    found = settings(tmp_path, text, "width=3", "dt=0.5", "name=x", "n=1e1")
    assert found == {"n": 10, "width": 3, "dt": 0.5, "name": "x"}
    assert settings(tmp_path, text) == {"n": 2}
    told = Script(tmp_path / "input.py").help().splitlines()
    assert told[-2:] == ["  n  (int; default 2)", "  any other name  (int | float | str)"]
    with pytest.raises(InputError, match=r"has no setting of this name; it has n$"):
        settings(tmp_path, "def build(n=2, *args): ...", "args=3")


def test_positional_only_parameters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"build\(\) takes a, b by position only.*remove the / from its parameters"):
        settings(tmp_path, "def build(a, b=1, /, c=2): ...")


ENDS = {
    "at the end": ("import sys\nsys.exit(0)\n", "line 2: the script called sys.exit(0); let build() return an"),
    "without a number": ("raise SystemExit\n", "line 1: the script called sys.exit(); let build() return an"),
    "with words": ("def build():\n    exit('no data')\n", "line 2: the script called sys.exit('no data'); let build()"),
    "generator": ("def build():\n    raise GeneratorExit\n", "script.py, line 2: GeneratorExit"),
    "NUL": ("def build(): ...\n\0", "script.py: holds a NUL byte, so it is no Python file; give the input script"),
}


@pytest.mark.parametrize("case", ENDS)
def test_scripts_that_end_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    text, words = ENDS[case]
    (tmp_path / "script.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    line = error_of("run", "script.py")
    assert line.startswith("Error: script.py")
    assert words in line
    assert {entry.name for entry in tmp_path.iterdir()} == {"script.py"}
