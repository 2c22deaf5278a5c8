"""What mkdocs makes of the code: pages of the reference and of the examples; and a site that fetches nothing.

Tables that benchmarks have made are copied into it.
"""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import click
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
LAID_OUT = ROOT / "build" / "docs"
# Rooms of the engine, whose public names are on the page of `nnsim` or `nnsim.analysis`.
INTERNAL = {"cli", "grid", "identity", "networks", "platforms", "random", "running", "trajectory"}
FOREIGN = re.compile(
    r"<(?:script|img|iframe|source|video)[^>]+src=\"?(?:https?:)?//"
    r"|<link[^>]+rel=\"?(?:stylesheet|preconnect|preload)[^>]+href=\"?(?:https?:)?//"
)
MODULES = [  # beside the packages
    "nnsim.schedules",
    "nnsim.integrators.pieces",
    "nnsim.random.streams",
    "nnsim.trajectory.selection",
]


# ---------------------------------------------------------------- what there is


def packages() -> dict[str, Path]:
    """Import name -> folder of each package, the pluggable folders that stand beside the engine included."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    homes = settings["package-dir"]

    def folder(name: str) -> Path:
        if name in homes:
            return ROOT / homes[name]
        parent, _, last = name.rpartition(".")
        return folder(parent) / last

    return {name: folder(name) for name in settings["packages"]}


def documented() -> list[str]:
    """Import names that get a page of the reference."""
    return [name for name in packages() if not _is_internal(name)] + MODULES


def _is_internal(name: str) -> bool:
    return name.startswith("nnsim.analysis.") or bool(INTERNAL & set(name.split(".")[1:2]))


def examples() -> list[Path]:
    """The example scripts."""
    return sorted((ROOT / "examples").glob("*.py"))


def results() -> list[Path]:
    """The tables that benchmarks have made."""
    return sorted((ROOT / "benchmarks" / "results").glob("*.csv"))


# ---------------------------------------------------------------- pages


def reference_page(name: str) -> str:
    """The page of a package: what its module says, and every public name."""
    module = importlib.import_module(name)
    public = sorted(getattr(module, "__all__", []), key=lambda one: (one.isupper(), one.islower(), one.lower()))
    # a function that is called like its file hides it from users, and is hidden by it from the parser
    hidden = [one for one in public if name in packages() and (packages()[name] / f"{one}.py").exists()]
    members = [one for one in public if one not in hidden]
    lines = [f"::: {name}", *([f"    options: {{members: {members}}}"] if members else []), ""]
    for one in hidden:
        lines += [f"::: {name}.{one}.{one}", "    options: {heading_level: 2, show_root_full_path: false}", ""]
    return "\n".join(lines)


def cli_page() -> str:
    """Every command with its help and its options, from click."""
    from nnsim.cli import cli

    return "# Command line\n\n" + "\n".join(_commands(click.Context(cli, info_name="nnsim", **cli.context_settings)))


def _commands(context: click.Context) -> list[str]:
    command = context.command
    level = "#" * min(3, 1 + len(context.command_path.split()))
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"{level} {context.command_path}", "", f"    {context.command_path} {usage}", "", *_help(command), ""]
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [record for record in records if record and record[1]]
    if rows:
        lines += ["| option | |", "|---|---|", *(f"| `{option}` | {_cell(text)} |" for option, text in rows), ""]
    if isinstance(command, click.Group):
        for name, child in sorted(command.commands.items()):
            lines += _commands(click.Context(child, info_name=name, parent=context))
    return lines


def _help(command: click.Command) -> list[str]:
    """Paragraphs of the help; those after a backspace keep their lines, as click prints them."""
    lines = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        if paragraph.startswith("\b\n"):
            first, *rest = paragraph[2:].splitlines()
            heading, code = ([first, ""], rest) if first == first.strip() else ([], [first, *rest])
            lines += [*heading, *textwrap.indent(textwrap.dedent("\n".join(code)), "    ").splitlines(), ""]
        else:
            lines += [_escaped(paragraph), ""]
    return lines


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("|", "&#124;").replace("*", r"\*")


def _cell(text: str) -> str:
    return _escaped(" ".join(text.split())).replace("_", r"\_")


def example_page(path: Path) -> str:
    """An example script to read."""
    return f"# {path.name}\n\n```python\n{path.read_text(encoding='utf-8')}```\n"


# ---------------------------------------------------------------- events of mkdocs


def on_startup(command: str, dirty: bool) -> None:
    """Lay the package out as it is imported, for the parser of the docstrings."""
    shutil.rmtree(LAID_OUT, ignore_errors=True)
    for name, folder in packages().items():
        home = LAID_OUT.joinpath(*name.split("."))
        home.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("*.py"):
            shutil.copy(file, home)


def on_config(config: Any) -> Any:
    """Append the reference and the examples to the navigation."""
    reference = [{"Command line": "reference/cli.md"}, *({name: f"reference/{name}.md"} for name in documented())]
    scripts = [{path.name: f"examples/{path.stem}.md"} for path in examples()]
    *pages, cite = config.nav
    config.nav = [*pages, {"Reference": reference}, {"Examples": scripts}, cite]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Make the pages that come from the code, and add the tables of benchmarks."""
    made = {"reference/cli.md": cli_page()}
    made |= {f"reference/{name}.md": reference_page(name) for name in documented()}
    made |= {f"examples/{path.stem}.md": example_page(path) for path in examples()}
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    for path in results():
        files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to scripts and tables, as they work in the repository, lead to where they are in the site."""
    up = "../" * page.file.src_uri.count("/")
    markdown = re.sub(r"\]\((?:\.\./)+benchmarks/results/(\w+\.csv)\)", rf"]({up}results/\1)", markdown)
    return re.sub(r"\]\((?:\.\./)+examples/(\w+)\.py\)", rf"]({up}examples/\1.md)", markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuse a page that would fetch something from elsewhere when it is read."""
    foreign = FOREIGN.search(output)
    if foreign:
        raise PluginError(f"{page.file.src_uri} fetches from elsewhere: {foreign[0]}")
    return output
