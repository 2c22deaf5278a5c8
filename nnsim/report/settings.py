"""How runs were made: settings, environment, script, and the command that repeats them."""

from __future__ import annotations

import ast
import math
import shlex
from collections.abc import Mapping
from typing import Any

from nnsim.report.blocks import Block, Folded, Section, Table, Text, number
from nnsim.report.runs import Runs

ELEMENTS = 12  # of a longer list only the first and the last ones are shown
LONGEST = 200  # letters of a value
SHAPES_SHOWN = 60


def settings_section(runs: Runs) -> Section:
    """The script's settings, and all parts with theirs."""
    blocks: list[Block] = []
    if any(header.get("settings") for header in runs.headers):
        blocks.append(_compared("Settings of the script", runs, lambda header: header.get("settings")))
    else:
        blocks.append(Text("No settings of a script were recorded: the run was made from Python."))
    parts: dict[str, Any] = {"System": "system", "Integrator": "integrator", "Recording": "recording"}
    for title, key in parts.items():
        blocks.append(_compared(title, runs, lambda header, key=key: _without_shapes(header.get(key))))
    for name in runs.biases:
        blocks.append(_compared(f"Bias {name}", runs, lambda header, name=name: (header.get("bias") or {}).get(name)))
    blocks.append(_shapes(runs))
    return Section("Settings", [one for one in blocks if not (isinstance(one, Table) and not one.rows)])


def environment_section(runs: Runs) -> Section:
    """Versions, threads and machine."""
    from nnsim import __version__

    def around(header: Mapping[str, Any]) -> dict[str, Any]:
        versions = dict(header.get("versions") or {})
        keys = ("machine", "cores", "threads", "precision", "platform", "platform_reason", "seed", "run")
        return {**versions, **{key: header[key] for key in keys if header.get(key) is not None}}

    table = _compared("Environment of the run", runs, around)
    rows = [*table.rows, ["nnsim of this page", *[__version__] * (len(table.columns) - 1)]]
    return Section("Environment", [Table(table.caption, table.columns, rows)])


def reproduce_section(runs: Runs) -> Section:
    """The command, and the script."""
    header = runs.header
    script = header.get("script")
    if not script:
        text = "The run was made from Python and recorded no input script, so no command repeats it."
        return Section("How to reproduce", [Text(text)])
    name = runs.names[0].replace("/", "_") + ".py"
    blocks: list[Block] = [Text(f"Save the script below as {name}, then:"), Text(_commands(runs, name), code=True)]
    length = "" if header.get("target") is not None else " The length is that of the last recorded frame."
    same = "On the same versions, threads and kind of machine the run comes out the same bit for bit."
    if header.get("changes"):
        same = "The run was changed along the way, see above; what stands here is how it ended."
    blocks.append(Text(f"{same}{length}"))
    blocks.append(Folded(f"The input script ({len(script.splitlines())} lines)", script))
    others = {one.get("script") for one in runs.headers} - {script}
    blocks += [Folded("Another run's script, which differs", other) for other in others if other]
    earlier = [(one["step"], one["script"]) for one in header.get("changes") or () if one.get("script")]
    blocks += [Folded(f"The input script up to step {step:,}", text) for step, text in earlier]
    return Section("How to reproduce", blocks)


def about_script(runs: Runs) -> str:
    """The first sentence of what the script says of itself."""
    try:
        said = ast.get_docstring(ast.parse(runs.header.get("script") or "")) or ""
    except (SyntaxError, ValueError):
        return ""
    return " ".join(said.split("\n\n")[0].split())


def _commands(runs: Runs, script: str) -> str:
    lines = []
    for name, run, header in zip(runs.names, runs.all, runs.headers, strict=True):
        parts = ["nnsim", "run", script]
        for key, value in (header.get("settings") or {}).items():
            parts += ["--set", f"{key}={_typed(value)}"]
        parts += ["--steps", str(header.get("target") or run.steps), "-o", f"{name.rsplit('/')[-1]}.zarr"]
        lines.append(" ".join(shlex.quote(part) for part in parts))
    return "\n".join(lines)


def _typed(value: Any) -> str:
    """A setting as it is written after --set."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(_typed(one) for one in value)
    return repr(value) if isinstance(value, float) else str(value)


# ---------------------------------------------------------------------- tables of settings


def _compared(caption: str, runs: Runs, of: Any) -> Table:
    """Names and values; where runs differ, a column for each of them."""
    flat = [_flat(of(header) or {}) for header in runs.headers]
    names = list(dict.fromkeys(name for one in flat for name in one))
    values = [[one.get(name, "none") for one in flat] for name in names]
    if len(runs.all) == 1 or all(len(set(row)) == 1 for row in values):
        return Table(caption, ("name", "value"), [[name, row[0]] for name, row in zip(names, values, strict=True)])
    return Table(caption, ("name", *runs.names), [[name, *row] for name, row in zip(names, values, strict=True)])


def _flat(values: Mapping[str, Any], start: str = "") -> dict[str, str]:
    """Nested settings as `place.name` and text."""
    found: dict[str, str] = {}
    for key, value in values.items():
        name = f"{start}{key}"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{name}.")
        elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
            for place, one in enumerate(value):
                found |= _flat(one if isinstance(one, Mapping) else {"value": one}, f"{name}.{place}.")
        else:
            found[name] = _shown(value)
    return found


def _shown(value: Any) -> str:
    if isinstance(value, list):
        texts = [_shown(one) for one in value]
        if len(texts) > ELEMENTS:
            texts = [*texts[: ELEMENTS - 2], "...", texts[-1], f"({len(value)} values)"]
        return ", ".join(texts)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:.10g}" if isinstance(value, float) else str(value)
    return text if "\n" in text or len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _without_shapes(part: Any) -> Any:
    """Settings of a part, without the shapes of parameters, which have a table of their own."""
    if not isinstance(part, Mapping):
        return {}
    return {name: value for name, value in part.items() if name != "parameters"}


def _shapes(runs: Runs) -> Table:
    shapes = runs.header.get("parameters") or {}
    rows = [[name, " × ".join(map(str, shape)) or "1", number(math.prod(shape))] for name, shape in shapes.items()]
    note = f"{len(rows) - SHAPES_SHOWN} more tensors." if len(rows) > SHAPES_SHOWN else ""
    return Table(f"Parameters, {runs.size:,} in all", ("tensor", "shape", "numbers"), rows[:SHAPES_SHOWN], note)
