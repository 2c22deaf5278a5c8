"""Who may import whom, as CONTRIBUTING.md says; what is imported inside functions counts, annotations do not."""

import ast
import importlib
import re
import subprocess
import sys

import pytest
from imports import MODULES, PLUGGABLE, ROOT, all_imports, imported, room

from nnsim import earlier_names, protocols
from nnsim.running.checks.contract import attributes_of, defaults_of, methods_of

# The engine's root holds what every reader needs first; everything else has a room.
AT_THE_ROOT = {
    "__init__", "__main__", "arithmetic", "box", "criteria", "describe", "earlier_names", "errors", "evaluation",
    "files", "forcefield", "installation", "lattice", "jit", "lazy", "lock", "logit", "precision",
    "protocols", "schedules", "simulation", "state",
}  # fmt: skip
# Room -> what it may import of other rooms; the root is free to all.
MAY_IMPORT = {
    "grid": (),
    "random": (),
    "program": ("random",),
    "networks": (),
    "identity": ("networks",),
    "trajectory": ("identity", "networks", "running"),  # a module is built again from the recorded script
    "running": ("identity", "program", "random", "trajectory", "networks", "analysis"),  # a sweep's table
    "platforms": ("grid", "networks", "program", "random", "running"),
    "cv": ("networks",),
    "integrators": ("program", "random", "running"),  # a minimisation is a run
    "bias": ("grid", "random"),
    "methods": ("bias", "cv", "integrators", "random", "running"),  # whole ones, put together from parts
    "systems": ("cv", "networks", "platforms", "random"),
    "analysis": ("grid", "trajectory", "networks"),
    "export": ("analysis", "networks", "trajectory"),
    "plotting": ("analysis", "grid", "networks"),
    "report": ("analysis", "plotting", "trajectory"),
    "cli": ("analysis", "export", "integrators", "platforms", "plotting", "report", "running", "trajectory"),
}

# Those that deal with parts; in the others what is asked for is that of arrays, files and code.
ROOMS_OF_PARTS = ("running", "platforms", "program", "integrators", "bias", "systems")
MODULES_OF_PARTS = ("nnsim.simulation", "nnsim.forcefield", "nnsim.evaluation", "nnsim.identity.ownership")


def test_no_module_imports_itself_by_way_of_others() -> None:
    """By Tarjan's order: modules that only import what is known to be free of circles are free of them."""
    left = {name: {one for one in imports if one in MODULES and one != name} for name, imports in all_imports().items()}
    while free := [name for name, imports in left.items() if not imports]:
        for name in free:
            del left[name]
        for imports in left.values():
            imports.difference_update(free)
    assert left == {}


def test_parts_are_asked_plainly_for_what_their_protocols_say() -> None:
    """No getattr or hasattr: what is used is in the protocols; `said` asks those parts that need not inherit."""
    parts = [getattr(protocols, name) for name in ("System", "CollectiveVariable", "Bias", "Integrator", "Platform")]
    kept = {name for one in parts for find in (attributes_of, methods_of, defaults_of) for name in find(one)}
    assert {"name", "kT", "dt", "masses", "period", "native", "observe", "batch_loss", "advance"} <= kept
    found = []
    for module in MODULES:
        if room(module) in ROOMS_OF_PARTS or module in MODULES_OF_PARTS:
            found += [(module, call) for call in _asked(module) if call[1] in kept]
    assert found == []


def _asked(module: str) -> list[tuple[str, str]]:
    """Each getattr and hasattr of a module with a name that stands there, and the name."""
    calls = [
        one for one in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))) if isinstance(one, ast.Call)
    ]
    names = [(ast.unparse(call.func), call.args[1:2]) for call in calls]
    return [
        (function, str(given[0].value))
        for function, given in names
        if function in ("getattr", "hasattr") and given and isinstance(given[0], ast.Constant)
    ]


def test_what_is_at_the_root() -> None:
    assert {path.stem for path in (ROOT / "nnsim").glob("*.py")} == AT_THE_ROOT


