"""Who may import whom, as CONTRIBUTING.md says."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLUGGABLE = ("integrators", "bias", "systems")


def imports(path: Path) -> set[str]:
    """Names of all modules that a file imports, at the top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def uses(path: Path, module: str) -> bool:
    return any(name == module or name.startswith(module + ".") for name in imports(path))


@pytest.mark.parametrize("path", files("nnsim"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_engine_imports_nothing_that_is_plugged_in(path):
    for folder in PLUGGABLE:
        assert not uses(path, f"nnsim.{folder}")


@pytest.mark.parametrize("folder", PLUGGABLE)
def test_the_pluggable_folders_do_not_import_each_other(folder):
    for path in files(folder):
        for other in PLUGGABLE:
            assert other == folder or not uses(path, f"nnsim.{other}"), path


def test_matplotlib_and_zarr_have_one_home():
    for path in [*files("nnsim"), *(path for folder in PLUGGABLE for path in files(folder))]:
        assert path.parent.name == "plotting" or not uses(path, "matplotlib"), path
        assert path.name.startswith("trajectory") or not uses(path, "zarr"), path


def test_layers_are_known_to_systems_and_to_the_tangent_kernel_only():
    for path in [*files("nnsim"), *files("integrators"), *files("bias")]:
        assert path.parent.name in ("networks", "ntk") or not uses(path, "torch.nn"), path
