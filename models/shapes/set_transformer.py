"""A transformer of point clouds whose cost is linear in the number of points: they meet at a few inducing points.

Inducing points after Lee et al. 2019 (Set Transformer, arXiv:1810.00825, Eq. 9 to 11), as a diffusion network after
Tyszkiewicz et al. 2023 (GECCO, arXiv:2303.05916); they are carried from layer to layer as in Huang et al. 2024
(PointInfinity, arXiv:2404.03566). Noise level and class modulate every layer by shift, scale and a gate that starts at
zero (adaLN-Zero: Peebles and Xie 2023, arXiv:2212.09748, Sec. 3.2).
"""

import torch
from jaxtyping import Float
from torch import Tensor, addcmul, nn
from torch.nn.functional import scaled_dot_product_attention

from molrl.gaussian import Context
from molrl.models.layers import FourierFeatures, zero_init

OCTAVES = 4  # of the sines and cosines of a coordinate; the finest has a wavelength of a quarter of the data's std


class SetTransformer(nn.Module):
    """Raw network F(x, log_noise, context): reordering the points reorders the output; any number of points.

    Args:
        classes: number of classes; `context["class"]` is int64 [b]. 0: an unconditional network.
        width: channels of the state of a point and of an inducing point.
        layers: depth.
        inducers: number of inducing points.
        heads: of each attention; they divide the width.
        channels: outputs for each point.
    """

    def __init__(self, *, classes: int, width: int, layers: int, inducers: int, heads: int, channels: int = 3) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads: got {heads}, which do not divide width {width}")
        self.point_embedding = nn.Linear(3 + 6 * OCTAVES, width)
        self.inducing_points = nn.Parameter(torch.randn(inducers, width))
        self.noise_embedding = nn.Sequential(FourierFeatures(32), nn.Linear(64, width))
        self.class_embedding = nn.Embedding(classes, width) if classes else None
        self.layers = nn.ModuleList(SetTransformerLayer(width, heads) for _ in range(layers))
        self.modulation = zero_init(nn.Linear(width, 2 * width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.out = zero_init(nn.Linear(width, channels))

    def forward(
        self, x: Float[Tensor, "b n 3"], log_noise: Float[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b n c"]:
        """Return F; x: at unit scale; log_noise: log(sigma_t / alpha_t)."""
        embedding = self.noise_embedding(log_noise)
        if self.class_embedding is not None:
            embedding = embedding + self.class_embedding(context["class"]).to(embedding.dtype)
        embedding = nn.functional.silu(embedding)
        points = self.point_embedding(positional_encoding(x))
        inducers = self.inducing_points.expand(len(x), -1, -1)
        for layer in self.layers:
            points, inducers = layer(points, inducers, embedding)
        scale, shift = self.modulation(embedding).unsqueeze(1).chunk(2, -1)
        result: Tensor = self.out(modulate(self.norm(points), shift, scale))
        return result


class SetTransformerLayer(nn.Module):
    """Inducing points attend to the points, then points to the inducing points; an MLP follows each attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.modulation = zero_init(nn.Linear(width, 12 * width))
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(5))
        self.inducer_attention, self.point_attention = CrossAttention(width, heads), CrossAttention(width, heads)
        self.inducer_mlp, self.point_mlp = (
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU("tanh"), nn.Linear(2 * width, width)) for _ in range(2)
        )

    def forward(
        self, points: Float[Tensor, "b n w"], inducers: Float[Tensor, "b m w"], embedding: Float[Tensor, "b w"]
    ) -> tuple[Float[Tensor, "b n w"], Float[Tensor, "b m w"]]:
        """Return the new states of the points and of the inducing points."""
        parts = self.modulation(embedding).unsqueeze(1).chunk(12, -1)
        (scale_1, shift_1, gate_1), (scale_2, shift_2, gate_2) = parts[:3], parts[3:6]
        (scale_3, shift_3, gate_3), (scale_4, shift_4, gate_4) = parts[6:9], parts[9:]
        normed = self.norms[0](points)
        attended = self.inducer_attention(modulate(self.norms[1](inducers), shift_1, scale_1), normed)
        inducers = addcmul(inducers, gate_1, attended)
        update = self.inducer_mlp(modulate(self.norms[2](inducers), shift_2, scale_2))
        inducers = addcmul(inducers, gate_2, update)
        attended = self.point_attention(modulate(normed, shift_3, scale_3), self.norms[3](inducers))
        points = addcmul(points, gate_3, attended)
        update = self.point_mlp(modulate(self.norms[4](points), shift_4, scale_4))
        points = addcmul(points, gate_4, update)
        return points, inducers


class CrossAttention(nn.Module):
    """Multi-head softmax attention from one set to another (Vaswani et al. 2017, arXiv:1706.03762, Sec. 3.2).

    Args:
        width: channels of an element that reads.
        heads: they divide the width.
        source_width: channels of an element that is read; None: the same.
    """

    def __init__(self, width: int, heads: int, source_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width)
        self.to_kv = nn.Linear(source_width or width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width)

    def forward(self, queries: Float[Tensor, "b q w"], source: Float[Tensor, "b k s"]) -> Float[Tensor, "b q w"]:
        """Return what each element of `queries` reads from all elements of `source`."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.to_q(queries), *self.to_kv(source).chunk(2, -1))
        )
        attended = scaled_dot_product_attention(query, key, value)
        result: Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return result


def modulate(x: Float[Tensor, "b n w"], shift: Float[Tensor, "b 1 w"], scale: Float[Tensor, "b 1 w"]) -> Tensor:
    """Return x (1 + scale) + shift, the modulation of a normalised state (DiT)."""
    return addcmul(shift, x, 1 + scale)


def positional_encoding(x: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n f"]:
    """Return the coordinates with their sines and cosines at wavelengths of 2, 1, 1/2 and 1/4."""
    angle = torch.cat([x * (torch.pi * 2**octave) for octave in range(OCTAVES)], -1)
    return torch.cat([x, angle.sin(), angle.cos()], -1)
