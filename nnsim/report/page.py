"""A report as one HTML page that needs nothing else: own style, pictures inside, no scripts."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from itertools import groupby

from nnsim.errors import printable
from nnsim.report.blocks import WARNING, Block, Folded, Notice, Page, Picture, Section, Table, Text

MARK = '<meta name="generator" content="nnsim report">'
"""Tells a report from other files, which are not overwritten."""
# Scripts and everything from elsewhere are forbidden to the browser, should something slip through the escaping.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --soft: #5a6470; --line: #d5dae0; --band: #f4f6f8;
  --link: #0072b2; --warn: #a33b00; --warn-band: #fff3ec; --note: #0072b2; --note-band: #eef6fb; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --paper: #16191d; --soft: #a3adb8; --line: #39414a; --band: #1f242a; --link: #56b4e9;
    --warn: #ff9d66; --warn-band: #33211a; --note: #7cc4f0; --note-band: #17262f; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.25rem 1rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .75rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
p { margin: .5rem 0; max-width: 44rem; }
a { color: var(--link); }
.lead { font-size: 1.05rem; }
nav { margin: .75rem 0 0; display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; }
nav a { padding: .3rem 0; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); gap: .6rem 1.2rem;
  margin: 1rem 0; }
dl.facts div { min-width: 0; border-left: 3px solid var(--line); padding-left: .6rem; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-variant-numeric: tabular-nums; }
.notices { list-style: none; margin: 0; padding: 0; display: grid; gap: .6rem; grid-template-columns: minmax(0, 1fr); }
.notices > li { border-left: 4px solid var(--note); background: var(--note-band); padding: .6rem .9rem;
  border-radius: 0 .3rem .3rem 0; }
.notices > li.warning { border-color: var(--warn); background: var(--warn-band); }
.notices strong { color: var(--note); }
.notices .warning strong { color: var(--warn); }
.notices ul { margin: .4rem 0 0; padding-left: 1.2rem; }
.tables { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 1.5rem 2.2rem; margin: 1rem 0; }
.table { flex: 0 1 auto; min-width: min(100%, 18.5rem); max-width: 100%; }
.table .small { width: 0; min-width: 100%; }
.scroll { overflow-x: auto; max-width: 100%; }
.scroll:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; min-width: min(100%, 18.5rem);
  font-variant-numeric: tabular-nums; font-size: .93rem; overflow-wrap: normal; }
caption { text-align: left; font-weight: 600; padding: 0 0 .35rem; }
th, td { padding: .3rem 1.1rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--soft); font-weight: 600; white-space: nowrap; }
tbody th { font-weight: 400; }
.numbers td, .numbers th { white-space: nowrap; }
.names tbody th { white-space: nowrap; }
.names td { white-space: pre-wrap; min-width: 11rem; max-width: 34rem; overflow-wrap: anywhere; }
@media (max-width: 32rem) { .names tbody th { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }
  .names td { min-width: 9rem; } }
.names td.lines { white-space: pre; max-width: none; }
.small { color: var(--soft); font-size: .9rem; }
.pictures { columns: 2 25rem; column-gap: 2rem; }
figure { margin: 0 0 1.75rem; break-inside: avoid; }
img { display: block; width: 100%; max-width: 40rem; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: .3rem; }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .35rem; }
pre { overflow-x: auto; max-width: 100%; margin: .5rem 0; padding: .8rem; background: var(--band); border-radius: .3rem;
  font: .85rem/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre.command { white-space: pre-wrap; }
summary { cursor: pointer; padding: .5rem 0; color: var(--link); }
@media print { details > pre { white-space: pre-wrap; } .scroll { overflow: visible; } }
""".strip()
NUMERIC = ("Settings", "Environment")  # sections whose tables hold names and texts rather than numbers


