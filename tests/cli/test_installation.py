"""What is installed: the extras say what brings them, and two checkouts are not mixed."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from command_line import error_of
from imports import all_imports
from pictured_runs import make_run

from nnsim import Trajectory, export, plotting, systems
from nnsim.errors import InputError
from nnsim.installation import BESIDE, EXTRAS
from nnsim.systems.datasets import auto_mpg_frame, house_prices_frame

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Trajectory:
    return make_run(tmp_path_factory.mktemp("run") / "run.zarr", 1)


# -------------------------------------------------------------------------------------------------------------- extras


@pytest.mark.parametrize(
    ("module", "extra", "use"),
    [
        ("imageio_ffmpeg", "movie", lambda run, folder: plotting.make_movie(run, folder / "run.mp4")),
        ("tables", "h5", lambda run, folder: export.export(run, folder / "run.h5")),
        ("pandas", "data", lambda run, folder: house_prices_frame()),
        ("pandas", "data", lambda run, folder: auto_mpg_frame()),
        ("sklearn.datasets", "data", lambda run, folder: systems.digits()),
    ],
)
def test_what_is_missing_says_what_brings_it(
    run: Trajectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    extra: str,
    use: Callable[[Trajectory, Path], Any],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=re.escape(f"which is missing; pip install 'nnsim[{extra}]'")) as caught:
        use(run, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_commands_say_it_too(run: Trajectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("imageio_ffmpeg", "tables"):
        monkeypatch.setitem(sys.modules, module, None)
    assert "pip install 'nnsim[movie]', or write a .gif" in error_of("movie", run.path, "-o", tmp_path / "run.mp4")
    assert "pip install 'nnsim[h5]'" in error_of("export", run.path, tmp_path / "run.h5")


def test_the_house_prices_of_openml_need_scikit_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.setenv("NNSIM_DATA", str(tmp_path))
    monkeypatch.setattr("nnsim.systems.datasets.cache_folder", lambda: tmp_path)
    with pytest.raises(InputError, match=r"scikit-learn, which is missing; pip install 'nnsim\[data\]'"):
        house_prices_frame()


def test_extras_are_those_of_the_package() -> None:
    brought = PROJECT["optional-dependencies"]
    for package, extra in EXTRAS.values():
        assert any(line.startswith(f"{package}>=") for line in brought[extra])
        assert not any(line.startswith(package) for line in PROJECT["dependencies"])
    assert brought["all"] == [f"nnsim[{','.join(dict.fromkeys(extra for _, extra in EXTRAS.values()))}]"]
    assert any(line.startswith("nnsim[all") for line in brought["dev"])


@pytest.mark.slow
def test_what_is_required_is_what_is_imported() -> None:
    """Each package that is imported is required, though another might bring it; and none that is not."""
    owners = metadata.packages_distributions()
    roots = {name.partition(".")[0] for imports in all_imports().values() for name in imports} - {"nnsim", "__future__"}
    imported = {owners[name][0].lower() for name in roots - sys.stdlib_module_names}
    required = {re.split("[<>=]", line)[0] for line in PROJECT["dependencies"]}
    assert imported - {package for package, _ in EXTRAS.values()} == required


@pytest.mark.slow
def test_what_every_installation_has_is_enough(run: Trajectory, tmp_path: Path) -> None:
    """All modules of nnsim can be imported, and a film be written, without the extras."""
    hidden = [*EXTRAS, "sklearn", "pymbar"]
    code = f"""
import importlib, pkgutil, sys
sys.modules |= dict.fromkeys({hidden})
import nnsim
for home in ("nnsim", "nnsim.integrators", "nnsim.bias", "nnsim.systems"):
    package = importlib.import_module(home)
    for one in pkgutil.walk_packages(package.__path__, home + "."):
        if not one.name.endswith("__main__"):
            importlib.import_module(one.name)
from nnsim import plotting
plotting.make_movie(nnsim.Trajectory({str(run.path)!r}), {str(tmp_path / "run.gif")!r}, seconds=0.1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run.gif").stat().st_size > 1000


# ----------------------------------------------------------------------------------------------------------- checkouts


def copied(folder: Path) -> Path:
    """A second checkout."""
    for name in ("nnsim", *BESIDE):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_two_checkouts_are_not_mixed(tmp_path: Path) -> None:
    """The engine is that of the folder where Python starts, but what stands beside it the installed one's."""
    other = copied(tmp_path / "other")

    def started(code: str, *more: str) -> tuple[int, str]:
        command = [sys.executable, *more, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=other)
        return done.returncode, (done.stdout + done.stderr).strip().rpartition("\n")[2]

    code, line = started("import nnsim")
    assert code == 1
    assert line == (
        f"nnsim.errors.InputError: nnsim is imported from {other / 'nnsim'}, but nnsim.integrators from "
        f"{ROOT / 'integrators'}; they must come from one checkout: start Python in another folder, or pip install "
        f"-e {other}"
    )
    # where the working directory is not searched, all is the installed one's
    assert started("import nnsim; print(nnsim.__path__[0])", "-P") == (0, str(ROOT / "nnsim"))
    # with no other installation there is nothing to be mixed with, and the three are nowhere
    code, line = started("import nnsim", "-S")
    assert code == 1
    assert "but nnsim.integrators from nowhere; they must come from one checkout" in line
    # as in an installed wheel
    for name in BESIDE:
        (other / name).rename(other / "nnsim" / name)
    assert started("import nnsim; print(nnsim.__path__[0])") == (0, str(other / "nnsim"))
    assert started("import sys, nnsim; print(sorted({'torch', 'numpy'} & set(sys.modules)))") == (0, "[]")
