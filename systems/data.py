"""Data as users have them: pairs, dictionaries, arrays, torch's data sets and loaders, gathered into tensors."""

from __future__ import annotations

import contextlib
import logging
import math
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler

from nnsim.errors import InputError, NNSimError, first_line
from nnsim.networks.memory import readable

Data = tuple[Tensor, Tensor]

FORM = "give (points, targets), {'x': points, 'y': targets}, or a Dataset or DataLoader whose items are such"
MAX_MEMORY = 4e9  # bytes
AT_ONCE = 256  # items of a data set that are collated together

logger = logging.getLogger("nnsim")


@contextlib.contextmanager
def generators_kept(seed: int | None = None) -> Iterator[None]:
    """Leave the global random generators of torch, numpy and Python as they are; inside they start from the seed."""
    python, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's may draw from them
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices=devices):
            if seed is not None:
                torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed devices not in use yet
                for device in devices:
                    torch.cuda.default_generators[device].manual_seed(seed)
                np.random.seed(seed)  # noqa: NPY002
                random.seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)  # noqa: NPY002


def gathered(split: str, data: object, max_memory: float) -> Data:
    """Points and targets as tensors of their own, so that nothing the user does to the data later matters.

    Args:
        split: `"train"` or `"test"`, for messages.
        data: in one of the forms that `NeuralNetwork` takes.
        max_memory: bytes that a data set or loader may take.

    Raises:
        InputError: another form, or more bytes.
    """
    if isinstance(data, (Dataset, DataLoader)):
        with generators_kept():
            return _of_loader(split, *_in_order(split, data), max_memory)
    return _of_pair(split, "", data)


def _of_pair(split: str, where: str, data: object) -> Data:
    """Tensors of a pair or a dictionary."""
    if isinstance(data, Mapping) and set(data) == {"x", "y"}:
        data = data["x"], data["y"]
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        keys = f" with the keys {', '.join(map(repr, data))}" if isinstance(data, Mapping) else ""
        parts = f" of {len(data)} parts" if isinstance(data, (tuple, list)) else ""
        raise InputError(
            f"NeuralNetwork: {split} must be a pair (points, targets), but {where or 'it'} is a "
            f"{type(data).__name__}{keys}{parts}; {FORM}"
        )
    return as_tensor(split, "points", data[0]), as_tensor(split, "targets", data[1])


def as_tensor(split: str, name: str, values: Any) -> Tensor:
    """A copy of numbers in any form as a tensor on the CPU; raises `InputError` for anything else."""
    if np.ma.is_masked(values):
        raise InputError(f"NeuralNetwork: some {split} {name} are masked; leave those points out")
    try:
        tensor = torch.as_tensor(_plain(values)).detach().cpu()
        tensor = (tensor if tensor.layout == torch.strided else tensor.to_dense()).clone()
    except Exception as error:  # of many types
        remedy = "number the classes 0 ... C-1" if name == "targets" else "convert them to a numeric array"
        raise InputError(
            f"NeuralNetwork: {split} {name} cannot be turned into a tensor of numbers ({first_line(error)}); {remedy}"
        ) from None
    if tensor.ndim < 1 or tensor.is_complex():
        raise InputError(
            f"NeuralNetwork: {split} {name} have shape {tuple(tensor.shape)} and type {tensor.dtype}; "
            "give real numbers, one row for each point"
        )
    return tensor.long() if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64) else tensor


def _plain(values: Any) -> Any:
    """What torch can read: arrays, and what can be made one, as a writable copy in rows and in native byte order."""
    listed = isinstance(values, list) and bool(values) and isinstance(values[0], np.ndarray)
    array_like = hasattr(values, "__array__") or isinstance(values, memoryview)
    if isinstance(values, Tensor) or not (listed or array_like):
        return values
    array = np.stack(values) if listed else np.asarray(values)
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


# ---------------------------------------------------------------------- data sets and loaders


