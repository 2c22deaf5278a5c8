"""Input scripts: a Python file that defines `build(...) -> nnsim.Simulation`."""

from __future__ import annotations

import contextlib
import inspect
import linecache
import sys
import traceback
import types
import typing
from collections import abc
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnsim.errors import InputError, NNSimError

if TYPE_CHECKING:
    from nnsim.simulation import Simulation

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_UNTYPED: Any = int | float | str  # tried in this order
# What `3,4` becomes for an annotation that holds several values.
_SEVERAL: dict[Any, Callable[[list[Any]], Any]] = {
    tuple: tuple,
    list: list,
    set: set,
    frozenset: frozenset,
    abc.Sequence: tuple,
    abc.MutableSequence: list,
    abc.Set: frozenset,
    abc.MutableSet: set,
    abc.Iterable: tuple,
    abc.Collection: tuple,
}


class Script:
    """An input script, loaded.

    Args:
        path: the Python file.

    Attributes:
        path: the file.
        folder: the present one when the script was loaded, to which `path` is relative; the script may change it.
        text: its source.
        parameters: the keyword parameters of `build`, which are the script's settings.
        takes_any: whether `build` has `**kwargs`, so that a setting may have any name.

    Raises:
        InputError: the file is missing, cannot be run, or has no `build`, or one with positional-only parameters.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, Path.cwd()
        if not path.is_file():
            raise InputError(f"{path}: there is no such input script; check the path")
        try:
            self.text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as text ({error}); an input script is a Python file") from error
        if "\0" in self.text:
            raise InputError(
                f"{path}: holds a NUL byte, so it is no Python file; give the input script, or save it anew"
            )
        self.build = self._load()
        parameters = inspect.signature(self.build).parameters
        unnamed = [name for name, one in parameters.items() if one.kind is one.POSITIONAL_ONLY]
        if unnamed:
            raise InputError(
                f"{path}: build() takes {', '.join(unnamed)} by position only, but settings are passed by name; "
                "remove the / from its parameters"
            )
        self.takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        self.parameters = {name: one for name, one in parameters.items() if one.kind in kinds}

    def _load(self) -> Callable[..., Any]:
        module = types.ModuleType(f"nnsim_script_{self.path.stem}")
        module.__file__ = str(self.path.absolute())  # as Python does: the script may change the working directory
        # whoever asks for the source of a function gets the text that runs, even if the file is edited meanwhile
        for name in (str(self.path), module.__file__):
            linecache.cache[name] = (len(self.text), None, self.text.splitlines(keepends=True), name)
        sys.modules[module.__name__] = module  # dataclasses and pickles look their module up there
        sys.path.insert(0, str(self.path.parent.resolve()))  # a script may import its neighbours
        # the text that is recorded is what runs; Python's own import might run an older compiled copy of the file
        self._guarded(lambda: exec(compile(self.text, str(self.path), "exec"), module.__dict__))
        build = getattr(module, "build", None)
        if not callable(build):
            raise InputError(f"{self.path}: defines no function build(); write `def build(...) -> nnsim.Simulation`")
        return build

    def _guarded(self, action: Callable[[], Any]) -> Any:
        """Run code of the script; turn what it raises into one line that names the place."""
        try:
            return action()
        except NNSimError:
            raise
        except SyntaxError as error:
            raise InputError(f"{error.filename}, line {error.lineno}: syntax error: {error.msg}") from error
        except SystemExit as error:
            raise InputError(
                f"{self._place(error)}: the script called sys.exit({'' if error.code is None else repr(error.code)}); "
                "let build() return an nnsim.Simulation instead"
            ) from error
        except (Exception, GeneratorExit) as error:
            message = " ".join(str(error).split())
            raise InputError(f"{self._place(error)}: {type(error).__name__}: {message}".removesuffix(": ")) from error

    def _place(self, error: BaseException) -> str:
        """The file, and the innermost of its lines that led to the error."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if Path(frame.filename) == self.path]
        return f"{self.path}, line {own[-1].lineno}" if own else str(self.path)

    def settings(self, overrides: Sequence[str] = (), **defaults: Any) -> dict[str, Any]:
        """All settings of the script: its own defaults, changed by `name=value` texts.

        `defaults` are taken for parameters that the script has, and ignored otherwise.
        """
        values = {
            name: parameter.default
            for name, parameter in self.parameters.items()
            if parameter.default is not parameter.empty
        }
        values |= {name: value for name, value in defaults.items() if name in self.parameters and value is not None}
        for text in overrides:
            name, equals, value = text.partition("=")
            if not equals:
                raise InputError(f"--set {text}: write --set name=value")
            values[name] = self.value(name, value)
        missing = [name for name in self.parameters if name not in values]
        if missing:
            raise InputError(f"{self.path.name} needs a value for {', '.join(missing)}; use --set {missing[0]}=...")
        return values

    def value(self, name: str, text: str, option: str = "--set") -> Any:
        """The value that `text` stands for in the setting `name`; `option` is what messages say it was given with.

        Raises:
            InputError: no setting has this name, or the text is no value of its type.
        """
        if name in self.parameters:
            return convert(name, text, _hints(self.build).get(name), self.parameters[name].default, option)
        if self.takes_any:
            return convert(name, text, _UNTYPED, inspect.Parameter.empty, option)
        known = ", ".join(self.parameters) or "none"
        raise InputError(f"{option} {name}: {self.path.name} has no setting of this name; it has {known}")

    def simulation(self, settings: dict[str, Any]) -> Simulation:
        """Call `build` with these settings, and record them and the source in the simulation."""
        from nnsim.simulation import Simulation

        built = self._guarded(lambda: self.build(**settings))
        if not isinstance(built, Simulation):
            raise InputError(
                f"{self.path}: build() returned a {type(built).__name__}; it must return an nnsim.Simulation"
            )
        built.settings, built.script = settings, self.text
        return built

    def help(self) -> str:
        """The settings with their types and defaults, and the docstring of the script."""
        hints = _hints(self.build)
        doc = inspect.getdoc(sys.modules[self.build.__module__]) or inspect.getdoc(self.build) or ""
        lines = [*([doc.strip(), ""] if doc else []), f"Settings of {self.path.name}, changed by --set name=value:"]
        for name, parameter in self.parameters.items():
            kind = _type_name(hints.get(name), parameter.default)
            default = "required" if parameter.default is parameter.empty else f"default {parameter.default!r}"
            lines.append(f"  {name}  ({kind}; {default})")
        if self.takes_any:
            lines.append(f"  any other name  ({_type_name(_UNTYPED, inspect.Parameter.empty)})")
        return "\n".join(lines)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations that can be evaluated, each on its own; for the others the default's type is there."""
    space = getattr(inspect.unwrap(function), "__globals__", {})
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.annotation is parameter.empty:
            continue
        single = types.SimpleNamespace(__annotations__={name: parameter.annotation})
        with contextlib.suppress(Exception):
            found[name] = typing.get_type_hints(single, globalns=space)[name]
    # an annotation may be anything, such as a remark in words or a list
    return {name: hint for name, hint in found.items() if isinstance(hint, type) or typing.get_origin(hint)}


