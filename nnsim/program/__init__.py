r"""An integrator's step as a program: a sequence of operations on the state, executed in torch or compiled.

A class with a `program(force_field)` needs no `step` (see `nnsim.Integrator`): a step adds 1 to `state.step` and
carries out the operations in their order. Each names the fields of the state that it `reads` and `writes`, those of
`State` or names in `integrator_state`, and holds its numbers: a float, one for each walker [W, 1] or parameter [n] or
both [W, n], `Scheduled` by the step, or taken `FromState`. So whoever knows the operations can carry out any step that
is composed of them. Your own operation is a frozen dataclass with `READS`, `WRITES` and `apply`, for the reference
platform.

| operations | of |
|---|---|
| `Kick`, `Drift`, `OrnsteinUhlenbeck`, `Forces`, `Shuffle`, `KineticEnergy` | dynamics |
| `Diffuse`, `DiffusionHeat`, `DiffuseWithMemory` | Brownian dynamics |
| `Chain`, `ExtendedEnergy` | Nose-Hoover chains |
| `Save`, `DrawMove`, `Accept` | Metropolis methods |
| `Momentum`, `Moments`, `Confine`, `LossForces` | training |
| `Repeat` | all |

>>> from nnsim.integrators import VelocityVerlet
>>> from nnsim import Simulation
>>> from nnsim.systems import AnalyticSystem, Harmonic
>>> simulation = Simulation(AnalyticSystem(3, Harmonic(), start=0.0), VelocityVerlet(dt=0.1))
>>> for operation in simulation.integrator.program(simulation.force_field):
...     print(type(operation).__name__, operation.reads, operation.writes)
Kick ('velocities', 'forces') ('velocities',)
Drift ('positions', 'velocities') ('positions', 'velocities')
Forces ('positions', 'cvs') ('energy', 'bias_energy', 'cvs', 'forces')
Kick ('velocities', 'forces') ('velocities',)
KineticEnergy ('velocities',) ('kinetic_energy',)
"""

from nnsim.program.chains import Chain, ExtendedEnergy
from nnsim.program.dynamics import Drift, Forces, Kick, KineticEnergy, OrnsteinUhlenbeck, Shuffle
from nnsim.program.metropolis import Accept, DrawMove, Save
from nnsim.program.operation import FromState, Number, Operation, Repeat, Scheduled, execute
from nnsim.program.overdamped import Diffuse, DiffuseWithMemory, DiffusionHeat
from nnsim.program.training import Confine, LossForces, Moments, Momentum

__all__ = [
    "Accept",
    "Chain",
    "Confine",
    "Diffuse",
    "DiffuseWithMemory",
    "DiffusionHeat",
    "DrawMove",
    "Drift",
    "ExtendedEnergy",
    "Forces",
    "FromState",
    "Kick",
    "KineticEnergy",
    "LossForces",
    "Moments",
    "Momentum",
    "Number",
    "Operation",
    "OrnsteinUhlenbeck",
    "Repeat",
    "Save",
    "Scheduled",
    "Shuffle",
    "execute",
]
