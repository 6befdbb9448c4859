"""Migration of shape models and shape classifiers from format 1 to format 2: the names of their parameters."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from molrl.models.description import with_header
from molrl.models.migration import rename_parameters

SET_TRANSFORMER_NAMES = {
    "network.embed": "network.point_embedding",
    "network.inducers": "network.inducing_points",
    "network.noise": "network.noise_embedding",
    "network.kind": "network.class_embedding",
    "network.modulate": "network.modulation",
    "network.layers.*.modulate": "network.layers.*.modulation",
    "network.layers.*.gather.ask": "network.layers.*.inducer_attention.to_q",
    "network.layers.*.gather.tell": "network.layers.*.inducer_attention.to_kv",
    "network.layers.*.gather.out": "network.layers.*.inducer_attention.to_out",
    "network.layers.*.spread.ask": "network.layers.*.point_attention.to_q",
    "network.layers.*.spread.tell": "network.layers.*.point_attention.to_kv",
    "network.layers.*.spread.out": "network.layers.*.point_attention.to_out",
    "network.layers.*.think.0": "network.layers.*.inducer_mlp",
    "network.layers.*.think.1": "network.layers.*.point_mlp",
}
CLASSIFIER_NAMES = {"each": "point_mlp", "all": "head"}
NAMES: Mapping[str, Mapping[str, str]] = {"shapes": SET_TRANSFORMER_NAMES, "shape classifier": CLASSIFIER_NAMES}


def upgrade(
    description: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Return a shape model or a shape classifier of format 1 in format 2."""
    fields = dict(description)
    domain = fields.pop("domain", None)
    if not isinstance(domain, str) or domain not in NAMES:
        return None
    return with_header(domain, fields), rename_parameters(weights, NAMES[domain])
