"""Loaders: one table whatever the format, checked copies, and clear words when nothing can be had."""

import csv
import gzip
import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pandas as pd
import pooch
import pytest
import sklearn.datasets

from nnsim.errors import InputError
from nnsim.systems import datasets
from nnsim.systems.auto_mpg import prepare as prepare_cars
from nnsim.systems.datasets import (
    auto_mpg_frame,
    house_prices_frame,
    local_copy,
    mnist_arrays,
    parse_auto_mpg,
    parse_idx,
    table_sha256,
    tidy,
)
from nnsim.systems.house_prices import prepare


@pytest.fixture(scope="module")
def data_folder():
    """The folder with the real files; its absence is a failure, because a skipped test would hide it."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("NNSIM_DATA", beside)).absolute()
    if not (folder / datasets.HOUSE_PRICES_FILE).is_file():
        pytest.fail(f"no {datasets.HOUSE_PRICES_FILE} in {folder}; set NNSIM_DATA to the folder that holds it")
    return folder


@pytest.fixture
def no_local_data(tmp_path, monkeypatch):
    """An empty cache folder, and no NNSIM_DATA."""
    monkeypatch.delenv("NNSIM_DATA", raising=False)
    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets, "cache_folder", lambda: cache)
    monkeypatch.setattr("sklearn.datasets._openml.urlopen", no_network)
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", no_network)
    return cache


@pytest.fixture
def public_files(no_local_data, monkeypatch):
    """What the internet holds, by address, for pooch; and a list of what was asked for."""
    files, asked = {}, []

    def download(self, url, output_file, *args, **settings):
        asked.append(url)
        if url not in files:
            raise URLError("404")
        Path(output_file).write_bytes(files[url])

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", download)
    return files, asked


def no_network(*args, **settings):
    raise URLError("Name or service not known")


# ---------------------------------------------------------------- local copies


def test_local_copy_prefers_the_named_folder_then_the_cache(no_local_data, tmp_path, monkeypatch):
    sha256 = hashlib.sha256(b"data").hexdigest()
    assert local_copy("a.bin", sha256) is None
    no_local_data.mkdir()
    (no_local_data / "a.bin").write_bytes(b"data")
    assert local_copy("a.bin", sha256) == no_local_data / "a.bin"
    named = tmp_path / "named"
    named.mkdir()
    monkeypatch.setenv("NNSIM_DATA", str(named))
    assert local_copy("a.bin", sha256) == no_local_data / "a.bin"
    (named / "a.bin").write_bytes(b"data")
    assert local_copy("a.bin", sha256) == named / "a.bin"


def test_local_copy_with_a_wrong_checksum_names_file_expected_and_found(no_local_data, tmp_path, monkeypatch):
    path = tmp_path / datasets.HOUSE_PRICES_FILE
    path.write_text("Id,SalePrice\n1,2\n")
    monkeypatch.setenv("NNSIM_DATA", str(tmp_path))
    with pytest.raises(InputError) as raised:
        house_prices_frame()
    message = str(raised.value)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert all(part in message for part in (str(path), found, datasets.HOUSE_PRICES_SHA256, "replace or remove"))
    assert "\n" not in message


def test_the_cache_folder_is_nnsims_own():
    assert datasets.cache_folder().name.lower() == "nnsim" or "nnsim" in datasets.cache_folder().parts


# ---------------------------------------------------------------- no network


@pytest.mark.parametrize("named", [None, "some/folder"])
def test_without_data_and_network_one_line_says_what_to_do(no_local_data, monkeypatch, named):
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", no_network)
    if named:
        monkeypatch.setenv("NNSIM_DATA", named)
    with pytest.raises(InputError) as raised:
        house_prices_frame()
    message = str(raised.value)
    assert "\n" not in message
    expected = ("house_prices.csv", "NNSIM_DATA", "42165", "openml.org/d/42165", "Name or service", str(no_local_data))
    assert all(part in message for part in expected)
    assert (named or "is not set") in message


@pytest.mark.parametrize(
    "error", [ValueError("md5 checksum\ndoes not match"), TimeoutError(), ConnectionResetError("x")]
)
def test_every_way_to_fail_to_download_is_one_line(no_local_data, monkeypatch, error):
    def fail(**settings):
        raise error

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fail)
    with pytest.raises(InputError, match="42165") as raised:
        house_prices_frame()
    assert "\n" not in str(raised.value)


# ---------------------------------------------------------------- one table from every reader


def test_tidy_gives_one_table_for_every_convention():
    expected = {
        "Id": [1.0, 2.0, 3.0],
        "LotFrontage": [65.0, float("nan"), 80.5],
        "MasVnrType": ["None", float("nan"), "Brk Cmn"],
    }
    csv_like = pd.DataFrame(
        {"Id": [1, 2, 3], "LotFrontage": ["65", "NA", "80.5"], "MasVnrType": ["None", "NA", "Brk Cmn"]}
    )
    arff_like = pd.DataFrame(
        {
            "Id": pd.array([1, 2, 3], dtype="Int64"),
            "LotFrontage": [65.0, np.nan, 80.5],
            "MasVnrType": pd.Categorical(["None", None, "'Brk Cmn'"]),
        },
        index=[7, 8, 9],
    )
    objects = pd.DataFrame(
        {
            "Id": pd.Series([1, 2, 3], dtype=object),
            "LotFrontage": pd.Series([65, None, "80.5"], dtype=object),
            "MasVnrType": pd.Series(["None", None, ' "Brk Cmn"'], dtype=object),
        }
    )
    extension = pd.DataFrame(
        {
            "Id": ["1", "2", "3"],
            "LotFrontage": pd.array([65.0, pd.NA, 80.5], dtype="Float64"),
            "MasVnrType": pd.array(["None", "?", "Brk Cmn"], dtype="string"),
        }
    )
    for frame in (csv_like, arff_like, objects, extension):
        result = tidy(frame)
        assert list(result.dtypes) == [np.float64, np.float64, object]
        assert list(result.index) == [0, 1, 2]
        for name, values in expected.items():
            assert all(a == b or (a != a and b != b) for a, b in zip(result[name], values, strict=True)), name
        assert table_sha256(result) == table_sha256(tidy(csv_like))
    pd.testing.assert_frame_equal(tidy(tidy(csv_like)), tidy(csv_like))


def test_the_checksum_of_a_table_sees_every_value_and_name():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "None"]})
    others = (
        frame.rename(columns={"a": "c"}),
        frame[["b", "a"]],
        frame.replace("None", float("nan")),
        frame.replace(2.0, 2.0 + 1e-15),
    )
    assert len({table_sha256(other) for other in (frame, *others)}) == 5


def test_house_prices_from_the_local_copy(data_folder, monkeypatch):
    monkeypatch.setenv("NNSIM_DATA", str(data_folder))
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", no_network)
    frame = house_prices_frame()
    assert frame.shape == (1460, 81)
    assert table_sha256(frame) == datasets.HOUSE_PRICES_TABLE_SHA256
    assert set(frame.dtypes) == {np.dtype(np.float64), np.dtype(object)}
    assert frame["Id"].tolist() == list(range(1, 1461))
    # Mean, deviation and median as given with the file.
    assert frame["SalePrice"].mean() == pytest.approx(180921.1959, abs=1e-4)
    assert frame["SalePrice"].std() == pytest.approx(79442.5029, abs=1e-4)
    assert frame["SalePrice"].median() == 163000


def test_none_is_a_category_of_the_veneer_and_not_a_missing_value(data_folder, monkeypatch):
    monkeypatch.setenv("NNSIM_DATA", str(data_folder))
    veneer = house_prices_frame()["MasVnrType"]
    assert (veneer == "None").sum() == 864
    assert veneer.isna().sum() == 8


# ---------------------------------------------------------------- OpenML's format, through the real fetch_openml


def arff_value(text, data_type, as_float):
    """A cell as OpenML writes it: ? for missing, quotes around text with spaces, some whole numbers as 65.0."""
    if text == "NA":
        return "?"
    if data_type == "numeric":
        return str(float(text)) if as_float else text
    return f"'{text}'" if any(mark in text for mark in " &()") else text


def write_openml_cache(folder, csv_path, *, text_type, identifier):
    """What fetch_openml(data_id=42165) would have left in its cache, made from the CSV file."""
    with open(csv_path, newline="") as file:
        names, *rows = csv.reader(file)
    numeric = [
        all(cell == "NA" or cell.replace(".", "", 1).isdigit() for cell in column) for column in zip(*rows, strict=True)
    ]
    types = ["numeric" if is_number else text_type for is_number in numeric]
    floats = ["NA" in column for column in zip(*rows, strict=True)]
    cells = [[arff_value(*cell) for cell in zip(row, types, floats, strict=True)] for row in rows]
    lines = ["% a comment", "@RELATION house_prices", ""]
    for i, (name, kind) in enumerate(zip(names, types, strict=True)):
        categories = sorted({row[i] for row in cells} - {"?"})
        spelled = {"numeric": "REAL", "string": "STRING", "nominal": "{" + ",".join(categories) + "}"}[kind]
        lines.append(f"@ATTRIBUTE {name} {spelled}")
    lines.append("@DATA")
    lines += [",".join(row) for row in cells]
    arff = ("\n".join(lines) + "\n").encode()
    url = "https://api.openml.org/data/v1/download/22044765/house_prices.arff"
    flags = {"is_ignore": "false", "is_row_identifier": "false", "number_of_missing_values": "0"}
    features = [
        {"index": str(i), "name": name, "data_type": kind, "is_target": str(name == "SalePrice").lower(), **flags}
        for i, (name, kind) in enumerate(zip(names, types, strict=True))
    ]
    features[0]["is_row_identifier"] = str(identifier).lower()
    description = {
        "id": "42165",
        "name": "house_prices",
        "version": "1",
        "format": "ARFF",
        "status": "active",
        "url": url,
    }
    description |= {"md5_checksum": hashlib.md5(arff).hexdigest(), "description": "House prices", "file_id": "22044765"}
    quality = [{"name": "NumberOfInstances", "value": "1460.0"}]
    files = {
        "api/v1/json/data/42165": json.dumps({"data_set_description": description}).encode(),
        "api/v1/json/data/features/42165": json.dumps({"data_features": {"feature": features}}).encode(),
        "api/v1/json/data/qualities/42165": json.dumps({"data_qualities": {"quality": quality}}).encode(),
        "data/v1/download/22044765/house_prices.arff": arff,
    }
    for name, content in files.items():
        path = folder / "openml" / "openml.org" / f"{name}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content))


@pytest.mark.slow
@pytest.mark.parametrize("identifier", [False, True])
@pytest.mark.parametrize("text_type", ["string", "nominal"])
@pytest.mark.parametrize("parser", ["pandas", "liac-arff"])
def test_openmls_format_gives_the_same_table(data_folder, no_local_data, monkeypatch, text_type, identifier, parser):
    path = data_folder / datasets.HOUSE_PRICES_FILE
    write_openml_cache(no_local_data, path, text_type=text_type, identifier=identifier)
    fetch = sklearn.datasets.fetch_openml
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **settings: fetch(**{**settings, "parser": parser}))
    downloaded = house_prices_frame()
    monkeypatch.setenv("NNSIM_DATA", str(data_folder))
    copied = house_prices_frame()
    pd.testing.assert_frame_equal(downloaded, copied, check_exact=True)
    for ours, theirs in zip(prepare(downloaded, 3)[:2], prepare(copied, 3)[:2], strict=True):
        assert all(bool((a == b).all()) for a, b in zip(ours, theirs, strict=True))


# Three houses as they stand in OpenML's own file.
OPENML_ROWS = """\
4,70,RL,60.0,9550,Pave,?,IR1,Lvl,AllPub,Corner,Gtl,Crawfor,Norm,Norm,1Fam,2Story,7,5,1915,1970,Gable,CompShg,'Wd Sdng',\
'Wd Shng',None,0.0,TA,TA,BrkTil,TA,Gd,No,ALQ,216,Unf,0,540,756,GasA,Gd,Y,SBrkr,961,756,0,1717,1,0,1,0,3,1,Gd,7,Typ,1,\
Gd,Detchd,1998.0,Unf,3,642,TA,TA,Y,0,35,272,0,0,0,?,?,?,0,2,2006,WD,Abnorml,140000
31,70,'C (all)',50.0,8500,Pave,Pave,Reg,Lvl,AllPub,Inside,Gtl,IDOTRR,Feedr,Norm,1Fam,2Story,4,4,1920,1950,Gambrel,\
CompShg,BrkFace,BrkFace,None,0.0,TA,Fa,BrkTil,TA,TA,No,Unf,0,Unf,0,649,649,GasA,TA,N,SBrkr,649,668,0,1317,0,0,1,0,3,1,\
TA,6,Typ,0,?,Detchd,1920.0,Unf,1,250,TA,Fa,N,0,54,172,0,0,0,?,MnPrv,?,0,7,2008,WD,Normal,40000
40,90,RL,65.0,6040,Pave,?,Reg,Lvl,AllPub,Inside,Gtl,Edwards,Norm,Norm,Duplex,1Story,4,5,1955,1955,Gable,CompShg,\
AsbShng,Plywood,None,0.0,TA,TA,PConc,?,?,?,?,0,?,0,0,0,GasA,TA,N,FuseP,1152,0,0,1152,0,0,2,0,2,2,Fa,6,Typ,0,?,?,?,?,\
0,0,?,?,N,0,0,0,0,0,0,?,?,?,0,6,2008,WD,AdjLand,82000
"""


def test_rows_of_openmls_own_file_are_those_of_the_copy(data_folder, monkeypatch):
    monkeypatch.setenv("NNSIM_DATA", str(data_folder))
    copy = house_prices_frame()
    raw = pd.read_csv(io.StringIO(OPENML_ROWS), header=None, names=list(copy.columns), keep_default_na=False)
    expected = copy.iloc[[3, 30, 39]].reset_index(drop=True)
    # A column without a value in these three rows has no type, so compare values.
    for name, column in tidy(raw).items():
        pairs = zip(column.tolist(), expected[name].tolist(), strict=True)
        assert all(a == b or (a != a and b != b) for a, b in pairs), name


@pytest.mark.slow
def test_a_damaged_download_is_never_used(data_folder, no_local_data):
    write_openml_cache(no_local_data, data_folder / datasets.HOUSE_PRICES_FILE, text_type="string", identifier=False)
    [path] = no_local_data.rglob("house_prices.arff.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"208500", b"208501")))
    # scikit-learn sees the wrong checksum, removes the file and tries to download it anew.
    with pytest.raises(InputError, match="Name or service"):
        house_prices_frame()
    assert not path.exists()


def test_another_table_from_openml_is_refused_and_not_kept(no_local_data, monkeypatch):
    class Bunch:
        frame = pd.DataFrame({"Id": [1, 2], "SalePrice": [1.0, 2.0]})

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **settings: Bunch)
    (no_local_data / "openml").mkdir(parents=True)
    with pytest.raises(InputError, match=r"2 rows x 2 columns has sha256 .*, expected 1a93.*go online once, or put"):
        house_prices_frame()
    assert not list(no_local_data.iterdir())


# ---------------------------------------------------------------- Auto MPG


# Lines of the original file: a missing number, a name with a quote mark, a number without a digit after its point.
AUTO_MPG_LINES = """\
18.0   8   307.0      130.0      3504.      12.0   70  1\t"chevrolet chevelle malibu"
14.0   8   340.0      160.0      3609.       8.0   70  1\t"plymouth 'cuda 340"
9.0    8   304.0      193.0      4732.      18.5   70  1\t"hi 1200d"
25.0   4   98.00      ?          2046.      19.0   71  1\t"ford pinto"
"""


def original_lines(csv_path):
    """The local copy, written as UCI's file is."""
    with open(csv_path, newline="") as file:
        _, *rows = csv.reader(file)
    for mpg, cylinders, displacement, horsepower, weight, acceleration, year, origin, name in rows:
        power = f"{float(horsepower):.1f}" if horsepower else "?"
        yield (
            f"{float(mpg):<7.1f}{cylinders:<4}{float(displacement):<11.1f}{power:<11}{weight + '.':<11}"
            f'{float(acceleration):<7.1f}{year:<4}{origin}\t"{name}"'
        )


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_auto_mpg_from_the_local_copy(data_folder, monkeypatch):
    monkeypatch.setenv("NNSIM_DATA", str(data_folder))
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", no_network)
    frame = auto_mpg_frame()
    assert frame.shape == (398, 9)
    assert table_sha256(frame) == datasets.AUTO_MPG_TABLE_SHA256
    assert list(frame.dtypes) == [np.float64] * 8 + [object]
    # as given with the file
    assert frame["mpg"].mean() == pytest.approx(23.5146, abs=1e-4)
    assert frame["horsepower"].isna().sum() == frame.isna().to_numpy().sum() == 6
    assert [int((frame["origin"] == origin).sum()) for origin in (1, 2, 3)] == [249, 70, 79]


