"""The default network: an E(n)-equivariant graph network of EDM's family, made fast.

Built on Satorras et al. 2021 (arXiv:2102.09844, Eq. 3-6) in the form of Hoogeboom et al. 2022 (arXiv:2203.17003,
App. C), with these changes: everything is dense over [b, n, n] (molecules are small and fully connected); the first
layer of the pair network is factorised per atom, W [h_i, h_j, d_ij] = A h_i + B h_j + C d_ij; one message serves atoms
and positions; pairs carry a state of their own from block to block; distances enter as radial functions; the noise
level modulates every block (FiLM: Perez et al. 2018, arXiv:1709.07871).
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import silu

from molrl.gaussian import Context


class EGNN(nn.Module):
    """Raw equivariant network F(x, log_noise, context): positions rotate with the input, features do not.

    Args:
        features: feature channels per atom, after the three position channels.
        width: atom state.
        pair_width: pair state and message.
        blocks: depth.
        radial: number of radial functions of a distance.
        conditions: numbers that a molecule is conditioned on, `context["condition"]` [b, conditions], standardised.
    """

    def __init__(
        self, *, features: int, width: int, pair_width: int, blocks: int, radial: int, conditions: int = 0
    ) -> None:
        super().__init__()
        self.radial = Radial(radial)
        self.noise = nn.Sequential(Fourier(32), nn.Linear(64, width), nn.SiLU())
        self.embed = nn.Linear(features, width)
        self.embed_pair = nn.Linear(radial, pair_width)
        self.blocks = nn.ModuleList(Block(width, pair_width, radial) for _ in range(blocks))
        self.out = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), zero_init(nn.Linear(width, features))
        )
        # last and silent: a seed, or the weights of an unconditional network, give the same output with it and without
        self.condition = (
            nn.Sequential(nn.Linear(conditions, width), nn.SiLU(), zero_init(nn.Linear(width, width)))
            if conditions
            else None
        )

    def forward(
        self, x: Float[Tensor, "b n c"], log_noise: Float[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b n c"]:
        """x: [b, n, 3 + features], centred, at unit scale; log_noise: log(sigma_t / alpha_t)."""
        mask = context["mask"]
        pairs = pair_mask(mask).to(x.dtype).unsqueeze(-1)
        start, features = x[..., :3], x[..., 3:]
        noise = self.noise(log_noise)
        if self.condition is not None:
            noise = noise + self.condition(context["condition"].to(noise.dtype))
        h = self.embed(features) + noise.unsqueeze(1)
        position, edge = start, None
        for block in self.blocks:
            unit, distance = directions(position)
            radial = self.radial(distance)
            edge = self.embed_pair(radial) if edge is None else edge
            h, edge, shift = block(h, edge, radial, unit, pairs, noise)
            position = position + shift
        atoms = mask.unsqueeze(-1).to(x.dtype)
        shift = (position - start) * atoms
        shift = shift - atoms * shift.sum(1, keepdim=True) / atoms.sum(1, keepdim=True)
        return torch.cat([shift, self.out(h) * atoms], -1)


class Block(nn.Module):
    """One round of messages: pairs, then atoms, then positions."""

    def __init__(self, width: int, pair_width: int, radial: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.modulate = zero_init(nn.Linear(width, 2 * width))
        self.receive = nn.Linear(width, pair_width)
        self.send = nn.Linear(width, pair_width, bias=False)
        self.geometry = nn.Linear(radial, pair_width, bias=False)
        self.recall = nn.Linear(pair_width, pair_width, bias=False)
        self.message = nn.Linear(pair_width, pair_width)
        self.gate = nn.Linear(pair_width, 1)
        pushed = nn.Linear(pair_width, 1, bias=False)
        self.push = nn.Sequential(nn.Linear(pair_width, pair_width), nn.SiLU(), pushed)
        self.update = nn.Sequential(
            nn.Linear(width + pair_width, 2 * width), nn.SiLU(), zero_init(nn.Linear(2 * width, width))
        )
        nn.init.normal_(pushed.weight, std=1e-3)

    def forward(
        self,
        h: Float[Tensor, "b n w"],
        edge: Float[Tensor, "b n n p"],
        radial: Float[Tensor, "b n n r"],
        unit: Float[Tensor, "b n n 3"],
        pairs: Float[Tensor, "b n n 1"],
        noise: Float[Tensor, "b w"],
    ) -> tuple[Float[Tensor, "b n w"], Float[Tensor, "b n n p"], Float[Tensor, "b n 3"]]:
        """New atom states, new pair states, and the shift of the positions."""
        scale, offset = self.modulate(noise).unsqueeze(1).chunk(2, -1)
        normed = self.norm(h) * (1 + scale) + offset
        hidden = self.receive(normed).unsqueeze(2) + self.send(normed).unsqueeze(1)  # [b, i, j, p]
        hidden = silu(hidden + self.geometry(radial) + self.recall(edge))
        edge = edge + self.message(hidden)
        message = silu(edge)
        gated = message * (self.gate(message).sigmoid() * pairs)
        heard = gated.sum(2) / math.sqrt(10)
        h = h + self.update(torch.cat([normed, heard], -1))
        shift = (unit * (self.push(message) * pairs)).sum(2)
        return h, edge, shift


class Radial(nn.Module):
    """Radial functions exp(-beta (exp(-d / 2) - mu_k)^2), dense at short distances (Unke and Meuwly 2019,
    arXiv:1902.08408, Eq. 7).
    """

    centres: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(0, 1, count), persistent=False)
        self.beta = float(count**2) / 2

    def forward(self, distance: Float[Tensor, "b n n 1"]) -> Float[Tensor, "b n n r"]:
        """[b, n, n, 1] -> [b, n, n, count]."""
        return (-self.beta * ((-distance / 2).exp() - self.centres.to(distance.dtype)).square()).exp()


class Fourier(nn.Module):
    """sin and cos of the log noise at geometric frequencies: [b] -> [b, 2 count]."""

    frequencies: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(-1, 1, count), persistent=False)

    def forward(self, log_noise: Float[Tensor, " b"]) -> Float[Tensor, "b f"]:
        """The embedding of a noise level."""
        angle = log_noise.unsqueeze(-1) * self.frequencies.to(log_noise.dtype)
        return torch.cat([angle.sin(), angle.cos()], -1)


def zero_init(layer: nn.Linear) -> nn.Linear:
    """The layer with zero weights: a block that starts as the identity."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def pair_mask(mask: Bool[Tensor, "b n"]) -> Bool[Tensor, "b n n"]:
    """Pairs of two different real atoms."""
    both = mask.unsqueeze(1) & mask.unsqueeze(2)
    return both & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)


def directions(
    position: Float[Tensor, "b n 3"],
) -> tuple[Float[Tensor, "b n n 3"], Float[Tensor, "b n n 1"]]:
    """(x_i - x_j) / (d_ij + 1) as in EDM, and the distance d_ij with a gradient at zero."""
    difference = position.unsqueeze(2) - position.unsqueeze(1)
    distance = (difference.square().sum(-1, keepdim=True) + 1e-8).sqrt()
    return difference / (distance + 1), distance
