"""What came out of a sweep: one row for each point, and means over the seeds of each setting."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.landscape.axes import Floats
from nnsim.describe import check_name
from nnsim.errors import InputError, TrajectoryError, shown
from nnsim.files import read_json
from nnsim.trajectory.reader import Trajectory

PLAN = "sweep.json"
DONE, FAILED = "done.json", "failed.json"
OWN_COLUMNS = ("status", "seconds")  # of the table, which no setting may be called
Conditions = Mapping[str, Any] | Iterable[tuple[str, Any]]
"""Settings and their values, all of which must hold."""
_ENDS = ("first", "first_se", "last", "last_se")


def pairs_of(owner: str, conditions: Conditions) -> list[tuple[str, Any]]:
    """Names and values of conditions; one name may come twice."""
    try:
        pairs = conditions.items() if isinstance(conditions, Mapping) else conditions
        return [(name, value) for name, value in pairs]
    except (TypeError, ValueError):
        raise InputError(
            f"{owner} = {shown(conditions)} must be settings and their values; give them as in {{'depth': 3}}"
        ) from None


@dataclass(frozen=True, eq=False)
class SweepGrid:
    """Means over seeds of one column, on the grid of one or two swept settings.

    Attributes:
        x, y: names of the settings; y is None for one setting.
        value: name of the column.
        x_values, y_values: their values, numbers in ascending order; y_values is empty for one setting.
        mean: [X, Y], or [X] for one setting; NaN where there is no result.
        error: standard error of `mean`, of the same shape; NaN where it is not known.
        seeds: number of points that went into each mean, of the same shape.
        failed: number of points that failed, of the same shape.
    """

    x: str
    y: str | None
    value: str
    x_values: tuple[Any, ...]
    y_values: tuple[Any, ...]
    mean: Floats
    error: Floats
    seeds: NDArray[np.int64]
    failed: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SweepTable:
    """The table of a sweep; `table["width"]` is a column, an array with one element for each point.

    Args:
        swept: names of the settings that vary from point to point, the seed included.
        columns: name -> array [P]: the swept settings, `seed`, `status` (`done`, `failed` or `left`), `steps`,
            `seconds`, and of every scalar observable the mean over the walkers in the first and in the last frame,
            NAME_first and NAME_last, with their standard errors over the walkers, NAME_first_se and NAME_last_se. A
            number that is not known is NaN. An observable that is one number for all walkers has no error.
        messages: why a point failed, [P]; empty for the others.
    """

    swept: tuple[str, ...]
    columns: dict[str, NDArray[Any]]
    messages: tuple[str, ...]

    def __getitem__(self, name: str) -> NDArray[Any]:
        if not isinstance(name, str) or name not in self.columns:
            raise InputError(f"the sweep has no column {shown(name)}; it has {', '.join(self.columns)}")
        return self.columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.messages)

    def rows(self) -> list[dict[str, str]]:
        """The table as text, as `sweep.csv` holds it: tuples as 6x6, nothing where a number is not known."""
        texts = {name: [_cell(value) for value in column.tolist()] for name, column in self.columns.items()}
        return [{name: column[row] for name, column in texts.items()} for row in range(len(self))]

    def csv(self) -> str:
        """The text of `sweep.csv`."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        return text.getvalue()

    def where(self, conditions: Conditions = (), /, **settings: Any) -> SweepTable:
        """The points that have these values of settings, each given as a value or as its text (`hidden="6x6"`).

        Args:
            conditions: settings and their values, as a mapping or as pairs; for a setting whose name is no keyword.
            **settings: more of them.

        Raises:
            InputError: a name that was not swept, or a value that no point has which meets the conditions before it.
        """
        rows = self.rows_where(conditions, **settings)
        columns = {name: column[rows] for name, column in self.columns.items()}
        return SweepTable(self.swept, columns, tuple(self.messages[row] for row in rows))

    def rows_where(self, conditions: Conditions = (), /, **settings: Any) -> NDArray[np.int64]:
        """The places of the points that `where` gives, [n]."""
        rows, met = np.arange(len(self)), ""
        for name, wanted in [*pairs_of("where: conditions", conditions), *settings.items()]:
            values = [self._setting(name)[row] for row in rows]
            fits = np.array([_same(value, wanted) for value in values], dtype=bool)
            if not fits.any():
                listed = ", ".join(map(label, _in_order(values)))
                raise InputError(f"the sweep has no {name} = {label(wanted)}{met}; choose one of {listed}")
            rows = rows[fits]
            met += f"{' and' if met else ' where'} {name} = {label(wanted)}"
        return rows

    def mean_over_seeds(self, x: str, y: str | None, value: str) -> SweepGrid:
        r"""Mean and standard error of a column for each value of a setting, or each pair of values of two.

        A point with seed s holds the mean m_s over its walkers. With S >= 2 seeds the mean of a cell is
        m = \sum_s m_s / S, and its error is that of S independent numbers, e^2 = \sum_s (m_s - m)^2 / (S (S - 1)). The
        spread of the walkers is in it already, as each m_s varies with it: the expectation of e^2 is
        (var(seeds) + var(walkers) / W) / S. To count S x W walkers as independent would be wrong, since walkers of one
        seed may share their data and their bias. A single seed leaves the error over its walkers, NAME_se, which
        knows nothing of other seeds.

        Raises:
            InputError: a name that the table does not have, a setting that was not swept, a column without numbers,
                or another swept setting with several values, over which nothing is averaged.
        """
        axes = [self._setting(name) for name in (x, *([] if y is None else [y]))]
        if x == y:
            raise InputError(f"x and y are both {x!r}; give two settings, or leave y out")
        self._refuse_mixture({x, y, "seed"})
        values, errors = self._numbers(value), self.columns.get(f"{value}_se")
        places = [_in_order(axis) for axis in axes]
        shape = tuple(len(place) for place in places)
        mean, error = np.full(shape, np.nan), np.full(shape, np.nan)
        seeds, failed = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        cells = [[place.index(one) for one in axis] for place, axis in zip(places, axes, strict=True)]
        for cell in np.ndindex(shape):
            here = np.all([np.equal(own, index) for own, index in zip(cells, cell, strict=True)], axis=0)
            failed[cell] = np.count_nonzero(here & (self["status"] == "failed"))
            rows = np.flatnonzero(here & np.isfinite(values))
            seeds[cell] = len(rows)
            if len(rows):
                mean[cell] = values[rows].mean()
            if len(rows) > 1:
                error[cell] = values[rows].std(ddof=1) / math.sqrt(len(rows))
            elif len(rows) and errors is not None:
                error[cell] = errors[rows[0]]
        y_values = tuple(places[1]) if y is not None else ()
        return SweepGrid(x, y, value, tuple(places[0]), y_values, mean, error, seeds, failed)

    def _setting(self, name: str) -> list[Any]:
        """The values of a swept setting."""
        if name not in self.swept:
            raise InputError(f"{name!r} was not swept; choose one of {', '.join(self.swept)}")
        found: list[Any] = self.columns[name].tolist()
        return found

    def _numbers(self, name: str) -> Floats:
        column = self[name]
        try:
            return np.where(self["status"] == "done", column.astype(np.float64), np.nan)
        except (TypeError, ValueError):
            raise InputError(f"the column {name!r} holds no numbers; choose another") from None

    def _refuse_mixture(self, apart: set[str | None]) -> None:
        for name in self.swept:
            values = _in_order(self._setting(name))
            if name not in apart and len(values) > 1:
                listed = ", ".join(map(label, values))
                raise InputError(
                    f"{name} was swept too ({listed}), and different settings are not averaged; "
                    f"choose one value, where({name}=...) or --where {name}=..."
                )


