"""Sweeps: every point, its failures, stops of all kinds, the table and its pictures."""

import csv
import errno
import json
import math
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import arrays_of, ended, error_of, killed, launch, nnsim, python, wait_for
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle
from scripts import SWEPT
from warm import OfSweeps

from nnsim import Trajectory
from nnsim.analysis import read_sweep
from nnsim.analysis.training.sweep_table import SweepTable, make_table
from nnsim.errors import InputError
from nnsim.plotting import COLORS, plot_sweep, save
from nnsim.running.interrupt import InterruptedRun
from nnsim.running.storage import checkpoint_path

SWEEP = ("sweep", "input.py", "--grid", "n=1,3", "--seeds", "2", "--jobs", "2")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder with input.py and a sweep of four points, two of which fail; and what the command printed."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "input.py").write_text(SWEPT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, nnsim(*SWEEP)


@pytest.fixture
def folder(finished: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished sweep, to be changed."""
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that begin sooner, for what does not depend on how they begin and end."""
    monkeypatch.setattr("nnsim.running.sweep.subprocess", OfSweeps)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the script alone."""
    (tmp_path / "input.py").write_text(SWEPT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def point(n: int, seed: int) -> Path:
    return Path("input-sweep") / f"n={n},seed={seed}"


def status(path: Path) -> str:
    return "done" if (path / "done.json").exists() else "failed" if (path / "failed.json").exists() else "left"


def whole(path: Path, *settings: str, steps: str = "40") -> dict[str, tuple]:
    """The arrays of an uninterrupted `nnsim run`."""
    options = [part for text in settings for part in ("--set", text)]
    assert nnsim("run", "input.py", *options, "--steps", steps, "-o", path, "--no-progress").status == 0
    return arrays_of(path)


# -------------------------------------------------------------------------------------------------------- whole sweeps


@pytest.mark.slow
def test_points_are_the_runs_of_their_settings(finished: tuple[Path, Any], folder: Path) -> None:
    """Bit for bit; and the two that fail stop nothing."""
    result = finished[1]
    assert result.status == 2
    words = "three is a crowd"
    assert [status(point(n, seed)) for n in (1, 3) for seed in (0, 1)] == ["done", "done", "failed", "failed"]
    for seed in (0, 1):
        run = point(1, seed) / "run.zarr"
        assert arrays_of(run) == whole(folder / f"{seed}.zarr", "n=1", f"seed={seed}")
        assert Trajectory(run).header["settings"]["seed"] == seed
        failed = json.loads((point(3, seed) / "failed.json").read_text())
        assert failed["message"].endswith(f"ValueError: {words}")
        assert "Traceback" in (point(3, seed) / "log.txt").read_text()
    assert result.err.count("\n") == 1
    assert result.err.startswith("Error: 2 of 4 points failed (n=3,seed=0: input.py, line ")
    lines = result.out.splitlines()
    assert sorted(line.split(" ", 1)[0] for line in lines if "seed=" in line and "/4 " in line) == [
        "1/4",
        "2/4",
        "3/4",
        "4/4",
    ]
    assert any("done: n=1,seed=0: 40 steps" in line for line in lines)
    assert "2 done, 2 failed, 0 left" in result.out
    assert lines[-1] == "table: input-sweep/sweep.csv"


@pytest.mark.slow
def test_the_table(folder: Path) -> None:
    """First and last frames, means and standard errors over the walkers; what is not known is empty."""
    rows = list(csv.DictReader((folder / "input-sweep" / "sweep.csv").read_text().splitlines()))
    assert [(row["n"], row["seed"], row["status"], row["steps"]) for row in rows] == [
        ("1", "0", "done", "40"),
        ("1", "1", "done", "40"),
        ("3", "0", "failed", ""),
        ("3", "1", "failed", ""),
    ]
    table = read_sweep(folder / "input-sweep")
    assert table.rows() == rows
    assert table.swept == ("n", "seed")
    assert table["n"].dtype == np.int64
    assert "spectrum_first" not in table  # has several numbers for each walker
    for row in (0, 1):
        frames = Trajectory(point(1, row) / "run.zarr")["weight_norm"][:]
        for end, frame in (("first", frames[0]), ("last", frames[-1])):
            assert table[f"weight_norm_{end}"][row] == frame.mean()
            assert table[f"weight_norm_{end}_se"][row] == pytest.approx(frame.std(ddof=1) / math.sqrt(3), rel=1e-12)
        assert 0 < table["seconds"][row] < 100
    assert np.isnan(table["weight_norm_last"][2:]).all()
    assert "three is a crowd" in table.messages[2]
    with pytest.raises(InputError, match=r"has no column 'loss'; it has n, seed, status, steps, seconds, bias_ener"):
        table["loss"]


@pytest.mark.slow
@pytest.mark.usefixtures("copies")
def test_repeating_skips_what_is_done_and_retries_what_failed(folder: Path) -> None:
    files = [path for seed in (0, 1) for path in point(1, seed).rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    (folder / "mended").touch()
    halves = [Path("input-sweep/.sweep.csv.0f.partial"), point(1, 0) / ".done.json.0f.partial"]
    for half in halves:  # as a kill leaves them
        half.touch()
    result = nnsim(*SWEEP)
    assert not any(half.exists() for half in halves)
    assert (result.status, result.err) == (0, "")
    assert "4 done, 0 failed, 0 left" in result.out
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert not (point(3, 0) / "failed.json").exists()
    assert arrays_of(point(3, 1) / "run.zarr") == whole(folder / "one.zarr", "n=3", "seed=1")
    result = nnsim(*SWEEP)
    assert (result.status, result.err) == (0, "")
    assert "/4 " not in result.out
    assert nnsim(*SWEEP, "--no-progress") == (0, "", "")


@pytest.mark.slow
@pytest.mark.usefixtures("copies")
def test_more_values_and_more_steps_add_to_a_sweep(folder: Path) -> None:
    result = nnsim("sweep", "input.py", "--grid", "n=2,1", "--seeds", "1", "--steps", "60", "--jobs", "2")
    assert (result.status, result.err) == (0, "")
    table = read_sweep("input-sweep")
    assert table["n"].tolist() == [1, 1, 3, 3, 2]
    np.testing.assert_array_equal(table["steps"], [60, 40, np.nan, np.nan, 60])
    for n in (1, 2):
        assert arrays_of(point(n, 0) / "run.zarr") == whole(folder / f"{n}.zarr", f"n={n}", steps="60")
    line = error_of("sweep", "input.py", "--grid", "n=1", "--seeds", "1", "--steps", "50")
    assert "--steps: 60 then, 50 now; a sweep can only become longer" in line


@pytest.mark.slow
@pytest.mark.usefixtures("copies")
def test_a_changed_plan_is_refused_unless_overwritten(folder: Path) -> None:
    line = error_of(*SWEEP, "--set", "dt=0.01")
    assert "input-sweep holds a sweep made in another way (--set dt: not set then, 0.01 now); restore it, use" in line
    line = error_of("sweep", "input.py", "--grid", "n=1", "--grid", "dt=0.1")
    assert "swept settings: n, seed then, n, dt now" in line
    (folder / "input.py").write_text(SWEPT.replace("well", "pit"))
    assert "the text of input.py has changed" in error_of(*SWEEP)
    own = point(1, 1) / "notes.txt"
    own.write_text("mine")
    begin = (point(1, 0) / "done.json").read_text()
    result = nnsim("sweep", "input.py", "--grid", "n=1", "--set", "dt=0.01", "--overwrite", "--no-progress")
    assert result == (0, "", "")
    assert [entry.name for entry in own.parent.iterdir()] == ["notes.txt"]
    assert not point(1, 0).exists()
    assert not point(3, 0).exists()
    assert begin != (Path("input-sweep") / "n=1" / "done.json").read_text()
    assert read_sweep("input-sweep")["n"].tolist() == [1]


# --------------------------------------------------------------------------------------------------------------- stops


def checkpoints(paths: list[Path]) -> list[int]:
    """When the newest checkpoint of each run was written, in nanoseconds; 0 where there is none after some frames."""
    found = []
    for path in paths:
        run = path / "run.zarr"
        made = checkpoint_path(run).exists() and Trajectory(run).steps >= 4
        found.append(checkpoint_path(run).stat().st_mtime_ns if made else 0)
    return found


def running() -> list[int]:
    """The processes of the runs, as the lock notes them."""
    try:
        return json.loads(Path("input-sweep/.sweep.lock").read_text())["runs"]
    except (OSError, ValueError):  # not there yet, or being written
        return []


def test_a_disk_that_is_full_as_a_run_starts(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnsim import lock

    def full(self: lock.Lock, **more: Any) -> None:
        if more.get("runs"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(lock.Lock, "note", full)
    line = error_of("sweep", "input.py", "--grid", "n=1,2")
    assert "cannot write" in line
    assert ".sweep.lock: No space left on device; free some space" in line
    assert not (fresh / "input-sweep" / ".sweep.lock").exists()


def test_why_a_run_failed(tmp_path: Path) -> None:
    from nnsim.running.sweep import _why

    log = tmp_path / "log.txt"
    for text, words in {
        "Traceback (most\nError: three is a crowd\n": "three is a crowd",
        "Segmentation fault\n": "Segmentation fault",
        "": "exit status 2",
        "some line\nTraceback (mo": "exit status 2; its log was cut off, as on a full disk",
    }.items():
        log.write_text(f"earlier\n{text}")
        assert _why(2, log, len("earlier\n")) == words


@pytest.mark.slow
def test_killed_runs_and_killed_sweeps(fresh: Path) -> None:
    """A killed run fails alone; after a killed sweep nothing is run twice at a time, and the same bits come out."""
    command = ("sweep", "input.py", "--grid", "n=1,2", "--jobs", "2")
    one, two = paths = [Path("input-sweep/n=1"), Path("input-sweep/n=2")]
    sweep = launch(*command, cwd=fresh, PAUSE="0.6")
    wait_for(lambda: all(checkpoints(paths)))
    os.kill(running()[0], signal.SIGKILL)
    wait_for(lambda: status(one) == "failed")
    words = "killed by SIGKILL, perhaps since memory ran out"
    assert json.loads((one / "failed.json").read_text())["message"] == words
    wait_for(lambda: len(running()) == 1)
    assert "another sweep is at work there, process" in error_of(*command)
    killed(sweep)
    (orphan,) = running()
    line = error_of(*command)
    assert f"the sweep was killed, but runs that it started are still at work, process {orphan}; wait until" in line
    os.kill(orphan, signal.SIGKILL)
    wait_for(lambda: nnsim(*command, "--no-progress").status == 0)
    assert status(two) == "done"
    for n, path in zip((1, 2), paths, strict=True):
        assert "Error" not in (path / "log.txt").read_text()
        assert arrays_of(path / "run.zarr") == whole(fresh / f"{n}.zarr", f"n={n}")


@pytest.mark.slow
def test_ctrl_c(fresh: Path) -> None:
    """It goes to all of a terminal's processes; the run hears of it once and writes its checkpoint."""
    command = ("sweep", "input.py", "--grid", "n=1,2")
    one, two = paths = [Path("input-sweep/n=1"), Path("input-sweep/n=2")]
    sweep = launch(*command, cwd=fresh, PAUSE="0.3")
    wait_for(lambda: all(checkpoints([one])))
    os.killpg(sweep.pid, signal.SIGINT)
    status_of_sweep, out, err = ended(sweep, 60)
    assert (status_of_sweep, "stopped before the end" in out) == (130, True)
    assert err == "stopped by SIGINT with 0 of 2 points done; repeat the same command to go on\n"
    assert (status(one), two.exists()) == ("left", False)
    assert "stopped by SIGINT after step" in (one / "log.txt").read_text().splitlines()[-1]
    assert read_sweep("input-sweep")["status"].tolist() == ["left"] * 2
    before = json.loads((one / "begun.json").read_text())["seconds"]
    assert before > 0.5
    assert nnsim(*command, "--no-progress") == (0, "", "")
    for n, path in zip((1, 2), paths, strict=True):
        assert arrays_of(path / "run.zarr") == whole(fresh / f"{n}.zarr", f"n={n}")
        assert not (path / "begun.json").exists()
    assert read_sweep("input-sweep")["seconds"][0] > before  # all runs of a point count


def test_a_sweep_in_the_background_stops_its_runs(fresh: Path) -> None:
    """There Ctrl-C is ignored, by the runs too; so they are told in another way."""
    from nnsim.running.script import Script
    from nnsim.running.sweep import Sweep

    class Killer:
        def update(self, sweep: Sweep) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)

        def ended(self, sweep: Sweep, point: Any) -> None:
            raise AssertionError

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        sweep = Sweep(Script(Path("input.py")), fresh / "out", grid=["n=1,2"])
        with pytest.raises(InterruptedRun, match="stopped by SIGTERM with 0 of 2 points done"):
            sweep.run(Killer())
    finally:
        signal.signal(signal.SIGINT, before)
    assert (sweep.count("left"), sweep.running) == (2, [])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGINT, 130)])
