"""Public data sets: copies in a local folder first, then the original download.

Each loader looks for its file in the folder named by the environment variable `NNSIM_DATA`, then in nnsim's cache
folder; a file found there must have the right sha256. Otherwise it fetches and parses the original public format, whose
content must have the right sha256 too. Both ways give the same table or arrays.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tempfile
import warnings
import zipfile
import zlib
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnsim.errors import InputError, require_choice
from nnsim.files import whole
from nnsim.installation import extra
from nnsim.systems.tables import table_sha256, tidy

if TYPE_CHECKING:
    import pandas as pd

FOLDER_VARIABLE = "NNSIM_DATA"

HOUSE_PRICES_FILE = "house_prices.csv"
HOUSE_PRICES_SHA256 = "1e18addf81e5e4d347cc17ee6075bbe4a42b7fa26b9e5b063e8f692a5f929d41"
HOUSE_PRICES_OPENML = 42165
# Of the tidy table rather than of a file: what both formats must give.
HOUSE_PRICES_TABLE_SHA256 = "1a93279ac739e07fd6674b8f0da45f2d17e4d02b17948936740de6c981873e4a"

AUTO_MPG_FILE = "auto_mpg.csv"
AUTO_MPG_SHA256 = "0f4dc6964316e4f8fe3bd17434d733196e999c0c761ed796fe419483e5d45858"
AUTO_MPG_URL = "https://archive.ics.uci.edu/static/public/9/auto+mpg.zip"
AUTO_MPG_ZIP, AUTO_MPG_MEMBER = "auto_mpg.zip", "auto-mpg.data"
AUTO_MPG_COLUMNS = (
    "mpg", "cylinders", "displacement", "horsepower", "weight", "acceleration", "model_year", "origin", "name"
)  # fmt: skip
AUTO_MPG_TABLE_SHA256 = "1aba55f922532d43396e6c493f65bb533ccd9f64d99d7db153bfba705f5452f3"

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_FILES = {
    "train": ("mnist_train.npz", "11bf48d67d8e90b9d940549ce9565b4921ad2ec150e4491e0c670aeb165169a9"),
    "test": ("mnist_test.npz", "3ba302235efdc3e7e4e84db9ce6a6d6cbc9dd1162d4e79dd0b6a606afc745423"),
}
# Images and labels of each split: the original's name, torchvision's MD5 of it, and sha256 of what it unpacks to.
MNIST_ORIGINALS = {
    "train": (
        (
            "train-images-idx3-ubyte.gz",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
    ),
    "test": (
        (
            "t10k-images-idx3-ubyte.gz",
            "9fb629c4189551a2d022fa330f9573f3",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            "ec29112dd5afa0611ce80d1b7f02629c",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
}


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


def _downloaded(url: str, filename: str, md5: str, copy: tuple[str, str]) -> Path:
    """Fetch a file into the cache folder, unless it is there already; `copy` is the local copy that would do as well.

    Raises:
        InputError: no network, or bytes with another MD5.
    """
    import pooch

    try:
        return Path(pooch.retrieve(url, known_hash=f"md5:{md5}", fname=filename, path=cache_folder()))
    except (OSError, HTTPException, ValueError) as error:  # the last one: a wrong checksum
        raise not_found(*copy, url, error) from error


def _content(url: str) -> bytes:
    """What is at an address; whoever asks checks it before it is kept."""
    import pooch

    with tempfile.TemporaryDirectory(prefix="nnsim_") as place:
        file = Path(place) / "content"
        pooch.HTTPDownloader()(url, str(file), None)
        return file.read_bytes()


def _require_table(frame: pd.DataFrame, expected: str) -> None:
    """Refuse a table from elsewhere that is not the known one."""
    found = table_sha256(frame)
    if found != expected:
        raise InputError(
            f"its table of {frame.shape[0]} rows x {frame.shape[1]} columns has sha256 {found}, expected {expected}"
        )


# ---------------------------------------------------------------- house prices


def house_prices_frame() -> pd.DataFrame:
    """Load the 1460 houses of Kaggle's House Prices (Ames, Iowa): `Id`, 79 descriptors, `SalePrice` in dollars.

    From the local copy `house_prices.csv` (see `local_copy`), or else from OpenML data set 42165 through scikit-learn's
    `fetch_openml`, which keeps it in the cache folder.

    Returns:
        A table [1460, 81]: numeric columns float64, the others text; missing values are NaN in both. `None` in
        `MasVnrType` is a category (no veneer), not a missing value.

    Raises:
        InputError: a local copy or a download with a wrong checksum, or no local copy and no network; pandas is
            missing.

    Reference: D. De Cock, Journal of Statistics Education 19(3), 2011.
    """
    extra("house_prices_frame", "pandas")
    path = local_copy(HOUSE_PRICES_FILE, HOUSE_PRICES_SHA256)
    return _house_prices_from_openml() if path is None else _with_id(_house_prices_from_csv(path))


def _with_id(table: pd.DataFrame) -> pd.DataFrame:
    frame = tidy(table)
    if "Id" not in frame:  # OpenML marks row identifiers, and fetch_openml leaves those out
        frame.insert(0, "Id", [float(i) for i in range(1, len(frame) + 1)])
    return frame


def _house_prices_from_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    # Left to itself pandas takes the category "None" for a missing value.
    return pd.read_csv(path, keep_default_na=False, na_values=["NA"])


def _house_prices_from_openml() -> pd.DataFrame:
    fetch_openml = extra("house_prices_frame", "sklearn.datasets").fetch_openml
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one for each retry; the error below says it once
            bunch = fetch_openml(
                data_id=HOUSE_PRICES_OPENML, as_frame=True, parser="auto", data_home=str(cache_folder()), n_retries=1
            )
        frame = _with_id(bunch.frame)
        _require_table(frame, HOUSE_PRICES_TABLE_SHA256)
    except (OSError, HTTPException, ValueError, KeyError) as error:  # the last two: a checksum, a strange answer
        if isinstance(error, InputError):  # scikit-learn has kept it
            shutil.rmtree(cache_folder() / "openml", ignore_errors=True)
        source = f"OpenML data set {HOUSE_PRICES_OPENML} from https://www.openml.org/d/{HOUSE_PRICES_OPENML}"
        raise not_found(HOUSE_PRICES_FILE, HOUSE_PRICES_SHA256, source, error) from error
    return frame


# ---------------------------------------------------------------- Auto MPG


def auto_mpg_frame() -> pd.DataFrame:
    """Load the 398 cars of Auto MPG: miles per gallon, seven numbers about the car, and its name.

    From the local copy `auto_mpg.csv` (see `local_copy`), or else from the UCI repository's `auto+mpg.zip`, which is
    kept in the cache folder.

    Returns:
        A table [398, 9] with the columns `AUTO_MPG_COLUMNS`: `name` text, all others float64; six of `horsepower` are
        missing, NaN. `origin` is 1 USA, 2 Europe, 3 Japan.

    Raises:
        InputError: a local copy or a download with a wrong checksum, or no local copy and no network; pandas is
            missing.

    Reference: R. Quinlan, UCI Machine Learning Repository (1993), doi 10.24432/C5859H.
    """
    extra("auto_mpg_frame", "pandas")
    path = local_copy(AUTO_MPG_FILE, AUTO_MPG_SHA256)
    return _auto_mpg_from_uci() if path is None else tidy(_auto_mpg_from_csv(path))


def _auto_mpg_from_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def _auto_mpg_from_uci() -> pd.DataFrame:
    path = cache_folder() / AUTO_MPG_ZIP
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.is_file() else _content(AUTO_MPG_URL)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            frame = tidy(parse_auto_mpg(archive.read(AUTO_MPG_MEMBER).decode("latin-1")))
        _require_table(frame, AUTO_MPG_TABLE_SHA256)  # not the archive, whose bytes depend on who packed it
        if not path.is_file():
            with whole(path, overwrite=True) as partial:
                partial.write_bytes(content)
    except (OSError, HTTPException, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        path.unlink(missing_ok=True)
        raise not_found(AUTO_MPG_FILE, AUTO_MPG_SHA256, AUTO_MPG_URL, error) from error
    return frame


def parse_auto_mpg(text: str) -> pd.DataFrame:
    """Read UCI's `auto-mpg.data`: eight numbers between blanks, `?` for a missing one, a tab, the name in quotes.

    Args:
        text: of the file.

    Returns:
        A table [rows, 9] of text, for `tidy`.

    Raises:
        InputError: a line of another form.
    """
    import pandas as pd

    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        numbers, _, name = line.partition("\t")
        row = [*numbers.split(), name]
        if not line.strip():
            continue
        if len(row) != len(AUTO_MPG_COLUMNS) or not name.strip():
            raise InputError(
                f"{AUTO_MPG_MEMBER}: line {number} has {len(row) - 1} numbers and the name {name!r}, expected 8 and a "
                "name after a tab; get the original file"
            )
        rows.append(row)
    return pd.DataFrame(rows, columns=list(AUTO_MPG_COLUMNS))


# ---------------------------------------------------------------- MNIST


def mnist_arrays(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Load the images and labels of MNIST, in the order of the original files.

    From the local copy `mnist_train.npz` or `mnist_test.npz` (see `local_copy`), or else from the mirror that
    torchvision uses, kept in the cache folder.

    Args:
        split: `"train"`, 60000 images, or `"test"`, 10000.

    Returns:
        Images [N, 28, 28], 0 ... 255, and labels [N], 0 ... 9, uint8.

    Raises:
        InputError: a file with a wrong checksum, or no local copy and no network.

    Reference: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Proc. IEEE 86, 2278 (1998), doi 10.1109/5.726791.
    """
    copy = MNIST_FILES[require_choice("mnist_arrays", "split", split, MNIST_FILES)]
    path = local_copy(*copy)
    if path is None:
        images, labels = (_mnist_original(*original, copy) for original in MNIST_ORIGINALS[split])
        return images, labels
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["x"], arrays["y"]


def _mnist_original(name: str, md5: str, sha256: str, copy: tuple[str, str]) -> np.ndarray:
    path = _downloaded(MNIST_URL + name, name, md5, copy)
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: it cannot be unpacked ({error}); remove it") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise InputError(f"{path}: unpacked it has sha256 {found}, expected {sha256}; remove it")
    return parse_idx(content)


def parse_idx(content: bytes) -> np.ndarray:
    """Read an IDX file of bytes: two zeros, the type 8, the number of axes, their lengths (big-endian), the values.

    Args:
        content: of the file.

    Raises:
        InputError: something else.
    """
    axes = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    start = 4 + 4 * axes
    if not axes or len(content) < start:
        raise InputError(f"IDX file: it starts with {content[:4].hex()}, expected 0000080N; get the original file")
    shape = np.frombuffer(content, ">u4", axes, 4).astype(int)
    if len(content) - start != shape.prod():
        raise InputError(
            f"IDX file: it holds {len(content) - start} values, expected {shape.prod()}; get the original file"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()
