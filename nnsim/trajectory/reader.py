"""Trajectories: one folder `NAME.zarr`, laid out after H5MD in Zarr format 2.

`Trajectory` reads lazily, also while a run writes; `TrajectoryWriter` writes. Neither imports torch, but for
`Trajectory.module` and what belongs to it, and zarr is imported when the first array is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsim.describe import check_name
from nnsim.errors import InputError, TrajectoryError, require_choice, require_integer, require_path, require_text
from nnsim.networks.layout import places_of
from nnsim.trajectory import selection
from nnsim.trajectory.frames import Keep, Series, Slice, ThinnedSeries, last_step, positions_in
from nnsim.trajectory.layout import BIASES, StoredArray, read_attributes, stored_name
from nnsim.trajectory.record import check_metadata, foreign_files, read_header, read_record

if TYPE_CHECKING:
    import torch

    from nnsim.simulation import Simulation

_POSITION, _VELOCITY = "particles/parameters/position", "particles/parameters/velocity"


class BiasRecord:
    """What a trajectory holds of one bias.

    Attributes:
        name: name of the bias.
        snapshots: table name -> `Series` [T, ...], its values along the run.
    """

    def __init__(self, root: Path, name: str, snapshots: dict[str, Series]) -> None:
        self.name = name
        self.snapshots = snapshots
        self._root, self._folder = root, root / BIASES / name

    @property
    def attrs(self) -> dict[str, Any]:
        """Type, grid and settings of the bias."""
        return self._checked(self._folder)

    @property
    def tables(self) -> dict[str, np.ndarray]:
        """The newest tables on the grid, read now."""
        folders = _arrays(self._folder)
        check_metadata(self._root, [f"{self._inside(folder)}/.zarray" for folder in folders])
        return {folder.name: StoredArray(folder).read_all() for folder in folders}

    def table_attrs(self, table: str) -> dict[str, Any]:
        """Attributes of one table."""
        return self._checked(self._folder / check_name(require_text("BiasRecord", "table", table)))

    def _checked(self, folder: Path) -> dict[str, Any]:
        check_metadata(self._root, [f"{self._inside(folder)}/.zattrs"])
        return read_attributes(folder)

    def _inside(self, folder: Path) -> str:
        return folder.relative_to(self._root).as_posix()

    def __repr__(self) -> str:
        tables = ", ".join(folder.name for folder in _arrays(self._folder))
        return f"BiasRecord({self.name}: tables {tables or 'none'}; snapshots {', '.join(self.snapshots) or 'none'})"


def _arrays(group: Path) -> list[Path]:
    """Folders of the whole arrays in a group, half-written ones left out."""
    found = sorted(file.parent for file in group.glob("*/.zarray") if not file.parent.name.startswith("."))
    for folder in found:
        stored_name(folder)
    return found


class Trajectory:
    """A trajectory on disk, read lazily; the run may still be writing it.

    `trajectory["name"]` is the `Series` of an observable. What is seen are the frames committed when it was opened;
    `refresh` looks again.

    Args:
        path: the folder `NAME.zarr`.

    Attributes:
        path: as it was given.
        root: likewise from the root of the file system, so that the working directory may change.

    Raises:
        TrajectoryError: missing, not a trajectory, nothing written yet, cut off, or of a newer layout.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = require_path("Trajectory", "path", path)
        self.root = self.path.absolute()
        self._series: dict[str, Series] = {}
        self._system: Any = None  # made from the script when a module is first asked for
        self.refresh()

    def refresh(self) -> None:
        """Take over the frames committed since; series that were handed out before see them too."""
        record = read_record(self.root)
        check_metadata(self.root)
        while True:
            try:
                self._take_over(record.committed)
                return
            except TrajectoryError:
                # a resume that truncates has lowered the counts first: only an unchanged record means damage
                before, record = record, read_record(self.root)
                if record == before:
                    raise

    def _take_over(self, committed: dict[str, int]) -> None:
        for name, count in committed.items():
            if name in self._series:
                self._series[name]._rebase(count)
            else:
                self._series[name] = self._new_series(name, count)
        for name in set(self._series) - set(committed):
            self._series.pop(name)._rebase(0)

    def _new_series(self, name: str, count: int) -> Series:
        return Series(self.root, name, count)

    @property
    def header(self) -> dict[str, Any]:
        """What the run recorded about itself: parameter names, settings, script, seed, versions..."""
        return read_header(self.root)

    @property
    def observables(self) -> list[str]:
        """Names of the observables that have frames."""
        return sorted(name.split("/", 1)[1] for name in self._series if name.startswith("observables/"))

    def __getitem__(self, name: str) -> Series:
        if f"observables/{name}" not in self._series:
            listed = ", ".join(map(repr, self.observables)) or "none yet"
            raise TrajectoryError(f"{self.path} has no observable {name!r}; it has {listed}")
        return self._series[f"observables/{name}"]

    def __contains__(self, name: object) -> bool:
        return f"observables/{name}" in self._series

    def __iter__(self) -> Iterator[str]:
        return iter(self.observables)

    @property
    def positions(self) -> Series | None:
        """Positions [T, W, n], or None if none were recorded."""
        return self._series.get(_POSITION)

    @property
    def velocities(self) -> Series | None:
        """Velocities [T, W, n], or None if none were recorded."""
        return self._series.get(_VELOCITY)

    @property
    def bias_names(self) -> list[str]:
        """Names of the biases."""
        return sorted(stored_name(file.parent) for file in (self.root / BIASES).glob("*/.zgroup"))

    def bias(self, name: str) -> BiasRecord:
        """Attributes, newest tables and snapshots of a bias."""
        if name not in self.bias_names:
            listed = ", ".join(map(repr, self.bias_names)) or "none"
            raise TrajectoryError(f"{self.path} has no bias {name!r}; it has {listed}")
        start = f"{BIASES}/{name}/snapshots/"
        found = {key[len(start) :]: series for key, series in sorted(self._series.items()) if key.startswith(start)}
        return BiasRecord(self.root, name, found)

    @property
    def steps(self) -> int:
        """The last committed step of all series; 0 without frames. Series whose steps are `missing` do not count."""
        return last_step(self._series.values())

    def missing(self) -> list[str]:
        """Files of chunks that are lost, as paths in the trajectory; reading their frames raises `TrajectoryError`."""
        tables = [StoredArray(table) for name in self.bias_names for table in _arrays(self.root / BIASES / name)]
        lost = [path for series in self._series.values() for path in series.missing()]
        lost += [path for table in tables for path in table.missing()]
        return sorted(path.relative_to(self.root).as_posix() for path in lost)

    def foreign(self) -> list[str]:
        """Files in the folder that other programs have put there, as paths in the trajectory; they are left alone."""
        return foreign_files(self.root)

    # ------------------------------------------------------------------ parts of it

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each parameter tensor, in the order of the flat positions."""
        return {name: tuple(shape) for name, shape in self.header["parameters"].items()}

    def select(self, text: str) -> NDArray[np.int64]:
        """Places in the flat positions of parameters selected in words, such as `layer 1 and weight`.

        The words are those of `nnsim.trajectory.selection`.

        Raises:
            InputError: a word that is not known, a number beyond what there is, or nothing selected.
        """
        return selection.select(self.parameters, text)

    def slice(self, frames: Any = None, walkers: Any = None, parameters: Any = None, *, of: str = "position") -> Slice:
        """Some frames, walkers and parameters of the positions or velocities, [T, W, k], read when they are indexed.

        Only the chunks that hold the frames are read, one after the other.

        Args:
            frames: a number, slice, list or mask of recorded frames; None is all.
            walkers: likewise.
            parameters: a selection in words, or numbers, a slice or a mask of places in the flat positions.
            of: `"position"` or `"velocity"`.

        Raises:
            InputError: nothing of that kind, or not such frames, walkers or parameters.
            TrajectoryError: it was not recorded.

        Example: `trajectory.slice(frames=slice(None, None, 10), parameters="layer 1 and weight")[:]`
        """
        series = self._particles(require_choice("Trajectory.slice", "of", of, ("position", "velocity")))
        if isinstance(parameters, str):
            parameters = self.select(parameters)
        elif parameters is not None:
            parameters = positions_in(parameters, series.shape[2])
        return Slice(series, frames, walkers, parameters)

    def thinned(self, every: int = 1, *, first: int = 0, last: int | None = None) -> Trajectory:
        """The same with only the frames whose step is a multiple of `every`, of a part of the run; read lazily.

        The interval is one of steps, not of frames, so that what is left of series of different intervals still belongs
        together. The tables of the biases stay those of the end of the run; their snapshots are thinned too.

        Args:
            every: interval in steps, at least 1.
            first: the first step that counts.
            last: the last one; None is the end.

        Raises:
            InputError: a number out of its range.
        """
        return self._kept(Keep(every, first, last))

    def _kept(self, keep: Keep) -> Trajectory:
        found = _ThinnedTrajectory(self.root, keep)
        found.path = self.path
        return found

    def _particles(self, name: str) -> Series:
        series = self._series.get(f"particles/parameters/{name}")
        if series is None or not len(series):
            remedy = "run longer, or with positions_every" if name == "position" else "run with velocities_every"
            raise TrajectoryError(f"{self.path} has no frame of the {name} of the parameters; {remedy}")
        return series

    # ------------------------------------------------------------------ networks

    def parameters_at(self, frame: int = -1, walker: int = 0, *, step: int | None = None) -> dict[str, np.ndarray]:
        """Parameter tensors, by name, of a walker at a frame of the positions; one chunk is read.

        Args:
            frame: index of a recorded frame of the positions; negative ones count from the end.
            walker: index of a walker.
            step: the step of the frame, in place of its index.

        Raises:
            InputError: no such frame, step or walker.
            TrajectoryError: positions were not recorded.
        """
        series = self._particles("position")
        frame = _index("frame", frame, len(series)) if step is None else _frame_of(series, step)
        flat = series[frame, _index("walker", walker, series.shape[1])]
        places = places_of(self.parameters)
        return {name: flat[places[name]].reshape(shape).copy() for name, shape in self.parameters.items()}

    def state_dict(self, frame: int = -1, walker: int = 0, *, step: int | None = None) -> dict[str, torch.Tensor]:
        """Parameter tensors of torch, by name, as `parameters_at` gives them; needs no script.

        Holds what moved in the run: parameters that were fixed and buffers are not recorded, so that a network which
        has such takes it with `load_state_dict(..., strict=False)`; `module` gives the whole network.
        """
        import torch

        return {name: torch.from_numpy(one) for name, one in self.parameters_at(frame, walker, step=step).items()}

    def module(
        self,
        frame: int = -1,
        walker: int = 0,
        *,
        step: int | None = None,
        system: Any = None,
        module: torch.nn.Module | None = None,
    ) -> torch.nn.Module:
        """The network of a walker at a frame: a copy of the run's torch module with the recorded parameters.

        On the CPU and in the type in which the run evaluated it (float64 with `precision="double"`, else float32),
        training or evaluating as in the run. Without `system` or `module`, **the recorded input script is run** to
        build the network: see `simulation`, also for what it needs; this is done once for all calls.

        Args:
            frame: index of a recorded frame of the positions.
            walker: index of a walker.
            step: the step of the frame, in place of its index.
            system: the `NeuralNetwork` of the run, or a `Simulation` of it; for runs without a script.
            module: the torch module itself, in place of a system. It is not changed.

        Raises:
            InputError: no such frame, no script recorded, or a network with other parameters.
        """
        from nnsim.trajectory.network import network_with

        tensors = self.state_dict(frame, walker, step=step)
        if system is None and module is None:
            if self._system is None:
                self._system = self.simulation().system
            system = self._system
        return network_with(self, tensors, system, module)

    def simulation(self, *, folder: Path | str | None = None, **changes: Any) -> Simulation:
        """The simulation that the recorded script builds with the recorded settings, at its start.

        **This runs the script**, any Python code that the file holds, as `nnsim run` did: open trajectories of people
        you do not trust without it (`state_dict`, `parameters_at`). What else the script needs, such as data files,
        must be where it was, relative to the present folder.

        Args:
            folder: where the modules are that the script imports from beside it, if it does.
            **changes: settings that shall differ from the recorded ones, such as `device="cpu"`.

        Raises:
            InputError: no script was recorded, a setting cannot be restored, the script fails, or what it builds now
                is another system than the recorded one (other data, for example).
        """
        from nnsim.trajectory.network import rebuilt

        where = None if folder is None else require_path("Trajectory.simulation", "folder", folder)
        return rebuilt(self, where, changes)

    def __repr__(self) -> str:
        particles = [series.name for series in (self.positions, self.velocities) if series is not None]
        listed = ", ".join([*particles, *self.observables])
        return f"Trajectory({str(self.path)!r}, steps={self.steps}: {listed or 'no frames yet'})"


class _ThinnedTrajectory(Trajectory):
    """A trajectory of which only some frames count."""

    def __init__(self, path: Path, keep: Keep) -> None:
        self._keep = keep
        super().__init__(path)

    def _new_series(self, name: str, count: int) -> Series:
        return ThinnedSeries(self.root, name, count, self._keep)

    def _take_over(self, committed: dict[str, int]) -> None:
        super()._take_over(committed)
        self._series = {name: series for name, series in self._series.items() if len(series)}

    def thinned(self, every: int = 1, *, first: int = 0, last: int | None = None) -> Trajectory:
        """Thin once more: frames that both rules keep."""
        return self._kept(self._keep.and_of(Keep(every, first, last)))


def _index(name: str, index: Any, count: int) -> int:
    """An index of `count` things as one from 0."""
    number = require_integer("Trajectory", name, index, least=-count)
    if number >= count:
        raise InputError(f"Trajectory: {name} = {number} must be {-count} to {count - 1}; change {name}")
    return number % count


def _frame_of(series: Series, step: int) -> int:
    """Index of the frame recorded at a step."""
    number, steps = require_integer("Trajectory", "step", step, least=0), series.step
    frame = int(np.searchsorted(steps, number))
    if frame == len(steps) or steps[frame] != number:
        near = steps[max(0, frame - 1) : frame + 1].tolist()
        raise InputError(
            f"Trajectory: step = {number} has no frame of the positions; the nearest are of {', '.join(map(str, near))}"
        )
    return frame
