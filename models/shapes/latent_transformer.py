"""A transformer of point clouds that computes on a few latents: points are read and written, and never meet.

Latents read the points by cross-attention, as in Jaegle et al. 2021 (Perceiver, arXiv:2103.03206), attend to each
other, and are written to the points, block by block as in Jabri et al. 2023 (arXiv:2212.11972). Unlike there, each
block reads the points as they were embedded, not as earlier blocks wrote them: so the output of a point does not depend
on which other points are written, and training can write some of the points that it reads. Noise level and class
modulate every layer by shift, scale and a gate that starts at zero (adaLN-Zero: Peebles and Xie 2023, arXiv:2212.09748,
Sec. 3.2).
"""

import torch
from jaxtyping import Float
from torch import Tensor, addcmul, nn

from molrl.gaussian import Context
from molrl.models.layers import FourierFeatures, zero_init
from molrl.models.shapes.set_transformer import OCTAVES, CrossAttention, modulate, positional_encoding


class LatentTransformer(nn.Module):
    """Raw network F(x, log_noise, context): reordering the points reorders the output; any number of points.

    Args:
        classes: number of classes; `context["class"]` is int64 [b]. 0: an unconditional network.
        width: channels of a point.
        latents: number of latents.
        latent_width: channels of a latent.
        blocks: number of times that the points are read and written.
        layers: self-attention layers of the latents in each block.
        heads: of each attention; they divide both widths.
        channels: outputs for each point.
    """

    def __init__(
        self,
        *,
        classes: int,
        width: int,
        latents: int,
        latent_width: int,
        blocks: int,
        layers: int,
        heads: int,
        channels: int = 3,
    ) -> None:
        super().__init__()
        if width % heads or latent_width % heads:
            raise ValueError(f"heads: got {heads}, which do not divide widths {width} and {latent_width}")
        self.point_embedding = nn.Sequential(
            nn.Linear(3 + 6 * OCTAVES, width), nn.GELU("tanh"), nn.Linear(width, width)
        )
        self.latents = nn.Parameter(torch.randn(latents, latent_width))
        self.noise_embedding = nn.Sequential(FourierFeatures(32), nn.Linear(64, latent_width))
        self.class_embedding = nn.Embedding(classes, latent_width) if classes else None
        self.blocks = nn.ModuleList(LatentBlock(width, latent_width, layers, heads) for _ in range(blocks))
        self.modulation = zero_init(nn.Linear(latent_width, 2 * width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.out = zero_init(nn.Linear(width, channels))

    def forward(
        self, x: Float[Tensor, "b n 3"], log_noise: Float[Tensor, " b"], context: Context, written: int | None = None
    ) -> Float[Tensor, "b k c"]:
        """Return F of the first `written` points, or of all; x: at unit scale; log_noise: log(sigma_t / alpha_t)."""
        embedding = self.noise_embedding(log_noise)
        if self.class_embedding is not None:
            embedding = embedding + self.class_embedding(context["class"]).to(embedding.dtype)
        embedding = nn.functional.silu(embedding)
        points = self.point_embedding(positional_encoding(x)).to(
            x.dtype
        )  # the sum over the blocks keeps full precision
        read, points = self.norm(points), points[:, :written]
        latents = self.latents.expand(len(x), -1, -1)
        for block in self.blocks:
            latents, points = block(latents, read, points, embedding)
        scale, shift = self.modulation(embedding).unsqueeze(1).chunk(2, -1)
        result: Tensor = self.out(modulate(self.norm(points), shift, scale))
        return result


class LatentBlock(nn.Module):
    """Latents read the points and attend to each other; then the points that are written read the latents."""

    def __init__(self, width: int, latent_width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.read = AttentionLayer(latent_width, width, latent_width, heads)
        self.layers = nn.ModuleList(AttentionLayer(latent_width, None, latent_width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(latent_width, elementwise_affine=False)
        self.write = AttentionLayer(width, latent_width, latent_width, heads)

    def forward(
        self,
        latents: Float[Tensor, "b m w"],
        read: Float[Tensor, "b n p"],
        points: Float[Tensor, "b k p"],
        embedding: Float[Tensor, "b w"],
    ) -> tuple[Float[Tensor, "b m w"], Float[Tensor, "b k p"]]:
        """Return the new states of the latents and of the points that are written."""
        latents = self.read(latents, read, embedding)
        for layer in self.layers:
            latents = layer(latents, None, embedding)
        return latents, self.write(points, self.norm(latents), embedding)


class AttentionLayer(nn.Module):
    """Attention to a source or among the states themselves, then an MLP, both modulated (adaLN-Zero).

    Args:
        width: channels of a state.
        source_width: channels of an element of the source; None: the states attend to themselves.
        embedding_width: channels of the embedding that modulates.
        heads: they divide the width.
    """

    def __init__(self, width: int, source_width: int | None, embedding_width: int, heads: int) -> None:
        super().__init__()
        self.modulation = zero_init(nn.Linear(embedding_width, 6 * width))
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.attend = CrossAttention(width, heads, source_width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU("tanh"), nn.Linear(2 * width, width))

    def forward(
        self, states: Float[Tensor, "b q w"], source: Float[Tensor, "b k s"] | None, embedding: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b q w"]:
        """Return the new states; `source` is normalised, or None for the states themselves."""
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulation(embedding).unsqueeze(1).chunk(6, -1)
        normed = modulate(self.norms[0](states), shift_1, scale_1)
        states = addcmul(states, gate_1, self.attend(normed, normed if source is None else source))
        return addcmul(states, gate_2, self.mlp(modulate(self.norms[1](states), shift_2, scale_2)))
