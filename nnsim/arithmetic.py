"""Arithmetic of collective variables: what is done, what its result is called, and when that comes round.

Names are made of words, since no file may be called a / b. They bind as the signs do, with brackets where these must
stand: `(a_plus_b)_times_c`, `a_over_(b_minus_1)`, `minus_a`.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple


class Sign(NamedTuple):
    """What one of the operations does with two values, and how close it binds them."""

    binds: int
    of: Callable[[Any, Any], Any]


SIGNS = {
    "plus": Sign(1, operator.add),
    "minus": Sign(1, operator.sub),
    "times": Sign(2, operator.mul),
    "over": Sign(2, operator.truediv),
    "power": Sign(3, operator.pow),
}
ATOM = 4  # binds closer than any operation
_BETWEEN = re.compile(rf"_({'|'.join(SIGNS)})_")
_COMMON = 16  # two periods have a common measure if their ratio is one of whole numbers of at most so much
_SAME = 1e-5  # relative, as that of a bias's period and a CV's


# --------------------------------------------------------------------------------------------------------------- names


def name_of(word: str, left: str, right: str) -> str:
    """What the result is called, given the names of the operands."""
    binds = SIGNS[word].binds
    first = left if _binds(left) >= binds else f"({left})"
    second = right if _binds(right) > binds else f"({right})"
    return f"minus_{second}" if (word, first) == ("minus", "0") else f"{first}_{word}_{second}"


def number_name(number: float) -> str:
    """The name of a number: all its digits, and brackets if it is below 0."""
    digits = repr(number).removesuffix(".0")
    return digits if number >= 0 else f"({digits})"


def _binds(name: str) -> int:
    found = operation_of(name)
    return SIGNS[found[1]].binds if found else ATOM


def operation_of(name: str) -> tuple[str, str, str] | None:
    """The operation that is done last according to a name, between the names of its operands; None if there is none.

    >>> operation_of("loss_test_minus_loss_train_times_(2_over_b)")
    ('loss_test', 'minus', 'loss_train_times_(2_over_b)')
    """
    found = [one for one in _BETWEEN.finditer(name) if _is_whole(name[: one.start()])]
    if found:
        last = min(reversed(found), key=lambda one: SIGNS[one[1]].binds)  # of equals the one to the right
        return name[: last.start()], last[1], name[last.end() :]
    return ("", "minus", rest) if (rest := name.removeprefix("minus_")) != name else None


def in_brackets(name: str) -> str | None:
    """What stands inside the pair of brackets that is all of a name; None if there is none."""
    inner = name[1:-1]
    return inner if name[:1] == "(" and name[-1:] == ")" and _is_whole(inner) else None


def _is_whole(text: str) -> bool:
    return text.count("(") == text.count(")")


# ------------------------------------------------------------------------------------------------------------- periods


def period_of(word: str, left: float | None, right: float | None, number: float | None) -> float | None:
    """After how much a result comes round: infinity if it does not, None if an operand says nothing.

    Sums come round where one of their terms does, and multiples after a multiple. Products and quotients of variables,
    powers, and sums whose terms come round after lengths that have no common measure do not: at the edge of the box
    they jump, of which a simulation warns.

    Args:
        word: the operation.
        left: after how much the first operand does; infinity of a number.
        right: the second one.
        number: the operand that is one.
    """
    if left is None or right is None:
        return None
    if word in ("plus", "minus"):
        return _common_measure(left, right)
    period = min(left, right)
    if number is None or math.isinf(period):
        return math.inf
    if word == "times":
        return abs(number) * period if number else math.inf
    if word == "over":
        return period / abs(number) if math.isinf(right) else math.inf
    return period if number == 1 else math.inf


def _common_measure(one: float, other: float) -> float:
    if math.isinf(one) or math.isinf(other):
        return min(one, other)
    ratio = one / other
    simple = Fraction(ratio).limit_denominator(_COMMON)
    if not 0 < simple.numerator <= _COMMON or not math.isclose(ratio, simple, rel_tol=_SAME):
        return math.inf
    return one / simple.numerator
