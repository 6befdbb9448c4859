"""Migration of molecule models from format 1 to format 2: a domain in the description, and parameter names."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from molrl.models.description import with_header
from molrl.models.migration import rename_parameters

EGNN_NAMES = {
    "network.noise": "network.noise_embedding",
    "network.embed": "network.node_embedding",
    "network.embed_pair": "network.edge_embedding",
    "network.condition": "network.condition_embedding",
    "network.blocks.*.modulate": "network.blocks.*.modulation",
    "network.blocks.*.receive": "network.blocks.*.edge_mlp.receiver",
    "network.blocks.*.send": "network.blocks.*.edge_mlp.sender",
    "network.blocks.*.geometry": "network.blocks.*.edge_mlp.distance",
    "network.blocks.*.recall": "network.blocks.*.edge_mlp.edge",
    "network.blocks.*.message": "network.blocks.*.edge_mlp.out",
    "network.blocks.*.gate": "network.blocks.*.att_mlp",
    "network.blocks.*.push": "network.blocks.*.coord_mlp",
    "network.blocks.*.update": "network.blocks.*.node_mlp",
}
TENSOR_FIELD_NAMES = {
    "network.noise": "network.noise_embedding",
    "network.embed": "network.node_embedding",
    "network.shift": "network.position_out",
    "network.blocks.*.product": "network.blocks.*.tensor_product",
    "network.blocks.*.weigh": "network.blocks.*.weight_mlp.distance",
    "network.blocks.*.receive": "network.blocks.*.weight_mlp.receiver",
    "network.blocks.*.send": "network.blocks.*.weight_mlp.sender",
    "network.blocks.*.weights.1": "network.blocks.*.weight_mlp.out",
    "network.blocks.*.mix": "network.blocks.*.linear",
    "network.blocks.*.keep": "network.blocks.*.self_connection",
}
NAMES: Mapping[str, Mapping[str, str]] = {"egnn": EGNN_NAMES, "tensor_field": TENSOR_FIELD_NAMES}


def upgrade(
    description: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Return a molecule model of format 1 in format 2; a description of format 1 without a domain is of molecules."""
    network = description.get("network")
    table = NAMES.get(str(network.get("kind"))) if isinstance(network, Mapping) else None
    if "domain" in description or table is None:
        return None
    return with_header("molecules", description), rename_parameters(weights, table)
