"""A tensor field network: messages of scalars, vectors and second-order tensors (Thomas et al. 2018, arXiv:1802.08219).

With depthwise tensor products and gates as in NequIP (Batzner et al. 2022, arXiv:2101.03164).
"""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from molrl.gaussian import Context
from molrl.models.molecules.egnn import Fourier, Radial, directions, pair_mask

DEGREE = 2  # highest degree of the spherical harmonics


class TensorField(nn.Module):
    """Raw E(3)-equivariant network F(x, log_noise, context): positions rotate with the input, features do not.

    All pairs of atoms of a molecule exchange messages. Needs e3nn, which keeps its constants in the dtype that is
    torch's default at construction: for equivariance to double precision, build it under float64.

    Args:
        features: feature channels per atom, after the three position channels.
        scalars: invariant channels of an atom's state.
        vectors: vector channels (odd parity).
        tensors: traceless symmetric second-order channels (even parity).
        blocks: depth.
        radial: number of radial functions of a distance.

    Raises:
        ImportError: e3nn is not installed; the message says how to get it.
    """

    def __init__(
        self,
        *,
        features: int,
        scalars: int = 32,
        vectors: int = 16,
        tensors: int = 8,
        blocks: int = 3,
        radial: int = 16,
    ) -> None:
        super().__init__()
        o3, _ = _e3nn()
        first = o3.Irreps(f"{scalars}x0e")
        middle = o3.Irreps(f"{scalars}x0e + {vectors}x1o + {tensors}x2e")
        last = o3.Irreps(f"{scalars}x0e + {vectors}x1o")  # nothing reads a tensor after the last block
        states = [first, *[middle] * (blocks - 1), last]
        self.scalars = scalars
        self.noise = nn.Sequential(Fourier(32), nn.Linear(64, scalars), nn.SiLU())
        self.embed = nn.Linear(features, scalars)
        self.radial = Radial(radial)
        self.harmonics = o3.SphericalHarmonics(list(range(DEGREE + 1)), normalize=False, normalization="component")
        self.blocks = nn.ModuleList(
            Convolution(before, after, scalars=scalars, radial=radial) for before, after in pairwise(states)
        )
        self.out = nn.Sequential(nn.Linear(scalars, scalars), nn.SiLU(), nn.Linear(scalars, features))
        self.shift = o3.Linear(last, "1x1o")

    def forward(
        self, x: Float[Tensor, "b n c"], log_noise: Float[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b n c"]:
        """x: [b, n, 3 + features], centred, at unit scale; log_noise: log(sigma_t / alpha_t)."""
        mask = context["mask"]
        pairs = pair_mask(mask)
        unit, distance = directions(x[..., :3])
        # the harmonics are polynomials of (x_i - x_j) / (d_ij + 1): no direction is divided by zero where atoms meet
        edges = Edges(*_endpoints(mask, pairs), self.radial(distance)[pairs], self.harmonics(unit[pairs]))
        noise = self.noise(log_noise)[mask.nonzero()[:, 0]]
        state = self.embed(x[mask][:, 3:]) + noise  # [atoms, scalars]
        for block in self.blocks:
            state = block(state, noise, edges)
        raw = torch.cat([self.shift(state), self.out(state[:, : self.scalars])], dim=-1)
        out = torch.zeros_like(x).index_put((mask,), raw)
        atoms = mask.unsqueeze(-1).to(x.dtype)
        mean = out[..., :3].sum(1, keepdim=True) / atoms.sum(1, keepdim=True).clamp(min=1)
        return torch.cat([out[..., :3] - atoms * mean, out[..., 3:]], dim=-1)


class Edges(NamedTuple):
    """All ordered pairs of two real atoms of a molecule.

    Attributes:
        receiver: row of the atom that hears, int64 [pairs].
        sender: row of the atom that speaks, int64 [pairs].
        radial: radial functions of the distance, [pairs, radial].
        harmonics: spherical harmonics of the direction, [pairs, (DEGREE + 1)^2].
    """

    receiver: Tensor
    sender: Tensor
    radial: Tensor
    harmonics: Tensor


class Convolution(nn.Module):
    """s_i <- L s_i + gate(M sum_j R(d_ij, s_i, s_j) s_j (x) Y(x_i - x_j)), R being one weight per channel and path."""

    def __init__(self, before: Any, after: Any, *, scalars: int, radial: int) -> None:
        super().__init__()
        o3, gates = _e3nn()
        self.scalars = scalars
        self.product = _depthwise_product(before, after)
        self.weigh = nn.Linear(radial, scalars, bias=False)
        self.receive = nn.Linear(2 * scalars, scalars)
        self.send = nn.Linear(scalars, scalars, bias=False)
        self.weights = nn.Sequential(nn.SiLU(), nn.Linear(scalars, self.product.weight_numel))
        curved = o3.Irreps([(count, irrep) for count, irrep in after if irrep.l > 0])
        opening = o3.Irreps([(curved.num_irreps, "0e")])
        self.gate = gates.Gate(f"{scalars}x0e", [torch.nn.functional.silu], opening, [torch.sigmoid], curved)
        self.mix = o3.Linear(self.product.irreps_out, self.gate.irreps_in, biases=True)
        self.keep = o3.Linear(before, after)

    def forward(
        self, state: Float[Tensor, "atoms before"], noise: Float[Tensor, "atoms scalars"], edges: Edges
    ) -> Float[Tensor, "atoms after"]:
        """One round of messages from each pair's sender to its receiver."""
        h = state[:, : self.scalars]
        heard = self.receive(torch.cat([h, noise], dim=-1))[edges.receiver]
        weights = self.weights(heard + self.send(h)[edges.sender] + self.weigh(edges.radial))
        message = self.product(state[edges.sender], edges.harmonics, weights)
        total = message.new_zeros(len(state), message.shape[1]).index_add(0, edges.receiver, message)
        neighbours = torch.bincount(edges.receiver, minlength=len(state)).clamp(min=1).to(state.dtype)
        new: Tensor = self.keep(state) + self.gate(self.mix(total / neighbours.sqrt().unsqueeze(-1)))
        return new


def _depthwise_product(before: Any, after: Any) -> Any:
    """Tensor product of `before` with the harmonics, each channel by itself, kept where `after` can use the result."""
    o3, _ = _e3nn()
    harmonics = o3.Irreps.spherical_harmonics(DEGREE)
    wanted = {irrep for _, irrep in after}
    made: list[tuple[int, Any]] = []
    paths: list[tuple[int, int, int, str, bool]] = []
    for i, (count, left) in enumerate(before):
        for j, (_, right) in enumerate(harmonics):
            for irrep in left * right:
                if irrep in wanted:
                    paths.append((i, j, len(made), "uvu", True))
                    made.append((count, irrep))
    return o3.TensorProduct(before, harmonics, o3.Irreps(made), paths, shared_weights=False, internal_weights=False)


def _endpoints(mask: Tensor, pairs: Tensor) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """Row numbers, among the real atoms of the batch, of the receiver and the sender of each pair."""
    number = (mask.flatten().cumsum(0) - 1).view(mask.shape)
    molecule, receiver, sender = pairs.nonzero(as_tuple=True)
    return number[molecule, receiver], number[molecule, sender]


def _e3nn() -> tuple[Any, Any]:
    try:
        from e3nn import nn as gates
        from e3nn import o3
    except ImportError as error:
        raise ImportError("TensorField needs e3nn: pip install 'molrl[e3nn]'") from error
    return o3, gates
