r"""Entropy landscapes: what a bias has learnt along a run, and what follows from it in equilibrium.

| symbol | name in code | meaning |
|---|---|---|
| S | `entropy` | ln of the integral of delta(s(q) - s) over the box, in nats, up to a constant |
| V, kT | `coefficients`, `kT` | the bias as B-spline coefficients; S = V / kT |
| gamma | `bias_factor` | of well-tempered metadynamics and OPES, where S = gamma / (gamma - 1) V / kT |
| L, a | `given`, `of` | the CV that is held fixed, and the one whose equilibrium value is asked for |

Only numpy is needed here, so a landscape can be read and drawn on a machine without torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsim.analysis.averages.common_frames import opened, size_of
from nnsim.analysis.checks import as_floats, as_numbers
from nnsim.analysis.landscape import averaging, curves
from nnsim.analysis.landscape.axes import Axis, Curve, Floats, Value
from nnsim.analysis.landscape.input import axes_of, called, index_of, on_bins
from nnsim.analysis.landscape.learnt import discrete_cvs, grid_bias_name, grid_of_runs, restraints, tables
from nnsim.analysis.landscape.within_bins import at_centres, value_at
from nnsim.criteria import FEWEST_VISITS
from nnsim.errors import InputError, require_flag, require_number, require_several, shown
from nnsim.grid.values import node_values

if TYPE_CHECKING:
    from nnsim.analysis.landscape.sampling import FrameSample
    from nnsim.trajectory.reader import Trajectory


@dataclass(frozen=True, eq=False)
class EntropyLandscape:
    r"""S(s), the entropy as a function of the collective variables, at the centres of the bins of a grid.

        S(s) = ln of the integral of delta(s(q) - s) over the box      (U = 0, `flat`)
        S(s) = ln of the integral of delta(s(q) - s) exp(-U(q) / kT)   (otherwise: minus a free energy over kT)

    It is known up to a constant, chosen here so that the largest value is 0, and is a density in the CVs themselves, at
    points: not ln of the mean density of a bin, which is higher where S is steep (`nnsim.analysis.within_bins`). Along
    an axis of discrete values it is ln of the number of states of each.
    Most landscapes come from `from_trajectory`; `average` combines independent runs and gives the standard error.

    Args:
        entropy: at the centres of the bins, [M1, ..., Mk] in nats; what it holds where not visited does not matter.
        visited: [M1, ..., Mk], whether the run has been in a bin; there `entropy` must be finite.
        axes: one for each CV.
        error: standard error of `entropy`, [M1, ..., Mk], or None for a single run.
        flat: True where U = 0, so that S is the entropy.
        members: the independent runs behind an average, so that whatever is derived from it has the right error.
        source: the trajectory that it was read from, for `sample`.
        restraints: names of biases on other CVs, such as a wall, under which all of it was sampled.
        means: ln of the mean density of each bin, [M1, ..., Mk], where that was measured; None where `entropy` was.
        size: number of parameters of the system, if known.

    Raises:
        InputError: shapes that differ, no visited bin, or an infinite entropy in a visited one.

    Reference: arXiv 2503.13145.
    """

    entropy: Floats
    visited: NDArray[np.bool_]
    axes: tuple[Axis, ...]
    error: Floats | None = None
    flat: bool = True
    members: tuple[EntropyLandscape, ...] = ()
    source: Path | None = None
    restraints: tuple[str, ...] = ()
    means: Floats | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        axes = tuple(require_several("EntropyLandscape", "axes", self.axes, Axis, "nnsim.analysis.Axis(...)"))
        names = [axis.name for axis in axes]
        if not axes or len(set(names)) < len(names):
            raise InputError(
                f"EntropyLandscape: axes of {', '.join(names) or 'nothing'}; give one or more different CVs"
            )
        visited = as_numbers("EntropyLandscape", "visited", self.visited) != 0
        entropy = np.array(as_floats("EntropyLandscape", "entropy", self.entropy))
        shape = tuple(len(axis.centers) for axis in axes)
        if not entropy.shape == visited.shape == shape:
            raise InputError(
                f"EntropyLandscape: entropy {entropy.shape}, visited {visited.shape} and axes {shape} differ; "
                "give arrays of the grid's shape"
            )
        if not visited.any():
            raise InputError("EntropyLandscape: no bin of the grid has been visited; run longer, or move the grid")
        if not np.isfinite(entropy[visited]).all():
            raise InputError("EntropyLandscape: entropy is not finite in a visited bin; the run has diverged")
        entropy[~visited] = np.nan
        for name in ("error", "means"):
            given = getattr(self, name)
            if given is not None and np.shape(given) != shape:
                raise InputError(f"EntropyLandscape: {name} {np.shape(given)} and axes {shape} differ; make them equal")
        require_flag("EntropyLandscape", "flat", self.flat)
        object.__setattr__(self, "axes", axes)
        object.__setattr__(self, "visited", visited)
        object.__setattr__(self, "entropy", entropy - entropy[visited].max())

    # ------------------------------------------------------------------ making one

    @classmethod
    def from_coefficients(
        cls,
        coefficients: ArrayLike,
        visits: ArrayLike,
        kT: float,
        grid: Mapping[str, Any],
        names: Sequence[str],
        flat: bool,
        *,
        bias_factor: float | None = None,
        discrete: Sequence[bool] = (),
        restraint: Callable[[tuple[Axis, ...]], ArrayLike] | None = None,
    ) -> EntropyLandscape:
        r"""Take S from a bias, on the bins visited.

            S = V / kT + V' / kT                    Wang-Landau, standard metadynamics
            S = gamma / (gamma - 1) V / kT + V' / kT          well-tempered metadynamics, OPES

        with V' the walls and other restraints on the same CVs, which the bias has learnt with a minus, where it has
        learnt them: bins far up a wall that have hardly been visited do not count. A spline has the values of S at
        points; a bias that is constant in each bin has ln of the mean density of the bin there, from
        which the value at its centre follows by the local slope (`points_of_means`).

        Args:
            coefficients: those of V, [M1, ..., Mk], in units of energy.
            visits: histogram (or mask) of the bins visited, [M1, ..., Mk].
            kT: temperature, above 0.
            grid: `lower`, `upper`, `bins`, `periodic` (one for each axis) and `kind`, as `nnsim.Grid.describe()` gives.
            names: names of the CVs.
            flat: whether U = 0.
            bias_factor: gamma, above 1, of well-tempered metadynamics and OPES; None for the others.
            discrete: for each axis whether the CV takes the values of the centres only; () is none.
            restraint: gives V' / kT at the centres for the axes, [M1, ..., Mk]; None is 0.

        Raises:
            InputError: a temperature or a bias factor out of its range, a grid without some of its settings, or tables,
                names or a restraint that do not fit it.

        Reference: A. Barducci, G. Bussi and M. Parrinello, Phys. Rev. Lett. 100, 020603 (2008), eq. 4, for gamma.
        """
        kT = require_number("EntropyLandscape", "kT", kT, above=0.0)
        if bias_factor is not None:
            bias_factor = require_number("EntropyLandscape", "bias_factor", bias_factor, above=1.0)
        share = 1.0 if bias_factor is None else 1 - 1 / bias_factor  # of -F, which V becomes
        axes = axes_of(grid, names, discrete)
        shape = tuple(len(axis.centers) for axis in axes)
        visited = on_bins("visits", visits, shape) > 0
        values = node_values(on_bins("coefficients", coefficients, shape), grid["periodic"], grid["kind"]) / (
            share * kT
        )
        if restraint is not None:
            held = on_bins("restraint", called("restraint", restraint, axes), shape)
            values, visited = values + held, visited & _outweighed(np.asarray(visits), held)
        if grid["kind"] == "bins":
            return cls.from_means(values, visited, axes, flat=flat)
        return cls(values, visited, axes, flat=flat)

    @classmethod
    def from_means(
        cls, means: ArrayLike, visited: ArrayLike, axes: tuple[Axis, ...], **settings: Any
    ) -> EntropyLandscape:
        """Take S at the centres from ln of the mean density of each bin, by the local slope.

        Args:
            means: ln of the number of states in each bin, up to a constant, [M1, ..., Mk].
            visited: whether a bin is known, [M1, ..., Mk].
            axes: one for each CV; along a discrete one nothing is changed.
            **settings: `flat`, `restraints` and `source`.
        """
        axes = tuple(require_several("EntropyLandscape", "axes", axes, Axis, "nnsim.analysis.Axis(...)"))
        shape = tuple(len(axis.centers) for axis in axes)
        seen = on_bins("visited", visited, shape) != 0
        known = np.where(seen, on_bins("means", means, shape), np.nan)
        entropy = known
        for number, axis in enumerate(axes):
            entropy = at_centres(entropy, axis, number)
        return cls(entropy, seen, axes, means=known, **settings)

    @classmethod
    def from_bias(cls, bias: Any, *, flat: bool = True) -> EntropyLandscape:
        """From a Wang-Landau or metadynamics bias in memory; `flat` tells whether U = 0 in the system it works on.

        What other biases did, such as walls, is not known here and not taken off; `from_trajectory` takes it off.
        """
        if isinstance(bias, type) or not all(hasattr(bias, name) for name in ("potential", "visits", "grid", "kT")):
            raise InputError(
                f"EntropyLandscape.from_bias: bias = {shown(bias)} must be a Wang-Landau or metadynamics bias; of a "
                "recorded one take from_trajectory"
            )
        potential, visits = (np.asarray(_on_host(table)) for table in (bias.potential, bias.visits))
        names, levels = [cv.name for cv in bias.cvs], [bool(getattr(cv, "discrete", False)) for cv in bias.cvs]
        factor = getattr(bias, "bias_factor", None)
        factor = None if factor == math.inf else factor  # which OPES may have
        grid = bias.grid.describe()
        return cls.from_coefficients(potential, visits, bias.kT, grid, names, flat, bias_factor=factor, discrete=levels)

    @classmethod
    def from_trajectory(
        cls,
        trajectory: str | Path | Trajectory,
        bias: str | None = None,
        frame: int | None = None,
        *,
        grid: Mapping[str, Any] | None = None,
    ) -> EntropyLandscape:
        """From a trajectory on disk, of a run with a Wang-Landau, metadynamics or OPES bias.

        Walls and other restraints on CVs of that bias are taken off: S goes on beyond a wall, as far as the bias has
        outweighed it (`nnsim.criteria.FEWEST_VISITS`). Those on other CVs are not, and named in `restraints`.

        Standard metadynamics fluctuates around S to the end, the more the higher its hills: a single frame has that
        error, which `average` over independent runs takes down and shows. That of OPES is smoothed by its kernels:
        what frames weighted with exp(V / kT) give (`Profile.landscape`) is not.

        Args:
            trajectory: its path, or an open `nnsim.Trajectory`.
            bias: name of the bias; may be left out if there is only one of these types.
            frame: index of a snapshot in time (-1 is the last); None takes the bias as it was at the last checkpoint.
                A snapshot may lack its own histogram; then the bins visited by the end count, where V is above 0.
            grid: of an OPES bias whose grid has grown with the run, another such grid to read it on, as `from_runs`
                does; None is that of the end of the run.

        Raises:
            InputError: no such bias, several and none named, or a frame that does not exist.
            TrajectoryError: a path that is not a readable trajectory.
        """
        trajectory = opened(trajectory, "EntropyLandscape.from_trajectory")
        name = grid_bias_name(trajectory, bias)
        recorded = trajectory.bias(name)
        attrs = recorded.attrs
        if not {"potential", "visits"} <= set(recorded.tables):
            raise InputError(f"EntropyLandscape: the bias {name!r} has not been saved yet; run longer")
        potential, visits = tables(recorded, frame, grid)
        flat = bool(trajectory.header.get("system", {}).get("flat", False))
        restraint, others = restraints(trajectory, name, attrs)
        found = cls.from_coefficients(
            potential,
            visits,
            attrs["kT"],
            attrs["grid"] if grid is None else grid,
            attrs["cvs"],
            flat,
            bias_factor=attrs.get("bias_factor"),
            discrete=discrete_cvs(trajectory, attrs),
            restraint=restraint,
        )
        return replace(found, source=getattr(trajectory, "path", None), restraints=others, size=size_of(trajectory))

    @classmethod
    def from_runs(cls, trajectories: Sequence[str | Path | Trajectory], bias: str | None = None) -> EntropyLandscape:
        """From one trajectory, or the average of several of independent runs; on one grid, if theirs have grown.

        Raises:
            InputError: as `from_trajectory` and `average` do.
        """
        runs = [opened(one, "EntropyLandscape.from_runs") for one in trajectories]
        grid = grid_of_runs(runs, bias) if len(runs) > 1 else None
        single = [cls.from_trajectory(run, bias, grid=grid) for run in runs]
        return single[0] if len(single) == 1 else cls.average(single)

    @classmethod
    def average(cls, landscapes: Sequence[EntropyLandscape]) -> EntropyLandscape:
        r"""Mean over independent runs, with its standard error.

            S = (1/R) sum_r (S_r - C_r)        C_r = mean of S_r over the bins that all runs have visited

        Each S_r is known up to a constant only; taking off C_r removes it. The error in each bin is the standard
        deviation over runs (with R - 1) divided by sqrt(R). Averages among `landscapes` count as all their runs.

        Args:
            landscapes: at least 2 runs on the same grid.

        Raises:
            InputError: fewer than 2 runs, one of them twice, different grids or kinds, or no bin that all have visited.
        """
        landscapes = require_several(
            "EntropyLandscape.average", "landscapes", landscapes, cls, "EntropyLandscape.from_trajectory"
        )
        runs = tuple(run for landscape in landscapes for run in (landscape.members or (landscape,)))
        visited, mean, error = averaging.mean_of_runs(runs)
        return cls(mean, visited, runs[0].axes, error, runs[0].flat, runs, restraints=runs[0].restraints)

    # ------------------------------------------------------------------ looking things up

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the CVs, in the order of the axes."""
        return tuple(axis.name for axis in self.axes)

    @property
    def runs(self) -> int:
        """Number of independent runs behind it."""
        return max(1, len(self.members))

    def axis_index(self, axis: str | int) -> int:
        """Index of an axis given by name or index.

        Raises:
            InputError: no such axis; the message lists them.
        """
        if isinstance(axis, str) and axis in self.names:
            return self.names.index(axis)
        number = None if isinstance(axis, bool) else index_of(axis)
        if number is not None and -len(self.axes) <= number < len(self.axes):
            return number % len(self.axes)
        raise InputError(f"EntropyLandscape: no axis {shown(axis)}; choose one of {', '.join(self.names)}")

    def at(self, **values: float) -> float:
        """S at a point, one value for each CV by name, by cubics between the centres; NaN in a bin not visited.

        Raises:
            InputError: a CV that is missing, unknown, or outside the grid.
        """
        missing = [name for name in self.names if name not in values]
        if missing:
            raise InputError(f"EntropyLandscape.at: a value of {', '.join(missing)} is missing; give one for each axis")
        if not self.visited[self._bins(values)]:
            return float("nan")
        return float(self._between(values, self.entropy))

    def range(self) -> float:
        """Largest minus smallest S among the bins visited, in nats."""
        return float(np.nanmax(self.entropy) - np.nanmin(self.entropy))

    def slice(self, **values: float) -> EntropyLandscape:
        """Return the landscape at the given values, as a function of the remaining CVs.

        Raises:
            InputError: an unknown CV, a value outside the grid, no CV left, or nothing visited there.
        """
        where = self._bins(values)
        rest = tuple(axis for axis in self.axes if axis.name not in values)
        if not rest:
            raise InputError("EntropyLandscape.slice: every axis has a value and none is left; use at() for one point")
        if self.members:
            return self.average([run.slice(**values) for run in self.members])
        points, means = self._between(values, self.entropy), None
        if self.means is not None:
            means = self.means
            for name in values:
                means = at_centres(means, self.axes[self.axis_index(name)], self.axis_index(name))
            return self._of_means(self._between(values, means), self.visited[where], rest)
        return EntropyLandscape(points, self.visited[where], rest, flat=self.flat, restraints=self.restraints)

    def _of_means(self, means: Floats, visited: NDArray[np.bool_], axes: tuple[Axis, ...]) -> EntropyLandscape:
        return self.from_means(means, visited, axes, flat=self.flat, restraints=self.restraints)

    def _between(self, values: Mapping[str, float], points: Floats) -> Floats:
        """What is known at the centres, at given values of some of the CVs, as a function of the others."""
        found = points
        for number in sorted((self.axis_index(name) for name in values), reverse=True):
            axis = self.axes[number]
            found = value_at(found, axis.place_of(values[axis.name]), number, axis.periodic)
        return found

    def _bins(self, values: Mapping[str, float]) -> tuple[Any, ...]:
        where: list[Any] = [np.s_[:]] * len(self.axes)
        for name, value in values.items():
            axis = self.axis_index(name)
            where[axis] = self.axes[axis].bin_of(value)
        return tuple(where)

    # ------------------------------------------------------------------ what follows from it

    def marginal(self, *axes: str | int) -> EntropyLandscape:
        r"""Return the landscape as a function of some of its CVs, in the order given.

            S(x) = ln sum_y exp S(x, y) dy

        Bins not visited count as empty. All bins of an axis are equally wide, so dy only adds to the constant. An
        average is marginalised run by run and then averaged again, which keeps its error right.

        Args:
            axes: names or indices of the CVs to keep, at least one.

        Raises:
            InputError: an unknown axis, the same one twice, or none.
        """
        keep = [self.axis_index(axis) for axis in axes]
        if not keep or len(set(keep)) < len(keep):
            raise InputError(
                f"EntropyLandscape.marginal: {shown(axes)} must be different axes, at least one; choose among "
                f"{', '.join(self.names)}"
            )
        if self.members:
            return self.average([run.marginal(*keep) for run in self.members])
        others = tuple(axis for axis in range(len(self.axes)) if axis not in keep)
        kept = sorted(keep)
        order = [kept.index(axis) for axis in keep]
        bins = np.where(self.visited, self.entropy if self.means is None else self.means, -np.inf)
        summed = np.logaddexp.reduce(bins, axis=others).transpose(order)
        left, visited = tuple(self.axes[axis] for axis in keep), np.isfinite(summed)
        if self.means is not None:
            return self._of_means(summed, visited, left)
        return EntropyLandscape(summed, visited, left, flat=self.flat, restraints=self.restraints)

    def equilibrium(self, given: str | int, of: str | int, value: Value | None = None) -> Curve:
        r"""Equilibrium mean of one CV at the centre of each bin of another.

            <a>(L) = sum_a a exp S(L, a) / sum_a exp S(L, a)        (equation 1 of arXiv 2503.13145)

        The sums run over all bins visited, of any further CV too, at L itself and not over its bin. Where ln of the
        mean density of bins was measured, a is the mean place in its bin, by the local slope. S is a density in the
        coordinate of the grid, and so is the sum, so a change of variable by `value` needs no Jacobian.

        Args:
            given: the CV that is held fixed, L.
            of: the CV that is averaged, a.
            value: function from the coordinate of the grid to the quantity to be averaged, for example from a logit
                to an accuracy (see `natural_value`); None averages the coordinate itself.

        Returns:
            A value for each bin of `given`, NaN where nothing (or, in an average, not every run) has been. For an
            average: the mean over runs of each run's curve, with its standard error.

        Raises:
            InputError: an unknown axis, the same one twice, or a periodic `of` whose `value`, such as `np.cos`, is not.
        """
        return curves.equilibrium(self, given, of, value)

    def most_probable(self, given: str | int, of: str | int) -> Curve:
        r"""Find the value of one CV at which S is largest, at the centre of each bin of another.

            a*(L) = argmax over a of S(L, a)

        Between bins it is refined by the parabola through the highest bin and its two neighbours, if both were
        visited. It belongs to the coordinate of the grid: the most probable ln L is not ln of the most probable L.

        Args:
            given: the CV that is held fixed, L.
            of: the CV whose most probable value is asked for, a.

        Returns:
            As for `equilibrium`. Further CVs are summed over first.

        Raises:
            InputError: an unknown axis, or the same one twice.
        """
        return curves.most_probable(self, given, of)

    def sample(
        self,
        runs: Trajectory | str | Path | Iterable[Trajectory | str | Path] | None = None,
        *,
        n: int = 100,
        seed: int = 0,
        width: float | None = None,
        since: float = 0.5,
        final_bias: bool = False,
        **values: float,
    ) -> FrameSample:
        r"""Draw frames at given values of CVs, as equilibrium without the biases would draw them.

        Frame n of a bin around the values is drawn with probability p_n = w_n / sum_m w_m, w = exp(V / kT) / g of its
        run's biases (`frame_weights`), g such that the picks lie evenly in the bin (`nnsim.analysis.sampling`), by
        systematic resampling: a frame comes twice only if p_n > 1/n. So the plain average over the picks is the
        equilibrium average at those values. Of a Wang-Landau bias V is the final one.

        Args:
            runs: where the frames come from, with recorded positions: a trajectory, several, or paths; None is the
                trajectory, or those, that the landscape was read from.
            n: number of picks, at least 1.
            seed: of the draw.
            width: width of the bin around each value; None is that of a bin of the grid.
            since: fraction of each run that is left out at its beginning, from 0 to below 1.
            final_bias: for metadynamics and OPES, as in `frame_weights`.
            **values: CVs of this landscape by name, such as `ln_loss_train=-4`; a part that only one name begins or
                ends with will do, such as `ln_loss`. CVs that are not given may have any value.

        Returns:
            Run, frame, step, walker, weight and CVs of each pick; `positions()` and `module(i)` read the networks.

        Raises:
            InputError: no runs given or known, an unknown CV, a value outside the grid, fewer than n frames there, no
                recorded positions, or biases whose frames cannot be weighted.

        >>> landscape.sample(ln_loss_train=-4, n=100).module(0)  # doctest: +SKIP
        """
        from nnsim.analysis.landscape.sampling import sample_frames

        if runs is None:
            runs = [one.source for one in self.members or (self,) if one.source is not None]
            if not runs:
                raise InputError("EntropyLandscape: it was not read from a trajectory, so sample needs runs; give them")
        return sample_frames(self, runs, values, n=n, seed=seed, width=width, since=since, final_bias=final_bias)

    def __repr__(self) -> str:
        axes = ", ".join(f"{a.name} [{a.edges[0]:g}, {a.edges[-1]:g}] in {len(a.centers)} bins" for a in self.axes)
        kind = "entropy" if self.flat else "ln of the Boltzmann integral"
        share = f"{int(self.visited.sum())} of {self.visited.size} bins visited"
        return f"EntropyLandscape({kind}; {axes}; {share}, range {self.range():.3g} nats, {self.runs} run(s))"


def _outweighed(visits: NDArray[Any], held: Floats) -> NDArray[np.bool_]:
    """Whether V has come to outweigh restraints of `held` kT: where they are above 1, by the visits.

    Where the bias has not, S would be as far too high as the restraint is above what the walkers climb by themselves.
    """
    up = held - held.min() > 1
    usual = visits[(visits > 0) & ~up]
    return ~up | (visits >= FEWEST_VISITS * np.median(usual)) if usual.size else np.ones_like(up)


def _on_host(table: Any) -> Any:
    """Return a tensor on any device as something numpy can read."""
    return table.detach().cpu() if hasattr(table, "detach") else table
