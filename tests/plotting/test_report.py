"""Reports: what the page says is what the trajectories hold, and it is one safe page that fits a narrow window."""

import html
import json
import math
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import error_of, nnsim
from pictured_runs import BINS, hill

import nnsim.report as reports
from nnsim import Trajectory
from nnsim.analysis import EntropyLandscape, diagnose, equilibrium, mean_curve
from nnsim.errors import InputError, NNSimWarning, TrajectoryError
from nnsim.report import doubts, make, write
from nnsim.report import runs as report_runs
from nnsim.report.blocks import Attempts, nice, with_error
from nnsim.trajectory.writer import TrajectoryWriter

EXAMPLES = Path(__file__).parents[2] / "examples"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FRAMES, WALKERS, EVERY = 60, 4, 10
STEPS = FRAMES * EVERY
PARAMETERS = {"0.weight": [4, 2], "0.bias": [4], "2.weight": [1, 4]}
SCRIPT = '"""A <b>bold</b> run & more."""\n\nprint("</pre><script>document.title = 1</script>")\n'
VOID = ("meta", "img", "br", "hr", "link", "input")


# --------------------------------------------------------------------------------------------- runs written by hand


def header_of(**changes: Any) -> dict[str, Any]:
    shared = {
        "parameters": PARAMETERS,
        "system": {"type": "NeuralNetwork", "flat": True, "module": "Sequential(\n  (0): Linear()\n)"},
        "integrator": {"type": "Langevin", "dt": 0.01},
        "settings": {"width": 4, "rate": 0.1, "lengths": [1, 2], "plane": True, "hold": None},
        "recording": {"every": EVERY, "snapshot_every": 100},
        "versions": {"nnsim": "0.1.0", "python": "3.11"},
        "machine": "x86_64",
        "threads": 1,
        "walkers": WALKERS,
        "kT": 1.0,
        "script": SCRIPT,
    }
    return shared | changes


def landscape_run(path: Path, seed: int = 0, **options: Any) -> Trajectory:
    """A Wang-Landau run on two CVs that S is known of; converged, unless the options say otherwise."""
    rng = np.random.default_rng(seed)
    names = ("ln_loss_train", "accuracy_test")
    grid = {"lower": [0.0] * 2, "upper": [1.0] * 2, "bins": [BINS] * 2, "periodic": [False] * 2, "kind": "bins"}
    attrs = {"type": "WangLandau", "cvs": names, "grid": grid, "kT": 1.0}
    header = header_of(bias={"wl": attrs}, seed=seed, **options.get("header", {}))
    writer = TrajectoryWriter.create(path, header)
    increment, outside = options.get("increment", 1e-5), options.get("outside", 0.0)
    writer.set_attrs("nnsim/bias/wl", attrs | {"increment": increment, "outside": outside, "step": STEPS})
    potential = np.clip(hill(2), 0, None) + rng.normal(0, 0.1, (BINS, BINS))
    visits = np.full((BINS, BINS), 100.0)
    for name, table in (("potential", potential), ("visits", visits)):
        writer.put(f"nnsim/bias/wl/{name}", table)
    for frame in range(1, options.get("frames", FRAMES) + 1):
        step = frame * EVERY
        up = frame % 2  # a round trip every two frames: half of the values are at the very ends
        inward = (1 - 2 * up) * np.abs(rng.normal(0, 0.1, (2, WALKERS))) * (rng.random((2, WALKERS)) < 0.5)
        values = dict(zip(names, 0.1 + 0.8 * up + inward, strict=True))
        values["kinetic_temperature"] = rng.normal(options.get("temperature", 1.0), 0.01, WALKERS)
        if options.get("diverged") and frame > 30:
            values["loss_test"] = np.array([0.5, math.nan, 0.5, math.inf])
        elif options.get("diverged"):
            values["loss_test"] = np.full(WALKERS, 0.5)
        for name, value in values.items():
            writer.append(f"observables/{name}", step, float(step), value)
        writer.append("observables/wl_increment", step, float(step), np.float64(increment))
        if step % 100 == 0:
            for name, table in (("potential", potential), ("visits", visits * step / STEPS)):
                writer.append(f"nnsim/bias/wl/snapshots/{name}", step, float(step), table)
            writer.append("particles/parameters/position", step, float(step), rng.standard_normal((WALKERS, 16)))
    writer.close()
    return Trajectory(path)


