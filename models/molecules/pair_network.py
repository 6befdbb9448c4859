"""The network of drug-size molecules: an equivariant graph network whose work is mostly matrix products.

Of the same family as `EGNN` (Satorras et al. 2021, arXiv:2102.09844, Eq. 3-6; Hoogeboom et al. 2022, arXiv:2203.17003,
App. C), and made for bfloat16 on CPUs: the tensors of pairs [b, n, n, p] go through few element-wise operations, sums
over neighbours and displacements are matrix products, and each atom receives several differently gated sums of its
pairs. The noise level and the number of atoms modulate every block (adaptive layer norm: Peebles and Xie 2023,
arXiv:2212.09748, Sec. 3.2).
"""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import silu

from molrl.gaussian import Context
from molrl.models.layers import FourierFeatures, zero_init
from molrl.models.molecules.core_embedding import CoreEmbedding
from molrl.models.molecules.egnn import NEIGHBOUR_SCALE, RadialBasis, pair_mask

GATES = 4  # sums of pair states that an atom receives
FREQUENCIES = 32  # of the noise level
CONDITION_WIDTH = 128
TYPICAL_LOG_COUNT = 3.0  # log of 20 atoms


class PairNetwork(nn.Module):
    """Raw equivariant network F(x, log_noise, context): positions rotate with the input, features do not.

    Args:
        features: feature channels per atom, after the three position channels.
        width: channels of an atom's state.
        pair_width: channels of a pair's state.
        blocks: depth.
        radial: number of radial basis functions of a distance.
        passes: calls in each prediction; from the second on the network also reads its own clean estimate
            (`molrl.models.recycling`).
        cores: 1 for a network that is told the atoms of a core (`CoreEmbedding`); 0 for others.
    """

    compilable: ClassVar[bool] = True
    by_size: ClassVar[bool] = True
    feature_inputs: ClassVar[tuple[str, ...]] = ("atom_embedding.weight", "estimate_atoms.weight")
    feature_outputs: ClassVar[tuple[str, ...]] = ("out.weight", "out.bias")

    def __init__(
        self,
        *,
        features: int,
        width: int,
        pair_width: int,
        blocks: int,
        radial: int,
        passes: int = 1,
        cores: int = 0,
    ) -> None:
        super().__init__()
        self.passes = passes
        self.radial_basis = RadialBasis(radial, decay=1.0)  # in units of the data's spread, 2.5 angstrom for drugs
        self.noise_embedding = FourierFeatures(FREQUENCIES)
        self.condition = nn.Sequential(
            nn.Linear(2 * FREQUENCIES + 1, CONDITION_WIDTH),
            nn.SiLU(),
            nn.Linear(CONDITION_WIDTH, CONDITION_WIDTH),
            nn.SiLU(),
        )
        self.atom_embedding = nn.Linear(features, width)
        self.pair_embedding = nn.Linear(radial, pair_width)
        self.blocks = nn.ModuleList(Block(width, pair_width, radial) for _ in range(blocks))
        self.out_norm = AdaptiveNorm(width)
        self.out = zero_init(nn.Linear(width, features))
        if passes > 1:  # built last and zero-initialised: the weights of a network of one pass give the same output
            self.estimate_atoms = zero_init(nn.Linear(features, width))
            self.estimate_pairs = zero_init(nn.Linear(radial, pair_width))
        self.core_embedding = CoreEmbedding(width) if cores else None

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        log_noise: Float[Tensor, " b"],
        context: Context,
        estimate: Float[Tensor, "b n c"] | None = None,
    ) -> Float[Tensor, "b n c"]:
        """Return F; x: [b, n, 3 + features], centred, at unit scale; log_noise: log(sigma_t / alpha_t).

        estimate: of the clean sample, at unit scale, from an earlier pass; rows of zeros have none.
        """
        mask = context["mask"]
        atoms, pairs = mask.unsqueeze(-1).to(x.dtype), pair_mask(mask)
        start, features = x[..., :3], x[..., 3:]
        size = atoms.sum(1).log() - TYPICAL_LOG_COUNT
        condition = self.condition(torch.cat([self.noise_embedding(log_noise), size], -1))
        h = self.atom_embedding(features).to(x.dtype)  # the sum over the blocks keeps full precision
        if self.core_embedding is not None:
            h = self.core_embedding(h, context)
        pair = self.pair_embedding(self.radial_basis(distances(start).unsqueeze(-1)))
        if estimate is not None:
            seen = estimate.flatten(1).any(1).view(-1, 1, 1)
            radial = self.radial_basis(distances(estimate[..., :3]).unsqueeze(-1))
            h = h + self.estimate_atoms(estimate[..., 3:]) * seen
            pair = pair + self.estimate_pairs(radial) * seen.unsqueeze(-1)
        position = start
        for block in self.blocks:
            distance = distances(position)
            radial = self.radial_basis(distance.unsqueeze(-1))
            h, pair, push = block(h, pair, radial, pairs, condition)
            position = position + displacement(position, push.to(x.dtype) / (distance + 1) * pairs)
        moved = (position - start) * atoms
        moved = moved - atoms * moved.sum(1, keepdim=True) / atoms.sum(1, keepdim=True)
        return torch.cat([moved, self.out(self.out_norm(h, condition)).to(x.dtype) * atoms], -1)


