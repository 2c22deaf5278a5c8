"""A trajectory, a sweep or a download may come from anybody: what is in it is data, and nothing more."""

import json
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import error_of, nnsim
from pictured_runs import make_run
from scripts import SWEPT

from nnsim import InputError, NNSimError, NNSimWarning, Trajectory, TrajectoryError
from nnsim.errors import printable
from nnsim.export import export
from nnsim.trajectory.layout import StoredArray
from nnsim.trajectory.record import RECORD, _checksum_of, state_of
from nnsim.trajectory.writer import TrajectoryWriter

ROOT = Path(__file__).parents[2]
EVIL = "\x1b]0;owned\x07\x1b[2J\u202etxt.exe\r\n[link=file:///etc/passwd]x[/link]<script>alert(1)</script>"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "run.zarr", 1).path


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that may be spoilt."""
    shutil.copytree(made, tmp_path / "run.zarr")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run.zarr"


def change(path: Path, **values: Any) -> None:
    """Change a file of metadata, and the checksums with it: who makes a file makes these too."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    root = next((folder for folder in path.parents if folder.suffix == ".zarr"), None)
    if root is None:
        return
    record = json.loads((root / RECORD).read_text())
    if path != root / RECORD:
        name = path.relative_to(root).as_posix()
        record["checksums"][name] = [state_of(root, name)]
    record.pop("checksum", None)
    (root / RECORD).write_text(json.dumps({**record, "checksum": _checksum_of(record)}))


def counts_of(run: Path) -> dict[str, int]:
    return json.loads((run / "nnsim" / ".zattrs").read_text())["committed"]


def everything_below(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


# --------------------------------------------------------------------------------------------------------------- codecs


class Bomb:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


READERS: dict[str, Callable[[Path], object]] = {
    "values": lambda run: Trajectory(run)["weight_norm"][:],
    "tables": lambda run: Trajectory(run).bias("wl").tables,
    "snapshots": lambda run: Trajectory(run).bias("wl").snapshots["potential"][-1],
    "positions": lambda run: Trajectory(run).parameters_at(),
    "thinned": lambda run: Trajectory(run).thinned(20)["weight_norm"].step,
    "export": lambda run: export(run, run.with_name("out.npz")),
    "resume": lambda run: TrajectoryWriter.resume(run, counts_of(run)),
    "table of a bias": lambda run: TrajectoryWriter.resume(run, {}).put("nnsim/bias/wl/potential", [0.0]),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("reader", READERS)
def test_a_pickle_never_runs(run: Path, reader: str) -> None:
    for metadata in run.rglob(".zarray"):
        change(metadata, filters=[{"id": "pickle", "protocol": 5}], compressor=None, dtype="|O")
        for chunk in metadata.parent.glob("[0-9]*"):
            chunk.write_bytes(pickle.dumps(Bomb(run.parent / "owned")))
    with pytest.raises(TrajectoryError, match=r"has filters .*pickle.* runs no other codec; take the trajectory as"):
        READERS[reader](run)
    assert not (run.parent / "owned").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"filters": [{"id": "fixedscaleoffset"}]}, "has filters"),
        ({"compressor": None}, "has compressor None"),
        ({"compressor": {"id": "blosc", "cname": "zstd"}}, "has compressor"),
        ({"compressor": {"id": "pickle"}}, "has compressor"),
        ({"compressor": {"id": "zstd", "level": 1, "more": "x"}}, "has compressor"),
        ({"compressor": "zstd"}, "has compressor"),
        ({"dtype": "|O"}, "has values of type"),
        ({"dtype": [["a", "<f8"]]}, "has values of type"),
    ],
)
def test_only_what_nnsim_writes_is_decoded(run: Path, changes: dict[str, Any], words: str) -> None:
    metadata = run / "observables" / "weight_norm" / "value" / ".zarray"
    stored = StoredArray(metadata.parent)
    change(metadata, **changes)
    with pytest.raises(TrajectoryError, match=words):
        Trajectory(run)
    with pytest.raises(TrajectoryError, match=words):
        stored.read(0, 1)  # changed after it was looked at
    assert words in error_of("info", run)


def test_nothing_is_unpickled_anywhere() -> None:
    """numpy, torch and pandas have such ways in, which stay shut."""
    ways = (
        r"allow_pickle=True|\bpickle\.loads?\(|read_pickle|joblib\.load|weights_only=False|\btorch\.load\((?!.*weights)"
    )
    files = [file for part in ("nnsim", "systems", "bias", "integrators") for file in (ROOT / part).rglob("*.py")]
    assert len(files) > 100
    assert [str(file) for file in files if re.search(ways, file.read_text())] == []