def training_run(path: Path, seed: int = 0, **changes: Any) -> Trajectory:
    rng = np.random.default_rng(seed)
    said = {"kT": None, "integrator": {"type": "GradientDescent"}, "script": None, "settings": {}}
    writer = TrajectoryWriter.create(path, header_of(**said, **changes))
    for frame in range(1, 21):
        for name in ("loss_train", "accuracy_test"):
            value = rng.uniform(0.3, 0.6, WALKERS) / (frame if "loss" in name else 1)
            writer.append(f"observables/{name}", 10 * frame, 10.0 * frame, value)
    writer.close()
    return Trajectory(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def good(folder: Path) -> Trajectory:
    return landscape_run(folder / "good.zarr")


@pytest.fixture(scope="module")
def bad(folder: Path) -> Trajectory:
    """All that can be wrong."""
    return landscape_run(
        folder / "b<i>d & co.zarr",
        increment=0.5,
        outside=0.25,
        temperature=1.5,
        diverged=True,
        header={"target": 10 * STEPS},
    )


@pytest.fixture(scope="module")
def good_page(good: Trajectory) -> str:
    return make(good)


@pytest.fixture(scope="module")
def bad_page(bad: Trajectory) -> str:
    return make(bad, title="<script>alert(1)</script>")


# ------------------------------------------------------------------------------------------------ reading the page


class Reader(HTMLParser):
    """Checks that tags are closed in order, and collects what a page holds."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.notices: list[tuple[str, str]] = []
        self.text = ""
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append((tag, dict(attributes)))
        assert len(dict(attributes)) == len(attributes), f"an attribute twice in {tag}"
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        elif tag == "li" and "class" in dict(attributes):
            self.notices.append((dict(attributes)["class"], ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "table":
            assert self._caption not in self.tables, "a table twice"
            self.tables[self._caption] = self._rows

    def handle_data(self, text: str) -> None:
        if "style" not in self.open:
            self.text += text
        if "caption" in self.open:
            self._caption += text
        elif self.open and self.open[-1] in ("td", "th"):
            self._rows[-1][-1] += text
        if "li" in self.open and self.notices:
            kind, said = self.notices[-1]
            self.notices[-1] = kind, said + text

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def warnings(self) -> str:
        return " | ".join(text for kind, text in self.notices if kind == "warning")


def check_page(page: str) -> Reader:
    """A page of its own: nothing from elsewhere, nothing that runs, pictures with words, tables with headings."""
    read = Reader(page)
    assert page.startswith("<!doctype html>")
    assert len(page) < 3e6
    assert [one["lang"] for one in read.of("html")] == ["en"]
    assert any(one.get("name") == "viewport" and "width=device-width" in str(one["content"]) for one in read.of("meta"))
    assert len(read.of("h1")) == len(read.of("main")) == len(read.of("title")) == 1
    forbidden = {"script", "iframe", "object", "embed", "link", "base", "form", "svg", "b", "i"}
    assert not forbidden & {tag for tag, _ in read.tags}
    targets = {str(one["id"]) for _, one in read.tags if "id" in one}
    for tag, attributes in read.tags:
        assert not any(name.startswith("on") or name in ("style", "srcset", "action") for name in attributes), tag
        if "src" in attributes:
            assert str(attributes["src"]).startswith("data:image/png;base64,")
        if "href" in attributes:
            assert str(attributes["href"]).removeprefix("#") in targets
            assert str(attributes["href"]).startswith("#")
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "//" not in style
    for picture in read.of("img"):
        assert len(str(picture["alt"])) > 20
        assert int(str(picture["width"])) > 300
    assert page.count("<caption>") == len(read.of("table")) == page.count("<thead>")
    assert all(one["scope"] in ("row", "col") for one in read.of("th"))
    assert all(len({len(row) for row in rows}) == 1 for rows in read.tables.values())
    assert "not finite" not in read.text or "diverged" in read.text.lower()
    assert not re.search(r"\bnan\b", read.text.replace("good", ""))
    return read


def notices_of(runs: Any) -> list[Any]:
    """What a report would say first, without drawing it."""
    return doubts.Doubts(report_runs.Runs(runs), Attempts()).notices()


def number(text: str) -> float:
    return float(text.split(" ± ")[0].replace("−", "-").replace(",", ""))


# ------------------------------------------------------------------------------------------------------- the page


@pytest.mark.slow
def test_the_page_needs_nothing_else_and_is_complete(good_page: str) -> None:
    read = check_page(good_page)
    headings = re.findall(r"<h2[^>]*>([^<]*)", good_page)
    assert headings == ["Warnings", "Numbers", "Pictures", "Settings", "Environment", "How to reproduce"]
    captions = " ".join(re.findall(r"<figcaption>([^<]*)", good_page))
    for what in ("Landscape", "Time series", "Convergence", "Growth of the bias", "Paths", "How often", "Parameters"):
        assert what in captions
    for row in (["width", "4"], ["rate", "0.1"], ["lengths", "1, 2"], ["plane", "true"], ["hold", "none"]):
        assert row in read.tables["Settings of the script"]
    assert ["grid.bins", f"{BINS}, {BINS}"] in read.tables["Bias wl"]
    assert ["python", "3.11"] in read.tables["Environment of the run"]
    assert ["0.weight", "4 × 2", "8"] in read.tables["Parameters, 16 in all"]
    assert (
        f"4 walkers of a neural network with 16 parameters, moved for {STEPS} steps by Langevin dynamics" in read.text
    )
    command = "nnsim run good.py --set width=4 --set rate=0.1 --set lengths=1,2 --set plane=true --set hold=none"
    assert f"{command} --steps {STEPS} -o good.zarr" in read.text
    assert SCRIPT in read.text
    assert json.dumps("default-src 'none'")[1:-1] in good_page  # the browser would refuse a script too


def test_a_run_without_a_fault_has_no_warning(good_page: str) -> None:
    read = Reader(good_page)
    assert read.warnings() == ""
    assert "nothing of what is checked" in read.text
    assert [text.split(":")[0] for _, text in read.notices] == ["One run"]


@pytest.mark.slow
def test_every_warning_is_there_and_comes_first(bad: Trajectory, bad_page: str) -> None:
    read = check_page(bad_page)
    said = read.warnings()
    diagnosis = diagnose(bad)
    assert str(diagnosis) in said
    assert len(diagnosis.problems()) == 3  # increment, temperature, outside
    assert all(problem in said for problem in diagnosis.problems())
    assert "25 % of the walkers' steps were outside the grid of the bias wl" in said
    assert "2 of 4 walkers have numbers that are not finite: 1, 3" in said
    assert f"recorded up to step {STEPS} of {10 * STEPS:,}; it was stopped" in said
    assert bad_page.index('id="warnings"') < bad_page.index("<nav") < bad_page.index("<table")
    assert "nothing of what is checked" not in read.text


def test_texts_of_the_run_do_not_become_markup(bad_page: str) -> None:
    assert "<script" not in bad_page
    assert "<i>" not in bad_page
    assert html.escape("<script>alert(1)</script>") in bad_page
    assert "b<i>d & co" in Reader(bad_page).text
    assert "A <b>bold</b> run & more." in Reader(bad_page).text


def test_hot_runs_without_a_diagnosis(folder: Path) -> None:
    """The tolerance is that of the monitor: 5 % of kT and 5 standard errors, 0.01 here."""
    from nnsim.running import monitor

    assert doubts.TOLERANCE == monitor.TOLERANCE
    for name, mean, hot in (("hot", 1.3, "too hot"), ("cold", 0.7, "too cold"), ("fine", 1.02, "")):
        writer = TrajectoryWriter.create(folder / f"{name}.zarr", header_of(parameters={"w": [2000]}))
        for frame in range(1, 101):
            writer.append("observables/kinetic_temperature", frame, 0.1 * frame, np.full(WALKERS, mean))
        writer.close()
        read = check_page(make(folder / f"{name}.zarr"))
        expected = f"the kinetic temperature over the last tenth is {mean:.3g} instead of kT = 1: {hot}"
        assert (expected in read.warnings()) if hot else not read.warnings()


def test_numbers_are_those_of_the_analysis(good: Trajectory, good_page: str) -> None:
    read = Reader(good_page)
    landscape = EntropyLandscape.from_trajectory(good)
    rows = read.tables["Entropy along ln_loss_train"][1:]
    assert len(rows) == 10
    along = landscape.marginal("ln_loss_train")
    for place, entropy in rows:
        assert number(entropy) == pytest.approx(along.at(ln_loss_train=number(place)), rel=1e-4, abs=1e-4)
    found = equilibrium(good, "ln_loss_train", "accuracy_test", width=1 / BINS).rows()
    shown = read.tables["Equilibrium mean of accuracy_test at given ln_loss_train"][1:]
    assert len(shown) == len(found)
    for row, expected in zip(shown, found, strict=True):
        assert row[1] == with_error(expected["mean_accuracy_test"], expected["standard_error"])
        assert number(row[0]) == pytest.approx(expected["ln_loss_train"], rel=1e-3)
    assert read.tables["Convergence"][1][:3] == ["good", "1e-05", str(diagnose(good).round_trips)]


@pytest.mark.slow
def test_several_runs_are_averaged_and_compared(good: Trajectory, folder: Path) -> None:
    others = [landscape_run(folder / f"other{seed}.zarr", seed=seed) for seed in (1, 2)]
    runs = [good, *others]
    read = check_page(make([good, *(run.path for run in others)]))
    mean = EntropyLandscape.average([EntropyLandscape.from_trajectory(run) for run in runs]).marginal("ln_loss_train")
    assert mean.error is not None
    for place, entropy in read.tables["Entropy along ln_loss_train"][1:]:
        index = mean.axes[0].bin_of(number(place))
        assert entropy == with_error(float(mean.entropy[index]), float(mean.error[index]))
    curve = mean_curve([equilibrium(run, "ln_loss_train", "accuracy_test", width=1 / BINS) for run in runs])
    assert curve.error is not None
    shown = read.tables["Equilibrium mean of accuracy_test at given ln_loss_train"][1:]
    for row, mean_of_runs, spread in zip(shown, curve.y[::-1], curve.error[::-1], strict=True):
        assert row[1] == with_error(float(mean_of_runs), float(spread))
    assert read.tables["Environment of the run"][0] == ["name", "good", "other1", "other2"]
    assert ["seed", "0", "1", "2"] in read.tables["Environment of the run"]
    assert [row[0] for row in read.tables["Convergence"][1:4]] == ["good", "other1", "other2"]
    assert "mean of 3 independent runs" in read.text
    assert not any("One run" in text for _, text in read.notices)
    shorter = landscape_run(folder / "shorter.zarr", seed=3, frames=FRAMES // 2)
    said = [notice.text for notice in notices_of([good, shorter])]
    assert any("the runs end at different steps (good: 600, shorter: 300)" in text for text in said)


def test_training_runs_show_their_ends_and_their_course(folder: Path) -> None:
    run = training_run(folder / "training.zarr")
    read = check_page(make(run))
    assert not read.notices
    assert "trained for 200 steps by gradient descent" in read.text
    rows = {row[0]: row for row in read.tables["At the end of the training, over 4 walkers"]}
    for name in ("loss_train", "accuracy_test"):
        last = run[name][-1]
        error = float(last.std(ddof=1) / math.sqrt(WALKERS))
        assert rows[name][1] == with_error(float(last.mean()), error)
        assert number(rows[name][3]) == pytest.approx(last.min(), rel=1e-4)
    assert "Training: mean of 4 walkers" in read.text
    assert "recorded no input script" in read.text
    together = check_page(make([run, training_run(folder / "training1.zarr", seed=1)]))
    assert "At the end of the training, over 8 walkers of 2 runs" in together.tables


@pytest.mark.slow
def test_what_cannot_be_drawn_is_named_and_the_rest_is_there(folder: Path) -> None:
    """A run shorter than its record of the bias: the diagnosis is not known, and some pictures are left out."""
    run = landscape_run(folder / "short.zarr", frames=3)
    read = check_page(make(run))
    assert "Left out: " in " ".join(text for _, text in read.notices)
    assert "Entropy along ln_loss_train" in read.tables


def test_long_records_are_thinned_and_the_page_says_so(good: Trajectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_runs, "MOST_NUMBERS", FRAMES * WALKERS // 2)
    runs = report_runs.Runs(good)
    assert runs.stride == 2
    assert len(runs.light[0]["accuracy_test"]) == FRAMES // 2
    assert len(runs.light[0].bias("wl").snapshots["potential"]) == 6  # all of them
    assert any("only about one frame in 2" in notice.text for notice in notices_of(good))


def test_numbers_with_errors() -> None:
    assert with_error(0.123456, 0.0123) == "0.123 ± 0.012"
    assert with_error(-11010.0, 1279.0) == "−11000 ± 1300"
    assert with_error(2.0, math.nan) == "2"
    assert with_error(math.nan, 1.0) == "not known"
    assert [nice(width) for width in (0.011, 0.2, 0.21, 9.0, math.nan)] == pytest.approx([0.02, 0.2, 0.5, 10, 1])


# ----------------------------------------------------------------------------------------------- what is refused


def test_what_is_refused(good: Trajectory, folder: Path) -> None:
    empty = TrajectoryWriter.create(folder / "empty.zarr", header_of())
    empty.close()
    with pytest.raises(InputError, match=r"empty\.zarr has no frame yet.*run longer than.*10 steps"):
        make(folder / "empty.zarr")
    with pytest.raises(InputError, match="no run was given"):
        make([])
    with pytest.raises(InputError, match="the same trajectory twice"):
        make([good.path, good.path])
    with pytest.raises(InputError, match="different biases"):
        make([good, training_run(folder / "unlike.zarr")])
    with pytest.raises(InputError, match="different networks"):
        make([training_run(folder / "a.zarr"), training_run(folder / "b.zarr", parameters={"w": [3]})])
    with pytest.raises(TrajectoryError, match="does not exist"):
        make(folder / "nowhere.zarr")
    with pytest.raises(TrajectoryError, match="no bias 'other'"):
        make(good, bias="other")


def test_reports_are_replaced_and_other_files_are_not(folder: Path, tmp_path: Path) -> None:
    run = training_run(folder / "kept.zarr")
    path = tmp_path / "deep" / "report.html"
    assert write(run, path) == path
    first = path.read_text()
    assert nnsim("report", run.path, "-o", path, "--title", "new").status == 0
    assert "<h1>new</h1>" in path.read_text() != first
    notes = tmp_path / "notes.html"
    notes.write_text("mine")
    assert "notes.html exists and is no report of nnsim" in error_of("report", run.path, "-o", notes)
    assert notes.read_text() == "mine"
    assert nnsim("report", run.path, "-o", notes, "--overwrite").status == 0
    assert reports.is_report(notes)
    assert "is a folder" in error_of("report", run.path, "-o", tmp_path, "--overwrite")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["deep", "notes.html"]


def test_the_default_name_and_the_line_it_prints(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = training_run(folder / "plain.zarr")
    monkeypatch.chdir(tmp_path)
    result = nnsim("report", run.path)
    assert result.status == 0
    assert re.fullmatch(r"report: plain\.html, 0\.\d+ MB\n", result.out)
    assert (tmp_path / "plain.html").is_file()
    assert "input.zarr" in nnsim("--help").out


@pytest.mark.slow
def test_a_report_needs_no_torch(folder: Path) -> None:
    run = training_run(folder / "light.zarr")
    code = "import sys, nnsim.report as r; r.make(sys.argv[1]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(run.path)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


# ------------------------------------------------------------------------------------------------------ real runs


WINDOWS = ("--steps", "4000", "--set", "windows=8", "--set", "lowest=-0.3", "--set", "stiffness=100")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "tables"),
    [
        (
            "spiral_umbrella.py",
            WINDOWS,
            "S along ln_loss_train",
        ),
        ("spiral_metadynamics.py", ("--steps", "200"), "Entropy along ln_loss_train"),
        ("spiral_training.py", ("--steps", "200", "--set", "runs=5"), "At the end of the training, over 5 walkers"),
    ],
)
def test_reports_of_examples(script: str, options: tuple[str, ...], tables: str, tmp_path: Path) -> None:
    run = tmp_path / "run.zarr"
    ran = nnsim("run", EXAMPLES / script, *options, "-o", run)
    assert ran.status == 0, ran.err
    result = nnsim("report", run, "-o", tmp_path / "run.html")
    assert result.status == 0, result.err
    read = check_page((tmp_path / "run.html").read_text())
    assert tables in read.tables
    assert (EXAMPLES / script).read_text() in read.text


def test_hardly_overlapping_windows_are_named(tmp_path: Path) -> None:
    run = tmp_path / "run.zarr"
    options = ("--steps", "4000", "--set", "windows=3", "--set", "lowest=-1", "--set", "stiffness=4000")
    assert nnsim("run", EXAMPLES / "spiral_umbrella.py", *options, "-o", run).status == 0
    assert "have no frames in common with the others" in check_page(make(run)).warnings()


# ---------------------------------------------------------------------------------------------------- the browser

WIDTHS = (320, 390, 1280)
PROBE = """<!doctype html><title>probe</title>
FRAMES
<pre id=out></pre>
<script>
function measured(frame) {
  var inner = frame.contentDocument, root = inner.documentElement;
  function all(what) { return Array.from(inner.querySelectorAll(what)); }
  return {
    width: root.clientWidth, scroll: root.scrollWidth, title: inner.title,
    outside: all("main *").filter(function (one) {
      return !one.closest(".scroll") && !one.closest("pre") && one.getBoundingClientRect().right > root.clientWidth + 1;
    }).map(function (one) { return one.outerHTML.slice(0, 80); }),
    pictures: all("img").map(function (one) { return one.complete && one.naturalWidth > 0; }),
    letters: all("p, td, dd, li").map(function (one) {
      return parseFloat(frame.contentWindow.getComputedStyle(one).fontSize); }),
    scrolling: all(".scroll").map(function (one) { return one.scrollWidth - one.clientWidth; })
  };
}
addEventListener("load", function () {
  var frames = Array.from(document.querySelectorAll("iframe"));
  document.getElementById("out").textContent = JSON.stringify(frames.map(measured));
});
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: only the HTML was checked, not how a browser lays it out")
def test_no_window_scrolls_sideways(bad: Trajectory, good: Trajectory, tmp_path: Path) -> None:
    """In a browser, in a frame as wide as a telephone: wide tables scroll in their own boxes, and the page does not."""
    assert CHROMIUM
    page = html.escape(make([good, bad], title="a" * 200))
    frames = [f'<iframe style="width:{width}px;height:4000px;border:0" srcdoc="{page}"></iframe>' for width in WIDTHS]
    (tmp_path / "probe.html").write_text(PROBE.replace("FRAMES", "\n".join(frames)))
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         "--hide-scrollbars", "--virtual-time-budget=5000", "--dump-dom", (tmp_path / "probe.html").as_uri()],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = re.search(r'<pre id="out">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    for width, measured in zip(WIDTHS, json.loads(html.unescape(found[1])), strict=True):
        assert measured["width"] == measured["scroll"] == width
        assert measured["outside"] == []
        assert measured["title"] == "a" * 200  # the script in the script's text did not run
        assert len(measured["pictures"]) >= 7
        assert all(measured["pictures"])
        assert min(measured["letters"]) >= 14
        assert (max(measured["scrolling"]) > 0) == (width < 1000)  # there was something to keep inside


def test_warnings_of_the_library_are_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    from nnsim.report.numbers import Numbers

    def noisy(self: Any) -> list[Any]:
        warnings.warn("something is <odd>", NNSimWarning, stacklevel=2)
        return []

    run = training_run(folder / "noisy.zarr")
    monkeypatch.setattr(Numbers, "recorded", noisy)
    assert "something is <odd>" in Reader(make(run)).warnings()
