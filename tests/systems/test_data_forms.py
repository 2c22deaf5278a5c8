"""Data in the forms that people have them in: right, or refused with the form to give."""

import logging
import random
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)  # fmt: skip

from nnsim import InputError, Simulation
from nnsim.integrators import MonteCarlo
from nnsim.systems import NeuralNetwork

X = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 3, (30,), generator=torch.Generator().manual_seed(1))
SET = TensorDataset(X, Y)


def system(train: Any, loss: Any = "cross_entropy", outputs: int = 3, **settings: Any) -> NeuralNetwork:
    return NeuralNetwork(lambda: nn.Linear(4, outputs), train, loss=loss, initial="normal", **settings)


class Items(Dataset):
    """A data set of items of any form."""

    def __init__(self, item: Any, number: int = 30) -> None:
        self.item, self.number = item, number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> Any:
        return self.item(index)


class Stream(IterableDataset):
    def __init__(self, number: int | None = 30) -> None:
        self.number = number

    def __iter__(self) -> Iterator[Any]:
        index = 0
        while index != self.number:
            yield X[index % 30], int(Y[index % 30])
            index += 1


class Twice(BatchSampler):
    """Every item in two batches."""

    def __init__(self) -> None:
        super().__init__(SequentialSampler(SET), 2, False)

    def __iter__(self) -> Iterator[list[int]]:
        yield from super().__iter__()
        yield from super().__iter__()


def pair(index: int) -> tuple[Tensor, int]:
    return X[index], int(Y[index])


def collated(items: list[tuple[Tensor, int]]) -> dict[str, Tensor]:
    return {"x": torch.stack([x for x, _ in items]), "y": torch.tensor([y for _, y in items])}


RIGHT: dict[str, Any] = {
    "tensors": (X, Y),
    "a list": [X, Y],
    "dictionary": {"x": X, "y": Y},
    "lists": (X.tolist(), Y.tolist()),
    "list of arrays": (list(X.numpy()), list(Y.numpy())),
    "read-only array": (np.frombuffer(X.numpy().tobytes(), dtype=np.float32).reshape(30, 4), Y.numpy()),
    "reversed view": (X.numpy()[::-1][::-1], Y.numpy()[::-1][::-1]),
    "other byte order": (X.numpy().astype(">f4"), Y.numpy().astype(">i8")),
    "columns first": (np.asfortranarray(X.numpy()), Y.numpy()),
    "tables": (pd.DataFrame(X.numpy()), pd.Series(Y.numpy())),
    "unsigned": (X, Y.numpy().astype(np.uint16)),
    "bytes": (X, Y.to(torch.uint8)),
    "column of labels": (X, Y[:, None]),
    "one-hot": (X, nn.functional.one_hot(Y, 3)),
    "one-hot floats": (X, nn.functional.one_hot(Y, 3).float()),
    "sparse": (X.to_sparse(), Y),
    "with a gradient": (X.clone().requires_grad_(), Y),
    "Dataset": SET,
    "Dataset of pairs": Items(pair),
    "Dataset of dictionaries": Items(lambda i: {"x": X[i].numpy(), "y": Y[i]}),
    "Subset": Subset(TensorDataset(torch.cat([X, X]), torch.cat([Y, Y])), list(range(30))),
    "stream": Stream(),
    "DataLoader": DataLoader(SET, batch_size=7),
    "shuffled": DataLoader(SET, batch_size=7, shuffle=True),
    "last dropped": DataLoader(SET, batch_size=7, drop_last=True),
    "own collation": DataLoader(Items(pair), batch_size=7, collate_fn=collated),
    "loader of a stream": DataLoader(Stream(), batch_size=7),
}


@pytest.mark.parametrize("case", RIGHT)
def test_every_form_gives_the_same_points(case: str) -> None:
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = system(RIGHT[case])
        Simulation(one, MonteCarlo()).advance(2)
    assert torch.equal(one.points("train"), X)
    assert torch.equal(one.targets("train"), Y)
    after = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_numbers_are_rows_of_one_for_a_layer_of_one() -> None:
    for x in (X[:, 0], torch.arange(30)):
        one = NeuralNetwork(lambda: nn.Linear(1, 3), (x, Y), (x[:5], Y[:5]))
        assert torch.equal(one.points("train"), x[:, None].float())
        assert one.points("test").shape == (5, 1)
    words = NeuralNetwork(lambda: nn.Embedding(30, 3), (torch.arange(30), Y))  # which takes numbers as they are
    assert torch.equal(words.points("train"), torch.arange(30))


