"""A strict H5MD file in Zarr, for the reader zarrtraj of MDAnalysis."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nnsim.errors import InputError, require_choice, require_path
from nnsim.export.molecular import chosen_atoms
from nnsim.export.walker_frames import (
    Indices,
    WalkerFrames,
    block_length,
    chosen_observables,
    is_per_walker,
    opened_run,
    walkers,
)
from nnsim.files import whole, write_json
from nnsim.trajectory.columns import Column, SeriesColumns, write_array
from nnsim.trajectory.layout import ensure_group, read_attributes

if TYPE_CHECKING:
    from nnsim.trajectory.frames import Frames
    from nnsim.trajectory.reader import Trajectory

Block: TypeAlias = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]  # steps and times [T], values [T, ...]
GROUP = "particles/parameters"
CREATOR = "nnsim export"
CHUNK_BYTES, MOST_FRAMES = 250_000, 16384
# zarrtraj files observables beside these names.
TAKEN = ("position", "velocity", "force", "box/edges", "step", "time", "parameters")


def write_zarrmd(
    trajectory: Trajectory,
    output: Path | str,
    *,
    walker: int = 0,
    every: int = 1,
    selection: str | None = None,
    observables: tuple[str, ...] | None = None,
    overwrite: bool = False,
) -> int:
    """Write one walker as H5MD in Zarr (format 2), one group of 3-dimensional particles; returns the number of frames.

    `import zarrtraj; MDAnalysis.Universe("out.zarrmd", to_guess=())` reads it: `ts.positions[i]` is
    (q, 0, 0), and there are `ts.time`, `ts.data["step"]` and `ts.data[NAME]`, the observable at that frame, or None
    where it was not recorded. zarrtraj needs zarr 2, so it cannot live in one environment with nnsim.

    Positions are stored as recorded and exact (MDAnalysis reads them as float32), with the unit angstrom and times with
    the unit ps, since MDAnalysis refuses files without units: nothing is converted, and nothing is meant by them.
    Atom i is the parameter at place `particles/parameters/id[i]` of the flat positions, the order of
    `nnsim.export.atom_order`.

    MDAnalysis will superpose and rotate (`rms.rmsd(superposition=True)`, `align`), take centres of mass and radii of
    gyration in 3 dimensions, and guess masses and bonds where it is asked to: parameter space has no such symmetry, so
    none of that has a meaning.

    Args:
        trajectory: with recorded positions.
        output: the folder, which must end in .zarrmd or .zarr for zarrtraj to open it.
        walker: one of the walkers, from 0.
        every: every so many frames of the positions.
        selection: only these parameters, in the words of `nnsim.trajectory.selection`.
        observables: their names; None is all. Of each, the frames at the exported steps are written.
        overwrite: replace an earlier export; nothing else is ever replaced.

    Raises:
        InputError: as `to_mdtraj`; the output exists or ends otherwise; an observable has a name that the reader uses.

    References:
        de Buyl et al., Comput. Phys. Commun. 185, 1546 (2014), doi:10.1016/j.cpc.2014.01.018: H5MD 1.1.
    """
    trajectory, output = opened_run(trajectory, "write_zarrmd"), require_path("write_zarrmd", "output", output)
    require_choice("write_zarrmd", "the end of the output", output.suffix, (".zarrmd", ".zarr"))
    frames = chosen_atoms(trajectory, "write_zarrmd", walker, every, selection)
    recorded = chosen_observables(trajectory, observables)
    for name in recorded:
        if name in TAKEN:
            raise InputError(f"write_zarrmd: MDAnalysis has a {name!r} of its own; choose among the other observables")
    with whole(output, overwrite=overwrite, replaceable=_is_export) as partial:
        _write_groups(partial, trajectory)
        _write_positions(partial, frames)
        for name, series in recorded.items():
            own = frames.walker if is_per_walker(series, walkers(trajectory)) else None
            _write_observable(partial / "observables", name, series, frames.step, own)
    return len(frames)


def _is_export(folder: Path) -> bool:
    return folder.is_dir() and read_attributes(folder / "h5md" / "creator").get("name") == CREATOR


def _write_groups(root: Path, trajectory: Trajectory) -> None:
    for group in ("h5md/author", "h5md/creator", f"{GROUP}/box", "observables", "parameters/nnsim"):
        ensure_group(root, group)
    write_json(root / "h5md" / ".zattrs", {"version": [1, 1]})
    author = read_attributes(trajectory.root / "h5md" / "author")
    write_json(root / "h5md" / "author" / ".zattrs", author or {"name": "unknown"})
    write_json(root / "h5md" / "creator" / ".zattrs", {"name": CREATOR, "version": _version()})
    write_json(root / GROUP / "box" / ".zattrs", {"dimension": 3, "boundary": ["none"] * 3})
    write_json(root / "parameters" / "nnsim" / ".zattrs", trajectory.header)


def _write_positions(root: Path, frames: WalkerFrames) -> None:
    order = frames.columns
    write_array(root / GROUP / "id", order)
    blocks = ((block.step, block.time, block.xyz) for block in frames.blocks())
    _write_element(ensure_group(root, f"{GROUP}/position"), blocks, unit="Angstrom")


def _write_observable(folder: Path, name: str, series: Frames, steps: Indices, walker: int | None) -> None:
    """The frames of an observable at those of the exported steps that it has."""
    rows = np.flatnonzero(np.isin(series.step, steps))
    if not len(rows):
        return
    group = ensure_group(folder, name)
    size = block_length(int(np.prod(series.shape[1:])) * series.dtype.itemsize)
    step, time = series.step, series.time

    def blocks() -> Iterator[Block]:
        for first in range(0, len(rows), size):
            part = rows[first : first + size]
            yield step[part], time[part], series[part] if walker is None else series[part, walker]

    _write_element(group, blocks(), unit=None)


def _write_element(folder: Path, blocks: Iterator[Block], unit: str | None) -> None:
    """Value, step and time; MDAnalysis wants the unit of every time, and of lengths."""
    columns: SeriesColumns | None = None
    for step, time, values in blocks:
        columns = columns or _columns(folder, values[0])
        columns.extend(folder.name, step, time, values)
    assert columns is not None  # there is at least one frame
    for column in columns.columns:
        column.write()
    write_json(folder / "time" / ".zattrs", {"unit": "ps"})
    if unit is not None:
        write_json(folder / "value" / ".zattrs", {"unit": unit})


def _columns(folder: Path, frame: NDArray[Any]) -> SeriesColumns:
    """Growing arrays whose chunks are small, since zarrtraj decodes a whole one for each frame that it reads."""
    length = min(max(CHUNK_BYTES // max(frame.nbytes, 1), 1), MOST_FRAMES)
    like = {"value": frame, "step": np.zeros((), np.int64), "time": np.zeros((), np.float64)}
    return SeriesColumns(
        *(Column(folder / name, np.empty((length, *one.shape), one.dtype)) for name, one in like.items())
    )


def _version() -> str:
    try:
        return version("nnsim")
    except PackageNotFoundError:
        return "unknown"
