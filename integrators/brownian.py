"""Brownian dynamics: Langevin dynamics without inertia."""

from __future__ import annotations

import torch
from torch import Tensor

from nnsim.errors import require_choice, require_number
from nnsim.forcefield import ForceField
from nnsim.integrators import pieces
from nnsim.protocols import Integrator
from nnsim.state import State

SCHEMES = ("leimkuhler-matthews", "euler-maruyama")


class Brownian(Integrator):
    r"""dq = f dt / (m friction) + sqrt(2 kT / (m friction)) dW, the limit of high friction of Langevin dynamics.

    With the diffusion coefficient D = kT / (m friction) and unit normal numbers xi,

    | scheme | step |
    |---|---|
    | `"leimkuhler-matthews"` | q' = q + D dt f / kT + sqrt(D dt / 2) (xi + xi'), xi' is the xi of the next step |
    | `"euler-maruyama"` | q' = q + D dt f / kT + sqrt(2 D dt) xi |

    | symbol | code | shape |
    |---|---|---|
    | dt / (m friction) = D dt / kT | `mobility` | scalar or [n] |
    | xi | `integrator_state["noise"]` (Leimkuhler-Matthews only) | [W, n] |

    Both cost one gradient a step. The stationary law of Euler-Maruyama has an error of first order in dt, that of
    Leimkuhler-Matthews, the limit of BAOAB at high friction, of second order; on a harmonic well of stiffness k, with
    a = k dt / (m friction) < 2, the variance of q is kT / k / (1 - a / 2) with the one and exactly kT / k with the
    other. In time both are of first order; the mean square displacement of free particles is 2 D dt n after n steps
    with Euler-Maruyama and 2 D dt (n - 1/2) with Leimkuhler-Matthews.

    A reflecting box mirrors the positions, and with them the noise that the next step will use again; a free particle
    thus stays exactly uniform in its box. Velocities are zero.

    Args:
        dt: time step, in reduced time, above 0.
        friction: per unit of time, above 0.
        kT: temperature, at least 0 (0 is gradient descent with the learning rate dt / (m friction)).
        scheme: `"leimkuhler-matthews"` or `"euler-maruyama"`.
        masses: one number or one for each parameter [n], above 0; only m x friction matters.

    Raises:
        InputError: a number out of its range, or another scheme.

    Reference: B. Leimkuhler and C. Matthews, Appl. Math. Res. Express 2013, 34, doi:10.1093/amrx/abs010; order of the
    stationary law and of the way there: B. Leimkuhler, C. Matthews and M. V. Tretyakov, Proc. R. Soc. A 470, 20140120
    (2014), doi:10.1098/rspa.2014.0120.

    >>> from nnsim import Simulation
    >>> from nnsim.integrators import Brownian
    >>> from nnsim.systems import AnalyticSystem, Harmonic
    >>> simulation = Simulation(AnalyticSystem(3, Harmonic(), start=0.0), Brownian(dt=0.5, friction=1.0), walkers=2)
    >>> simulation.advance(10).state.step
    10
    """

    def __init__(
        self,
        dt: float,
        friction: float,
        kT: float = 1.0,
        scheme: str = "leimkuhler-matthews",
        *,
        masses: float | Tensor = 1.0,
    ) -> None:
        self.dt = require_number("Brownian", "dt", dt, above=0.0)
        self.friction = require_number("Brownian", "friction", friction, above=0.0)
        self.kT = require_number("Brownian", "kT", kT, least=0.0)
        self.scheme = require_choice("Brownian", "scheme", scheme, SCHEMES)
        self.masses = pieces.check_masses("Brownian", masses)

    @property
    def time_step(self) -> float:
        """Time that one step advances."""
        return self.dt

    def init(self, positions: Tensor, force_field: ForceField, generator: torch.Generator) -> State:
        """The forces at positions [W, n] and the first noise; velocities stay zero."""
        self._masses = pieces.masses_like("Brownian", self.masses, positions)
        state = pieces.first_state(positions, torch.zeros_like(positions), force_field, generator)
        if self.scheme == "leimkuhler-matthews":
            state.integrator_state["noise"] = state.normal(like=positions)
        return state

    def step(self, state: State, force_field: ForceField) -> State:
        """One step of dt."""
        state.step += 1
        mobility = self.dt / (self.friction * self._masses)
        new = state.normal(like=state.positions)
        if self.scheme == "leimkuhler-matthews":
            noise, share = state.integrator_state["noise"].add_(new), 0.5
            state.integrator_state["noise"] = new
        else:
            noise, share = new, 2.0
        _add(state.positions, state.forces, mobility)
        _add(state.positions, noise, (share * self.kT * mobility) ** 0.5)
        # Euler-Maruyama does not use this noise again, so it does not matter that it is mirrored too
        force_field.system.box.confine_(state.positions, new)
        pieces.update_forces_(state, force_field)
        return state


def _add(positions: Tensor, direction: Tensor, factor: float | Tensor) -> None:
    """positions += factor x direction, for a factor that is one number or one for each parameter [n]."""
    if isinstance(factor, float):
        positions.add_(direction, alpha=factor)
    else:
        positions.addcmul_(direction, factor)
