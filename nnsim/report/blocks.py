"""What a report is made of, before it becomes a page: notices, tables, pictures and folded texts in sections."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nnsim.errors import NNSimError, TrajectoryError

WARNING, NOTE = "warning", "note"


@dataclass(frozen=True)
class Notice:
    """Something to know before believing the numbers.

    Args:
        kind: `"warning"`, which speaks against the result, or `"note"`.
        title: in a few words.
        text: a sentence.
        details: further lines.
    """

    kind: str
    title: str
    text: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows of text below named columns; the first column names the row."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture as PNG, with the text for those who do not see it."""

    png: bytes
    alt: str
    caption: str


@dataclass(frozen=True)
class Text:
    """A paragraph, or as `code` lines that keep their form."""

    text: str
    code: bool = False


@dataclass(frozen=True)
class Folded:
    """A long text behind a line that opens it."""

    summary: str
    text: str


Block = Table | Picture | Text | Folded


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    sentences: Sequence[str]
    facts: Sequence[tuple[str, str]]
    notices: Sequence[Notice]
    sections: Sequence[Section]


@dataclass
class Attempts:
    """Collects what could not be made, so that one picture that fails does not cost the whole report."""

    notices: list[Notice] = field(default_factory=list)

    @contextmanager
    def of(self, what: str, kind: str = NOTE) -> Iterator[None]:
        """Turn an error of nnsim inside the `with` block into a notice that `what` is left out, and why."""
        try:
            yield
        except NNSimError as error:
            kind = WARNING if isinstance(error, TrajectoryError) else kind  # something on disk is damaged
            self.notices.append(Notice(kind, "Left out", f"{what}: {error}"))

    def made(self, makers: Iterable[tuple[str, Callable[[], Iterable[Block]]]], kind: str = NOTE) -> list[Block]:
        """The blocks of all makers, each with what it makes in words, but of those that fail."""
        blocks: list[Block] = []
        for what, maker in makers:
            with self.of(what, kind):
                blocks += maker()
        return blocks


def number(value: Any) -> str:
    """A number in up to five digits; text as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return "not known" if math.isnan(value) else f"{value:.5g}".replace("-", "\N{MINUS SIGN}", value < 0)


def short(value: float, digits: int = 3) -> str:
    """A number in a few digits."""
    return "not known" if math.isnan(value) else f"{value:.{digits}g}".replace("-", "\N{MINUS SIGN}", value < 0)


def with_error(value: float, error: float) -> str:
    """A number with its standard error, to two digits of the error.

    >>> with_error(0.123456, 0.0123), with_error(2.0, float("nan"))
    ('0.123 ± 0.012', '2')
    """
    if not (math.isfinite(error) and math.isfinite(value)) or error <= 0:
        return number(float(value))
    digits = min(1 - math.floor(math.log10(error)), 12)
    value, error, digits = round(value, digits), round(error, digits), max(digits, 0)
    if abs(value) >= 1e7 or error < 1e-10:  # too many digits to be read
        return f"{number(float(value))} ± {error:.2g}"
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}") + f" ± {error:.{digits}f}"


def nice(width: float) -> float:
    """The nearest of 1, 2 and 5 times a power of ten that is not smaller."""
    if not (math.isfinite(width) and width > 0):
        return 1.0
    power = 10.0 ** math.floor(math.log10(width))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= width * (1 - 1e-9)))
