"""Umbrella sampling and steered dynamics: a harmonic restraint, at rest or moving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nnsim.errors import InputError, require_cv, require_integer, require_number, require_numbers, shown
from nnsim.protocols import Bias, CollectiveVariable, Integrator, Observable

if TYPE_CHECKING:
    from nnsim.evaluation import Evaluation
    from nnsim.state import State

Values = float | Sequence[float] | Sequence[Sequence[float]] | Tensor


class Umbrella(Bias):
    r"""A spring that holds the CVs near a centre, which may move at a constant rate and differ from walker to walker.

        V_w(s, t) = (1/2) sum_d k_d (s_d - c_wd(t))^2        c(t) = c(0) + velocity x min(t, until)        t steps

    For a periodic CV the difference is that to the nearest image of the centre. Walkers with a centre each are the
    windows of umbrella sampling. A moving centre steers the walkers, and does work on each of them:

        W(t) = sum over steps t' = 1 ... t of (1 - h) D(s(t' - 1), t') + h D(s(t'), t')
        D(s, t) = V(s, t) - V(s, t - 1)

    in `work`, recorded by `observe=[Work(umbrella)]`. By Jarzynski's equality the mean of exp(-W / kT) over walkers
    that start in equilibrium is exp(-(F(t) - F(0)) / kT), F(t) the free energy of the system with the restraint at t.

    When in a step the centre moves is up to the integrator. A dynamics begins a step with the forces of t' - 1 and ends
    it with those of t': h = 1/2, the trapezoid. Metropolis methods (`MonteCarlo`, `HybridMonteCarlo`) move the centre
    first and compare energies at t' only: h = 0, for which Jarzynski's equality is exact at any velocity. For a
    dynamics it holds up to the error of the time step, of second order where the splitting is symmetric.

    Args:
        cvs: the collective variables, 1 to 3 (or a single one).
        center: c(0) in units of the CVs: a number for all of them, [k] numbers, or [W, k] for a centre of each walker;
            for a single CV also [W].
        stiffness: k in energy per unit of the CV squared, above 0; in any form that `center` may have.
        velocity: rate of the centre in units of the CV per step; in any form that `center` may have.
        until: step at which a moving centre stops, at least 1; None never stops it.
        periods: length of the period of each CV, above 0, or None for one that is not periodic; a single value for a
            single CV.
        name: name of the bias.

    Attributes:
        work: work done on each walker so far, [W], in units of energy; zeros for a centre at rest.

    Raises:
        InputError: no CV or more than 3, a number out of its range, values for more or fewer CVs or walkers than there
            are.

    Reference: G. M. Torrie and J. P. Valleau, J. Comput. Phys. 23, 187 (1977), doi:10.1016/0021-9991(77)90121-8; the
    work: C. Jarzynski, Phys. Rev. Lett. 78, 2690 (1997), doi:10.1103/PhysRevLett.78.2690, eq. 2.

    >>> from nnsim import cv
    >>> from nnsim.bias import Umbrella
    >>> windows = Umbrella(cv.Parameter(0), [-1.0, 0.0, 1.0], stiffness=50.0)  # for 3 walkers
    >>> steered = Umbrella(cv.Parameter(0), -1.0, stiffness=50.0, velocity=1e-4, until=20_000)
    """

    formula = "harmonic"
    native = "springs"  # for native platforms

    def __init__(
        self,
        cvs: CollectiveVariable | Sequence[CollectiveVariable],
        center: Values,
        stiffness: Values,
        *,
        velocity: Values = 0.0,
        until: int | None = None,
        periods: float | Sequence[float | None] | Tensor | None = None,
        name: str = "umbrella",
    ) -> None:
        self.cvs = tuple(cvs) if isinstance(cvs, Sequence) and not isinstance(cvs, str) else (cvs,)
        if not 1 <= len(self.cvs) <= 3:
            raise InputError(f"Umbrella: {len(self.cvs)} CVs; give 1 to 3")
        for cv in self.cvs:
            require_cv("Umbrella", "cvs", cv)
        self.center = self._rows("center", center)
        self.stiffness = self._rows("stiffness", stiffness)
        self.velocity = self._rows("velocity", velocity)
        if bool((self.stiffness <= 0).any()):
            raise InputError(f"Umbrella: stiffness = {shown(stiffness)} must be above 0; change stiffness")
        counts = {len(rows) for rows in (self.center, self.stiffness, self.velocity)} - {1}
        if len(counts) > 1:
            raise InputError(
                f"Umbrella: center is for {len(self.center)}, stiffness for {len(self.stiffness)} and velocity for "
                f"{len(self.velocity)} walkers; give as many rows of each, or one for all walkers"
            )
        self.windows = max(counts, default=1)  # 1 is a restraint that all walkers share
        self.kind = "restraint" if self.windows == 1 else "states"
        self.until = None if until is None else require_integer("Umbrella", "until", until, least=1)
        self.periods = self._periods(periods)
        self.name = name
        self.moving = bool((self.velocity != 0).any())
        self.frozen = not self.moving  # at rest it has nothing to keep account of
        self.work: Tensor = torch.zeros(0, dtype=torch.float64)
        self._last: Tensor = torch.zeros(0, len(self.cvs), dtype=torch.float64)  # s [W, k] of the step before
        self._at_end = 0.5  # share of the work that is done at the end of a step
        self._generator: torch.Generator | None = None  # of the run, by which `Work` knows it
        # a CV that is not periodic has length 0 and inverse 0 here, which takes nothing off a difference
        lengths = [0.0 if period is None else period for period in self.periods]
        self._length = torch.tensor(lengths, dtype=torch.float64)
        self._inverse = torch.tensor([1 / length if length else 0.0 for length in lengths], dtype=torch.float64)

    def _rows(self, name: str, value: Values) -> Tensor:
        """The values for each walker and CV, [W, k], or [1, k] where all walkers have the same."""
        k = len(self.cvs)
        rule = f"finite: a number, {k} numbers (one for each CV), or an array [W, {k}] with a row for each walker"
        numbers = require_numbers("Umbrella", name, value, rule)
        if numbers.ndim == 0:
            numbers = numbers.expand(1, k).clone()
        elif numbers.ndim == 1:
            numbers = numbers[:, None] if k == 1 else numbers[None]
        if numbers.ndim != 2 or numbers.shape[1] != k or not bool(torch.isfinite(numbers).all()):
            raise InputError(f"Umbrella: {name} = {shown(value)} must be {rule}; change {name}")
        return numbers

    def _periods(self, periods: float | Sequence[float | None] | Tensor | None) -> tuple[float | None, ...]:
        k = len(self.cvs)
        if periods is None:
            return (None,) * k
        given: Any = periods.tolist() if hasattr(periods, "tolist") else periods  # of an array or a tensor
        values = given if isinstance(given, Sequence) and not isinstance(given, (str, bytes)) else [given]
        if len(values) != k:
            raise InputError(
                f"Umbrella: {len(values)} values of periods for {k} CVs; give one for each CV, None where not periodic"
            )
        return tuple(None if one is None else require_number("Umbrella", "periods", one, above=0.0) for one in values)

    def prepare(self, device: torch.device) -> None:
        """Bring the restraint to a device."""
        for name in ("center", "stiffness", "velocity", "work", "_last", "_length", "_inverse"):
            setattr(self, name, getattr(self, name).to(device))

    def attach(self, integrator: Integrator, generator: torch.Generator) -> None:
        """Learn where in a step of the integrator the centre moves."""
        self._at_end = 0.0 if integrator.metropolis else 0.5
        self._generator = generator
        self.work = self.work[:0]

    def center_at(self, step: int) -> Tensor:
        """The centre at a step, [W, k], or [1, k] where all walkers have the same; not wrapped into a period."""
        if not self.moving:
            return self.center
        return self.center + self.velocity * (step if self.until is None else min(step, self.until))

    def still(self, step: int) -> bool:
        """Whether V stays as it is from a step on."""
        return not self.moving or (self.until is not None and step >= self.until)

    def energy(self, s: Tensor, step: int) -> Tensor:
        """V [W] at s [W, k]."""
        return 0.5 * (self.stiffness * self._difference(s, step).square()).sum(-1)

    def gradient(self, s: Tensor, step: int) -> Tensor:
        """dV/ds [W, k] at s [W, k]."""
        return self.stiffness * self._difference(s, step)

    def energy_and_gradient(self, s: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """V [W] and its gradient [W, k] at s [W, k]."""
        difference = self._difference(s, step)
        gradient = self.stiffness * difference
        return 0.5 * (gradient * difference).sum(-1), gradient

    def _difference(self, s: Tensor, step: int) -> Tensor:
        """How far s [W, k] lies from the nearest image of the centre, [W, k]."""
        if self.windows not in (1, len(s)):
            raise InputError(
                f"Umbrella: {self.name!r} is for {self.windows} walkers, but there are {len(s)}; give each walker a row"
            )
        difference = s - self.center_at(step)
        return difference - self._length * torch.round(difference * self._inverse)

    def start(self, s: Tensor) -> None:
        """Begin to count the work of the walkers at s [W, k] from zero."""
        self.work = torch.zeros(len(s), dtype=torch.float64, device=s.device)
        self._last = s.clone()

    def update(self, s: Tensor, step: int, mask: Tensor | None = None) -> None:
        """Add the work that the last move of the centre has done on the walkers at s [W, k]."""
        if len(self.work) != len(s):
            self.start(s)
        if not self.moving or (self.until is not None and step > self.until):
            return
        work = (1 - self._at_end) * self._change(self._last, step)
        if self._at_end:
            work += self._at_end * self._change(s, step)
        self.work += work if mask is None else work * mask
        self._last = s.clone()

    @property
    def last_cvs(self) -> Tensor:
        """s [W, k] at the last step, of a moving centre."""
        return self._last

    @property
    def work_at_end(self) -> float:
        """Share of the work of a step that is done at its end: half by a dynamics, none by a Metropolis method."""
        return self._at_end

    def take_work(self, work: Tensor, s: Tensor) -> None:
        """Of the work [W] done so far, and s [W, k] at the last step, as a platform has counted them."""
        self.work, self._last = work, s

    def _change(self, s: Tensor, step: int) -> Tensor:
        """Change of V [W] at s [W, k] as the centre moves to its place at a step."""
        return self.energy(s, step) - self.energy(s, step - 1)

    def observables(self) -> dict[str, float]:
        """Of a moving centre, the mean work over the walkers so far; see `Work` for that of each."""
        if not self.moving:
            return {}
        return {"mean_work": float(self.work.mean()) if len(self.work) else 0.0}

    def describe(self) -> dict[str, Any]:
        """Settings, for the record."""
        rows = {name: getattr(self, name).tolist() for name in ("center", "stiffness", "velocity")}
        return {
            "cvs": [cv.name for cv in self.cvs],
            "cv_settings": self.cvs,
            **rows,
            "until": self.until,
            "periods": self.periods,
        }

    def state_dict(self) -> dict[str, Any]:
        """A copy of the work of a moving centre, and of s; a centre at rest has nothing to save."""
        return {"work": self.work.clone(), "last": self._last.clone()} if self.moving else {}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        if self.moving:
            self.work = saved["work"].to(self.work.device, copy=True)
            self._last = saved["last"].to(self._last.device, copy=True)


class Work(Observable):
    """The work that a moving `Umbrella` has done on each walker since the start, [W], in units of energy.

    Args:
        umbrella: the bias, one of those of the simulation.

    Raises:
        InputError: another thing than an `Umbrella`; when the simulation is made, one that is none of its biases.
    """

    def __init__(self, umbrella: Umbrella) -> None:
        if not isinstance(umbrella, Umbrella):
            raise InputError(f"Work: umbrella = {shown(umbrella)} must be an Umbrella; give that of the simulation")
        self.umbrella = umbrella
        self.name = f"{umbrella.name}_work"

    def observe(self, state: State, evaluation: Evaluation) -> Tensor:
        """The work done so far, [W]."""
        if self.umbrella._generator is not state.generator:
            raise InputError(
                f"Work: the umbrella {self.umbrella.name!r} is none of the biases of this simulation, so it does no "
                "work there; give it to the simulation as a bias too"
            )
        if len(self.umbrella.work) != state.walkers:  # asked before the simulation has started
            return torch.zeros(state.walkers, dtype=torch.float64, device=state.positions.device)
        return self.umbrella.work
