"""Checkpoints come back bit for bit, and a failure never harms the previous one."""

import errno
import json
import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nnsim.errors import InputError, TrajectoryError
from nnsim.running import checkpoint
from nnsim.running.checkpoint import load_checkpoint, save_checkpoint


def bits(number: float) -> bytes:
    return struct.pack(">d", number)


def test_every_leaf_comes_back(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    tree = {
        "state": {
            "positions": torch.randn(3, 5, dtype=torch.float64, generator=generator),
            "half": torch.randn(4, generator=generator).half(),
            "transposed": torch.randn(3, 5, generator=generator).T,
            "grad": torch.ones(2, requires_grad=True),
            "generator": generator.get_state(),
            "nothing": torch.zeros(0, 7, dtype=torch.float32),
            "scalar": torch.tensor(2.5),
            "flags": torch.tensor([True, False]),
            "complex": torch.tensor([1 + 2j]),
        },
        "array": np.arange(6, dtype=np.int16).reshape(2, 3),
        "array0": np.array(1.5),
        "empty": {},
        "list": [1, 2.5, "three", None, True, torch.arange(3), [], {"deep": [np.zeros((0,))]}],
        "big": 2**80,
        "minus": -7,
        "text": "λ \n \x00 NaN",
        "a.b/c": False,
    }
    save_checkpoint(tmp_path / "run.npz", tree)
    back = load_checkpoint(tmp_path / "run.npz")
    assert_same(back, tree)
    assert list(back) == list(tree)
    assert type(back["list"][4]) is bool
    assert back["array0"].shape == ()


def assert_same(got: object, want: object) -> None:
    if isinstance(want, torch.Tensor):
        assert isinstance(got, torch.Tensor)
        assert got.dtype == want.dtype
        assert got.shape == want.shape
        assert got.device.type == "cpu"
        assert got.is_contiguous()
        assert torch.equal(got, want.detach())
    elif isinstance(want, np.ndarray):
        assert isinstance(got, np.ndarray)
        assert got.dtype == want.dtype
        assert got.shape == want.shape
        assert np.array_equal(got, want)
    elif isinstance(want, dict):
        assert isinstance(got, dict)
        assert got.keys() == want.keys()
        for key in want:
            assert_same(got[key], want[key])
    elif isinstance(want, list):
        assert isinstance(got, list)
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            assert_same(one, other)
    else:
        assert type(got) is type(want)
        assert got == want


@pytest.mark.parametrize("number", [0.1, -0.0, math.inf, -math.inf, math.nan, -math.nan, 5e-324, 1 / 3, 1e308])
def test_floats_keep_their_bits(tmp_path: Path, number: float) -> None:
    save_checkpoint(tmp_path / "run.npz", {"x": number, "t": torch.tensor([number], dtype=torch.float64)})
    back = load_checkpoint(tmp_path / "run.npz")
    assert bits(back["x"]) == bits(number)
    assert bits(back["t"].item()) == bits(number)


def test_numpy_scalars_become_plain_numbers(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "run.npz", {"i": np.int64(3), "f": np.float32(0.5), "b": np.bool_(True)})
    assert load_checkpoint(tmp_path / "run.npz") == {"i": 3, "f": 0.5, "b": True}


def test_loaded_tensors_can_be_changed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "run.npz", {"t": torch.zeros(3), "a": np.zeros(3)})
    back = load_checkpoint(tmp_path / "run.npz")
    back["t"] += 1
    back["a"] += 1


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"a": {"b": object()}}, "tree.a.b is a object"),
        ({"a": (1, 2)}, "tuple"),
        ({"a": [0, {1: 2}]}, "key 1 of tree.a"),
        ({"a": torch.zeros(2, dtype=torch.bfloat16)}, "bfloat16"),
        ({"a": np.array([object()])}, "Python objects"),
    ],
)
def test_other_leaves_are_refused_before_anything_is_written(tmp_path: Path, tree: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        save_checkpoint(tmp_path / "run.npz", tree)
    assert os.listdir(tmp_path) == []


def test_replaces_and_removes_leftovers(tmp_path: Path) -> None:
    path = tmp_path / "run[1].npz"
    (tmp_path / ".run[1].npz.0123.partial").write_text("left over")
    (tmp_path / ".other.npz.0123.partial").write_text("of somebody else")
    save_checkpoint(path, {"x": 1})
    save_checkpoint(path, {"x": 2})
    assert load_checkpoint(path) == {"x": 2}
    assert sorted(os.listdir(tmp_path)) == [".other.npz.0123.partial", "run[1].npz"]


def test_full_disk_keeps_the_previous_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.npz"
    save_checkpoint(path, {"x": 1})

    def full(file: object, **_: object) -> None:
        file.write(b"half of it")  # type: ignore[attr-defined]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint.np, "savez", full)
    with pytest.raises(
        TrajectoryError, match=r"cannot write .*run.npz: No space left on device; free some space"
    ) as caught:
        save_checkpoint(path, {"x": 2})
    assert "\n" not in str(caught.value)
    assert load_checkpoint(path) == {"x": 1}
    assert os.listdir(tmp_path) == ["run.npz"]


LIMITED = """
import resource, sys
import numpy as np
from nnsim.running.checkpoint import load_checkpoint, save_checkpoint
from nnsim.errors import TrajectoryError
save_checkpoint(sys.argv[1], {"x": np.ones(100)})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    save_checkpoint(sys.argv[1], {"x": np.zeros(100_000), "y": 1})
except TrajectoryError as error:
    print(error)
assert load_checkpoint(sys.argv[1])["x"].sum() == 100
assert "torch" not in sys.modules
"""


def test_a_write_that_the_system_breaks_off(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"cannot write {path}: File too large; raise the limit" in done.stdout
    assert os.listdir(tmp_path) == ["run.npz"]


def test_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(TrajectoryError, match=r"cannot write .*No such file"):
        save_checkpoint(tmp_path / "no" / "run.npz", {})


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TrajectoryError, match=r"there is no checkpoint .*without --resume"):
        load_checkpoint(tmp_path / "run.npz")
    with pytest.raises(TrajectoryError, match="cannot read"):
        load_checkpoint(tmp_path)


def test_cut_off_at_any_length_or_changed(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    save_checkpoint(path, {"x": np.arange(50.0), "y": torch.ones(3)})
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(TrajectoryError, match="not a checkpoint of nnsim, or is cut off"):
            load_checkpoint(path)
    place = whole.index(np.arange(50.0).tobytes()) + 80
    path.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
    with pytest.raises(TrajectoryError, match="cut off"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\x80\x04N."])
def test_garbage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.npz").write_bytes(content)
    with pytest.raises(TrajectoryError, match="not a checkpoint of nnsim"):
        load_checkpoint(tmp_path / "run.npz")


def test_other_arrays_are_no_checkpoint(tmp_path: Path) -> None:
    np.savez(tmp_path / "run.npz", x=np.zeros(3))
    with pytest.raises(TrajectoryError, match="not a checkpoint of nnsim"):
        load_checkpoint(tmp_path / "run.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(TrajectoryError, match="not a checkpoint of nnsim"):
        load_checkpoint(tmp_path / "one.npy")


def test_newer_version(tmp_path: Path) -> None:
    text = json.dumps({"checkpoint": checkpoint.CHECKPOINT_VERSION + 1, "tree": {"unknown": 1}})
    np.savez(tmp_path / "run.npz", structure=np.frombuffer(text.encode(), np.uint8))
    with pytest.raises(TrajectoryError, match="version 3, this nnsim reads up to 2; update nnsim"):
        load_checkpoint(tmp_path / "run.npz")