# ---------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name",
    ["observables/../../victim", "../victim", "observables/..", "observables/a/../../../victim", "observables/\x1b[2J",
     "{victim}", "observables/{victim}", "nnsim/bias/../snapshots/potential", "nnsim/bias/wl/snapshots/..", ""],
)  # fmt: skip
def test_names_of_series_stay_inside(run: Path, name: str) -> None:
    victim = run.parent / "victim"
    shutil.copytree(run / "observables" / "weight_norm", victim)
    before = everything_below(run.parent)
    name = name.format(victim=victim)
    counts = counts_of(run)
    change(run / "nnsim" / ".zattrs", committed={**counts, name: 3})
    with pytest.raises(TrajectoryError, match="no series is called") as caught:
        Trajectory(run)
    assert str(caught.value).isprintable()
    for asked in (counts, {**counts, name: 3}, {}):
        with pytest.raises(NNSimError):
            TrajectoryWriter.resume(run, asked)
    change(run / "nnsim" / ".zattrs", committed=counts)
    with pytest.raises(InputError):  # what the checkpoint holds
        TrajectoryWriter.resume(run, {**counts, name: 3})
    after = everything_below(run.parent)
    after.pop(str(run / "nnsim" / ".zattrs"))
    before.pop(str(run / "nnsim" / ".zattrs"))
    assert after == before


@pytest.mark.parametrize("place", ["observables/weight_norm", "observables/weight_norm/value", "nnsim/bias/other"])
def test_links_lead_nobody_out(run: Path, place: str) -> None:
    victim, link = run.parent / "victim", run / place
    shutil.copytree(run / "observables" / "weight_norm", victim)
    if link.exists():
        shutil.rmtree(link)
    link.symlink_to(victim if link.name != "value" else victim / "value")
    before = everything_below(victim)
    for counts in ({**counts_of(run), "observables/weight_norm": 3}, {}):
        with pytest.raises(TrajectoryError, match="is a link"):
            TrajectoryWriter.resume(run, counts)
    assert everything_below(victim) == before


@pytest.mark.parametrize("count", [-1, 2.5, "3", True, None, [1]])
def test_counts_are_numbers(run: Path, count: Any) -> None:
    change(run / "nnsim" / ".zattrs", committed={**counts_of(run), "observables/weight_norm": count})
    with pytest.raises(TrajectoryError, match="frames of observables/weight_norm"):
        Trajectory(run)


