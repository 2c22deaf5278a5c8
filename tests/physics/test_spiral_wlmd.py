"""The spiral example against the reference of PAPERS.md: exact test accuracy at given train loss."""

from pathlib import Path

import numpy as np
import pytest
from conftest import statistics_scale

from nnsim import Trajectory
from nnsim.analysis import diagnose, equilibrium
from nnsim.running.script import Script

EXAMPLE = Path(__file__).parents[2] / "examples" / "spiral_wlmd.py"

# Mean of three Wang-Landau Monte Carlo runs of 1.5e8 moves each (arXiv 2503.13145, its protocol), 0.1-wide bins of
# ln L_train averaged alike; the three runs differ by up to 0.04.
REFERENCE = {-1.5: 0.783, -1.0: 0.687, -0.5: 0.512, 0.0: 0.498, 0.5: 0.497}


@pytest.mark.slow
def test_equilibrium_accuracy_and_kinetic_temperature(tmp_path):
    script = Script(EXAMPLE)
    simulation = script.simulation(script.settings())
    # The full length reaches ln L = -4.5; 20000 steps x 64 walkers are enough for the bins compared here.
    full = statistics_scale() == 1
    steps = 50_000 if full else 20_000
    trajectory_path = tmp_path / "spiral.zarr"
    simulation.run(steps, output=trajectory_path, progress=False)
    trajectory = Trajectory(trajectory_path)
    table = equilibrium(trajectory, "ln_loss_train", "accuracy_test", width=0.5, since=0.5)
    found = {round(float(low), 1): mean for low, mean in zip(table.edges, table.mean, strict=False)}
    for low, expected in REFERENCE.items():
        assert abs(found[low] - expected) < 0.1, (low, found[low], expected)
    state = diagnose(trajectory, between=(-2.0, 0.0))
    assert abs(state.kinetic_temperature - 1) < 0.03
    assert state.outside < 0.01
    assert state.problems()  # so short a run must not be called converged
    lowest = float(np.min(trajectory["ln_loss_train"][:]))
    assert lowest < (-3.0 if full else -2.0)
    if full:
        assert state.increment < 0.1 * state.largest_increment
