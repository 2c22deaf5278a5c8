"""Every kind of bad input gives one line that says the value, the rule and the remedy, and exit status 2."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import arrays_of, error_of, nnsim

import nnsim as package
from nnsim import Bias, Box, Grid, InputError, Simulation, TrajectoryError, cv
from nnsim.analysis import align, autocorrelation, overlap, rmsf
from nnsim.bias import Umbrella, Wall, WangLandau
from nnsim.integrators import Langevin, VelocityVerlet
from nnsim.running.checkpoint import previous_path
from nnsim.running.storage import checkpoint_path
from nnsim.schedules import FlatnessHalving
from nnsim.systems import AnalyticSystem, BinaryCrossEntropy, CrossEntropy, NeuralNetwork

SCRIPT = """
import torch
import nnsim
from nnsim import Box, Grid, cv
from nnsim.bias import Wall, WangLandau
from nnsim.integrators import Langevin
from nnsim.schedules import FlatnessHalving
from nnsim.systems import AnalyticSystem, NeuralNetwork

def system(width: int = 3, label: int = 1, point: float = 0.5, test_width: int = 2):
    module = torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.Tanh(), torch.nn.Linear(width, 2))
    x, y = torch.linspace(-1, 1, 12).reshape(6, 2), torch.tensor([0, 1, 0, 1, 0, label])
    train, test = (torch.where(x == 1, point, x), y), (torch.ones(6, test_width), torch.zeros(6, dtype=torch.long))
    return NeuralNetwork(module, train, test, box=Box(2.0), initial="uniform")

def build(
    dt: float = 0.01, friction: float = 1.0, kT: float = 1.0, splitting: str = "BAOAB", lower: float = -6.0,
    upper: float = 3.0, bins: int = 30, kernel: float = 0.5, walkers: int = 2, steps: int = 6, device: str = "cpu",
    width: int = 3, label: int = 1, point: float = 0.5, test_width: int = 2, biased: str = "loss", threads: int = 1,
) -> nnsim.Simulation:
    choice = {"loss": [cv.LogLoss("train")], "accuracy": [cv.Accuracy("test")],
              "twins": [cv.Distance(0.0), cv.Distance(1.0)]}[biased]
    grid = Grid([lower] * len(choice), [upper] * len(choice), bins=bins)
    return nnsim.Simulation(
        system(width, label, point, test_width), Langevin(dt, friction, kT, splitting),
        bias=WangLandau(choice, grid, FlatnessHalving(0.1), kernel=kernel, kT=kT if kT > 0 else 1.0),
        walkers=walkers, steps=steps, every=2, device=device, threads=threads,
    )
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "input.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def finished(folder: Path) -> Path:
    assert nnsim("run", "input.py", "--no-progress").status == 0
    return folder / "input.zarr"


def test_the_script_itself_is_right(finished: Path) -> None:
    assert package.Trajectory(finished).steps == 6


# ------------------------------------------------------------------------------------------- settings of the simulation

