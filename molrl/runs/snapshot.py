"""Snapshots of a run's state besides weights and moments: random generators, train and eval flags, the platform.

Training draws nothing from the global generators (its noise is keyed, see `molrl.noise`); a user's reward or denoiser
may, so a run seeds them.
"""

import contextlib
import platform
import random
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from molrl.version import __version__

RANDOM = "random"  # name of the files in a checkpoint
RANK_STRIDE = 1_000_003  # between the seeds of the processes of a run


def random_tensors() -> dict[str, Tensor]:
    """Return the state of every global generator: torch's, one for each CUDA device in use, numpy's and Python's."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "torch": torch.get_rng_state(),
        **{f"cuda:{index}": state for index, state in enumerate(cuda)},
        "numpy": torch.from_numpy(np.asarray(numpy_state()["state"]["key"], dtype=np.int64)),
        "python": torch.tensor(random.getstate()[1], dtype=torch.int64),
    }


def random_values() -> dict[str, Any]:
    """Return the part of the state of every global generator that is not a tensor."""
    state = numpy_state()
    version, _, gauss = random.getstate()
    return {
        "numpy": {"pos": state["state"]["pos"], "has_gauss": state["has_gauss"], "gauss": state["gauss"]},
        "python": {"version": version, "gauss": gauss},
    }


def numpy_state() -> dict[str, Any]:
    """Return the state of the generator behind the functions of numpy.random."""
    return dict(np.random.get_state(legacy=False))  # noqa: NPY002  a user's reward may use it


def restore_random(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Set every global generator to a state of `random_tensors` and `random_values`."""
    torch.set_rng_state(tensors["torch"])
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda:{index}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda:{index}"], index)
    legacy = values["numpy"]
    key = {"key": tensors["numpy"].numpy().astype(np.uint32), "pos": legacy["pos"]}
    state = {"bit_generator": "MT19937", "state": key, "has_gauss": legacy["has_gauss"], "gauss": legacy["gauss"]}
    np.random.set_state(state)  # noqa: NPY002
    random.setstate((values["python"]["version"], tuple(tensors["python"].tolist()), values["python"]["gauss"]))


def seed_generators(seed: int, rank: int = 0) -> None:
    """Seed the global generators of Python, numpy and torch for one process of a run."""
    own = seed + RANK_STRIDE * rank
    random.seed(own)
    np.random.seed(own % 2**32)  # noqa: NPY002  a user's reward may use it
    torch.manual_seed(own)


@contextlib.contextmanager
def seed_torch(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator within a block, and restore it afterwards."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        yield


def collect_flags(modules: Mapping[str, nn.Module]) -> dict[str, dict[str, list[str]]]:
    """List for each module the names of its parts in training mode, and of its frozen parameters."""
    return {
        name: {
            "training": [part for part, module in parent.named_modules() if module.training],
            "frozen": [part for part, parameter in parent.named_parameters() if not parameter.requires_grad],
        }
        for name, parent in modules.items()
    }


def restore_flags(modules: Mapping[str, nn.Module], saved: Mapping[str, Mapping[str, list[str]]]) -> None:
    """Set the flags of modules and parameters as `collect_flags` listed them."""
    for name, parent in modules.items():
        training, frozen = (frozenset(saved[name][kind]) for kind in ("training", "frozen"))
        for part, module in parent.named_modules():
            module.training = part in training
        for part, parameter in parent.named_parameters():
            parameter.requires_grad_(part not in frozen)


def describe_platform(device: torch.device) -> dict[str, Any]:
    """Describe everything that the last digits of a number depend on: versions, processor, device and threads."""
    return {
        "molrl": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
    }


def warn_of_another_platform(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Warn on stderr where a run continues on another platform, and so not bit for bit."""
    changed = [f"{name} {saved.get(name)} -> {value}" for name, value in now.items() if saved.get(name) != value]
    if changed:
        print(f"molrl: the last digits may differ from an uninterrupted run's: {', '.join(changed)}", file=sys.stderr)