def _in_order(split: str, data: Dataset | DataLoader) -> tuple[DataLoader, int | None]:
    """A loader of all items in the order of the data set, and their number where that is known."""
    settings: dict[str, Any] = {"batch_size": AT_ONCE}
    dataset: Any = data
    if isinstance(data, DataLoader):
        dataset = data.dataset
        _refuse_choice(split, data)
        settings = {"batch_size": data.batch_size, "collate_fn": data.collate_fn, "num_workers": data.num_workers}
        if isinstance(data.sampler, RandomSampler) or data.drop_last:
            logger.info(
                f"{split}: all points of the DataLoader's data set are taken, in its own order; shuffle and drop_last "
                "play no part"
            )
    if isinstance(dataset, IterableDataset):
        return DataLoader(dataset, **settings), None
    if not hasattr(dataset, "__len__"):
        raise InputError(f"NeuralNetwork: the {split} Dataset {type(dataset).__name__} has no length; {FORM}")
    _refuse_random(split, dataset)
    return DataLoader(dataset, **settings), len(dataset)


def _refuse_choice(split: str, loader: DataLoader) -> None:
    """Raise `InputError` for a loader that does not give every item once."""
    if isinstance(loader.dataset, IterableDataset):
        return
    sampler: Any = loader.sampler
    shuffles = type(sampler) is RandomSampler and not sampler.replacement
    every = type(sampler) is SequentialSampler or (shuffles and sampler.num_samples == len(sampler.data_source))
    if type(loader.batch_sampler) not in (BatchSampler, type(None)) or not every:
        raise InputError(
            f"NeuralNetwork: the {split} DataLoader chooses items by a sampler of its own "
            f"({type(sampler).__name__}); give the items that are meant, such as torch.utils.data.Subset(dataset, ...)"
        )


def _refuse_random(split: str, dataset: Any) -> None:
    """Raise `InputError` for a data set that gives other points each time, as one with augmentations does."""
    for item in range(min(4, len(dataset))):
        looks = [_numbers(_item(split, dataset, item)) for _ in range(4)]
        if any(len(look) != len(looks[0]) or not all(map(_same, look, looks[0])) for look in looks):
            raise InputError(
                f"NeuralNetwork: the {split} Dataset gives another item {item} each time, as random augmentations do; "
                "leave them out, or gather the points that are meant"
            )


def _item(split: str, dataset: Any, item: int) -> object:
    try:
        return dataset[item]
    except Exception as error:
        raise InputError(
            f"NeuralNetwork: item {item} of the {split} Dataset fails: {type(error).__name__}: {first_line(error)}; "
            "repair the Dataset"
        ) from error


def _numbers(item: object) -> list[Any]:
    parts = item.values() if isinstance(item, Mapping) else item if isinstance(item, (tuple, list)) else [item]
    return [part for part in parts if isinstance(part, (Tensor, np.ndarray, int, float))]


def _same(a: Any, b: Any) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)


def _of_loader(split: str, loader: DataLoader, items: int | None, max_memory: float) -> Data:
    """All batches of a loader, one after the other."""
    parts: list[Data] = []
    points = size = 0
    for batch in _batches(split, loader, None if items is None else math.ceil(items / (loader.batch_size or 1))):
        x, y = _of_pair(split, f"a batch of the {type(loader.dataset).__name__}", batch)
        parts.append((x, y))
        points, size = points + len(x), size + x.nbytes + y.nbytes
        expected = size if items is None or not points else size / points * max(items, points)
        if expected > max_memory:
            raise InputError(
                f"NeuralNetwork: {split} takes {'about' if items else 'more than'} {readable(expected)} of memory, but "
                f"max_memory = {max_memory:g} bytes; give fewer points (torch.utils.data.Subset), or raise max_memory"
            )
    if not parts:
        raise InputError(f"NeuralNetwork: {split} is empty; give at least one point with its target")
    try:
        x, y = (torch.cat(column) for column in zip(*parts, strict=True))
    except RuntimeError as error:
        raise InputError(
            f"NeuralNetwork: the {split} batches do not fit together ({first_line(error)}); "
            "give points of one shape, for example by padding them"
        ) from None
    return x, y


def _batches(split: str, loader: Iterable[Any], number: int | None) -> Iterator[Any]:
    """The batches, with a bar on a terminal, since to decode images takes its time."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        shown = {"console": Console(stderr=True), "transient": True}
        loader = track(loader, description=f"{split} data", total=number, **shown)  # type: ignore[arg-type]
    iterator = iter(loader)
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except NNSimError:
            raise
        except Exception as error:
            raise InputError(
                f"NeuralNetwork: the {split} data fail: {type(error).__name__}: {first_line(error)}; {FORM}"
            ) from error
        yield batch
