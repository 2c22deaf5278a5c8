"""Langevin dynamics by splitting."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nnsim.errors import InputError, require_number
from nnsim.forcefield import ForceField
from nnsim.integrators import pieces
from nnsim.protocols import Integrator
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

    Args:
        dt: time step, in reduced time, above 0.
        friction: per unit of time, at least 0 (0 is Newton's dynamics).
        kT: temperature, at least 0.
        splitting: a string of the letters B, A and O in which A and B occur; without an O, friction must be 0.
        masses: one number or one for each parameter [n], above 0.

    Raises:
        InputError: a negative or non-finite number, another letter, or friction without an O.

    `integrator_state["kinetic_energy"]` [W] is taken after the last O of a step, where its mean is n kT / 2 without an
    error of the time step on a harmonic well.

    Reference: B. Leimkuhler and C. Matthews, Appl. Math. Res. Express 2013, 34, doi:10.1093/amrx/abs010, eqs. 10-13;
    BAOAB's stationary law: J. Chem. Phys. 138, 174102 (2013), doi:10.1063/1.4802990.
    """

    def __init__(
        self,
        dt: float,
        friction: float,
        kT: float = 1.0,
        splitting: str = "BAOAB",
        *,
        masses: float | Tensor = 1.0,
    ) -> None:
        self.dt = require_number("Langevin", "dt", dt, above=0.0)
        self.friction = require_number("Langevin", "friction", friction, least=0.0)
        self.kT = require_number("Langevin", "kT", kT, least=0.0)
        self.masses = pieces.check_masses("Langevin", masses)
        if not isinstance(splitting, str) or set(splitting) - set("ABO") or not {"A", "B"} <= set(splitting):
            raise InputError(
                f"Langevin: splitting = {splitting!r} must be a string of the letters B, A and O in which A and B "
                "occur, such as 'BAOAB' or 'BOA'"
            )
        if self.friction > 0 and "O" not in splitting:
            raise InputError(
                f"Langevin: friction = {self.friction:g} and kT would be ignored, since splitting = {splitting!r} has "
                "no O; add an O, or set friction=0"
            )
        self.splitting = splitting

    @property
    def time_step(self) -> float:
        """Time that one step advances."""
        return self.dt

    def init(self, positions: Tensor, force_field: ForceField, generator: torch.Generator) -> State:
        """Thermal velocities and the forces at positions [W, n]."""
        self._masses = pieces.masses_like("Langevin", self.masses, positions)
        velocities = pieces.thermal_velocities(positions, self.kT, self._masses, generator)
        state = pieces.first_state(positions, velocities, force_field, generator)
        state.integrator_state["kinetic_energy"] = pieces.kinetic_energy(velocities, self._masses)
        return state

    def step(self, state: State, force_field: ForceField) -> State:
        """One step of dt."""
        box = force_field.system.box
        part = {letter: self.dt / self.splitting.count(letter) for letter in set(self.splitting)}
        last_O = self.splitting.rfind("O")
        stale = False
        state.step += 1
        for place, letter in enumerate(self.splitting):
            if letter == "B":
                if stale:
                    pieces.update_forces_(state, force_field)
                    stale = False
                pieces.kick_(state, part["B"], self._masses)
            elif letter == "A":
                pieces.drift_(state, part["A"], box)
                stale = True
            else:
                decay = math.exp(-self.friction * part["O"])
                pieces.ornstein_uhlenbeck_(state, decay, self.kT, self._masses)
                if place == last_O:
                    state.integrator_state["kinetic_energy"] = pieces.kinetic_energy(state.velocities, self._masses)
        if stale:
            pieces.update_forces_(state, force_field)
        if last_O < 0:
            state.integrator_state["kinetic_energy"] = pieces.kinetic_energy(state.velocities, self._masses)
        return state


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
