"""Modules that version 0.2 had elsewhere: what imports them by their earlier names goes on, and is told the new one."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Not those called like a function of `nnsim.analysis`: importing one would put it in the place of the function.
MOVED = {
    "nnsim.analysis.axes": "nnsim.analysis.landscape.axes",
    "nnsim.analysis.biased_run": "nnsim.analysis.averages.biased_run",
    "nnsim.analysis.boltzmann": "nnsim.analysis.averages.boltzmann",
    "nnsim.analysis.chain": "nnsim.analysis.renaming.chain",
    "nnsim.analysis.components": "nnsim.analysis.motion.components",
    "nnsim.analysis.convergence": "nnsim.analysis.landscape.convergence",
    "nnsim.analysis.correlation": "nnsim.analysis.motion.correlation",
    "nnsim.analysis.diffusion": "nnsim.analysis.motion.diffusion",
    "nnsim.analysis.distances": "nnsim.analysis.motion.distances",
    "nnsim.analysis.frames": "nnsim.analysis.averages.common_frames",
    "nnsim.analysis.independence": "nnsim.analysis.averages.independence",
    "nnsim.analysis.landscape_input": "nnsim.analysis.landscape.input",
    "nnsim.analysis.learnt": "nnsim.analysis.landscape.learnt",
    "nnsim.analysis.local_mean": "nnsim.analysis.averages.local_mean",
    "nnsim.analysis.mbar": "nnsim.analysis.averages.mbar",
    "nnsim.analysis.passages": "nnsim.analysis.landscape.passages",
    "nnsim.analysis.potentials": "nnsim.analysis.averages.bias_values",
    "nnsim.analysis.proof": "nnsim.analysis.renaming.proof",
    "nnsim.analysis.recorded": "nnsim.analysis.motion.blocks",
    "nnsim.analysis.reweight": "nnsim.analysis.averages.bins",
    "nnsim.analysis.sampling": "nnsim.analysis.landscape.sampling",
    "nnsim.analysis.snapshots": "nnsim.analysis.landscape.snapshots",
    "nnsim.analysis.structure": "nnsim.analysis.renaming.structure",
    "nnsim.analysis.sweep_table": "nnsim.analysis.training.sweep_table",
    "nnsim.analysis.temperature": "nnsim.analysis.motion.temperature",
    "nnsim.analysis.weights": "nnsim.analysis.averages.weights",
    "nnsim.analysis.within_bins": "nnsim.analysis.landscape.within_bins",
    "nnsim.attributes": "nnsim.identity.attributes",
    "nnsim.changes": "nnsim.identity.changes",
    "nnsim.checkpoint": "nnsim.running.checkpoint",
    "nnsim.checks": "nnsim.running.checks.parts",
    "nnsim.cv.ntk.memory": "nnsim.networks.memory",
    "nnsim.forces": "nnsim.running.checks.forces",
    "nnsim.gradients": "nnsim.running.checks.gradients",
    "nnsim.grid_native": "nnsim.grid.compiled",
    "nnsim.integrator_checks": "nnsim.running.checks.integrators",
    "nnsim.interrupt": "nnsim.running.interrupt",
    "nnsim.margins": "nnsim.networks.margins",
    "nnsim.modes": "nnsim.networks.modes",
    "nnsim.monitor": "nnsim.running.monitor",
    "nnsim.networks.fixed": "nnsim.identity.modules",
    "nnsim.ownership": "nnsim.identity.ownership",
    "nnsim.philox": "nnsim.random.philox",
    "nnsim.progress": "nnsim.running.progress",
    "nnsim.reporters": "nnsim.running.recording",
    "nnsim.script": "nnsim.running.script",
    "nnsim.selection": "nnsim.trajectory.selection",
    "nnsim.shadow_work": "nnsim.running.step_error.shadow_work",
    "nnsim.source_code": "nnsim.identity.source_code",
    "nnsim.step_error": "nnsim.running.step_error.watch",
    "nnsim.step_meters": "nnsim.running.step_error.meters",
    "nnsim.storage": "nnsim.running.storage",
    "nnsim.sweep": "nnsim.running.sweep",
    "nnsim.trajectory_columns": "nnsim.trajectory.columns",
    "nnsim.trajectory_frames": "nnsim.trajectory.frames",
    "nnsim.trajectory_layout": "nnsim.trajectory.layout",
    "nnsim.trajectory_network": "nnsim.trajectory.network",
    "nnsim.trajectory_record": "nnsim.trajectory.record",
    "nnsim.trajectory_runs": "nnsim.trajectory.runs",
    "nnsim.trajectory_writer": "nnsim.trajectory.writer",
    "nnsim.work_meter": "nnsim.running.step_error.work",
}


class _Moved(MetaPathFinder, Loader):
    """Finds a module by its earlier name: it is the one that has the new name, and not a copy."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(MOVED[spec.name])
        warnings.warn(f"{spec.name} is now {MOVED[spec.name]}; import that", DeprecationWarning, stacklevel=2)
        self._own = module.__spec__, getattr(module, "__loader__", None)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__, module.__loader__ = self._own  # the import has put those of the earlier name in their place


def install() -> None:
    """Let earlier names be found; once."""
    if not any(isinstance(one, _Moved) for one in sys.meta_path):
        sys.meta_path.append(_Moved())