# setting, then the value, the rule and the remedy that the message must hold
SETTINGS = [
    ("dt=-0.01", "Langevin: dt = -0.01", "must be a finite number above 0", "change dt"),
    ("dt=0", "Langevin: dt = 0", "must be a finite number above 0", "change dt"),
    ("dt=nan", "Langevin: dt = nan", "must be a finite number above 0", "change dt"),
    ("dt=inf", "Langevin: dt = inf", "must be a finite number above 0", "change dt"),
    ("kT=-1", "Langevin: kT = -1", "must be a finite number of at least 0", "change kT"),
    ("kT=nan", "kT = nan", "must be a finite number", "change kT"),
    ("kT=inf", "kT = inf", "must be a finite number", "change kT"),
    ("friction=-1", "Langevin: friction = -1", "must be a finite number of at least 0", "change friction"),
    ("friction=nan", "Langevin: friction = nan", "must be a finite number of at least 0", "change friction"),
    ("friction=inf", "Langevin: friction = inf", "must be a finite number of at least 0", "change friction"),
    ("splitting=BAXAB", "splitting = 'BAXAB'", "must be a string of the letters B, A and O", "such as 'BAOAB'"),
    ("splitting=baoab", "splitting = 'baoab'", "must be a string of the letters B, A and O", "such as 'BAOAB'"),
    ("splitting=OO", "splitting = 'OO'", "in which A and B occur", "such as 'BAOAB'"),
    ("lower=3", "Grid: lower = 3", "must be below upper = 3", "swap or widen them"),
    ("lower=4", "Grid: lower = 4", "must be below upper = 3", "swap or widen them"),
    ("upper=nan", "Grid: upper = nan", "must be a finite number", "change upper"),
    ("bins=0", "Grid: bins = 0", "must be a whole number of at least 4", "change bins"),
    ("bins=-5", "Grid: bins = -5", "must be a whole number of at least 4", "change bins"),
    (
        "kernel=2",
        "sigma = 2 makes a kernel of 53 bins",
        "more than the grid's 30",
        "take a smaller sigma or a larger grid",
    ),
    ("kernel=-1", "sigma = -1", "must be a finite number above 0", "change sigma"),
    ("walkers=0", "Simulation: walkers = 0", "must be a whole number of at least 1", "change walkers"),
    ("walkers=-3", "Simulation: walkers = -3", "must be a whole number of at least 1", "change walkers"),
    ("steps=-6", "Simulation: steps = -6", "must be a whole number of at least 0", "change steps"),
    ("test_width=3", "(2,) and (3,)", "train and test points have different shapes", "make them equal"),
    ("label=2", "reach from 0 to 2", "the module has 2 outputs", "labels must lie in 0 ... 1"),
    ("label=-1", "reach from -1 to 1", "the module has 2 outputs", "labels must lie in 0 ... 1"),
    ("point=nan", "1 train points", "are NaN or infinite", "clean the data first"),
    ("point=inf", "1 train points", "are NaN or infinite", "clean the data first"),
    ("biased=twins", "'distance'", "two different collective variables", "give one of them another name"),
    ("biased=accuracy", "'accuracy_test'", "Langevin needs forces", "use a smooth CV (SmoothedAccuracy instead"),
    ("device=cuda:97", "device = 'cuda:97'", "is not there", "on this machine there is cpu"),
    ("device=abacus", "device = 'abacus'", "is not there", "on this machine there is cpu"),
    ("threads=0", "Simulation: threads = 0", "must be a whole number of at least 1", "change threads"),
]


@pytest.mark.parametrize(("setting", "value", "rule", "remedy"), SETTINGS, ids=[row[0] for row in SETTINGS])
def test_settings_out_of_range(folder: Path, setting: str, value: str, rule: str, remedy: str) -> None:
    line = error_of("run", "input.py", "--set", setting)
    for words in (value, rule, remedy):
        assert words in line
    assert {entry.name for entry in folder.iterdir()} == {"input.py"}


def test_all_walkers_outside_the_grid(folder: Path) -> None:
    """Named are the CV with the values of the walkers, and the limits of the grid."""
    line = error_of("run", "input.py", "--set", "lower=-60", "--set", "upper=-40")
    assert "WangLandau: all 2 walkers start outside the grid (ln_loss_train from " in line
    assert ", grid -60 to -40); widen the grid or change the start" in line


def test_one_walker_inside_the_grid_is_enough() -> None:
    start = torch.tensor([[0.5], [5.0]])
    bias = WangLandau(cv.Parameter(0), Grid(0.0, 1.0, 10), FlatnessHalving(0.1))
    simulation = Simulation(AnalyticSystem(1, start=start), Langevin(0.001, 1.0), bias=bias, walkers=2)
    assert simulation.advance(1).state.step == 1


def circling(bias: Bias) -> Simulation:
    return Simulation(AnalyticSystem(1, box=Box(1.0, kind="periodic"), start=0.0), Langevin(0.1, 1.0), bias=bias)