def render(page: Page) -> str:
    """The whole page. Every text in it is escaped."""
    sections = [section for section in page.sections if section.blocks]
    anchors = [f"s{place}" for place in range(len(sections))]
    links = "".join(
        f'<a href="#{anchor}">{escape(section.title)}</a>' for anchor, section in zip(anchors, sections, strict=True)
    )
    body = "\n".join(_section(section, anchor) for section, anchor in zip(sections, anchors, strict=True))
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in page.facts)
    said = "\n".join(f'<p class="lead">{escape(text)}</p>' for text in page.sentences if text)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{MARK}
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(page.title)}</title>
<style>
{STYLE}
</style>
</head>
<body>
<main>
<header>
<h1>{escape(page.title)}</h1>
{said}
<dl class="facts">{facts}</dl>
</header>
<section aria-labelledby="warnings">
<h2 id="warnings">Warnings</h2>
{_notices(page.notices)}
</section>
<nav aria-label="Sections">{links}</nav>
{body}
</main>
</body>
</html>
"""


def escape(text: str) -> str:
    """A text for HTML, which holds no markup of its own, nor anything that turns the order of letters round."""
    return html.escape(printable(text, keep="\n\t"))


def _notices(notices: Sequence[Notice]) -> str:
    doubtful = any(one.kind == WARNING for one in notices)
    none = "" if doubtful else "<p>None: nothing of what is checked speaks against these results.</p>"
    if not notices:
        return none
    items = []
    for one in notices:
        details = "".join(f"<li>{escape(text)}</li>" for text in one.details)
        listed = f"<ul>{details}</ul>" if details else ""
        items.append(
            f'<li class="{escape(one.kind)}"><strong>{escape(one.title)}:</strong> {escape(one.text)}{listed}</li>'
        )
    return none + '<ul class="notices">\n' + "\n".join(items) + "\n</ul>"


def _section(section: Section, anchor: str) -> str:
    """Tables, or pictures, that follow each other stand side by side where there is room."""
    parts = []
    kind = "names" if section.title in NUMERIC else "numbers"
    for group, blocks in groupby(section.blocks, key=_group):
        inner = "\n".join(_block(block, kind) for block in blocks)
        parts.append(f'<div class="{group}">\n{inner}\n</div>' if group else inner)
    heading = f'<h2 id="{anchor}">{escape(section.title)}</h2>'
    return "\n".join([f'<section aria-labelledby="{anchor}">', heading, *parts, "</section>"])


def _group(block: Block) -> str:
    return "pictures" if isinstance(block, Picture) else "tables" if isinstance(block, Table) else ""


def _block(block: Block, kind: str) -> str:
    if isinstance(block, Table):
        return _table(block, kind)
    if isinstance(block, Folded):
        return f"<details><summary>{escape(block.summary)}</summary><pre>{escape(block.text)}</pre></details>"
    if isinstance(block, Text):
        return f'<pre class="command">{escape(block.text)}</pre>' if block.code else f"<p>{escape(block.text)}</p>"
    return _picture(block)


def _table(table: Table, kind: str) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>' + "".join(map(_cell, rest)) + "</tr>" for first, *rest in table.rows
    )
    note = f'\n<p class="small">{escape(table.note)}</p>' if table.note else ""
    # the box scrolls sideways, and not the page; with a tabindex it does so from the keyboard too
    return (
        f'<div class="table"><div class="scroll" role="region" aria-label="{escape(table.caption)}" tabindex="0">\n'
        f'<table class="{kind}">\n<caption>{escape(table.caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>{note}</div>"
    )


def _cell(text: str) -> str:
    """Of several lines, which keep their form, or of one."""
    return f'<td class="lines">{escape(text)}</td>' if "\n" in text else f"<td>{escape(text)}</td>"


def _picture(picture: Picture) -> str:
    width, height = (int.from_bytes(picture.png[at : at + 4], "big") for at in (16, 20))
    code = base64.b64encode(picture.png).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{code}" width="{width}" height="{height}" '
        f'alt="{escape(picture.alt)}"><figcaption>{escape(picture.caption)}</figcaption></figure>'
    )
