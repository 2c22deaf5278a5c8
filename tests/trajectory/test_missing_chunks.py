"""A chunk that is lost is named, and never read as numbers."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import zarr
from command_line import error_of, nnsim
from numcodecs import Zstd

from nnsim import Simulation, Trajectory, TrajectoryError, cv, report
from nnsim.cli.info import describe_trajectory
from nnsim.integrators import Langevin
from nnsim.systems import AnalyticSystem, Harmonic
from nnsim.trajectory import columns as trajectory_columns
from nnsim.trajectory.columns import Column, missing_value
from nnsim.trajectory.writer import TrajectoryWriter


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of 40 frames in chunks of 10, of which one is lost."""
    monkeypatch.setattr(trajectory_columns, "MOST_FRAMES", 10)
    path = tmp_path / "run.zarr"
    Simulation(
        AnalyticSystem(3, Harmonic(), start=0.5), Langevin(0.05, 1.0), observe=[cv.WeightNorm()], walkers=2, every=1
    ).run(40, output=path, progress=False)
    assert Trajectory(path).missing() == []
    (path / "observables" / "weight_norm" / "value" / "2.0").unlink()
    return path


LOST = "observables/weight_norm/value/2.0"


@pytest.mark.slow
def test_every_reader_names_it(run: Path, tmp_path: Path) -> None:
    trajectory = Trajectory(run)
    assert trajectory.missing() == [LOST]
    assert np.isfinite(trajectory["weight_norm"][:20]).all()
    for read in (lambda: trajectory["weight_norm"][:], lambda: list(trajectory["weight_norm"].blocks())):
        with pytest.raises(TrajectoryError, match=rf"{LOST}: missing: the trajectory is cut off or damaged"):
            read()
    told = nnsim("info", run)
    assert told.status == 0
    assert re.search(rf"missing: +{LOST}\n", told.out)
    for command in (
        ("plot", "histogram", run, "--observable", "weight_norm", "-o", tmp_path / "b.png"),
        ("plot", "timeseries", run, "--observable", "weight_norm", "-o", tmp_path / "a.png"),
        ("export", run, tmp_path / "a.csv"),
    ):
        assert f"{LOST}: missing" in error_of(*command)
    page = tmp_path / "report.html"
    assert nnsim("report", run, "-o", page).status == 0
    assert f"{LOST}: missing" in page.read_text() or f"missing: {LOST}" in page.read_text()


@pytest.mark.slow
def test_a_report_of_whatever_is_lost_is_a_page(run: Path) -> None:
    """A chunk of each array in its turn, also of the clocks: the page names it, and info goes on."""
    (run / LOST).write_bytes((run / "observables/weight_norm/value/1.0").read_bytes())
    chunks = [file for file in run.rglob("*") if file.is_file() and not file.name.startswith(".")]
    assert {file.parent.name for file in chunks} == {"value", "step", "time"}
    for file in {file.parent: file for file in chunks}.values():
        content, name = file.read_bytes(), file.relative_to(run).as_posix()
        file.unlink()
        assert f"missing: {name}" in report.make(run)
        assert describe_trajectory(Trajectory(run))["missing"] == name
        file.write_bytes(content)


def test_a_lost_table_is_named(tmp_path: Path) -> None:
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {})
    writer.put("nnsim/bias/b/t", np.ones(3))
    writer.close()
    (tmp_path / "run.zarr/nnsim/bias/b/t/0").unlink()
    assert Trajectory(tmp_path / "run.zarr").missing() == ["nnsim/bias/b/t/0"]


@pytest.mark.parametrize(
    ("dtype", "missing"),
    [("f4", np.nan), ("f8", np.nan), ("c8", complex("nan+0j")), ("i4", -1), ("i8", -1), ("u1", 255), ("?", False)],
)
def test_other_programs_find_no_plausible_number(tmp_path: Path, dtype: str, missing: object) -> None:
    """As zarr reads it: NaN or -1; and frames that are equal to that have a file of their own."""
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {})
    writer.append("observables/x", 1, 0.5, np.full(3, missing, dtype=dtype))
    writer.put("nnsim/bias/b/t", np.full(3, missing, dtype=dtype))
    writer.close()
    for name in ("observables/x/value", "nnsim/bias/b/t"):
        folder = tmp_path / "run.zarr" / name
        (file,) = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        file.unlink()
        read = np.asarray(zarr.open_array(str(folder), mode="r", zarr_format=2)[...])
        np.testing.assert_array_equal(read, np.full(read.shape, missing, dtype=dtype))


@pytest.mark.parametrize("dtype", ["?", "i1", "i8", "u1", "u8", "f2", "f4", "f8", "c8", "c16", ">f8"])
def test_metadata_are_those_of_zarr(tmp_path: Path, dtype: str) -> None:
    """A growing array is, file by file, what zarr would have written, and zarr reads it."""
    values = np.arange(14).reshape(7, 2).astype(dtype)
    column = Column(tmp_path / "ours", np.empty((3, 2), dtype))
    for row in values:
        column.add(row[None])
        if not column.room:
            column.write()
    column.write()
    theirs = zarr.create_array(
        zarr.storage.LocalStore(tmp_path / "theirs"),
        shape=values.shape,
        chunks=(3, 2),
        dtype=values.dtype,
        compressors=Zstd(level=1, checksum=True),
        fill_value=missing_value(values.dtype),
        zarr_format=2,
        config={"write_empty_chunks": True},
    )
    theirs[...] = values
    ours = zarr.open_array(str(tmp_path / "ours"), mode="r", zarr_format=2)
    assert np.array_equal(ours[...], values)
    assert ours.dtype == values.dtype
    known, expected = (json.loads((tmp_path / name / ".zarray").read_text()) for name in ("ours", "theirs"))
    assert known == expected
    chunks = {f"{index}.0" for index in range(3)}
    for name in sorted(chunks):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    assert {file.name for file in (tmp_path / "ours").iterdir()} == chunks | {".zarray"}
