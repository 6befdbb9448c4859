"""Inspection of this machine: what it computes with, and what of it would slow a run down or stop it."""

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from molrl.machine.device import bfloat16_instructions, usable_cores

MIN_MEMORY = 2**30  # bytes that the smallest run takes, torch included
MIN_DISK = 2**30
GIB = 2**30
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SPINNING = {"OMP_WAIT_POLICY": "active", "KMP_BLOCKTIME": "infinite"}  # values that let idle threads spin
OTHER_VARIABLES = (*SPINNING, "ACCELERATE_MIXED_PRECISION", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES")
UNLIMITED = 2**60  # bytes; a container without a limit states a number beyond


@dataclass(frozen=True)
class Finding:
    """One line of a report.

    Attributes:
        topic: what was looked at.
        text: what was found.
        problem: what is wrong, and what to do about it; "": nothing.
    """

    topic: str
    text: str
    problem: str = ""


def inspect_machine(environment: Mapping[str, str]) -> list[Finding]:
    """Return what is found of Python, torch, processors, memory, devices and environment variables."""
    return [
        Finding("python", f"{platform.python_version()}, {sys.platform} on {platform.machine()}"),
        Finding("torch", f"{torch.__version__}, threads: {torch.get_num_threads()}, usable cores: {usable_cores()}"),
        inspect_load(),
        inspect_memory(available_memory()),
        Finding("bfloat16", describe_bfloat16()),
        inspect_cuda(),
        Finding("mps", "the GPU of this Mac: device=mps" if torch.backends.mps.is_available() else "none"),
        *inspect_environment(environment, usable_cores()),
    ]


def inspect_load() -> Finding:
    """Return how busy the cores are with other work."""
    if not hasattr(os, "getloadavg"):
        return Finding("load", "unknown on this system")
    load, cores = os.getloadavg()[0], usable_cores()
    busy = ": other work keeps the cores busy, and times will be longer" if load > cores else ""
    return Finding("load", f"{load:.1f} of {cores} cores in the last minute{busy}")


def available_memory() -> int | None:
    """Return the bytes of memory that a new process can have; None where the system does not say."""
    found = [number for number in (system_memory(), container_memory()) if number is not None]
    return min(found) if found else None


def system_memory() -> int | None:
    """Return the bytes that Linux calls available, or all that another system has."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def container_memory(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the bytes that the limit of a container leaves; None without a limit."""
    try:
        limit, used = (int((root / name).read_text("ascii")) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # "max" is no number: no limit
        return None
    return None if limit > UNLIMITED else max(0, limit - used)


def inspect_memory(available: int | None) -> Finding:
    """Return how much memory is available, which is a problem where it is less than any run needs."""
    if available is None:
        return Finding("memory", "unknown on this system")
    text = f"{available / GIB:.1f} GiB available"
    lacking = f"{text}, a small run needs {MIN_MEMORY / GIB:.0f}: end something else, or ask for more"
    return Finding("memory", text, lacking if available < MIN_MEMORY else "")


def describe_bfloat16() -> str:
    """Say which instructions for bfloat16 the processor has."""
    if not (names := bfloat16_instructions()):
        return "no such instructions of the processor: precision=bfloat16 is no faster on it"
    return f"{', '.join(names)}: training.bf16=true and precision=bfloat16 are faster on this processor"


def inspect_cuda() -> Finding:
    """Return the CUDA devices; a driver that torch cannot use is a problem."""
    if torch.cuda.is_available():
        found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return Finding("cuda", ", ".join(f"{one.name} ({one.total_memory / GIB:.0f} GiB)" for one in found))
    if shutil.which("nvidia-smi") is None:
        return Finding("cuda", "none")
    reason = "this torch is a build without CUDA" if torch.version.cuda is None else "torch finds no device"
    return Finding("cuda", f"a driver is there, but {reason}", f"{reason}: install the build for your driver")


def inspect_environment(environment: Mapping[str, str], cores: int) -> list[Finding]:
    """Return the environment variables that matter here, those that hurt with what is wrong."""
    given = {name: environment[name] for name in (*THREAD_VARIABLES, *OTHER_VARIABLES) if environment.get(name)}
    return [
        Finding("environment", f"{name}={value}", variable_problem(name, value, cores)) for name, value in given.items()
    ]


def variable_problem(name: str, value: str, cores: int) -> str:
    """Return what is wrong with the value of an environment variable, or ""."""
    problem = ""
    if name in THREAD_VARIABLES:
        problem = thread_problem(value, cores)
    elif value.lower() == SPINNING.get(name):
        problem = "idle threads spin, which starves the reward workers; unset it"
    elif name == "ACCELERATE_MIXED_PRECISION" and value not in ("no", "bf16"):
        problem = "molrl knows no and bf16"
    return f"{name}={value}: {problem}" if problem else ""


def thread_problem(value: str, cores: int) -> str:
    """Return what is wrong with a number of threads, or ""."""
    if not value.isdecimal() or int(value) == 0:
        return "expected a number of threads"
    return f"more threads than the {cores} usable cores wait for one another" if int(value) > cores else ""


def inspect_folder(folder: Path) -> Finding:
    """Return whether a folder for runs can be written or made here, and the free space there."""
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        return Finding("runs", str(folder), f"{folder} cannot be written: name another folder with run=FOLDER")
    free = shutil.disk_usage(place).free
    text = f"{folder} can be written, {free / GIB:.1f} GiB free"
    return Finding("runs", text, f"{text}: a run needs about {MIN_DISK / GIB:.0f}" if free < MIN_DISK else "")