def test_lines_of_the_original_file_are_those_of_the_copy(data_folder, monkeypatch):
    monkeypatch.setenv("NNSIM_DATA", str(data_folder))
    copy = auto_mpg_frame().iloc[[0, 11, 28, 32]].reset_index(drop=True)
    pd.testing.assert_frame_equal(tidy(parse_auto_mpg(AUTO_MPG_LINES)), copy, check_exact=True)
    assert next(original_lines(data_folder / datasets.AUTO_MPG_FILE)) == AUTO_MPG_LINES.splitlines()[0]


def test_ucis_zip_gives_the_same_table(data_folder, public_files, no_local_data, monkeypatch):
    files, asked = public_files
    text = "\n".join(original_lines(data_folder / datasets.AUTO_MPG_FILE)) + "\n"
    files[datasets.AUTO_MPG_URL] = zipped(**{"Index": "", "auto-mpg.names": "about", "auto-mpg.data": text})
    downloaded, again = auto_mpg_frame(), auto_mpg_frame()
    assert asked == [datasets.AUTO_MPG_URL]  # once
    assert (no_local_data / "auto_mpg.zip").is_file()
    monkeypatch.setenv("NNSIM_DATA", str(data_folder))
    copied = auto_mpg_frame()
    for frame in (downloaded, again):
        pd.testing.assert_frame_equal(frame, copied, check_exact=True)
    for ours, theirs in zip(prepare_cars(downloaded, 3), prepare_cars(copied, 3), strict=True):
        assert all(bool((a == b).all()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>come back later</html>", "not a zip file"),
        (zipped(other="x"), "auto-mpg.data"),
        (zipped(**{"auto-mpg.data": AUTO_MPG_LINES + "1 2 3\t'x'\n"}), "line 5 has 3 numbers"),
        (zipped(**{"auto-mpg.data": AUTO_MPG_LINES.replace("\t", " ")}), "line 1 has"),
    ],
)
def test_a_download_that_is_no_table_is_refused_and_not_kept(public_files, no_local_data, content, words):
    files, asked = public_files
    files[datasets.AUTO_MPG_URL] = content
    for attempt in (1, 2):
        with pytest.raises(InputError, match=words) as raised:
            auto_mpg_frame()
        assert "\n" not in str(raised.value)
        assert len(asked) == attempt
        assert not list(no_local_data.iterdir())


