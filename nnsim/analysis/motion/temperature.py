"""Kinetic temperature of each layer: whether energy is shared equally among the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnsim.analysis.checks import as_numbers
from nnsim.analysis.landscape.axes import Floats
from nnsim.analysis.motion.blocks import Recorded, Shapes, layers_of, require_parameters
from nnsim.analysis.motion.correlation import autocorrelation_time
from nnsim.errors import InputError


@dataclass(frozen=True, eq=False)
class LayerTemperature:
    """Kinetic temperature kT of each layer.

    Attributes:
        layers: names of the L layers.
        sizes: number of parameters of each, [L].
        values: mean over frames and walkers, [L], in units of energy.
        error: standard error, [L], with the correlation of the frames in it; NaN where the record is too short for one.
        time: of the frames, [T], reduced units; numbers of the frames for an array.
        frames: of each frame and walker, [T, W, L].
    """

    layers: tuple[str, ...]
    sizes: np.ndarray
    values: Floats
    error: Floats
    time: Floats
    frames: Floats

    def rows(self) -> list[dict[str, str | int | float]]:
        """One dictionary for each layer."""
        columns = zip(self.layers, self.sizes, self.values, self.error, strict=True)
        return [
            {"layer": name, "parameters": int(size), "kT": float(kT), "standard_error": float(error)}
            for name, size, kT, error in columns
        ]


def layer_temperatures(frames: Any, *, masses: Any = None, parameters: Shapes | None = None) -> LayerTemperature:
    r"""Kinetic temperature of each layer.

        kT_l = < 1/n_l sum_{i in l} m_i v_i^2 >

    In equilibrium it is kT for every layer (equipartition); a layer that is hotter has a time step too long for it, or
    is driven by a growing bias or by noise in its gradients. Velocities are recorded at the end of a step: those of
    BAOAB are off kT by an error of order dt^2, unlike those after its O step, which `kinetic_temperature` is made of.

    Of walkers with a kT each `values` are the mean; `frames` has each of them.

    The standard error is sqrt(variance tau / (T W)) of `autocorrelation_time`.

    Args:
        frames: `Trajectory` with velocities, its path, its velocities, or an array [T, W, n].
        masses: a number above 0, [n], [W, 1] or [W, n]; None is what the trajectory recorded, and 1 for an array.
        parameters: names and shapes of the tensors; a trajectory knows its own.

    Raises:
        InputError: unknown names and shapes, masses that are not above 0 or that the trajectory does not hold (it
            records only a checksum of [n]), velocities of another shape or not finite.

    Reference: M. P. Allen, D. J. Tildesley, Computer Simulation of Liquids (2017), sec. 2.4 (equipartition).

    >>> v = np.random.default_rng(0).normal(size=(1000, 2, 6))
    >>> kT = layer_temperatures(v, parameters={"0.weight": (2, 2), "2.weight": (1, 2)})
    >>> bool((abs(kT.values - 1) < 5 * kT.error).all())
    True
    """
    recorded = Recorded("layer_temperatures", frames, "velocities", parameters=parameters)
    shapes = require_parameters("layer_temperatures", recorded.parameters, recorded.size)
    layers = {name: at for name, at in layers_of(shapes).items() if len(at)}
    mass = _masses(recorded, masses)
    count, walkers, _ = recorded.shape
    found = np.empty((count, walkers, len(layers)))
    for rows, block in recorded.blocks():
        twice = mass * block**2
        for place, at in enumerate(layers.values()):
            found[rows, :, place] = twice[:, :, at].mean(axis=2)
    error = np.array([autocorrelation_time(found[:, :, place]).mean_error for place in range(len(layers))])
    sizes = np.array([len(at) for at in layers.values()], dtype=np.int64)
    return LayerTemperature(tuple(layers), sizes, found.mean(axis=(0, 1)), error, recorded.time(), found)


def _masses(recorded: Recorded, masses: Any) -> Floats:
    """Masses as a number, [n], [W, 1] or [W, n]."""
    given = recorded.header.get("integrator", {}).get("masses", 1.0) if masses is None else masses
    if isinstance(given, Mapping):
        raise InputError(
            "layer_temperatures: the run had masses of its own for each parameter or walker; give them as masses="
        )
    mass = as_numbers("layer_temperatures", "masses", given).astype(np.float64)
    walkers, size = recorded.shape[1:]
    if mass.shape not in ((), (size,), (walkers, 1), (walkers, size)) or not (np.isfinite(mass) & (mass > 0)).all():
        raise InputError(
            f"layer_temperatures: masses must be a number above 0 or one for each of {size} parameters, {walkers} "
            "walkers [W, 1] or both; change masses"
        )
    return mass
