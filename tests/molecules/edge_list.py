"""EDM's network read literally from its equations: an edge list, one row per pair, nothing factorised.

An independent second implementation (Hoogeboom et al. 2022, arXiv:2203.17003, Eqs. 11 to 13) to compare and to time
`molrl.models.molecules.edm` against. It takes parameters by their published names.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

RANGE = 15.0


def edge_list_edm(weights: Mapping[str, Tensor], x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    """Predict the noise [b, n, 3 + F] in x [b, n, 3 + F] at times t [b], for atoms where mask [b, n] is True."""
    molecule, _ = mask.nonzero(as_tuple=True)  # [atoms]
    receiver, sender = _pairs(molecule)
    state = x[mask]  # [atoms, 3 + F]
    start = position = state[:, :3]
    h = _linear(weights, "embedding", torch.cat([state[:, 3:], t[molecule, None].to(x.dtype)], dim=1))
    start_squared = ((start[receiver] - start[sender]) ** 2).sum(1, keepdim=True)
    for k in range(sum(key.endswith("gcl_0.edge_mlp.0.weight") for key in weights)):
        gcl, equiv = f"e_block_{k}.gcl_0", f"e_block_{k}.gcl_equiv"
        difference = position[receiver] - position[sender]
        squared = (difference**2).sum(1, keepdim=True)

        edge = torch.cat([h[receiver], h[sender], squared, start_squared], dim=1)
        message = _silu(_linear(weights, f"{gcl}.edge_mlp.0", edge))
        message = _silu(_linear(weights, f"{gcl}.edge_mlp.2", message))
        gate = torch.sigmoid(_linear(weights, f"{gcl}.att_mlp.0", message))
        received = torch.zeros_like(h).index_add(0, receiver, gate * message)
        update = _silu(_linear(weights, f"{gcl}.node_mlp.0", torch.cat([h, received], dim=1)))
        h = h + _linear(weights, f"{gcl}.node_mlp.2", update)

        edge = torch.cat([h[receiver], h[sender], squared, start_squared], dim=1)
        hidden = _silu(_linear(weights, f"{equiv}.coord_mlp.0", edge))
        hidden = _silu(_linear(weights, f"{equiv}.coord_mlp.2", hidden))
        length = RANGE * torch.tanh(hidden @ weights[f"dynamics.egnn.{equiv}.coord_mlp.4.weight"].T)
        step = difference / (torch.sqrt(squared + 1e-8) + 1) * length
        position = position + torch.zeros_like(position).index_add(0, receiver, step)

    noise = torch.cat([position - start, _linear(weights, "embedding_out", h)[:, :-1]], dim=1)
    sums = torch.zeros(len(x), 3, dtype=x.dtype, device=x.device).index_add(0, molecule, noise[:, :3])
    mean = sums / mask.sum(1, keepdim=True)
    noise = torch.cat([noise[:, :3] - mean[molecule], noise[:, 3:]], dim=1)
    return torch.zeros_like(x).index_put((mask,), noise)


def _pairs(molecule: Tensor) -> tuple[Tensor, Tensor]:
    """Return all ordered pairs of two different atoms of the same molecule."""
    same = molecule[:, None] == molecule[None, :]
    same.fill_diagonal_(False)
    receiver, sender = same.nonzero(as_tuple=True)
    return receiver, sender


def _linear(weights: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ weights[f"dynamics.egnn.{name}.weight"].T + weights[f"dynamics.egnn.{name}.bias"]


def _silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)
