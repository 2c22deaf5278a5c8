"""The studies of the tangent kernel, with tiny networks: what is recorded, that nothing is done twice, the pictures."""

import csv
import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from command_line import error_of, nnsim
from warm import OfSweeps

from nnsim import Trajectory

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = ("epochs=2", "every=1", "kernel_points=10", "runs=2")


@pytest.fixture
def examples(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr("nnsim.running.sweep.subprocess", OfSweeps)
    yield
    for name in ("ntk_evolution", "ntk_architecture"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_training_is_recorded_from_the_start_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = ("width=6", "depth=2", "epochs=4", "every=2", "kernel_points=20", "runs=2")
    sets = [part for one in settings for part in ("--set", one)]
    assert nnsim("run", EXAMPLES / "ntk_training.py", *sets, "--no-progress").status == 0
    trajectory = Trajectory("ntk_training.zarr")
    for split in ("train", "test"):
        entropy = trajectory[f"ntk_entropy_{split}_20points"]
        assert list(entropy.step) == [0, 8, 16]  # 500 points in batches of 128: 4 steps an epoch
        assert entropy.shape == (3, 2)
        assert ((entropy[:] > 0) & (entropy[:] < np.log(20))).all()
        assert len(trajectory[f"loss_{split}"]) == 3
    assert (trajectory["loss_train"][-1] < trajectory["loss_train"][0]).all()
    assert nnsim("plot", "evolution", "ntk_training.zarr", "-o", "evolution.png").status == 0
    assert Path("evolution.png").stat().st_size > 5000
    assert "choose one of digits, mnist" in error_of("run", EXAMPLES / "ntk_training.py", "--set", "data=letters")


@pytest.mark.slow
def test_an_evolution_study_is_one_command(tmp_path, examples, monkeypatch):
    import ntk_evolution

    rows = ntk_evolution.rows((6, 1), (4, 8, 1), (1, 2, 4))
    study = dataclasses.replace(ntk_evolution.STUDIES["digits"], rows=rows, quick=TINY)
    monkeypatch.setitem(ntk_evolution.STUDIES, "digits", study)
    arguments = ["digits", "--output", str(tmp_path / "study")]
    first = CliRunner().invoke(ntk_evolution.main, arguments)
    assert first.exit_code == 0, first.output
    assert (tmp_path / "study" / "evolution.png").stat().st_size > 20_000
    markers = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("done.json")}
    assert len(markers) == 6  # two networks in each of three rows
    again = CliRunner().invoke(ntk_evolution.main, arguments)
    assert again.exit_code == 0, again.output
    assert {path: path.stat().st_mtime_ns for path in markers} == markers


@pytest.mark.slow
def test_an_architecture_study_is_one_command(tmp_path, examples, monkeypatch):
    import ntk_architecture

    amount = ("epochs=1", "every=1", "kernel_points=10", "runs=2")
    monkeypatch.setattr(ntk_architecture, "QUICK", (("width=4,8,16", "depth=1,2"), amount))
    done = CliRunner().invoke(ntk_architecture.main, ["--data", "digits", "--output", str(tmp_path / "study")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "study" / "architecture.png").stat().st_size > 20_000
    with (tmp_path / "study" / "scaling.csv").open() as file:
        table = list(csv.DictReader(file))
    # entropy and trace, before and after training: growth with the width at two depths
    widths = [row for row in table if row["x"] == "width"]
    assert [row["depth"] for row in widths] == ["1", "2"] * 4
    assert np.isfinite([[float(row["exponent"]), float(row["exponent_error"])] for row in widths]).all()
