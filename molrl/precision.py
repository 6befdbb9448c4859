"""The precision of a run's network: float32, or bfloat16 where it is faster and the algorithm can do with it."""

import os
from collections.abc import Mapping
from typing import Any

import torch

from molrl.algos import Algorithm
from molrl.config import ConfigError
from molrl.machine.device import autocast_dtype, computes_bfloat16
from molrl.machine.processes import Processes
from molrl.runs.automatic import decide

MIXED_PRECISION = "ACCELERATE_MIXED_PRECISION"  # environment variable that `accelerate launch` sets
LAUNCHED = {"no": None, "bf16": "bfloat16"}  # its values


def decide_precision(
    config: Mapping[str, Any], algorithm: Algorithm, device: torch.device, world: Processes
) -> dict[str, Any]:
    """Return the settings of a run with `precision=auto` decided, by the first process for all.

    A new run takes accelerate's setting, if there is one. Otherwise it takes bfloat16 where the device has
    instructions for it and the algorithm needs no densities, whose ratios rounding would move.
    """
    exact = getattr(algorithm, "needs_densities", True) or not computes_bfloat16(device)
    choice = launched_precision() or ("float32" if exact else "bfloat16")
    return decide(config, "precision", lambda: world.gather_strings(choice)[0])


def precision(config: Mapping[str, Any]) -> torch.dtype | None:
    """Return the dtype that the network computes in; None: float32, as everything else.

    Raises:
        ConfigError: there is no such precision, or accelerate was told one that is not known here.
    """
    return autocast_dtype(config["precision"] or launched_precision() or "float32")


def launched_precision() -> str | None:
    """Return the precision that accelerate was told; None: none.

    Raises:
        ConfigError: it is not known here.
    """
    setting = os.environ.get(MIXED_PRECISION, "no")
    if setting not in LAUNCHED:
        raise ConfigError(f"accelerate was told mixed_precision={setting}: molrl knows {' and '.join(LAUNCHED)}")
    return LAUNCHED[setting]
