"""The runs that a report is about, and what they hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from nnsim.analysis.averages.equilibrium import averaged_bias
from nnsim.analysis.averages.kinds import bias_settings, word
from nnsim.analysis.averages.sides import Side, has_sides, ladder_of, sides_of
from nnsim.analysis.averages.tempering import Tempering, tempering
from nnsim.analysis.averages.two_sided import TwoSided, two_sided
from nnsim.analysis.landscape.landscape import EntropyLandscape
from nnsim.analysis.landscape.learnt import grid_bias_name
from nnsim.errors import InputError
from nnsim.trajectory.reader import Trajectory
from nnsim.trajectory.runs import open_runs

MOST_NUMBERS = 4_000_000  # of an observable, frames x walkers, that are read; of more only some frames, for the memory
MOST_WITH_STATES = 2_000_000  # frames x walkers x states that MBAR is given, several times, in a few seconds each
OF_STATES = ("slope", "ladder", "harmonic")  # formulas of biases whose walkers sample different ensembles
OF_TEMPERING = "ln_loss_test"  # what is averaged along a ladder
BOOKKEEPING = ("potential_energy", "bias_energy", "kinetic_temperature", "acceptance")
# Words for integrators, as in "by Langevin dynamics"; others go by their type.
WORDS = {
    "MonteCarlo": "Monte Carlo moves",
    "HybridMonteCarlo": "hybrid Monte Carlo",
    "Langevin": "Langevin dynamics",
    "Brownian": "Brownian dynamics",
    "NoseHoover": "Nosé-Hoover dynamics",
    "VelocityVerlet": "Hamiltonian dynamics",
    "GradientDescent": "gradient descent",
    "Adam": "Adam",
    "LBFGS": "L-BFGS",
}


class Runs:
    """One run, or several independent runs of the same thing.

    Args:
        given: a trajectory, its path, or several.
        bias: name of the Wang-Landau, metadynamics or OPES bias, where there are several.

    Attributes:
        all: the trajectories.
        names: of the runs, each different.

    Raises:
        InputError: none given, one twice, one without a frame, runs of different networks or biases.
        TrajectoryError: one that cannot be read.
    """

    def __init__(self, given: Any, bias: str | None = None) -> None:
        one = isinstance(given, (str, Path, Trajectory))
        self.all = open_runs([given] if one else given, "report")
        if not self.all:
            raise InputError("report: no run was given; give at least one trajectory")
        for run in self.all:
            if not run.steps:
                every = run.header.get("recording", {}).get("every")
                interval = f", which is {every} steps" if every else ""
                raise InputError(
                    f"report: {run.path} has no frame yet, so there is nothing to report; "
                    f"run longer than the interval of its record{interval}"
                )
        self._refuse_different()
        names = [run.root.resolve().name.removesuffix(".zarr") for run in self.all]
        self.names = names if len(set(names)) == len(names) else [str(run.path) for run in self.all]
        self.bias = bias
        if bias is not None:
            self.first.bias(bias)  # refuses an unknown one

    def _refuse_different(self) -> None:
        for key, what in (("parameters", "networks"), ("bias", "biases")):
            kinds = [self._kind(run.header.get(key) or {}) for run in self.all]
            for run, kind in zip(self.all, kinds, strict=True):
                if kind != kinds[0]:
                    raise InputError(
                        f"report: {self.first.path} and {run.path} have different {what}, so they are not runs of the "
                        "same thing; give each kind a report of its own"
                    )

    @staticmethod
    def _kind(parts: dict[str, Any]) -> Any:
        """Shapes of parameters as they are; of biases their names and types."""
        return {name: part.get("type") if isinstance(part, dict) else list(part) for name, part in parts.items()}

    @property
    def first(self) -> Trajectory:
        """The run whose settings are shown."""
        return self.all[0]

    @property
    def header(self) -> dict[str, Any]:
        """That of the first run."""
        return self.headers[0]

    @cached_property
    def headers(self) -> list[dict[str, Any]]:
        """Those of all runs."""
        return [run.header for run in self.all]

    @cached_property
    def stride(self) -> int:
        """Of the recorded frames every so many are read."""
        return max(_stride(run, self.has_states) for run in self.all)

    @cached_property
    def light(self) -> list[Trajectory]:
        """The runs with few enough frames to be read whole."""
        return [_thinned(run, self.stride) if self.stride > 1 else run for run in self.all]

    # ------------------------------------------------------------------ what they are

    @cached_property
    def biases(self) -> dict[str, dict[str, Any]]:
        """Settings of the biases, by name."""
        return bias_settings(self.first)

    @cached_property
    def formulas(self) -> set[str]:
        """Formulas of the biases."""
        return {str(one["formula"]) for one in self.biases.values()}

    @property
    def has_landscape(self) -> bool:
        """Whether a bias has learnt a landscape."""
        return any(one["kind"] == "grid" for one in self.biases.values())

    @property
    def has_states(self) -> bool:
        """Whether walkers sample different ensembles."""
        averaged = averaged_bias(self.first, self.bias)
        return averaged is not None and averaged["formula"] in OF_STATES and not self.has_landscape

    @cached_property
    def is_wang_landau(self) -> bool:
        """Whether the landscape comes from a Wang-Landau bias, for which there are criteria of convergence."""
        if not self.has_landscape:
            return False
        return self.biases[self.grid_bias]["formula"] == "flat_histogram"

    @cached_property
    def grid_bias(self) -> str:
        """Name of the bias of the landscape."""
        return grid_bias_name(self.first, self.bias)

    @cached_property
    def is_training(self) -> bool:
        """Whether the walkers are trained: neither a temperature nor a bias."""
        return self.header.get("kT") is None and not self.biases and bool(self.losses)

    @cached_property
    def landscape(self) -> EntropyLandscape:
        """S of one run, or the average of several."""
        return EntropyLandscape.from_runs(self.all, self.bias)

    @cached_property
    def sides(self) -> tuple[list[Side], list[Side]] | None:
        """The runs by their two kinds of starts, if they are a two-sided test of equilibrium."""
        return sides_of(self.all) if len(self.all) > 1 else None

    @cached_property
    def two_sided(self) -> TwoSided:
        """What the two sides have shown."""
        assert self.sides is not None
        return two_sided(*self.sides)

    @cached_property
    def is_tempering(self) -> bool:
        """Whether it is one ladder of temperatures along the train loss, whose walkers began on two sides."""
        if len(self.all) > 1 or not has_sides(self.first) or ladder_of(self.first) is None:
            return False
        return all(name in self.first for name in ("ln_loss_train", OF_TEMPERING))

    @cached_property
    def tempering(self) -> Tempering:
        """What the ladder has shown."""
        return tempering(self.first, OF_TEMPERING)

    @cached_property
    def scalars(self) -> list[str]:
        """Observables with one number for each walker; those asked for and the CVs of biases first."""
        asked = list((self.header.get("recording") or {}).get("observables") or {})
        names = dict.fromkeys([*self.cvs, *asked, *self.first.observables])
        return [name for name in names if all(name in run and len(run[name].shape) == 2 for run in self.all)]

    @cached_property
    def cvs(self) -> list[str]:
        """CVs of all biases that were recorded."""
        names = dict.fromkeys(str(cv) for one in self.biases.values() for cv in one.get("cvs") or ())
        return [name for name in names if name in self.first]

    @cached_property
    def quantities(self) -> list[str]:
        """Scalars that say something about the network, not about the sampling."""
        return [name for name in self.scalars if name not in BOOKKEEPING]

    @cached_property
    def losses(self) -> list[str]:
        """Losses and accuracies among them."""
        return [name for name in self.quantities if "loss" in name or "accuracy" in name]

    # ------------------------------------------------------------------ in words

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for shape in (self.header.get("parameters") or {}).values())

    @property
    def walkers(self) -> int:
        """Of each run."""
        return int(self.header.get("walkers") or max((self.first[name].shape[1] for name in self.scalars), default=1))

    @property
    def steps(self) -> str:
        """The last steps of the runs."""
        found = sorted({run.steps for run in self.all})
        return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"

    @property
    def sentence(self) -> str:
        """What was done, in one sentence."""
        header = self.header
        kind = str((header.get("integrator") or {}).get("type") or "an unknown integrator")
        system = str((header.get("system") or {}).get("type") or "a system").replace(
            "NeuralNetwork", "a neural network"
        )
        walkers = "1 walker" if self.walkers == 1 else f"{self.walkers:,} walkers"
        several = f" in each of {len(self.all)} independent runs" if len(self.all) > 1 else ""
        biases = [
            " on ".join(filter(None, [word(one), " and ".join(map(str, one.get("cvs") or ()))]))
            for one in self.biases.values()
        ]
        under = f", biased by {'; '.join(biases)}" if biases else ""
        verb = "trained" if self.is_training else "moved"
        how = f"{verb} for {self.steps} steps by {WORDS.get(kind, kind)}"
        return f"{walkers} of {system} with {self.size:,} parameters{several}, {how}{under}."

    def recorded(self, run: Trajectory) -> str:
        """When the files of a run were first and last written, by the clock of the file system."""
        folder = run.root
        times = [path.stat().st_mtime for path in (folder / ".zgroup", folder / "nnsim" / ".zattrs") if path.exists()]
        if not times:
            return "not known"
        shown = [datetime.fromtimestamp(one).strftime("%Y-%m-%d %H:%M") for one in (min(times), max(times))]
        return shown[0] if shown[0] == shown[1] else f"{shown[0]} to {shown[1]}"


def _stride(run: Trajectory, states: bool) -> int:
    """Every so many frames of a run are few enough."""
    shapes = [run[name].shape for name in run if len(run[name].shape) <= 2]
    numbers = max(map(math.prod, shapes), default=0)
    with_states = max((math.prod(shape) * shape[-1] for shape in shapes if len(shape) == 2), default=0)
    return max(1, -(-numbers // MOST_NUMBERS), -(-with_states // MOST_WITH_STATES) if states else 1)


def _thinned(run: Trajectory, stride: int) -> Trajectory:
    """Every so many frames of a run, or a few more so that the snapshots of biases stay."""
    recording = run.header.get("recording") or {}
    every, snapshots = int(recording.get("every") or 1), int(recording.get("snapshot_every") or 0)
    ratio = snapshots // every if snapshots % every == 0 else 0
    fitting: Sequence[int] = [k for k in range(stride, min(4 * stride, ratio) + 1) if ratio % k == 0]
    return run.thinned(every * (fitting[0] if fitting else stride))