def read_sweep(folder: Path | str) -> SweepTable:
    """Read the table of a sweep, also while the sweep is running.

    Raises:
        InputError: the folder holds no sweep.
        TrajectoryError: a file of the sweep is damaged.
    """
    if not isinstance(folder, (str, Path)):
        raise InputError(f"read_sweep: folder = {shown(folder)} must be a path; give the folder that nnsim sweep wrote")
    folder = Path(folder)
    if not (folder / PLAN).is_file():
        raise InputError(f"{folder}: there is no sweep; give the folder that nnsim sweep wrote")
    plan = read_plan(folder)
    return make_table(plan, {name: read_record(folder / name) for name in plan["points"]})


def read_plan(folder: Path) -> dict[str, Any]:
    """The plan of a sweep, sweep.json."""
    plan = _read(folder / PLAN)
    if plan is None or not {"script", "sha256", "set", "steps", "swept", "points"} <= set(plan):
        raise TrajectoryError(f"{folder / PLAN} is damaged; restore it, or choose another output")
    for name in plan["points"]:
        _check_point(folder, name)
    return plan


def _check_point(folder: Path, name: str) -> None:
    """Names of points become folders, which are read, written and, with --overwrite, deleted."""
    try:
        check_name(name)
    except InputError:
        raise TrajectoryError(
            f"{folder / PLAN} is damaged: no point is called {shown(name)}; restore it, or choose another output"
        ) from None


