"""Tables: .npz for numpy, .csv for everything else. Both are written in blocks, whatever the length of the run."""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsim.errors import InputError, require_flag, require_integer
from nnsim.export.walker_frames import (
    Indices,
    block_length,
    chosen_observables,
    is_per_walker,
    opened_run,
    positions,
    require_walker,
    selected,
    walkers,
)
from nnsim.files import whole

if TYPE_CHECKING:
    from nnsim.trajectory.frames import Frames
    from nnsim.trajectory.reader import Trajectory


def write_npz(
    trajectory: Trajectory,
    output: Path | str,
    *,
    walker: int | None = None,
    every: int = 1,
    selection: str | None = None,
    observables: tuple[str, ...] | None = None,
    with_positions: bool | None = None,
    overwrite: bool = False,
) -> int:
    """Write observables and positions to an .npz file; returns the number of arrays.

    `numpy.load(output)` gives, as they were recorded, `NAME` [T, W, ...], `NAME/step` [T] and `NAME/time` [T] of each
    observable and likewise `position` [T, W, k], with `position/index` [k], the places in the flat positions, and
    `header`, the trajectory's header as JSON text. Each quantity has frames of its own.

    Args:
        trajectory: what is read.
        output: the file.
        walker: only this one; the axis W is left out then.
        every: every so many frames of each quantity.
        selection: only these parameters, in the words of `nnsim.trajectory.selection`.
        observables: their names; None is all.
        with_positions: None is as recorded: with them if there are any.
        overwrite: replace an existing file.

    Raises:
        InputError: the output exists, or something is asked for that was not recorded.
    """
    every = require_integer("write_npz", "every", every, least=1)
    trajectory = opened_run(trajectory, "write_npz")
    plan = _Plan("write_npz", trajectory, walker, selection, observables)
    wanted = trajectory.positions is not None
    if with_positions is not None:
        wanted = require_flag("write_npz", "with_positions", with_positions)
    arrays = dict(plan.observables)
    if wanted:
        if "position" in arrays:
            raise InputError("write_npz: an observable is called 'position' too; leave the positions out")
        arrays["position"] = positions(trajectory, "write_npz")
    if not arrays:
        raise InputError(f"write_npz: nothing of {trajectory.path} was asked for; add observables or positions")
    written = 1
    with (
        whole(output, overwrite=overwrite) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        _put(archive, "header", np.array(json.dumps(trajectory.header)))
        for name, series in arrays.items():
            columns = plan.columns if name == "position" and wanted else None
            _put_series(archive, name, series, every, plan.walker_of(series), columns)
            _put(archive, f"{name}/step", series.step[::every])
            _put(archive, f"{name}/time", series.time[::every])
            written += 3
        if wanted:
            _put(archive, "position/index", plan.columns)
            written += 1
    return written


def write_csv(
    trajectory: Trajectory,
    output: Path | str,
    *,
    walker: int | None = None,
    every: int = 1,
    selection: str | None = None,
    observables: tuple[str, ...] | None = None,
    with_positions: bool | None = None,
    overwrite: bool = False,
) -> int:
    """Write a table with the columns step, time, walker and one for each number; returns the number of rows.

    A row is one walker at one step; steps are all those at which an observable was recorded, or with positions those of
    the positions. A cell is empty where nothing was recorded. Numbers of all walkers together, such as kT, are
    repeated; an observable of several numbers has columns `NAME[0]`, `NAME[1]`...; positions have `0.weight[1, 2]`.
    Numbers are written with as many digits as bring back the same bits.

    Args:
        trajectory: what is read.
        output: the file.
        walker: only this one.
        every: every so many steps.
        selection: only these parameters, in the words of `nnsim.trajectory.selection`.
        observables: their names; None is all.
        with_positions: None is no, or yes where a selection is given.
        overwrite: replace an existing file.

    Raises:
        InputError: the output exists, or something is asked for that was not recorded.
    """
    every = require_integer("write_csv", "every", every, least=1)
    trajectory = opened_run(trajectory, "write_csv")
    plan = _Plan("write_csv", trajectory, walker, selection, observables)
    series = dict(plan.observables)
    wanted = selection is not None
    if with_positions is not None:
        wanted = require_flag("write_csv", "with_positions", with_positions)
    recorded = positions(trajectory, "write_csv") if wanted else None
    clock = [recorded] if recorded is not None else [*series.values()]
    if not clock:
        raise InputError(f"write_csv: nothing of {trajectory.path} was asked for; add observables or positions")
    steps, first = np.unique(np.concatenate([one.step for one in clock]), return_index=True)
    steps, times = steps[::every], np.concatenate([one.time for one in clock])[first][::every]
    rows = 0
    with whole(output, overwrite=overwrite) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator=os.linesep)
        for part in _parts(len(steps), plan.row_bytes(recorded)):
            columns = plan.columns_of(steps[part], times[part], recorded)
            if part.start == 0:
                writer.writerow(columns)
            cells = [_texts(values) for values in columns.values()]
            writer.writerows(zip(*cells, strict=True))
            rows += len(cells[0])
    return rows


