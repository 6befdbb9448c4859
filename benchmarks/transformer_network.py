"""Transformers for drug-size molecules, arms of the gate (`gate.py`): their work is matrix products of atoms.

Attention with distances as biases and with the distances of the attended pairs among the values (as in AlphaFold's
invariant point attention: Jumper et al. 2021, doi:10.1038/s41586-021-03819-2, Suppl. Alg. 22), normalised queries and
keys (Henry et al. 2020, arXiv:2010.04245), and every second layer a displacement along pairs (Satorras et al. 2021,
arXiv:2102.09844, Eq. 4). Nothing is wider than the heads or the radial basis on the tensors of pairs.
"""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import normalize, silu

from molrl.gaussian import Context
from molrl.models.layers import FourierFeatures, zero_init
from molrl.models.molecules.egnn import RadialBasis, pair_mask
from molrl.models.molecules.pair_network import (
    CONDITION_WIDTH,
    FREQUENCIES,
    TYPICAL_LOG_COUNT,
    AdaptiveNorm,
    displacement,
    distances,
)

MOVES = 8  # displacement fields that are summed in a move
FIRST_SHARPNESS = 4.0  # of attention by cosines


class TransformerNetwork(nn.Module):
    """Raw equivariant network F(x, log_noise, context): positions rotate with the input, features do not.

    Args:
        features: feature channels per atom, after the three position channels.
        width: channels of an atom's state.
        heads: heads of an attention; they divide the width.
        blocks: depth.
        radial: number of radial basis functions of a distance.
    """

    compilable: ClassVar[bool] = True
    by_size: ClassVar[bool] = True

    def __init__(self, *, features: int, width: int, heads: int, blocks: int, radial: int) -> None:
        super().__init__()
        self.radial_basis = RadialBasis(radial, decay=1.0)
        self.noise_embedding = FourierFeatures(FREQUENCIES)
        self.condition = nn.Sequential(
            nn.Linear(2 * FREQUENCIES + 1, CONDITION_WIDTH),
            nn.SiLU(),
            nn.Linear(CONDITION_WIDTH, CONDITION_WIDTH),
            nn.SiLU(),
        )
        self.atom_embedding = nn.Linear(features, width)
        self.blocks = nn.ModuleList(Block(width, heads, radial, moves=index % 2 == 1) for index in range(blocks))
        self.out_norm = AdaptiveNorm(width)
        self.out = zero_init(nn.Linear(width, features))

    def forward(
        self, x: Float[Tensor, "b n c"], log_noise: Float[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b n c"]:
        """Return F; x: [b, n, 3 + features], centred, at unit scale; log_noise: log(sigma_t / alpha_t)."""
        mask = context["mask"]
        atoms, pairs = mask.unsqueeze(-1).to(x.dtype), pair_mask(mask)
        start = x[..., :3]
        condition = self.conditioned(log_noise, atoms)
        h = self.atom_embedding(x[..., 3:]).to(x.dtype)
        position, distance = start, distances(start)
        radial = self.radial_basis(distance.unsqueeze(-1))
        for block in self.blocks:
            h, push = block(h, radial, pairs, condition)
            if push is not None:
                position = position + displacement(position, push.to(x.dtype) / (distance + 1) * pairs)
                distance = distances(position)
                radial = self.radial_basis(distance.unsqueeze(-1))
        moved = (position - start) * atoms
        moved = moved - atoms * moved.sum(1, keepdim=True) / atoms.sum(1, keepdim=True)
        return torch.cat([moved, self.out(self.out_norm(h, condition)).to(x.dtype) * atoms], -1)

    def conditioned(self, log_noise: Float[Tensor, " b"], atoms: Float[Tensor, "b n 1"]) -> Float[Tensor, "b c"]:
        """Return the condition of the blocks: the noise level and the number of atoms."""
        size = atoms.sum(1).log() - TYPICAL_LOG_COUNT
        out: Tensor = self.condition(torch.cat([self.noise_embedding(log_noise), size], -1))
        return out


class PlainTransformer(TransformerNetwork):
    """The same with positions as features of the atoms: not equivariant, a yardstick.

    In training every call sees its molecules in random orientations, and its output is turned back.
    """

    def __init__(self, *, features: int, width: int, heads: int, blocks: int, radial: int) -> None:
        super().__init__(features=features + 3, width=width, heads=heads, blocks=blocks, radial=radial)
        self.blocks = nn.ModuleList(Block(width, heads, radial, moves=False) for _ in range(blocks))

    def forward(
        self, x: Float[Tensor, "b n c"], log_noise: Float[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b n c"]:
        """Return F; x: [b, n, 3 + features], centred, at unit scale; log_noise: log(sigma_t / alpha_t)."""
        mask = context["mask"]
        atoms, pairs = mask.unsqueeze(-1).to(x.dtype), pair_mask(mask)
        turn = rotations(x) if self.training else torch.eye(3, dtype=x.dtype, device=x.device)
        h = self.atom_embedding(torch.cat([x[..., :3] @ turn, x[..., 3:]], -1)).to(x.dtype)
        radial = self.radial_basis(distances(x[..., :3]).unsqueeze(-1))
        condition = self.conditioned(log_noise, atoms)
        for block in self.blocks:
            h, _ = block(h, radial, pairs, condition)
        out = self.out(self.out_norm(h, condition)).to(x.dtype) * atoms
        moved = out[..., :3] @ turn.transpose(-1, -2)
        moved = moved - atoms * moved.sum(1, keepdim=True) / atoms.sum(1, keepdim=True)
        return torch.cat([moved, out[..., 3:]], -1)


def rotations(x: Float[Tensor, "b n c"]) -> Float[Tensor, "b 3 3"]:
    """Return a random rotation or reflection for each molecule, by orthonormalising normal numbers."""
    q, r = torch.linalg.qr(torch.randn(len(x), 3, 3, dtype=x.dtype, device=x.device))
    turn: Tensor = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return turn


class Block(nn.Module):
    """Attention over the other atoms, a network of each atom, and in some blocks a push along each pair."""

    def __init__(self, width: int, heads: int, radial: int, *, moves: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm = AdaptiveNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.bias = nn.Linear(radial, heads)
        self.sharpness = nn.Parameter(torch.full((heads, 1, 1), FIRST_SHARPNESS))
        self.attended = zero_init(nn.Linear(width + heads * radial, width))
        self.mlp_norm = AdaptiveNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), zero_init(nn.Linear(4 * width, width)))
        self.move = Move(width, radial) if moves else None

    def forward(
        self,
        h: Float[Tensor, "b n w"],
        radial: Float[Tensor, "b n n r"],
        pairs: Bool[Tensor, "b n n"],
        condition: Float[Tensor, "b c"],
    ) -> tuple[Float[Tensor, "b n w"], Float[Tensor, "b n n"] | None]:
        """Return the new states of the atoms, and the push of each pair or None."""
        split = self.queries_keys_values(self.norm(h, condition)).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = split.permute(2, 0, 3, 1, 4)  # each [b, heads, n, d]
        cosines = normalize(queries, dim=-1) @ normalize(keys, dim=-1).transpose(-1, -2)
        logits = self.sharpness * cosines + self.bias(radial).permute(0, 3, 1, 2)
        weights = logits.masked_fill(~pairs.unsqueeze(1), -1e4).softmax(-1)  # [b, heads, n, n]
        seen = (weights @ values).transpose(1, 2).flatten(-2)  # [b, n, w]
        spaced = (weights.transpose(1, 2) @ radial).flatten(-2)  # [b, n, heads r]: how far what is seen lies
        h = h + self.attended(torch.cat([seen, spaced.to(seen.dtype)], -1))
        h = h + self.mlp(self.mlp_norm(h, condition))
        return h, None if self.move is None else self.move(h, radial, condition)


class Move(nn.Module):
    """The push of a pair, products of its atoms and functions of its distance: sum_m (q_im k_jm + a_m(d)) c_m(d)."""

    def __init__(self, width: int, radial: int) -> None:
        super().__init__()
        self.norm = AdaptiveNorm(width)
        self.queries_keys = nn.Linear(width, 2 * MOVES * MOVES)
        self.offset = nn.Linear(radial, MOVES)
        self.field = nn.Linear(radial, MOVES)
        nn.init.normal_(self.field.weight, std=1e-2)
        nn.init.zeros_(self.field.bias)

    def forward(
        self, h: Float[Tensor, "b n w"], radial: Float[Tensor, "b n n r"], condition: Float[Tensor, "b c"]
    ) -> Float[Tensor, "b n n"]:
        """Return the push of each pair."""
        split = silu(self.queries_keys(self.norm(h, condition))).unflatten(-1, (2, MOVES, MOVES))
        queries, keys = split.permute(2, 0, 3, 1, 4)
        strength = (queries @ keys.transpose(-1, -2)).permute(0, 2, 3, 1) + self.offset(radial)
        push: Tensor = (strength * self.field(radial)).sum(-1)
        return push
