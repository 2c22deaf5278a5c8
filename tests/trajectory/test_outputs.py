"""What commands and functions write is there whole or not at all, and takes no other file's place."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from command_line import ended, error_of, launch, nnsim, wait_for
from matplotlib.figure import Figure
from pictured_runs import make_run

from nnsim import InputError, NNSimError, TrajectoryError, plotting
from nnsim.files import MARK, is_marked, whole, write_table
from nnsim.running.interrupt import Interrupt

PICTURES = ["png", "pdf", "svg", "svgz", "eps", "ps", "jpg", "tif", "webp", "gif"]
SCRIPT = f"import nnsim  # {MARK}, says this script\n"
ROWS = [{"x": 1, "y": 2.5}, {"x": 2, "y": 3.5}]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run") / "run.zarr", 1).path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def drawn() -> Figure:
    figure = Figure()
    figure.subplots().plot([1, 2])
    return figure


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# ------------------------------------------------------------------------------------------------- whose file it is


@pytest.mark.parametrize("ending", PICTURES)
def test_pictures_of_nnsim_are_replaced_and_others_are_not(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"picture.{ending}"
    for _ in range(2):
        plotting.save(drawn(), path)
    assert is_marked(path)
    drawn().savefig(path)  # somebody's own
    before = path.read_bytes()
    with pytest.raises(InputError, match=rf"picture.{ending} exists and is no picture of nnsim.*--overwrite"):
        plotting.save(drawn(), path)
    path.write_text(SCRIPT)
    with pytest.raises(InputError, match="left alone"):
        plotting.save(drawn(), path)
    assert path.read_text() == SCRIPT
    plotting.save(drawn(), path, overwrite=True)
    assert is_marked(path)
    assert path.read_bytes() != before
    assert names(tmp_path) == [path.name]


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "added"), [("pdf", "\n/PTEX.InfoDict 3 0 R"), ("svg", "<!-- inkscape:version -->")])
def test_what_others_made_of_a_picture_is_theirs(tmp_path: Path, ending: str, added: str) -> None:
    path = plotting.save(drawn(), tmp_path / f"paper.{ending}")
    with path.open("a") as file:
        file.write(added)
    with pytest.raises(InputError, match="is no picture of nnsim"):
        plotting.save(drawn(), path)


def test_tables_of_the_same_columns_are_replaced_and_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    for rows in (ROWS[:1], ROWS):
        write_table(rows, path)
    assert path.read_bytes() == b"x,y\r\n1,2.5\r\n2,3.5\r\n"  # nothing that a plain reader would stumble over
    for other in ("x,y,z\n1,2,3\n", "x\n1\n", SCRIPT, ""):
        path.write_text(other)
        with pytest.raises(InputError, match=r"table.csv exists and is no table of nnsim.*--overwrite"):
            write_table(ROWS, path)
        with pytest.raises(InputError, match="left alone"):
            write_table([], path)
        assert path.read_text() == other
    assert write_table(ROWS, path, overwrite=True).read_text().startswith("x,y")
    with pytest.raises(InputError, match="is no earlier table, so it is left alone"):
        write_table(ROWS, tmp_path, overwrite=True)


@pytest.mark.slow
def test_commands_repeat_themselves_and_leave_other_files_alone(run: Path, folder: Path) -> None:
    commands: dict[str, tuple[object, ...]] = {
        "t.png": ("plot", "timeseries", run),
        "c.png": ("plot", "convergence", run),
        "e.pdf": ("plot", "evolution", run, "--quantity", "accuracy", "--split", "test", "--linear"),
        "film.gif": ("movie", run, "--seconds", "0.2"),
        "report.html": ("report", run),
        "table.csv": ("analyze", "reweight", run, "--along", "weight_norm", "--bins", "3"),
    }
    for name, command in commands.items():
        Path(name).write_text(SCRIPT)
        line = error_of(*command, "-o", name)
        assert f"{name} exists and is no " in line
        assert "so it is left alone; replace it with --overwrite" in line
        assert Path(name).read_text() == SCRIPT
        for options in (("--overwrite",), ()):
            assert nnsim(*command, "-o", name, *options).status == 0, name
        assert Path(name).read_bytes()[:6] != SCRIPT.encode()[:6]
    assert names(folder) == sorted(commands)


@pytest.mark.parametrize("options", [("-o", "victim.py"), ("-o", "t.csv", "--picture", "victim.png")])
def test_an_input_script_is_no_table_and_no_picture(run: Path, folder: Path, options: tuple[str, ...]) -> None:
    victim = Path(options[-1])
    victim.write_text(SCRIPT)
    line = error_of("analyze", "reweight", run, "--along", "weight_norm", "--bins", "3", *options)
    assert f"{victim} exists and is no " in line
    assert victim.read_text() == SCRIPT


# ------------------------------------------------------------------------------------------------ whole or not at all


def failing(error: BaseException) -> Callable[[Figure, Path], None]:
    def savefig(self: Figure, path: Path, **options: object) -> None:
        Path(path).write_bytes(b"\x89PNG and half of it")
        raise error

    return savefig


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device"), RuntimeError("odd")])
def test_a_picture_that_breaks_off_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = plotting.save(drawn(), tmp_path / "picture.png")
    before = path.read_bytes()
    monkeypatch.setattr(Figure, "savefig", failing(error))
    for target in (path, tmp_path / "other.png"):
        with pytest.raises(InputError if isinstance(error, OSError) else type(error)) as caught:
            plotting.save(drawn(), target)
        assert not isinstance(error, OSError) or "No space left on device; choose another" in str(caught.value)
    assert (names(tmp_path), path.read_bytes()) == (["picture.png"], before)


def test_a_disk_that_breaks_a_library_is_told(tmp_path: Path) -> None:
    """As in a .pdf, where tidying up after the error of the disk fails in another way."""

    def breaks(first: Exception, then: Exception) -> None:
        with whole(tmp_path / "a.pdf"):
            try:
                raise first
            finally:
                raise then

    full, other = OSError(errno.ENOSPC, "No space left on device"), FileNotFoundError(errno.ENOENT, "no such font")
    with pytest.raises(TrajectoryError, match=r"cannot write .*a.pdf: No space left on device; choose another"):
        breaks(full, AttributeError("pos"))
    with pytest.raises(AttributeError, match="pos"):
        breaks(other, AttributeError("pos"))
    with pytest.raises(TrajectoryError, match="cannot read it"):
        breaks(full, TrajectoryError("cannot read it"))


LIMITED = """
import resource, sys
from pathlib import Path
from matplotlib.figure import Figure
from nnsim import NNSimError, plotting
from nnsim.files import write_table

