"""What the README shows works as it stands there."""

import re
from pathlib import Path

import torch

import nnsim
from nnsim import Box, Simulation
from nnsim.running.script import Script

README = Path(__file__).parents[2] / "README.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)


def test_the_input_script_runs(tmp_path):
    path = tmp_path / "input.py"
    path.write_text(blocks()[0], encoding="utf-8")
    assert len([line for line in blocks()[0].splitlines() if line.strip()]) <= 25
    script = Script(path)
    simulation = script.simulation(script.settings(["walkers=2"]))
    simulation.run(20, output=tmp_path / "input.zarr", progress=False)
    assert nnsim.Trajectory(tmp_path / "input.zarr").header["settings"]["walkers"] == 2


def test_own_module_is_a_system():
    made: dict = {}
    exec(blocks()[1], made)
    simulation = Simulation(made["system"], nnsim.integrators.Langevin(1e-3, 1.0), walkers=3)
    assert simulation.advance(5).state.positions.shape == (3, made["system"].size)


def test_own_parts_work_together():
    made: dict = {}
    exec(blocks()[2], made)
    cv = made["Sharpness"]()
    system, integrator = made["Quartic"](4, Box(2.0)), made["Overdamped"](1e-3, 1.0)
    simulation = Simulation(system, integrator, bias=made["Spring"](cv, 0.5, 10.0), walkers=5, every=1)
    state = simulation.advance(20).state
    assert torch.equal(state.cvs[:, 0], state.positions.abs().amax(dim=1))
    assert torch.allclose(state.bias_energy, 5.0 * (state.cvs[:, 0] - 0.5) ** 2)
    assert simulation.history["largest_weight"].shape == (20, 5)
