"""A run goes on as what it was, or not at all; what is accepted is written down."""

import json
import linecache
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import ended, error_of, launch, nnsim, python, read_all
from torch import Tensor
from warm import OfSweeps

from nnsim import Box, Grid, InputError, NNSimWarning, Simulation, Trajectory, cv
from nnsim.bias import Metadynamics
from nnsim.identity.source_code import changed_lines, same_code, script_code
from nnsim.integrators import Adam, Langevin, MonteCarlo
from nnsim.systems import AnalyticSystem, Harmonic, NeuralNetwork

TOLD = r"was made with other settings, so it cannot be resumed with these \("


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def refused(build: Callable[..., Simulation], one: Any, other: Any) -> str:
    """Run with one, resume with the other, and return what the refusal says; resuming with the same goes well."""
    build(one()).run(10, output="run.zarr", overwrite=True, progress=False)
    build(one()).run(20, output="run.zarr", resume=True, progress=False)
    with pytest.raises(InputError, match=TOLD) as caught:
        build(other()).run(30, output="run.zarr", resume=True, progress=False)
    assert read_all(Path("run.zarr")) == 20
    return str(caught.value)


# ------------------------------------------------------------------------------------------ the cases of the issue


def data(limit: float = 0.0) -> tuple[Tensor, Tensor]:
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    return x, (x.sum(1) > limit).long()


def of_module(module: torch.nn.Module, **settings: Any) -> Simulation:
    system = NeuralNetwork(module, data(), initial="normal", initial_scale=0.3, **settings)
    return Simulation(system, Langevin(0.01, 1.0), walkers=2, every=10)


def test_frozen_weights_that_are_drawn_anew() -> None:
    """Case 01: a frozen random base, of which the script does not seed torch."""

    def module() -> torch.nn.Module:
        base = torch.nn.Linear(4, 32).requires_grad_(False)
        return torch.nn.Sequential(base, torch.nn.Tanh(), torch.nn.Linear(32, 2))

    of_module(module()).run(10, output="run.zarr", progress=False)
    with pytest.raises(InputError, match=TOLD) as caught:
        of_module(module()).run(20, output="run.zarr", resume=True, progress=False)
    line = str(caught.value)
    assert "system.module.frozen '0.weight': float32 [32, 4], sha256 " in line
    assert "system.module.frozen '0.bias': " in line
    assert "'2.weight'" not in line  # it moves, and is in the checkpoint
    assert "call torch.manual_seed(...) before the module is made" in line
    assert "--accept-changes" in line


LOSSES = {
    "class weights": (
        lambda: torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.0])),
        lambda: torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0])),
        "system.loss.weight: float64 [1.0, 1.0] -> float64 [1.0, 9.0]",
    ),
    "label smoothing": (
        lambda: torch.nn.CrossEntropyLoss(label_smoothing=0.0),
        lambda: torch.nn.CrossEntropyLoss(label_smoothing=0.3),
        "system.loss: cross_entropy -> CrossEntropy (label_smoothing: 0.3, ",
    ),
    "a closure": (
        lambda: weighted(torch.tensor([1.0, 1.0])),
        lambda: weighted(torch.tensor([1.0, 9.0])),
        "system.loss.closure.w: float32 [1.0, 1.0] -> float32 [1.0, 9.0]",
    ),
    "a lambda": (
        lambda: lambda o, t: torch.nn.functional.cross_entropy(o, t),
        lambda: lambda o, t: 2 * torch.nn.functional.cross_entropy(o, t),
        "system.loss: lambda o, t: torch.nn.functional.cross_entropy(o, t) -> ",
    ),
}


