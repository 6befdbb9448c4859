"""The differences between pipelines of flow matching: how prompts become inputs of the network, how a latent is packed,
the grid of times, and the scale of the autoencoder's latents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Conditions = Mapping[str, Tensor]  # inputs of the network, a row for each prompt or each sample
Size = tuple[int, int]  # height and width of an image in pixels
CLIP_TOKENIZER, T5_TOKENIZER = r"transformers\.CLIPTokenizer(Fast)?", r"transformers\.T5Tokenizer(Fast)?"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")  # layers of the image's tokens
JOINT_ATTENTION = (*ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")  # and of the prompt's


@dataclass(frozen=True)
class Family:
    """A family of pipelines; the methods here are those of most of them.

    A state is a latent [b, channels, height, width] with independent normal noise in every entry, which `velocity`
    packs as the network takes it.
    """

    models: ClassVar[str]  # names of the models, for messages
    parts: ClassVar[Mapping[str, str]]  # the classes of the parts, as patterns of module.Class
    unused: ClassVar[Mapping[str, Any]] = {}  # parts that are not read
    lora_targets: ClassVar[Sequence[str]] = JOINT_ATTENTION
    max_tokens: ClassVar[int] = 512  # of a prompt, in the encoder that reads most of it
    patch: ClassVar[int] = 2  # entries of a latent's edge that are one token of the network
    clip_encoders: ClassVar[Sequence[str]] = ()  # those that diffusers trains an adapter of
    penultimate: ClassVar[bool] = False  # they are read at the last layer but one

    def embed(self, pipeline: Any, texts: list[str], device: torch.device) -> dict[str, Tensor]:
        """Return the inputs of the network for some prompts, a row each."""
        raise NotImplementedError

    def join_clip(self, encoded: Sequence[tuple[Tensor, Tensor]], frozen: Conditions) -> Conditions:
        """Return inputs of the network with new token embeddings and pooled embeddings of CLIP, a row each.

        Args:
            encoded: by each of `clip_encoders`.
            frozen: the inputs of these prompts as `embed` made them.
        """
        raise NotImplementedError

    def token_limit(self, tokenizer: Any) -> int:
        """Return how many tokens of a prompt are read."""
        return int(tokenizer.model_max_length) if "CLIP" in type(tokenizer).__name__ else self.max_tokens

    def rendered(self, pipeline: Any, text: str) -> str:
        """Return the text that is cut into tokens for a prompt."""
        return text

    def velocity(
        self,
        network: Any,
        x: Float[Tensor, "b c h w"],
        t: Float[Tensor, " b"],
        conditions: Conditions,
        distilled_guidance: float,
    ) -> Float[Tensor, "b c h w"]:
        """Return the velocity eps - x_0 that the network predicts."""
        raise NotImplementedError

    def guide(self, unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
        """Combine both predictions (Ho and Salimans 2022, arXiv:2207.12598, Eq. 6); a scale of 1 is none."""
        return unconditional + scale * (conditional - unconditional)

    def distilled(self, network: Any) -> bool:
        """Return whether the network takes the scale of a guidance as an input, as distilled ones do."""
        return bool(getattr(network.config, "guidance_embeds", False))

    def channels(self, pipeline: Any) -> int:
        """Return the channels of a latent."""
        return int(pipeline.vae.config.latent_channels)

    def default_size(self, pipeline: Any) -> Size:
        """Return the size of an image that the pipeline draws where none is named."""
        edge = int(pipeline.default_sample_size) * int(pipeline.vae_scale_factor)
        return edge, edge

    def latent_shape(self, pipeline: Any, size: Size | None) -> tuple[int, int, int]:
        """Return [channels, height, width] of a latent.

        Raises:
            ValueError: height or width is not a multiple of what a token stands for.
        """
        height, width = size or self.default_size(pipeline)
        unit = int(pipeline.vae_scale_factor) * self.patch
        if min(height, width) < unit or height % unit or width % unit:
            raise ValueError(f"size: got {height} x {width} pixels, need multiples of {unit}")
        scale = int(pipeline.vae_scale_factor)
        return self.channels(pipeline), height // scale, width // scale

    def tokens(self, shape: Sequence[int]) -> int:
        """Return the number of tokens of a latent of this shape."""
        return (shape[1] // self.patch) * (shape[2] // self.patch)

    def mu(self, config: Mapping[str, Any], tokens: int, num_steps: int) -> float:
        """Return the logarithm of the shift of the times, which grows with the number of tokens."""
        low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        base, largest = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        return float(base + (largest - base) * (tokens - low) / (high - low))

    def sigmas(self, num_steps: int) -> list[float] | None:
        """Return the times before they are shifted; None: the scheduler's own."""
        return [float(time) for time in np.linspace(1.0, 1 / num_steps, num_steps)]

    def to_vae(self, vae: Any, x: Float[Tensor, "b c h w"]) -> Tensor:
        """Return a latent on the autoencoder's own scale."""
        return x / float(vae.config.scaling_factor) + float(vae.config.shift_factor)

    def decode(self, vae: Any, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 height width"]:
        """Return the autoencoder's images of latents, in [-1, 1]."""
        image: Tensor = vae.decode(self.to_vae(vae, x), return_dict=False)[0]
        return image


def pack(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b tokens width"]:
    """Return the patches of 2 x 2 entries as tokens, their entries in the order (channel, row, column)."""
    b, c, h, w = x.shape
    return x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, 4 * c)


def unpack(tokens: Float[Tensor, "b tokens width"], like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Return the latent, of the shape of another, whose patches these tokens are."""
    b, c, h, w = like.shape
    return tokens.view(b, h // 2, w // 2, c, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, c, h, w)


def positions(height: int, width: int, axes: int, device: torch.device) -> Float[Tensor, "tokens axes"]:
    """Return row and column of every token as the second and third of `axes` coordinates; the others are 0."""
    ids = torch.zeros(height, width, axes, device=device)
    ids[..., 1] += torch.arange(height, device=device)[:, None]
    ids[..., 2] += torch.arange(width, device=device)
    return ids.view(height * width, axes)
