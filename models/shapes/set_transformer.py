"""A transformer of point clouds whose cost is linear in the number of points: they meet at a few inducing points.

Inducing points after Lee et al. 2019 (Set Transformer, arXiv:1810.00825, Eq. 9 to 11), as a diffusion network after
Tyszkiewicz et al. 2023 (GECCO, arXiv:2303.05916); they are carried from layer to layer as in Huang et al. 2024
(PointInfinity, arXiv:2404.03566). Noise level and class modulate every layer (adaptive layer norm with gates that start
shut: Peebles and Xie 2023, arXiv:2212.09748, Sec. 3.2).
"""

import torch
from jaxtyping import Float
from torch import Tensor, addcmul, nn
from torch.nn.functional import scaled_dot_product_attention

from molrl.gaussian import Context
from molrl.models.molecules.egnn import Fourier, zero_init

OCTAVES = 4  # of the sines and cosines of a coordinate; the finest has a wavelength of a quarter of the data's std


class SetTransformer(nn.Module):
    """Raw network F(x, log_noise, context): reordering the points reorders the output; any number of points.

    Args:
        classes: number of classes; `context["class"]` is int64 [b]. 0: the network is told of none.
        width: of the state of a point and of an inducing point.
        layers: depth.
        inducers: number of inducing points.
        heads: of each attention; they divide the width.
        channels: numbers that come out for each point.
    """

    def __init__(self, *, classes: int, width: int, layers: int, inducers: int, heads: int, channels: int = 3) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads: got {heads}, which do not divide width {width}")
        self.embed = nn.Linear(3 + 6 * OCTAVES, width)
        self.inducers = nn.Parameter(torch.randn(inducers, width))
        self.noise = nn.Sequential(Fourier(32), nn.Linear(64, width))
        self.kind = nn.Embedding(classes, width) if classes else None
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.modulate = zero_init(nn.Linear(width, 2 * width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.out = zero_init(nn.Linear(width, channels))

    def forward(
        self, x: Float[Tensor, "b n 3"], log_noise: Float[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b n c"]:
        """x: at unit scale; log_noise: log(sigma_t / alpha_t)."""
        told = self.noise(log_noise)
        if self.kind is not None:
            told = told + self.kind(context["class"]).to(told.dtype)
        told = nn.functional.silu(told)
        points = self.embed(octaves(x))
        inducers = self.inducers.expand(len(x), -1, -1)
        for layer in self.layers:
            points, inducers = layer(points, inducers, told)
        scale, shift = self.modulate(told).unsqueeze(1).chunk(2, -1)
        result: Tensor = self.out(addcmul(shift, self.norm(points), 1 + scale))
        return result


class Layer(nn.Module):
    """Inducing points read the points and think; the points read the inducing points and think."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.modulate = zero_init(nn.Linear(width, 12 * width))
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(5))
        self.gather, self.spread = Attention(width, heads), Attention(width, heads)
        self.think = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU("tanh"), nn.Linear(2 * width, width)) for _ in range(2)
        )

    def forward(
        self, points: Float[Tensor, "b n w"], inducers: Float[Tensor, "b m w"], told: Float[Tensor, "b w"]
    ) -> tuple[Float[Tensor, "b n w"], Float[Tensor, "b m w"]]:
        """New states of both."""
        parts = self.modulate(told).unsqueeze(1).chunk(12, -1)
        (a, b, c), (d, e, f), (g, h, i), (j, k, m) = (parts[n : n + 3] for n in range(0, 12, 3))
        heard = self.norms[0](points)
        asking = addcmul(b, self.norms[1](inducers), 1 + a)
        inducers = addcmul(inducers, c, self.gather(asking, heard))
        inducers = addcmul(inducers, f, self.think[0](addcmul(e, self.norms[2](inducers), 1 + d)))
        points = addcmul(points, i, self.spread(addcmul(h, heard, 1 + g), self.norms[3](inducers)))
        points = addcmul(points, m, self.think[1](addcmul(k, self.norms[4](points), 1 + j)))
        return points, inducers


class Attention(nn.Module):
    """Several heads of softmax attention from one set to another (Vaswani et al. 2017, arXiv:1706.03762, Sec. 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ask, self.tell = nn.Linear(width, width), nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, asking: Float[Tensor, "b q w"], asked: Float[Tensor, "b k w"]) -> Float[Tensor, "b q w"]:
        """What each of `asking` hears from all of `asked`."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.ask(asking), *self.tell(asked).chunk(2, -1))
        )
        heard = scaled_dot_product_attention(query, key, value)
        result: Tensor = self.out(heard.transpose(1, 2).flatten(2))
        return result


def octaves(x: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n f"]:
    """The coordinates, and their sines and cosines at wavelengths of 2, 1, 1/2 and 1/4."""
    angle = torch.cat([x * (torch.pi * 2**octave) for octave in range(OCTAVES)], -1)
    return torch.cat([x, angle.sin(), angle.cos()], -1)
