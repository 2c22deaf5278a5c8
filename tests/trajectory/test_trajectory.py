"""Trajectories: what is written comes back, nothing more than committed is seen, and every failure says what to do."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import zarr

from nnsim.errors import InputError, TrajectoryError
from nnsim.trajectory import columns as trajectory_columns
from nnsim.trajectory import writer as trajectory_writer
from nnsim.trajectory.layout import LAYOUT_VERSION, STARTING, is_starting
from nnsim.trajectory.reader import Trajectory
from nnsim.trajectory.writer import TrajectoryWriter

POSITION = "particles/parameters/position"
LOSS = "observables/ln_loss_train"
ACCURACY = "observables/accuracy (test)"
TABLE = "nnsim/bias/wang_landau/snapshots/potential"


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 7 positions, 10 losses, 11 steps: no two boundaries together."""
    monkeypatch.setattr(trajectory_columns, "CHUNK_BYTES", 7 * 2 * 3 * 4)
    monkeypatch.setattr(trajectory_columns, "MOST_FRAMES", 11)


def frame(series: str, step: int) -> np.ndarray:
    """The frame of a step: a pure function, so that interrupted and uninterrupted runs can be compared."""
    random_numbers = np.random.default_rng([step, len(series)])
    shape, dtype = {POSITION: ((2, 3), "f4"), LOSS: ((2,), "f8"), ACCURACY: ((), "f8"), TABLE: ((4, 2), "f8")}[series]
    return random_numbers.normal(size=shape).astype(dtype)


EVERY = {LOSS: 1, ACCURACY: 2, POSITION: 3, TABLE: 5}


def advance(writer: TrajectoryWriter, start: int, stop: int) -> None:
    for step in range(start + 1, stop + 1):
        for series, every in EVERY.items():
            if step % every == 0:
                writer.append(series, step, 0.25 * step, frame(series, step))


def expected(series: str, steps: int) -> np.ndarray:
    return np.stack([frame(series, step) for step in range(EVERY[series], steps + 1, EVERY[series])])


def all_series(trajectory: Trajectory) -> dict[str, Any]:
    return dict(trajectory._series)


def assert_holds(path: Path, steps: int) -> None:
    trajectory = Trajectory(path)
    for name, every in EVERY.items():
        count = steps // every
        series = all_series(trajectory).get(name)
        assert (0 if series is None else len(series)) == count
        if series is not None:
            assert np.array_equal(series[:], expected(name, steps))
            assert np.array_equal(series.step, np.arange(1, count + 1) * every)
            assert np.array_equal(series.time, np.arange(1, count + 1) * every * 0.25)


def arrays_of(path: Path) -> dict[str, tuple]:
    """Values, metadata and names of chunk files of every array, read by zarr itself."""
    found = {}
    for file in sorted(path.rglob(".zarray")):
        name = file.parent.relative_to(path).as_posix()
        array = zarr.open_array(str(file.parent), mode="r", zarr_format=2)
        chunks = sorted(p.name for p in file.parent.iterdir() if not p.name.startswith("."))
        found[name] = (file.read_text(), chunks, np.asarray(array[...]).tobytes())
    return found


def finished(path: Path, steps: int) -> TrajectoryWriter:
    writer = TrajectoryWriter.create(path, {"seed": 1})
    advance(writer, 0, steps)
    writer.close()
    return writer


# ------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("pieces", [[61], [1] * 61, [7, 7, 7, 40], [10, 1, 11, 39], [50, 11]])
def test_many_frames_at_once_are_those_added_one_by_one(tmp_path: Path, small_chunks: None, pieces: list[int]) -> None:
    """To the byte of every chunk, wherever pieces and chunks begin and end."""
    finished(tmp_path / "one.zarr", 61)
    writer, begin = TrajectoryWriter.create(tmp_path / "many.zarr", {"seed": 1}), 0
    for count in pieces:
        for series, every in EVERY.items():
            steps = np.array([step for step in range(begin + 1, begin + count + 1) if step % every == 0])
            if len(steps):
                writer.extend(series, steps, 0.25 * steps, np.stack([frame(series, step) for step in steps.tolist()]))
        begin += count
    writer.close()
    assert arrays_of(tmp_path / "one.zarr") == arrays_of(tmp_path / "many.zarr")


