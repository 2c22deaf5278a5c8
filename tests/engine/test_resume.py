"""A run that is stopped, killed or broken in any way goes on to the same bits as one that never was."""

import contextlib
import errno
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import arrays_of, committed, ended, error_of, killed, launch, nnsim, python, read_all, wait_for
from torch import Tensor
from warm import Copy

from nnsim import (
    Box,
    CollectiveVariable,
    DivergedError,
    Evaluation,
    Grid,
    InputError,
    Integrator,
    NNSimWarning,
    Reporter,
    Simulation,
    Trajectory,
    TrajectoryError,
    cv,
)
from nnsim.bias import Wall, WangLandau
from nnsim.integrators import Langevin, VelocityVerlet
from nnsim.protocols import Bias
from nnsim.running.checkpoint import load_checkpoint, previous_path
from nnsim.running.interrupt import ALWAYS, UNCLAIMED, InterruptedRun
from nnsim.running.storage import checkpoint_path
from nnsim.schedules import FlatnessHalving, IncrementSchedule, RampHoldInverseTime
from nnsim.systems import AnalyticSystem, Harmonic, spiral_classification
from nnsim.trajectory import columns as trajectory_columns


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_same_bits(one: Any, other: Any) -> None:
    """Two trees of `state_dict` are equal to the last bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same_bits(one[key], other[key])
    elif isinstance(one, Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    else:
        assert one == other


# ---------------------------------------------------------------------------------------------- 2N = N + resume + N


def ramp() -> IncrementSchedule:
    return RampHoldInverseTime(0.2, ramp=60, hold=250, offset=100)


def halving() -> IncrementSchedule:
    return FlatnessHalving(0.2, flatness=0.1, check_every=50)


def spiral(integrator: Integrator, schedule: IncrementSchedule, **changed: Any) -> Simulation:
    """A Wang-Landau run of a small spiral classifier; no two of its intervals are aligned."""
    loss, accuracy = cv.LogLoss("train"), cv.SmoothedAccuracy("test", slope=5.0, scale=10.0)
    grid = Grid(lower=(-4, -1), upper=(2, 11), spacing=(0.1, 0.5))
    settings = {
        "observe": [(cv.Accuracy("test"), 7), cv.WeightNorm()],
        "walkers": 3,
        "seed": 5,
        "every": 5,
        "positions_every": 4,
        "velocities_every": 15,
        "snapshot_every": 25,
        "checkpoint_every": 33,
        **changed,
    }
    return Simulation(
        spiral_classification(hidden=(4, 4), points_per_class=5),
        integrator,
        bias=[WangLandau([loss, accuracy], grid, schedule, kernel=(0.2, 0.5)), Wall(loss, upper=1.0)],
        **settings,
    )


RUNS = {
    "langevin": lambda: spiral(Langevin(dt=0.02, friction=5.0), ramp()),
    "langevin, masses, single": lambda: spiral(
        Langevin(dt=0.02, friction=5.0, splitting="BOA", masses=torch.linspace(0.5, 2.0, 42)),
        ramp(),
        precision="single",
    ),
    "verlet, halving": lambda: spiral(VelocityVerlet(dt=0.02), halving()),
}


@pytest.mark.slow
@pytest.mark.parametrize("stop", [33, 81])
@pytest.mark.parametrize("build", RUNS.values(), ids=RUNS.keys())
def test_two_halves_equal_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: Callable[[], Simulation], stop: int
) -> None:
    """Positions, velocities, bias, generator and every array of the trajectory, in chunks of a few frames."""
    monkeypatch.setattr(trajectory_columns, "MOST_FRAMES", 6)
    whole = build().run(2 * stop, output=tmp_path / "whole.zarr", progress=False)
    build().run(stop, output=tmp_path / "halves.zarr", progress=False)
    second = build().run(2 * stop, output=tmp_path / "halves.zarr", resume=True, progress=False)
    assert second.state.step == 2 * stop
    assert_same_bits(second.state_dict(), whole.state_dict())
    assert arrays_of(tmp_path / "halves.zarr") == arrays_of(tmp_path / "whole.zarr")
    assert committed(tmp_path / "halves.zarr") == committed(tmp_path / "whole.zarr")
    assert_same_bits(
        load_checkpoint(tmp_path / "halves.checkpoint.npz")["simulation"],
        load_checkpoint(tmp_path / "whole.checkpoint.npz")["simulation"],
    )


@pytest.mark.slow
def test_the_test_would_see_a_difference(tmp_path: Path) -> None:
    """The schedules change along the run, the walls act, random numbers are drawn: there is something to restore."""
    simulation = RUNS["langevin"]()
    before = simulation.state_dict()["state"]["draws"]
    simulation.run(162, output=tmp_path / "run.zarr", progress=False)
    assert before != simulation.state_dict()["state"]["draws"]
    increment = Trajectory(tmp_path / "run.zarr")["wang_landau_increment"][:]
    assert increment[0] < increment.max() > increment[-1]
    halved = RUNS["verlet, halving"]()
    halved.run(162, output=tmp_path / "halved.zarr", progress=False)
    assert Trajectory(tmp_path / "halved.zarr")["wang_landau_increment"][-1] < 0.2


# ------------------------------------------------------------------------------------------------------ kill and stop

SCRIPT = """
import os, time
import nnsim
from nnsim import Grid, cv
from nnsim.bias import Wall, WangLandau
from nnsim.integrators import Langevin
from nnsim.protocols import Reporter
from nnsim.schedules import RampHoldInverseTime
from nnsim.systems import AnalyticSystem, Harmonic

