"""Modes of torch that are set for a whole thread, and must not reach into a run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar, cast

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Function = TypeVar("Function", bound=Callable[..., Any])


def undisturbed(function: Function) -> Function:
    """Let a function compute in the types that it is given, with graphs, whatever surrounds the call.

    `torch.autocast` would change the precision of a run without a word, and under `torch.inference_mode` nothing has a
    gradient. `torch.no_grad` needs nothing here: whoever needs a gradient enables it.
    """

    @functools.wraps(function)
    def call(*args: Any, **settings: Any) -> Any:
        if not _disturbed():  # the ordinary case, a fraction of a microsecond
            return function(*args, **settings)
        with _plain():
            return function(*args, **settings)

    return cast("Function", call)


def _disturbed() -> bool:
    return torch.is_inference_mode_enabled() or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


@contextmanager
def _plain() -> Iterator[None]:
    """Autocast and inference mode off; grad mode, which leaving the latter would turn on, stays as it is."""
    keeps_graphs = torch.is_grad_enabled() or torch.is_inference_mode_enabled()
    with ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.set_grad_enabled(keeps_graphs))
        for device in filter(torch.is_autocast_enabled, ("cpu", "cuda")):
            modes.enter_context(torch.autocast(device, enabled=False))
        yield


class DispatchMode(TorchDispatchMode):
    """A look at the operations of torch as they happen, without loading torch's compiler, which takes seconds."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
