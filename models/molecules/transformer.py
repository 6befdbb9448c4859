"""An equivariant transformer with a pair stream: most of its work is matrix products, which bfloat16 makes fast.

Atoms attend to each other (Vaswani et al. 2017, arXiv:1706.03762) with normalised queries and keys (Dehghani et al. 2023,
arXiv:2302.05442, Sec. 2). Every second layer updates a state for each pair of atoms from its two atoms and its distance;
the pair states bias the attention of the next two layers, as in AlphaFold's Evoformer (Jumper et al. 2021,
doi:10.1038/s41586-021-03819-2, Suppl. Alg. 7), send gated messages to the atoms, and move the positions as an EGNN does
(Satorras et al. 2021, arXiv:2102.09844, Eq. 4). The noise level and the number of atoms modulate every layer (adaptive
layer norm: Peebles and Xie 2023, arXiv:2212.09748, Sec. 3.2).
"""

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from molrl.gaussian import Context
from molrl.models.layers import FourierFeatures, zero_init
from molrl.models.molecules.egnn import NEIGHBOUR_SCALE, pair_mask

HEAD_WIDTH = 32
GATES = 4  # sums of pair states that each atom receives
CONDITION_WIDTH = 128


class PairTransformer(nn.Module):
    """Raw equivariant network F(x, log_noise, context): positions rotate with the input, features do not.

    Args:
        features: feature channels per atom, after the three position channels.
        width: channels of an atom's state, a multiple of 32.
        pair_width: channels of a pair's state.
        blocks: depth; each block has one update of the pairs and two layers of attention.
        radial: number of radial basis functions of a distance.
    """

    feature_inputs: ClassVar[tuple[str, ...]] = ("atom_embedding.weight",)
    feature_outputs: ClassVar[tuple[str, ...]] = ("out.weight", "out.bias")

    def __init__(self, *, features: int, width: int, pair_width: int, blocks: int, radial: int) -> None:
        super().__init__()
        if width % HEAD_WIDTH:
            raise ValueError(f"network.width: got {width}, need a multiple of {HEAD_WIDTH}")
        self.radial_basis = ExponentialBasis(radial)
        self.noise_embedding = FourierFeatures(32)
        self.condition = nn.Sequential(
            nn.Linear(64 + 1, CONDITION_WIDTH), nn.SiLU(), nn.Linear(CONDITION_WIDTH, CONDITION_WIDTH), nn.SiLU()
        )
        self.atom_embedding = nn.Linear(features, width)
        self.pair_embedding = nn.Linear(radial, pair_width)
        self.blocks = nn.ModuleList(Block(width, pair_width, radial) for _ in range(blocks))
        self.out_norm = AdaptiveNorm(width)
        self.out = zero_init(nn.Linear(width, features))

    def forward(
        self, x: Float[Tensor, "b n c"], log_noise: Float[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b n c"]:
        """Return F; x: [b, n, 3 + features], centred, at unit scale; log_noise: log(sigma_t / alpha_t)."""
        mask = context["mask"]
        atoms, pairs = mask.unsqueeze(-1).to(x.dtype), pair_mask(mask)
        start, features = x[..., :3], x[..., 3:]
        count = atoms.sum(1).log() - 3  # about zero for 20 atoms
        condition = self.condition(torch.cat([self.noise_embedding(log_noise), count], -1))
        h = self.atom_embedding(features).to(x.dtype)  # the residual stream keeps full precision
        position, pair = start, None
        for block in self.blocks:
            distance, scaled = distances(position)
            radial = self.radial_basis(distance)
            pair = self.pair_embedding(radial) if pair is None else pair
            h, pair, coefficient = block(h, pair, radial, pairs, condition)
            position = position + displacement(position, coefficient.to(x.dtype) * scaled)
        moved = (position - start) * atoms
        moved = moved - atoms * moved.sum(1, keepdim=True) / atoms.sum(1, keepdim=True)
        return torch.cat([moved, self.out(self.out_norm(h, condition)).to(x.dtype) * atoms], -1)


class Block(nn.Module):
    """An update of the pairs, what they send to atoms and positions, and two layers of attention that they bias."""

    def __init__(self, width: int, pair_width: int, radial: int) -> None:
        super().__init__()
        self.norm = AdaptiveNorm(width)
        self.pairs = PairUpdate(width, pair_width, radial)
        self.messages = PairMessages(width, pair_width)
        heads = width // HEAD_WIDTH
        self.bias = nn.Linear(pair_width, 2 * heads)
        self.layers = nn.ModuleList(Layer(width) for _ in range(2))
        self.coord_mlp = nn.Sequential(
            nn.Linear(pair_width, pair_width), nn.SiLU(), nn.Linear(pair_width, 1, bias=False)
        )
        nn.init.normal_(self.coord_mlp[-1].weight, std=1e-3)

    def forward(
        self,
        h: Float[Tensor, "b n w"],
        pair: Float[Tensor, "b n n p"],
        radial: Float[Tensor, "b n n r"],
        pairs: Tensor,
        condition: Float[Tensor, "b c"],
    ) -> tuple[Float[Tensor, "b n w"], Float[Tensor, "b n n p"], Float[Tensor, "b n n"]]:
        """Return the new states of atoms and pairs, and the coefficient of each pair in the displacement."""
        pair = pair + self.pairs(self.norm(h, condition), radial, pair)
        message = silu(pair)
        h = h + self.messages(message, pairs)
        bias = self.bias(message).movedim(-1, 1).masked_fill(~pairs.unsqueeze(1), -1e4)  # a lone atom attends to itself
        for layer, part in zip(self.layers, bias.chunk(2, 1), strict=True):
            h = layer(h, part, condition)
        return h, pair, self.coord_mlp(message).squeeze(-1) * pairs


class PairUpdate(nn.Module):
    """The pair network phi([h_i, h_j, d_ij, e_ij]) with one hidden layer, its first layer in one part per input."""

    def __init__(self, width: int, pair_width: int, radial: int) -> None:
        super().__init__()
        self.receiver = nn.Linear(width, pair_width)
        self.sender = nn.Linear(width, pair_width, bias=False)
        self.pair = nn.Linear(pair_width + radial, pair_width, bias=False)
        self.out = nn.Linear(pair_width, pair_width)

    def forward(
        self, h: Float[Tensor, "b n w"], radial: Float[Tensor, "b n n r"], pair: Float[Tensor, "b n n p"]
    ) -> Float[Tensor, "b n n p"]:
        """Return the update of every pair's state."""
        inner = self.pair(torch.cat([pair, radial.to(pair.dtype)], -1))
        update: Tensor = self.out(silu(inner + self.receiver(h).unsqueeze(2) + self.sender(h).unsqueeze(1)))
        return update


class PairMessages(nn.Module):
    """The sums of an atom's pair states, each with gates of its own: W [sum_j sigmoid(g_k(e_ij)) e_ij]_k."""

    def __init__(self, width: int, pair_width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(pair_width, GATES)
        self.out = zero_init(nn.Linear(GATES * pair_width, width))

    def forward(self, message: Float[Tensor, "b n n p"], pairs: Tensor) -> Float[Tensor, "b n w"]:
        """Return what each atom receives from its pairs."""
        gates = self.gate(message).sigmoid() * pairs.unsqueeze(-1)
        received = gates.transpose(-1, -2) @ message / NEIGHBOUR_SCALE  # [b, n, gates, p]
        out: Tensor = self.out(received.flatten(-2))
        return out


class Layer(nn.Module):
    """Attention among atoms with a bias for each pair, then a network for each atom; both gated residuals."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD_WIDTH
        self.attention_norm, self.mlp_norm = AdaptiveNorm(width), AdaptiveNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm, self.k_norm = nn.RMSNorm(HEAD_WIDTH), nn.RMSNorm(HEAD_WIDTH)
        self.attention_out = zero_init(nn.Linear(width, width))
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.SiLU(), zero_init(nn.Linear(3 * width, width)))

    def forward(
        self, h: Float[Tensor, "b n w"], bias: Float[Tensor, "b h n n"], condition: Float[Tensor, "b c"]
    ) -> Float[Tensor, "b n w"]:
        """Return the new states of the atoms."""
        b, n, width = h.shape
        qkv = self.qkv(self.attention_norm(h, condition)).view(b, n, 3, self.heads, HEAD_WIDTH)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [b, heads, n, HEAD_WIDTH]
        logits = self.q_norm(q) @ self.k_norm(k).transpose(-1, -2) / math.sqrt(HEAD_WIDTH) + bias
        received = (logits.softmax(-1).to(v.dtype) @ v).transpose(1, 2).reshape(b, n, width)
        h = h + self.attention_out(received)
        update: Tensor = self.mlp(self.mlp_norm(h, condition))
        return h + update


class AdaptiveNorm(nn.Module):
    """Layer norm whose scale and shift depend on the condition: LN(h) (1 + scale(c)) + shift(c)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = zero_init(nn.Linear(CONDITION_WIDTH, 2 * width))

    def forward(self, h: Float[Tensor, "b n w"], condition: Float[Tensor, "b c"]) -> Float[Tensor, "b n w"]:
        """Return the modulated states."""
        scale, shift = self.modulation(condition).unsqueeze(1).chunk(2, -1)
        out: Tensor = self.norm(h) * (1 + scale) + shift
        return out


class ExponentialBasis(nn.Module):
    """The radial basis exp(-beta (exp(-d) - mu_k)^2) (Unke and Meuwly 2019, arXiv:1902.08408, Eq. 7)."""

    centres: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(0, 1, count), persistent=False)
        self.beta = float(count**2) / 2

    def forward(self, distance: Float[Tensor, "b n n 1"]) -> Float[Tensor, "b n n r"]:
        """Return the basis functions of distances: [b, n, n, 1] -> [b, n, n, count]."""
        return (-self.beta * ((-distance).exp() - self.centres.to(distance.dtype)).square()).exp()


def distances(position: Float[Tensor, "b n 3"]) -> tuple[Float[Tensor, "b n n 1"], Float[Tensor, "b n n"]]:
    """Return the distance d_ij, with a finite gradient at zero, and 1 / (d_ij + 1)."""
    square = (position.unsqueeze(2) - position.unsqueeze(1)).square().sum(-1)
    distance = (square + 1e-8).sqrt()
    return distance.unsqueeze(-1), 1 / (distance + 1)


def displacement(position: Float[Tensor, "b n 3"], coefficient: Float[Tensor, "b n n"]) -> Float[Tensor, "b n 3"]:
    """Return sum_j c_ij (x_i - x_j), as two products in full precision instead of a tensor of all differences."""
    with torch.autocast(position.device.type, enabled=False):
        return position * coefficient.sum(-1, keepdim=True) - coefficient @ position