class Pause(Reporter):
    # makes every step last, so that there is a moment to stop the run at
    def due(self, step):
        return step + 1
    def report(self, simulation):
        time.sleep(float(os.environ.get("PAUSE", "0")))

def build(n: int = 4, dt: float = 0.05):
    energy = cv.LogEnergy(Harmonic())
    bias = WangLandau(energy, Grid(-6.0, 2.0, 80), RampHoldInverseTime(0.1, ramp=300, hold=800), kernel=0.2)
    return nnsim.Simulation(
        AnalyticSystem(n, Harmonic(), start=0.5), Langevin(dt, 1.0), bias=[bias, Wall(energy, upper=1.5, strength=50)],
        observe=[(cv.WeightNorm(), 7)], walkers=2, steps=600, every=3, positions_every=5, velocities_every=11,
        snapshot_every=40, checkpoint_every=17, threads=1, reporters=[Pause()],
    )
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "input.py").write_text(SCRIPT)
    return tmp_path


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "input.py").write_text(SCRIPT)
    assert nnsim("run", folder / "input.py", "-o", folder / "whole.zarr", "--no-progress").status == 0
    return folder / "whole.zarr"


def assert_equals(path: Path, whole: Path) -> None:
    assert arrays_of(path) == arrays_of(whole)
    assert committed(path) == committed(whole)
    assert not [*path.rglob("*.partial"), *path.parent.glob("*.partial"), *path.parent.glob(".*.partial")]


def changed(file: Path) -> Callable[[], bool]:
    """Whether a file has been written since this was called."""
    before = file.stat().st_mtime_ns if file.exists() else 0
    return lambda: file.exists() and file.stat().st_mtime_ns != before


def kill_when(process: Copy, moment: Callable[[], bool], delay: float = 0.0, path: Path | None = None) -> None:
    """`kill -9` when the moment has come and the delay has passed; meanwhile `path` is read, over and over."""
    deadline = None
    while deadline is None or time.monotonic() < deadline:
        assert process.poll() is None, f"it ended before it could be killed: {process.communicate()}"
        if deadline is None and moment():
            deadline = time.monotonic() + delay
        if path is not None:
            read_all(path)
        time.sleep(0.01)
    killed(process)


@pytest.mark.slow
def test_killed_at_random_moments(folder: Path, uninterrupted: Path) -> None:
    """The first kill while torch is imported, the second as the trajectory appears, then at any time."""
    draw, path = random.Random(3), folder / "input.zarr"
    checkpoint = checkpoint_path(path)
    run = lambda *more, pause="0.008": launch("run", "input.py", "--no-progress", *more, cwd=folder, PAUSE=pause)  # noqa: E731

    kill_when(run(), (path / ".starting").exists, delay=0.2)
    assert [entry.name for entry in path.iterdir()] == [".starting"]
    assert not checkpoint.exists()
    kill_when(run("--resume"), (path / ".zgroup").exists)
    read_all(path)
    steps = []
    for _ in range(4):
        if draw.random() < 0.25:  # most likely before the run has gone on at all
            kill_when(run("--resume"), lambda: True, draw.uniform(0.1, 1.5), path)
        else:
            kill_when(run("--resume"), changed(checkpoint), draw.uniform(0.0, 0.35), path)
        steps.append(read_all(path))
    assert 0 < steps[-1] < 600
    assert len(set(steps)) > 1

    last = ended(run("--resume", pause="0"))
    assert (last.status, last.err) == (0, "")
    assert read_all(path) == 600
    assert_equals(path, uninterrupted)


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(folder: Path, uninterrupted: Path) -> None:
    path = folder / "input.zarr"
    process = launch("run", "input.py", cwd=folder, PAUSE="0.01")
    saved = changed(checkpoint_path(path))
    wait_for(lambda: saved() and read_all(path) > 0, process)
    process.send_signal(signal.SIGINT)
    status, out, err = ended(process, 20)
    assert status == 130
    step = int(load_checkpoint(checkpoint_path(path))["simulation"]["state"]["step"])
    assert err.splitlines() == [
        f"stopped by SIGINT after step {step}; repeat the same command with --resume (run(..., resume=True)) to go on"
    ]
    assert "stopped before the end" in out
    assert 0 < step < 600
    assert read_all(path) > step - 3  # what was recorded is there, up to the last step
    assert nnsim("run", folder / "input.py", "-o", path, "--resume", "--no-progress").status == 0
    assert_equals(path, uninterrupted)


