"""Every code block of the README and of docs/ works as it stands there, or says directly before it why it is not run.

A page is run from top to bottom in one namespace and in a folder of its own. `<!-- not run: REASON -->` before a block
leaves it out. A Python block with `title="NAME.py"` is a file, which the commands of the page run. Every line of other
blocks is a command `nnsim ...`; `text` is what a command prints, and `bibtex` is for citations.
"""

import glob
import html
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from command_line import nnsim

from nnsim import __version__, cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", flags=re.M | re.S)
REASON = re.compile(r"<!-- not run: \S.* -->\s*\Z")
COMMANDS = {"", "bash", "console", "sh"}
SHOWN = {"text", "bibtex"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it is to be, its text, the line where it begins, and whether it is run."""

    language: str
    title: str | None
    text: str
    line: int
    skipped: bool


def blocks(page: str) -> list[Block]:
    found = []
    for match in FENCE.finditer(page):
        language, _, rest = match[1].partition(" ")
        title = re.search(r'title="([^"]+)"', rest)
        before = page[: match.start()]
        skipped = REASON.search(before) is not None
        found.append(Block(language, title and title[1], match[2], before.count("\n") + 1, skipped))
    return found


def run_commands(text: str, where: str) -> None:
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if not words:
            continue
        assert words[0] == "nnsim", f"{where}: only nnsim is run, not {line!r}: mark the block as not run"
        result = nnsim(*(name for word in words[1:] for name in (sorted(glob.glob(word)) or [word])))
        assert result.status == 0, f"{where}: {line}\n{result.err}"


def run_block(block: Block, namespace: dict, where: str = "block") -> None:
    if block.skipped or block.language in SHOWN:
        return
    if block.language == "python" and block.title:
        Path(block.title).write_text(block.text, encoding="utf-8")
    elif block.language == "python":
        exec(compile("\n" * block.line + block.text, where, "exec"), namespace)
    else:
        assert block.language in COMMANDS, f"{where}: language {block.language!r} is not run: mark the block as not run"
        run_commands(block.text, where)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_blocks_of_the_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as for who types the blocks in that folder
    namespace: dict = {"__name__": "page"}
    try:
        for block in blocks(page.read_text(encoding="utf-8")):
            run_block(block, namespace, f"{page}:{block.line}")
    finally:
        for name in {Path(block).stem for block in os.listdir(tmp_path) if block.endswith(".py")}:
            sys.modules.pop(name, None)  # another page may have a file of that name


def test_every_fence_is_found_and_every_file_is_used():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found = blocks(text)
        assert text.count("```") == 2 * len(found), page
        files = [Path(block.title) for block in found if block.title]
        commands = "".join(block.text for block in found if block.language in COMMANDS)
        unused = [file for file in files if file.name not in commands and f"from {file.stem} import" not in text]
        assert unused == [], page


def test_links_and_pictures_are_there():
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        targets = [one for one in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in one]
        # the reference is made from the code when the site is built
        missing = [one for one in targets if not (page.parent / one).is_file() and "reference/" not in one]
        assert missing == [], page


def test_citations_are_of_this_version_and_name_both_papers():
    file, page = ((ROOT / name).read_text(encoding="utf-8") for name in ("CITATION.cff", "docs/cite.md"))
    assert f"\nversion: {__version__}\n" in file
    assert f"version = {{{__version__}}}" in page
    for number in ("2503.13145", "2410.07451"):
        assert f"https://arxiv.org/abs/{number}" in file
        assert f"https://arxiv.org/abs/{number}" in page


def test_checker_runs_and_refuses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hours, file, plain = "<!-- not run: takes hours -->\n\n```\nrm x\n```\n", "x = 1\n", "y = 2\n"
    page = f'{hours}\n```python title="a.py"\n{file}```\n\n```python\n{plain}```\n'
    first, second, third = blocks(page)
    assert (first.skipped, second.skipped, third.skipped) == (True, False, False)
    assert (second.title, third.line) == ("a.py", 11)
    namespace: dict = {}
    for block in (first, second, third):
        run_block(block, namespace)
    assert Path("a.py").read_text() == "x = 1\n"
    assert namespace["y"] == 2
    for wrong in ("```\nrm x\n```\n", "```yaml\nx: 1\n```\n", "```\nnnsim info no.zarr\n```\n"):
        with pytest.raises(AssertionError):
            run_block(blocks(wrong)[0], {})


needs_mkdocs = pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs the extra `docs`")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built where no address can be reached."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    nowhere = "http://127.0.0.1:9"
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "http_proxy": nowhere, "https_proxy": nowhere}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""  # no warnings
    return folder


@pytest.mark.slow
@needs_mkdocs
def test_site_has_every_page_and_fetches_nothing(site):
    pages = {page.relative_to(site): page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    assert {page.relative_to(ROOT / "docs").with_suffix(".html") for page in PAGES[1:]} <= set(pages)
    tables = {file.name for file in (ROOT / "benchmarks" / "results").glob("*.csv")}
    assert len(tables) > 3
    assert {file.name for file in (site / "results").iterdir()} == tables
    assert {Path("examples", f"{script.stem}.html") for script in (ROOT / "examples").glob("*.py")} <= set(pages)
    source = re.compile(r"<(?:script|img|iframe)[^>]+src=\"([^\"]+)|<link[^>]+stylesheet[^>]+href=\"([^\"]+)")
    for name, text in pages.items():
        assert [one for found in source.findall(text) for one in found if "//" in one] == [], name
    style = "".join(sheet.read_text(encoding="utf-8") for sheet in site.rglob("*.css"))
    assert re.findall(r"@import|url\([\"']?(?:https?:)?//", style) == []


@pytest.mark.slow
@needs_mkdocs
def test_reference_has_every_command_and_option(site):
    page = html.unescape((site / "reference" / "cli.html").read_text(encoding="utf-8"))

    def check(command: click.Command, path: str) -> None:
        assert f">{path}<a " in page, path
        for parameter in command.params:
            assert all(name in page for name in parameter.opts if name.startswith("-")), (path, parameter)
        for name, child in getattr(command, "commands", {}).items():
            check(child, f"{path} {name}")

    check(cli.cli, "nnsim")


@pytest.mark.slow
@needs_mkdocs
@pytest.mark.parametrize(
    "page", ["", ".analysis", ".bias", ".cv", ".cv.ntk", ".export", ".integrators", ".plotting", ".systems"]
)
def test_reference_has_every_public_name(site, page):
    text = (site / "reference" / f"nnsim{page}.html").read_text(encoding="utf-8")
    names = importlib.import_module(f"nnsim{page}").__all__
    homes = {name: (f'id="nnsim{page}.{name}"', f'id="nnsim{page}.{name}.{name}"') for name in names}  # or its file's
    assert [name for name, ids in homes.items() if not any(one in text for one in ids)] == []
