"""The default molecule network: an E(n)-equivariant graph network of EDM's family, made fast.

Built on Satorras et al. 2021 (arXiv:2102.09844, Eq. 3-6) in the form of Hoogeboom et al. 2022 (arXiv:2203.17003,
App. C), with these changes: everything is dense over [b, n, n] (molecules are small and fully connected); the first
layer of the edge network phi_e is factorised, W [h_i, h_j, d_ij, e_ij] = A h_i + B h_j + C d_ij + D e_ij, so that the
products with h are computed once per atom; one message serves atoms and positions; edges carry a state e_ij from block
to block; distances enter through a radial basis; the noise level modulates every block (FiLM: Perez et al. 2018,
arXiv:1709.07871).
"""

import math
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import silu

from molrl.gaussian import Context
from molrl.models.layers import FourierFeatures, zero_init
from molrl.models.molecules.core_embedding import CoreEmbedding

NEIGHBOUR_SCALE = math.sqrt(10)  # messages are summed over all atoms of a molecule and divided by this
MIN_EXPONENT = -80.0  # 2e-35; where exp underflows CPUs need ten times as long for it


class EGNN(nn.Module):
    """Raw equivariant network F(x, log_noise, context): positions rotate with the input, features do not.

    Args:
        features: feature channels per atom, after the three position channels.
        width: channels of an atom's state.
        pair_width: channels of an edge's state and of a message.
        blocks: depth.
        radial: number of radial basis functions of a distance.
        conditions: numbers that a molecule is conditioned on, `context["condition"]` [b, conditions], standardised.
        cores: 1 for a network that is told the atoms of a core (`CoreEmbedding`); 0 for others.
    """

    compilable: ClassVar[bool] = True
    feature_inputs: ClassVar[tuple[str, ...]] = ("node_embedding.weight",)
    feature_outputs: ClassVar[tuple[str, ...]] = ("out.3.weight", "out.3.bias")

    def __init__(
        self,
        *,
        features: int,
        width: int,
        pair_width: int,
        blocks: int,
        radial: int,
        conditions: int = 0,
        cores: int = 0,
    ) -> None:
        super().__init__()
        self.radial_basis = RadialBasis(radial, decay=2.0)
        self.noise_embedding = nn.Sequential(FourierFeatures(32), nn.Linear(64, width), nn.SiLU())
        self.node_embedding = nn.Linear(features, width)
        self.edge_embedding = nn.Linear(radial, pair_width)
        self.blocks = nn.ModuleList(EGNNBlock(width, pair_width, radial) for _ in range(blocks))
        self.out = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), zero_init(nn.Linear(width, features))
        )
        # built last and zero-initialised: a seed, or the weights of an unconditional network, give the same output
        # with it and without it
        self.condition_embedding = (
            nn.Sequential(nn.Linear(conditions, width), nn.SiLU(), zero_init(nn.Linear(width, width)))
            if conditions
            else None
        )
        self.core_embedding = CoreEmbedding(width) if cores else None

    def forward(
        self, x: Float[Tensor, "b n c"], log_noise: Float[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b n c"]:
        """Return F; x: [b, n, 3 + features], centred, at unit scale; log_noise: log(sigma_t / alpha_t)."""
        mask = context["mask"]
        pairs = pair_mask(mask).to(x.dtype).unsqueeze(-1)
        start, features = x[..., :3], x[..., 3:]
        embedding = self.noise_embedding(log_noise)
        if self.condition_embedding is not None:
            embedding = embedding + self.condition_embedding(context["condition"].to(embedding.dtype))
        h = self.node_embedding(features) + embedding.unsqueeze(1)
        if self.core_embedding is not None:
            h = self.core_embedding(h, context)
        position, edge = start, None
        for block in self.blocks:
            unit, distance = directions(position)
            radial = self.radial_basis(distance)
            edge = self.edge_embedding(radial) if edge is None else edge
            h, edge, displacement = block(h, edge, radial, unit, pairs, embedding)
            position = position + displacement
        atoms = mask.unsqueeze(-1).to(x.dtype)
        displacement = (position - start) * atoms
        displacement = displacement - atoms * displacement.sum(1, keepdim=True) / atoms.sum(1, keepdim=True)
        return torch.cat([displacement, self.out(h) * atoms], -1)


class EGNNBlock(nn.Module):
    """One round of message passing: first the edges, then the atoms, then the positions."""

    def __init__(self, width: int, pair_width: int, radial: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.modulation = zero_init(nn.Linear(width, 2 * width))
        self.edge_mlp = EdgeMLP(width, pair_width, radial)
        self.att_mlp = nn.Linear(pair_width, 1)
        last = nn.Linear(pair_width, 1, bias=False)
        self.coord_mlp = nn.Sequential(nn.Linear(pair_width, pair_width), nn.SiLU(), last)
        self.node_mlp = nn.Sequential(
            nn.Linear(width + pair_width, 2 * width), nn.SiLU(), zero_init(nn.Linear(2 * width, width))
        )
        nn.init.normal_(last.weight, std=1e-3)

    def forward(
        self,
        h: Float[Tensor, "b n w"],
        edge: Float[Tensor, "b n n p"],
        radial: Float[Tensor, "b n n r"],
        unit: Float[Tensor, "b n n 3"],
        pairs: Float[Tensor, "b n n 1"],
        embedding: Float[Tensor, "b w"],
    ) -> tuple[Float[Tensor, "b n w"], Float[Tensor, "b n n p"], Float[Tensor, "b n 3"]]:
        """Return the new atom states, the new edge states, and the displacement of the positions."""
        scale, shift = self.modulation(embedding).unsqueeze(1).chunk(2, -1)
        normed = self.norm(h) * (1 + scale) + shift
        edge = edge + self.edge_mlp(normed, radial, edge)
        message = silu(edge)
        gated = message * (self.att_mlp(message).sigmoid() * pairs)
        received = gated.sum(2) / NEIGHBOUR_SCALE
        h = h + self.node_mlp(torch.cat([normed, received], -1))
        displacement = (unit * (self.coord_mlp(message) * pairs)).sum(2)
        return h, edge, displacement


class EdgeMLP(nn.Module):
    """The edge network phi_e([h_i, h_j, d_ij, e_ij]) with one hidden layer, its first layer in one part per input."""

    def __init__(self, width: int, pair_width: int, radial: int) -> None:
        super().__init__()
        self.receiver = nn.Linear(width, pair_width)
        self.sender = nn.Linear(width, pair_width, bias=False)
        self.distance = nn.Linear(radial, pair_width, bias=False)
        self.edge = nn.Linear(pair_width, pair_width, bias=False)
        self.out = nn.Linear(pair_width, pair_width)

    def forward(
        self, h: Float[Tensor, "b n w"], radial: Float[Tensor, "b n n r"], edge: Float[Tensor, "b n n p"]
    ) -> Float[Tensor, "b n n p"]:
        """Return the update of every edge's state."""
        hidden = self.receiver(h).unsqueeze(2) + self.sender(h).unsqueeze(1)  # [b, i, j, p]
        update: Tensor = self.out(silu(hidden + self.distance(radial) + self.edge(edge)))
        return update


class RadialBasis(nn.Module):
    """The radial basis exp(-beta (exp(-d / decay) - mu_k)^2), dense at short distances (Unke and Meuwly 2019,
    arXiv:1902.08408, Eq. 7).

    Args:
        count: number of basis functions.
        decay: unit of the distances; a smaller one makes the basis denser at short distances.
    """

    centres: Tensor

    def __init__(self, count: int, decay: float) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(0, 1, count), persistent=False)
        self.beta = float(count**2) / 2
        self.decay = decay

    def forward(self, distance: Float[Tensor, "b n n 1"]) -> Float[Tensor, "b n n r"]:
        """Return the basis functions of distances: [b, n, n, 1] -> [b, n, n, count]."""
        apart = ((-distance / self.decay).exp() - self.centres.to(distance.dtype)).square()
        return (-self.beta * apart).clamp(min=MIN_EXPONENT).exp()


def pair_mask(mask: Bool[Tensor, "b n"]) -> Bool[Tensor, "b n n"]:
    """Return the mask of all pairs of two different real atoms."""
    both = mask.unsqueeze(1) & mask.unsqueeze(2)
    return both & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)


def directions(
    position: Float[Tensor, "b n 3"],
) -> tuple[Float[Tensor, "b n n 3"], Float[Tensor, "b n n 1"]]:
    """Return (x_i - x_j) / (d_ij + 1) as in EDM, and the distance d_ij with a finite gradient at zero."""
    difference = position.unsqueeze(2) - position.unsqueeze(1)
    distance = (difference.square().sum(-1, keepdim=True) + 1e-8).sqrt()
    return difference / (distance + 1), distance