@pytest.mark.parametrize("module", MODULES)
def test_rooms_import_only_what_they_may(module: str) -> None:
    own = room(module)
    others = {room(one) for one in all_imports()[module] if one in MODULES} - {"", own}
    if own:
        assert others <= set(MAY_IMPORT[own])
    elif module != "nnsim.__main__":
        assert not others & {*PLUGGABLE, "analysis", "export", "plotting", "report", "cli", "cv"}


@pytest.mark.slow
def test_tests_can_be_run_folder_by_folder() -> None:
    """A file of tests imports from those beside it only; what several folders share lies above them."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
            assert not name.startswith("test_") or path.with_name(f"{name.partition('.')[0]}.py").exists(), path


def test_every_room_has_its_rule() -> None:
    assert {room(module) for module in MODULES} - {""} == set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("matplotlib", ("plotting",)),
        ("zarr", ("trajectory", "export")),
        ("mdtraj", ("export",)),
        ("torch.nn", ("networks", "identity", "cv", "systems")),
        ("click", ("cli",)),
    ],
)
def test_libraries_have_one_home(library: str, homes: tuple[str, ...]) -> None:
    users = {
        name for name, imports in all_imports().items() if any(f"{one}.".startswith(f"{library}.") for one in imports)
    }
    assert users
    assert {room(name) for name in users} <= set(homes), users


def test_a_run_does_not_know_how_it_lies_on_the_disk() -> None:
    """`running/storage` goes by the protocol; one store of it writes trajectories."""
    users = {name for name, imports in all_imports().items() if "nnsim.trajectory.writer.TrajectoryWriter" in imports}
    users |= {name for name, imports in all_imports().items() if "nnsim.trajectory.writer" in imports}
    assert users == {"nnsim.running.zarr_store"}
    kept = all_imports()["nnsim.running.storage"]
    assert not [one for one in kept if one.startswith(("nnsim.trajectory", "nnsim.running.checkpoint"))]


@pytest.mark.parametrize(
    "start", ["import nnsim", "import nnsim; nnsim.Trajectory", "import nnsim.cli", "import nnsim.networks.layout"]
)
def test_what_is_loaded_at_the_start(start: str) -> None:
    code = (
        f"import sys; {start}; print(*sorted({{'torch', 'zarr', 'matplotlib', 'mdtraj', 'numba'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_no_earlier_name_is_that_of_something_else() -> None:
    for name in earlier_names.MOVED:
        package, _, last = name.rpartition(".")
        assert last not in getattr(importlib.import_module(package), "__all__", ())


@pytest.mark.parametrize("earlier", earlier_names.MOVED)
def test_modules_are_found_by_their_earlier_names(earlier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package, _, name = earlier.rpartition(".")
    # an import sets the name in the package, where a function such as `nnsim.analysis.scaling` may have it
    monkeypatch.setitem(vars(importlib.import_module(package)), name, None)
    monkeypatch.delitem(sys.modules, earlier, raising=False)
    with pytest.warns(DeprecationWarning, match=re.escape(f"{earlier} is now {earlier_names.MOVED[earlier]}")):
        module = importlib.import_module(earlier)
    now = sys.modules[earlier_names.MOVED[earlier]]
    assert module is now
    assert (now.__name__, now.__spec__.name) == (earlier_names.MOVED[earlier],) * 2
    del sys.modules[earlier]


@pytest.mark.parametrize(
    "package",
    [
        "grid.Grid",
        "grid.Kernel",
        "random.RandomStreams",
        "trajectory.Trajectory",
        "trajectory.TrajectoryWriter",
        "analysis.landscape.EntropyLandscape",
    ],
)
def test_modules_that_became_folders_have_their_names(package: str) -> None:
    module, _, name = f"nnsim.{package}".rpartition(".")
    assert getattr(importlib.import_module(module), name).__name__ == name
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'"):
        getattr(importlib.import_module(module), "nothing")  # noqa: B009