class Signal(Reporter):
    """Sends this process a signal after a step."""

    def __init__(self, number: signal.Signals, step: int) -> None:
        self.number, self.step = number, step

    def due(self, step: int) -> int:
        return self.step if step < self.step else 10**9

    def report(self, simulation: Simulation) -> None:
        os.kill(os.getpid(), self.number)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "step"), [(signal.SIGINT, 21), *((number, 22) for number in (*ALWAYS, *UNCLAIMED))])
def test_the_step_at_hand_is_finished(tmp_path: Path, number: signal.Signals, step: int) -> None:
    """The exit status is that of shells, and the handlers of the process are put back."""
    path, before = tmp_path / "run.zarr", signal.getsignal(number)
    with pytest.raises(InterruptedRun, match=f"stopped by {number.name} after step {step}; repeat the same") as caught:
        analytic(reporters=[Signal(number, step)]).run(40, output=path, progress=False)
    assert caught.value.exit_status == 128 + number
    assert signal.getsignal(number) == before
    assert load_checkpoint(checkpoint_path(path))["simulation"]["state"]["step"] == step
    analytic().run(40, output=path, resume=True, progress=False)
    analytic().run(40, output=tmp_path / "whole.zarr", progress=False)
    assert_equals(path, tmp_path / "whole.zarr")


@pytest.mark.parametrize("number", UNCLAIMED)
def test_signals_that_somebody_else_cares_for_are_left_alone(tmp_path: Path, number: signal.Signals) -> None:
    """As SIGHUP, which nohup ignores, and SIGUSR1, for which a program may have a handler of its own."""
    heard: list[int] = []
    for handler in (signal.SIG_IGN, lambda number, frame: heard.append(number)):
        before = signal.signal(number, handler)
        try:
            assert analytic(reporters=[Signal(number, 5)]).run(9).state.step == 9
            assert signal.getsignal(number) == handler
        finally:
            signal.signal(number, before)
    assert heard == [number]


def test_signals_are_not_touched_outside_the_main_thread() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: analytic().run(9)).result().state.step == 9


def test_a_second_ctrl_c_ends_at_once_and_says_where_the_run_stands(tmp_path: Path) -> None:
    path, before = tmp_path / "run.zarr", signal.getsignal(signal.SIGINT)
    twice = [Signal(signal.SIGINT, 25), Signal(signal.SIGINT, 25)]
    words = r"stopped at once by a second SIGINT, saved up to step 20; repeat the same command with --resume \("
    with pytest.raises(InterruptedRun, match=words) as caught:
        analytic(reporters=twice, checkpoint_every=10).run(40, output=path, progress=False)
    assert (caught.value.exit_status, signal.getsignal(signal.SIGINT)) == (130, before)
    analytic(checkpoint_every=10).run(40, output=path, resume=True, progress=False)
    with pytest.raises(InterruptedRun, match="second SIGINT, nothing was saved"):
        analytic(reporters=twice).run(40)


