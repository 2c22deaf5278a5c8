"""What is installed: all of one checkout, and the packages that only some installations have."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

BESIDE = ("integrators", "bias", "systems")
"""Sub-packages whose folders stand beside the engine in a checkout, and inside it in an installed wheel."""
EXTRAS = {
    "imageio_ffmpeg": ("imageio-ffmpeg", "movie"),
    "tables": ("tables", "h5"),
    "pandas": ("pandas", "data"),
    "sklearn.datasets": ("scikit-learn", "data"),
}
"""Module -> the package that it comes from, and the extra of nnsim that brings it."""


def require_one_checkout(engine: str) -> None:
    """Raise `InputError` unless all parts of nnsim come from one place.

    Python started in a checkout takes the engine from there, but `nnsim.integrators`, `nnsim.bias` and `nnsim.systems`
    from the one that was installed: two versions in one process.

    Args:
        engine: the folder of the engine.
    """
    engine = os.path.realpath(engine)
    root = os.path.dirname(engine)
    for name in BESIDE:
        spec = importlib.util.find_spec(f"nnsim.{name}")
        places = [] if spec is None else [os.path.realpath(one) for one in spec.submodule_search_locations or ()]
        if not {os.path.join(root, name), os.path.join(engine, name)} & set(places):
            from nnsim.errors import InputError

            raise InputError(
                f"nnsim is imported from {engine}, but nnsim.{name} from {', '.join(places) or 'nowhere'}; they must "
                f"come from one checkout: start Python in another folder, or pip install -e {root}"
            )


def extra(owner: str, module: str, instead: str = "") -> Any:
    """Import a module of `EXTRAS`.

    Args:
        owner: who needs it, for the message.
        module: its name.
        instead: what can be done without it.

    Raises:
        InputError: it is not installed.
    """
    from nnsim.errors import InputError

    package, brings = EXTRAS[module]
    try:
        return importlib.import_module(module)
    except ImportError:
        remedy = f"pip install 'nnsim[{brings}]'" + (f", or {instead}" if instead else "")
        raise InputError(f"{owner} needs the package {package}, which is missing; {remedy}") from None