def read_record(folder: Path) -> dict[str, Any]:
    """What is known of one point: its status, and what done.json or failed.json says."""
    for name, status in ((DONE, "done"), (FAILED, "failed")):
        record = _read(folder / name)
        if record is not None:
            return {"status": status, **record}
    return {"status": "left"}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise TrajectoryError(f"{path} cannot be read ({error}); delete it, and repeat the sweep") from error


def make_table(plan: dict[str, Any], records: dict[str, dict[str, Any]]) -> SweepTable:
    """The table of a plan and of what is known of its points."""
    points = {name: {key: _value(one) for key, one in values.items()} for name, values in plan["points"].items()}
    found = [records[name] for name in points]
    columns = {name: _column([values[name] for values in points.values()]) for name in plan["swept"]}
    if "seed" not in columns:
        columns["seed"] = _column([record.get("settings", {}).get("seed") for record in found])
    rest: dict[str, NDArray[Any]] = {"status": np.array([record["status"] for record in found], dtype=np.str_)}
    for name in ("steps", "seconds"):
        rest[name] = _floats(record.get(name) for record in found)
    for name in sorted({name for record in found for name in record.get("observables", {})}):
        ends = [record.get("observables", {}).get(name, {}) for record in found]
        rest |= {f"{name}_{end}": _floats(one.get(end) for one in ends) for end in _ENDS}
    messages = tuple(str(record.get("message", "")) for record in found)
    rest = {name: column for name, column in rest.items() if name not in columns}  # `steps` may be a setting too
    return SweepTable(tuple(plan["swept"]), {**columns, **rest}, messages)


def first_and_last(path: Path) -> dict[str, dict[str, float | None]]:
    """Of every scalar observable of a trajectory: mean over the walkers in its first and last frame, and its error.

    Returns:
        NAME -> {"first", "first_se", "last", "last_se"}; an error is None for one walker, and for observables that
        are one number for all walkers.
    """
    trajectory = Trajectory(path)
    walkers = trajectory.header.get("walkers")
    found = {}
    for name in trajectory.observables:
        series = trajectory[name]
        if len(series) and series.shape[1:] in ((), (walkers,)):
            first, last = _over_walkers(series[0]), _over_walkers(series[-1])
            found[name] = dict(zip(_ENDS, (*first, *last), strict=True))
    return found


def _over_walkers(frame: NDArray[Any]) -> tuple[float, float | None]:
    values = np.atleast_1d(frame).astype(np.float64)
    with np.errstate(invalid="ignore"):  # an infinite loss
        error = None if len(values) < 2 else float(values.std(ddof=1) / math.sqrt(len(values)))
        return float(values.mean()), error


def label(value: Any) -> str:
    """The text of a setting's value: 6x6 for (6, 6), and otherwise what --set takes."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return "x".join(map(label, value)) or "empty"
    if isinstance(value, (set, frozenset)):
        return "x".join(sorted(map(label, value))) or "empty"
    return repr(value) if isinstance(value, float) else str(value)


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, str) and not isinstance(value, str):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                return float(wanted) == value
            except ValueError:
                return False
        return label(value) == wanted.strip("()[] ").replace(", ", ",").replace(",", "x").lower()
    return bool(np.all(np.asarray(value == wanted))) or label(value) == label(wanted)


def _in_order(values: Iterable[Any]) -> list[Any]:
    """Different values, numbers in ascending order, others as they come."""
    different = list(dict.fromkeys(values))
    return sorted(different) if is_numeric(different) else different


def is_numeric(values: Iterable[Any]) -> bool:
    """Whether all of these are numbers."""
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _value(stored: Any) -> Any:
    """A setting from JSON, which has no tuples."""
    return tuple(map(_value, stored)) if isinstance(stored, list) else stored


def _column(values: list[Any]) -> NDArray[Any]:
    """An array of integers, floats or texts if all values are, and otherwise of objects."""
    numbers = [value for value in values if is_numeric([value])]
    whole = all(type(value) is int for value in values)
    if whole and max(values, default=0) >= 2**63 and min(values) >= 0 and max(values) < 2**64:  # of seeds
        return np.array(values, dtype=np.uint64)
    large = whole and any(not -(2**63) <= value < 2**63 for value in values)
    for kind in () if large else (int, float, str):
        if all(type(value) is kind or (kind is float and type(value) is int) for value in values):
            return np.array(values, dtype={int: np.int64, float: np.float64, str: np.str_}[kind])
    exact = all(abs(value) <= 2**53 for value in numbers)
    if exact and len(numbers) + values.count(None) == len(values):
        return _floats(values)  # the seeds of points that did not run
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _floats(values: Iterable[Any]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < 1e15
        return "" if math.isnan(value) else str(int(value)) if whole else repr(value)
    return label(value)
