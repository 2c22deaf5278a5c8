"""--where NAME=VALUE: one meaning for the three commands that choose among the points of a sweep."""

import csv
import itertools
import json
from pathlib import Path

import pytest
from command_line import error_of, nnsim
from pictured_runs import make_run

from nnsim.analysis import read_sweep, scaling, sweep_runs
from nnsim.errors import InputError

VALUES = {"self": (1, 2, 4), "folder": ("a", "b"), "width": (10, 30)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of three settings, two of which have the names of parameters; y = self x (width, or 2 for folder b)."""
    folder, points = tmp_path_factory.mktemp("sweep"), {}
    for values in itertools.product(*VALUES.values()):
        point = dict(zip(VALUES, values, strict=True))
        name = ",".join(f"{key}={value}" for key, value in point.items())
        points[name] = point
        make_run(folder / name / "run.zarr", cvs=1, snapshots=0, spectrum=False)
        y = point["self"] * (2.0 if point["folder"] == "b" else point["width"])
        ends = {"first": y, "first_se": 0.1, "last": y, "last_se": 0.1}
        (folder / name / "done.json").write_text(json.dumps({"settings": {}, "observables": {"y": ends}}))
    plan = {"script": "s.py", "sha256": "", "set": {}, "steps": None, "swept": list(VALUES), "points": points}
    (folder / "sweep.json").write_text(json.dumps(plan))
    return folder


@pytest.mark.slow
def test_any_name_and_any_number_of_conditions(folder: Path) -> None:
    table = read_sweep(folder)
    for found in (
        table.where({"self": 2, "folder": "a"}),
        table.where([("self", "2"), ("folder", "a")]),
        table.where(self=2, folder="a"),
        table.where([("self", 2)], folder="a"),
    ):
        assert found["self"].tolist() == [2, 2]
        assert found["folder"].tolist() == ["a", "a"]
        assert found["width"].tolist() == [10, 30]
    assert len(table.where()) == len(table.where({})) == len(table) == 12
    assert len(table.where([("width", 10), ("width", "10")])) == 6
    with pytest.raises(InputError, match="the sweep has no width = 30 where width = 10; choose one of 10"):
        table.where([("width", 10), ("width", 30)])
    with pytest.raises(InputError, match="no folder = c where self = 2 and width = 10; choose one of a, b"):
        table.where([("self", 2), ("width", 10)], folder="c")
    for wrong in (5, "self=2", [("self",)]):
        with pytest.raises(InputError, match="must be settings and their values; give them as in"):
            table.where(wrong)  # type: ignore[arg-type]


def test_functions_take_them_all(folder: Path) -> None:
    (law,) = scaling(read_sweep(folder), "self", "y_first", given=[("folder", "a"), ("width", "30")])
    assert law.law.prefactor == pytest.approx(30)  # type: ignore[union-attr]
    runs = sweep_runs(folder, {"self": 2, "folder": "b"})
    assert {name: len(one) for name, one in runs.items()} == {"width=10": 1, "width=30": 1}
    assert [one.path.parent.name for one in runs["width=10"]] == ["self=2,folder=b,width=10"]
    with pytest.raises(InputError, match="the sweep has no self = 4 where self = 2; choose one of 2"):
        sweep_runs(folder, [("self", 2), ("self", 4)])


COMMANDS = (
    ("analyze", "scaling", "FOLDER", "--x", "self", "--value", "y_first"),
    ("plot", "map", "FOLDER", "--x", "self", "--value", "y_first"),
    ("plot", "evolution", "FOLDER", "--quantity", "accuracy"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[1])
def test_commands(folder: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    words = [str(folder) if word == "FOLDER" else word for word in command]
    output = tmp_path / ("out.csv" if "scaling" in words else "out.png")
    done = nnsim(*words, "--where", "folder=a", "--where", "width=30", "-o", output)
    assert done.status == 0, done.err
    if output.suffix == ".csv":
        with output.open() as file:
            assert [float(row["prefactor"]) for row in csv.DictReader(file)] == pytest.approx([30])
    done = nnsim(*words, "--where", "self=2", "--where", "folder=b", "--where", "width=10", "-o", output, "--overwrite")
    if "scaling" in words:
        assert "too few results of y_first" in done.err  # of a single point there is no law
    else:
        assert done.status == 0, done.err
    line = error_of(*words, "--where", "width=10", "--where", "width=30", "-o", tmp_path / "two.png")
    assert "the sweep has no width = 30 where width = 10; choose one of 10" in line
    assert not (tmp_path / "two.png").exists()
