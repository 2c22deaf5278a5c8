"""Brownian dynamics: Langevin dynamics without inertia."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnsim.errors import require_choice, require_each
from nnsim.forcefield import ForceField
from nnsim.integrators import pieces, settings
from nnsim.integrators.mini_batches import MiniBatches, check_batch_size
from nnsim.program import Diffuse, DiffuseWithMemory, DiffusionHeat, Forces, Operation, Shuffle
from nnsim.program.operation import Known, at_step
from nnsim.program.overdamped import add_
from nnsim.protocols import Integrator
from nnsim.schedules import Numbers, Setting
from nnsim.state import State

SCHEMES = ("leimkuhler-matthews", "euler-maruyama")


class Brownian(Integrator):
    r"""dq = f dt / (m friction) + sqrt(2 kT / (m friction)) dW, the limit of high friction of Langevin dynamics.

    With the diffusion coefficient D = kT / (m friction) and unit normal numbers xi,

    | scheme | step |
    |---|---|
    | `"leimkuhler-matthews"` | q' = q + D dt f / kT + sqrt(D dt / 2) (xi + xi'), xi' is the xi of the next step |
    | `"euler-maruyama"` | q' = q + D dt f / kT + sqrt(2 D dt) xi |

    Where kT is a schedule, each xi keeps the kT of the step that drew it.

    | symbol | code | shape |
    |---|---|---|
    | dt / (m friction) = D dt / kT | `mobility` | scalar, [n], [W, 1] or [W, n] |
    | xi | `integrator_state["noise"]` (Leimkuhler-Matthews only) | [W, n] |

    Both cost one gradient a step. The stationary law of Euler-Maruyama has an error of first order in dt, that of
    Leimkuhler-Matthews, the limit of BAOAB at high friction, of second order; on a harmonic well of stiffness k, with
    a = k dt / (m friction) < 2, the variance of q is kT / k / (1 - a / 2) with the one and exactly kT / k with the
    other. In time both are of first order; the mean square displacement of free particles is 2 D dt n after n steps
    with Euler-Maruyama and 2 D dt (n - 1/2) with Leimkuhler-Matthews.

    A reflecting box mirrors the positions, and with them the noise that the next step will use again; a free particle
    thus stays exactly uniform in its box. Velocities are zero.

    With a `batch_size` the forces are estimated, those of U with the train loss L replaced by the mean loss of a
    mini-batch of each walker's own; every epoch visits each point once. With Euler-Maruyama and kT = 1 that is
    stochastic gradient Langevin dynamics (SGLD) for the posterior exp(-U), with the step size 2 dt / (m friction). The
    estimate has no bias where U is linear in L; its noise heats the walkers, by less and less as dt -> 0; on a
    quadratic U the error of the stationary law of Euler-Maruyama stays of first order. `state.energy` is the estimate
    of U, too. CVs that are recorded, such as `cv.Loss("train")`, are exact, and computed only when recorded.

    Args:
        dt: time step, in reduced time, above 0: one number, one for each walker [W], or a function from the step t = 1,
            2, ... to either, as for a ladder (`ReplicaExchange.each`); time counts steps where it is not one number.
        friction: per unit of time, above 0: one number, or one for each walker [W].
        kT: temperature, at least 0 (0 is gradient descent with the learning rate dt / (m friction)): one number, or one
            for each walker [W]; or a schedule of either, such as `nnsim.schedules.LinearRamp`, whose kT(t) is that of
            step t = 1, 2, ...
        scheme: `"leimkuhler-matthews"` or `"euler-maruyama"`.
        masses: one number, or one for each parameter [n], walker [W, 1] or both [W, n], above 0; only m x friction
            matters.
        batch_size: points of a mini-batch, from 1 to the number of train points; None is exact forces.

    Raises:
        InputError: a number out of its range, or another scheme; at the step where a schedule gives a number out of
            range; when the simulation is made, numbers for more or fewer walkers or parameters, and with `batch_size` a
            bias, a system without data, a batch larger than the data, a U without the train loss.

    Reference: B. Leimkuhler and C. Matthews, Appl. Math. Res. Express 2013, 34, doi:10.1093/amrx/abs010; order of the
    stationary law and of the way there: B. Leimkuhler, C. Matthews and M. V. Tretyakov, Proc. R. Soc. A 470, 20140120
    (2014), doi:10.1098/rspa.2014.0120; mini-batches: M. Welling and Y. W. Teh, ICML 2011, eq. 4.

    >>> from nnsim import Simulation
    >>> from nnsim.integrators import Brownian
    >>> from nnsim.systems import AnalyticSystem, Harmonic
    >>> simulation = Simulation(AnalyticSystem(3, Harmonic(), start=0.0), Brownian(dt=0.5, friction=1.0), walkers=2)
    >>> simulation.advance(10).state.step
    10
    """

    dt: Setting
    friction: Numbers
    kT: Setting

    def __init__(
        self,
        dt: Setting,
        friction: Numbers,
        kT: Setting = 1.0,
        scheme: str = "leimkuhler-matthews",
        *,
        masses: float | Tensor = 1.0,
        batch_size: int | None = None,
    ) -> None:
        self.dt = settings.check_time_step("Brownian", dt)
        self.friction = require_each("Brownian", "friction", friction, above=0.0)
        self.kT = settings.check_temperature("Brownian", kT, least=0.0)
        self.scheme = require_choice("Brownian", "scheme", scheme, SCHEMES)
        self.masses = settings.check_masses("Brownian", masses)
        self.batch_size = check_batch_size("Brownian", batch_size)

    @property
    def time_step(self) -> float:
        """Time that one step advances; 1 where dt is not one number."""
        return settings.time_step_of(self.dt)

    @property
    def order(self) -> int:  # type: ignore[override]
        """Power of dt of the error of averages."""
        return 2 if self.scheme == "leimkuhler-matthews" else 1

    def init(self, positions: Tensor, force_field: ForceField, generator: torch.Generator) -> State:
        """The forces at positions [W, n] and the first noise; velocities stay zero."""
        self._walkers = settings.Walkers("Brownian", positions)
        dt, friction = self._walkers.number("dt", self.dt, above=0.0), self._walkers.number("friction", self.friction)
        masses = settings.masses_like("Brownian", self.masses, positions)
        self._mobility = settings.derived(lambda dt, friction: dt / (friction * masses), dt, friction)
        at_step(self._kT, 0)  # refuses now what it would refuse later
        self._batches = MiniBatches.of_dynamics("Brownian", self.batch_size, positions, force_field)
        state = pieces.first_state(positions, torch.zeros_like(positions), force_field, generator, self._batches)
        at_step(dt, 1)
        if self.scheme == "leimkuhler-matthews":
            state.integrator_state["noise"] = state.normal(like=positions)
        return state

    def program(self, force_field: ForceField) -> Sequence[Operation]:
        """One step of dt."""
        shuffle = [Shuffle(self._batches)] if self._batches else []
        if self.scheme == "leimkuhler-matthews":
            return *shuffle, DiffuseWithMemory(self._mobility, self._kT), Forces(self._batches)
        return *shuffle, Diffuse(self._mobility, self._kT), Forces(self._batches), DiffusionHeat(self._mobility)

    def conserved(self, state: State) -> Tensor:
        """U + V, [W], and for Leimkuhler-Matthews the kinetic energy of the BAOAB step without memory that it is.

        In units where the masses are 1, that has the time step sqrt(2 mobility) and c = 0, and ends with the velocity
        sqrt(kT) xi + sqrt(mobility / 2) f.
        """
        energy = state.energy + state.bias_energy
        if self.scheme != "leimkuhler-matthews":
            return energy
        velocities = at_step(self._kT, state.step) ** 0.5 * state.integrator_state["noise"]
        add_(velocities, state.forces, (at_step(self._mobility, state.step) / 2) ** 0.5)
        return energy + pieces.kinetic_energy(velocities, 1.0)

    def refresh(self, state: State, force_field: ForceField) -> None:
        """Energies, CVs and forces anew at the same positions, on the step's mini-batches if there are any."""
        if self._batches:
            pieces.update_forces_(state, force_field, self._batches)
        else:
            super().refresh(state, force_field)

    @property
    def _kT(self) -> Known:
        return self._walkers.number("kT", self.kT, least=0.0)
