"""What a run shows: a progress bar with the numbers that matter, and a table at the end."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnsim.simulation import Simulation


class Progress:
    """A progress bar while entered, if `show`; otherwise nothing."""

    def __init__(self, simulation: Simulation, target: int, show: bool) -> None:
        self.simulation, self.target, self.show = simulation, target, show
        self.first_step = simulation.state.step
        self.begin = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        self.begin = time.monotonic()
        if self.show:
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task("", total=self.target, completed=self.first_step, numbers="")
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self) -> None:
        """Show the present step and numbers."""
        if self._bar is not None:
            self._bar.update(self._task, completed=self.simulation.state.step, numbers=self._numbers())

    def finish(self, stopped: bool) -> None:
        """Close the bar and print the summary."""
        if self._bar is None:
            return
        self.update()
        self._bar.stop()
        _print_summary(self, stopped)

    @property
    def rate(self) -> float:
        """Steps per second since the start."""
        return (self.simulation.state.step - self.first_step) / max(time.monotonic() - self.begin, 1e-9)

    def _numbers(self) -> str:
        simulation, rate = self.simulation, self.rate
        parts = [f"{rate:.3g} steps/s", f"{rate * simulation.walkers:.3g} walker-steps/s"]
        for column, cv in enumerate(simulation.force_field.cvs):
            parts.append(f"<{cv.name}> {float(simulation.state.cvs[:, column].mean()):.3g}")
        for bias in simulation.force_field.biases:
            parts += [f"{key} {value:.2g}" for key, value in bias.observables().items()]
        if "kinetic_energy" in simulation.state.integrator_state:
            parts.append(f"T {float(simulation.kinetic_temperature().mean()):.3g}")
        return " | ".join(parts)


def _bar() -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[numbers]}"))
    return RichProgress(*columns, refresh_per_second=4)


def _print_summary(progress: Progress, stopped: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    simulation = progress.simulation
    table = Table(title="stopped before the end" if stopped else "finished", show_header=False, title_justify="left")
    for name, value in summary(simulation).items():
        table.add_row(name, value)
    table.add_row("time", f"{time.monotonic() - progress.begin:.1f} s, {progress.rate * simulation.walkers:.3g} walker-steps/s")
    Console().print(table)


def summary(simulation: Simulation) -> dict[str, str]:
    """The numbers of the final table."""
    state = simulation.state
    rows = {
        "system": f"{type(simulation.system).__name__}, {state.positions.shape[1]} parameters",
        "walkers": str(simulation.walkers),
        "steps": f"{state.step}",
    }
    temperature = simulation.monitor.kinetic_temperature(since=0.9 * state.step)
    kT = getattr(simulation.integrator, "kT", None)
    if not math.isnan(temperature) and kT is not None:
        rows["kinetic temperature"] = f"{temperature:.4g} over the last tenth (kT = {kT:.4g})"
    for column, cv in enumerate(simulation.force_field.cvs):
        values = state.cvs[:, column]
        rows[cv.name] = f"mean {float(values.mean()):.4g}, from {float(values.min()):.4g} to {float(values.max()):.4g}"
    for bias in simulation.force_field.biases:
        for key, value in bias.observables().items():
            rows[f"{bias.name}: {key}"] = f"{value:.4g}"
    return rows
