"""Deterministic dynamics at constant temperature: Nose-Hoover chains."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnsim.errors import InputError, require_each, require_integer, shown
from nnsim.evaluation import Evaluation
from nnsim.forcefield import ForceField
from nnsim.integrators import pieces, settings
from nnsim.program import Chain, Drift, ExtendedEnergy, Forces, Kick, Operation
from nnsim.program.chains import of_chains
from nnsim.program.operation import Known, at_step
from nnsim.protocols import Integrator, Observable
from nnsim.random.streams import Purpose
from nnsim.schedules import Numbers, Setting
from nnsim.state import State


class NoseHoover(Integrator):
    r"""Newton's equations with a chain of thermostats.

        m dv/dt = f - m v u_1
        Q_1 du_1/dt = (sum m v^2 - N kT) - Q_1 u_1 u_2
        Q_j du_j/dt = (Q_{j-1} u_{j-1}^2 - kT) - Q_j u_j u_{j+1},        dx_j/dt = u_j

    with N the number of degrees of freedom of a chain, Q_1 = N kT tau^2 and Q_j = kT tau^2. A step is half a step of
    the thermostats, a velocity Verlet step, and half a step of the thermostats. Conserved, up to an error of dt^2, is

        K + U + V + sum_j Q_j u_j^2 / 2 + N kT x_1 + kT sum_{j > 1} x_j

    which `ConservedQuantity` observes; it is conserved only while no bias grows. With a bias that is evaluated every k
    steps (see `nnsim.Simulation`) the thermostats act in every step, and it is conserved at the multiples of k.

    With one chain for all parameters N = n. That is not ergodic on harmonic and on free systems, whatever the length of
    the chain; with `massive=True` every parameter has a chain of its own, N = 1, which is.

    Where kT is a schedule, a step follows kT(t) of its number t, the thermostats keep the inertia Q that goes with
    kT(0), and the quantity above, with the present kT in it, is not conserved.

    Args:
        dt: time step, in reduced time, above 0: one number, one for each walker [W], or a function from the step t = 1,
            2, ... to either, as for a ladder (`ReplicaExchange.each`); time counts steps where it is not one number.
        tau: period over which the thermostats respond, in reduced time, above 0: one number, or one for each walker
            [W]; about that of the system's own motion, and at least 20 dt.
        kT: temperature, above 0: one number, or one for each walker [W]; or a schedule of either, such as
            `nnsim.schedules.LinearRamp`, whose kT(t) is that of step t = 1, 2, ... and kT(0) that of the initial
            velocities.
        chain: number of thermostats in a chain, at least 1; one alone (Nose-Hoover proper) is seldom ergodic.
        massive: a chain for each parameter.
        substeps: how many times the thermostats are propagated in half a step, at least 1.
        masses: one number, or one for each parameter [n], walker [W, 1] or both [W, n], above 0.

    Raises:
        InputError: a number out of its range; at the step where a schedule gives one; when the simulation is made,
            numbers for more or fewer walkers or parameters.

    `integrator_state["kinetic_energy"]` [W] is that of the end of the step.

    Reference: G. J. Martyna, M. L. Klein and M. Tuckerman, J. Chem. Phys. 97, 2635 (1992), doi:10.1063/1.463940;
    factorised as in G. J. Martyna, M. E. Tuckerman, D. J. Tobias and M. L. Klein, Mol. Phys. 87, 1117 (1996),
    doi:10.1080/00268979600100761, with the fourth-order weights of M. Suzuki, J. Math. Phys. 32, 400 (1991),
    doi:10.1063/1.529425.
    """

    dt: Setting
    kT: Setting
    multiple_time_stepping = True

    def __init__(
        self,
        dt: Setting,
        tau: Numbers,
        kT: Setting = 1.0,
        *,
        chain: int = 3,
        massive: bool = False,
        substeps: int = 1,
        masses: float | Tensor = 1.0,
    ) -> None:
        self.dt = settings.check_time_step("NoseHoover", dt)
        self.tau = require_each("NoseHoover", "tau", tau, above=0.0)
        self.kT = settings.check_temperature("NoseHoover", kT, above=0.0)
        self.chain = require_integer("NoseHoover", "chain", chain, least=1)
        if not isinstance(massive, bool):
            raise InputError(f"NoseHoover: massive = {shown(massive)} must be True or False; change massive")
        self.massive = massive
        self.substeps = require_integer("NoseHoover", "substeps", substeps, least=1)
        self.masses = settings.check_masses("NoseHoover", masses)

    @property
    def time_step(self) -> float:
        """Time that one step advances; 1 where dt is not one number."""
        return settings.time_step_of(self.dt)

    def conserved(self, state: State) -> Tensor | None:
        """Energy of the system, the biases and the thermostats, [W]; none with a schedule of kT."""
        return None if callable(self.kT) else state.integrator_state["conserved_quantity"]

    def init(self, positions: Tensor, force_field: ForceField, generator: torch.Generator) -> State:
        """Thermal velocities of parameters and thermostats, and the forces at positions [W, n]."""
        self._walkers = settings.Walkers("NoseHoover", positions)
        self._masses = settings.masses_like("NoseHoover", self.masses, positions)
        kT = at_step(self._kT, 0)
        velocities = pieces.thermal_velocities(positions, kT, self._masses, generator)
        state = pieces.first_state(positions, velocities, force_field, generator)
        at_step(self._dt, 1)  # refuses now what it would refuse then
        walkers, n = positions.shape
        freedom = 1 if self.massive else n
        self._freedom = torch.ones(self.chain, dtype=torch.float64, device=positions.device)
        self._freedom[0] = freedom
        tau = at_step(self._walkers.number("tau", self.tau), 0)
        self._inertia = of_chains(kT * tau**2) * self._freedom
        drawn = state.generator.normal(Purpose.VELOCITY, (walkers, n // freedom, self.chain))
        state.integrator_state["thermostat_velocities"] = drawn * (of_chains(kT) / self._inertia).sqrt()
        state.integrator_state["thermostat_positions"] = torch.zeros_like(drawn)
        self._energy().apply(state, force_field)
        return state

    def program(self, force_field: ForceField) -> Sequence[Operation]:
        """One step of dt."""
        dt = self._dt
        half = settings.derived(lambda dt: dt / 2, dt)
        kick = Kick(half, self._masses)
        chain = Chain(half, self._kT, self._inertia, self._freedom, self._masses, self.massive, self.substeps)
        return chain, kick, Drift(dt), Forces(), kick, chain, self._energy()

    def _energy(self) -> ExtendedEnergy:
        return ExtendedEnergy(self._kT, self._inertia, self._freedom, self._masses)

    @property
    def _dt(self) -> Known:
        return self._walkers.number("dt", self.dt, above=0.0)

    @property
    def _kT(self) -> Known:
        return self._walkers.number("kT", self.kT, above=0.0)


class ConservedQuantity(Observable):
    """What `NoseHoover` conserves, in units of energy, [W]: its drift shows whether the time step is too long."""

    name = "conserved_quantity"
    needs_bias_energy = True

    def observe(self, state: State, evaluation: Evaluation) -> Tensor:
        """Energy of the system, the biases and the thermostats, [W]."""
        return state.integrator_state["conserved_quantity"]
