"""Helpers shared by the tests."""

import os

import pytest
import torch


def statistics_scale() -> float:
    """Factor for sample sizes: 1 with NNSIM_FULL_STATISTICS=1 in the environment, otherwise a quarter.

    Tolerances follow from the sample size, so what a test asserts holds for both.
    """
    return 1.0 if os.environ.get("NNSIM_FULL_STATISTICS") == "1" else 0.25


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors are fastest on one thread, and bits do not depend on the machine's number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
