"""Tables of numbers and text: the same one whatever the format it came in."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# Ways to write "missing" in text: Kaggle's NA and ARFF's ?. "None" is not one of them: it is a category of MasVnrType.
MISSING = frozenset({"", "NA", "?"})


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """Give the same table, whatever reader it came from.

    Readers of CSV and ARFF disagree on types (integers, floats, categories, text or objects), on what a missing value
    is (NaN, None, pandas' NA, the text NA or ?) and keep or strip the quotes that ARFF puts around text with spaces.
    Here a column whose values are all numbers becomes float64, every other one text without quotes, with NaN for
    missing values in both; rows are numbered from 0.

    Args:
        frame: a table [rows, columns].
    """
    import pandas as pd

    return pd.DataFrame({str(name): _tidy_column(frame[name]) for name in frame.columns})


def _tidy_column(column: pd.Series) -> pd.Series:
    import pandas as pd

    missing = column.isna().to_numpy()
    values = [None if gone else _plain(value) for value, gone in zip(column.tolist(), missing, strict=True)]
    try:
        return pd.Series([float("nan") if value is None else float(value) for value in values], dtype="float64")
    except (TypeError, ValueError):  # at least one is not a number
        return pd.Series([float("nan") if value is None else str(value) for value in values], dtype=object)


def _plain(value: Any) -> Any:
    """Strip white space and quotes around text; None for a word that means missing."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    return None if text in MISSING else text


def table_sha256(frame: pd.DataFrame) -> str:
    """Checksum of a tidy table: of its names and values, not of how a program stores or prints it."""
    columns = [[name, *map(str, frame[name].tolist())] for name in frame.columns]
    return hashlib.sha256(repr(columns).encode()).hexdigest()
