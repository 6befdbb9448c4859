"""One rule of where a model is: shipped under its name, in a folder, in `model/` of a run, or fetched from the Hub.

A shipped model lies in `weights/DOMAIN/NAME`. A folder holds a model if it has one of `MARKERS`.
"""

import os
from pathlib import Path

from molrl.models.hub import HUB, cached
from molrl.runs.errors import CheckpointError

SHIPPED = Path(__file__).parent / "weights"
MARKERS = (
    *("manifest.json", "model_index.json", "adapter.json"),  # ours, diffusers' own, a LoRA beside its base's name
    "pytorch_lora_weights.safetensors",  # a LoRA alone: loading it asks for its base
)
MAX_WIDTH = 4096  # no dimension of a network is read from a file above this


def shipped_names(domain: str = "*", marker: str = "*.json") -> list[str]:
    """Return the names of the shipped models, of one domain or of all."""
    return sorted({path.parent.name for path in SHIPPED.glob(f"{domain}/*/{marker}")})


def holds_model(folder: Path) -> bool:
    """Return whether a folder has a model in it."""
    return any(os.path.lexists(folder / name) for name in MARKERS)


def find_model(name: str) -> Path | None:
    """Return the folder of a model: shipped, the folder itself, or the `model/` of a run; None where there is none.

    `hub:OWNER/NAME@COMMIT` is a folder that was fetched before; nothing is fetched here, for a file may hold this name.

    Raises:
        CheckpointError: the `model/` of a run is a link, which may lead anywhere; the folder that is named may be one.
    """
    if name.startswith(HUB):
        return cached(name)
    shipped = [] if Path(name).name != name else sorted(SHIPPED.glob(f"*/{name}"))
    candidates = [*shipped, Path(name), Path(name) / "model"]
    found = next((folder for folder in candidates if holds_model(folder)), None)
    if found is not None and found is candidates[-1] and found.is_symlink():
        raise CheckpointError(f"{found}: a link, expected a folder; name the one that it leads to")
    return found


def locate(name: str) -> Path:
    """Return the folder of a model.

    Raises:
        CheckpointError: there is no such model.
    """
    if (folder := find_model(name)) is None:
        raise CheckpointError(
            f"{name}: no such model; shipped are {shipped_names()}, or name a folder with a model in it"
        )
    return folder