figure = Figure()
figure.subplots().plot([1, 2])
run, folder = sys.argv[1], Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
for write in (
    lambda: plotting.save(figure, folder / "a.png"),
    lambda: plotting.save(figure, folder / "a.pdf"),
    lambda: plotting.make_movie(run, folder / "a.gif", seconds=0.2),
    lambda: plotting.make_movie(run, folder / "a.mp4", seconds=0.2),
    lambda: write_table([{"x": 0}] * 5000, folder / "a.csv"),
):
    try:
        write()
        print("written")
    except NNSimError as error:
        print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("imageio_ffmpeg") is None, reason="no films in .mp4")
def test_a_full_disk(run: Path, tmp_path: Path) -> None:
    """As a limit on the size of files, which the system enforces in the same way."""
    command = [sys.executable, "-c", LIMITED, str(run), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for line, ending in zip(lines, ("png", "pdf", "gif", "mp4", "csv"), strict=True):
        why = r"File too large|Broken pipe|ffmpeg ended with exit status -?\d+"
        where = re.escape(str(tmp_path / f"a.{ending}"))
        assert re.search(f"cannot write {where}: ({why}); choose another output, or free space", line)
    assert names(tmp_path) == []


def test_a_process_that_was_killed_leaves_nothing_for_long(tmp_path: Path) -> None:
    """What is half-written by one that still runs is its own."""
    code = "import sys; from nnsim.files import whole\nwith whole(sys.argv[1]) as p: p.touch(); print(p); input()"
    killed, alive = (
        subprocess.Popen(
            [sys.executable, "-uc", code, str(tmp_path / "table.csv")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    )  # fmt: skip
    assert killed.stdout
    assert alive.stdout
    partials = [Path(process.stdout.readline().strip()) for process in (killed, alive) if process.stdout]
    assert names(tmp_path) == sorted(one.name for one in partials)
    killed.kill()
    killed.communicate()
    write_table(ROWS, tmp_path / "table.csv")
    assert names(tmp_path) == sorted([partials[1].name, "table.csv"])
    alive.communicate("\n")  # made in the meantime: the other one's is not replaced
    assert alive.returncode == 1
    assert names(tmp_path) == ["table.csv"]


WAITING = """
import sys, time
from nnsim.files import whole
with whole(sys.argv[1]) as partial:
    partial.mkdir()
    (partial / "chunk").write_text("half")
    try:
        print("half", flush=True)
        time.sleep(60)
    finally:
        1 / int(sys.argv[2])
"""


@pytest.mark.parametrize("breaks", [False, True], ids=["whole", "breaks"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU])
def test_a_signal_leaves_nothing_half_written(tmp_path: Path, number: signal.Signals, breaks: bool) -> None:
    """Also where the signal makes something else fail, as it stops ffmpeg too."""
    command = [sys.executable, "-c", WAITING, str(tmp_path / "out.zarrmd"), str(int(not breaks))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "half\n"
    process.send_signal(number)
    status, _, err = ended(process)
    assert (status, err) == (
        128 + number,
        f"stopped by {number.name} while {tmp_path / 'out.zarrmd'} was being written; repeat the same command\n",
    )
    assert names(tmp_path) == []


@pytest.mark.slow
@pytest.mark.skipif(find_spec("imageio_ffmpeg") is None, reason="no films in .mp4")
@pytest.mark.parametrize("film", ["film.mp4", "film.gif"])
def test_a_command_that_is_stopped_says_so_in_one_line(run: Path, tmp_path: Path, film: str) -> None:
    process = launch("movie", run, "-o", film, "--seconds", "5", cwd=tmp_path)
    wait_for(lambda: names(tmp_path), process)
    os.killpg(process.pid, signal.SIGTERM)
    status, _, err = ended(process)
    assert (status, err.count("\n")) == (143, 1)
    assert err.startswith(f"stopped by SIGTERM while {tmp_path / film} was being written; repeat")
    assert names(tmp_path) == []


@pytest.mark.slow
@pytest.mark.skipif(find_spec("imageio_ffmpeg") is None, reason="no films in .mp4")
def test_an_ignored_signal_to_all_does_not_end_the_writer_of_a_film(run: Path, tmp_path: Path) -> None:
    """As Ctrl-C in a script that has sent nnsim to the background: ffmpeg listens, whatever it was told to ignore."""
    before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    try:
        process = launch("movie", run, "-o", "film.mp4", "--seconds", "2", cwd=tmp_path)
    finally:
        signal.signal(signal.SIGQUIT, before)
    wait_for(lambda: names(tmp_path), process)
    os.killpg(process.pid, signal.SIGQUIT)
    assert ended(process)[::2] == (0, "")
    assert names(tmp_path) == ["film.mp4"]


def test_a_signal_is_left_to_whoever_listens(tmp_path: Path) -> None:
    """A picture that is drawn during a run is finished, as is the step."""
    with Interrupt(str) as around, whole(tmp_path / "a.csv") as partial:
        partial.touch()
        os.kill(os.getpid(), signal.SIGTERM)
    assert (around.signal, names(tmp_path)) == (signal.SIGTERM, ["a.csv"])
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with whole(tmp_path / "b.csv") as partial:
            partial.touch()
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert names(tmp_path) == ["a.csv", "b.csv"]


def test_many_at_the_same_output(tmp_path: Path) -> None:
    """Each is whole when it appears; one of them stays."""
    path, failures = tmp_path / "table.csv", []

    def write(number: int) -> None:
        try:
            write_table([{"x": number}] * 2000, path)
        except NNSimError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            seen.add(path.read_bytes())
    assert failures == []
    assert {len(set(text.splitlines()[1:])) for text in seen} <= {1}
    assert {text.count(b"\n") for text in seen} <= {2001}
    assert names(tmp_path) == ["table.csv"]


def test_links_and_folders(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "real" / "table.csv")
    write_table(ROWS, link)
    assert link.is_symlink()
    assert names(tmp_path / "real") == ["table.csv"]
    with pytest.raises(TrajectoryError, match="cannot write"), whole(tmp_path / "real" / "table.csv" / "x"):
        raise AssertionError
    with pytest.raises(InputError, match="left alone"), whole(os.devnull, overwrite=True):
        raise AssertionError
