"""How much memory there is, so that work that cannot fit is refused before it begins."""

from __future__ import annotations

from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int:
    """Free memory of the device; on a CPU that of the machine, or of the container where that is less."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    free = psutil.virtual_memory().available
    limit, used = (_number(_CGROUP / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        free = min(free, limit - used)
    return max(int(free), 0)


def _number(path: Path) -> int | None:
    """What a file of the kernel says, or None: it is not there, or says `max`."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def readable(count: float) -> str:
    """Bytes as text, such as `2.9 GB`."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.3g} {unit}"
        count /= 1000
    return ""