def test_frames_that_do_not_fit_are_refused_together(tmp_path: Path) -> None:
    writer = finished(tmp_path / "run.zarr", 5)
    with pytest.raises(TrajectoryError, match="closed"):
        writer.extend(LOSS, np.array([6]), np.array([1.5]), np.zeros((1, 2)))
    writer = TrajectoryWriter.resume(tmp_path / "run.zarr", {LOSS: 5})
    with pytest.raises(InputError, match="shape and type of the first"):
        writer.extend(LOSS, np.array([6, 7]), np.array([1.5, 1.75]), np.zeros((2, 3)))
    writer.close()
    assert len(all_series(Trajectory(tmp_path / "run.zarr"))[LOSS]) == 5


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run.zarr"
    header = {"seed": 4, "parameters": {"w": [2, 3]}, "script": "ü\n", "np": np.float64(0.5), "a": np.arange(2)}
    writer = TrajectoryWriter.create(path, header)
    advance(writer, 0, 30)
    writer.put("nnsim/bias/wang_landau/potential", np.arange(8.0).reshape(4, 2), {"unit": "kT"})
    writer.set_attrs("nnsim/bias/wang_landau", {"type": "WangLandau", "edges": np.linspace(0, 1, 3)})
    counts = writer.flush()
    assert counts == {LOSS: 30, ACCURACY: 15, POSITION: 10, TABLE: 6}
    writer.close()

    trajectory = Trajectory(str(path))
    assert trajectory.path == path
    assert trajectory.header == {"seed": 4, "parameters": {"w": [2, 3]}, "script": "ü\n", "np": 0.5, "a": [0, 1]}
    assert trajectory.observables == ["accuracy (test)", "ln_loss_train"] == list(trajectory)
    assert "ln_loss_train" in trajectory
    assert trajectory.velocities is None
    assert trajectory.positions is not None
    assert trajectory.positions.shape == (10, 2, 3)
    assert trajectory.positions.dtype == np.float32
    assert trajectory.steps == 30
    assert trajectory["accuracy (test)"].shape == (15,)
    bias = trajectory.bias("wang_landau")
    assert trajectory.bias_names == ["wang_landau"]
    assert bias.attrs == {"type": "WangLandau", "edges": [0.0, 0.5, 1.0]}
    assert bias.table_attrs("potential") == {"unit": "kT"}
    assert np.array_equal(bias.tables["potential"], np.arange(8.0).reshape(4, 2))
    assert np.array_equal(bias.snapshots["potential"][:], expected(TABLE, 30))
    assert_holds(path, 30)
    assert repr(trajectory) == f"Trajectory({str(path)!r}, steps=30: position, accuracy (test), ln_loss_train)"
    assert repr(trajectory.positions) == "Series(position, [10, 2, 3], float32)"
    assert repr(bias) == "BiasRecord(wang_landau: tables potential; snapshots potential)"


def test_layout_is_that_of_h5md_in_zarr_2(tmp_path: Path) -> None:
    finished(tmp_path / "run.zarr", 30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group: Any = zarr.open_group(str(tmp_path / "run.zarr"), mode="r", zarr_format=2)
        assert group["h5md"].attrs["version"] == [1, 1]
        assert group["h5md/creator"].attrs["name"] == "nnsim"
        assert group["h5md/author"].attrs["name"]
        assert group["particles/parameters/position/value"].shape == (10, 2, 3)
        assert group["particles/parameters/position/step"].dtype == np.int64
        assert group["particles/parameters/position/time"].dtype == np.float64
        assert set(group["observables"].group_keys()) == {"accuracy (test)", "ln_loss_train"}
        assert group["parameters/nnsim"].attrs["seed"] == 1
        assert group["nnsim"].attrs["layout"] == LAYOUT_VERSION
    assert not list((tmp_path / "run.zarr").rglob(".zmetadata"))


@pytest.mark.parametrize(("size", "frames"), [(0, 16384), (8, 16384), (1000, 4000), (4_000_000, 1), (9_000_000, 1)])
def test_frames_per_chunk(size: int, frames: int) -> None:
    assert trajectory_columns.frames_per_chunk(size) == frames


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("flush_every", [1, 7, 10, 31, 1000])
def test_buffering_gives_the_same_arrays_whatever_the_flushes(tmp_path: Path, flush_every: int) -> None:
    finished(tmp_path / "straight.zarr", 74)
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {"seed": 1})
    for step in range(74):
        advance(writer, step, step + 1)
        if step % flush_every == 0:
            writer.flush()
            assert_holds(tmp_path / "run.zarr", step + 1)
    writer.close()
    writer.close()
    assert arrays_of(tmp_path / "run.zarr") == arrays_of(tmp_path / "straight.zarr")
    assert_holds(tmp_path / "run.zarr", 74)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (2, 1, 3, 1)])
