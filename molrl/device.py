"""Where to compute."""

import torch

from molrl.config import ConfigError

ALLOWED = "auto, cpu, cuda, cuda:N"


def choose_device(name: str) -> torch.device:
    """`auto` is the first GPU, or the CPU.

    Raises:
        ConfigError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device={name}: allowed are {ALLOWED}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device={name}: allowed are {ALLOWED}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device={name}: this machine has {torch.cuda.device_count()} usable GPUs; use device=cpu")
    return device
