"""Langevin dynamics by splitting."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nnsim.errors import InputError, require_number, shown
from nnsim.forcefield import ForceField
from nnsim.integrators import pieces, settings
from nnsim.integrators.mini_batches import MiniBatches, check_batch_size
from nnsim.program import Drift, Forces, Kick, KineticEnergy, Operation, OrnsteinUhlenbeck, Shuffle
from nnsim.program.operation import Known, at_step
from nnsim.protocols import Integrator
from nnsim.schedules import Setting
from nnsim.state import State


class Langevin(Integrator):
    r"""m dv = f dt - friction m v dt + sqrt(2 friction m kT) dW,  dq = v dt, split into exactly solvable parts.

    Each letter of `splitting` is one part, carried out from left to right for dt divided by how often it occurs:

    | letter | part | code |
    |---|---|---|
    | B | v <- v + h f / m | kick |
    | A | q <- q + h v | drift, then back into the box |
    | O | v <- c v + sqrt((1 - c^2) kT / m) xi, c = exp(-friction h) | Ornstein-Uhlenbeck |

    Forces are evaluated only where a kick needs new ones, and at the end of a step: once a step for BAOAB, OBABO, BAOA
    and BOA. BAOAB (the default) has the smallest error in the positions: on a harmonic well it is exact at any stable
    dt. The papers' scripts use BOA with c = 1 - g (see `friction_from_fraction`).

    A bias may be evaluated every k steps (see `nnsim.Simulation`) where all kicks use forces of the ends of a step,
    that is where no B stands between two A, as in BAOAB, OBABO, BAOA and BOA, but not in ABOBA.
    At the multiples of k the error of the law of q is of second order in k dt for BAOAB, OBABO and BAOA, of first for
    BOA.

    With a `batch_size` the forces are estimated, those of U with the train loss L replaced by the mean loss of a
    mini-batch of each walker's own: stochastic gradient Hamiltonian Monte Carlo (SGHMC), without the correction for the
    noise of the gradient. All kicks between two drifts use one mini-batch, that of the step in which the forces were
    computed, and every epoch visits each point once. The estimate has no bias where U is linear in L; its noise
    heats the walkers, by less and less as dt -> 0: watch the kinetic temperature. On a quadratic U, between epochs, the
    error of the stationary law of q is of second order in dt for BAOAB and of first for BAO. `state.energy` is the
    estimate of U, too. CVs that are recorded, such as `cv.Loss("train")`, are exact, and computed only when recorded.

    Args:
        dt: time step, in reduced time, above 0: one number, one for each walker [W], or a function from the step t = 1,
            2, ... to either, as for a ladder (`ReplicaExchange.each`); time counts steps where it is not one number.
        friction: per unit of time, at least 0 (0 is Newton's dynamics): one number, one for each walker [W], or a
            function from the step to either, as for dt.
        kT: temperature, at least 0: one number, or one for each walker [W]; or a schedule of either, such as
            `nnsim.schedules.LinearRamp`, whose kT(t) is that of step t = 1, 2, ... and kT(0) that of the initial
            velocities.
        splitting: a string of the letters B, A and O in which A and B occur; without an O, friction must be 0.
        masses: one number, or one for each parameter [n], walker [W, 1] or both [W, n], above 0.
        batch_size: points of a mini-batch, from 1 to the number of train points; None is exact forces.

    Raises:
        InputError: a negative or non-finite number, another letter, friction without an O, a schedule without friction;
            at the step where a schedule gives a number out of range; when the simulation is made, numbers for more or
            fewer walkers or parameters, and with `batch_size` a bias, a system without data, a batch larger than the
            data, a U without the train loss.

    `integrator_state["kinetic_energy"]` [W] is taken after the last O of a step, where its mean is n kT / 2 without an
    error of the time step on a harmonic well.

    Reference: B. Leimkuhler and C. Matthews, Appl. Math. Res. Express 2013, 34, doi:10.1093/amrx/abs010, eqs. 10-13;
    BAOAB's stationary law: J. Chem. Phys. 138, 174102 (2013), doi:10.1063/1.4802990; mini-batches: T. Chen, E. B. Fox
    and C. Guestrin, arXiv 1402.4102, eqs. 13-15, in splittings as of B. Leimkuhler and X. Shang, arXiv 1505.06889.
    """

    dt: Setting
    friction: Setting
    kT: Setting

    def __init__(
        self,
        dt: Setting,
        friction: Setting,
        kT: Setting = 1.0,
        splitting: str = "BAOAB",
        *,
        masses: float | Tensor = 1.0,
        batch_size: int | None = None,
    ) -> None:
        self.dt = settings.check_time_step("Langevin", dt)
        self.friction = settings.check_setting("Langevin", "friction", friction, least=0.0)
        self.kT = settings.check_temperature("Langevin", kT, least=0.0)
        self.masses = settings.check_masses("Langevin", masses)
        self.batch_size = check_batch_size("Langevin", batch_size)
        if not isinstance(splitting, str) or set(splitting) - set("ABO") or not {"A", "B"} <= set(splitting):
            raise InputError(
                f"Langevin: splitting = {shown(splitting)} must be a string of the letters B, A and O in which A and B "
                "occur, such as 'BAOAB' or 'BOA'; change splitting"
            )
        free = not callable(self.friction) and not np.any(np.asarray(self.friction))
        if not free and "O" not in splitting:
            given = f"{self.friction:g}" if isinstance(self.friction, float) else shown(self.friction)
            raise InputError(
                f"Langevin: friction = {given} and kT would be ignored, since splitting = {splitting!r} has "
                "no O; add an O, or set friction=0"
            )
        if callable(self.kT) and free:
            raise InputError(
                "Langevin: a schedule of kT would be ignored, since friction = 0; give a friction above 0, or kT as a "
                "number, that of the initial velocities"
            )
        self.splitting = splitting

    @property
    def multiple_time_stepping(self) -> bool:  # type: ignore[override]
        """Whether a bias may be evaluated every few steps: no B stands between two A."""
        return "B" not in self.splitting[self.splitting.find("A") : self.splitting.rfind("A")]

    @property
    def time_step(self) -> float:
        """Time that one step advances; 1 where dt is not one number."""
        return settings.time_step_of(self.dt)

    @property
    def symmetric(self) -> bool:  # type: ignore[override]
        """Whether a step is its own reverse."""
        return self.splitting == self.splitting[::-1]

    @property
    def order(self) -> int:  # type: ignore[override]
        """Power of dt of the error of averages."""
        return 2 if self.symmetric else 1

    def conserved(self, state: State) -> Tensor:
        """K + U + V, [W]; in the middle of a kick that stands at one end of a step only, where its error is less."""
        sign = self.splitting.startswith("B") - self.splitting.endswith("B")
        half = 0.5 * at_step(self._dt, state.step) / self.splitting.count("B") if sign else 0.0
        return pieces.total_energy(state, self._masses, sign * half)

    def init(self, positions: Tensor, force_field: ForceField, generator: torch.Generator) -> State:
        """Thermal velocities and the forces at positions [W, n]."""
        self._walkers = settings.Walkers("Langevin", positions)
        self._masses = settings.masses_like("Langevin", self.masses, positions)
        self._batches = MiniBatches.of_dynamics("Langevin", self.batch_size, positions, force_field)
        velocities = pieces.thermal_velocities(positions, at_step(self._kT, 0), self._masses, generator)
        state = pieces.first_state(positions, velocities, force_field, generator, self._batches)
        at_step(self._decay(), 1)  # refuses now what it would refuse then
        state.integrator_state["kinetic_energy"] = pieces.kinetic_energy(velocities, self._masses)
        return state

    def program(self, force_field: ForceField) -> Sequence[Operation]:
        """One step of dt: the letters from left to right, with new forces where they are needed."""
        last_O = self.splitting.rfind("O")
        parts = {
            "B": Kick(self._part("B"), self._masses),
            "A": Drift(self._part("A")),
            "O": OrnsteinUhlenbeck(self._decay(), self._kT, self._masses),
        }
        forces, kinetic_energy = Forces(self._batches), KineticEnergy(self._masses)
        steps: list[Operation] = [Shuffle(self._batches)] if self._batches else []
        stale = False
        for place, letter in enumerate(self.splitting):
            if letter == "B" and stale:
                steps.append(forces)
            stale = letter == "A" or (stale and letter != "B")
            steps.append(parts[letter])
            if place == last_O:
                steps.append(kinetic_energy)
        if stale:
            steps.append(forces)
        if last_O < 0:
            steps.append(kinetic_energy)
        return steps

    def refresh(self, state: State, force_field: ForceField) -> None:
        """Energies, CVs and forces anew at the same positions, on the step's mini-batches if there are any."""
        if self._batches:
            pieces.update_forces_(state, force_field, self._batches)
        else:
            super().refresh(state, force_field)

    def _part(self, letter: str) -> Known:
        """The time of each of the parts of a letter."""
        count = self.splitting.count(letter)
        return settings.derived(lambda dt: dt / count, self._dt)

    def _decay(self) -> Known:
        """What is left of a velocity after one O."""
        count = max(self.splitting.count("O"), 1)

        def decay(dt: float | Tensor, friction: float | Tensor) -> float | Tensor:
            lost = friction * (dt / count)
            return torch.exp(-lost) if isinstance(lost, Tensor) else math.exp(-lost)

        return settings.derived(decay, self._dt, self._walkers.number("friction", self.friction, least=0.0))

    @property
    def _dt(self) -> Known:
        return self._walkers.number("dt", self.dt, above=0.0)

    @property
    def _kT(self) -> Known:
        return self._walkers.number("kT", self.kT, least=0.0)


def friction_from_fraction(g: float, dt: float) -> float:
    """The friction for which a step of dt keeps 1 - g of a velocity, as the papers' scripts state it: -ln(1 - g) / dt.

    Args:
        g: fraction of a velocity lost in a step, from 0 to below 1.
        dt: time step, above 0.
    """
    g = require_number("friction_from_fraction", "g", g, least=0.0)
    if g >= 1:
        raise InputError(f"friction_from_fraction: g = {g:g} must be below 1; lower g")
    return -math.log1p(-g) / require_number("friction_from_fraction", "dt", dt, above=0.0)
