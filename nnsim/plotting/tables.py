"""The table of a bias at the moments at which the run recorded it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.landscape.axes import Axis, Floats
from nnsim.analysis.landscape.landscape import EntropyLandscape
from nnsim.analysis.landscape.learnt import grid_bias_name, tables
from nnsim.analysis.landscape.snapshots import reports_of
from nnsim.errors import InputError
from nnsim.grid.values import node_values

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory


class BiasTables:
    """V(s, t) / kT of a bias that has learnt S on its bins, read one moment at a time.

    Attributes:
        axes: one for each CV.
        steps: of the snapshots, and of the newest table where it is later than the last of them, [R].
        final: the landscape S at the end of the run.
        gain: what V / kT is multiplied by to give S; 1 unless the metadynamics is well-tempered, or of OPES.

    Raises:
        InputError: no such bias, several and none named, or one that was not saved yet.
    """

    def __init__(self, trajectory: Trajectory, bias: str | None = None) -> None:
        name = grid_bias_name(trajectory, bias)
        self._trajectory, self._name = trajectory, name
        self.final = EntropyLandscape.from_trajectory(trajectory, name)
        self.axes: tuple[Axis, ...] = self.final.axes
        self._record = trajectory.bias(name)
        attributes = self._record.attrs
        self._grid, self._kT = attributes["grid"], float(attributes["kT"])
        factor = attributes.get("bias_factor")
        self.gain = 1.0 if factor is None else factor / (factor - 1)
        reports = reports_of(trajectory, self._record)
        self.steps = np.array([step for step, _ in reports], dtype=np.int64)
        self._frames = [frame for _, frame in reports]

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the CVs."""
        return self.final.names

    def at(self, index: int) -> Floats:
        """V / kT at a moment, [M1, ..., Mk], NaN in bins that were not visited until then."""
        frame = self._frames[index]
        coefficients, visits = tables(self._record, frame, None)
        values = node_values(coefficients, self._grid["periodic"], self._grid["kind"]) / self._kT
        return np.where(np.asarray(visits) > 0, values, np.nan)

    def landscape(self, index: int) -> EntropyLandscape:
        """S as it was known at a moment."""
        return EntropyLandscape.from_trajectory(self._trajectory, self._name, self._frames[index])

    def spread(self, count: int) -> NDArray[np.int64]:
        """Indices of at most so many moments, evenly spread in time, the last one among them."""
        if not len(self):
            raise InputError("the bias has no snapshot yet; run longer")
        wanted = np.linspace(0, self.steps[-1], count + 1)[1:]  # nothing is known of step 0
        return np.unique(np.abs(self.steps[:, None] - wanted).argmin(axis=0))
