"""What functions say: their source without comments and docstrings, or their bytecode where there is no source.

A function is found in the text of its file by the place of its code, so that of several lambdas on one line each is
itself, and only if that text still compiles to this very code: a file that was edited since is not believed.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import dis
import hashlib
import linecache
import platform
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

# Settings that may change from a run to its resume: in the parameters of build, and where a Simulation is made.
LENGTH = ("steps", "output", "progress")
_FREE = (*LENGTH, "checkpoint_every", "reporters", "threads")
# What begins a function's code and stands outside its body.
_PRELUDE = ("RESUME", "COPY_FREE_VARS", "MAKE_CELL", "RETURN_GENERATOR", "CACHE", "NOP", "POP_TOP")
_MUTATORS = (
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "move_to_end", "pop", "popitem"),
    *("popleft", "remove", "reverse", "setdefault", "sort", "update"),
)
_LIBRARIES = {"nnsim", "torch", "numpy"}
_BY_PYTHON = 1 << 9  # flag of a class that was made by Python code, not in C
_MAIN = re.compile(r"^(nnsim_script_[^.]*|__main__)\.")


# -------------------------------------------------------------------------------------------------------- whose it is


def is_library(thing: Any) -> bool:
    """Whether a function or class is of nnsim, torch, numpy, Python or an installed package."""
    if isinstance(thing, FunctionType):  # a decorator may have given it the module of another one
        return is_library_module(str(thing.__globals__.get("__name__", "")))
    module = str(getattr(thing, "__module__", ""))
    if module == "builtins" and isinstance(thing, type):  # so is a class that exec() made in a module without a name
        return not thing.__flags__ & _BY_PYTHON
    return is_library_module(module)


@lru_cache(maxsize=4096)
def is_library_module(name: str) -> bool:
    """The same of a module."""
    top = name.partition(".")[0]
    if top in _LIBRARIES or name in sys.builtin_module_names:
        return True
    file = getattr(sys.modules.get(name) or sys.modules.get(top), "__file__", None)
    if file is None:
        return top in sys.stdlib_module_names
    place = Path(file)  # decides, since a module beside a script may have the name of one of Python's
    installed = {"site-packages", "dist-packages"} & set(place.parts)
    return bool(installed) or place.is_relative_to(sysconfig.get_paths()["stdlib"])


def is_nnsim(kind: type) -> bool:
    """Whether a class is one of nnsim's own."""
    return kind.__module__.partition(".")[0] == "nnsim"


def name_of(thing: Any) -> str:
    """Module and name; the module of a script, whose file may have another name, left out."""
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", type(thing).__qualname__)
    module = getattr(thing, "__module__", None)
    return without_script(f"{module}.{name}" if module else str(name))


def without_script(name: str) -> str:
    """A name without the module of a script."""
    return _MAIN.sub("", name)


def has_name(thing: FunctionType | type) -> bool:
    """Whether a function or class is what its name stands for in its module."""
    first, *inner = thing.__qualname__.split(".")
    found = _space(thing).get(first)
    for one in inner:
        found = vars(found).get(one) if isinstance(found, type) else None
    return found is thing


def _space(thing: FunctionType | type) -> dict[str, Any]:
    """The names of its module; by a method of a class, since another script of that name may have been loaded since."""
    if isinstance(thing, FunctionType):
        return thing.__globals__
    methods = (value for value in vars(thing).values() if isinstance(value, FunctionType) and not is_library(value))
    method = next(methods, None)
    return method.__globals__ if method is not None else vars(sys.modules.get(thing.__module__, builtins))


# ------------------------------------------------------------------------------------------------------------- source


def node_of(code: CodeType, space: dict[str, Any] | None = None) -> Node | None:
    """The syntax tree of a function, without docstrings, or None where its source is not there.

    Args:
        code: of the function.
        space: its globals, by which a module that is no file gives its source.
    """
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename, space))
    parsed = _parsed(code.co_filename, text) if text else None
    if parsed is None or (code.co_name, code.co_firstlineno, bytecode(code)) not in parsed[1]:
        return None
    found = [node for node in parsed[0].get(code.co_firstlineno, ()) if _named(node) == code.co_name]
    return found[0] if len(found) == 1 else _innermost(found, code)


