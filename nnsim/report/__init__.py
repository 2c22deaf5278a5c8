"""Reports: one HTML page about a run, or several independent runs of the same thing.

The page holds all it needs, needs no script and no network, and can be read on a telephone. `make` gives it as text,
`write` puts it into a file; `nnsim report` does that on the command line.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnsim.errors import InputError, NNSimWarning, require_flag, require_pair, require_path, require_text
from nnsim.report.blocks import WARNING, Attempts, Notice, Page, Section

if TYPE_CHECKING:
    from nnsim.report.runs import Runs
    from nnsim.trajectory.reader import Trajectory

__all__ = ["make", "write"]

HEAD = 4096  # letters at the beginning of a file that hold the mark of a report


def make(
    trajectory: Trajectory | str | Path | Sequence[Trajectory | str | Path],
    *,
    title: str | None = None,
    bias: str | None = None,
    between: tuple[float, float] | None = None,
) -> str:
    """The report as HTML.

    Warnings come first: a Wang-Landau run that has not converged, by the criteria of `nnsim.analysis.diagnose`; a mean
    kinetic temperature of the last tenth of the run off by more than 5 % of kT and 5 standard errors; steps outside the
    grid of a bias; walkers that diverged; umbrella windows or replicas that hardly overlap; runs of different lengths,
    or shorter than they were to be; whatever could not be made, and why. Then numbers with standard errors, pictures,
    settings, environment, and how to reproduce it with the script's text. Which tables and pictures there are follows
    from what the trajectory holds. Of an observable with more than 4 million numbers only a part of the frames is read.

    Args:
        trajectory: of a run, or its path; several are independent runs of the same thing: landscapes and equilibrium
            means are averaged, with the standard error over the runs, and the convergence compares them.
        title: of the page; None takes the name of the file.
        bias: name of the Wang-Landau, metadynamics or OPES bias, where there are several.
        between: the two values of the first CV for round trips and the difference of S; None takes the 10 % and 90 %
            points of what was visited.

    Raises:
        InputError: no trajectory, the same run twice, one without a frame, runs of different networks or biases, or an
            unknown bias.
        TrajectoryError: one that cannot be read.
    """
    if title is not None:
        require_text("report", "title", title)
    if between is not None:
        between = require_pair("report", "between", between)
    from nnsim.report.page import render
    from nnsim.report.runs import Runs

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", NNSimWarning)
        page = _page(Runs(trajectory, bias), title, between)
    said = dict.fromkeys(str(one.message) for one in warned if issubclass(one.category, NNSimWarning))
    notices = [*page.notices, *(Notice(WARNING, "While it was drawn", text) for text in said)]
    notices.sort(key=lambda notice: notice.kind != WARNING)
    return render(Page(page.title, page.sentences, page.facts, notices, page.sections))


def write(
    trajectory: Trajectory | str | Path | Sequence[Trajectory | str | Path],
    path: str | Path,
    *,
    overwrite: bool = False,
    title: str | None = None,
    bias: str | None = None,
    between: tuple[float, float] | None = None,
) -> Path:
    """Write the report to a file, which appears whole or not at all.

    An earlier report is replaced, as `nnsim plot` replaces pictures; any other file only with `overwrite`, and a folder
    never.

    Args:
        trajectory: as for `make`.
        path: of the page, by custom `NAME.html`; folders on the way are made.
        overwrite: replace a file that is no report.
        title: as for `make`.
        bias: as for `make`.
        between: as for `make`.

    Returns:
        The path written.

    Raises:
        InputError: as `make`; the path is a folder, or another file.
        TrajectoryError: as `make`; the file cannot be written.
    """
    from nnsim.files import whole

    path = require_path("report", "path", path)
    _refuse(path, require_flag("report", "overwrite", overwrite))  # before the work
    text = make(trajectory, title=title, bias=bias, between=between)
    with whole(path, overwrite=overwrite, kind="report", ours=is_report) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def is_report(path: Path) -> bool:
    """Whether a file is a page that `write` has made."""
    from nnsim.report.page import MARK

    try:
        with path.open(encoding="utf-8") as file:
            return MARK in file.read(HEAD)
    except (OSError, UnicodeDecodeError):
        return False


def _refuse(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise InputError(
            f"report: {path} is a folder; give the name of a file to write, such as {path / 'report.html'}"
        )
    if os.path.lexists(path) and not overwrite and not is_report(path):
        raise InputError(
            f"report: {path} exists and is no report of nnsim, so it is left alone; replace it with --overwrite, or "
            "choose another output"
        )


def _page(runs: Runs, title: str | None, between: tuple[float, float] | None) -> Page:
    from nnsim.report.doubts import Doubts
    from nnsim.report.numbers import Numbers
    from nnsim.report.pictures import Pictures
    from nnsim.report.settings import about_script, environment_section, reproduce_section, settings_section

    attempts = Attempts()
    doubts = Doubts(runs, attempts, between)
    numbers = Numbers(runs, doubts, between)
    sections = [
        Section("Numbers", attempts.made(numbers.makers(), WARNING)),
        Section("Pictures", attempts.made(Pictures(runs, doubts, between).makers())),
        settings_section(runs),
        environment_section(runs),
        reproduce_section(runs),
    ]
    notices = [*doubts.notices(), *numbers.notices, *attempts.notices]
    said = about_script(runs)
    quoted = f"The script says: {said}" if said else ""
    return Page(title or ", ".join(runs.names), [runs.sentence, quoted], _facts(runs), notices, sections)


def _facts(runs: Runs) -> list[tuple[str, str]]:
    frames = max((len(run[name]) for run in runs.all for name in run), default=0)
    facts = [("Steps", runs.steps), ("Walkers", f"{runs.walkers:,}"), ("Parameters", f"{runs.size:,}")]
    facts += [("Frames", f"{frames:,}"), ("Recorded", runs.recorded(runs.first))]
    return [("Runs", str(len(runs.all))), *facts] if len(runs.all) > 1 else facts
