"""An estimate of the memory that fine-tuning a pipeline's network takes, printed before it begins."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from molrl.models.images.sharding import SHARDED_BLOCKS

ADAM_BYTES = 16  # bytes of a trained parameter: itself, its gradient and two moments, float32
GIB = 2.0**30


def describe_memory(
    network: Any,
    shape: Sequence[int],
    *,
    tokens: int = 0,
    batch: int,
    guided: bool,
    size: int,
    text_encoders: Sequence[Any] = (),
) -> str:
    """Return one line: the parameters, and an estimate of what they, the optimiser and a batch's activations need.

    Of weights that several processes share, the part of this process counts.

    Args:
        network: a UNet or a transformer.
        shape: shape of a latent.
        tokens: of a latent and of a prompt together, for a transformer.
        batch: images at a time.
        guided: each image is computed twice, with the prompt and without.
        size: bytes of a number that the network computes with.
        text_encoders: those of which an adapter is trained; each image of a batch may have a prompt of its own.
    """
    parameters: list[Tensor] = [p for part in (network, *text_encoders) for p in part.parameters()]
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    local = [getattr(p, "to_local", lambda p=p: p)() for p in parameters if not p.requires_grad]
    frozen = sum(p.numel() * p.element_size() for p in local)
    activations = count_token_activations(network, tokens) if tokens else count_activations(network, shape)
    activation_bytes = size * activations * batch * (2 if guided else 1)
    kept = 1 / 5 if getattr(network, "is_gradient_checkpointing", False) else 1.0
    activation_bytes += size * kept * (batch + 1) * sum(map(count_text_activations, text_encoders))
    total = (frozen + ADAM_BYTES * trained + activation_bytes) / GIB
    count, kind = sum(p.numel() for p in parameters), "transformer" if tokens else "UNet"
    kind, beside = (f"{kind} and CLIP", "the autoencoder") if text_encoders else (kind, "text encoder and autoencoder")
    return (
        f"{kind}: {count / 1e6:.1f} M parameters, {trained:,} of them trained; about {total:.1f} GiB to train with "
        f"{batch} images at a time, and {beside} beside it"
    )


def count_activations(unet: Any, shape: Sequence[int]) -> float:
    """Return the number of activations that one latent leaves for the gradient, by a rule of thumb.

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
    kept = 1 / 5 if getattr(unet, "is_gradient_checkpointing", False) else 1.0
    return float(numbers * kept)


def count_token_activations(transformer: Any, tokens: int) -> float:
    """Return the number of activations that one latent and its prompt leave for the gradient, by a rule of thumb.

    A block keeps 17 numbers for each token and channel of its width: norms, attention, the feed-forward's fourfold
    width (Korthikanti et al. 2022, arXiv:2205.05198, Eq. 1, with attention that is not stored; 14 to 19 in the
    families here); with gradient checkpointing, one in five.
    """
    blocks = [module for module in transformer.modules() if type(module).__name__ in SHARDED_BLOCKS]
    config = transformer.config
    width = config.dim if hasattr(config, "dim") else config.num_attention_heads * config.attention_head_dim
    kept = 1 / 5 if getattr(transformer, "is_gradient_checkpointing", False) else 1.0
    return float(17 * len(blocks) * tokens * width * kept)


def count_text_activations(encoder: Any) -> float:
    """Return the number of activations that one prompt leaves for the gradient in CLIP, by the same rule of thumb."""
    config = encoder.config
    width = 9 * config.hidden_size + 2 * config.intermediate_size  # 17 times the width where the feed-forward has four
    return float(config.num_hidden_layers * config.max_position_embeddings * width)
