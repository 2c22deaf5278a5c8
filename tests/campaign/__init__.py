"""Kills, bit flips, full disks and bad input, by the hundred: what becomes of them.

    make campaign                 60 kills, 1000 flips, 500 bad inputs, 40 full disks; prints the table of
                                  docs/reliability.md
    python -m campaign flips -n 50 --seed 3       one of them

The tests run each in a reduced form (`test_campaign.py`). A trial ends in one of these outcomes; the last four are
failures of nnsim:

| outcome | meaning |
|---|---|
| right | nothing was lost: all that is read is as it was, and what was interrupted goes on to the same bits |
| told | refused, in one line that names the file or the value |
| silent | a number differs, and nothing says so |
| lost | something that was computed is gone |
| raw | an error of numpy, torch, zarr or Python, or one of several lines |
| stuck | no end within the time |
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

GOOD = ("right", "told")
BAD = ("silent", "lost", "raw", "stuck")


class Trial(NamedTuple):
    """What was done to what, and what became of it."""

    kind: str
    what: str
    outcome: str
    detail: str = ""


Campaign = Callable[[int, random.Random], Iterator[Trial]]