def weighted(w: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda o, t: torch.nn.functional.cross_entropy(o, t, weight=w)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_what_is_inside_a_loss(name: str) -> None:
    """Case 02."""
    one, other, message = LOSSES[name]
    assert message in refused(lambda loss: of_module(torch.nn.Linear(4, 2), loss=loss), one, other)


SCRIPT = '''"""What it does."""
import nnsim, torch
from nnsim import cv, Grid
from nnsim.bias import Metadynamics
from nnsim.integrators import Langevin
from nnsim.systems import NeuralNetwork, LossPotential

torch.manual_seed(0)
X = torch.randn(30, 4)
Y = (X.sum(1) > 0).long()

def net(scale):
    torch.manual_seed(1)
    m = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    m(X * scale)
    return m.eval()

def build(what: str = "lambda", v: int = 1, steps: int = 20) -> nnsim.Simulation:
    """Builds it."""
    k = 1  # a remark
    bias, u, m = (), LossPotential(10.0), torch.nn.Linear(4, 2)
    if what == "lambda":
        u = LossPotential(10.0) + (lambda e: k * (e.positions ** 2).sum(1))
    if what == "batchnorm":
        m = net(float(k))
    if what == "cvlambda":
        r2 = cv.Energy(lambda q: k * (q ** 2).sum(1), name="r2")
        bias = Metadynamics(r2, Grid(0, 100, 100), height=0.1, sigma=1.0, pace=10)
    if what == "gamma":
        bias = Metadynamics(cv.WeightNorm(), Grid(0, 50, 100), height=0.1, sigma=1.0, pace=10, bias_factor=5.0 + k)
    s = NeuralNetwork(m, train=(X, Y), potential=u, initial="normal")
    return nnsim.Simulation(s, Langevin(dt=0.01, friction=1.0, kT=1.0), bias=bias, walkers=2, every=10, steps=steps,
                            threads=1)

if __name__ == "__main__":
    build().run(7)
'''
PLACES = {
    "lambda": "system.potential.parts[1].closure.k: 1 -> 7",
    "batchnorm": "system.module.buffers '1.running_mean': ",
    "cvlambda": "bias.metadynamics.cv_settings[0].function.closure.k: 1 -> 7",
    "gamma": "bias.metadynamics.bias_factor: 6.0 -> 12.0",
}


@pytest.mark.slow
@pytest.mark.parametrize("what", PLACES)
def test_the_script_says_something_else_now(what: str) -> None:
    """Case 28: each is refused, the line of the script and the part that differs are named, and the status is 2."""
    Path("s.py").write_text(SCRIPT)
    command = ("run", "s.py", "--set", f"what={what}", "--no-progress", "-o", "run.zarr")
    assert nnsim(*command).status == 0
    Path("s.py").write_text(SCRIPT.replace("k = 1 ", "k = 7 "))
    line = error_of(*command, "--steps", "40", "--resume")
    assert PLACES[what] in line
    assert "script line: k = 1 -> k = 7" in line
    assert read_all(Path("run.zarr")) == 20


# what changes in the text, and what is said of it; None goes on
TEXTS = [
    ("  # a remark", "  # another", None),
    ('"""What it does."""', '"""Another thing."""\n\n# and more\n', None),
    ('    """Builds it."""\n', "", None),
    ("bias, u, m = (), ", "bias, u, m = ( ),\\\n        ", None),
    ("steps: int = 20", "steps: int = 999", None),
    ("every=10, steps=steps", "every=10, steps=2 * steps", None),
    ("threads=1)", 'threads=1, output="x.zarr", checkpoint_every=3)', None),
    ("build().run(7)", "print(build())", None),
    ("every=10", "every=5", "recording.every: 10 -> 5"),
    ("dt=0.01", "dt=0.02", "integrator.dt: 0.01 -> 0.02"),
    ("v: int = 1", "v: int = 2", "settings.v: 1 -> 2"),
    ("torch.manual_seed(0)", "torch.manual_seed(0); print()", "script line: (none) -> print()"),
    ("m.eval()", "m.train()", "script line: return m.eval() -> return m.train()"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new", "message"), TEXTS)
def test_what_may_change_in_a_script(old: str, new: str, message: str | None) -> None:
    assert old in SCRIPT
    Path("s.py").write_text(SCRIPT)
    assert nnsim("run", "s.py", "--no-progress", "-o", "run.zarr").status == 0
    Path("other_name.py").write_text(SCRIPT.replace(old, new))
    command = ("run", "other_name.py", "--no-progress", "-o", "run.zarr", "--steps", "40", "--resume")
    if message is None:
        assert nnsim(*command) == (0, "", "")
    else:
        assert message in error_of(*command)


def test_lines_of_scripts() -> None:
    one, two = script_code("a = 1\nb = 2\n"), script_code("a = 1\n# c\nb = 3\nd = 4")
    assert one is not None
    assert two is not None
    assert changed_lines(one, two) == [("b = 2", "b = 3"), ("", "d = 4")]
    assert script_code("def f(:") is None
    assert same_code("x=1", "x = 1")
    assert not same_code("x = 1", "x = 2")


@pytest.mark.slow
def test_a_module_beside_the_script() -> None:
    """Functions, classes and numbers that a part uses are followed there."""
    Path("neighbour_of_changes.py").write_text("FACTOR = 1.0\ndef energy(q):\n    return FACTOR * q.square().sum(-1)\n")
    Path("s.py").write_text(
        "import nnsim, neighbour_of_changes\n"
        "from nnsim.systems import AnalyticSystem\n"
        "def build():\n"
        "    system = AnalyticSystem(2, neighbour_of_changes.energy, start=0.5)\n"
        "    return nnsim.Simulation(system, nnsim.integrators.Langevin(0.1, 1.0), every=2, steps=4, threads=1)\n"
    )
    run = ("run", "s.py", "--no-progress")
    assert ended(launch(*run, cwd=Path.cwd())).status == 0
    Path("neighbour_of_changes.py").write_text("FACTOR = 10.\ndef energy(q):\n    return FACTOR * q.square().sum(-1)\n")
    refused = ended(launch(*run, "--resume", "--steps", "8", cwd=Path.cwd()))
    assert refused.status == 2
    assert "system.code 'neighbour_of_changes.energy()'.globals.FACTOR: 1.0 -> 10.0" in refused.err


@pytest.mark.slow
def test_a_run_from_python_is_compared_between_processes() -> None:
    """No script is recorded then; the code of `__main__` is followed all the same."""
    code = (
        "import sys, nnsim\n"
        "from nnsim.systems import AnalyticSystem\n"
        "K = float(sys.argv[1])\n"
        "def energy(q):\n    return K * q.square().sum(-1)\n"
        "s = nnsim.Simulation(AnalyticSystem(2, energy, start=0.5), nnsim.integrators.Langevin(0.1, 1.0), threads=1)\n"
        "s.run(int(sys.argv[2]), output='run.zarr', resume=sys.argv[2] != '4', progress=False)\n"
    )
    Path("s.py").write_text(code)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "s.py", *arguments], capture_output=True, text=True, check=False)

    assert run("1", "4").returncode == 0
    assert run("1", "8").returncode == 0
    assert "system.code 'energy()'.globals.K: 1.0 -> 2.0" in run("2", "12").stderr
    again = python(code.replace("sys.argv[1]", "'2'").replace("sys.argv[2]", "'12'"), cwd=Path.cwd())
    assert "energy" in again.err  # typed in, it has no source to be compared, but the number differs
    assert "globals.K: 1.0 -> 2.0" in again.err


def test_code_without_source_is_said_not_to_be_compared(tmp_path: Path) -> None:
    text = "def energy(q):\n    return q.square().sum(-1)\n"
    (tmp_path / "code.py").write_text(text)

    def simulation(filename: str) -> Simulation:
        space: dict[str, Any] = {"__name__": "nnsim_script_of_a_test"}
        exec(compile(text, filename, "exec"), space)
        return Simulation(AnalyticSystem(2, space["energy"], start=0.5), Langevin(0.1, 1.0))

    linecache.checkcache()
    simulation(str(tmp_path / "code.py")).run(4, output="run.zarr", progress=False)
    with pytest.warns(NNSimWarning, match=r"cannot be compared .*system.code 'energy\(\)' \(a function without source"):
        simulation("<typed in>").run(8, output="run.zarr", resume=True, progress=False)


# -------------------------------------------------------------------------------------------------- accepted changes


def in_a_well(stiffness: float = 1.0, **settings: Any) -> Simulation:
    system = AnalyticSystem(settings.pop("n", 3), Harmonic(stiffness), start=0.5, **settings.pop("system", {}))
    integrator = settings.pop("integrator", Langevin(0.05, 1.0))
    return Simulation(system, integrator, walkers=settings.pop("walkers", 2), every=2, **settings)


@pytest.mark.slow
def test_accepted_changes_are_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    in_a_well().run(10, output="run.zarr", progress=False)
    second = in_a_well(4.0).run(20, output="run.zarr", resume=True, accept_changes=True, progress=False)
    assert second.state.step == 20
    header = Trajectory("run.zarr").header
    assert header["changes"] == [{"step": 10, "changed": ["system.potential.stiffness: 1.0 -> 4.0"]}]
    assert header["system"]["potential"]["stiffness"] == 4.0
    # from here on it is a run of these settings
    in_a_well(4.0).run(30, output="run.zarr", resume=True, progress=False)
    with pytest.raises(InputError, match=r"stiffness: 4\.0 -> 1\.0"):
        in_a_well(1.0).run(40, output="run.zarr", resume=True, progress=False)
    in_a_well(4.0, seed=1).run(40, output="run.zarr", resume=True, accept_changes=True, progress=False)
    assert [one["step"] for one in Trajectory("run.zarr").header["changes"]] == [10, 30]

    out = nnsim("info", "run.zarr").out
    assert "change 1, at step 10:" in out
    assert "system.potential.stiffness: 1.0 -> 4.0" in out
    assert "change 2, at step 30:" in out
    assert nnsim("report", "run.zarr", "-o", "report.html").status == 0
    page = Path("report.html").read_text()
    assert "Changed along the way" in page
    assert "after step 10 the run went on as another" in page
    assert "stiffness: 1.0 -&gt; 4.0" in page
    assert "the run comes out the same bit for bit" not in page


def test_nothing_is_recorded_where_nothing_has_changed() -> None:
    in_a_well().run(10, output="run.zarr", progress=False)
    in_a_well().run(20, output="run.zarr", resume=True, accept_changes=True, progress=False)
    in_a_well().run(20, output="whole.zarr", progress=False)
    assert "changes" not in Trajectory("run.zarr").header
    np.testing.assert_array_equal(Trajectory("run.zarr").positions[:], Trajectory("whole.zarr").positions[:])  # type: ignore[index]


def test_accepted_on_the_command_line() -> None:
    Path("s.py").write_text(SCRIPT)
    command = ("run", "s.py", "--no-progress", "-o", "run.zarr")
    assert nnsim(*command).status == 0
    Path("s.py").write_text(SCRIPT.replace("k = 1 ", "k = 7 "))
    assert "is for a run that goes on; use it with --resume" in error_of(*command, "--accept-changes")
    assert nnsim(*command, "--steps", "40", "--resume", "--accept-changes").status == 0
    (change,) = Trajectory("run.zarr").header["changes"]
    assert change["step"] == 20
    assert "script line: k = 1 -> k = 7" in change["changed"]
    assert change["script"] == SCRIPT
    assert "k = 7" in Trajectory("run.zarr").header["script"]
    assert nnsim(*command, "--steps", "60", "--resume").status == 0
    with pytest.raises(InputError, match="use it with resume=True"):
        in_a_well().run(4, output="other.zarr", accept_changes=True)


@pytest.mark.parametrize("integrator", [lambda: MonteCarlo(0.3), lambda: Langevin(0.05, 1.0)])
def test_energies_and_forces_are_those_of_the_new_potential(integrator: Callable[[], Any]) -> None:
    """A Metropolis move would else compare the new energy of the trial with the old one of the place."""
    in_a_well(integrator=integrator()).run(10, output="run.zarr", progress=False)
    second = in_a_well(9.0, integrator=integrator())
    second.run(10, output="run.zarr", resume=True, accept_changes=True, progress=False)
    torch.testing.assert_close(second.state.energy, 4.5 * second.state.positions.square().sum(-1))
    if not isinstance(second.integrator, MonteCarlo):
        torch.testing.assert_close(second.state.forces, -9.0 * second.state.positions)


def test_training_goes_on_with_the_new_gradient() -> None:
    def training(limit: float, batch: int | None = None) -> Simulation:
        torch.manual_seed(0)
        system = NeuralNetwork(torch.nn.Linear(4, 2), data(limit))
        return Simulation(system, Adam(0.1, batch_size=batch), walkers=2, every=1)

    for batch in (None, 16):
        training(0.0, batch).run(3, output="run.zarr", overwrite=True, progress=False)
        second = training(1.0, batch)
        second.run(3, output="run.zarr", resume=True, accept_changes=True, progress=False)
        order = second.state.integrator_state.get("order")
        index = None if order is None or batch is None else order[:, 3 * batch : 4 * batch]
        _, forces = second.force_field.loss_forces(second.state.positions, index)
        torch.testing.assert_close(second.state.forces, forces)


def hills(bins: int = 30) -> Metadynamics:
    return Metadynamics(cv.LogEnergy(Harmonic()), Grid(-6.0, 4.0, bins), height=0.1, sigma=0.7, pace=2)


IMPOSSIBLE: dict[str, tuple[Callable[[], Simulation], str]] = {
    "walkers": (lambda: in_a_well(walkers=3), "does not fit"),
    "parameters": (lambda: in_a_well(n=4), "does not fit"),
    "precision": (lambda: in_a_well(precision="double"), "precision: mixed -> double"),
    "a new bias": (lambda: in_a_well(bias=hills()), "does not fit"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_some_changes_cannot_be_accepted(name: str) -> None:
    other, message = IMPOSSIBLE[name]
    in_a_well().run(10, output="run.zarr", progress=False)
    with pytest.raises(InputError, match=message):
        other().run(20, output="run.zarr", resume=True, accept_changes=True, progress=False)
    assert "changes" not in Trajectory("run.zarr").header
    in_a_well().run(20, output="run.zarr", resume=True, progress=False)


@pytest.mark.slow
def test_another_grid_and_another_box_do_not_fit_the_checkpoint() -> None:
    in_a_well(bias=hills(), system={"box": Box(5.0)}).run(10, output="run.zarr", progress=False)
    finer = in_a_well(bias=hills(bins=40), system={"box": Box(5.0)})
    with pytest.raises(InputError, match=r"does not fit them \(bias\.metadynamics\.potential\)"):
        finer.run(20, output="run.zarr", resume=True, accept_changes=True, progress=False)
    smaller = in_a_well(bias=hills(), system={"box": Box(lower=0.499, upper=0.501)})
    with pytest.raises(InputError, match=r"lie outside the Box\(reflecting, \[0\.499"):
        smaller.run(20, output="run.zarr", resume=True, accept_changes=True, progress=False)
    larger = in_a_well(bias=hills(), system={"box": Box(6.0)})
    larger.run(20, output="run.zarr", resume=True, accept_changes=True, progress=False)
    (change,) = Trajectory("run.zarr").header["changes"]
    assert "system.box.edges.upper: float64 5.0 -> float64 6.0" in change["changed"]


# ------------------------------------------------------------------------------------------- records of version 0.1


def of_version_0_1(path: Path) -> None:
    """Take off the header what 0.1 did not write."""
    file = path / "parameters" / "nnsim" / ".zattrs"
    header = json.loads(file.read_text())
    del header["identity"], header["description"]
    header["system"].get("box", {}).pop("edges", None)
    file.write_text(json.dumps(header))
    record = path / "nnsim" / ".zattrs"  # which had no checksums either
    record.write_text(json.dumps({name: json.loads(record.read_text())[name] for name in ("layout", "committed")}))


def test_a_record_of_0_1_is_compared_by_what_it_holds() -> None:
    system = {"box": Box(5.0)}
    in_a_well(system=system).run(10, output="run.zarr", progress=False)
    of_version_0_1(Path("run.zarr"))
    with pytest.raises(InputError, match=r"system\.potential\.stiffness: 1\.0 -> 2\.0"):
        in_a_well(2.0, system=system).run(20, output="run.zarr", resume=True, progress=False)
    with pytest.raises(InputError, match=r"system\.box\.lower: -5 -> -6"):
        in_a_well(system={"box": Box(6.0)}).run(20, output="run.zarr", resume=True, progress=False)
    in_a_well(system=system).run(20, output="run.zarr", resume=True, progress=False)


@pytest.mark.slow
def test_of_a_saved_run_of_0_1_the_script_is_compared(tmp_path: Path) -> None:
    saved = Path(__file__).parents[1] / "saved" / "0.1" / "metadynamics_nose_hoover.zip"
    with zipfile.ZipFile(saved) as archive:
        archive.extractall(tmp_path)
    script = tmp_path / "metadynamics_nose_hoover.py"
    text = script.read_text()
    script.write_text(text.replace("import nnsim", "import nnsim\nprint('begins')", 1))
    command = ("run", script, "-o", script.with_suffix(".zarr"), "--no-progress", "--resume", "--steps", "600")
    assert "script line: (none) -> print('begins')" in error_of(*command)
    script.write_text("# a remark\n" + text)
    assert nnsim(*command).status == 0


# ------------------------------------------------------------------------------------------ networks of a recorded run


def test_networks_with_other_fixed_weights_are_not_given_for_the_runs() -> None:
    """The script of a run draws its frozen base anew: the network made of it now is another one."""
    Path("s.py").write_text(
        "import nnsim, torch\n"
        "from nnsim.systems import NeuralNetwork\n"
        "def build():\n"
        "    base = torch.nn.Linear(4, 8).requires_grad_(False)\n"
        "    module = torch.nn.Sequential(base, torch.nn.Tanh(), torch.nn.Linear(8, 2))\n"
        "    data = torch.linspace(-1, 1, 40).view(10, 4), torch.arange(10) % 2\n"
        "    return nnsim.Simulation(NeuralNetwork(module, data), nnsim.integrators.Adam(0.1), every=2, steps=4)\n"
    )
    assert nnsim("run", "s.py", "--no-progress").status == 0
    run = Trajectory("s.zarr")
    with pytest.raises(InputError, match=r"builds another system now \(module.frozen '0.weight': .*torch.manual_seed"):
        run.module()
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 8).requires_grad_(False), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    with pytest.warns(NNSimWarning, match="reads otherwise .*frozen '0.weight'"):
        run.module(module=module)
    Path("s.py").write_text(
        Path("s.py").read_text().replace("def build():\n", "def build():\n    torch.manual_seed(0)\n")
    )
    shutil.rmtree("s.zarr")
    assert nnsim("run", "s.py", "--no-progress").status == 0
    run = Trajectory("s.zarr")
    torch.testing.assert_close(run.module()[0].weight, run.module(module=module)[0].weight)  # type: ignore[index]


# --------------------------------------------------------------------------------------------------------------- sweeps


@pytest.mark.slow
def test_a_sweep_with_a_changed_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnsim.running.sweep.subprocess", OfSweeps)
    Path("s.py").write_text(SCRIPT.replace("v: int", "seed: int"))
    command = ("sweep", "s.py", "--seeds", "1", "-o", "sweep", "--no-progress", "--steps")
    assert nnsim(*command, "10").status == 0
    Path("s.py").write_text(SCRIPT.replace("v: int", "seed: int").replace("k = 1 ", "k = 7 "))
    assert "the text of s.py has changed" in error_of(*command, "20")
    assert nnsim(*command, "20", "--accept-changes").status == 0
    assert Trajectory("sweep/seed=0/run.zarr").header["changes"][0]["step"] == 10
    plan = json.loads(Path("sweep/sweep.json").read_text())
    assert len(plan["changed"]) == 1
    assert plan["changed"][0]["done"] == ["seed=0"]
    assert nnsim(*command, "30").status == 0