@lru_cache(maxsize=64)
def _parsed(filename: str, text: str) -> tuple[dict[int, list[Node]], frozenset[tuple[str, int, str]]] | None:
    """Functions of a file by their first line, and name, line and bytecode of each; None if it does not compile."""
    try:
        with warnings.catch_warnings():  # of the compiler, which has given them before
            warnings.simplefilter("ignore")
            tree, code = ast.parse(text), compile(text, filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return None
    nodes: dict[int, list[Node]] = {}
    for node in ast.walk(_without_docstrings(tree)):
        if isinstance(node, Node):
            first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
            nodes.setdefault(first, []).append(node)
    return nodes, frozenset((one.co_name, one.co_firstlineno, bytecode(one)) for one in _all_code(code))


def _named(node: Node) -> str:
    return "<lambda>" if isinstance(node, ast.Lambda) else node.name


def _innermost(nodes: list[Node], code: CodeType) -> Node | None:
    """That of several functions on one line whose body holds all that the code does, the smallest of them."""
    places = [one.positions for one in dis.get_instructions(code) if one.opname not in _PRELUDE]
    ends = [
        ((one.lineno, one.col_offset), (one.end_lineno, one.end_col_offset))
        for one in places
        if one is not None and None not in one
    ]
    spans = [(start, end) for start, end in ends if start != end]
    if not spans:
        return None
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    fitting = [(body, node) for node in nodes if (body := _body(node))[0] <= first and last <= body[1]]
    return max(fitting, key=lambda pair: pair[0][0], default=(None, None))[1]


def _body(node: Node) -> tuple[Any, Any]:
    """Where the body of a function begins and ends, as (line, column)."""
    parts = node.body if isinstance(node.body, list) else [node.body]
    return (parts[0].lineno, parts[0].col_offset), (parts[-1].end_lineno, parts[-1].end_col_offset)


def _without_docstrings(tree: ast.AST) -> ast.AST:
    """The tree without strings that stand alone, in place."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                kept = [one for one in block if not _is_text(one)]
                empty = not kept and name == "body" and not isinstance(node, ast.Module)
                setattr(node, name, [ast.copy_location(ast.Pass(), node)] if empty else kept)
    return tree


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


# ----------------------------------------------------------------------------------------------------------- bytecode


@lru_cache(maxsize=4096)
def bytecode(code: CodeType) -> str:
    """A checksum of what a function does, without its place and docstring; that of another Python differs."""
    constants = list(code.co_consts)
    if constants and isinstance(constants[0], str) and not code.co_name.startswith("<"):
        constants[0] = None  # its docstring, or else None stands there
    said = (
        code.co_code,
        code.co_exceptiontable,
        [_constant(one) for one in constants],
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & 0xFF),
    )
    return hashlib.sha256(repr(said).encode(errors="surrogatepass")).hexdigest()[:16]


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return bytecode(value)
    if isinstance(value, frozenset):  # whose order differs from process to process
        return sorted(repr(_constant(one)) for one in value)
    return [_constant(one) for one in value] if isinstance(value, tuple) else value


def python() -> str:
    """The Python that made a bytecode."""
    return ".".join(platform.python_version_tuple()[:2])


def _all_code(code: CodeType) -> Iterator[CodeType]:
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _all_code(one)


# -------------------------------------------------------------------------------------------------------------- names


def global_names(code: CodeType) -> tuple[set[str], set[str]]:
    """Names of globals that a function reads, functions inside it included, and of the attributes it takes of things.

    Globals and variables of functions around it that it assigns itself change along the run, and are left out.
    """
    read, assigned, attributes = set(), set(), set()
    for one in _all_code(code):
        for step in dis.get_instructions(one):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                read.add(step.argval)
            elif step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_NAME"):
                assigned.add(step.argval)
            elif step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                attributes.add(step.argval)
    return read - assigned, attributes


def reassigned(code: CodeType) -> set[str]:
    """Names of variables of the functions around it that a function assigns."""
    found = {
        step.argval for one in _all_code(code) for step in dis.get_instructions(one) if step.opname == "STORE_DEREF"
    }
    return found & set(code.co_freevars)


def mutated(nodes: Iterable[ast.AST]) -> set[str]:
    """Names of things that these functions change in place: by `x[i] = ...`, `x.append(...)`, `x.add_(...)`."""
    return {target.id for target in _targets(nodes) if isinstance(target, ast.Name)}


def changed_attributes(nodes: Iterable[Node]) -> tuple[set[str], set[str]]:
    """Names of the attributes of their own object that methods set, and of those that they change in place."""
    nodes = list(nodes)
    owners = {node.args.args[0].arg for node in nodes if node.args.args}

    def own(expression: ast.AST) -> bool:
        return (
            isinstance(expression, ast.Attribute)
            and isinstance(expression.value, ast.Name)
            and expression.value.id in owners
        )

    assigned = {one.attr for one in _assigned(nodes) if isinstance(one, ast.Attribute) and own(one)}
    inside = {one.attr for one in _targets(nodes) if isinstance(one, ast.Attribute) and own(one)}
    return assigned, inside


def own_calls(nodes: Iterable[Node]) -> set[str]:
    """Names of the methods of their own object that methods call."""
    return {
        inner.func.attr
        for node in nodes
        for inner in ast.walk(node)
        if isinstance(inner, ast.Call)
        and isinstance(inner.func, ast.Attribute)
        and isinstance(inner.func.value, ast.Name)
        and node.args.args
        and inner.func.value.id == node.args.args[0].arg
    }


def _assigned(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Every expression that is assigned to or deleted."""
    for node in nodes:
        for inner in ast.walk(node):
            if isinstance(getattr(inner, "ctx", None), (ast.Store, ast.Del)):
                yield inner


def _targets(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """What holds an element that is assigned, or has a method called that changes it."""
    nodes = list(nodes)
    for one in _assigned(nodes):
        while isinstance(one, ast.Subscript):
            one = one.value
            yield one
    for node in nodes:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and _mutates(inner.func.attr):
                yield inner.func.value


def _mutates(name: str) -> bool:
    return name in _MUTATORS or (name.endswith("_") and not name.endswith("__"))


# ---------------------------------------------------------------------------------------------------------- comparing


def same_code(old: str, new: str) -> bool:
    """Whether two texts have the same syntax tree."""
    if old == new:
        return True
    try:
        return ast.dump(ast.parse(old)) == ast.dump(ast.parse(new))
    except (SyntaxError, ValueError, RecursionError):
        return False


def script_code(text: str) -> str | None:
    """An input script without what may change: comments, docstrings, its length and output, what only Python runs.

    None for a text that this Python cannot read.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None
    _without_docstrings(tree)
    tree.body = [node for node in tree.body if not _only_by_python(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "build":
            _forget_length(node.args)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Simulation":
            node.keywords = [one for one in node.keywords if one.arg not in _FREE]
    return ast.unparse(tree)


def _only_by_python(node: ast.AST) -> bool:
    """Whether it is the part below `if __name__ == "__main__":`, which nnsim run leaves out."""
    return isinstance(node, ast.If) and not node.orelse and ast.unparse(node.test) == "__name__ == '__main__'"


def _forget_length(arguments: ast.arguments) -> None:
    """Take off the defaults of the length and the like; those of settings are compared by their values as well."""
    positional = [*arguments.posonlyargs, *arguments.args][-len(arguments.defaults) :] if arguments.defaults else []
    for place, one in enumerate(positional):
        if one.arg in LENGTH:
            arguments.defaults[place] = ast.Constant(None)
    for place, one in enumerate(arguments.kwonlyargs):
        if one.arg in LENGTH and arguments.kw_defaults[place] is not None:
            arguments.kw_defaults[place] = ast.Constant(None)


def changed_lines(old: str, new: str) -> list[tuple[str, str]]:
    """Pairs of lines of two texts that differ, `""` where one of them has none."""
    before, now = ([line.strip() for line in text.splitlines()] for text in (old, new))
    found: list[tuple[str, str]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, now, autojunk=False).get_opcodes():
        if kind != "equal":
            length = max(b - a, d - c)
            pairs = ((before[a:b] + [""] * length)[:length], (now[c:d] + [""] * length)[:length])
            found += zip(*pairs, strict=True)
    return found
