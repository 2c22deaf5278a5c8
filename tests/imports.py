"""What the modules of the package import, read from their text."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLUGGABLE = ("integrators", "bias", "systems")


def _modules() -> dict[str, Path]:
    """All modules of the package with their files."""
    folders = [ROOT / "nnsim", *(ROOT / name for name in PLUGGABLE)]
    found = {}
    for folder in folders:
        home = "" if folder.name == "nnsim" else "nnsim."
        for path in sorted(folder.rglob("*.py")):
            name = home + ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = _modules()


def imported(node: ast.AST) -> Iterator[str]:
    """Names of all modules that are imported in some code at run time."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            for alias in child.names:
                full = f"{child.module}.{alias.name}"
                yield full if full in MODULES else child.module
        else:
            yield from imported(child)


@cache
def all_imports() -> dict[str, set[str]]:
    """What each module of the package imports."""
    return {name: set(imported(ast.parse(path.read_text(encoding="utf-8")))) for name, path in MODULES.items()}


def room(module: str) -> str:
    """The folder of a module; empty for the root."""
    parts = module.split(".")
    inside = len(parts) > 2 or MODULES[module].name == "__init__.py"
    return parts[1] if inside and len(parts) > 1 else ""
