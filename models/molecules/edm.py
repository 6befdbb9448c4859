"""EDM's published QM9 network, arithmetic and parameter names unchanged (Hoogeboom et al. 2022, arXiv:2203.17003)."""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from molrl.gaussian import Context
from molrl.machine.files import open_regular
from molrl.runs.headers import no_larger_than, read_header
from molrl.schedule import Polynomial

STEPS = 1000
PRECISION = 1e-5
COORDS_RANGE = 15.0  # angstrom, largest displacement along one pair in one block; the same in every block, as published
MAX_NUMBERS = 2**28  # of a file of weights; those for QM9 have five million
MAX_NAMES = 6  # keys of each kind that an error lists


class EDM(nn.Module):
    """Predict the noise in positions and features with EDM's EGNN (Hoogeboom et al. 2022, Eqs. 11 to 13).

    The parameters are those of the published code, name by name, so its weights load unchanged; the sums run over
    dense [b, n, n] pairs, and the first layer of every pair network is computed once per atom instead of once per pair.
    The paper's network for QM9 has width 256, 9 blocks and 6 features.

    Args:
        width: channels of atoms and messages.
        blocks: message passing blocks.
        features: channels of x after the three positions (one-hot elements, then the charge, in EDM's scaling).
    """

    buffer: Tensor

    def __init__(self, *, width: int, blocks: int, features: int) -> None:
        super().__init__()
        self.register_buffer("buffer", torch.zeros(1))  # unused, but in the published file
        self.gamma = GammaTable()
        self.dynamics = nn.ModuleDict({"egnn": EGNN(width=width, blocks=blocks, columns=features + 1)})

    def forward(
        self, x: Float[Tensor, "b n channels"], t: Float[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b n channels"]:
        """Predict the noise in x at time t in [0, 1]; `context["mask"]` is True for real atoms."""
        mask = context["mask"]
        positions, features = x[..., :3], x[..., 3:]
        time = t.to(x.dtype)[:, None, None].expand(-1, x.shape[1], 1)
        moved, out = self.dynamics["egnn"](positions, torch.cat([features, time], dim=-1), mask)
        real = mask[..., None].to(x.dtype)
        displacement = (moved - positions) * real
        displacement = displacement - displacement.sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1)
        return torch.cat([displacement, out[..., :-1]], dim=-1) * real  # the last column stands for the time

    @classmethod
    def from_state_dict(cls, weights: Mapping[str, Tensor]) -> "EDM":
        """Build the network whose width, depth and features the weights imply, and load them.

        Raises:
            ValueError: keys are missing, unexpected or of the wrong shape; the message names them.
        """
        embedding = weights.get("dynamics.egnn.embedding.weight")
        if embedding is None or embedding.ndim != 2 or embedding.shape[1] < 2:
            got = "no such key" if embedding is None else f"shape {tuple(embedding.shape)}"
            raise ValueError(f"not EDM weights: dynamics.egnn.embedding.weight: {got}, expected (width, features + 1)")
        width, columns = embedding.shape
        depth = len({block[1] for key in weights if (block := re.match(r"dynamics\.egnn\.e_block_(\d+)\.", key))}) or 1
        with no_larger_than(weights, "not EDM weights"):
            model = cls(width=width, blocks=depth, features=columns - 1)
        expected = model.state_dict()
        misshaped = [
            f"{key} {tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}"
            for key in sorted(expected.keys() & weights.keys())
            if weights[key].shape != expected[key].shape
        ]
        mismatches = {
            "missing": sorted(expected.keys() - weights.keys()),
            "unexpected": sorted(weights.keys() - expected.keys()),
            "misshaped": misshaped,
        }
        if any(mismatches.values()):
            details = "; ".join(f"{kind}: {_join_names(names)}" for kind, names in mismatches.items() if names)
            raise ValueError(
                f"weights do not fit EDM with width {width}, {depth} blocks, {columns - 1} features: {details}"
            )
        model = model.to(embedding.dtype)
        model.load_state_dict(dict(weights), strict=True)
        return model

    @classmethod
    def from_safetensors(cls, path: str | Path) -> "EDM":
        """Read weights stored under the published names; raises ValueError naming the file when they do not fit.

        The format is safetensors only, because a pickle can run code. EDM's own file is a pickled dictionary of
        tensors; convert a trusted copy once with
        `safetensors.torch.save_file(dict(torch.load(file, weights_only=True)), path)`.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        with open_regular(path, follow=True) as file:
            numbers = sum(math.prod(entry.shape) for entry in read_header(file, Path(path)).values())
        if numbers > MAX_NUMBERS:
            raise ValueError(f"{path}: {numbers} numbers, more than the {MAX_NUMBERS} allowed")
        try:
            weights = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path}: not a safetensors file ({error})") from error
        try:
            return cls.from_state_dict(weights)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


class GammaTable(nn.Module):
    """The noise schedule as the published file stores it: log(sigma^2 / alpha^2) at t = i / 1000, not trained."""

    gamma: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gamma", -Polynomial(steps=STEPS, precision=PRECISION).table.float())


class EGNN(nn.Module):
    """The equivariant graph network over `columns` features per atom, of which the last is the time."""

    def __init__(self, *, width: int, blocks: int, columns: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(columns, width)
        self.embedding_out = nn.Linear(width, columns)
        self.blocks = blocks
        for k in range(blocks):
            self.add_module(f"e_block_{k}", Block(width))

    def forward(
        self, x: Float[Tensor, "b n 3"], features: Float[Tensor, "b n columns"], mask: Bool[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n columns"]]:
        """Return moved positions and updated features; padded rows are meaningless."""
        diagonal = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        pairs = (mask[:, :, None] & mask[:, None, :] & ~diagonal).to(x.dtype)  # [b, i, j], i receives
        start = _differences(x).square().sum(-1)
        h = self.embedding(features)
        for k in range(self.blocks):
            x, h = self.get_submodule(f"e_block_{k}")(x, h, start, pairs)
        return x, self.embedding_out(h)


class Block(nn.Module):
    """One message passing step, then one update of the positions that uses the new features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gcl_0 = MessagePassing(width)
        self.gcl_equiv = CoordinateUpdate(width)

    def forward(
        self,
        x: Float[Tensor, "b n 3"],
        h: Float[Tensor, "b n width"],
        start: Float[Tensor, "b n n"],
        pairs: Float[Tensor, "b n n"],
    ) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n width"]]:
        """Return new positions and features; `start` has the squared distances of the network's input."""
        difference = _differences(x)
        squared = difference.square().sum(-1)
        distances = torch.stack([squared, start], dim=-1)
        h = self.gcl_0(h, distances, pairs)
        # EDM divides by the distance plus one; the 1e-8 keeps the gradient finite on the diagonal
        unit = difference / ((squared + 1e-8).sqrt() + 1)[..., None]
        return x + self.gcl_equiv(h, distances, unit, pairs), h


class MessagePassing(nn.Module):
    """The update h_i + MLP_n[h_i, sum_j gate(m_ij) m_ij] with m_ij = MLP_e[h_i, h_j, d_ij^2, d0_ij^2]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.edge_mlp = nn.Sequential(nn.Linear(2 * width + 2, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.att_mlp = nn.Sequential(nn.Linear(width, 1), nn.Sigmoid())
        self.node_mlp = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(
        self, h: Float[Tensor, "b n width"], distances: Float[Tensor, "b n n 2"], pairs: Float[Tensor, "b n n"]
    ) -> Float[Tensor, "b n width"]:
        """Return the features after one round of gated messages."""
        message = _pair_network(self.edge_mlp, h, distances)
        gate = self.att_mlp(message).squeeze(-1) * pairs
        received = (gate[:, :, None, :] @ message).squeeze(2)  # sum over j
        update: Tensor = self.node_mlp(torch.cat([h, received], dim=-1))
        return h + update


class CoordinateUpdate(nn.Module):
    """The displacement sum_j e_ij * 15 tanh(MLP_x[h_i, h_j, d_ij^2, d0_ij^2]) of each atom."""

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.Linear(width, 1, bias=False)
        nn.init.xavier_uniform_(last.weight, gain=0.001)
        self.coord_mlp = nn.Sequential(
            nn.Linear(2 * width + 2, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last
        )

    def forward(
        self,
        h: Float[Tensor, "b n width"],
        distances: Float[Tensor, "b n n 2"],
        unit: Float[Tensor, "b n n 3"],
        pairs: Float[Tensor, "b n n"],
    ) -> Float[Tensor, "b n 3"]:
        """Return the displacement of every atom, angstrom."""
        length = _pair_network(self.coord_mlp, h, distances).squeeze(-1).tanh() * (COORDS_RANGE * pairs)
        displacement: Tensor = length[:, :, None, :] @ unit
        return displacement.squeeze(2)


def _differences(x: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n n 3"]:
    return x[:, :, None] - x[:, None, :]


def _pair_network(
    network: nn.Sequential, h: Float[Tensor, "b n width"], distances: Float[Tensor, "b n n 2"]
) -> Float[Tensor, "b n n out"]:
    """Return `network` of [h_i, h_j, d_ij^2, d0_ij^2]; its first layer's products with h are computed once per atom."""
    first = network[0]
    assert isinstance(first, nn.Linear)
    width = h.shape[-1]
    receiver, sender, geometry = (
        first.weight[:, :width],
        first.weight[:, width : 2 * width],
        first.weight[:, 2 * width :],
    )
    pair = F.linear(distances, geometry)
    pair = pair + F.linear(h, receiver, first.bias)[:, :, None]
    pair = pair + F.linear(h, sender)[:, None, :]
    output: Tensor = network[1:](pair)
    return output


def _join_names(names: list[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