def convert(name: str, text: str, hint: Any, default: Any, option: str = "--set") -> Any:
    """The value that `text` stands for, by annotation or by the type of the default.

    `1e6` is an int where one is wanted, `3,4` a tuple (list, set), `none` None where the annotation or the default
    allows it.

    Raises:
        InputError: the text is no value of that type.
    """
    hint = _hint(hint, default)
    try:
        return _convert(text.strip(), hint)
    except Exception:  # a type of the script's own may raise anything
        raise InputError(
            f"{option} {name}={text}: {text!r} is no {_type_name(hint, default)}; give another value"
        ) from None


def _hint(hint: Any, default: Any) -> Any:
    """The annotation, completed by what the default tells."""
    if hint is None or hint is inspect.Parameter.empty:
        hint = str if default is inspect.Parameter.empty or default is None else type(default)
    if default is None and type(None) not in typing.get_args(hint) and hint is not Any:
        return hint | None
    if hint in _SEVERAL:  # bare, without the type of its elements
        return _of_elements(hint, default if isinstance(default, Collection) and not isinstance(default, str) else ())
    return hint


def _of_elements(kind: Any, values: Collection[Any]) -> Any:
    """`kind` with the type of the elements of a default."""
    found = {type(value) for value in values}
    element = float if found == {int, float} else found.pop() if len(found) == 1 else _UNTYPED
    return types.GenericAlias(kind, (element, ...) if kind is tuple else (element,))


def _convert(text: str, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _first_that_fits(text, arguments)
    if origin is typing.Literal:
        return next(value for value in arguments if str(value) == text) if text in map(str, arguments) else _fail()
    if hint is type(None):
        return None if text.lower() == "none" else _fail()
    if (origin or hint) in _SEVERAL:
        return _sequence(text, origin or hint, arguments)
    if hint is bool:
        return True if text.lower() in _TRUE else False if text.lower() in _FALSE else _fail()
    if hint is int:
        number = float(text)
        return int(text) if text.lstrip("+-").isdigit() else int(number) if number.is_integer() else _fail()
    return text if hint in (str, Any) else hint(text)


def _first_that_fits(text: str, hints: Sequence[Any]) -> Any:
    # `none` may also be a path or the only element of a tuple, and a str would take anything
    for hint in sorted(hints, key=lambda hint: (hint is not type(None), hint is str)):
        try:
            return _convert(text, hint)
        except (ValueError, TypeError):
            continue
    return _fail()


def _sequence(text: str, kind: Any, arguments: tuple[Any, ...]) -> Any:
    parts = [part for part in text.strip("()[]{} ").split(",") if part.strip()]
    if len(arguments) > 1 and arguments[-1] is not Ellipsis:
        if len(parts) != len(arguments):
            return _fail()
        values = [_convert(part.strip(), one) for part, one in zip(parts, arguments, strict=True)]
    else:
        element = arguments[0] if arguments else _UNTYPED
        values = [_convert(part.strip(), element) for part in parts]
    return _SEVERAL[kind](values)


def _fail() -> Any:
    raise ValueError


def _type_name(hint: Any, default: Any) -> str:
    hint = _hint(hint, default)
    return (
        hint.__name__
        if isinstance(hint, type) and typing.get_origin(hint) is None
        else str(hint).replace("typing.", "")
    )