def test_what_becomes_of_the_order_is_said(caplog: pytest.LogCaptureFixture) -> None:
    words = "all points of the DataLoader's data set are taken, in its own order; shuffle and drop_last play no part"
    for case, told in (("shuffled", 1), ("last dropped", 1), ("DataLoader", 0), ("Dataset", 0)):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="nnsim"):
            system(RIGHT[case])
        assert sum(words in message for message in caplog.messages) == told


def test_what_takes_too_much_memory_is_refused_early() -> None:
    looked = []

    def item(index: int) -> tuple[Tensor, int]:
        looked.append(index)
        return torch.zeros(4), 0

    big = Items(item, number=10_000_000)
    with pytest.raises(InputError, match=r"train takes about 240 MB of memory, but max_memory = 1e\+08 bytes; give fe"):
        system(big, max_memory=1e8)
    assert len(looked) < 1000
    with pytest.raises(InputError, match=r"takes more than 1.*MB of memory, but max_memory = 1e\+06 bytes; .*or raise"):
        system(Stream(None), max_memory=1e6)
    with pytest.raises(InputError, match="max_memory = 0 must be a finite number above 0"):
        system(SET, max_memory=0)


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (X, r"train must be a pair \(points, targets\), but it is a Tensor; give \(points, targets\), {'x': points"),
        ((X, Y, Y), r"but it is a tuple of 3 parts; give \(points, targets\)"),
        ({"pixels": X, "labels": Y}, r"but it is a dict with the keys 'pixels', 'labels'; give"),
        (Items(lambda i: (X[i], Y[i], i)), r"a batch of the Items is a (tuple|list) of 3 parts; give"),
        (
            Items(lambda i: {"image": X[i], "label": Y[i]}),
            r"a batch of the Items is a dict with the keys 'image',",
        ),
        (Items(lambda i: X[i]), r"a batch of the Items is a Tensor; give"),
        (Items(lambda i: (X[i], "cat")), r"train targets cannot be turned into a tensor of numbers .*; number the cl"),
        (Items(lambda i: (X[i, : 1 + i % 2], 0)), r"the train data fail: RuntimeError: stack expects each tensor"),
        (Items(lambda i: (torch.randn(4), 0)), r"gives another item 0 each time, as random augmentations do; leave th"),
        (Items(lambda i: (X[i] * random.random(), 0)), r"gives another item 0 each time"),
        (Items(lambda i: 1 / 0), r"item 0 of the train Dataset fails: ZeroDivisionError: division by zero; repair"),
        (Items(pair, number=0), r"train is empty; give at least one point"),
        (DataLoader(SET, sampler=SubsetRandomSampler(range(5))), r"chooses items by a sampler of its own \(SubsetRan"),
        (DataLoader(SET, sampler=RandomSampler(SET, replacement=True)), r"sampler of its own \(RandomSampler\)"),
        (DataLoader(SET, sampler=RandomSampler(SET, num_samples=3)), r"sampler of its own"),
        (DataLoader(SET, batch_sampler=Twice()), r"sampler of its own"),
        ((X, Y.float()), r"must be integer labels \[N\] for cross-entropy; .* targets.long\(\)"),
        (
            (X, Y + 1),
            r"reach from 1 to 3, but the module has 3 outputs: labels must lie in 0 ... 2; number the clas",
        ),
        ((X, 2 * (Y > 0).long() - 1), r"reach from -1 to 1"),
        ((X, torch.where(Y == 0, -100, Y)), r"reach from -100 to 2.*give loss=torch.nn.CrossEntropyLoss\(ignore_ind"),
        ((X, ["cat", "dog", "cow"] * 10), r"train targets cannot be turned .*; number the classes 0 ... C-1"),
        ((X, np.array(["cat", "dog", "cow"] * 10)), r"train targets cannot be turned .*; number the classes"),
        (((X, X), Y), r"train points cannot be turned into a tensor of numbers .*; convert them to a numeric array"),
        ((np.array([[1, "a"]] * 30, dtype=object), Y), r"train points cannot be turned into a tensor of numbers"),
        ((np.ma.masked_less(X.numpy(), 0), Y), r"some train points are masked; leave those points out"),
        ((X + 0j, Y), r"give real numbers"),
        ((lambda: (X, Y)), r"but it is a function; give"),
    ],
)
def test_other_forms_are_refused_with_the_form_to_give(train: Any, words: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=words) as caught:
            system(train)
    assert "\n" not in str(caught.value)
