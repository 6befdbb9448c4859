"""A tensor field network: messages of scalars, vectors and second-order tensors (Thomas et al. 2018, arXiv:1802.08219).

Its tensor products are depthwise and its nonlinearities gated, as in NequIP (Batzner et al. 2022, arXiv:2101.03164).
"""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import silu

from molrl.gaussian import Context
from molrl.models.layers import FourierFeatures
from molrl.models.molecules.egnn import RadialBasis, directions, pair_mask

MAX_DEGREE = 2  # of the spherical harmonics


class TensorField(nn.Module):
    """Raw E(3)-equivariant network F(x, log_noise, context): positions rotate with the input, features do not.

    All pairs of atoms of a molecule exchange messages. Needs e3nn, which keeps its constants in the dtype that is
    torch's default at construction: for equivariance to double precision, build it under float64. Under autocast, the
    networks of scalars compute in its dtype; tensor products stay in that of x, for e3nn's kernels do not mix dtypes.

    Args:
        features: feature channels per atom, after the three position channels.
        scalars: invariant channels of an atom's state.
        vectors: vector channels (odd parity).
        tensors: traceless symmetric second-order channels (even parity).
        blocks: depth.
        radial: number of radial basis functions of a distance.

    Raises:
        ImportError: e3nn is not installed; the message says how to get it.
    """

    def __init__(
        self,
        *,
        features: int,
        scalars: int,
        vectors: int,
        tensors: int,
        blocks: int,
        radial: int,
    ) -> None:
        super().__init__()
        o3, _ = _e3nn()
        first = o3.Irreps(f"{scalars}x0e")
        middle = o3.Irreps(f"{scalars}x0e + {vectors}x1o + {tensors}x2e")
        last = o3.Irreps(f"{scalars}x0e + {vectors}x1o")  # nothing reads a tensor after the last block
        states = [first, *[middle] * (blocks - 1), last]
        self.scalars = scalars
        self.noise_embedding = nn.Sequential(FourierFeatures(32), nn.Linear(64, scalars), nn.SiLU())
        self.node_embedding = nn.Linear(features, scalars)
        self.radial_basis = RadialBasis(radial, decay=2.0)
        self.spherical_harmonics = o3.SphericalHarmonics(
            list(range(MAX_DEGREE + 1)), normalize=False, normalization="component"
        )
        self.blocks = nn.ModuleList(
            Convolution(before, after, scalars=scalars, radial=radial) for before, after in pairwise(states)
        )
        self.out = nn.Sequential(nn.Linear(scalars, scalars), nn.SiLU(), nn.Linear(scalars, features))
        self.position_out = o3.Linear(last, "1x1o")

    def forward(
        self, x: Float[Tensor, "b n c"], log_noise: Float[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b n c"]:
        """Return F; x: [b, n, 3 + features], centred, at unit scale; log_noise: log(sigma_t / alpha_t)."""
        mask = context["mask"]
        pairs = pair_mask(mask)
        unit, distance = directions(x[..., :3])
        # the harmonics are polynomials of (x_i - x_j) / (d_ij + 1): no direction is divided by zero where atoms meet
        edges = Edges(
            *_endpoints(mask, pairs), self.radial_basis(distance)[pairs], self.spherical_harmonics(unit[pairs])
        )
        embedding = self.noise_embedding(log_noise)[mask.nonzero()[:, 0]].to(x.dtype)
        state = self.node_embedding(x[mask][:, 3:]).to(x.dtype) + embedding  # [atoms, scalars]
        for block in self.blocks:
            state = block(state, embedding, edges)
        features = self.out(state[:, : self.scalars]).to(x.dtype)
        with _full_precision(state):
            raw = torch.cat([self.position_out(state), features], dim=-1)
        out = torch.zeros_like(x).index_put((mask,), raw)
        atoms = mask.unsqueeze(-1).to(x.dtype)
        mean = out[..., :3].sum(1, keepdim=True) / atoms.sum(1, keepdim=True).clamp(min=1)
        return torch.cat([out[..., :3] - atoms * mean, out[..., 3:]], dim=-1)


class Edges(NamedTuple):
    """All ordered pairs of two different real atoms of a molecule.

    Attributes:
        receiver: row of the atom that receives the message, int64 [pairs].
        sender: row of the atom that sends it, int64 [pairs].
        radial: radial basis functions of the distance, [pairs, radial].
        harmonics: spherical harmonics of the direction, [pairs, (MAX_DEGREE + 1)^2].
    """

    receiver: Tensor
    sender: Tensor
    radial: Tensor
    harmonics: Tensor


class Convolution(nn.Module):
    """The convolution s_i <- L s_i + gate(M sum_j R(d_ij, s_i, s_j) s_j (x) Y(x_i - x_j)).

    R, the weight network, gives one weight per channel and path of the tensor product.
    """

    def __init__(self, before: Any, after: Any, *, scalars: int, radial: int) -> None:
        super().__init__()
        o3, gates = _e3nn()
        self.scalars = scalars
        self.tensor_product = _depthwise_product(before, after)
        self.weight_mlp = WeightMLP(scalars, radial, self.tensor_product.weight_numel)
        gated = o3.Irreps([(count, irrep) for count, irrep in after if irrep.l > 0])
        gate_scalars = o3.Irreps([(gated.num_irreps, "0e")])
        self.gate = gates.Gate(f"{scalars}x0e", [silu], gate_scalars, [torch.sigmoid], gated)
        self.linear = o3.Linear(self.tensor_product.irreps_out, self.gate.irreps_in, biases=True)
        self.self_connection = o3.Linear(before, after)

    def forward(
        self, state: Float[Tensor, "atoms before"], embedding: Float[Tensor, "atoms scalars"], edges: Edges
    ) -> Float[Tensor, "atoms after"]:
        """Return the states after one round of messages from each pair's sender to its receiver."""
        weights = self.weight_mlp(state[:, : self.scalars], embedding, edges).to(state.dtype)
        neighbours = torch.bincount(edges.receiver, minlength=len(state)).clamp(min=1).to(state.dtype)
        with _full_precision(state):
            message = self.tensor_product(state[edges.sender], edges.harmonics, weights)
            total = message.new_zeros(len(state), message.shape[1]).index_add(0, edges.receiver, message)
            new: Tensor = self.self_connection(state) + self.gate(self.linear(total / neighbours.sqrt().unsqueeze(-1)))
        return new


class WeightMLP(nn.Module):
    """The weight network R(d_ij, s_i, s_j) of scalar states and noise, its first layer in one part per input."""

    def __init__(self, scalars: int, radial: int, weights: int) -> None:
        super().__init__()
        self.distance = nn.Linear(radial, scalars, bias=False)
        self.receiver = nn.Linear(2 * scalars, scalars)
        self.sender = nn.Linear(scalars, scalars, bias=False)
        self.out = nn.Linear(scalars, weights)

    def forward(
        self, h: Float[Tensor, "atoms scalars"], embedding: Float[Tensor, "atoms scalars"], edges: Edges
    ) -> Float[Tensor, "pairs weights"]:
        """Return the weights of the tensor product of each pair."""
        received = self.receiver(torch.cat([h, embedding], dim=-1))[edges.receiver]
        hidden = received + self.sender(h)[edges.sender] + self.distance(edges.radial)
        weights: Tensor = self.out(silu(hidden))
        return weights


def _depthwise_product(before: Any, after: Any) -> Any:
    """Return the tensor product of `before` with the harmonics, channel by channel, of the irreps that `after` has."""
    o3, _ = _e3nn()
    harmonics = o3.Irreps.spherical_harmonics(MAX_DEGREE)
    output_irreps = {irrep for _, irrep in after}
    products: list[tuple[int, Any]] = []
    paths: list[tuple[int, int, int, str, bool]] = []
    for i, (count, left) in enumerate(before):
        for j, (_, right) in enumerate(harmonics):
            for irrep in left * right:
                if irrep in output_irreps:
                    paths.append((i, j, len(products), "uvu", True))
                    products.append((count, irrep))
    return o3.TensorProduct(before, harmonics, o3.Irreps(products), paths, shared_weights=False, internal_weights=False)


def _endpoints(mask: Tensor, pairs: Tensor) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """Return the rows, among the real atoms of the batch, of the receiver and the sender of each pair."""
    number = (mask.flatten().cumsum(0) - 1).view(mask.shape)
    molecule, receiver, sender = pairs.nonzero(as_tuple=True)
    return number[molecule, receiver], number[molecule, sender]


def _full_precision(like: Tensor) -> torch.autocast:
    return torch.autocast(like.device.type, enabled=False)


def _e3nn() -> tuple[Any, Any]:
    try:
        from e3nn import nn as gates
        from e3nn import o3
    except ImportError as error:
        raise ImportError("TensorField needs e3nn: pip install 'molrl[e3nn]'") from error
    return o3, gates
