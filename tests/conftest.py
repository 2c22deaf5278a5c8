"""Helpers shared by the tests."""

import os
import signal

import pytest
import torch


def statistics_scale(reduced: float = 0.1) -> float:
    """Factor for sample sizes: 1 with NNSIM_FULL_STATISTICS=1 in the environment, otherwise `reduced`.

    Tolerances follow from the sample size, so what a test asserts holds for both.
    """
    return 1.0 if os.environ.get("NNSIM_FULL_STATISTICS") == "1" else reduced


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors are fastest on one thread, and bits do not depend on the machine's number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def heard_signals():
    """Shells start what runs in their background with Ctrl-C ignored, which processes inherit and nnsim respects.

    So does nohup with SIGHUP.
    """
    numbers = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
    ignored = [number for number in numbers if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
