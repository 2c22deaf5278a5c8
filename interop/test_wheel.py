"""The package as users get it, a wheel in an environment with nothing else: `make test-wheel`.

These tests are outside `testpaths`, since the environment takes a minute to make. Only torch is not installed anew: it
stands there as links to the one of the environment that runs the tests. What torch needs is installed as all the rest.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LARGEST = 650e6  # bytes beside torch and what torch itself requires
COMPILED = 1.5  # bytes of compiled Python for each of its source, measured on all that is installed
SCRIPT = """
import nnsim
from nnsim import Grid, cv
from nnsim.bias import WangLandau
from nnsim.integrators import MonteCarlo
from nnsim.schedules import RampHoldInverseTime
from nnsim.systems import spiral_classification


def build(width: int = 4) -> nnsim.Simulation:
    system = spiral_classification(hidden=(width,), points_per_class=10)
    grid = Grid(lower=-3.0, upper=1.0, bins=20, kind="bins")
    bias = WangLandau(cv.LogLoss("train"), grid, RampHoldInverseTime(0.05, ramp=0, hold=1e4))
    return nnsim.Simulation(
        system, MonteCarlo(), bias=bias, observe=[cv.Accuracy("test")], walkers=2, steps=50_000, every=50,
        positions_every=500,
    )
"""


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    """The Python of a new environment that has the wheel in NNSIM_WHEELS, and no pip."""
    (wheel,) = Path(os.environ["NNSIM_WHEELS"]).glob("nnsim-*.whl")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        there = Path(folder) / ("Scripts" if os.name == "nt" else "bin") / "python"
        link_torch(packages(there))
        # Python compiles what it imports; pip would compile all, which takes longer than all tests of this file.
        pip = [sys.executable, "-m", "pip", "--python", str(there), "install", "--quiet", "--no-compile"]
        subprocess.run([*pip, "--constraint", str(ROOT / "constraints.txt"), str(wheel)], check=True)
        yield there


def packages(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())


def link_torch(site: Path) -> None:
    """Make torch appear installed, as a link to each of its folders."""
    torch = metadata.distribution("torch")
    tops = {file.parts[0] for file in torch.files or () if file.parts[0] not in ("..", "__pycache__")}
    for name in tops:
        (site / name).symlink_to(torch.locate_file(name))


@pytest.fixture(scope="module")
def folder(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that the installed `nnsim` has made."""
    folder = tmp_path_factory.mktemp("somewhere")
    (folder / "input.py").write_text(SCRIPT)
    done = nnsim(python, folder, "run", "input.py", "--set", "width=5", "--no-progress")
    assert done.returncode == 0, done.stderr
    return folder


def nnsim(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "NNSIM"))}
    command = [str(python.with_name("nnsim")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


def test_it_is_small(python: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Installed bytes, with those of Python once it is compiled."""
    site = packages(python)
    sizes = {path.name: size_of(path) for path in site.iterdir() if not path.is_symlink()}
    whole, of_torch = sum(sizes.values()), sum(sizes[name] for name in required_by_torch(site) if name in sizes)
    largest = sorted(sizes.items(), key=lambda one: -one[1])[:8]
    listed = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in largest)
    with capsys.disabled():
        print(f"\nbeside torch {whole / 1e6:.0f} MB, {of_torch / 1e6:.0f} MB of which torch requires: {listed}")
    assert 0 < whole - of_torch < LARGEST


def required_by_torch(site: Path) -> set[str]:
    """What is in `site` for torch, and for what it requires; numpy is not."""
    found, left = {}, ["torch"]
    while left:
        name = left.pop()
        (found[name],) = metadata.distributions(name=name, path=[str(site)])
        lines = [one for one in found[name].requires or () if "extra ==" not in one and ";" not in one]
        names = {re.split(r"[^\w.-]", line)[0].lower() for line in lines}
        left += [one for one in names if one not in found]
    return {file.parts[0] for one in found.values() for file in one.files or ()}


def size_of(path: Path) -> float:
    files = (file for file in ([path] if path.is_file() else path.rglob("*")) if not file.is_dir())
    return sum(
        file.lstat().st_size * (1 + COMPILED * (file.suffix == ".py")) for file in files if file.suffix != ".pyc"
    )


def test_what_it_needs_is_there(python: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(python), "check"]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_module_can_be_imported(python: Path, tmp_path: Path) -> None:
    code = """
import importlib, pkgutil, nnsim
for one in pkgutil.walk_packages(nnsim.__path__, "nnsim."):
    if not one.name.endswith("__main__"):
        importlib.import_module(one.name)
print(nnsim.__path__[0])
"""
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()) == packages(python) / "nnsim"


@pytest.mark.parametrize(
    "command",
    [
        "info input.zarr",
        "plot landscape input.zarr -o landscape.png",
        "analyze equilibrium input.zarr --of accuracy_test --since 0.1 -o table.csv",
        "export input.zarr out.dcd",
        "report input.zarr -o report.html",
    ],
)
def test_commands(python: Path, folder: Path, command: str) -> None:
    words = command.split()
    done = nnsim(python, folder, *words)
    assert done.returncode == 0, done.stderr
    if words[0] == "info":
        assert "MonteCarlo" in done.stdout
    for name in words[2:]:
        if name.startswith(("landscape", "table", "out", "report")):
            assert (folder / name).stat().st_size > 0


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("movie input.zarr -o run.mp4", "movie"),
        ("export input.zarr out.h5", "h5"),
        ("run digits.py", "data"),
        ("run cars.py", "data"),
    ],
)
def test_what_is_missing_says_its_command(python: Path, folder: Path, command: str, extra: str) -> None:
    for name, system in (("digits", "digits"), ("cars", "auto_mpg")):
        head = f"import nnsim\nfrom nnsim.systems import {system}\n\n\ndef build() -> nnsim.Simulation:\n"
        (folder / f"{name}.py").write_text(head + f"    return {system}()\n")
    done = nnsim(python, folder, *command.split())
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert f"which is missing; pip install 'nnsim[{extra}]'" in done.stderr


def test_it_is_what_the_checkout_has(python: Path) -> None:
    """A module that is in no list of pyproject.toml would be missing from the wheel."""
    site = packages(python) / "nnsim"
    assert modules(site) == set().union(
        modules(ROOT / "nnsim"), *(modules(ROOT / name, ROOT) for name in ("integrators", "bias", "systems"))
    )
    assert (site / "py.typed").is_file()


def modules(folder: Path, root: Path | None = None) -> set[str]:
    return {path.relative_to(root or folder).as_posix() for path in folder.rglob("*.py")}
