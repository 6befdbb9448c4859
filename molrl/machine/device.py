"""The device that a command computes on, and the processors it may use."""

import contextlib
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from molrl.config import ConfigError

ALLOWED_DEVICES = "auto, cpu, cuda, cuda:N, mps"


def choose_device(name: str) -> torch.device:
    """Return the device of a setting; `auto` is the first CUDA GPU, or the CPU where there is none.

    `mps` is the GPU of a Mac, where torch has it; it has no float64, and nothing here needs that of a device.

    Raises:
        ConfigError: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device={name}: allowed are {ALLOWED_DEVICES}") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"device={name}: allowed are {ALLOWED_DEVICES}")
    if device.type == "mps" and (device.index or not torch.backends.mps.is_available()):
        raise ConfigError(f"device={name}: torch has {count_mps()} on this machine; use device=cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device={name}: this machine has {torch.cuda.device_count()} usable GPUs; use device=cpu")
    return device


def count_mps() -> str:
    """Say whether torch has a Mac's GPU here."""
    return "one such GPU, mps," if torch.backends.mps.is_available() else "no GPU of a Mac (mps)"


def usable_cores() -> int:
    """Return the number of processors that affinity and the container's quota allow this process; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
        cores = min(cores, math.ceil(int(quota) / int(period)))  # "max" is no number: no quota
    return max(1, cores)


def autocast_dtype(precision: str) -> torch.dtype | None:
    """Return the dtype that a network computes in, for `Policy.autocast`; None for float32, as everything else.

    Raises:
        ConfigError: another name than "float32" or "bfloat16".
    """
    if precision not in ("float32", "bfloat16"):
        raise ConfigError(f"precision={precision}: allowed are float32, bfloat16")
    return torch.bfloat16 if precision == "bfloat16" else None


def bfloat16_instructions() -> list[str] | None:
    """Return the names of the processor's instructions for bfloat16; None where this torch cannot tell."""
    if not hasattr(torch.cpu, "get_capabilities"):  # a later torch than the oldest that is allowed has it
        return None
    known: Mapping[str, object] = torch.cpu.get_capabilities()
    return sorted(name for name, has in known.items() if "bf16" in name and has)


def computes_bfloat16(device: torch.device) -> bool:
    """Tell whether a device has instructions for bfloat16; False where this torch cannot tell."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device.type == "cpu" and bool(bfloat16_instructions())


def warn_of_slow_bfloat16(setting: str, device: torch.device) -> None:
    """Warn on stderr where a network is to compute in bfloat16 on a processor without instructions for it."""
    if device.type == "cpu" and bfloat16_instructions() == []:
        print(f"molrl: {setting}: this processor has no instructions for it, float32 is faster", file=sys.stderr)


def describe_device(device: torch.device) -> str:
    """Return a device with the name of its GPU, if it is one of CUDA."""
    return f"{device}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)