def test_a_loop_that_goes_on_after_failures_ends() -> None:
    begun = []

    def loop() -> None:
        for seed in range(3):
            with contextlib.suppress(Exception):
                begun.append(seed)
                analytic(seed=seed, reporters=[Signal(signal.SIGINT, 5)]).run(9)

    with pytest.raises(KeyboardInterrupt):
        loop()
    assert begun == [0]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_what_a_scheduler_sends_saves_unless_it_is_ignored(folder: Path, number: signal.Signals) -> None:
    path = folder / "input.zarr"
    process = launch("run", "input.py", "--no-progress", cwd=folder, PAUSE="0.01")
    wait_for(changed(checkpoint_path(path)), process)
    process.send_signal(number)
    status, _, err = ended(process, 20)
    step = int(load_checkpoint(checkpoint_path(path))["simulation"]["state"]["step"])
    assert (status, len(err.splitlines())) == (128 + number, 1)
    assert err.startswith(f"stopped by {number.name} after step {step}; repeat the same command with --resume")

    before = signal.signal(number, signal.SIG_IGN)  # which processes inherit, as under nohup
    try:
        process = launch("run", "input.py", "--no-progress", "--resume", cwd=folder, PAUSE="0.0005")
    finally:
        signal.signal(number, before)
    while process.poll() is None:
        process.send_signal(number)
        time.sleep(0.02)
    assert ended(process) == (0, "", "")