class _Plan:
    """What of a trajectory goes into a table."""

    def __init__(
        self,
        owner: str,
        trajectory: Trajectory,
        walker: int | None,
        selection: str | None,
        observables: tuple[str, ...] | None,
    ) -> None:
        self.count = walkers(trajectory)
        self.walker = None if walker is None else require_walker(owner, walker, self.count)
        self.parameters = trajectory.parameters
        self.columns = selected(self.parameters, selection)
        self.observables = chosen_observables(trajectory, observables)

    def walker_of(self, series: Frames) -> int | None:
        """The walker to take from a series: None if it has none, or all are wanted."""
        return self.walker if is_per_walker(series, self.count) else None

    def row_bytes(self, recorded: Frames | None) -> int:
        """Bytes of one step in memory."""
        numbers = sum(int(np.prod(one.shape[1:])) for one in self.observables.values())
        if recorded is not None:
            numbers += self.count * recorded.shape[2]
        return 64 + 16 * numbers  # as numbers, and as text

    def columns_of(
        self, steps: Indices, times: NDArray[np.float64], recorded: Frames | None
    ) -> dict[str, NDArray[Any]]:
        """The columns of the table in its rows of some steps."""
        chosen = np.arange(self.count) if self.walker is None else np.array([self.walker])
        cells: dict[str, NDArray[Any]] = {
            "step": np.repeat(steps, len(chosen)),
            "time": np.repeat(times, len(chosen)),
            "walker": np.tile(chosen, len(steps)),
        }
        for name, series in self.observables.items():
            values = _at_steps(series, steps)
            if is_per_walker(series, self.count):
                values = values[:, chosen]
            else:
                values = np.repeat(values[:, None], len(chosen), axis=1)
            cells |= _columns(name, values)
        if recorded is not None:
            from nnsim.trajectory.selection import labels

            values = _at_steps(recorded, steps)[:, chosen][..., self.columns]
            flat = values.reshape(-1, len(self.columns))
            cells |= dict(zip(labels(self.parameters, self.columns), flat.T, strict=True))
        return cells


def _parts(length: int, row_bytes: int) -> Iterator[slice]:
    size = block_length(row_bytes)
    return (slice(first, min(first + size, length)) for first in range(0, length, size))


def _at_steps(series: Frames, steps: Indices) -> NDArray[Any]:
    """Frames at these steps; NaN, which is an empty cell, where there is none."""
    own = series.step
    rows = np.minimum(np.searchsorted(own, steps), len(own) - 1)
    there = own[rows] == steps
    found = series[rows[there]]
    if there.all():
        return found
    values = np.full((len(steps), *found.shape[1:]), np.nan, np.result_type(found.dtype, np.float32))
    values[there] = found
    return values


def _texts(values: NDArray[Any]) -> list[str]:
    """Cells of a column, with the fewest digits that bring back the same bits of its type; empty for NaN."""
    if values.dtype.kind != "f":
        return [str(one) for one in values.tolist()]
    texts = values.astype(np.str_)
    texts[np.isnan(values)] = ""
    return list(texts.tolist())


def _columns(name: str, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Values [steps, walkers, ...] as one column, or as columns `name[i, j]`."""
    inner = values.shape[2:]
    if not inner:
        return {name: values.reshape(-1)}
    flat = values.reshape(values.shape[0] * values.shape[1], -1)
    places = [", ".join(map(str, index)) for index in np.ndindex(*inner)]
    return {f"{name}[{place}]": flat[:, column] for column, place in enumerate(places)}


def _put(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)
    archive.writestr(f"{name}.npy", buffer.getvalue())


def _put_series(
    archive: zipfile.ZipFile, name: str, series: Frames, every: int, walker: int | None, columns: Indices | None
) -> None:
    """Write the frames block by block after the header of their array, which says how many will come."""
    count = len(range(0, len(series), every))
    inner = series.shape[1:] if walker is None else series.shape[2:]
    if columns is not None:
        inner = (*inner[:-1], len(columns))
    header = {"descr": np.lib.format.dtype_to_descr(series.dtype), "fortran_order": False, "shape": (count, *inner)}
    row_bytes = int(np.prod(series.shape[1:])) * series.dtype.itemsize
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_2_0(file, header)
        for part in _parts(count, row_bytes):
            rows = slice(part.start * every, (part.stop - 1) * every + 1, every)
            block = series[rows] if walker is None else series[rows, walker]
            file.write(np.ascontiguousarray(block if columns is None else block[..., columns]).tobytes())