def test_the_same_rules_for_the_other_parts() -> None:
    """What the script above does not use."""
    q = cv.Parameter(0)
    cases = [
        (lambda: VelocityVerlet(dt=-1.0), "VelocityVerlet: dt = -1 must be a finite number above 0; change dt"),
        (lambda: VelocityVerlet(dt=0.1, kT=-1.0), "VelocityVerlet: kT = -1 must be a finite number of at least 0"),
        (lambda: Langevin("fast", 1.0), "Langevin: dt = 'fast' must be a finite number above 0; give a plain number"),
        (lambda: Grid((0, 0), (1, 0), 8), "Grid: lower = 0 must be below upper = 0; swap or widen them"),
        (lambda: Grid(0, 1, 0, kind="bins"), "Grid: bins = 0 must be a whole number of at least 1; change bins"),
        (lambda: WangLandau(q, Grid(0, 1, 8), FlatnessHalving(0.1), kT=-1), "WangLandau: kT = -1 must be a finite"),
        (lambda: Wall(q, lower=1.0, upper=0.0), "Wall: lower = 1 must be below upper = 0; swap them"),
        (lambda: Wall(q, upper=0.0, strength=-1.0), "Wall: strength = -1 must be a finite number above 0"),
        (lambda: Box(-1.0), "Box: limit = -1 must be above 0"),
        (lambda: AnalyticSystem(0), "AnalyticSystem: n = 0 must be a whole number of at least 1"),
        (lambda: circling(WangLandau(q, Grid(-1, 1, 8), FlatnessHalving(0.1))), "does not repeat along 'parameter_0'"),
        (lambda: circling(Wall(q, upper=0.5)), "which repeats after 2; use Grid(lower, upper, ..., periodic=True)"),
        (lambda: circling(Umbrella(q, 0.5, 1.0, periods=1.0)), "the bias 'umbrella' has a period of 1 along"),
        (lambda: rmsf(torch.zeros(2, 1, 1), period=-2.0), "rmsf: period must be a number above 0, or one"),
        (lambda: overlap(torch.ones(2, 2, 1), period=2.0), "overlap: the box is periodic, so that no direction from 0"),
        (lambda: autocorrelation([0.0, 1.0], period=0), "autocorrelation: period = 0 must be a finite number above 0"),
        (lambda: align([0.0] * 6, [0.0] * 6, {"0.weight": (2, 2), "2.weight": (1, 2)}), "may be an embedding, so that"),
        (lambda: align([0.0] * 6, [0.0] * 6, {"a.weight": (2, 2), "b.weight": (1, 2)}), "the name a.weight does not"),
    ]
    for make, words in cases:
        with pytest.raises(InputError) as caught:
            make()  # type: ignore[no-untyped-call]
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_networks_losses_and_forces() -> None:
    """One of each kind; more of them in the tests of losses, data forms, modules, modes and forces."""
    x, y, linear = torch.linspace(-1, 1, 8).reshape(4, 2), torch.tensor([0, 1, 0, 1]), torch.nn.Linear

    def network(module: Any = linear(2, 2), data: Any = (x, y), **settings: Any) -> NeuralNetwork:  # noqa: B008
        return NeuralNetwork(module, data, **settings)

    def langevin(**settings: Any) -> Simulation:
        return Simulation(network(**settings), Langevin(0.01, 1.0))

    def by_numpy(evaluation: Any) -> torch.Tensor:
        return torch.as_tensor(evaluation.positions.detach().numpy() ** 2).sum(1)

    cases = [
        (lambda: network(linear), "NeuralNetwork: module is a type; give a torch.nn.Module, or a function without"),
        (lambda: network(seed=3), "seed = 3 has no effect on a module that is made already; give a function"),
        (lambda: network(data={"a": x, "b": y}), "a dict with the keys 'a', 'b'; give (points, targets), {'x': points"),
        (lambda: network(max_memory=-1), "max_memory = -1 must be a finite number above 0; change max_memory"),
        (lambda: network(loss=torch.nn.MSELoss), "loss is the class MSELoss; give an object, MSELoss()"),
        (lambda: network(loss="bce"), "train targets have shape (4, 1) for 2 outputs; give [N, 2] values"),
        (lambda: network(potential=1.0), "potential = 1.0 must be None, made of LossPotential(...) and"),
        (lambda: CrossEntropy(label_smoothing=2), "label_smoothing = 2 must be at most 1; lower it"),
        (lambda: CrossEntropy(reduction="none"), "reduction = 'none' gives a loss for each point, but one number is"),
        (lambda: BinaryCrossEntropy(weight=-1.0), "weight must be finite numbers of at least 0, one for each output"),
        (lambda: langevin(potential=by_numpy), "the potential by_numpy has no gradient: numpy, .item(), .detach()"),
        (lambda: langevin(potential=by_numpy), "write it so that torch can differentiate it, or use MonteCarlo"),
    ]
    for make, words in cases:
        with pytest.raises(InputError) as caught:
            make()  # type: ignore[no-untyped-call]
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_nan_in_the_targets() -> None:
    x, y = torch.zeros(4, 2), torch.tensor([0.0, 1.0, torch.nan, 2.0])
    with pytest.raises(InputError, match="1 test targets are NaN or infinite; clean the data first"):
        NeuralNetwork(torch.nn.Linear(2, 1), (x, torch.zeros(4)), (x, y), loss="mse")


