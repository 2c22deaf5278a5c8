"""One function for all formats, as `nnsim export` has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnsim.errors import InputError, require_choice, require_path, require_text
from nnsim.export import molecular, states, tables, zarrmd

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

_ATOMS = ("walker", "every", "selection")
_TABLE = (*_ATOMS, "observables", "with_positions")
# format -> what writes it, what it counts, and the options it knows
_FORMATS: Mapping[str, tuple[Callable[..., int], str, tuple[str, ...]]] = {
    "h5": (molecular.write_h5, "frames", _ATOMS),
    "dcd": (molecular.write_dcd, "frames", _ATOMS),
    "trr": (molecular.write_trr, "frames", _ATOMS),
    "zarrmd": (zarrmd.write_zarrmd, "frames", (*_ATOMS, "observables")),
    "npz": (tables.write_npz, "arrays", _TABLE),
    "csv": (tables.write_csv, "rows", _TABLE),
    "safetensors": (states.write_safetensors, "tensors", ("walker", "frame", "step")),
}
EXTENSIONS = {f".{name}": name for name in _FORMATS}
"""End of the output -> format."""
FORMATS = tuple(_FORMATS)
REFUSED = {
    "xtc": "XTC rounds to 3 decimals, which destroys parameters; use .h5, .trr or .dcd",
    "pdb": "PDB has columns of 3 decimals and at most 99999 atoms; use .h5, which holds the topology too",
}
"""Formats that nnsim does not write, and why."""


def export(
    trajectory: Trajectory | Path | str,
    output: Path | str,
    *,
    format: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> str:
    """Write a trajectory to a file of another program; returns what was written, in words.

    Args:
        trajectory: what is read, or its path.
        output: the file or folder.
        format: `h5`, `dcd`, `trr`, `zarrmd`, `npz`, `csv` or `safetensors`; None is by the end of `output`.
        overwrite: replace an existing file.
        **options: those of the function that writes the format: `walker`, `every`, `selection` and, where it has them,
            `observables`, `with_positions`, `frame`, `step`; None is the default.

    Raises:
        InputError: a format that is not known or is refused (xtc, pdb), an option that the format does not have, and
            what `write_h5`, `write_csv`... say.
    """
    from nnsim.analysis.averages.common_frames import opened

    output = require_path("export", "output", output)
    name = _format(output, format)
    write, counted, known = _FORMATS[name]
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in known:
            raise InputError(f"export: {key} = {given[key]!r} is not used for {name}, which has {', '.join(known)}")
    count = write(opened(trajectory), output, overwrite=overwrite, **given)
    return f"{output}: {count} {counted}"


def _format(output: Path, asked: str | None) -> str:
    """The format asked for, which must fit the end of the output; or the one that the end stands for."""
    end = output.suffix.lower()
    name = end.removeprefix(".") if asked is None else require_text("export", "format", asked)
    if name in REFUSED:
        raise InputError(f"export: {REFUSED[name]}")
    if asked is None and end == ".zarr":
        raise InputError("export: a .zarr is written with --format zarrmd; give it, or call the output NAME.zarrmd")
    require_choice("export", "format", name, FORMATS)
    if end != f".{name}" and not (name == "zarrmd" and end == ".zarr"):
        raise InputError(f"export: {output} must end in .{name}, by which other programs know the format; rename it")
    return name
