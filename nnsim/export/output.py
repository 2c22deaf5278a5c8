"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nnsim.errors import InputError, TrajectoryError
from nnsim.trajectory_layout import PARTIAL, remove, remove_leftovers


@contextmanager
def whole(
    output: Path | str, *, overwrite: bool = False, replaceable: Callable[[Path], bool] = Path.is_file
) -> Iterator[Path]:
    """Give a temporary name beside `output` to write to; rename it in the end, or remove it after any error.

    Args:
        output: the file or folder to make; its parents are made too.
        overwrite: replace what is there.
        replaceable: what may be replaced at all; by default files, never folders.

    Raises:
        InputError: `output` exists.
        TrajectoryError: the disk is full or cannot be written.
    """
    output = Path(os.path.realpath(output))  # what a link points to is replaced, not the link
    if os.path.lexists(output):
        if not replaceable(output):
            raise InputError(f"{output} exists and is no earlier export, so it is left alone; choose another output")
        if not overwrite:
            raise InputError(f"{output} exists already; replace it with --overwrite, or choose another output")
    end = f"{PARTIAL}{output.suffix}"  # the suffix stays last: some writers look at it
    partial = output.with_name(f".{output.name}.{uuid.uuid4().hex}{end}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(output.parent, prefix=f".{output.name}.", suffix=end)  # of exports that were killed
        yield partial
        if output.is_dir():
            remove(output)
        partial.replace(output)
    except BaseException as error:
        with contextlib.suppress(OSError):
            remove(partial)
        if isinstance(error, OSError):
            what = error.strerror or error
            raise TrajectoryError(f"cannot write {output}: {what}; choose another output, or free space") from error
        raise
