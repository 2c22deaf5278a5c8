"""A run in a store of one's own has the numbers of one in Zarr, goes on to the same bits, and keeps its promises."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_store import MemoryStore

from nnsim import Box, Grid, InputError, Reporter, Simulation, Store, Trajectory, TrajectoryError, cv
from nnsim.bias import WangLandau
from nnsim.integrators import Langevin
from nnsim.running.checkpoint import load_checkpoint
from nnsim.running.checks.contract import methods_of
from nnsim.running.storage import checkpoint_path
from nnsim.schedules import RampHoldInverseTime
from nnsim.systems import AnalyticSystem, Harmonic


def build(dt: float = 0.05, **more: Any) -> Simulation:
    energy = cv.LogEnergy(Harmonic())
    bias = WangLandau(energy, Grid(-8.0, 4.0, 40, kind="spline"), RampHoldInverseTime(0.05, 0, 1e9))
    return Simulation(
        AnalyticSystem(3, Harmonic(), box=Box(4.0), start=0.5), Langevin(dt=dt, friction=1.0), bias=bias, walkers=2,
        seed=5, every=3, record_start=True, positions_every=5, velocities_every=7, snapshot_every=12, threads=1, **more,
    )  # fmt: skip


def assert_same(one: Any, other: Any) -> None:
    """Two trees are equal to the last bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other, equal_nan=True)
    else:
        assert one == other or (one != one and other != other)


def lasting(header: dict[str, Any]) -> dict[str, Any]:
    """A header without what differs from run to run."""
    return {name: value for name, value in header.items() if name not in ("run", "going", "written")}