class Block(nn.Module):
    """One round: the pairs from their atoms, the atoms from their pairs, and the push along each pair."""

    def __init__(self, width: int, pair_width: int, radial: int) -> None:
        super().__init__()
        self.norm = AdaptiveNorm(width)
        self.receiver = nn.Linear(width, pair_width)
        self.sender = nn.Linear(width, pair_width, bias=False)
        self.distance = nn.Linear(radial, pair_width, bias=False)
        self.pair = nn.Linear(pair_width, pair_width, bias=False)
        self.pair_out = nn.Linear(pair_width, pair_width)
        self.gates = nn.Linear(pair_width, GATES)
        self.push = nn.Linear(pair_width, 1)
        self.atom_mlp = nn.Sequential(
            nn.Linear(width + GATES * pair_width, 2 * width), nn.SiLU(), zero_init(nn.Linear(2 * width, width))
        )
        nn.init.normal_(self.push.weight, std=1e-3)
        nn.init.zeros_(self.push.bias)

    def forward(
        self,
        h: Float[Tensor, "b n w"],
        pair: Float[Tensor, "b n n p"],
        radial: Float[Tensor, "b n n r"],
        pairs: Bool[Tensor, "b n n"],
        condition: Float[Tensor, "b c"],
    ) -> tuple[Float[Tensor, "b n w"], Float[Tensor, "b n n p"], Float[Tensor, "b n n"]]:
        """Return the new states of atoms and pairs, and the push of each pair.

        e_ij += V silu(W [h_i, h_j, d_ij, e_ij]);  h_i += MLP [h_i, sum_j sigmoid(g_k(e_ij)) e_ij]_k.
        """
        normed = self.norm(h, condition)
        inner = self.receiver(normed).unsqueeze(2) + self.sender(normed).unsqueeze(1)
        pair = pair + self.pair_out(silu(inner + self.distance(radial) + self.pair(pair)))
        message = silu(pair)
        gates = self.gates(message).sigmoid() * pairs.unsqueeze(-1)
        received = gates.transpose(-1, -2) @ message / NEIGHBOUR_SCALE  # [b, n, gates, p]
        h = h + self.atom_mlp(torch.cat([normed.to(received.dtype), received.flatten(-2)], -1))
        return h, pair, self.push(message).squeeze(-1)


class AdaptiveNorm(nn.Module):
    """Layer norm whose scale and shift depend on the condition: LN(h) (1 + scale(c)) + shift(c)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = zero_init(nn.Linear(CONDITION_WIDTH, 2 * width))

    def forward(self, h: Float[Tensor, "b n w"], condition: Float[Tensor, "b c"]) -> Float[Tensor, "b n w"]:
        """Return the normalised and modulated states of the atoms."""
        scale, shift = self.modulation(condition).unsqueeze(1).chunk(2, -1)
        out: Tensor = self.norm(h) * (1 + scale) + shift
        return out


def distances(position: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n n"]:
    """Return the distances d_ij, with a finite gradient at zero."""
    return ((position.unsqueeze(2) - position.unsqueeze(1)).square().sum(-1) + 1e-8).sqrt()


def displacement(position: Float[Tensor, "b n 3"], push: Float[Tensor, "b n n"]) -> Float[Tensor, "b n 3"]:
    """Return sum_j c_ij (x_i - x_j), by a product in full precision instead of a tensor of all differences."""
    with torch.autocast(position.device.type, enabled=False):
        return position * push.sum(-1, keepdim=True) - push @ position