@pytest.mark.parametrize("dtype", ["?", "i4", "f2", "f8", "c8"])
@pytest.mark.usefixtures("small_chunks")
def test_shapes_and_types(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {})
    frames = [(np.ones(shape) * step).astype(dtype) for step in range(25)]
    for step, value in enumerate(frames):
        writer.append("observables/x", step, step, value)
    counts = writer.flush()
    writer.release()
    writer = TrajectoryWriter.resume(tmp_path / "run.zarr", dict.fromkeys(counts, 13))
    for step, value in enumerate(frames[13:], 13):
        writer.append("observables/x", step, step, value)
    writer.close()
    series = Trajectory(tmp_path / "run.zarr")["x"]
    assert series.dtype == np.dtype(dtype)
    assert np.array_equal(series[:], np.stack(frames))
    assert np.array_equal(series.step, np.arange(25))


def test_frames_are_copied_and_zeros_are_stored(tmp_path: Path) -> None:
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {})
    value = np.zeros(3)
    writer.append("observables/x", 1, 0.1, value)
    value += 1
    writer.close()
    assert np.array_equal(Trajectory(tmp_path / "run.zarr")["x"][0], np.zeros(3))


def test_frame_larger_than_a_chunk_is_written_at_once(tmp_path: Path) -> None:
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {})
    for step in range(2):
        writer.append(POSITION, step, step, np.full((1, 600_000), float(step)))
    value = tmp_path / "run.zarr" / POSITION / "value"
    assert {"0.0.0", "1.0.0"} <= set(os.listdir(value))
    writer.close()
    positions = Trajectory(tmp_path / "run.zarr").positions
    assert positions is not None
    assert positions[1, 0, -1] == 1.0


def test_tables_are_replaced(tmp_path: Path) -> None:
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {})
    for table in (np.zeros((2, 3)), np.ones((2, 3)), np.ones(4), np.array(2.5), np.zeros((0, 2)), np.arange(3)):
        writer.put("nnsim/bias/b/t", table)
        got = Trajectory(tmp_path / "run.zarr").bias("b").tables
        assert list(got) == ["t"]
        assert np.array_equal(got["t"], table)
        assert got["t"].dtype == table.dtype
        assert len([p for p in (tmp_path / "run.zarr/nnsim/bias/b/t").iterdir() if not p.name.startswith(".")]) <= 1
    writer.flush()


def test_attributes_are_added(tmp_path: Path) -> None:
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {"a": 1, "b": 2})
    writer.set_attrs("parameters/nnsim", {"b": 3})
    assert Trajectory(tmp_path / "run.zarr").header == {"a": 1, "b": 3}


# ---------------------------------------------------------------------------------------------------- reading


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    "key",
    [
        0,
        -1,
        np.int64(9),
        slice(None),
        slice(5, 25),
        slice(-3, None),
        slice(None, None, 4),
        slice(None, None, -1),
        slice(28, 3, -9),
        slice(50, 60),
        [3, 1, 30, 1],
        np.arange(31) % 3 == 0,
        [],
        ...,
        (3, 1),
        (slice(2, 20), 1),
        (slice(2, 20), slice(None), -1),
        (..., 0),
        (slice(None, None, 7), 0, [2, 0]),
        ([4, 20], slice(1), 1),
        (-1, -1, -1),
    ],
    ids=str,
)
def test_indices_are_those_of_numpy(tmp_path: Path, key: Any) -> None:
    finished(tmp_path / "run.zarr", 93)
    series = Trajectory(tmp_path / "run.zarr").positions
    assert series is not None
    want = expected(POSITION, 93)
    key = np.array(key, dtype=int) if isinstance(key, list) and not key else key
    assert np.array_equal(series[key], want[key])
    assert series[key].dtype == want.dtype