def test_gradients_and_the_rule_about_them() -> None:
    """A CV without a gradient may be recorded, only not be biased."""
    x, y = torch.linspace(-1, 1, 8).reshape(4, 2), torch.tensor([0, 1, 0, 1])
    system = NeuralNetwork(torch.nn.Linear(2, 2), (x, y), (x, y), box=Box(2.0))
    bias = Wall(cv.LogLoss("train"), upper=10.0)
    simulation = Simulation(system, Langevin(0.01, 1.0), bias=bias, observe=[cv.Accuracy("test")], every=1)
    assert simulation.run(3).history["accuracy_test"].shape == (3, 1)


# -------------------------------------------------------------------------------------------------------------- scripts

SCRIPTS = {
    "a folder": (None, "script.py: there is no such input script; check the path"),
    "syntax error": ("def build(:\n    pass\n", "script.py, line 1: syntax error: "),
    "syntax error further down": ("import nnsim\n\ndef build():\n  return (\n", "script.py, line 4: syntax error: "),
    "no build": (
        "import nnsim\n",
        "script.py: defines no function build(); write `def build(...) -> nnsim.Simulation`",
    ),
    "build is a number": ("build = 3\n", "script.py: defines no function build(); write `def build"),
    "returns nothing": ("def build():\n    pass\n", "build() returned a NoneType; it must return an nnsim.Simulation"),
    "returns text": ("def build():\n    return 'x'\n", "build() returned a str; it must return an nnsim.Simulation"),
    "fails to load": ("import nnsim\n1 / 0\n", "script.py, line 2: ZeroDivisionError: division by zero"),
    "imports what is not there": (
        "import nonsense\n",
        "script.py, line 1: ModuleNotFoundError: No module named 'nonsense'",
    ),
    "fails in build": ("def build():\n    [][3]\n", "script.py, line 2: IndexError: list index out of range"),
    "no text": ("\udcff\x00", "script.py: cannot be read as text ("),
}


@pytest.mark.parametrize("case", SCRIPTS)
def test_scripts(folder: Path, case: str) -> None:
    text, words = SCRIPTS[case]
    if text is None:
        (folder / "script.py").mkdir()
    else:
        (folder / "script.py").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert words in error_of("run", "script.py")
    assert words in error_of("run", folder / "script.py")
    assert not (folder / "script.zarr").exists()


