"""Helpers shared by the tests."""

import os
import signal
from collections.abc import Iterable
from typing import TypeVar

import pytest
import torch
from command_line import hear_signals

Case = TypeVar("Case")


def statistics_scale(reduced: float = 0.1) -> float:
    """Factor for sample sizes: 1 with NNSIM_FULL_STATISTICS=1 in the environment, otherwise `reduced`.

    Tolerances follow from the sample size, so what a test asserts holds for both.
    """
    return 1.0 if os.environ.get("NNSIM_FULL_STATISTICS") == "1" else reduced


def few(cases: Iterable[Case]) -> list[Case]:
    """Of statistics that take seconds for each of many cases: all with NNSIM_FULL_STATISTICS=1, else every second."""
    return list(cases)[:: 1 if statistics_scale() == 1 else 2]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors are fastest on one thread, and bits do not depend on the machine's number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def no_fsync():
    """Do not wait for the disk: what is left after a power cut cannot be tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def heard_signals():
    """As in the foreground of a terminal; see `hear_signals`."""
    ignored = hear_signals()
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
