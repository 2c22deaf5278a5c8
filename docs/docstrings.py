"""What Markdown would misread in the docstrings, which are written to be read in the code."""

from __future__ import annotations

import re
from typing import Any

import griffe

SEVERAL = re.compile(r"^( {4})(\w+(?:, \w+)+)(: .*(?:\n {5,}.*)*)", flags=re.M)
COLUMNS = re.compile(r"\S {3,}\S")


def readable(text: str) -> str:
    """Equations in columns and what `>>>` begins become code, and `a[l][i]` does not become a link."""
    return "\n\n".join(map(_paragraph, text.split("\n\n")))


def _paragraph(text: str) -> str:
    begins = text.lstrip("\n")
    if begins.lstrip().startswith(">>> ") or (begins[:1].strip() and "|" not in text and COLUMNS.search(text)):
        return "\n".join(f"    {line}" for line in text.split("\n"))
    if begins.startswith(("Args:", "Attributes:")):
        text = SEVERAL.sub(_one_by_one, text)
    return re.sub(r"(`[^`]*`)|\]\[", lambda found: found[1] or r"]\[", text)


def _one_by_one(item: re.Match[str]) -> str:
    """Items for `a` and `b` of one for `a, b`, so that each has its type and its default."""
    indent, names, text = item.groups()
    return "\n".join(f"{indent}{name}{text}" for name in names.split(", "))


class Readable(griffe.Extension):
    """Changes every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)