@pytest.mark.usefixtures("small_chunks")
def test_series_as_arrays_and_in_loops(tmp_path: Path) -> None:
    finished(tmp_path / "run.zarr", 40)
    series = Trajectory(tmp_path / "run.zarr")["ln_loss_train"]
    want = expected(LOSS, 40)
    assert np.array_equal(np.asarray(series), want)
    assert np.asarray(series, dtype=np.float32).dtype == np.float32
    assert np.mean(series) == want.mean()
    assert np.array_equal(np.stack(list(series)), want)
    got = series[3]
    got += 1
    series.step[:] = 0
    assert np.array_equal(series[3], want[3])
    assert series.step[0] == 1


@pytest.mark.parametrize("key", [40, -41, (0, 2), (0, 0, 0), None, ([0], [1]), [[1, 2], [3, 4]], (0, ..., 5)], ids=str)
def test_wrong_indices(tmp_path: Path, key: Any) -> None:
    finished(tmp_path / "run.zarr", 40)
    with pytest.raises(IndexError):
        Trajectory(tmp_path / "run.zarr")["ln_loss_train"][key]


@pytest.mark.usefixtures("small_chunks")
def test_readers_stop_at_committed_until_they_refresh(tmp_path: Path) -> None:
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {})
    empty = Trajectory(tmp_path / "run.zarr")
    assert empty.observables == []
    assert empty.positions is None
    assert empty.steps == 0
    assert repr(empty).endswith("no frames yet)")
    advance(writer, 0, 25)
    assert (tmp_path / "run.zarr" / LOSS / "value" / "1.0").exists()
    empty.refresh()
    assert empty.observables == []
    writer.flush()

    reader = Trajectory(tmp_path / "run.zarr")
    series = reader["ln_loss_train"]
    advance(writer, 25, 48)
    for _ in range(2):
        assert len(series) == 25
        assert np.array_equal(series[-1], frame(LOSS, 25))
        assert np.array_equal(series[:], expected(LOSS, 25))
        writer.flush()
    reader.refresh()
    assert len(series) == len(series.step) == 48
    assert np.array_equal(series[:], expected(LOSS, 48))
    assert reader.steps == 48
    writer.close()


@pytest.mark.usefixtures("small_chunks")
def test_reader_survives_a_resume(tmp_path: Path) -> None:
    finished(tmp_path / "run.zarr", 40)
    reader = Trajectory(tmp_path / "run.zarr")
    series, table = reader["ln_loss_train"], reader.bias("wang_landau").snapshots["potential"]
    writer = TrajectoryWriter.resume(tmp_path / "run.zarr", {LOSS: 4})
    for read in (lambda: series[-1], lambda: series.step, lambda: table[:], lambda: reader.steps):
        with pytest.raises(
            TrajectoryError, match=r"resumed from an earlier checkpoint while this was open; call refresh"
        ):
            read()
    reader.refresh()
    assert np.array_equal(series[:], expected(LOSS, 4))
    assert len(table) == 0
    assert table[:].shape == (0, 4, 2)
    assert table.step.dtype == np.int64
    writer.close()


# ------------------------------------------------------------------------------------------ truncate and resume


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("stop", "beyond"), [(1, 0), (1, 40), (2, 13), (9, 1), (10, 40), (11, 0), (20, 13), (21, 1), (22, 40), (33, 13)]
)
def test_resume_equals_an_uninterrupted_run(tmp_path: Path, stop: int, beyond: int) -> None:
    path = tmp_path / "run.zarr"
    finished(tmp_path / "straight.zarr", 74)
    writer = TrajectoryWriter.create(path, {"seed": 1})
    advance(writer, 0, stop)
    counts = writer.flush()
    advance(writer, stop, stop + beyond)
    if beyond == 40:
        writer.flush()
    (path / LOSS / "value" / "0.abc.partial").write_text("left over")
    (path / "nnsim" / ".t.abc.partial").mkdir(exist_ok=True)
    writer.release()  # as a kill does
    writer = TrajectoryWriter.resume(path, counts)
    assert not list(path.rglob("*.partial"))
    assert_holds(path, stop)
    assert writer.flush() == counts
    assert_holds(path, stop)
    advance(writer, stop, 74)
    writer.close()
    assert arrays_of(path) == arrays_of(tmp_path / "straight.zarr")


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
def test_resume_from_before_the_first_checkpoint(tmp_path: Path) -> None:
    finished(tmp_path / "straight.zarr", 50)
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {"seed": 1})
    advance(writer, 0, 30)
    writer.flush()
    writer.release()
    writer = TrajectoryWriter.resume(tmp_path / "run.zarr", {})
    assert Trajectory(tmp_path / "run.zarr").observables == []
    advance(writer, 0, 50)
    writer.close()
    assert arrays_of(tmp_path / "run.zarr") == arrays_of(tmp_path / "straight.zarr")


