"""Single states: the parameters of one walker at one frame, by name and in shape."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnsim.errors import InputError
from nnsim.export.walker_frames import opened_run, positions, require_walker
from nnsim.files import whole

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory


def write_safetensors(
    trajectory: Trajectory,
    output: Path | str,
    *,
    frame: int | None = None,
    step: int | None = None,
    walker: int = 0,
    overwrite: bool = False,
) -> int:
    """Write one state to a .safetensors file; returns the number of tensors.

    `module.load_state_dict(safetensors.torch.load_file(output), strict=False)` brings it into the network: the file has
    what `Trajectory.parameters_at` gives, the trainable parameters as they were recorded; buffers of the module and
    parameters that were fixed are not in it. Its metadata has `step`, `time`, `walker`, `frame` and `source`.

    Args:
        trajectory: with recorded positions.
        output: the file.
        frame: which of the recorded positions, from 0, or from -1 backwards; by default the last.
        step: the step of the frame, in place of its index.
        walker: one of the walkers, from 0.
        overwrite: replace an existing file.

    Raises:
        InputError: no positions, or a frame, step or walker that there is not; both frame and step; the output exists;
            the package safetensors is missing.
    """
    try:
        from safetensors.numpy import save
    except ImportError:
        raise InputError("write_safetensors needs the package safetensors; pip install safetensors") from None
    if frame is not None and step is not None:
        raise InputError(f"write_safetensors: frame = {frame} and step = {step} both choose the frame; give one")
    trajectory = opened_run(trajectory, "write_safetensors")
    series = positions(trajectory, "write_safetensors")
    walker = require_walker("write_safetensors", walker, series.shape[1])
    tensors = trajectory.parameters_at(-1 if frame is None else frame, walker, step=step)
    place = range(len(series))[-1 if frame is None else int(frame)] if step is None else int((series.step < step).sum())
    metadata = {
        "step": str(int(series.step[place])),
        "time": repr(float(series.time[place])),
        "frame": str(place),
        "walker": str(walker),
        "source": str(trajectory.path),
        "creator": "nnsim export",
    }
    with whole(output, overwrite=overwrite) as partial:
        # not save_file, whose file only its owner can read
        partial.write_bytes(save({name: np.ascontiguousarray(one) for name, one in tensors.items()}, metadata))
    return len(tensors)
