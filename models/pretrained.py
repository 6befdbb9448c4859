"""Models in a folder: weights.safetensors, model.json with plain numbers, and a manifest; nothing in it names code."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from molrl import checkpoint
from molrl.checkpoint import CheckpointError
from molrl.data.sizes import Sizes
from molrl.models.codec import MoleculeCodec
from molrl.models.egnn import EGNN
from molrl.models.precondition import Preconditioned
from molrl.schedule import LogLinear

SHIPPED = Path(__file__).parent / "weights"
LARGEST = 4096  # no dimension of a network is read from a file above this
REFERENCE_BYTES = 2**28


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What model.json says: enough to build the network, and to read and draw molecules.

    Attributes:
        network: arguments of EGNN.
        noise_min, noise_max: ends of the log-linear schedule, in the data's units.
        data_std: root mean square of each state channel.
        codec: fields of MoleculeCodec.
        sizes: histogram of the numbers of atoms in the training set.
    """

    network: Mapping[str, int]
    noise_min: float
    noise_max: float
    data_std: tuple[float, ...]
    codec: Mapping[str, Any]
    sizes: Mapping[str, Any]

    def build(self) -> "Pretrained":
        """A model with fresh weights."""
        if any(not 0 < size <= LARGEST for size in self.network.values()):
            raise ValueError(f"network: got {dict(self.network)}, allowed sizes are 1 to {LARGEST}")
        codec = MoleculeCodec(**{**self.codec, "elements": tuple(self.codec["elements"])})
        network = EGNN(features=codec.features, **self.network)
        denoiser = Preconditioned(network, LogLinear(self.noise_min, self.noise_max), self.data_std)
        sizes = Sizes(tuple(self.sizes["atoms"]), tuple(self.sizes["counts"]))
        return Pretrained(denoiser, codec, sizes, None, self)


@dataclass(frozen=True)
class Pretrained:
    """A denoiser with all that is needed to draw molecules from it."""

    denoiser: Preconditioned
    codec: MoleculeCodec
    sizes: Sizes
    reference: frozenset[str] | None
    architecture: Architecture


def locate(weights: str) -> Path:
    """A shipped model's folder by name, or the folder itself."""
    for folder in (SHIPPED / weights, Path(weights)):
        if (folder / "manifest.json").is_file():
            return folder
    shipped = sorted(path.parent.name for path in SHIPPED.glob("*/manifest.json"))
    raise CheckpointError(
        f"weights={weights}: no such model; shipped are {shipped}, or name a folder with a model in it"
    )


def load(weights: str) -> Pretrained:
    """Read a model, in evaluation mode.

    Raises:
        CheckpointError: missing, altered, or not fitting its own description.
    """
    folder = locate(weights)
    tensors, values = checkpoint.load(folder)
    try:
        model = Architecture(**values["model"]).build()
        state = tensors["weights"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: not a molecule model ({error})") from error
    checkpoint.check_fits(model.denoiser.state_dict(), state, f"the network of {folder / 'model.json'}")
    model.denoiser.load_state_dict(state)
    model.denoiser.eval()
    return replace(model, reference=read_reference(folder))


def save(
    folder: Path, architecture: Architecture, state: Mapping[str, Tensor], reference: frozenset[str] | None
) -> None:
    """Write a model that `load` reads."""
    checkpoint.save(folder, {"weights": state}, {"model": asdict(architecture)})
    if reference is not None:
        text = "\n".join(sorted(reference)) + "\n"
        (folder / "reference.smi.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def read_reference(folder: Path) -> frozenset[str] | None:
    """SMILES of the training set, where the model came with them."""
    path = folder / "reference.smi.gz"
    if not path.is_file():
        return None
    with gzip.open(path) as file:
        data = file.read(REFERENCE_BYTES + 1)
    if len(data) > REFERENCE_BYTES:
        raise CheckpointError(f"{path}: unpacks to more than {REFERENCE_BYTES} bytes")
    return frozenset(data.decode().split())


def describe(folder: Path) -> dict[str, Any]:
    """model.json as it stands."""
    return dict(json.loads((folder / "model.json").read_text()))
