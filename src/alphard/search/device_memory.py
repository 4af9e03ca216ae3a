"""The device that packs train on, and how much of its memory is free."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

LIMIT, USED = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"


def device_of(config: Mapping[str, Any]) -> torch.device:
    """The GPU that a trial's config asks for, or leaves the choice to take; else the CPU."""
    asked = config["trainer"].get("accelerator", "auto")
    return torch.device("cuda" if asked in ("auto", "gpu", "cuda") and torch.cuda.is_available() else "cpu")


def free(device: torch.device) -> int:
    """Bytes that nobody uses, of the device or of what this container may have."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    known = [1 << 30]  # where nothing tells
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        known = [1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])]
    with contextlib.suppress(OSError, ValueError):
        known.append(int(Path(LIMIT).read_text()) - int(Path(USED).read_text()))
    return min(known)
