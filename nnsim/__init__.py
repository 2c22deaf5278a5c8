"""nnsim: neural networks as molecular systems.

Names are imported when first used: `import nnsim`, `nnsim.Trajectory` and `nnsim --help` do not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nnsim import earlier_names
from nnsim.installation import require_one_checkout
from nnsim.lazy import lazily

__version__ = "0.2.0"

if TYPE_CHECKING:
    from nnsim.analysis.landscape.landscape import EntropyLandscape
    from nnsim.box import Box, per_tensor_limits
    from nnsim.errors import DivergedError, InputError, NNSimError, NNSimWarning, TrajectoryError
    from nnsim.evaluation import Evaluation
    from nnsim.forcefield import ForceField
    from nnsim.grid.grid import Grid
    from nnsim.integrators.minimise import Minimum, minimise
    from nnsim.lattice import Lattice
    from nnsim.methods.tempering import tempering
    from nnsim.protocols import Bias, CollectiveVariable, Integrator, Observable, Platform, Reporter, System
    from nnsim.running.starts import States
    from nnsim.running.store import Store
    from nnsim.simulation import Simulation
    from nnsim.state import State
    from nnsim.trajectory.reader import Trajectory
    from nnsim.trajectory.runs import Trajectories
    from nnsim.trajectory.states import states

_HOMES = {
    "nnsim.analysis.landscape.landscape": ["EntropyLandscape"],
    "nnsim.box": ["Box", "per_tensor_limits"],
    "nnsim.errors": ["DivergedError", "InputError", "NNSimError", "NNSimWarning", "TrajectoryError"],
    "nnsim.evaluation": ["Evaluation"],
    "nnsim.forcefield": ["ForceField"],
    "nnsim.grid.grid": ["Grid"],
    "nnsim.integrators.minimise": ["Minimum", "minimise"],
    "nnsim.lattice": ["Lattice"],
    "nnsim.methods.tempering": ["tempering"],
    "nnsim.protocols": [
        "Bias",
        "CollectiveVariable",
        "Integrator",
        "Observable",
        "Platform",
        "Reporter",
        "System",
    ],
    "nnsim.running.starts": ["States"],
    "nnsim.running.store": ["Store"],
    "nnsim.simulation": ["Simulation"],
    "nnsim.state": ["State"],
    "nnsim.trajectory.reader": ["Trajectory"],
    "nnsim.trajectory.runs": ["Trajectories"],
    "nnsim.trajectory.states": ["states"],
}
_MODULES = ("analysis", "bias", "cv", "export", "integrators", "plotting", "report", "schedules", "systems")

__all__ = [
    "Bias",
    "Box",
    "CollectiveVariable",
    "DivergedError",
    "EntropyLandscape",
    "Evaluation",
    "ForceField",
    "Grid",
    "InputError",
    "Integrator",
    "Lattice",
    "Minimum",
    "NNSimError",
    "NNSimWarning",
    "Observable",
    "Platform",
    "Reporter",
    "Simulation",
    "State",
    "States",
    "Store",
    "System",
    "Trajectories",
    "Trajectory",
    "TrajectoryError",
    "minimise",
    "per_tensor_limits",
    "states",
    "tempering",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES or f"nnsim.{name}" in earlier_names.MOVED:
        return importlib.import_module(f"nnsim.{name}")
    return _named(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])


require_one_checkout(__path__[0])
_named = lazily(__name__, _HOMES)
earlier_names.install()