def test_resume_with_more_than_there_is(tmp_path: Path) -> None:
    finished(tmp_path / "run.zarr", 20)
    before = arrays_of(tmp_path / "run.zarr")
    with pytest.raises(TrajectoryError, match="20 frames where the checkpoint has 21"):
        TrajectoryWriter.resume(tmp_path / "run.zarr", {LOSS: 21})
    with pytest.raises(TrajectoryError, match="missing"):
        TrajectoryWriter.resume(tmp_path / "run.zarr", {"observables/other": 1})
    assert arrays_of(tmp_path / "run.zarr") == before
    assert_holds(tmp_path / "run.zarr", 20)


def test_resume_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(TrajectoryError, match="does not exist"):
        TrajectoryWriter.resume(tmp_path / "run.zarr", {})


# -------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "series",
    [
        *(
            "x",
            "/observables/x",
            "observables/",
            "observables/a/b",
            "observables/..",
            "observables/.x",
            "observables/a?",
        ),
        *("observables/a\n", "observables/" + "x" * 201, "particles/parameters/force"),
        *("nnsim/bias/a/potential", "nnsim/bias/../snapshots/x"),
    ],
    ids=repr,
)
def test_names_that_are_no_file_names(tmp_path: Path, series: str) -> None:
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {})
    with pytest.raises(InputError, match=r"(rename it|use letters)"):
        writer.append(series, 0, 0.0, np.zeros(2))
    assert writer.flush() == {}


def test_frames_unlike_the_first(tmp_path: Path) -> None:
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {})
    writer.append("observables/x", 0, 0.0, np.zeros(2))
    writer.append("observables/x", 1, 0.0, np.zeros(2, dtype=np.float32))
    for bad in (np.zeros(3), np.zeros((1, 2)), np.zeros(2, dtype=complex)):
        with pytest.raises(InputError, match=r"observables/x: a frame of .* after frames of float64\[2\]"):
            writer.append("observables/x", 2, 0.0, bad)
    for bad in (np.array(["a"]), np.array([None])):
        with pytest.raises(InputError, match="use numbers"):
            writer.append("observables/y", 2, 0.0, bad)
    assert writer.flush() == {"observables/x": 2}


@pytest.mark.parametrize("path", ["x", "nnsim/bias/b", "nnsim/bias/b/snapshots", "nnsim/bias/b/c/d", "observables/x"])
def test_places_where_nothing_is_put(tmp_path: Path, path: str) -> None:
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {})
    with pytest.raises(InputError, match="rename it"):
        writer.put(path, np.zeros(2))
    with pytest.raises(InputError, match="must be parameters/nnsim or nnsim/bias/NAME"):
        writer.set_attrs("nnsim", {"committed": {}})


def test_header_that_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nnsim: not storable as JSON"):
        TrajectoryWriter.create(tmp_path / "run.zarr", {"x": object()})
    assert os.listdir(tmp_path) == []


