"""The command line, as a user meets it."""

import contextlib
import os
import pty
import sys
from pathlib import Path

import pytest
from command_line import COMMAND, error_of, nnsim, python, read_all

from nnsim import Trajectory
from nnsim.running import progress
from nnsim.running.storage import checkpoint_path

SCRIPT = '''
"""Particles in a box."""
import nnsim
from nnsim import Box, Grid, cv
from nnsim.bias import WangLandau
from nnsim.integrators import Langevin
from nnsim.schedules import FlatnessHalving
from nnsim.systems import AnalyticSystem

def build(
    n: int = 2, dt: float = 0.05, walkers: int = 3, sizes: tuple[int, ...] = (1, 2), pair: tuple[int, float] = (1, 0.5),
    flag: bool = False, note: str | None = None, levels=(1.0, 2.0), plain=7, kind: str = "a", limit: float | None = 2.0,
) -> nnsim.Simulation:
    cvs = [cv.Parameter(0), cv.Parameter(1)]
    bias = WangLandau(cvs, Grid((-2.0, -2.0), (2.0, 2.0), bins=16), FlatnessHalving(0.1), kernel=0.4)
    return nnsim.Simulation(
        AnalyticSystem(n, box=Box(2.0)), Langevin(dt, 1.0), bias=bias, observe=[cv.WeightNorm()], walkers=walkers,
        steps=40, every=2, positions_every=2, threads=1,
    )
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "input.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -------------------------------------------------------------------------------------------------------- quick answers

HEAVY = "sorted({'torch', 'zarr', 'mdtraj', 'matplotlib', 'scipy', 'pandas', 'rich'} & set(sys.modules))"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "may"),
    [
        (["--help"], []),
        (["--version"], []),
        (["run", "--help"], []),
        (["run"], []),
        (["info", "--help"], []),
        (["plot", "--help"], []),
        (["plot", "landscape", "--help"], []),
        (["info", "input.zarr"], ["zarr"]),  # numbers of frames and the last step are read
        (["run", "input.py"], ["zarr"]),  # refused, since the output is there
    ],
)
def test_answers_without_heavy_imports(folder: Path, arguments: list[str], may: list[str]) -> None:
    """Importing torch alone takes two seconds."""
    if "input.zarr" in arguments:
        assert nnsim("run", "input.py", "--no-progress").status == 0
    if arguments == ["run", "input.py"]:
        (folder / "taken.zarr").mkdir()
        (folder / "taken.zarr" / "something").touch()
        arguments = [*arguments, "-o", "taken.zarr"]
    code = f"""
import sys
sys.argv = ["nnsim", *{arguments!r}]
from nnsim.cli import main
try:
    main()
except SystemExit as stop:
    print("status", stop.code)
print("imported", {HEAVY})
"""
    result = python(code, folder)
    found = result.out.splitlines()[-1]
    assert result.status == 0, result
    assert found in ("imported []", f"imported {may}")


def test_nnsim_and_trajectory_import_nothing_heavy(folder: Path) -> None:
    code = f"import sys, nnsim; nnsim.Trajectory; nnsim.TrajectoryError; dir(nnsim); print({HEAVY})"
    assert python(code, folder).out == "[]\n"


@pytest.mark.slow
def test_engine_without_zarr_mdtraj_and_matplotlib(folder: Path) -> None:
    """In memory everything works; with an output one line says what is missing."""
    code = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("zarr", "mdtraj", "matplotlib", "numcodecs"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
import nnsim, pathlib
from nnsim.running.script import Script
script = Script(pathlib.Path("input.py"))
simulation = script.simulation(script.settings())
simulation.run(20)
print(simulation.history["parameter_0"].shape, simulation.history["position"].shape)
try:
    simulation.run(40, output="run.zarr", progress=False)
except nnsim.TrajectoryError as error:
    print(error)
"""
    result = python(code, folder)
    assert result.err == ""
    assert result.out.splitlines() == [
        "(10, 3) (10, 3, 2)",
        "trajectories need the package zarr, which is missing; pip install 'zarr>=3.1'",
    ]


# ---------------------------------------------------------------------------------------------------------------- help


def test_help_shows_examples() -> None:
    for command in (
        [],
        ["run"],
        ["info"],
        ["plot"],
        *(["plot", kind] for kind in ("landscape", "timeseries", "histogram")),
    ):
        for option in ("--help", "-h"):
            result = nnsim(*command, option)
            assert (result.status, result.err) == (0, "")
            assert "Example" in result.out
            assert f"nnsim {' '.join(command)}" in result.out


@pytest.mark.parametrize("command", [(), ("plot",), ("analyze",)])
def test_without_arguments_the_help_is_shown_as_it_is(command: tuple[str, ...]) -> None:
    result = nnsim(*command)
    assert (result.status, result.out) == (2, "")
    assert result.err == nnsim(*command, "--help").out
    assert "--debug" in result.err
    assert result.err.count("\n") > 10


def test_help_of_a_script_lists_its_settings(folder: Path) -> None:
    lines = nnsim("run", "input.py", "--help").out.splitlines()
    assert "Particles in a box." in lines
    assert "Settings of input.py, changed by --set name=value:" in lines
    for line in (
        "  n  (int; default 2)",
        "  dt  (float; default 0.05)",
        "  sizes  (tuple[int, ...]; default (1, 2))",
        "  flag  (bool; default False)",
        "  note  (str | None; default None)",
        "  levels  (tuple[float, ...]; default (1.0, 2.0))",
        "  plain  (int; default 7)",
    ):
        assert line in lines
    assert not (folder / "input.zarr").exists()


# ------------------------------------------------------------------------------------------------------ run, info, plot


@pytest.mark.slow
def test_run_info_and_plots(folder: Path) -> None:
    result = nnsim("run", "input.py")
    assert (result.status, result.err) == (0, "")
    for words in ("finished", "kinetic temperature", "wang_landau: increment", "trajectory: input.zarr"):
        assert words in result.out
    assert read_all(folder / "input.zarr") == 40
    assert checkpoint_path(folder / "input.zarr").exists()
    assert not (folder / "__pycache__").exists()

    told = nnsim("info", "input.zarr").out
    for words in (
        "AnalyticSystem, 2 parameters, 3 walkers",
        "type=Langevin, dt=0.05",
        "20 frames (3, 2)",
        "n=2, dt=0.05",
    ):
        assert words in told
    assert len({len(line) - len(line.split(":", 1)[1].lstrip()) for line in told.splitlines()}) == 1  # one column

    for kind, more in {
        "landscape": [],
        "timeseries": ["--observable", "parameter_0", "--observable", "kinetic_temperature"],
        "histogram": ["--observable", "parameter_0"],
        "parameters": ["--walker", "1"],
    }.items():
        drawn = nnsim("plot", kind, "input.zarr", *more)
        assert drawn == (0, f"picture: input_{kind}.png\n", "")
        assert (folder / f"input_{kind}.png").stat().st_size > 5000
    assert nnsim("plot", "landscape", "input.zarr", "--marginal", "parameter_1", "-o", "own.svg").status == 0
    assert (folder / "own.svg").stat().st_size > 5000
    assert nnsim("plot", "timeseries", "input.zarr").status == 0
    assert nnsim("plot", "histogram", "input.zarr", "-o", "map.pdf").status == 0


def test_no_progress_is_silent(folder: Path) -> None:
    assert nnsim("run", "input.py", "--no-progress") == (0, "", "")


def test_settings_script_and_seed_are_recorded(folder: Path) -> None:
    assert nnsim("run", "input.py", "--set", "dt=0.01", "--steps", "1e1", "--no-progress").status == 0
    header = Trajectory("input.zarr").header
    assert header["settings"]["dt"] == 0.01
    assert header["script"] == SCRIPT
    assert header["seed"] == 0
    assert header["threads"] == 1
    assert Trajectory("input.zarr").steps == 10


@pytest.mark.slow
def test_existing_output_is_not_overwritten(folder: Path) -> None:
    assert nnsim("run", "input.py", "--no-progress").status == 0
    before = (folder / "input.zarr" / "nnsim" / ".zattrs").read_text()
    for arguments in ((), ("-o", "input.zarr")):
        line = error_of("run", "input.py", "--steps", "10", *arguments)
        assert "input.zarr exists already" in line
        assert "--overwrite" in line
        assert "--resume" in line
    assert (folder / "input.zarr" / "nnsim" / ".zattrs").read_text() == before
    assert nnsim("run", "input.py", "--steps", "10", "--overwrite", "--no-progress").status == 0
    assert Trajectory("input.zarr").steps == 10
    assert nnsim("run", "input.py", "--resume", "--no-progress").status == 0
    assert read_all(Path("input.zarr")) == 40


def test_what_is_no_trajectory_is_never_overwritten(folder: Path) -> None:
    (folder / "work").mkdir()
    (folder / "work" / "thesis.tex").write_text("years")
    for output in ("work", "input.py"):
        for more in ([], ["--overwrite"]):
            line = error_of("run", "input.py", "-o", output, *more)
            rule = "exists and is not an nnsim trajectory, so it is left alone; choose another --output"
            assert line == f"Error: {output} {rule}"
    assert (folder / "work" / "thesis.tex").read_text() == "years"
    assert "exclude each other" in error_of("run", "input.py", "--overwrite", "--resume")


def test_an_empty_output_is_refused(folder: Path) -> None:
    assert nnsim("run", "input.py", "--no-progress").status == 0
    analysis = ("analyze", "equilibrium", "input.zarr", "--of", "weight_norm")
    for command in (("run", "input.py"), ("plot", "landscape", "input.zarr"), analysis):
        line = error_of(*command, "-o", "")
        assert "--output '': must be the name of a file or folder to write; give one, or leave it out" in line


def test_pictures_of_a_run_shorter_than_its_interval(folder: Path) -> None:
    assert nnsim("run", "input.py", "--steps", "1", "--no-progress").status == 0
    assert nnsim("plot", "landscape", "input.zarr", "-o", "short.svg") == (0, "picture: short.svg\n", "")
    assert "convergence not known" in (folder / "short.svg").read_text()
    for kind in ("timeseries", "histogram"):
        line = error_of("plot", kind, "input.zarr")
        assert "input.zarr has no frame of an observable; run longer than the interval of the record" in line
    line = error_of("analyze", "equilibrium", "input.zarr", "--of", "weight_norm")
    assert "input.zarr has no frame yet, since it is shorter than one interval; run longer" in line


@pytest.mark.parametrize(
    ("observe", "drawn"), [("observe=[cv.WeightNorm()],", "weight norm"), ("", "kinetic temperature")]
)
def test_timeseries_of_a_run_without_a_bias(folder: Path, observe: str, drawn: str) -> None:
    text = SCRIPT.replace("bias=bias, observe=[cv.WeightNorm()],", observe)
    (folder / "input.py").write_text(text)
    assert nnsim("run", "input.py", "--no-progress").status == 0
    assert nnsim("plot", "timeseries", "input.zarr", "-o", "series.svg").status == 0
    assert drawn in (folder / "series.svg").read_text()
    line = error_of("plot", "landscape", "input.zarr")
    assert line == "Error: the trajectory has no Wang-Landau, metadynamics or OPES bias; give that of a run with one"


@pytest.mark.slow
def test_output_named_by_the_script(folder: Path) -> None:
    """Neither an early mark nor a trajectory of the default name stands in its way, with and without --resume."""
    (folder / "input.py").write_text(SCRIPT.replace("steps=40", "steps=40, output='runs/own.zarr'"))
    own, common = folder / "runs" / "own.zarr", ("run", "input.py", "--no-progress")
    assert nnsim(*common).status == 0
    assert read_all(own) == 40
    assert not (folder / "input.zarr").exists()
    (folder / "input.zarr").mkdir()
    (folder / "input.zarr" / "something").touch()
    assert nnsim(*common, "--resume", "--steps", "60").status == 0
    assert read_all(own) == 60
    assert "runs/own.zarr exists already" in error_of(*common)
    assert nnsim(*common, "-o", "other.zarr").status == 0
    assert read_all(folder / "other.zarr") == 40


def test_output_named_by_the_script_after_an_early_kill(folder: Path) -> None:
    (folder / "input.py").write_text(SCRIPT.replace("steps=40", "steps=40, output='own.zarr'"))
    (folder / "input.zarr").mkdir()
    (folder / "input.zarr" / ".starting").touch()
    assert nnsim("run", "input.py", "--resume", "--no-progress").status == 0
    assert read_all(folder / "own.zarr") == 40
    assert not (folder / "input.zarr").exists()


def test_nothing_is_left_behind_by_a_wrong_command(folder: Path) -> None:
    error_of("run", "input.py", "--set", "dt=-1")
    error_of("run", "nothing.py")
    assert {entry.name for entry in folder.iterdir()} == {"input.py"}


@pytest.mark.slow
def test_a_script_that_changed_within_a_second_is_read_anew(folder: Path) -> None:
    """Python's own import would take a compiled copy whose time and length agree."""
    for steps in ("40", "50", "60"):
        (folder / "input.py").write_text(SCRIPT.replace("steps=40", f"steps={steps}"))
        assert nnsim("run", "input.py", "--overwrite", "--no-progress").status == 0
        assert Trajectory("input.zarr").steps == int(steps)


# --------------------------------------------------------------------------------------------------------------- --set


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n=1e6", 1000000),
        ("n=12345678901234567", 12345678901234567),
        ("n= 3 ", 3),
        ("dt=1e-3", 0.001),
        ("dt=2", 2.0),
        ("sizes=3,4", (3, 4)),
        ("sizes=(3, 4,)", (3, 4)),
        ("sizes=1e3", (1000,)),
        ("pair=3,4", (3, 4.0)),
        ("levels=3,4.5", (3.0, 4.5)),
        ("flag=true", True),
        ("flag=No", False),
        ("flag=1", True),
        ("note=none", None),
        ("note=a=b", "a=b"),
        ("limit=none", None),
        ("limit=3", 3.0),
        ("kind=none", "none"),
        ("plain=1e2", 100),
    ],
)
def test_set_converts(folder: Path, text: str, value: object) -> None:
    from nnsim.running.script import Script

    found = Script(folder / "input.py").settings([text])[text.partition("=")[0]]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "n=2.5",
        "n=abc",
        "n=none",
        "n=",
        "n=inf",
        "dt=fast",
        "sizes=1,x",
        "pair=1",
        "pair=1,2,3",
        "flag=maybe",
        "limit=x",
    ],
)
def test_set_of_a_wrong_type(folder: Path, text: str) -> None:
    value = text.partition("=")[2]
    line = error_of("run", "input.py", "--set", text)
    assert f"--set {text}: {value!r} is no " in line
    assert "; give another value" in line


def test_set_of_an_unknown_name(folder: Path) -> None:
    line = error_of("run", "input.py", "--set", "width=3")
    assert line == (
        "Error: --set width: input.py has no setting of this name; it has n, dt, walkers, sizes, pair, flag, note, "
        "levels, plain, kind, limit"
    )
    assert "write --set name=value" in error_of("run", "input.py", "--set", "n")


def test_setting_without_default(folder: Path) -> None:
    (folder / "input.py").write_text(SCRIPT.replace("n: int = 2, dt: float = 0.05", "n: int, dt: float"))
    line = error_of("run", "input.py", "--set", "n=2")
    assert line == "Error: input.py needs a value for dt; use --set dt=..."
    assert nnsim("run", "input.py", "--set", "n=2", "--set", "dt=0.1", "--no-progress").status == 0
    assert "  dt  (float; required)" in nnsim("run", "input.py", "--help").out


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bla"], "No such command 'bla'"),
        (["run", "input.py", "--bla"], "No such option '--bla'"),
        (["run", "input.py", "--steps", "-5"], "--steps -5: must be a whole number of at least 0"),
        (["run", "input.py", "--steps", "abc"], "--steps abc: must be a whole number of at least 0"),
        (["run", "input.py", "--steps", "1.5"], "--steps 1.5: must be a whole number of at least 0"),
        (["run", "input.py", "--steps", "nan"], "--steps nan: must be a whole number of at least 0"),
        (["run", "input.py", "--steps"], "requires an argument"),
        (["info"], "Missing argument 'TRAJECTORY'"),
        (["info", "nothing.zarr"], "nothing.zarr does not exist"),
        (["plot", "pie", "input.zarr"], "No such command 'pie'"),
        (["plot", "landscape"], "Missing argument"),
        (["plot", "timeseries", "nothing.zarr"], "nothing.zarr does not exist"),
    ],
)
def test_errors_are_one_line(folder: Path, arguments: list[str], words: str) -> None:
    assert words in error_of(*arguments)


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_a_traceback(folder: Path, place: str) -> None:
    command = ["run", "input.py", "--set", "dt=-1"]
    result = nnsim(*(["--debug", *command] if place == "before" else [*command, "--debug"]))
    assert result.status == 2
    assert result.err.startswith("Traceback (most recent call last)")
    assert 'input.py", line ' in result.err  # the place in the script
    assert result.err.splitlines()[-1] == "Error: Langevin: dt = -1 must be a finite number above 0; change dt"


def test_unforeseen_errors_are_one_line_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert nnsim("run", "input.py", "--no-progress").status == 0
    monkeypatch.setattr(Trajectory, "header", property(lambda _: 1 / 0))
    assert error_of("info", "input.zarr") == "Error: ZeroDivisionError: division by zero (--debug shows where)"


def test_a_closed_pipe_is_silent(folder: Path) -> None:
    code = f"""
import subprocess, sys
first = subprocess.Popen({COMMAND!r} + ["run", "input.py", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
first.stdout.close()
print(first.wait(), first.stderr.read())
"""
    assert python(code, folder).out == "1 b''\n"


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 10.0])
def test_a_run_goes_on_when_nobody_reads(folder: Path, seconds: float) -> None:
    """`nnsim run input.py | head -1`, with the pipe closed before the first line, or before the summary."""
    code = f"""
import subprocess, sys
start = "from nnsim.running import progress; progress.LINE_SECONDS = {seconds}; from nnsim.cli import main; main()"
run = subprocess.Popen(
    [sys.executable, "-c", start, "run", "input.py", "--steps", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
)
run.stdout.close()
print(run.wait(), run.stderr.read())
"""
    assert python(code, folder).out == "0 b''\n"
    assert read_all(folder / "input.zarr") == 60
    assert nnsim("run", "input.py", "--resume", "--steps", "70", "--no-progress").status == 0


# ------------------------------------------------------------------------------------------------------------- progress


def test_lines_in_a_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    lines = [line for line in nnsim("run", "input.py").out.splitlines() if line.startswith("step ")]
    parts = lines[-1].split(" | ")
    assert parts[0] == "step 40/40"
    assert [part.split(" ", 1)[-1] for part in parts[1:3]] == ["steps/s", "walker-steps/s"]
    assert parts[3] == "0:00:00 left"
    assert [part.rpartition(" ")[0] for part in parts[4:]] == [
        "<parameter_0>",
        "<parameter_1>",
        "increment",
        "outside grid",
        "T",
    ]


@pytest.mark.slow
def test_bar_shows_every_number_on_80_columns(folder: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover - another process
        os.environ.update(COLUMNS="80", TERM="xterm", OMP_NUM_THREADS="1")
        os.execv(sys.executable, [*COMMAND, "run", "input.py"])
    shown = b""
    with contextlib.suppress(OSError):  # the end of the child
        while piece := os.read(terminal, 4096):
            shown += piece
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    text = " ".join(shown.decode().split())
    for words in (
        "40/40",
        "walker-steps/s",
        "left",
        "<parameter_1>",
        "increment 0.1",
        "outside grid",
        "| T ",
        "finished",
    ):
        assert words in text
    assert "…" not in text