@pytest.mark.parametrize("name", ["evil\x1b[2J", "two\nlines", "\u202egnp"])
def test_names_of_biases_and_tables(run: Path, name: str) -> None:
    biases = run / "nnsim" / "bias"
    shutil.copytree(biases / "wl" / "potential", biases / "wl" / name)
    with pytest.raises(TrajectoryError, match="is called"):
        _ = Trajectory(run).bias("wl").tables
    shutil.rmtree(biases / "wl" / name)
    shutil.copytree(biases / "wl", biases / name)
    assert "is called" in error_of("info", run)


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A sweep that has been planned, and beside it what nobody may touch."""
    from nnsim.running.script import Script
    from nnsim.running.sweep import Sweep

    monkeypatch.chdir(tmp_path)
    Path("input.py").write_text(SWEPT)
    planned = Sweep(Script(Path("input.py")), tmp_path / "input-sweep", grid=["n=1,2"])
    (tmp_path / "input-sweep").mkdir()
    planned._prepare()
    (tmp_path / "victim").mkdir()
    for folder in (tmp_path, tmp_path / "victim"):
        for name in ("log.txt", "done.json", "run.checkpoint.npz"):
            (folder / name).write_text("{}")
    before = {name: text for name, text in everything_below(tmp_path).items() if "input-sweep" not in name}
    yield tmp_path / "input-sweep"
    assert {name: text for name, text in everything_below(tmp_path).items() if "input-sweep" not in name} == before


@pytest.mark.parametrize("name", ["..", ".", "../victim", "{victim}", "a/../../victim", "\x1b[2J"])
def test_points_of_a_sweep_stay_inside(sweep: Path, name: str) -> None:
    plan = json.loads((sweep / "sweep.json").read_text())
    plan["points"][name.format(victim=sweep.parent / "victim")] = {"n": 3}
    (sweep / "sweep.json").write_text(json.dumps(plan))
    commands = [
        ("sweep", "input.py", "--grid", "n=1,2"),
        ("sweep", "input.py", "--grid", "n=1,2", "--overwrite"),
        ("plot", "map", sweep, "--x", "n", "--value", "seconds"),
        ("analyze", "scaling", sweep, "--x", "n", "--value", "seconds"),
        ("plot", "evolution", sweep),
    ]
    for command in commands:
        assert "sweep.json is damaged: no point is called" in error_of(*command)


def test_a_point_that_is_a_link(sweep: Path) -> None:
    from nnsim.running.script import Script
    from nnsim.running.sweep import Sweep

    (sweep / "n=1").symlink_to(sweep.parent / "victim")
    Sweep(Script(Path("input.py")), sweep, grid=["n=1,2"], overwrite=True)._prepare()
    assert not (sweep / "n=1").exists()


# ---------------------------------------------------------------------------------------------------- what people see


def only_text(*shown: str) -> None:
    for text in shown:
        assert all(one.isprintable() or one == "\n" for one in text), [one for one in text if not one.isprintable()]


def test_printable() -> None:
    assert printable("plain text, ä and 你") == "plain text, ä and 你"
    assert printable("a\x1b[0m\u202e\n\t\x9b\udc80") == r"a\x1b[0m\u202e\n\t\x9b\udc80"
    assert printable("a\nb", keep="\n") == "a\nb"
    for kind in (InputError, TrajectoryError, NNSimWarning):
        only_text(str(kind(EVIL.replace("\n", ""))))


def spoil(run: Path) -> None:
    """Write it wherever a text can stand."""
    header = {
        "system": {"type": EVIL, "module": EVIL, EVIL: EVIL}, "integrator": {"type": EVIL, EVIL: EVIL}, "seed": EVIL,
        "precision": EVIL, "platform": EVIL, "platform_reason": EVIL, "settings": {EVIL: EVIL}, "walkers": 3,
        "versions": {"nnsim": EVIL, EVIL: "1"}, "script": f'"""{EVIL}"""\n', "target": 400, "threads": EVIL,
        "changes": [{"step": 3, "changed": [EVIL], "script": EVIL}], "step_error": {"words": EVIL},
    }  # fmt: skip
    change(run / "parameters" / "nnsim" / ".zattrs", **header)
    change(run / "nnsim" / "bias" / "wl" / ".zattrs", increment=EVIL, deposits=EVIL)


def test_a_terminal_shows_what_files_hold_and_does_not_obey(run: Path) -> None:
    spoil(run)
    shown = nnsim("info", run)
    assert shown.status == 0
    assert r"\x1b]0;owned\x07" in shown.out
    only_text(shown.out, shown.err)
    for command in (("plot", "convergence", run), ("analyze", "equilibrium", run, "--of", EVIL), ("info", EVIL)):
        only_text(*nnsim(*command)[1:], *nnsim(*command, "--debug")[1:])


@pytest.mark.slow
def test_a_report_shows_them_as_text(run: Path) -> None:
    spoil(run)
    change(run / "nnsim" / "bias" / "wl" / ".zattrs", increment=1e-4, deposits=0)
    shown = nnsim("report", run, "-o", "report.html", "--title", EVIL)
    assert shown.status == 0, shown
    page = Path("report.html").read_text()
    only_text(shown.out, shown.err, page.replace("\t", ""))
    assert "<script" not in page
    assert r"\x1b]0;owned\x07" in page
    assert "&lt;script&gt;" in page


def test_a_sweep_shows_them_as_text(sweep: Path) -> None:
    for name in ("n=1", "n=2"):
        (sweep / name).mkdir()
        record = {
            "settings": {"n": 1, "seed": EVIL},
            "message": EVIL,
            "seconds": 1.0,
            "observables": {EVIL: {"last": 1}},
        }
        (sweep / name / "failed.json").write_text(json.dumps(record))
    for command in (
        ("plot", "map", sweep, "--x", "n", "--value", "missing"),
        ("analyze", "scaling", sweep, "--x", "n", "--value", f"{EVIL}_last"),
        ("plot", "evolution", sweep),
    ):
        shown = nnsim(*command)
        assert shown.status == 2
        only_text(shown.out, shown.err)
