"""Migration of image adapters from format 1 to format 2: adapter.json names its format."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from molrl.models.description import with_header


def upgrade(
    description: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Return an adapter of format 1 in format 2; its weights are in diffusers' own file and stay there."""
    if description.get("domain") != "images":
        return None
    fields = {name: value for name, value in description.items() if name != "domain"}
    return with_header("images", fields), dict(weights)
