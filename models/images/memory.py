"""How much memory fine-tuning a UNet takes, told before it begins."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

ADAM = 16  # bytes of a trained parameter: itself, its gradient and two moments, float32
GIB = 2.0**30


def told_memory(unet: Any, shape: Sequence[int], *, batch: int, guided: bool, size: int) -> str:
    """One line: parameters, and an estimate of what they, the optimiser and the activations of a batch need.

    Of weights that several processes share, what is here counts.

    Args:
        shape: of a latent.
        size: bytes of a number that the network computes with.
    """
    parameters: list[Tensor] = list(unet.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    here = [getattr(p, "to_local", lambda p=p: p)() for p in parameters if not p.requires_grad]
    frozen = sum(p.numel() * p.element_size() for p in here)
    kept = size * activations(unet, shape) * batch * (2 if guided else 1)
    total = (frozen + ADAM * trained + kept) / GIB
    count = sum(p.numel() for p in parameters)
    return (
        f"UNet: {count / 1e6:.1f} M parameters, {trained:,} of them trained; about {total:.1f} GiB to train with "
        f"{batch} images at a time, and text encoder and autoencoder beside it"
    )


def activations(unet: Any, shape: Sequence[int]) -> float:
    """Numbers that one latent leaves for the gradient, by a rule of thumb.

    A block at 1/2^k of the resolution keeps, for each of its layers going down and coming up, about 30 tensors of its
    width and 60 for each transformer layer in it (norms, activations, attention, the feed-forward's fourfold width);
    with gradient checkpointing, one in five.
    """
    config = unet.config
    pixels, layers = shape[1] * shape[2], config.layers_per_block
    layers = layers if isinstance(layers, int) else max(layers)
    depths = getattr(config, "transformer_layers_per_block", 1)
    depths = [depths] * len(config.block_out_channels) if isinstance(depths, int) else depths
    numbers = sum(
        (30 + 60 * depth) * (2 * layers + 1) * width * pixels / 4**level
        for level, (width, depth) in enumerate(zip(config.block_out_channels, depths, strict=True))
    )
    share = 1 / 5 if getattr(unet, "is_gradient_checkpointing", False) else 1.0
    return float(numbers * share)
