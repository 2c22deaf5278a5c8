"""An integrator as a user would write it in a file of their own: its step is a program; `test_programs.py` runs it."""

from dataclasses import dataclass

from nnsim import Integrator
from nnsim.integrators import pieces
from nnsim.program import Drift, Forces, Kick, Operation


@dataclass(frozen=True, eq=False)
class Drag(Operation):
    """v <- c v."""

    factor: float

    READS = ("velocities",)
    WRITES = ("velocities",)

    def apply(self, state, force_field):
        state.velocities *= self.factor


class Damped(Integrator):
    """Newton's equations with friction and no noise."""

    def __init__(self, dt, drag):
        self.dt, self.drag = dt, drag

    def init(self, positions, force_field, generator):
        velocities = pieces.thermal_velocities(positions, 1.0, 1.0, generator)
        return pieces.first_state(positions, velocities, force_field, generator)

    def program(self, force_field):
        kick = Kick(self.dt / 2)
        return kick, Drift(self.dt), Drag(self.drag), Forces(), kick
