"""Rmsd, rmsf and overlaps against mdtraj and numpy, from arrays and from disk, in a bounded memory."""

import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nnsim.analysis import overlap, rmsd, rmsf
from nnsim.analysis.motion import blocks
from nnsim.errors import InputError
from nnsim.trajectory.reader import Trajectory
from nnsim.trajectory.writer import TrajectoryWriter

SHAPES = {"0.weight": [3, 2], "0.bias": [3], "2.weight": [2, 3], "2.bias": [2]}  # 17 parameters


def path_of(frames: int = 30, walkers: int = 2, size: int = 17, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((frames, walkers, size)).cumsum(axis=0).astype(np.float32)


def written(path: Path, q: np.ndarray, shapes: Any = SHAPES, what: str = "position", **header: Any) -> Trajectory:
    writer = TrajectoryWriter.create(path, {"parameters": shapes, **header})
    for step, frame in enumerate(q, start=1):
        writer.append(f"particles/parameters/{what}", step, 0.5 * step, frame)
    writer.close()
    return Trajectory(path)


def test_rmsd_agrees_with_mdtraj_that_does_not_superpose():
    import mdtraj

    q = path_of()
    topology = mdtraj.Topology()
    residue = topology.add_residue("N", topology.add_chain())
    for _ in range(17):
        topology.add_atom("X", mdtraj.element.carbon, residue)
    for walker in range(2):
        xyz = np.zeros((30, 17, 3), np.float32)
        xyz[:, :, 0] = q[:, walker]
        fresh = [mdtraj.Trajectory(xyz.copy(), topology) for _ in range(2)]  # mdtraj centres them in place
        expected = mdtraj.rmsd(fresh[0], fresh[1], frame=4, superpose=False)
        assert np.allclose(rmsd(q, 4).values[:, walker], expected, rtol=1e-5, atol=1e-6)
        atoms = np.arange(5, 12)
        expected = mdtraj.rmsd(fresh[0], fresh[1], frame=4, atom_indices=atoms, superpose=False)
        assert np.allclose(rmsd(q, 4, selection=atoms).values[:, walker], expected, rtol=1e-5, atol=1e-6)


def test_references_selections_and_layers():
    q = path_of().astype(np.float64)
    assert (rmsd(q).values[0] == 0).all()
    assert np.allclose(rmsd(q, -1).values, np.sqrt(((q - q[-1]) ** 2).mean(-1)))
    one = rmsd(q, q[3, 1], selection="layer 0 and weight", parameters=SHAPES)
    assert np.allclose(one.values, np.sqrt(((q - q[3, 1])[..., :6] ** 2).mean(-1)))
    mask = np.arange(17) % 2 == 0
    by_layer = rmsd(q, q[3], selection=mask, parameters=SHAPES, by_layer=True)
    assert np.allclose(by_layer.layers["2"], np.sqrt(((q - q[3])[..., 9:][..., mask[9:]] ** 2).mean(-1)))
    assert np.allclose(by_layer.values, rmsd(q[..., mask], q[3][..., mask]).values)


def test_from_disk_as_from_memory_whatever_the_blocks(tmp_path, monkeypatch):
    q = path_of()
    trajectory = written(tmp_path / "a.zarr", q)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 7 * 8 * 2 * 17)
    for frames in (trajectory, tmp_path / "a.zarr", trajectory.positions):
        found = rmsd(frames, 2)
        assert np.allclose(found.values, rmsd(q, 2).values, rtol=1e-12)
        assert np.allclose(found.time, 0.5 * np.arange(1, 31))
        by_blocks, at_once = rmsf(frames), rmsf(q)
        assert np.allclose(by_blocks.values, at_once.values, rtol=1e-12)
        assert np.allclose(by_blocks.error, at_once.error, rtol=1e-12)
        assert np.allclose(overlap(frames).matrix, overlap(q).matrix, rtol=1e-12)
    assert list(rmsd(trajectory, by_layer=True).layers) == ["0", "2"]
    assert rmsd(trajectory, selection="layer 1").values.shape == (30, 2)