def test_script_missing(folder: Path) -> None:
    assert error_of("run", "missing.py") == "Error: missing.py: there is no such input script; check the path"
    result = nnsim("run", "missing.py", "--help")
    assert result.status == 2
    assert result.err == "Error: missing.py: there is no such input script; check the path\n"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("depth=3", "--set depth: input.py has no setting of this name; it has dt, friction, kT"),
        ("walkers=many", "--set walkers=many: 'many' is no int; give another value"),
        ("walkers=2.5", "--set walkers=2.5: '2.5' is no int; give another value"),
        ("dt=1,2", "--set dt=1,2: '1,2' is no float; give another value"),
        ("dt", "--set dt: write --set name=value"),
    ],
)
def test_set(folder: Path, setting: str, words: str) -> None:
    assert words in error_of("run", "input.py", "--set", setting)


@pytest.mark.parametrize("steps", ["-5", "-1e3", "2.5", "abc", "inf"])
def test_steps(folder: Path, steps: str) -> None:
    rule = "must be a whole number of at least 0, such as 20000 or 1e6"
    assert error_of("run", "input.py", "--steps", steps) == f"Error: --steps {steps}: {rule}"


def test_no_steps_at_all() -> None:
    simulation = Simulation(AnalyticSystem(1, start=0.0), Langevin(0.01, 1.0))
    with pytest.raises(InputError, match=r"no length given; use run\(steps=\.\.\.\)"):
        simulation.run()
    for wrong in (-1, 1.5, "3"):
        with pytest.raises(InputError, match=r"steps = .* must be a whole number of at least 0; change steps"):
            simulation.run(wrong)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------- outputs and trajectories


@pytest.mark.parametrize("output", ["input.py/run.zarr", "/proc/run.zarr", "/dev/null/run.zarr"])
def test_output_that_cannot_be_written(folder: Path, output: str) -> None:
    line = error_of("run", "input.py", "-o", output)
    assert f"cannot write {output}: " in line
    assert "choose another output" in line
    with pytest.raises(TrajectoryError, match=r"run\.zarr.*choose another output"):
        Simulation(AnalyticSystem(1, start=0.0), Langevin(0.01, 1.0)).run(3, output=output)


NO_TRAJECTORY = {
    "missing": "does not exist; check the path, or write it first with nnsim run",
    "file": "is a file, not a trajectory; give the folder NAME.zarr that nnsim run wrote",
    "folder": "is not a zarr folder; give the folder NAME.zarr that nnsim run wrote",
    "zarr": "is a zarr folder but not a trajectory of nnsim; give one that nnsim run wrote",
    "starting": "the run has not written anything yet; wait a moment and try again",
    "newer": "has layout version 99, this nnsim reads up to 1; update nnsim to read it",
    "cut off": "cut off or damaged; restore it from a copy, or run again with another --output",
}


def spoil(path: Path, case: str) -> None:
    """Make of a trajectory something that is none."""
    if case != "newer" and case != "cut off":
        shutil.rmtree(path)
    if case == "file":
        path.write_text("hello")
    elif case in ("folder", "zarr", "starting"):
        path.mkdir()
        name = {"folder": "hello.txt", "zarr": ".zgroup", "starting": ".starting"}[case]
        (path / name).write_text('{"zarr_format": 2}')
    elif case == "newer":
        record = path / "nnsim" / ".zattrs"
        record.write_text(json.dumps({**json.loads(record.read_text()), "layout": 99}))
    elif case == "cut off":
        (path / "nnsim" / ".zattrs").write_text('{"layout": 1, "comm')


@pytest.mark.parametrize("command", [("info",), ("plot", "landscape"), ("plot", "timeseries"), ("plot", "histogram")])
@pytest.mark.parametrize("case", NO_TRAJECTORY)
def test_trajectories(folder: Path, case: str, command: tuple[str, ...]) -> None:
    small = Simulation(AnalyticSystem(1, start=0.0), Langevin(0.01, 1.0), every=1)
    small.run(1, output="input.zarr", progress=False)
    spoil(folder / "input.zarr", case)
    line = error_of(*command, "input.zarr")
    assert NO_TRAJECTORY[case] in line
    assert "input.zarr" in line


