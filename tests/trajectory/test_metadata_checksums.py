"""No bit of the metadata changes unseen, and a run that is being written raises no false alarm."""

import errno
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import arrays_of, error_of, nnsim

from nnsim import Grid, Simulation, Trajectory, TrajectoryError, cv
from nnsim.bias import WangLandau
from nnsim.integrators import Langevin
from nnsim.schedules import RampHoldInverseTime
from nnsim.systems import AnalyticSystem, Harmonic
from nnsim.trajectory import writer as trajectory_writer
from nnsim.trajectory.record import RECORD, metadata_files, read_record
from nnsim.trajectory.writer import TrajectoryWriter


def simulation() -> Simulation:
    energy = cv.LogEnergy(Harmonic())
    return Simulation(
        AnalyticSystem(3, Harmonic(), start=0.5),
        Langevin(0.05, 1.0),
        bias=WangLandau(energy, Grid(-6.0, 3.0, 30), RampHoldInverseTime(0.1, ramp=30, hold=80), kernel=0.5),
        walkers=2,
        every=2,
        snapshot_every=10,
        checkpoint_every=10,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run.zarr"
    simulation().run(40, output=path, progress=False)
    return path


def read(path: Path) -> Any:
    """All that a reader can ask for, comparable."""
    trajectory = Trajectory(path)
    series = {name: (one[:].tobytes(), one.step.tobytes(), one.dtype) for name, one in trajectory._series.items()}
    biases = [trajectory.bias(name) for name in trajectory.bias_names]
    tables = {name: table.tobytes() for bias in biases for name, table in bias.tables.items()}
    return trajectory.header, trajectory.steps, series, tables, [bias.attrs for bias in biases]


def error_in_reading(path: Path, before: Any) -> str:
    """What a reader says; empty if it says nothing and reads the same as before."""
    try:
        assert read(path) == before
    except TrajectoryError as error:
        return str(error)
    return ""


def kind(byte: int) -> str:
    letter = chr(byte)
    return "digit" if letter.isdigit() else "letter" if letter.isalpha() else "space" if letter.isspace() else letter


@pytest.mark.slow
def test_every_kind_of_byte_of_every_file(run: Path) -> None:
    """One bit at a time; what is found names the file, and what is not found changes nothing that is read."""
    draw, before = random.Random(4), read(run)
    files = [RECORD, *metadata_files(run)]
    assert len(files) > 50
    unseen = []
    for name in files:
        content = (run / name).read_bytes()
        kinds: dict[str, list[int]] = {}
        for place, byte in enumerate(content):
            kinds.setdefault(kind(byte), []).append(place)
        for places in kinds.values():
            place, bit = draw.choice(places), 1 << draw.randrange(8)
            (run / name).write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
            if said := error_in_reading(run, before):
                assert name in said or name.removesuffix("/.zarray") in said
                assert "damaged" in said
                assert "\n" not in said
            else:
                unseen.append((name, chr(content[place])))
        (run / name).write_bytes(content)
    assert all(name.endswith(".zarray") and letter.isdigit() for name, letter in unseen), unseen  # a length that grows
    assert len(unseen) < 10
    assert read(run) == before


@pytest.mark.parametrize("name", [RECORD, "h5md/.zattrs", "parameters/nnsim/.zattrs", "observables/.zgroup"])
def test_a_file_that_is_lost_or_of_another_run(run: Path, tmp_path: Path, name: str) -> None:
    content = (run / name).read_bytes()
    try:
        (run / name).unlink()
        assert f"{name}: missing: the trajectory is cut off or damaged" in error_of("info", run)
        (run / name).write_bytes(content.replace(b"r", b"s", 1))
        for command in (["info", run], ["report", run, "-o", tmp_path / "r.html"], ["plot", "landscape", run]):
            assert f"{name}: " in error_of(*command)
        with pytest.raises(TrajectoryError, match="damaged"):
            simulation().run(60, output=run, resume=True, progress=False)
    finally:
        (run / name).write_bytes(content)


@pytest.mark.slow
def test_files_of_other_programs_are_told_of(run: Path, tmp_path: Path) -> None:
    strange = [".DS_Store", "observables/.nfs0001", "observables/potential_energy/value/Thumbs.db", "nnsim/._bias"]
    before = read(run)
    for name in strange:
        (run / name).write_bytes(b"\x00\x01")
    (run / "observables" / "@eaDir").mkdir(exist_ok=True)
    assert read(run) == before
    assert Trajectory(run).foreign() == sorted(strange)
    told = nnsim("info", run)
    assert told.status == 0
    assert re.search(r"of other programs: +\.DS_Store, nnsim/\._bias, observables/\.nfs0001 and 1 more\n", told.out)
    assert nnsim("report", run, "-o", tmp_path / "report.html").status == 0
    assert "Files of other programs" in (tmp_path / "report.html").read_text()
    simulation().run(60, output=run, resume=True, progress=False)
    assert Trajectory(run).foreign() == sorted(strange)
    assert (run / "observables" / "@eaDir").is_dir()
    for name in strange:
        (run / name).unlink()


@pytest.mark.slow
def test_a_run_of_version_0_1_gets_checksums_when_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    simulation().run(20, output=path, progress=False)
    content = json.loads((path / RECORD).read_text())
    (path / RECORD).write_text(json.dumps({"layout": 1, "committed": content["committed"]}))
    assert read_record(path).checksums is None
    read(path)
    simulation().run(40, output=path, resume=True, progress=False)
    assert set(read_record(path).checksums or {}) == set(metadata_files(path))
    simulation().run(40, output=tmp_path / "whole.zarr", progress=False)
    assert arrays_of(path) == arrays_of(tmp_path / "whole.zarr")


def test_after_a_close_each_file_has_one_checksum(run: Path) -> None:
    checksums = read_record(run).checksums
    assert checksums is not None
    assert set(checksums) == set(metadata_files(run))
    assert {len(states) for states in checksums.values()} == {1}


# ------------------------------------------------------------------------------------------------- while it is written

WRITER = """
import sys, time
import numpy as np
from nnsim.trajectory.writer import TrajectoryWriter
writer, until = TrajectoryWriter.create(sys.argv[1], {"n": 0}), time.monotonic() + float(sys.argv[2])
print("started", flush=True)
n = 0
while time.monotonic() < until:
    n += 1
    writer.set_attrs("parameters/nnsim", {"n": n})
    writer.set_attrs("nnsim/bias/b", {"n": n})
    writer.put("nnsim/bias/b/t", np.full(n % 3 + 1, float(n)))
    writer.append(f"observables/x{n % 20}", n, n, np.zeros(2))
    writer.append("observables/x", n, n, np.zeros(2))
    if n % 3 == 0:
        writer.flush()
writer.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True])
def test_no_false_alarm_while_it_is_written(tmp_path: Path, kill: bool) -> None:
    """Files are replaced, made and removed all the time; nor is there one after a kill, and a resume goes on."""
    path = tmp_path / "run.zarr"
    command = [sys.executable, "-c", WRITER, str(path), "30" if kill else "3"]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"started\n"
    until, looks, trajectory = time.monotonic() + 1.5, 0, Trajectory(path)
    while writer.poll() is None and not (kill and time.monotonic() > until and "x" in trajectory):
        trajectory = Trajectory(path)
        assert trajectory.header["n"] >= 0
        if "b" in trajectory.bias_names:
            assert trajectory.bias("b").attrs.get("n", 0) >= 0
        looks += 1
    writer.kill()
    writer.communicate()
    assert looks > 3
    trajectory = Trajectory(path)
    counts = {f"observables/{name}": len(trajectory[name]) for name in trajectory}
    TrajectoryWriter.resume(path, counts).close()
    assert {len(states) for states in (read_record(path).checksums or {}).values()} == {1}
    assert len(Trajectory(path)["x"][:]) == counts["observables/x"]


def test_a_write_that_fails_leaves_no_false_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {"n": 0})
    writer.append("observables/x", 1, 1, np.zeros(2))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(trajectory_writer, "write_json", full)
        with pytest.raises(TrajectoryError, match="No space left"):
            writer.set_attrs("parameters/nnsim", {"n": 1})
        assert Trajectory(writer.path).header == {"n": 0}
    writer.flush()
    assert Trajectory(writer.path).header == {"n": 0}
    writer.set_attrs("parameters/nnsim", {"n": 2})
    assert Trajectory(writer.path).header == {"n": 2}
    writer.close()
    assert Trajectory(writer.path).header == {"n": 2}
