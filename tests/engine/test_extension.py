"""An own integrator, bias, CV, system and observable: each under 30 lines, in one file outside the package."""

import ast
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import arrays_of, error_of, nnsim

from nnsim import Trajectory

PARTS = Path(__file__).parents[1] / "own_parts.py"

SCRIPT = """
import nnsim
from own_parts import Brownian, Centre, Spread, Springs, Umbrella

def build(n: int = 4, stiffness: float = 1.0, centre: float = 1.0, strength: float = 4.0, h: float = 0.2):
    kT = 0.5
    return nnsim.Simulation(
        Springs(n, stiffness), Brownian(h, kT), bias=Umbrella(Centre(), centre, strength), observe=[(Spread(), 20)],
        walkers=500, seed=2, steps=400, every=10, positions_every=20, threads=1,
    )
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(PARTS, tmp_path)
    (tmp_path / "input.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_part_has_less_than_30_lines() -> None:
    classes = [node for node in ast.parse(PARTS.read_text()).body if isinstance(node, ast.ClassDef)]
    assert [node.name for node in classes] == ["Springs", "Centre", "Umbrella", "Brownian", "Spread"]
    for node in classes:
        assert node.end_lineno is not None
        assert node.end_lineno - node.lineno + 1 < 30


def test_own_parts_sample_the_right_distribution(folder: Path) -> None:
    r"""Mean and variance of the biased CV equal the closed form of this very scheme.

    Along the direction of the CV, y = e.q with |e| = 1 and s = y / sqrt(n), the force is linear with the stiffness
    lambda = k + strength / n, so <s> = strength centre / (n lambda), and the stationary variance of y in the recursion
    y <- (1 - h lambda) y + ... + sqrt(2 h kT) xi is kT / (lambda (1 - h lambda / 2)).
    """
    status, _, told = nnsim("run", "input.py", "--no-progress")
    assert status == 0
    assert "the time step dt = 0.2 is too large: 1" in told  # it is: h lambda / 2 = 20 % of the variance of the CV
    n, stiffness, centre, strength, h, kT = 4, 1.0, 1.0, 4.0, 0.2, 0.5
    total = stiffness + strength / n
    mean = strength * centre / (n * total)
    variance = kT / (n * total * (1 - h * total / 2))

    trajectory = Trajectory("input.zarr")
    s = trajectory["centre"][trajectory["centre"].step > 50]  # (1 - h lambda)^10 = 0.006: frames are independent
    assert abs(s.mean() - mean) < 5 * math.sqrt(variance / s.size)
    assert abs(s.var() - variance) < 5 * variance * math.sqrt(2 / s.size)
    assert math.sqrt(2 / s.size) < 0.011

    # perpendicular to the CV the system's own potential alone acts
    q = np.asarray(trajectory.positions)[5:].astype(float)
    across = q - q.mean(-1, keepdims=True)
    own = kT / (stiffness * (1 - h * stiffness / 2))
    count = across[..., 1:].size
    assert abs((across**2).sum() / count - own) < 5 * own * math.sqrt(2 / count)


def test_what_is_recorded_belongs_together(folder: Path) -> None:
    assert nnsim("run", "input.py", "--steps", "60", "--no-progress").status == 0
    trajectory = Trajectory("input.zarr")
    q = np.asarray(trajectory.positions).astype(float)  # float32 on disk
    index = np.flatnonzero(np.isin(trajectory["centre"].step, trajectory.positions.step))
    s = trajectory["centre"][index]
    assert np.allclose(s, q.mean(-1), atol=1e-6)
    assert np.allclose(trajectory["bias_energy"][index], 2.0 * (s - 1) ** 2, atol=1e-12)
    assert np.allclose(trajectory["potential_energy"][index], (q**2).sum(-1) / 2, rtol=1e-5)
    spread = trajectory["spread"]
    assert spread.shape == (3, 500, 3)
    assert np.allclose(spread[:, :, 0], q.std(-1, ddof=1), atol=1e-6)
    assert np.allclose(spread[:, :, 1:], np.stack([q.max(-1), q.min(-1)], -1), atol=1e-6)
    assert np.allclose(spread.time, [4.0, 8.0, 12.0])


@pytest.mark.slow
def test_own_parts_resume_and_are_compared(folder: Path) -> None:
    assert nnsim("run", "input.py", "--steps", "100", "--no-progress", "-o", "whole.zarr").status == 0
    assert nnsim("run", "input.py", "--steps", "50", "--no-progress").status == 0
    assert nnsim("run", "input.py", "--steps", "100", "--no-progress", "--resume").status == 0
    assert arrays_of(folder / "input.zarr") == arrays_of(folder / "whole.zarr")
    (folder / "input.py").write_text(SCRIPT.replace("Brownian(h, kT)", "Brownian(h / 2, kT)"))
    assert "integrator.h: 0.2 -> 0.1" in error_of("run", "input.py", "--resume")
    (folder / "input.py").write_text(SCRIPT.replace("centre, strength)", "centre, 2 * strength)"))
    assert "bias.umbrella.strength: 4.0 -> 8.0" in error_of("run", "input.py", "--resume")


def test_progress_and_info_know_own_parts(folder: Path) -> None:
    result = nnsim("run", "input.py", "--steps", "20")
    assert "Springs, 4 parameters" in result.out
    assert "centre" in result.out
    assert "type=Brownian, h=0.2, kT=0.5" in nnsim("info", "input.zarr").out
    assert nnsim("plot", "timeseries", "input.zarr", "--observable", "centre").status == 0
