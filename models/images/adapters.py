"""New LoRA adapters (Hu et al. 2021, arXiv:2106.09685) of a pipeline's network and of its text encoders."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")  # the attention layers that an adapter is added to
TEXT_LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")  # of CLIP, as in diffusers' examples of training
BLOCK = re.compile(r"(?:transformer_blocks|layers)\.\d+\.")  # before the part of a name that says which layer


def add_lora(
    network: Any,
    rank: int,
    *,
    alpha: float | None = None,
    targets: Sequence[str] = LORA_TARGETS,
    prefix: str = "",
) -> None:
    """Freeze a network and add a new adapter to some of its layers, float32 and without effect at first.

    Its initial weights depend on nothing but the shapes.

    Args:
        network: a UNet, a transformer or a text encoder.
        rank: of the adapter.
        alpha: the adapter's scale times its rank; None: a scale of 1.
        targets: the last parts of the names of the layers.
        prefix: of the settings' names, for messages.

    Raises:
        ValueError: a number is out of bounds, or no layer has one of these names.
    """
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    if rank < 1:
        raise ValueError(f"{prefix}rank: got {rank}, need at least 1")
    if alpha is not None and not 0 < alpha < float("inf"):
        raise ValueError(f"{prefix}alpha: got {alpha}, need a number above 0, or null for the rank")
    check_targets(network, targets, prefix)
    network.requires_grad_(False)
    scale: Any = rank if alpha is None else alpha
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network.add_adapter(
            LoraConfig(r=rank, lora_alpha=scale, init_lora_weights="gaussian", target_modules=list(targets))
        )
    cast_training_params(network, dtype=torch.float32)
    network.eval()  # layers that were added are in training mode


def check_targets(network: nn.Module, targets: Sequence[str], prefix: str = "") -> None:
    """Raise ValueError for names that are no linear or convolutional layer's."""
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    unknown = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in layers)]
    if unknown or not targets:
        known = ", ".join(sorted({BLOCK.split(name)[-1] for name in layers})[:12])
        raise ValueError(f"{prefix}lora_targets: got {unknown}, no layer is so called; some are {known}")