OWN_SCRIPT = """
import os, signal
import nnsim
from nnsim.integrators import Langevin
from nnsim.systems import AnalyticSystem, Harmonic

class Signal(nnsim.Reporter):
    def due(self, step):
        return 5 if step < 5 else 10**9
    def report(self, simulation):
        os.kill(os.getpid(), signal.SIGUSR1)

def run(**more):
    nnsim.Simulation(AnalyticSystem(3, Harmonic(), start=0.5), Langevin(0.02, 1.0), threads=1, **more).run(9)

try:
    run(reporters=[Signal()])
except nnsim.running.interrupt.InterruptedRun:
    pass
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("last", "status", "line"),
    [
        ("run(reporters=[Signal()])", 138, "stopped by SIGUSR1 after step 5; nothing was saved"),
        ("raise ValueError('own')", 1, "ValueError: own"),
        ("run()", 0, None),
    ],
)
def test_a_script_of_ones_own_ends_like_the_command(tmp_path: Path, last: str, status: int, line: str | None) -> None:
    done = python(OWN_SCRIPT + last, tmp_path)
    assert done.status == status, done
    assert done.err.splitlines()[-1:] == ([] if line is None else [line])
    assert ("Traceback" in done.err) == (status == 1)


def test_a_stop_without_an_output_says_so() -> None:
    with pytest.raises(InterruptedRun, match="after step 5; nothing was saved"):
        analytic(reporters=[Signal(signal.SIGINT, 5)]).run(90)


def test_a_signal_at_the_last_step_is_no_stop(tmp_path: Path) -> None:
    simulation = analytic(reporters=[Signal(signal.SIGINT, 20)]).run(20, output=tmp_path / "run.zarr", progress=False)
    assert simulation.state.step == 20


# --------------------------------------------------------------------------------------------------------------- NaN


class At(Reporter):
    """Switched on after a step."""

    def __init__(self, step: int) -> None:
        self.step, self.on = step, False

    def due(self, step: int) -> int:
        return self.step if step < self.step else 10**9

    def report(self, simulation: Simulation) -> None:
        self.on = True

    def spoil(self, values: Tensor, walker: int) -> Tensor:
        mask = torch.arange(len(values)) == walker
        return torch.where(mask, torch.nan, values) if self.on else values


class SpoiltNorm(CollectiveVariable):
    name = "spoilt"

    def __init__(self, switch: At) -> None:
        self._switch = switch

    def __call__(self, evaluation: Evaluation) -> Tensor:
        return self._switch.spoil(evaluation.positions.square().sum(-1), 1)


class SpoiltBias(Bias):
    name = "spoilt_bias"

    def __init__(self, switch: At) -> None:
        self.cvs = (cv.WeightNorm(),)
        self._switch = switch

    def energy(self, s: Tensor, step: int) -> Tensor:
        return self._switch.spoil(torch.zeros_like(s[:, 0]), 2)

    def gradient(self, s: Tensor, step: int) -> Tensor:
        return torch.zeros_like(s)


def diverging(quantity: str, switch: At) -> Simulation:
    potential = (lambda q: switch.spoil(q.square().sum(-1), 0)) if quantity == "energy" else Harmonic()
    bias: list[Bias] = []
    if quantity == "cvs":
        bias = [Wall(SpoiltNorm(switch), upper=100.0)]
    if quantity == "bias_energy":
        bias = [SpoiltBias(switch)]
    return Simulation(
        AnalyticSystem(3, potential, start=0.5),
        Langevin(0.05, 1.0),
        bias=bias,
        walkers=3,
        every=2,
        checkpoint_every=10,
        reporters=[switch],
    )


@pytest.mark.slow
@pytest.mark.parametrize(("quantity", "walker"), [("energy", 0), ("cvs", 1), ("bias_energy", 2)])
def test_nan_stops_the_run_with_its_place_named(tmp_path: Path, quantity: str, walker: int) -> None:
    path = tmp_path / "run.zarr"
    with pytest.raises(DivergedError) as caught:
        diverging(quantity, At(36)).run(100, output=path, progress=False)
    assert str(caught.value) == (
        f"step 37: {quantity} of walker {walker} became NaN or infinite; use a smaller time step, a smaller increment "
        "of the bias, or a higher friction; the last good checkpoint, of step 30, is kept"
    )
    saved = load_checkpoint(checkpoint_path(path))["simulation"]["state"]
    assert saved["step"] == 30
    assert bool(torch.isfinite(saved["positions"]).all())
    assert read_all(path) == 36
    # once the cause is gone, it goes on from the checkpoint to where an untroubled run gets
    resumed = diverging(quantity, At(10**8)).run(60, output=path, resume=True, progress=False)
    straight = diverging(quantity, At(10**8)).run(60, output=tmp_path / "whole.zarr", progress=False)
    assert_same_bits(resumed.state_dict(), straight.state_dict())
    assert_equals(path, tmp_path / "whole.zarr")


def test_too_large_a_time_step_diverges_without_an_output() -> None:
    """In an unstable dynamics the positions overflow: caught, and said, although nothing is written."""
    simulation = Simulation(AnalyticSystem(2, Harmonic(1e8), start=1.0), VelocityVerlet(dt=1.0), walkers=2)
    with pytest.raises(DivergedError, match=r"step \d+: \w+ of walker 0 became NaN or infinite; use a smaller"):
        simulation.run(1000)


# --------------------------------------------------------------------------------------------------------- full disk


@pytest.mark.slow
@pytest.mark.parametrize("writes", [0, 3, 10, 60, 200])
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """After some writes the disk is full: one line, what was committed is readable, and with space it goes on."""
    path, left, real = tmp_path / "run.zarr", [writes], trajectory_columns.replace_file
    analytic().run(90, output=tmp_path / "whole.zarr", progress=False)

    def put(*arguments: Any, **options: Any) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **options)

    monkeypatch.setattr(trajectory_columns, "replace_file", put)
    with pytest.raises(
        TrajectoryError, match=r"run\.zarr: No space left on device; free some space, then continue"
    ) as caught:
        analytic().run(90, output=path, progress=False)
    assert "\n" not in str(caught.value)
    read_all(path)
    monkeypatch.setattr(trajectory_columns, "replace_file", real)
    analytic().run(90, output=path, resume=True, progress=False)
    assert_equals(path, tmp_path / "whole.zarr")


# ----------------------------------------------------------------------------------------------------- what may change


def analytic(n: int = 3, dt: float = 0.05, threads: int = 1, **changed: Any) -> Simulation:
    energy = cv.LogEnergy(Harmonic())
    bias = WangLandau(energy, Grid(-6.0, 3.0, 30), FlatnessHalving(0.1), kernel=0.5)
    settings = {"bias": bias, "walkers": 2, "every": 2, "checkpoint_every": 7, "threads": threads, **changed}
    return Simulation(AnalyticSystem(n, box=Box(3.0), start=0.5), Langevin(dt, 1.0), **settings)


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A finished run of 20 steps."""
    analytic().run(20, output=tmp_path / "run.zarr", progress=False)
    return tmp_path / "run.zarr"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (lambda: analytic(dt=0.1), "integrator.dt: 0.05 -> 0.1"),
        (lambda: analytic(n=4), "system.parameters.q: [3] -> [4]"),
        (lambda: analytic(walkers=3), "walkers: 2 -> 3"),
        (lambda: analytic(seed=1), "seed: 0 -> 1"),
        (lambda: analytic(precision="double"), "precision: mixed -> double"),
        (lambda: analytic(every=3), "recording.every: 2 -> 3"),
        (lambda: analytic(observe=[cv.WeightNorm()]), "recording.observables.weight_norm: (none) -> 2"),
        (lambda: analytic(bias=()), "bias.wang_landau: "),
        (lambda: spiral(Langevin(0.05, 1.0), ramp()), "system.type: AnalyticSystem -> NeuralNetwork"),
    ],
)
def test_changed_settings_are_refused_and_listed(
    stopped: Path, other: Callable[[], Simulation], difference: str
) -> None:
    before = arrays_of(stopped)
    with pytest.raises(InputError, match="made with other settings, so it cannot be resumed") as caught:
        other().run(40, output=stopped, resume=True, progress=False)
    assert difference in str(caught.value)
    assert "restore them, or start a new run with --output or --overwrite" in str(caught.value)
    assert arrays_of(stopped) == before


