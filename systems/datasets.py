"""Public data sets: copies in a local folder first, then the original download.

Each loader looks for its file in the folder named by the environment variable `NNSIM_DATA`, then in nnsim's cache
folder; a file found there must have the right sha256. Otherwise it fetches and parses the original public format.
Both ways give the same table.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnsim.errors import InputError, NNSimWarning

if TYPE_CHECKING:
    import pandas as pd

FOLDER_VARIABLE = "NNSIM_DATA"

HOUSE_PRICES_FILE = "house_prices.csv"
HOUSE_PRICES_SHA256 = "1e18addf81e5e4d347cc17ee6075bbe4a42b7fa26b9e5b063e8f692a5f929d41"
HOUSE_PRICES_OPENML = 42165
# Of the tidy table rather than of a file: what both formats must give.
HOUSE_PRICES_TABLE_SHA256 = "1a93279ac739e07fd6674b8f0da45f2d17e4d02b17948936740de6c981873e4a"

# Ways to write "missing" in text: Kaggle's NA and ARFF's ?. "None" is not one of them: it is a category of MasVnrType.
MISSING = frozenset({"", "NA", "?"})


def cache_folder() -> Path:
    """Where downloads are kept: the user's cache folder for nnsim, such as ~/.cache/nnsim."""
    import pooch

    return Path(pooch.os_cache("nnsim"))


def local_copy(filename: str, sha256: str) -> Path | None:
    """Find the file in the folder named by `NNSIM_DATA`, or else in the cache folder; None if it is in neither.

    Args:
        filename: name of the file.
        sha256: expected checksum of its bytes, in hexadecimal.

    Raises:
        InputError: the file is there, but cannot be read or has another checksum.
    """
    for folder in _local_folders():
        path = folder / filename
        if path.is_file():
            _check_sha256(path, sha256)
            return path
    return None


def _local_folders() -> list[Path]:
    named = os.environ.get(FOLDER_VARIABLE)
    return [*([Path(named).expanduser().absolute()] if named else []), cache_folder()]


def _check_sha256(path: Path, expected: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: this data file cannot be read ({error.strerror}); make it readable") from error
    if found != expected:
        raise InputError(
            f"{path}: this data file has sha256 {found}, expected {expected}; it is damaged or another version, so "
            "replace or remove it"
        )


def not_found(filename: str, sha256: str, source: str, error: Exception) -> InputError:
    """Build the error for a data set that is neither here nor can be downloaded, in one line.

    Args:
        filename: the local copy that was looked for.
        sha256: its checksum.
        source: what would be downloaded from where.
        error: why the download failed.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    variable = f"{FOLDER_VARIABLE}={named}" if named else f"{FOLDER_VARIABLE} is not set"
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(
        f"{filename}: not in the folder named by {FOLDER_VARIABLE} ({variable}) nor in {cache_folder()}, and "
        f"downloading {source} failed ({reason}); go online once, or put {filename} (sha256 {sha256}) into a folder "
        f"and set {FOLDER_VARIABLE} to it"
    )


def house_prices_frame() -> pd.DataFrame:
    """Load the 1460 houses of Kaggle's House Prices (Ames, Iowa): `Id`, 79 descriptors, `SalePrice` in dollars.

    From the local copy `house_prices.csv` (see `local_copy`), or else from OpenML data set 42165 through scikit-learn's
    `fetch_openml`, which keeps it in the cache folder.

    Returns:
        A table [1460, 81]: numeric columns float64, the others text; missing values are NaN in both. `None` in
        `MasVnrType` is a category (no veneer), not a missing value.

    Raises:
        InputError: a local copy with a wrong checksum, or no local copy and no network.

    Reference: D. De Cock, Journal of Statistics Education 19(3), 2011.
    """
    path = local_copy(HOUSE_PRICES_FILE, HOUSE_PRICES_SHA256)
    frame = tidy(_house_prices_from_openml() if path is None else _house_prices_from_csv(path))
    if "Id" not in frame:  # OpenML marks row identifiers, and fetch_openml leaves those out
        frame.insert(0, "Id", [float(i) for i in range(1, len(frame) + 1)])
    if table_sha256(frame) != HOUSE_PRICES_TABLE_SHA256:
        warnings.warn(
            f"house_prices_frame: OpenML's table {HOUSE_PRICES_OPENML} ({frame.shape[0]} rows x {frame.shape[1]} "
            "columns) differs from the known one, so results may differ too; compare it with Kaggle's train.csv",
            NNSimWarning,
            stacklevel=2,
        )
    return frame


def _house_prices_from_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    # Left to itself pandas takes the category "None" for a missing value.
    return pd.read_csv(path, keep_default_na=False, na_values=["NA"])


def _house_prices_from_openml() -> pd.DataFrame:
    from sklearn.datasets import fetch_openml

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one for each retry; the error below says it once
            bunch = fetch_openml(
                data_id=HOUSE_PRICES_OPENML, as_frame=True, parser="auto", data_home=str(cache_folder()), n_retries=1
            )
    except (OSError, HTTPException, ValueError, KeyError) as error:  # the last two: a checksum, a strange answer
        source = f"OpenML data set {HOUSE_PRICES_OPENML} from https://www.openml.org/d/{HOUSE_PRICES_OPENML}"
        raise not_found(HOUSE_PRICES_FILE, HOUSE_PRICES_SHA256, source, error) from error
    return bunch.frame


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