def test_another_table_of_cars_is_refused_and_not_kept(public_files, no_local_data):
    """Also one that somebody has put into the cache."""
    files, asked = public_files
    files[datasets.AUTO_MPG_URL] = zipped(**{"auto-mpg.data": AUTO_MPG_LINES})
    for cached in (False, True):
        if cached:
            (no_local_data / datasets.AUTO_MPG_ZIP).write_bytes(files[datasets.AUTO_MPG_URL])
        with pytest.raises(InputError, match=r"4 rows x 9 columns has sha256 .*, expected 1aba.*go online once, or"):
            auto_mpg_frame()
        assert not list(no_local_data.iterdir())
    assert len(asked) == 1


def test_every_download_has_a_checksum(public_files, monkeypatch):
    asked = []
    monkeypatch.setattr(pooch, "retrieve", lambda url, known_hash, **settings: asked.append(known_hash) or "nothing")
    for load in (auto_mpg_frame, lambda: mnist_arrays("train"), lambda: mnist_arrays("test")):
        with pytest.raises((InputError, FileNotFoundError)):
            load()
    assert all(isinstance(known, str) and ":" in known for known in asked)


# ---------------------------------------------------------------- MNIST


def idx(array):
    """An array of bytes as an IDX file."""
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def test_mnist_from_the_local_copies(data_folder, monkeypatch):
    """First labels, class counts and checksums of the original files, as given with the data."""
    monkeypatch.setenv("NNSIM_DATA", str(data_folder))
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", no_network)
    for split, count in (("train", 60_000), ("test", 10_000)):
        images, labels = mnist_arrays(split)
        assert (images.shape, labels.shape) == ((count, 28, 28), (count,))
        assert images.dtype == labels.dtype == np.uint8
        for array, (_, _, sha256) in zip((images, labels), datasets.MNIST_ORIGINALS[split], strict=True):
            assert hashlib.sha256(idx(array)).hexdigest() == sha256
        if split == "train":
            assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
            assert np.bincount(labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_mnists_original_files_give_the_same_arrays(data_folder, public_files, monkeypatch):
    """Rebuilt from the local copy; the MD5 of the compressed files depend on the compressor, so they are set anew."""
    files, asked = public_files
    monkeypatch.setenv("NNSIM_DATA", str(data_folder))
    expected = mnist_arrays("test")
    monkeypatch.delenv("NNSIM_DATA")
    originals = []
    for array, (name, _, sha256) in zip(expected, datasets.MNIST_ORIGINALS["test"], strict=True):
        content = gzip.compress(idx(array), 1)
        files[datasets.MNIST_URL + name] = content
        originals.append((name, hashlib.md5(content).hexdigest(), sha256))
    monkeypatch.setitem(datasets.MNIST_ORIGINALS, "test", tuple(originals))
    for _ in range(2):
        for ours, theirs in zip(mnist_arrays("test"), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == np.uint8
            assert ours.flags.writeable
    assert asked == [datasets.MNIST_URL + name for name, _, _ in originals]  # each once


def test_the_addresses_and_checksums_are_torchvisions():
    from_torchvision = {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    }
    assert {name: md5 for files in datasets.MNIST_ORIGINALS.values() for name, md5, _ in files} == from_torchvision


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (lambda: mnist_arrays("train"), ("mnist_train.npz", "train-images-idx3-ubyte.gz", "NNSIM_DATA is not set")),
        (
            lambda: mnist_arrays("test"),
            ("mnist_test.npz", "t10k-images-idx3-ubyte.gz", datasets.MNIST_FILES["test"][1]),
        ),
        (auto_mpg_frame, ("auto_mpg.csv", "archive.ics.uci.edu", datasets.AUTO_MPG_SHA256)),
    ],
)
def test_neither_data_nor_network_is_one_line(no_local_data, load, words):
    with pytest.raises(InputError) as raised:
        load()
    message = str(raised.value)
    assert "\n" not in message
    assert all(part in message for part in (*words, "Name or service", "go online once", str(no_local_data)))