def test_existing_output(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    finished(path, 20)
    with pytest.raises(TrajectoryError, match=r"run.zarr exists already; .*--overwrite.*--resume.*another output"):
        TrajectoryWriter.create(path, {})
    assert_holds(path, 20)
    TrajectoryWriter.create(path, {"seed": 2}, overwrite=True)
    assert Trajectory(path).header == {"seed": 2}
    assert Trajectory(path).observables == []
    assert os.listdir(tmp_path) == ["run.zarr"]


def test_damaged_trajectory_can_be_overwritten(tmp_path: Path) -> None:
    finished(tmp_path / "run.zarr", 20)
    (tmp_path / "run.zarr/nnsim/.zattrs").write_text("{")
    TrajectoryWriter.create(tmp_path / "run.zarr", {}, overwrite=True)
    assert Trajectory(tmp_path / "run.zarr").steps == 0


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_not_ours_is_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    folder, file = tmp_path / "thesis", tmp_path / "thesis.txt"
    folder.mkdir()
    (folder / "chapter").write_text("years of work")
    (folder / STARTING).write_text("")
    file.write_text("too")
    zarr.create_array(str(tmp_path / "array.zarr"), shape=(2,), dtype="f8", zarr_format=2)
    for target in (folder, file, tmp_path / "array.zarr"):
        with pytest.raises(TrajectoryError, match="not a trajectory of nnsim, so it is left alone"):
            TrajectoryWriter.create(target, {}, overwrite=overwrite)
    assert (folder / "chapter").read_text() == "years of work"
    assert file.read_text() == "too"


@pytest.mark.parametrize("names", [[], [STARTING]])
def test_marker_counts_as_absent(tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / "run.zarr"
    path.mkdir()
    for name in names:
        (path / name).write_text("")
    assert is_starting(path)
    for reader in (Trajectory, lambda path: TrajectoryWriter.resume(path, {})):
        with pytest.raises(TrajectoryError, match="the run has not written anything yet"):
            reader(path)
    TrajectoryWriter.create(path, {})
    assert not is_starting(path)
    assert Trajectory(path).steps == 0
    assert not (path / STARTING).exists()


def test_leftovers_of_killed_creates_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".run.zarr.0.new.partial" / "h5md").mkdir(parents=True)
    (tmp_path / ".run.zarr.0.old.partial").mkdir()
    (tmp_path / ".other.zarr.0.new.partial").mkdir()
    TrajectoryWriter.create(tmp_path / "run.zarr", {})
    assert sorted(os.listdir(tmp_path)) == [".other.zarr.0.new.partial", "run.zarr"]


def test_output_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target in (
        tmp_path / "file" / "run.zarr",
        tmp_path / "file" / "deep" / "run.zarr",
        Path("/proc/nnsim/run.zarr"),
    ):
        with pytest.raises(TrajectoryError, match=r"cannot write .*run.zarr: .*; ") as caught:
            TrajectoryWriter.create(target, {})
        assert "\n" not in str(caught.value)


def test_output_through_a_link_and_a_changed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "link.zarr").symlink_to(tmp_path / "scratch" / "run.zarr")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        writer = TrajectoryWriter.create("link.zarr", {}, overwrite=True)
        os.chdir("/")
        advance(writer, 0, 5)
        writer.close()
        os.chdir(tmp_path)
        assert (tmp_path / "link.zarr").is_symlink()
        assert Trajectory("link.zarr").steps == 5


# ------------------------------------------------------------------------------------------- damaged trajectories