def test_a_signal_while_a_run_starts(fresh: Path, number: signal.Signals, code: int) -> None:
    """Then there may be no checkpoint yet, but the point is no failure either."""
    from nnsim.running.script import Script
    from nnsim.running.sweep import Sweep

    class Killer:
        def __init__(self, times: int) -> None:
            self.times = times

        def update(self, sweep: Sweep) -> None:
            if self.times:
                self.times -= 1
                os.kill(os.getpid(), number)

        def ended(self, sweep: Sweep, point: Any) -> None:
            raise AssertionError

    sweep = Sweep(Script(Path("input.py")), fresh / "out", grid=["n=1,2"])
    with pytest.raises(InterruptedRun, match=f"stopped by {number.name} with 0 of 2 points done") as stopped:
        sweep.run(Killer(1))
    assert stopped.value.exit_status == code
    assert (sweep.count("left"), sweep.running) == (2, [])
    assert status(fresh / "out" / "n=1") == "left"
    if number == signal.SIGINT:
        sweep = Sweep(Script(Path("input.py")), fresh / "out", grid=["n=1,2"])
        words = "stopped at once by a second SIGINT, with 0 of 2 points done; repeat the same command to go on"
        with pytest.raises(InterruptedRun, match=words):
            sweep.run(Killer(2))
        assert status(fresh / "out" / "n=1") == "left"


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "nothing to sweep over; give --grid NAME=V1,V2,... or --seeds N"),
        (["--grid", "n"], "--grid n: write --grid name=value,value,..."),
        (["--grid", "=3"], "--grid =3: write --grid name=value,value,..."),
        (["--grid", "n="], "--grid n=: a value is empty"),
        (["--grid", "n=1,,2"], "--grid n=1,,2: a value is empty"),
        (["--grid", "width=1,2"], "--grid width: input.py has no setting of this name; it has n, dt, walkers, seed"),
        (["--grid", "n=1,x"], "--grid n=x: 'x' is no int; give another value"),
        (["--grid", "n=10,1e1"], "--grid n: 10 is given twice; give each value once"),
        (["--grid", "n=1", "--grid", "n=2"], "--grid n: given twice; put all its values into one --grid"),
        (["--grid", "seed=1,2", "--seeds", "3"], "--seeds and --grid seed=... exclude each other; choose one"),
        (["--seeds", "0"], "nnsim sweep: seeds = 0 must be a whole number of at least 1"),
        (["--seeds", "2", "--jobs", "0"], "nnsim sweep: jobs = 0 must be a whole number of at least 1"),
        (["--seeds", "two"], "'two' is not a valid integer"),
        (["--seeds", "2", "--set", "seed=3"], "--set seed: the sweep varies seed; leave it out there or here"),
        (["--seeds", "2", "--set", "dt"], "--set dt: write --set name=value"),
        (["--seeds", "2", "--set", "dt=fast"], "--set dt=fast: 'fast' is no float; give another value"),
        (["--seeds", "2", "--steps", "-1"], "--steps -1: must be a whole number of at least 0"),
        (["--seeds", "2", "-o", "input.py"], "input.py is a file; choose another --output"),
        (
            ["--seeds", "2", "-o", "work"],
            "work exists and is not a sweep, so it is left alone; choose another --output",
        ),
        (["--seeds", "2", "-o", ""], "--output '': must be the name of a file or folder to write"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(fresh: Path, options: list[str], words: str) -> None:
    (fresh / "work").mkdir()
    (fresh / "work" / "thesis.tex").touch()
    assert words in error_of("sweep", "input.py", *options)
    assert {entry.name for entry in fresh.iterdir()} == {"input.py", "work"}


def test_a_script_without_seed(fresh: Path) -> None:
    (fresh / "input.py").write_text(SWEPT.replace(" seed: int = 0,", "").replace("seed=seed, ", ""))
    assert "--seeds 2: input.py has no setting seed; add it to build()" in error_of("sweep", "input.py", "--seeds", "2")
    assert "nothing.py: there is no such input script" in error_of("sweep", "nothing.py", "--seeds", "2")


def test_points_of_a_grid(fresh: Path) -> None:
    """Tuples, texts and safe names of folders."""
    from nnsim.running.script import Script
    from nnsim.running.sweep import grid_points

    script = Script(fresh / "input.py")
    found = grid_points(script, ["shape=6,6;12,12;7", "dt=1e-3,0.5"], 2, [], None)
    assert [one.name for one in found][:3] == [
        "shape=6x6,dt=0.001,seed=0",
        "shape=6x6,dt=0.001,seed=1",
        "shape=6x6,dt=0.5,seed=0",
    ]
    assert len(found) == 12
    assert found[0].texts == ("shape=6,6", "dt=1e-3", "seed=0")
    assert found[-1].values == {"shape": (7,), "dt": 0.5, "seed": 1}
    assert found[-1].settings["shape"] == (7,)
    texts = grid_points(script, ["kind=a/b,a-b,a b," + 300 * "c"], None, [], None)
    names = [one.name for one in texts]
    assert names[1] == "kind=a-b"
    assert len(set(names)) == 4
    assert all(len(name) < 200 and set(name) <= set("kind=abc-~0123456789def") for name in names)
    assert grid_points(script, ["shape=6,6;"], None, [], None)[0].values == {"shape": (6, 6)}


def test_a_script_that_changes_while_the_sweep_runs(fresh: Path) -> None:
    from nnsim.running.script import Script
    from nnsim.running.sweep import Sweep

    sweep = Sweep(Script(Path("input.py")), fresh / "out", grid=["n=1,2"])
    (fresh / "input.py").write_text(SWEPT + "\n")
    with pytest.raises(InputError, match=r"input\.py was changed while the sweep ran; restore it and repeat"):
        sweep.run()


def test_threads_of_the_runs(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnsim.running import sweep
    from nnsim.running.script import Script

    monkeypatch.setattr(sweep, "_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for jobs, threads in ((1, "8"), (3, "2"), (20, "1")):
        planned = sweep.Sweep(Script(Path("input.py")), fresh / "out", seeds=1, jobs=jobs)
        assert planned._environment()["OMP_NUM_THREADS"] == threads
        monkeypatch.setenv("OMP_NUM_THREADS", "5")
        assert planned._environment()["OMP_NUM_THREADS"] == "5"
        monkeypatch.delenv("OMP_NUM_THREADS")


def test_help_is_quick(fresh: Path) -> None:
    code = """
import sys
sys.argv = ["nnsim", "sweep", "--help"]
from nnsim.cli import main
try:
    main()
except SystemExit:
    pass
print(sorted({'torch', 'zarr', 'matplotlib', 'scipy', 'pandas', 'rich'} & set(sys.modules)))
"""
    lines = python(code, fresh).out.splitlines()
    assert lines[-1] == "[]"
    assert any("nnsim sweep input.py --grid width=10,30,100 --grid depth=1,2,3 --seeds 3 --jobs 2" in x for x in lines)
    assert "Examples:" in nnsim("plot", "map", "-h").out
    assert nnsim("sweep").status == 2
    code = "import sys; from nnsim.analysis import read_sweep; print('torch' in sys.modules)"
    assert python(code, fresh).out == "False\n"


# --------------------------------------------------------------------------------------------------- means and pictures


def table(
    widths: tuple = (10, 100, 30), depths: tuple = (1, 2), seeds: int = 3, bad: dict[tuple, str] | None = None
) -> SweepTable:
    """A sweep whose loss is width + depth + seed, without any run."""
    points, records = {}, {}
    for width in widths:
        for depth in depths:
            for seed in range(seeds):
                name = f"{width},{depth},{seed}"
                points[name] = {
                    "width": width,
                    "depth": list(depth) if isinstance(depth, tuple) else depth,
                    "seed": seed,
                }
                first = len(str(width)) + (depth if isinstance(depth, int) else 0) + seed
                ends = {"first": first, "first_se": 0.5, "last": 10.0 * first, "last_se": None}
                said = (bad or {}).get((width, depth, seed))
                records[name] = {"status": "done", "steps": 5, "seconds": 2.0, "observables": {"loss_train": ends}}
                if said:
                    records[name] = {"status": said, "message": "no"}
    return make_table({"swept": ["width", "depth", "seed"], "points": points}, records)


def test_seeds_of_64_bits_keep_all_of_their_digits() -> None:
    seeds = [2**64 - 1, 2**63, 7]
    points = {str(seed): {"seed": seed} for seed in seeds}
    ends = {"first": 1.0, "first_se": None, "last": 2.0, "last_se": None}
    done = {"status": "done", "steps": 5, "seconds": 2.0, "observables": {"loss_train": ends}}
    found = make_table({"swept": ["seed"], "points": points}, dict.fromkeys(points, done))
    assert [int(seed) for seed in found["seed"]] == seeds
    assert [line.split(",")[0] for line in found.csv().splitlines()] == ["seed", *map(str, seeds)]
    assert len(found.where(seed=2**64 - 1)) == 1


@pytest.mark.parametrize("value", [10**30, -(10**30)])
def test_a_whole_number_of_any_length_keeps_its_digits(value: int) -> None:
    found = make_table(
        {"swept": ["x"], "points": {"one": {"x": value}, "two": {"x": 1}}},
        {key: {"status": "waiting"} for key in ("one", "two")},
    )
    assert list(found["x"]) == [value, 1]


def test_means_over_seeds() -> None:
    found = table(bad={(10, 1, 2): "failed", (100, 2, 0): "left", (100, 2, 1): "failed", (100, 2, 2): "failed"})
    grid = found.mean_over_seeds("width", "depth", "loss_train_first")
    assert (grid.x_values, grid.y_values) == ((10, 30, 100), (1, 2))
    np.testing.assert_array_equal(grid.seeds, [[2, 3], [3, 3], [3, 0]])
    np.testing.assert_array_equal(grid.failed, [[1, 0], [0, 0], [0, 2]])
    np.testing.assert_allclose(grid.mean, [[3.5, 5], [4, 5], [5, np.nan]])
    three, two = 1 / math.sqrt(3), 0.5  # of 0, 1, 2 and of 0, 1
    np.testing.assert_allclose(grid.error, [[two, three], [three, three], [three, np.nan]])
    one = table(seeds=1)
    np.testing.assert_array_equal(one.mean_over_seeds("width", "depth", "loss_train_first").error, np.full((3, 2), 0.5))
    assert np.isnan(one.mean_over_seeds("width", "depth", "loss_train_last").error).all()
    line = found.where(depth=1).mean_over_seeds("width", None, "loss_train_first")
    np.testing.assert_allclose(line.mean, [3.5, 4, 5])
    assert line.y_values == ()
    by_seed = found.where(depth="2", width="1e1").mean_over_seeds("seed", None, "loss_train_last")
    np.testing.assert_allclose(by_seed.mean, [40, 50, 60])


def test_the_error_has_the_spread_of_seeds_and_of_walkers() -> None:
    """4000 cells of 5 seeds with 4 walkers each; e^2 is right in the mean, within 4 of its standard errors."""
    rng, cells, seeds, walkers, between, within = np.random.default_rng(1), 4000, 5, 4, 0.7, 1.3
    values = between * rng.standard_normal((cells, seeds, 1)) + within * rng.standard_normal((cells, seeds, walkers))
    means = values.mean(axis=2)
    columns = {
        "cell": np.repeat(np.arange(cells), seeds),
        "seed": np.tile(np.arange(seeds), cells),
        "status": np.full(cells * seeds, "done"),
        "v": means.ravel(),
    }
    part = 40  # cells at a time, as each is looked up on its own
    squares = []
    for begin in range(0, cells, part):
        rows = (columns["cell"] >= begin) & (columns["cell"] < begin + part)
        some = SweepTable(("cell", "seed"), {name: one[rows] for name, one in columns.items()}, ("",) * int(rows.sum()))
        squares.append(some.mean_over_seeds("cell", None, "v").error ** 2)
    found = np.concatenate(squares)
    expected = (between**2 + within**2 / walkers) / seeds
    assert abs(found.mean() - expected) < 4 * found.std() / math.sqrt(cells)


def test_settings_that_are_no_numbers() -> None:
    found = table(widths=("relu", "tanh"), depths=((6, 6), (12,), None))
    assert found["depth"].dtype == object
    assert found["depth"][0] == (6, 6)
    grid = found.mean_over_seeds("depth", "width", "loss_train_last")
    assert grid.x_values == ((6, 6), (12,), None)
    assert found.rows()[0]["depth"] == "6x6"
    assert len(found.where(depth="6,6")) == len(found.where(depth="6x6")) == len(found.where(depth=(6, 6))) == 6
    with pytest.raises(InputError, match="the sweep has no width = silu; choose one of relu, tanh"):
        found.where(width="silu")


@pytest.mark.parametrize(
    ("x", "y", "value", "words"),
    [
        ("widht", None, "seconds", "'widht' was not swept; choose one of width, depth, seed"),
        ("width", "steps", "seconds", "'steps' was not swept"),
        ("width", "width", "seconds", "x and y are both 'width'"),
        (
            "width",
            "depth",
            "loss",
            "the sweep has no column 'loss'; it has width, depth, seed, status, steps, seconds",
        ),
        ("width", "depth", "status", "the column 'status' holds no numbers"),
        (
            "width",
            None,
            "seconds",
            r"depth was swept too \(1, 2\), and different settings are not averaged; choose",
        ),
    ],
)
def test_bad_means(x: str, y: str | None, value: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        table().mean_over_seeds(x, y, value)


def test_a_map(tmp_path: Path) -> None:
    bad = {(30, 2, seed): "failed" for seed in range(3)} | {(100, 1, seed): "left" for seed in range(3)}
    grid = table(bad=bad).mean_over_seeds("width", "depth", "loss_train_last")
    ax = plot_sweep(grid)
    mesh = next(one for one in ax.collections if isinstance(one, QuadMesh))
    drawn: Any = np.ma.asarray(mesh.get_array())
    np.testing.assert_array_equal(np.ma.getmaskarray(drawn), [[False, False, True], [False, True, False]])
    np.testing.assert_allclose(drawn.compressed(), [40, 40, 50, 60])
    assert mesh.get_cmap().name == "viridis"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["10", "30", "100"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["1", "2"]
    np.testing.assert_allclose(ax.get_xticks(), [0, 1, 2])  # all have the same room
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("width", "depth")
    bar: Any = mesh.colorbar
    assert bar.ax.get_ylabel() == "$L_\\mathrm{train}$, last frame\n(mean of 3 seeds)"
    hatched = {patch.get_xy() for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_hatch()}
    assert hatched == {(0.5, 0.5), (1.5, -0.5)}
    assert ax.get_title(loc="left") == "hatched: 1 failed, 1 without a result"
    written = {text.get_position(): text.get_text().split("\n")[0] for text in ax.texts}
    assert written == {(0, 0): "40", (1, 0): "40", (0, 1): "50", (2, 1): "60"}
    assert save(ax, tmp_path / "map.png").stat().st_size > 5000


@pytest.mark.slow
def test_what_is_written_in_a_map_fits_into_its_cells() -> None:
    for widths, depths in (((10, 30, 100), (1, 2)), (tuple(range(1, 11)), tuple(range(1, 7)))):
        ax = plot_sweep(table(widths=widths, depths=depths).mean_over_seeds("width", "depth", "loss_train_last"))
        assert len(ax.texts) == len(widths) * len(depths)
        figure: Any = ax.figure
        figure.draw_without_rendering()
        bounds = ax.get_window_extent()
        for text in ax.texts:
            box = text.get_window_extent()
            assert box.width < bounds.width / len(widths)
            assert box.height < bounds.height / len(depths)
    many = plot_sweep(
        table(widths=tuple(range(1, 11)), depths=tuple(range(1, 8))).mean_over_seeds("width", "depth", "seconds")
    )
    assert not many.texts


def test_maps_to_scale_and_with_logarithmic_colours() -> None:
    grid = table().mean_over_seeds("width", "depth", "loss_train_last")
    ax = plot_sweep(grid, x_scale="log", y_scale="linear", log=True)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    np.testing.assert_allclose(ax.get_xlim(), (10 / 3**0.5, 100 * (10 / 3) ** 0.5))
    mesh = next(one for one in ax.collections if isinstance(one, QuadMesh))
    assert isinstance(mesh.norm, LogNorm)
    np.testing.assert_allclose(plot_sweep(grid, x_scale="linear").get_xlim(), (0, 135))


def test_a_line() -> None:
    found = table(bad={(30, 1, seed): "failed" for seed in range(3)}).where(depth=1)
    grid = found.mean_over_seeds("width", None, "loss_train_first")
    ax = plot_sweep(grid)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[10, 4], [100, 5]])
    assert ax.lines[0].get_color() == COLORS[0]
    bars: Any = ax.collections[0]
    np.testing.assert_allclose(np.ptp(bars.get_segments()[0][:, 1]), 2 / math.sqrt(3))
    assert [text.get_text() for text in ax.get_xticklabels()] == ["10", "30", "100"]
    legend = ax.get_legend()
    assert legend is not None
    assert legend.get_texts()[0].get_text() == "mean of 3 seeds, standard error"
    assert ax.get_title(loc="left") == "not drawn: 1 failed"
    assert ax.get_ylabel() == "$L_\\mathrm{train}$, first frame"
    assert plot_sweep(grid, x_scale="log", log=True).get_yscale() == "log"


@pytest.mark.parametrize(
    ("found", "y", "options", "words"),
    [
        (
            table(),
            "depth",
            {"x_scale": "cubic"},
            "x_scale = 'cubic' is not known; choose one of 'even', 'linear'",
        ),
        (table(widths=("a", "b")), "depth", {"x_scale": "log"}, "x_scale = 'log' needs numbers, but width has others"),
        (table(widths=(0, 1)), "depth", {"x_scale": "log"}, "x_scale = 'log' needs width above 0, not 0"),
        (table().where(depth=1), None, {"y_scale": "log"}, "y_scale needs two settings"),
    ],
)
def test_pictures_that_cannot_be_drawn(found: SweepTable, y: str | None, options: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        plot_sweep(found.mean_over_seeds("width", y, "seconds"), **options)


def test_pictures_without_results() -> None:
    every = {(width, 1, 0): "failed" for width in (10, 100, 30)}
    with pytest.raises(InputError, match="no point has a result of seconds yet"):
        plot_sweep(table(depths=(1,), seeds=1, bad=every).mean_over_seeds("width", "depth", "seconds"))
    found = table()
    found.columns["loss"] = -found["seconds"]
    with pytest.raises(InputError, match="loss = -2 has no logarithm"):
        plot_sweep(found.mean_over_seeds("width", "depth", "loss"), log=True)


@pytest.mark.slow
def test_plot_map_command(folder: Path) -> None:
    common = ("plot", "map", "input-sweep", "--x", "n")
    assert nnsim(*common, "--value", "weight_norm_last") == (0, "picture: input-sweep_map.png\n", "")
    result = nnsim(*common, "--y", "seed", "--value", "weight_norm_last", "-o", "map.svg")
    assert result == (0, "picture: map.svg\n", "")
    assert "hatched: 2 failed" in (folder / "map.svg").read_text()
    result = nnsim(*common, "--value", "seconds", "--where", "seed=1", "--log", "--x-scale", "even", "-o", "one.svg")
    assert result.status == 0
    assert "seed=1; not drawn: 1 failed" in (folder / "one.svg").read_text()
    assert "the sweep has no column 'loss'; it has n, seed, status" in error_of(*common, "--value", "loss")
    assert "'seconds' was not swept" in error_of(*common, "--y", "seconds", "--value", "steps")
    assert "--where seed: write --where name=value" in error_of(*common, "--value", "steps", "--where", "seed")
    line = error_of("plot", "map", "nothing", "--x", "n", "--value", "steps")
    assert "nothing: there is no sweep; give the folder that nnsim sweep wrote" in line
