"""Checkpoints: a tree of tensors, arrays and numbers in one file, replaced as a whole.

A checkpoint is exact (every bit comes back) and belongs to this machine and these versions; the trajectory is the
portable record. The file is an uncompressed .npz: the arrays, and one JSON text that describes the tree. No pickle.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nnsim.errors import InputError, TrajectoryError
from nnsim.files import PARTIAL, remove_leftovers, replace_file, writing

CHECKPOINT_VERSION = 2  # since 2 the state has the counters of its random streams
_STRUCTURE = "structure"


class DamagedCheckpoint(TrajectoryError):
    """A checkpoint that is cut off or changed, or another file."""


def previous_path(checkpoint: Path) -> Path:
    """`run.checkpoint.previous.npz` beside `run.checkpoint.npz`."""
    return checkpoint.with_name(checkpoint.name.removesuffix(".npz") + ".previous.npz")


def save_checkpoint(path: Path | str, tree: dict[str, Any], *, keep: bool = False) -> None:
    """Write a tree to `path` such that at every moment the old or the new checkpoint is there, whole.

    Args:
        path: the file, by custom `NAME.npz`; its folder exists.
        tree: nested dicts with string keys; leaves are tensors and numpy arrays of any shape, int, float, str, bool,
            None, or lists of these.
        keep: keep the one that is replaced, as `previous_path(path)`.

    Raises:
        InputError: a leaf of another kind.
        TrajectoryError: the file cannot be written, for example on a full disk; the previous checkpoint is untouched.
    """
    path = Path(path)
    arrays: list[np.ndarray] = []
    structure = {"checkpoint": CHECKPOINT_VERSION, "tree": _encode(tree, "tree", arrays)}
    entries = {str(index): array for index, array in enumerate(arrays)}
    entries[_STRUCTURE] = np.frombuffer(json.dumps(structure).encode(), dtype=np.uint8)
    with writing(path):
        previous = previous_path(path)
        for name in (path.name, previous.name):
            remove_leftovers(path.parent, prefix=f".{name}.", suffix=PARTIAL)
        write = lambda file: np.savez(file, allow_pickle=False, **entries)  # noqa: E731
        replace_file(path, write, previous=previous if keep else None)


def load_checkpoint(path: Path | str) -> dict[str, Any]:
    """Read the tree that `save_checkpoint` wrote: tensors on the CPU, everything else as it was.

    Raises:
        DamagedCheckpoint: the file is cut off, changed, or not a checkpoint.
        TrajectoryError: it is missing, cannot be read, or is of a newer version.
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise TrajectoryError(f"there is no checkpoint {path}; check the path, or start without --resume") from None
    except OSError as error:
        raise TrajectoryError(f"cannot read {path}: {error.strerror or error}; check the path and the disk") from error
    with file:
        try:
            return _read(path, file)
        except (TrajectoryError, ImportError):
            raise
        except Exception as error:  # zipfile, zlib, numpy, json and the disk raise many kinds
            said = f"{path} is not a checkpoint of nnsim, or is cut off; restore it from a copy"
            raise DamagedCheckpoint(said) from error


def _read(path: Path, file: BinaryIO) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as entries:
        structure = json.loads(bytes(entries[_STRUCTURE]))
        version = structure["checkpoint"]
        if version > CHECKPOINT_VERSION:
            raise TrajectoryError(
                f"{path} is of version {version}, this nnsim reads up to {CHECKPOINT_VERSION}; update nnsim"
            )
        tree: dict[str, Any] = _decode(structure["tree"], entries)
        return tree


def _encode(value: Any, where: str, arrays: list[np.ndarray]) -> Any:
    """JSON for a subtree; arrays are put aside and referred to by number."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return {"float": struct.pack(">d", value).hex()}  # bits, since JSON knows neither nan nor inf
    if isinstance(value, list):
        return {"list": [_encode(item, f"{where}[{index}]", arrays) for index, item in enumerate(value)]}
    if isinstance(value, dict):
        return {"dict": {_key(key, where): _encode(item, f"{where}.{key}", arrays) for key, item in value.items()}}
    kind = "array" if isinstance(value, np.ndarray) else "tensor"
    arrays.append(_to_array(value, where))
    return {kind: len(arrays) - 1}


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise InputError(f"checkpoint: key {key!r} of {where} must be a string; rename it")
    return key


def _to_array(value: Any, where: str) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        try:
            value = value.detach().cpu().numpy()
        except (AttributeError, TypeError, RuntimeError):
            what = getattr(value, "dtype", type(value).__name__)
            raise InputError(
                f"checkpoint: {where} is a {what}, which cannot be stored; use numbers, or tensors of a type numpy has"
            ) from None
    if value.dtype.hasobject:
        raise InputError(f"checkpoint: {where} is an array of Python objects, which cannot be stored; use numbers")
    return np.asarray(value, order="C")


def _decode(node: Any, entries: Any) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "float":
        return struct.unpack(">d", bytes.fromhex(content))[0]
    if kind == "list":
        return [_decode(item, entries) for item in content]
    if kind == "dict":
        return {key: _decode(item, entries) for key, item in content.items()}
    array = entries[str(content)]
    if kind == "array":
        return array
    import torch

    # torch's own memory is aligned as in the interrupted run: vectorised sums may depend on the alignment
    return torch.from_numpy(array).clone()
