"""Input scripts: a Python file that defines `build(...) -> nnsim.Simulation`."""

from __future__ import annotations

import inspect
import sys
import traceback
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnsim.errors import InputError, NNSimError

if TYPE_CHECKING:
    from nnsim.simulation import Simulation

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class Script:
    """An input script, loaded.

    Args:
        path: the Python file.

    Attributes:
        path: the file.
        text: its source.
        parameters: the keyword parameters of `build`, which are the script's settings.

    Raises:
        InputError: the file is missing, cannot be run, or has no `build`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise InputError(f"{path}: there is no such input script; check the path")
        try:
            self.text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as text ({error}); an input script is a Python file") from error
        self.build = self._load()
        self.parameters = dict(inspect.signature(self.build).parameters)

    def _load(self) -> Callable[..., Any]:
        module = types.ModuleType(f"nnsim_script_{self.path.stem}")
        module.__file__ = str(self.path)
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
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in frames if Path(frame.filename) == self.path]
            line = f", line {own[-1].lineno}" if own else ""
            message = " ".join(str(error).split())
            raise InputError(f"{self.path}{line}: {type(error).__name__}: {message}") from error

    def settings(self, overrides: Sequence[str] = (), **defaults: Any) -> dict[str, Any]:
        """All settings of the script: its own defaults, changed by `name=value` texts.

        `defaults` are taken for parameters that the script has, and ignored otherwise.
        """
        hints = _hints(self.build)
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
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise InputError(f"--set {name}: {self.path.name} has no setting of this name; it has {known}")
            values[name] = convert(name, value, hints.get(name), self.parameters[name].default)
        missing = [
            name
            for name, parameter in self.parameters.items()
            if name not in values and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        ]
        if missing:
            raise InputError(f"{self.path.name} needs a value for {', '.join(missing)}; use --set {missing[0]}=...")
        return values

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
        return "\n".join(lines)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # an annotation that cannot be evaluated is not worth failing for: the default's type is there
        return {}


def convert(name: str, text: str, hint: Any, default: Any) -> Any:
    """The value that `text` stands for, by annotation or by the type of the default.

    `1e6` is an int where one is wanted, `3,4` a tuple, `none` None where the annotation or the default allows it.

    Raises:
        InputError: the text is no value of that type.
    """
    hint = _hint(hint, default)
    try:
        return _convert(text.strip(), hint)
    except (ValueError, TypeError):
        raise InputError(
            f"--set {name}={text}: {text!r} is no {_type_name(hint, default)}; give another value"
        ) from None


def _hint(hint: Any, default: Any) -> Any:
    """The annotation, or what can be told from the default."""
    if hint is not None and hint is not inspect.Parameter.empty:
        return hint
    if default is None:
        return str | None
    if default is inspect.Parameter.empty:
        return str
    if isinstance(default, (tuple, list)) and default:
        return types.GenericAlias(type(default), (type(default[0]), ...))
    return type(default)


def _convert(text: str, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _first_that_fits(text, arguments)
    if origin is typing.Literal:
        return next(value for value in arguments if str(value) == text) if text in map(str, arguments) else _fail()
    if hint is type(None):
        return None if text.lower() == "none" else _fail()
    if hint in (tuple, list) or origin in (tuple, list) or (origin is not None and origin.__name__ == "Sequence"):
        return _sequence(text, origin or hint, arguments)
    if hint is bool:
        return True if text.lower() in _TRUE else False if text.lower() in _FALSE else _fail()
    if hint is int:
        number = float(text)
        return int(text) if text.lstrip("+-").isdigit() else int(number) if number.is_integer() else _fail()
    return text if hint in (str, Any) else hint(text)


def _first_that_fits(text: str, hints: Sequence[Any]) -> Any:
    for hint in sorted(hints, key=lambda hint: hint is str):  # a str would take anything
        try:
            return _convert(text, hint)
        except (ValueError, TypeError):
            continue
    return _fail()


def _sequence(text: str, kind: Any, arguments: tuple[Any, ...]) -> Any:
    parts = [part for part in text.strip("()[] ").split(",") if part.strip()]
    if len(arguments) > 1 and arguments[-1] is not Ellipsis:
        if len(parts) != len(arguments):
            return _fail()
        values = [_convert(part.strip(), one) for part, one in zip(parts, arguments, strict=True)]
    else:
        element = arguments[0] if arguments else float
        values = [_convert(part.strip(), element) for part in parts]
    return values if kind is list else tuple(values)


def _fail() -> Any:
    raise ValueError


def _type_name(hint: Any, default: Any) -> str:
    hint = _hint(hint, default)
    return (
        hint.__name__
        if isinstance(hint, type) and typing.get_origin(hint) is None
        else str(hint).replace("typing.", "")
    )