def test_images_with_a_wrong_checksum_are_never_used(public_files, no_local_data, monkeypatch):
    files, _ = public_files
    name = datasets.MNIST_ORIGINALS["test"][0][0]
    files[datasets.MNIST_URL + name] = content = gzip.compress(idx(np.zeros((2, 28, 28), np.uint8)))
    with pytest.raises(InputError, match="does not match"):  # torchvision's MD5
        mnist_arrays("test")
    assert not (no_local_data / name).exists()
    damaged = (name, hashlib.md5(content).hexdigest(), datasets.MNIST_ORIGINALS["test"][0][2])
    monkeypatch.setitem(datasets.MNIST_ORIGINALS, "test", (damaged, datasets.MNIST_ORIGINALS["test"][1]))
    with pytest.raises(InputError, match=r"unpacked it has sha256 .*, expected 0fa7898d.*; remove it"):
        mnist_arrays("test")


def test_a_local_copy_of_mnist_with_a_wrong_checksum_is_refused(no_local_data, tmp_path, monkeypatch):
    (tmp_path / "mnist_test.npz").write_bytes(b"not a zip")
    monkeypatch.setenv("NNSIM_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"mnist_test.npz: this data file has sha256 .*replace or remove"):
        mnist_arrays("test")
    with pytest.raises(InputError, match=r"split = 'validation' is not known; choose one of 'train', 'test'"):
        mnist_arrays("validation")


def test_idx_files_of_any_number_of_axes():
    for shape in ((3,), (2, 3), (2, 3, 4)):
        array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        np.testing.assert_array_equal(parse_idx(idx(array)), array)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "starts with , expected 0000080N"),
        (b"\0\0\x0d\1\0\0\0\1\0", "starts with 00000d01"),
        (b"\0\0\x08\2\0\0\0\1", "starts with 00000802"),
        (idx(np.zeros(3, np.uint8))[:-1], "holds 2 values, expected 3"),
        (idx(np.zeros(3, np.uint8)) + b"x", "holds 4 values, expected 3"),
    ],
)
def test_what_is_no_idx_file_is_refused(content, words):
    with pytest.raises(InputError, match=words):
        parse_idx(content)
