"""Loaders: one table whatever the format, checked copies, and clear words when nothing can be had."""

import csv
import gzip
import hashlib
import io
import json
import os
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets

from nnsim.errors import InputError, NNSimWarning
from nnsim.systems import datasets
from nnsim.systems.datasets import house_prices_frame, local_copy, table_sha256, tidy
from nnsim.systems.house_prices import prepare


@pytest.fixture(scope="module")
def data_folder():
    """The folder with the real files; its absence is a failure, because a skipped test would hide it."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
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
    return cache


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


def test_a_damaged_download_is_never_used(data_folder, no_local_data):
    write_openml_cache(no_local_data, data_folder / datasets.HOUSE_PRICES_FILE, text_type="string", identifier=False)
    [path] = no_local_data.rglob("house_prices.arff.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"208500", b"208501")))
    # scikit-learn sees the wrong checksum, removes the file and tries to download it anew.
    with pytest.raises(InputError, match="Name or service"):
        house_prices_frame()
    assert not path.exists()


def test_another_table_from_openml_warns(no_local_data, monkeypatch):
    class Bunch:
        frame = pd.DataFrame({"Id": [1, 2], "SalePrice": [1.0, 2.0]})

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **settings: Bunch)
    with pytest.warns(NNSimWarning, match="2 rows x 2 columns"):
        house_prices_frame()
