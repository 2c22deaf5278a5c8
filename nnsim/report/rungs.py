"""The rungs of a ladder of temperatures, as rows of a table for the page and for the terminal."""

from __future__ import annotations

import math

from nnsim.analysis.averages.tempering import NOT, Tempering
from nnsim.report.blocks import with_error


def rung_heading(found: Tempering) -> tuple[str, ...]:
    """Names of the columns."""
    of = found.of
    return (
        "beta", found.along, of, "most probable", "S", *([] if found.refused else ["S (integral)"]), "overlap", "swaps",
        *([] if found.sides is None else ["side A - B", "sides"]), "",
    )  # fmt: skip


def rung_rows(found: Tempering) -> list[tuple[str, ...]]:
    """A row for each rung, from the lowest beta; its last column says where the numbers are none of equilibrium."""
    rows = []
    for row in found.rows():
        pairs = [(found.along,) * 2, (found.of, found.of), (f"{found.of}_most_probable",) * 2, ("entropy",) * 2]
        pairs += [] if found.refused else [("entropy_by_integration",) * 2]
        cells = [f"{row['beta']:.4g}", *(with_error(row[name], row[f"{name}_error"]) for name, _ in pairs)]  # type: ignore[arg-type]
        cells += [_share(row["overlap_with_next"]), _share(row["swap_rate_with_next"])]
        if found.sides is not None:
            cells += [with_error(row["difference"], row["difference_error"]), str(row["sides"])]  # type: ignore[arg-type]
        rows.append((*cells, NOT if row["equilibrium"] == NOT else ""))
    return rows


def _share(value: float | str) -> str:
    return "" if math.isnan(float(value)) else f"{float(value):.2g}"
