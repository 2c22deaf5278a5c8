"""Arithmetic of collective variables in native code: rows, each made of a network's outputs, or of rows before it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from nnsim.arithmetic import SIGNS
from nnsim.jit import FUSED, compiled

# Kinds of the rows that follow on those of losses and accuracies, in both kinds of native code.
NUMBER, PLUS, MINUS, TIMES, OVER, POWER = range(5, 11)
_KINDS = {"plus": PLUS, "minus": MINUS, "times": TIMES, "over": OVER, "power": POWER}


class Row(NamedTuple):
    """What one value is made of.

    Attributes:
        known: what a CV says of itself: kind, split, slope and scale; None for others.
        kind: NUMBER, or of an operation; -1 of a CV's own.
        left, right: the rows that are operated on.
        number: itself.
    """

    known: tuple[str, str, float, float] | None
    kind: int = -1
    left: int = 0
    right: int = 0
    number: float = 1.0


def rows_of(cvs: Iterable[Any]) -> tuple[list[Row], list[int]]:
    """The rows that native CVs are made of, each once and behind those that it needs, and the row of each CV."""
    places: dict[Row, int] = {}
    own = [_place(cv, places) for cv in cvs]
    return list(places), own


def _place(operand: Any, places: dict[Row, int]) -> int:
    if isinstance(operand, float):
        row = Row(None, NUMBER, number=operand)
    elif operand.native[0] in SIGNS:
        word, left, right = operand.native
        row = Row(None, _KINDS[word], _place(left, places), _place(right, places))
    else:
        row = Row(operand.native)
    return places.setdefault(row, len(places))


def needed(rows: list[Row], wanted: Collection[int]) -> set[int]:
    """Numbers of the wanted rows, and of all that these are made of."""
    found = set(wanted)
    for number in reversed(range(len(rows))):
        if number in found and rows[number].kind > NUMBER:
            found |= {rows[number].left, rows[number].right}
    return found


@compiled(FUSED, inline=True)
def combine(kind, a, b):  # type: ignore[no-untyped-def]
    """The value of an operation."""
    if kind == PLUS:
        return a + b
    if kind == MINUS:
        return a - b
    if kind == TIMES:
        return a * b
    return a / b if kind == OVER else a**b


@compiled(FUSED, inline=True)
def slopes(kind, a, b):  # type: ignore[no-untyped-def]
    """The derivatives of an operation by its operands; that by an exponent, a number, is not needed."""
    if kind == PLUS:
        return 1.0, 1.0
    if kind == MINUS:
        return 1.0, -1.0
    if kind == TIMES:
        return b, a
    if kind == OVER:
        return 1 / b, -(a / b) / b
    return (b * a ** (b - 1) if b != 0 else 0.0), 0.0