def test_memory_does_not_grow_with_the_record(monkeypatch):
    class OnDisk:
        """Frames that are made when they are read, 400 MB in all."""

        shape, dtype = (10_000, 1, 10_000), np.dtype(np.float32)
        step = time = np.arange(10_000)

        def __getitem__(self, rows: slice) -> np.ndarray:
            return np.ones((rows.stop - rows.start, 1, 10_000), np.float32)

    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2**20)
    tracemalloc.start()
    try:
        assert (rmsd(OnDisk()).values == 0).all()
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_rmsf_and_its_error_of_independent_numbers():
    # 4000 frames of 400 parameters: the spread of the estimates is what the mean error says, to 5 of 1/sqrt(2 * 400)
    scale = np.linspace(0.5, 2.0, 400)
    found = rmsf(np.random.default_rng(0).standard_normal((4000, 1, 400)) * scale, blocks=20)
    off = (found.values[0] - scale) / scale
    relative = found.error[0] / scale
    assert np.abs(off.mean()) < 5 / np.sqrt(2 * 4000 * 400)
    assert off.std() == pytest.approx(np.sqrt((relative**2).mean()), rel=5 * np.sqrt(1 / 800 + 1 / (2 * 19 * 400)))
    assert np.allclose(rmsf(path_of()).values, path_of().std(axis=0), rtol=1e-5)


def test_overlap_of_known_walkers():
    q = np.zeros((3, 3, 4))
    q[:, 0, 0], q[:, 1, 1], q[:, 2, 0] = 2.0, 1.0, -3.0
    found = overlap(q)
    assert (found.matrix == [[1, 0, -1], [0, 1, 0], [-1, 0, 1]]).all()
    assert found.pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert (found.error == 0).all()
    moved = overlap(q + 5.0, centre=np.full(4, 5.0))
    assert np.allclose(moved.matrix, found.matrix)


def test_overlap_of_random_directions_has_the_distribution_of_the_sphere():
    # n = 5: P(q) = 3/4 (1 - q^2), mean 0 and variance 1/5; 8000 independent frames of 3 pairs
    found = overlap(np.random.default_rng(1).standard_normal((8000, 3, 5)))
    pairs = found.matrix[np.triu_indices(3, 1)]
    assert (np.abs(pairs) < 5 * np.sqrt(0.2 / 8000)).all()
    assert np.allclose(found.error[np.triu_indices(3, 1)], np.sqrt(0.2 / 8000), rtol=0.15)
    curve = found.distribution(bins=20)
    edges = np.linspace(-1, 1, 21)
    exact = np.diff(0.75 * (edges - edges**3 / 3)) / 0.1
    off = (curve.y - exact) / np.sqrt(exact / (0.1 * 24_000))
    assert (np.abs(off) < 5).all()
    assert curve.error is not None
    assert np.allclose(np.mean(curve.error**2), np.mean(exact / (0.1 * 24_000)), rtol=5 * np.sqrt(2 / (7 * 20)))
    assert np.sum(curve.y) * 0.1 == pytest.approx(1)


def test_bad_input_is_refused_by_name(tmp_path):
    q = path_of()
    with pytest.raises(InputError, match=r"must be \[frames, walkers, parameters\]"):
        rmsd(q[:, 0])
    with pytest.raises(InputError, match="reference = 30 must be one of 30 frames"):
        rmsd(q, 30)
    with pytest.raises(InputError, match=r"reference of shape \(3,\)"):
        rmsd(q, np.zeros(3))
    for selection in ([17], [], np.zeros(17, bool), 3, [[1]], "a"):
        with pytest.raises(InputError, match="select"):
            rmsd(q, selection=selection, parameters=SHAPES)
    with pytest.raises(InputError, match="must be names and shapes"):
        rmsd(q, selection="layer 0")
    with pytest.raises(InputError, match="must be names and shapes"):
        rmsd(q, by_layer=True)
    with pytest.raises(InputError, match="must be real numbers"):
        rmsd([["a"]])
    holes = q.copy()
    holes[12, 1, 3] = np.nan
    for measure in (rmsd, rmsf, overlap):
        with pytest.raises(InputError, match="positions of frame 12 are not all finite"):
            measure(holes)
    with pytest.raises(InputError, match="blocks = 1"):
        rmsf(q, blocks=1)
    with pytest.raises(InputError, match="single walker"):
        overlap(q[:, :1])
    with pytest.raises(InputError, match="walker 0 is at the centre in frame 0"):
        overlap(q, centre=q[0, 0])
    empty = SimpleNamespace(header={}, positions=None, velocities=None, path="a.zarr")
    with pytest.raises(InputError, match="has no positions; record them with Simulation"):
        rmsd(empty)