@pytest.mark.parametrize("case", ["file", "folder", "zarr", "newer", "cut off"])
def test_resume_of_what_is_no_trajectory(finished: Path, case: str) -> None:
    spoil(finished, case)
    assert NO_TRAJECTORY[case] in error_of("run", "input.py", "--resume")


def test_checkpoint_cut_off(finished: Path) -> None:
    checkpoint = checkpoint_path(finished)
    for path in (checkpoint, previous_path(checkpoint)):
        path.write_bytes(path.read_bytes()[:-40])
    line = error_of("run", "input.py", "--resume")
    assert "input.checkpoint.npz is damaged, input.checkpoint.previous.npz is damaged" in line
    assert "put a copy back, or start a new run with another --output" in line


def test_resume_of_nothing(folder: Path) -> None:
    for arguments in ((), ("-o", "other.zarr")):
        line = error_of("run", "input.py", "--resume", *arguments)
        assert "nothing to resume there; start without --resume, or check the path" in line
    assert {entry.name for entry in folder.iterdir()} == {"input.py"}


def test_resume_of_another_system(finished: Path) -> None:
    before = arrays_of(finished)
    (finished.parent / "input.py").write_text(SCRIPT.replace("Tanh()", "Sigmoid()"))
    line = error_of("run", "input.py", "--resume", "--steps", "12")
    assert "input.zarr was made with other settings, so it cannot be resumed with these (system.module: " in line
    (finished.parent / "input.py").write_text(
        SCRIPT.replace("torch.linspace(-1, 1, 12)", "torch.linspace(-1, 0.9, 12)")
    )
    assert "system.data.train" in error_of("run", "input.py", "--resume", "--steps", "12")
    assert arrays_of(finished) == before


def test_parts_and_names_that_serve_something_else_already(folder: Path) -> None:
    """More of them are in test_ownership.py, test_names.py and test_changes.py."""
    system, q = AnalyticSystem(1, start=0.5), cv.Parameter(0)
    used = WangLandau(q, Grid(0.0, 1.0, 10), FlatnessHalving(0.1))
    Simulation(system, Langevin(0.001, 1.0), bias=used).advance(3)
    cases = [
        ({"bias": used}, "the bias 'wang_landau' was used in another simulation", "make a new one for each simulation"),
        ({"observe": [cv.Distance(0.0), cv.Distance(1.0)]}, "but called 'distance'", "give one of them another name"),
        ({"observe": [(q, 2), (q, 3)]}, "is asked for every 2 and every 3 steps", "leave one out"),
        ({"observe": [cv.WeightNorm("kT")]}, "is called 'kT', which is kept for", "give it another name"),
    ]
    for settings, rule, remedy in cases:
        with pytest.raises(InputError) as caught:
            Simulation(system, Langevin(0.001, 1.0), **settings)  # type: ignore[arg-type]
        assert rule in str(caught.value)
        assert remedy in str(caught.value)
        assert "\n" not in str(caught.value)
    (folder / "swept.py").write_text("def build(status: int = 1): ...\n")
    line = error_of("sweep", "swept.py", "--grid", "status=1,2")
    assert "the table of a sweep has a column 'status' of its own; give the setting another name" in line
    line = error_of("run", "input.py", "--accept-changes")
    assert "--accept-changes is for a run that goes on; use it with --resume" in line


def test_resume_of_changed_settings_lists_them(finished: Path) -> None:
    line = error_of("run", "input.py", "--resume", "--set", "dt=0.02", "--set", "walkers=3", "--set", "bins=40")
    differences = (
        "settings.dt: 0.01 -> 0.02",
        "walkers: 2 -> 3",
        "integrator.dt: 0.01 -> 0.02",
        "settings.bins: 30 -> 40",
    )
    for difference in differences:
        assert difference in line
    assert "restore them, or start a new run with --output or --overwrite" in line
    assert nnsim("run", "input.py", "--resume", "--set", "steps=8", "--no-progress").status == 0  # a length may change