def assert_same_run(one: MemoryStore, other: MemoryStore) -> None:
    for name in ("series", "tables", "counts"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert_same({key: _arrays(ours[key]) for key in ours}, {key: _arrays(theirs[key]) for key in theirs})
    assert one.attrs.keys() == other.attrs.keys()
    for group in one.attrs:
        assert lasting(one.attrs[group]) == lasting(other.attrs[group])
    assert one.tree is not None
    assert other.tree is not None
    assert_same(one.tree["simulation"], other.tree["simulation"])
    assert one.tree["counts"] == other.tree["counts"]


def _arrays(value: Any) -> Any:
    """Frames as arrays: steps, times and values."""
    return (
        {str(place): np.stack(part) for place, part in enumerate(zip(*value, strict=True))}
        if isinstance(value, list)
        else value
    )


@pytest.fixture
def whole() -> MemoryStore:
    store = MemoryStore()
    build().run(60, output=store, progress=False)
    return store


def test_its_class_is_short() -> None:
    (node,) = [one for one in ast.parse((Path(__file__).parents[1] / "own_store.py").read_text()).body
               if isinstance(one, ast.ClassDef)]  # fmt: skip
    assert node.end_lineno is not None
    assert node.end_lineno - node.lineno + 1 <= 60


def test_it_holds_the_numbers_of_zarr(whole: MemoryStore, tmp_path: Path) -> None:
    """Every frame with its step and time, every table, all attributes, the checkpoint and its counts."""
    path = tmp_path / "run.zarr"
    build().run(60, output=path, progress=False)
    trajectory = Trajectory(path)
    assert trajectory.positions is not None
    assert trajectory.velocities is not None
    bias = trajectory.bias("wang_landau")
    stored: dict[str, Any] = {f"observables/{name}": trajectory[name] for name in trajectory.observables}
    stored["particles/parameters/position"] = trajectory.positions
    stored["particles/parameters/velocity"] = trajectory.velocities
    stored |= {f"nnsim/bias/wang_landau/snapshots/{name}": one for name, one in bias.snapshots.items()}
    assert whole.series.keys() == stored.keys()
    for name, series in stored.items():
        step, time, value = (np.array(part) for part in zip(*whole.series[name], strict=True))
        assert_same(value, np.asarray(series[:]))
        assert np.array_equal(step, series.step)
        assert np.array_equal(time, series.time)
    assert whole.tables.keys() == {f"nnsim/bias/wang_landau/{name}" for name in bias.tables}
    for name, table in bias.tables.items():
        assert_same(whole.tables[f"nnsim/bias/wang_landau/{name}"], np.asarray(table))
    assert whole.attrs["nnsim/bias/wang_landau"] == bias.attrs
    assert lasting(whole.header()) == lasting(trajectory.header)
    saved = load_checkpoint(checkpoint_path(path))
    assert whole.tree is not None
    assert_same(whole.tree["simulation"], saved["simulation"])
    assert whole.tree["counts"] == saved["counts"] == whole.counts


@pytest.mark.parametrize("stop", [0, 1, 31, 59])
def test_it_resumes_to_the_bit(whole: MemoryStore, stop: int) -> None:
    parts = MemoryStore()
    build().run(stop, output=parts, progress=False)
    build().run(60, output=parts, resume=True, progress=False)
    assert_same_run(parts, whole)


class Bang(Reporter):
    """Ends the process at a step, but for what was flushed."""

    def __init__(self, at: int) -> None:
        self.at = at

    def due(self, step: int) -> int:
        return self.at if step < self.at else 10**9

    def report(self, simulation: Simulation) -> None:
        raise KeyboardInterrupt


def test_after_a_kill_it_goes_back_to_its_checkpoint(whole: MemoryStore) -> None:
    """What was appended later is cut off and computed again."""
    parts = MemoryStore()
    with pytest.raises(KeyboardInterrupt):
        build(reporters=[Bang(50)], checkpoint_every=20).run(60, output=parts, progress=False)
    assert not parts.held
    assert parts.tree is not None
    assert parts.tree["simulation"]["state"]["step"] == 40
    assert len(parts.series["observables/ln_energy"]) > parts.tree["counts"]["observables/ln_energy"]
    build(checkpoint_every=20).run(60, output=parts, resume=True, progress=False)
    assert_same_run(parts, whole)


def test_what_may_not_be_is_refused_and_leaves_everything_as_it_was(whole: MemoryStore) -> None:
    before = whole.header()
    with pytest.raises(TrajectoryError, match="memory holds a run already"):
        build().run(60, output=whole, progress=False)
    with pytest.raises(TrajectoryError, match="absent: nothing to resume there"):
        build().run(60, output=MemoryStore("absent"), resume=True, progress=False)
    with pytest.raises(InputError, match=r"memory was made with other settings.*integrator.dt: 0.05 -> 0.06"):
        build(dt=0.06).run(80, output=whole, resume=True, progress=False)
    assert whole.header() == before
    whole.lock()
    with pytest.raises(TrajectoryError, match="memory is being written by another run"):
        build().run(80, output=whole, resume=True, progress=False)
    assert whole.held
    whole.release()
    build(dt=0.06).run(80, output=whole, resume=True, accept_changes=True, progress=False)
    assert whole.header()["changes"][0]["step"] == 60
    assert any("integrator.dt: 0.05 -> 0.06" in line for line in whole.header()["changes"][0]["changed"])
    build().run(6, output=whole, overwrite=True, progress=False)
    assert (whole.steps(), "changes" in whole.header()) == (6, False)


@pytest.mark.parametrize("method", methods_of(Store))
def test_a_forgotten_method_is_named(method: str) -> None:
    kept = {name: thing for name, thing in vars(MemoryStore).items() if name not in (method, "__dict__", "__weakref__")}
    forgetful = type("Forgetful", (Store,), kept)()
    with pytest.raises(InputError, match=rf"^Forgetful: the method {method} is missing; define {method}\("):
        build().run(3, output=forgetful, progress=False)


def test_what_is_no_store_is_one_line() -> None:
    for output in (3, ["a"], MemoryStore, object()):
        with pytest.raises(InputError, match=r"must be a path; give the folder to write, NAME\.zarr, or a store of"):
            build().run(3, output=output, progress=False)  # type: ignore[arg-type]
    nowhere = MemoryStore()
    del nowhere.path
    with pytest.raises(InputError, match="MemoryStore: the attribute path is missing"):
        build().run(3, output=nowhere, progress=False)
