"""Every example, for a few steps through the command line: what it records, and that its docstring's commands work."""

import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from command_line import arrays_of, error_of, nnsim

from nnsim import Simulation, Trajectory
from nnsim.systems.datasets import HOUSE_PRICES_FILE

EXAMPLES = Path(__file__).parents[2] / "examples"

# For each: what to set, what is recorded beside the CVs of the biases, and commands of its docstring that need a longer
# run than this.
SHORT = {
    "spiral_metadynamics": (
        {"walkers": 4, "steps": 60, "every": 2},
        ["accuracy_test", "kinetic_temperature", "metadynamics_mean_height", "metadynamics_offset"],
    ),
    "spiral_umbrella": (
        {"windows": 4, "lowest": 0.2, "steps": 20_000, "every": 100},
        ["accuracy_test", "acceptance"],
    ),
    "spiral_tempering": (
        {"rungs": 3, "highest": 8, "swap_every": 5, "steps": 3200, "every": 40},
        ["ln_loss_train", "accuracy_test", "acceptance", "replica_exchange_rung"],
    ),
    "spiral_wlhmc": (
        {"walkers": 4, "steps": 40, "leapfrog": 4, "every": 1},
        ["accuracy_test", "acceptance", "kinetic_temperature"],
    ),
    "ntk_landscape": (
        {"walkers": 4, "steps": 39, "every": 3},
        ["accuracy_test", "kinetic_temperature", "ntk_trace_train", "metadynamics_mean_height"],
    ),
    "spiral_annealing": (
        {"walkers": 4, "steps": 40, "every": 2},
        ["ln_loss_train", "accuracy_test", "kinetic_temperature"],
    ),
}
# Too short a run may have too few frames of a loss, or none in the range that a docstring names.
LONGER = ("analyze equilibrium", "plot convergence", "analyze reweight spiral_umbrella")


def settings(values: dict) -> list[str]:
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def commands(example: str) -> list[list[str]]:
    """The commands of an example's docstring, without `nnsim`."""
    docstring = (EXAMPLES / f"{example}.py").read_text(encoding="utf-8").split('"""')[1]
    return [shlex.split(line)[1:] for line in re.findall(r"^    (nnsim .*)$", docstring, flags=re.M)]


@pytest.mark.slow
@pytest.mark.parametrize("example", SHORT)
def test_example(example, tmp_path, monkeypatch):
    values, recorded = SHORT[example]
    monkeypatch.chdir(tmp_path)
    first, *others = commands(example)
    assert first == ["run", f"examples/{example}.py"]
    result = nnsim("run", EXAMPLES / f"{example}.py", *settings(values), "--no-progress")
    assert result.status == 0, result.err
    trajectory = Trajectory(tmp_path / f"{example}.zarr")
    assert trajectory.steps == values["steps"]
    for name in (*recorded, *(cv for one in trajectory.bias_names for cv in trajectory.bias(one).attrs.get("cvs", ()))):
        assert np.isfinite(np.asarray(trajectory[name][:], dtype=float)).all(), name
        assert len(trajectory[name]) == values["steps"] // values["every"]
    assert others
    for command in others:
        if not " ".join(command).startswith(LONGER):
            done = nnsim(*command)
            assert done.status == 0, (command, done.err)


def test_examples_say_what_they_are_run_with():
    """Every command of a docstring names the example's own trajectory, and every option of it exists."""
    for example in SHORT:
        for command in commands(example)[1:]:
            assert f"{example}.zarr" in command
            help_text = nnsim(*command[:2], "--help").out
            assert all(option in help_text for option in command if option.startswith("--"))


@pytest.mark.slow
def test_an_example_is_resumed(tmp_path):
    script, values = EXAMPLES / "spiral_tempering.py", settings(SHORT["spiral_tempering"][0])
    whole, halves = tmp_path / "whole.zarr", tmp_path / "halves.zarr"
    for steps, path, more in ((1600, whole, ()), (700, halves, ()), (1600, halves, ("--resume",))):
        result = nnsim("run", script, *values, "--steps", steps, "--output", path, "--no-progress", *more)
        assert result.status == 0, result.err
    assert arrays_of(halves) == arrays_of(whole)


# ---------------------------------------------------------------- the posterior of house prices


@pytest.fixture
def houses(monkeypatch):
    """The real table; without its file these tests fail, because skipping them would hide it."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("NNSIM_DATA", beside)).absolute()
    if not (folder / HOUSE_PRICES_FILE).is_file():
        pytest.fail(f"no {HOUSE_PRICES_FILE} in {folder}; set NNSIM_DATA to the folder that holds it")
    monkeypatch.setenv("NNSIM_DATA", str(folder))


OWN = {"hybrid": "acceptance", "nose_hoover": "conserved_quantity", "langevin": "kinetic_temperature"}


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["langevin", "brownian", "nose_hoover", "hybrid", "sgld", "sghmc"])
def test_posterior(sampler, houses, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = settings({"sampler": sampler, "width": 2, "walkers": 2, "steps": 40, "leapfrog": 4, "every": 4})
    result = nnsim("run", EXAMPLES / "posterior.py", *values, "--no-progress")
    assert result.status == 0, result.err
    trajectory = Trajectory(tmp_path / "posterior.zarr")
    assert trajectory.steps == (10 if sampler == "hybrid" else 40)  # as many gradients in all
    for name in ("loss_train", "loss_test", *([OWN[sampler]] if sampler in OWN else [])):
        assert np.isfinite(trajectory[name][:]).all()
        assert trajectory[name].shape == (10, 2)
    if sampler == "langevin":
        reweight = next(command for command in commands("posterior") if command[1] == "reweight")
        assert nnsim(*reweight).status == 0
        assert (tmp_path / "posterior_loss_test.png").stat().st_size > 5000


def test_posterior_names_its_samplers(houses, tmp_path):
    message = error_of("run", EXAMPLES / "posterior.py", "--set", "sampler=adam", "--output", tmp_path / "no.zarr")
    assert "sampler = 'adam' must be one of langevin, brownian, nose_hoover, hybrid, sgld, sghmc" in message


# ---------------------------------------------------------------- docs/methods.md


METHODS = Path(__file__).parents[2] / "docs" / "methods.md"
FRAGMENTS = re.findall(r"```python\n(.*?)```", METHODS.read_text(encoding="utf-8"), flags=re.S)


@pytest.mark.parametrize("number", range(1, len(FRAGMENTS)))
def test_fragment_of_the_methods(number):
    """Each makes a simulation that runs, with as many walkers as its comment says."""
    made: dict = {}
    exec(FRAGMENTS[0], made)
    exec(FRAGMENTS[number], made)
    walkers = re.search(r"(\d+) walkers", FRAGMENTS[number])
    for integrator in filter(None, (made["integrator"], made.get("sgld"))):
        simulation = Simulation(
            made["system"], integrator, bias=made.get("bias", ()), walkers=int(walkers[1]) if walkers else 2, seed=1
        )
        assert simulation.advance(5).state.step == 5
        assert np.isfinite(simulation.state.positions.numpy()).all()


def test_pictures_and_files_that_the_methods_name_exist():
    targets = re.findall(r"\]\((?!https://|reference/)([^)#]+)\)", METHODS.read_text(encoding="utf-8"))
    assert len(targets) > 13
    assert [name for name in targets if not (METHODS.parent / name).is_file()] == []
