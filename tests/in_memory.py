"""A trajectory in memory, for statistics over many short records."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np


class Column:
    """What `Trajectory[name]` gives, frames at steps 1, 2, ..."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape = values, values.shape
        self.step = np.arange(1, len(values) + 1)

    def __getitem__(self, key: Any) -> np.ndarray:
        return self.values[key]


class Record:
    """As much of a `Trajectory` as the analysis asks for: `Record({"umbrella": {...}}, x=[T, W])`."""

    def __init__(
        self, bias: dict[str, Any], kT: float = 1.0, flat: bool = True, tables: Any = None, **columns: Any
    ) -> None:
        self.path = Path("memory.zarr")
        self.header = {"bias": bias, "kT": kT, "system": {"flat": flat}}
        self.columns = {name: Column(np.asarray(values, dtype=float)) for name, values in columns.items()}
        self.observables = sorted(self.columns)
        self.steps = max(len(column.values) for column in self.columns.values())
        self.tables: dict[str, dict[str, np.ndarray]] = tables or {}
        self.bias_names = sorted(self.tables)

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def bias(self, name: str) -> Any:
        return SimpleNamespace(attrs={}, tables=self.tables[name])


def umbrella(center: Any, stiffness: Any, cv: str = "x", **settings: Any) -> dict[str, Any]:
    """The record of an umbrella on one CV, with a window for each walker."""
    center = np.asarray(center, dtype=float).reshape(-1, 1)
    rows = {"center": center, "stiffness": np.broadcast_to(np.asarray(stiffness, dtype=float), center.shape)}
    rows = {name: values.tolist() for name, values in rows.items()}
    return {"type": "Umbrella", "cvs": [cv], **rows, "velocity": [[0.0]], "until": None, "periods": [None], **settings}