def test_differences_are_all_listed(stopped: Path) -> None:
    with pytest.raises(InputError) as caught:
        analytic(dt=0.1, walkers=3, seed=1).run(40, output=stopped, resume=True)
    for difference in ("integrator.dt: 0.05 -> 0.1", "walkers: 2 -> 3", "seed: 0 -> 1"):
        assert difference in str(caught.value)


@pytest.mark.slow
def test_length_and_checkpoints_may_change(stopped: Path) -> None:
    longer = analytic(steps=50, checkpoint_every=13).run(output=stopped, resume=True, progress=False)
    assert longer.state.step == read_all(stopped) == 50


@pytest.mark.parametrize("steps", [20, 10, 0])
def test_resume_of_a_finished_run_does_nothing(stopped: Path, steps: int) -> None:
    before = arrays_of(stopped)
    again = analytic().run(steps, output=stopped, resume=True, progress=False)
    assert again.state.step == 20
    assert arrays_of(stopped) == before


def test_resume_in_another_environment_warns(stopped: Path) -> None:
    with pytest.warns(NNSimWarning, match=r"another environment \(threads: 1 -> 2\): .* not the same to the last bit"):
        analytic(threads=2).run(30, output=stopped, resume=True, progress=False)
    assert read_all(stopped) == 30


def test_resume_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(TrajectoryError, match=r"run\.zarr: nothing to resume there; start without --resume"):
        analytic().run(10, output=tmp_path / "run.zarr", resume=True)
    assert not [*tmp_path.iterdir()]
    with pytest.raises(InputError, match="resume needs the output"):
        analytic().run(10, resume=True)
    with pytest.raises(InputError, match="exclude each other"):
        analytic().run(10, output=tmp_path / "run.zarr", resume=True, overwrite=True)


def test_missing_checkpoint(stopped: Path) -> None:
    before = arrays_of(stopped)
    checkpoint_path(stopped).unlink()
    previous_path(checkpoint_path(stopped)).unlink()
    with pytest.raises(TrajectoryError, match=r"its checkpoint run\.checkpoint\.npz is missing.*--overwrite"):
        analytic().run(40, output=stopped, resume=True)
    assert arrays_of(stopped) == before


@pytest.mark.slow
def test_checkpoint_of_an_earlier_trajectory_is_not_taken(stopped: Path, tmp_path: Path) -> None:
    """The user deleted the trajectory but not its checkpoint, and the new run is killed before its first one."""
    old = checkpoint_path(stopped).read_bytes()
    whole = tmp_path / "whole.zarr"
    analytic().run(40, output=whole, progress=False)
    for entry in ("marker", "empty trajectory"):
        if entry == "marker":
            fresh = tmp_path / "a.zarr"
            fresh.mkdir()
            (fresh / ".starting").touch()
        else:
            fresh = tmp_path / "b.zarr"
            analytic().run(0, output=fresh, progress=False)
        checkpoint_path(fresh).write_bytes(old)
        analytic().run(40, output=fresh, resume=True, progress=False)
        assert_equals(fresh, whole)


@pytest.mark.slow
def test_the_same_command_again_through_the_command_line(folder: Path, uninterrupted: Path) -> None:
    """A longer --steps continues; a changed setting is refused; a finished run is left as it is."""
    script, path = folder / "input.py", folder / "own.zarr"
    common = ("run", script, "-o", path, "--no-progress")
    assert nnsim(*common, "--steps", "200").status == 0
    assert "--resume to continue it" in error_of(*common, "--steps", "600")
    line = error_of(*common, "--resume", "--set", "dt=0.1", "--set", "n=5")
    assert "settings.dt: 0.05 -> 0.1" in line
    assert "settings.n: 4 -> 5" in line
    assert nnsim(*common, "--steps", "600", "--resume").status == 0
    assert_equals(path, uninterrupted)
    assert nnsim(*common, "--steps", "600", "--resume") == (0, "", "")
    assert_equals(path, uninterrupted)
