"""What a bias on a grid tells a platform that makes its deposits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# What biases say of themselves, as `native`, that have `deposit_plan` and `take_account`.
LEARNT = ("grid", "hills")
# Those that stand still but at some steps, at which a platform calls their `update`; `next_update` tells the next.
NOW_AND_THEN = ("exchange", "kernels")


class DepositPlan(NamedTuple):
    """What a learnt bias will deposit in the next steps.

    Attributes:
        pace: after the steps that it divides; 0 for never.
        heights: energy of a deposit, summed over the kernel, after so many more of them; the last holds on.
        tempering: heights are multiplied by exp(-V / tempering), if it is above 0.
        steps: for how many steps this is known.
    """

    pace: int
    heights: np.ndarray
    tempering: float
    steps: int


def numbers_follow_tables(bias: Any) -> bool:
    """Whether what a bias says of itself may follow from its tables: the class that says it does not deny it."""
    owner = next(one for one in type(bias).__mro__ if "observables" in vars(one))
    return not vars(owner).get("numbers_of_counts", False)
