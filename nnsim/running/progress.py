"""What a run shows: a bar or lines with the numbers that matter, and a table at the end."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from nnsim.running.checks.parts import comes_round
from nnsim.running.recording import bias_numbers

if TYPE_CHECKING:
    from nnsim.schedules import Setting
    from nnsim.simulation import Simulation

LINE_SECONDS = 10.0  # between two lines where no bar can be drawn
RECENT = 50  # looks back that the rate is taken over: about 10 seconds
_LABELS = {"outside": "outside grid"}  # of the biases' numbers, where the name alone does not say enough


@contextlib.contextmanager
def unread() -> Iterator[None]:
    """Print inside; if nobody reads any more (`nnsim run ... | head -1`), that and all later output goes nowhere.

    A run must neither die nor lose data because its lines are not wanted.
    """
    try:
        yield
    except BrokenPipeError:
        with contextlib.suppress(OSError):  # where stdout is no file, nothing is left in a buffer either
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())  # also takes what is left in the buffer, flushed at exit
            os.close(nowhere)


class Progress:
    """While entered, if `show`: a bar on a terminal, a line every ten seconds in a log or a pipe."""

    def __init__(self, simulation: Simulation, target: int, show: bool) -> None:
        self.simulation, self.target, self.show = simulation, target, show
        self.first_step = simulation.state.step
        self._display: _Display | None = None

    def __enter__(self) -> Progress:
        self.begin = time.monotonic()
        self._looks: deque[tuple[float, int]] = deque([(self.begin, self.first_step)], maxlen=RECENT)
        if self.show:
            if self.simulation.platform_reason is None:  # which was said already
                with unread():
                    print(_platform(self.simulation), flush=True)
            self._display = _display(self.first_step, self.target)
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        if self._display is not None:
            with unread():
                self._display.stop()

    def update(self) -> None:
        """Show the present step and numbers."""
        if self._display is None:
            return
        step = self.simulation.state.step
        self._looks.append((time.monotonic(), step))
        with unread():
            self._display.update(step, self._numbers)

    def finish(self, stopped: bool) -> None:
        """Close the display and print the summary."""
        if self._display is None:
            return
        self.update()
        with unread():
            self._display.stop()
            _print_summary(self, stopped)

    @property
    def rate(self) -> float:
        """Steps per second since the start."""
        return _rate((self.begin, self.first_step), (time.monotonic(), self.simulation.state.step))

    def _numbers(self) -> list[str]:
        simulation, rate = self.simulation, _rate(self._looks[0], self._looks[-1])
        parts = [f"{_short(rate)} steps/s", f"{_short(rate * simulation.walkers)} walker-steps/s"]
        parts.append(f"{self._left(rate)} left")
        for column, cv in enumerate(simulation.force_field.cvs):
            if not comes_round(cv, simulation.system.box):
                parts.append(f"<{cv.name}> {float(simulation.state.cvs[:, column].mean()):.3g}")
        for bias in simulation.force_field.biases:
            parts += [f"{_LABELS.get(key, key)} {value:.2g}" for key, value in bias_numbers(bias).items()]
        if "kinetic_energy" in simulation.state.integrator_state:
            parts.append(f"T {float(simulation.kinetic_temperature().mean()):.3g}")
        return parts

    def _left(self, rate: float) -> str:
        if not rate:
            return "?"
        return str(timedelta(seconds=round((self.target - self.simulation.state.step) / rate)))


def _rate(earlier: tuple[float, int], later: tuple[float, int]) -> float:
    """Steps per second between two looks at the clock and the step."""
    return (later[1] - earlier[1]) / max(later[0] - earlier[0], 1e-9)


def _short(rate: float) -> str:
    """Three digits, and no exponent for the thousands of steps that are usual."""
    return f"{rate:,.0f}" if 100 <= rate < 1e7 else f"{rate:.3g}"


class _Display(Protocol):
    """Shows a step and the parts of a line of numbers, which are only made when they are shown."""

    def update(self, step: int, numbers: Any) -> None: ...

    def stop(self) -> None: ...


def _display(first_step: int, target: int) -> _Display:
    console = _console()
    return _Bar(console, first_step, target) if console.is_terminal else _Lines(target)


def _console() -> Any:
    """A console that leaves a broken pipe to `unread`, where rich would end the program."""
    from nnsim.random.streams import undisturbed

    with undisturbed():
        from rich.console import Console

    class Unread(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Unread()


class _Lines:
    """For logs and pipes."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._next = time.monotonic() + LINE_SECONDS

    def update(self, step: int, numbers: Any) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_SECONDS
            print(" | ".join([f"step {step}/{self.target}", *numbers()]), flush=True)

    def stop(self) -> None:
        pass


