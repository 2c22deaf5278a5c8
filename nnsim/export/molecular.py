"""mdtraj: trajectories in memory, .h5, .dcd and .trr files.

The parameter x is an atom at (x, 0, 0) without unit. mdtraj takes lengths for nanometres and times for picoseconds, and
programs that read .dcd take angstroms, so that mdtraj multiplies by 10 on the way there and divides on the way back.
All coordinates are float32.

What such programs do without being asked, and what is wrong for a network, since parameter space has no rotations, no
translations and no third dimension:

- `mdtraj.rmsd` and `rmsf` superpose: they move and rotate each frame onto the reference, and change the coordinates of
  the trajectory in memory while doing so. `superpose=False` on a freshly loaded trajectory gives the plain distance;
  nnsim's own functions (`nnsim.analysis`) do.
- `superpose`, `center_coordinates` and everything with periodic images moves parameters. Positions in a periodic box
  are exported as recorded, without a unit cell, which would have three dimensions and one width for all atoms:
  distances there are not those to nearest images, which nnsim's own functions take.
- Radii of gyration, volumes, densities, contacts, angles and hydrogen bonds take atoms in space and masses of elements.
- Principal components in 3 n dimensions have 2 n that are always 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnsim.errors import InputError, NNSimError
from nnsim.export.topology import atom_order, to_topology
from nnsim.export.walker_frames import WalkerFrames, chosen_frames, opened_run, selected
from nnsim.files import whole
from nnsim.installation import extra

if TYPE_CHECKING:
    from mdtraj import Trajectory as MDTrajectory

    from nnsim.trajectory.reader import Trajectory

LARGEST_STEP = 2**31 - 1  # of a .trr file
_CUT_OFF = "the file was cut off, as on a full disk"


def chosen_atoms(
    trajectory: Trajectory, owner: str, walker: object, every: object, selection: str | None
) -> WalkerFrames:
    """Frames of one walker with the parameters in the order of atoms."""
    parameters = trajectory.parameters
    order = atom_order(parameters)
    if selection is not None:
        order = order[np.isin(order, selected(parameters, selection))]
    return chosen_frames(trajectory, order, owner=owner, walker=walker, every=every)


def to_mdtraj(trajectory: Trajectory, walker: int = 0, *, every: int = 1, selection: str | None = None) -> MDTrajectory:
    """One walker as a trajectory of mdtraj, in memory.

    The topology is that of `nnsim.export.to_topology`; `xyz[t, i]` is (q, 0, 0) with q the parameter at place
    `nnsim.export.atom_order(...)[i]` of the flat positions.

    mdtraj will rotate, superpose, take 3 dimensions, nanometres and picoseconds: the head of `nnsim.export.molecular`
    says where that goes wrong. In particular `mdtraj.rmsd` superposes and changes coordinates in place.

    Args:
        trajectory: with recorded positions.
        walker: one of the walkers, from 0.
        every: every so many frames.
        selection: only these parameters, in the words of `nnsim.trajectory.selection`.

    Returns:
        `xyz` [T, n, 3] float32, `time` [T] in reduced units.

    Raises:
        InputError: no positions, or a walker that there is not.
    """
    from mdtraj import Trajectory as MDTrajectory

    trajectory = opened_run(trajectory, "to_mdtraj")
    frames = chosen_atoms(trajectory, "to_mdtraj", walker, every, selection)
    xyz = np.zeros((len(frames), len(frames.columns), 3), np.float32)
    first = 0
    for block in frames.blocks():
        xyz[first : first + len(block.step), :, 0] = block.values
        first += len(block.step)
    return MDTrajectory(xyz, to_topology(trajectory.parameters, selection), time=frames.time)


def write_h5(
    trajectory: Trajectory,
    output: Path | str,
    *,
    walker: int = 0,
    every: int = 1,
    selection: str | None = None,
    overwrite: bool = False,
) -> int:
    """Write one walker to an .h5 file of mdtraj, with topology; returns the number of frames.

    float32 coordinates are exact, times are float32. The group `nnsim` of the file holds what mdtraj has no place for:
    `step` [T] int64, `time` [T] float64 and `parameter` [n] int64, the place of each atom in the flat positions.
    It needs PyTables. For the arguments and what mdtraj does wrongly see `to_mdtraj`.

    Raises:
        InputError: as `to_mdtraj`; the output exists; PyTables is missing.
    """
    tables = extra("write_h5: an .h5", "tables")
    from mdtraj.formats import HDF5TrajectoryFile

    trajectory = opened_run(trajectory, "write_h5")
    frames = chosen_atoms(trajectory, "write_h5", walker, every, selection)
    own: dict[str, Any] = {"step": frames.step, "time": frames.time, "parameter": frames.columns}
    with whole(output, overwrite=overwrite) as partial, _by_library():
        with HDF5TrajectoryFile(str(partial), "w") as file:
            for block in frames.blocks():
                file.write(coordinates=block.xyz, time=block.time)
            file.topology = to_topology(trajectory.parameters, selection)
            file.application = "nnsim export"
        with tables.open_file(str(partial), "a") as store:
            for name, values in own.items():
                store.create_array("/nnsim", name, values, createparents=True)
        with HDF5TrajectoryFile(str(partial)) as file:
            _read_back(file, frames)
        with tables.open_file(str(partial)) as store:
            if not all(np.array_equal(store.get_node("/nnsim", name)[...], values) for name, values in own.items()):
                raise OSError(_CUT_OFF)
    return len(frames)


def write_dcd(
    trajectory: Trajectory,
    output: Path | str,
    *,
    walker: int = 0,
    every: int = 1,
    selection: str | None = None,
    overwrite: bool = False,
) -> int:
    """Write one walker to a .dcd file (CHARMM, NAMD); returns the number of frames.

    Numbers are stored as angstroms, 10 times those of nnsim, so that mdtraj, which divides by 10, returns them within
    2 roundings of float32 (a relative 1.2e-7); other programs read 10 x. The format that mdtraj writes has no times, no
    steps and no topology: load it with `mdtraj.load(path, top=nnsim.export.to_topology(...))`.
    For the arguments and what MD programs do wrongly see `to_mdtraj`.

    Raises:
        InputError: as `to_mdtraj`; the output exists.
    """
    from mdtraj.formats import DCDTrajectoryFile

    trajectory = opened_run(trajectory, "write_dcd")
    frames = chosen_atoms(trajectory, "write_dcd", walker, every, selection)
    with whole(output, overwrite=overwrite) as partial, _by_library():
        with DCDTrajectoryFile(str(partial), "w") as file:
            for block in frames.blocks():
                file.write(block.xyz.astype(np.float32) * np.float32(10))
        with DCDTrajectoryFile(str(partial)) as file:
            _read_back(file, frames, np.float32(10))
    return len(frames)


def write_trr(
    trajectory: Trajectory,
    output: Path | str,
    *,
    walker: int = 0,
    every: int = 1,
    selection: str | None = None,
    overwrite: bool = False,
) -> int:
    """Write one walker to a .trr file (GROMACS); returns the number of frames.

    float32 coordinates are exact; times are float32, steps int32; no box and no topology: load it with
    `mdtraj.load(path, top=nnsim.export.to_topology(...))`. Programs that count in angstroms, such as MDAnalysis,
    multiply by 10 while reading.
    For the arguments and what MD programs do wrongly see `to_mdtraj`.

    Raises:
        InputError: as `to_mdtraj`; the output exists; steps beyond 2^31 - 1.
    """
    from mdtraj.formats import TRRTrajectoryFile

    trajectory = opened_run(trajectory, "write_trr")
    frames = chosen_atoms(trajectory, "write_trr", walker, every, selection)
    if frames.step[-1] > LARGEST_STEP:
        raise InputError(f"write_trr: step {frames.step[-1]} must be at most {LARGEST_STEP} in a .trr; export to .h5")
    with whole(output, overwrite=overwrite) as partial, _by_library():
        with TRRTrajectoryFile(str(partial), "w") as file:
            for block in frames.blocks():
                no_box = np.zeros((len(block.step), 3, 3), np.float32)
                xyz, time = block.xyz.astype(np.float32), block.time.astype(np.float32)
                file.write(xyz, time=time, step=block.step.astype(np.int32), box=no_box)
        with TRRTrajectoryFile(str(partial)) as file:
            _read_back(file, frames)
    return len(frames)


@contextmanager
def _by_library() -> Iterator[None]:
    """Turn what a library in C makes of a full disk into an `OSError`: it raises anything, without the reason."""
    try:
        yield
    except (NNSimError, OSError):
        raise
    except Exception as error:
        raise OSError(f"the library that writes it failed ({type(error).__name__}), as on a full disk") from error


def _read_back(file: Any, frames: WalkerFrames, factor: np.float32 = np.float32(1)) -> None:  # noqa: B008
    """Raise `OSError` unless the file holds the frames: such libraries lose their last bytes without a word."""
    for block in frames.blocks():
        found = file.read(len(block.step))[0]
        if not np.array_equal(found, block.xyz.astype(np.float32) * factor, equal_nan=True):
            raise OSError(_CUT_OFF)
