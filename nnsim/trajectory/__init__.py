"""Trajectories: one folder `NAME.zarr`, laid out after H5MD in Zarr format 2."""

from typing import TYPE_CHECKING

from nnsim.lazy import lazily

if TYPE_CHECKING:
    from nnsim.trajectory.reader import BiasRecord, Trajectory
    from nnsim.trajectory.runs import Trajectories
    from nnsim.trajectory.writer import TrajectoryWriter

__all__ = ["BiasRecord", "Trajectories", "Trajectory", "TrajectoryWriter"]
__getattr__ = lazily(
    __name__,
    {
        "nnsim.trajectory.reader": ["BiasRecord", "Trajectory"],
        "nnsim.trajectory.runs": ["Trajectories"],
        "nnsim.trajectory.writer": ["TrajectoryWriter"],
    },
)