class _Bar:
    """For terminals: a bar, and below it the numbers, on as many lines as the terminal's width asks for."""

    def __init__(self, console: Any, first_step: int, target: int) -> None:
        from rich.console import Group
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn
        from rich.text import Text

        self._bar = Progress(BarColumn(bar_width=40), TaskProgressColumn(), MofNCompleteColumn(), console=console)
        self._task = self._bar.add_task("", total=target, completed=min(first_step, target))
        self._text = Text()
        self._live = Live(Group(self._bar, self._text), console=console, refresh_per_second=4)
        self._live.start()

    def update(self, step: int, numbers: Any) -> None:
        self._text.plain = " | ".join(numbers())
        self._bar.update(self._task, completed=step)

    def stop(self) -> None:
        self._live.stop()


def _print_summary(progress: Progress, stopped: bool) -> None:
    from rich.table import Table

    simulation = progress.simulation
    table = Table(title="stopped before the end" if stopped else "finished", show_header=False, title_justify="left")
    for name, value in summary(simulation).items():
        table.add_row(name, value)
    seconds = time.monotonic() - progress.begin
    if simulation.state.step > progress.first_step:
        table.add_row("time", f"{seconds:.1f} s, {_short(progress.rate * simulation.walkers)} walker-steps/s")
    else:
        table.add_row("time", f"nothing was left to do up to step {progress.target}; a larger --steps goes on")
    _console().print(table)


def summary(simulation: Simulation) -> dict[str, str]:
    """The numbers of the final table."""
    state = simulation.state
    rows = {
        "system": f"{type(simulation.system).__name__}, {state.positions.shape[1]} parameters",
        "walkers": str(simulation.walkers),
        "steps": f"{state.step}",
    }
    rows["platform"] = _platform(simulation)
    temperature = simulation.monitor.kinetic_temperature(since=0.9 * state.step)
    kT = simulation.integrator.kT
    if not math.isnan(temperature) and kT is not None:
        rows["kinetic temperature"] = f"{temperature:.4g} over the last tenth ({_temperature_of(kT, state.step)})"
    if words := simulation.step_error.summary(simulation):
        rows["error of the time step"] = words
    for column, cv in enumerate(simulation.force_field.cvs):
        values = state.cvs[:, column]
        mean = "" if comes_round(cv, simulation.system.box) else f"mean {float(values.mean()):.4g}, "
        rows[cv.name] = f"{mean}from {float(values.min()):.4g} to {float(values.max()):.4g}"
    rows |= simulation.integrator.summary(state)
    for bias in simulation.force_field.biases:
        for key, value in bias_numbers(bias).items():
            rows[f"{bias.name}: {_LABELS.get(key, key)}"] = f"{value:.4g}"
        if doubts := bias.doubts():
            rows[f"{bias.name}: NOT CONVERGED"] = "; ".join(doubts)
    return rows


def _platform(simulation: Simulation) -> str:
    """What makes the steps, and why."""
    if simulation.platform_reason:
        return f"{simulation.platform.name} ({simulation.platform_reason})"
    return f"{simulation.platform.summary()} ({'the fastest' if simulation.automatic_platform else 'as asked for'})"


def _temperature_of(kT: Setting, step: int) -> str:
    """The temperature of a step, in words."""
    from nnsim.schedules import setting_at

    now = setting_at(kT, step)
    if isinstance(now, float):
        return f"kT = {now:.4g}"
    return f"kT from {float(now.min()):.4g} to {float(now.max()):.4g}, mean {float(now.mean()):.4g}"