def test_paths_that_are_no_trajectory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_text("")
    zarr.create_array(str(tmp_path / "v2"), shape=(2,), dtype="f8", zarr_format=2)
    zarr.open_group(str(tmp_path / "v3"), mode="w", zarr_format=3)
    for name, words in {
        "missing": "does not exist; check the path",
        "file": "is a file, not a trajectory",
        "folder": "is not a zarr folder",
        "v2": "is a zarr folder but not a trajectory of nnsim",
        "v3": "is a zarr folder but not a trajectory of nnsim",
    }.items():
        with pytest.raises(TrajectoryError, match=words) as caught:
            Trajectory(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_newer_layout(tmp_path: Path) -> None:
    finished(tmp_path / "run.zarr", 5)
    (tmp_path / "run.zarr/nnsim/.zattrs").write_text(json.dumps({"layout": LAYOUT_VERSION + 1, "committed": []}))
    for reader in (Trajectory, lambda path: TrajectoryWriter.resume(path, {})):
        with pytest.raises(TrajectoryError, match="layout version 2, this nnsim reads up to 1; update nnsim"):
            reader(tmp_path / "run.zarr")


def chunk(path: Path) -> Path:
    return path / LOSS / "value" / "0.0"


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "nnsim/.zattrs").unlink(),
        lambda path: (path / "nnsim/.zattrs").write_text('{"layout": 1, "comm'),
        lambda path: (path / "nnsim/.zattrs").write_text("[]"),
        lambda path: (path / "nnsim/.zattrs").write_text("{}"),
        lambda path: (path / LOSS / "step" / ".zarray").unlink(),
        lambda path: (path / LOSS / "value" / ".zarray").write_text("{}"),
        lambda path: (path / LOSS / "value" / ".zarray").write_bytes(b"\x00\xff"),
        lambda path: shutil.rmtree(path / LOSS),
        lambda path: chunk(path).unlink(),
        lambda path: chunk(path).write_bytes(b""),
        lambda path: chunk(path).write_bytes(chunk(path).read_bytes()[:-20]),
        lambda path: chunk(path).write_bytes(chunk(path).read_bytes()[:-20] + bytes(20)),
        lambda path: (path / LOSS / "step" / "0").unlink(),
        lambda path: zarr.open_array(str(path / LOSS / "time"), mode="r+", zarr_format=2).resize((3,)),
        lambda path: (path / "parameters/nnsim/.zattrs").unlink(),
        lambda path: (path / "nnsim/bias/b/t/0").unlink(),
    ],
)
def test_cut_off(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "run.zarr"
    writer = TrajectoryWriter.create(path, {"seed": 1})
    advance(writer, 0, 20)
    writer.put("nnsim/bias/b/t", np.ones(3))
    writer.close()

    def read_all() -> None:
        trajectory = Trajectory(path)
        _ = trajectory.header, trajectory.bias("b").tables
        for series in all_series(trajectory).values():
            _ = series[:], series.step, series.time

    read_all()
    damage(path)
    with pytest.raises(TrajectoryError, match="cut off or damaged; restore it from a copy") as caught:
        read_all()
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_unknown_names_list_what_there_is(tmp_path: Path) -> None:
    finished(tmp_path / "run.zarr", 5)
    trajectory = Trajectory(tmp_path / "run.zarr")
    with pytest.raises(TrajectoryError, match=r"no observable 'loss'; it has 'accuracy \(test\)', 'ln_loss_train'"):
        trajectory["loss"]
    with pytest.raises(TrajectoryError, match=r"no bias 'x'; it has 'wang_landau'"):
        trajectory.bias("x")


# ------------------------------------------------------------------------------------------------ disks and kills


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("writes", [0, 1, 2, 5, 9, 14, 40, 75])
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """The disk is full after some writes, then has space again: nothing is lost, nothing doubled."""
    path = tmp_path / "run.zarr"
    finished(tmp_path / "straight.zarr", 60)
    writer = TrajectoryWriter.create(path, {"seed": 1})
    advance(writer, 0, 25)
    writer.flush()
    left, real = [writes], trajectory_columns.replace_file

    def put(*arguments: Any, **options: Any) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **options)

    monkeypatch.setattr(trajectory_columns, "replace_file", put)
    stopped = 25

    def run_on() -> None:
        nonlocal stopped
        for step in range(25, 60):
            advance(writer, step, step + 1)
            writer.flush()
            stopped = step + 1

    with pytest.raises(TrajectoryError, match=r"run\.zarr: No space left on device; free some space"):
        run_on()
    assert_holds(path, stopped)
    assert not list(path.rglob("*.partial"))
    monkeypatch.setattr(trajectory_columns, "replace_file", real)
    writer.release()
    writer = TrajectoryWriter.resume(path, {name: stopped // every for name, every in EVERY.items()})
    advance(writer, stopped, 60)
    writer.close()
    assert arrays_of(path) == arrays_of(tmp_path / "straight.zarr")


def test_a_table_that_a_full_disk_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.zarr"
    writer = TrajectoryWriter.create(path, {})
    fails = mock.Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    for what in (trajectory_columns, "replace_file"), (trajectory_writer, "state_of"):
        with monkeypatch.context() as patch:
            patch.setattr(*what, fails)
            with pytest.raises(TrajectoryError, match="No space left on device"):
                writer.put("nnsim/bias/b/t", np.ones(3))
        assert not list(path.rglob("*.partial"))
    writer.put("nnsim/bias/b/t", np.ones(3))
    writer.close()
    assert Trajectory(path).bias("b").tables["t"].tolist() == [1, 1, 1]


@pytest.mark.usefixtures("small_chunks")
def test_a_failed_write_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / "run.zarr", trajectory_columns.replace_file
    writer = TrajectoryWriter.create(path, {})

    def full(*_: Any, **__: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for step in range(1, 41):
        if step == 10:  # the tenth frame fills a chunk of values
            monkeypatch.setattr(trajectory_columns, "replace_file", full)
            with pytest.raises(TrajectoryError, match="No space left"):
                writer.append(LOSS, step, 0.25 * step, frame(LOSS, step))
            with pytest.raises(TrajectoryError, match="No space left"):
                writer.append(LOSS, 11, 0.25 * 11, frame(LOSS, 11))
            monkeypatch.setattr(trajectory_columns, "replace_file", real)
        else:
            writer.append(LOSS, step, 0.25 * step, frame(LOSS, step))
    writer.close()
    series = Trajectory(path)["ln_loss_train"]
    assert np.array_equal(series[:], expected(LOSS, 40))
    assert np.array_equal(series.step, np.arange(1, 41))


def test_committed_file_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.zarr"
    writer = TrajectoryWriter.create(path, {})
    advance(writer, 0, 20)
    writer.flush()
    advance(writer, 20, 30)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TrajectoryError, match="No space left"):
            writer.flush()
    assert_holds(path, 20)
    writer.flush()
    assert_holds(path, 30)


RUN = """
import sys
from pathlib import Path

import test_trajectory
from nnsim.trajectory import columns as trajectory_columns, writer as trajectory_writer
from nnsim.running.checkpoint import load_checkpoint, save_checkpoint
from nnsim.trajectory.writer import TrajectoryWriter
from nnsim.trajectory.layout import is_starting

trajectory_columns.CHUNK_BYTES, trajectory_columns.MOST_FRAMES = 7 * 2 * 3 * 4, 11
path, checkpoint, steps = Path(sys.argv[1]), Path(sys.argv[1]).with_suffix(".npz"), int(sys.argv[2])
print("started", flush=True)
if checkpoint.exists():
    saved = load_checkpoint(checkpoint)
    writer, step = TrajectoryWriter.resume(path, saved["counts"]), saved["step"]
elif path.exists():
    writer, step = TrajectoryWriter.resume(path, {}), 0
else:
    writer, step = TrajectoryWriter.create(path, {"seed": 1}), 0
while step < steps:
    stop = min(step + 1 + step * 7 % 23, steps)
    test_trajectory.advance(writer, step, stop)
    writer.put("nnsim/bias/wang_landau/potential", test_trajectory.frame(test_trajectory.TABLE, stop))
    step = stop
    save_checkpoint(checkpoint, {"step": step, "counts": writer.flush()})
writer.close()
"""


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    path, steps = tmp_path / "run.zarr", 600
    command = [sys.executable, "-c", RUN, str(path), str(steps)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    moments = random.Random(5)
    for kill in range(10):
        run = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        assert run.stdout is not None
        assert run.stdout.readline() == b"started\n"
        if kill == 0:  # as early as there is anything
            while not path.exists():
                time.sleep(0.0005)
        else:
            time.sleep(moments.uniform(0.0, 0.25))
        if kill % 2 and path.exists():
            read_while_it_runs(path, steps)
        assert run.poll() is None, "the run finished before it was killed; give it more steps"
        run.send_signal(signal.SIGKILL)
        run.wait()
        run.stdout.close()
        assert_prefix(path, steps)
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert_holds(path, steps)
    assert not list(path.rglob("*.partial"))
    straight = tmp_path / "straight.zarr"
    subprocess.run([*command[:3], str(straight), str(steps)], env=environment, check=True, capture_output=True)
    assert arrays_of(path) == arrays_of(straight)


def read_while_it_runs(path: Path, steps: int) -> None:
    """Whatever moment it is: the frames are right, or the reader is told that the run has just gone back."""
    try:
        assert_prefix(path, steps)
    except TrajectoryError as error:
        if "call refresh()" not in str(error):
            raise


def assert_prefix(path: Path, steps: int) -> None:
    """What is committed equals the beginning of an uninterrupted run."""
    for name, series in all_series(Trajectory(path)).items():
        count = len(series)
        assert np.array_equal(series[:], expected(name, count * EVERY[name]))
        assert np.array_equal(series.step, np.arange(1, count + 1) * EVERY[name])


# ------------------------------------------------------------------------------------------------------- imports


def test_neither_torch_nor_zarr_is_imported(tmp_path: Path) -> None:
    finished(tmp_path / "run.zarr", 5)
    code = """
import sys
import nnsim.trajectory.reader
trajectory = nnsim.trajectory.Trajectory(sys.argv[1])
print(trajectory.header, trajectory.observables, trajectory["ln_loss_train"])
assert not {"torch", "zarr", "numcodecs"} & set(sys.modules)
assert trajectory.steps == 5
assert "torch" not in sys.modules
"""
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "run.zarr")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_a_machine_without_zarr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(tmp_path / "run.zarr", 5)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(TrajectoryError, match="pip install 'zarr"):
        Trajectory(tmp_path / "run.zarr")["ln_loss_train"][0]
