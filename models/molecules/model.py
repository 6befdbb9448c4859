"""Molecule models in a folder: weights.safetensors, model.json with plain numbers, and a manifest; none names code."""

import gzip
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from molrl.data.molecules.sizes import Sizes
from molrl.data.molecules.smiles_hashes import SmilesHashes
from molrl.machine.files import naming, open_regular, replace_file
from molrl.models.description import domain_of, with_header
from molrl.models.loading import load_network
from molrl.models.molecules.atom_types import AtomTypeCodec
from molrl.models.molecules.codec import Codec, MoleculeCodec
from molrl.models.molecules.condition import Condition
from molrl.models.molecules.edm import EDM
from molrl.models.molecules.egnn import EGNN
from molrl.models.molecules.pair_network import PairNetwork
from molrl.models.molecules.tensor_field import TensorField
from molrl.models.networks import build_network, takes
from molrl.models.precondition import Preconditioned
from molrl.models.shipped import locate
from molrl.runs import checkpoint
from molrl.runs.errors import CheckpointError
from molrl.runs.headers import Header
from molrl.schedule import LogLinear, Polynomial, Schedule

MOLECULES = "molecules"
HASHES = "reference_hashes"  # file and tensor with the hashes of the training set's SMILES
REFERENCE = "reference.smi.gz"  # file with the SMILES themselves
MAX_REFERENCE_BYTES, MAX_HASHES = 2**28, 2**24
Reference: TypeAlias = frozenset[str] | SmilesHashes
"""The canonical SMILES of a training set, or their hashes, of which one can only ask whether a molecule is in it."""
NETWORKS: Mapping[str, Callable[..., nn.Module]] = {
    "egnn": EGNN,
    "pair_network": PairNetwork,
    "tensor_field": TensorField,
}
EDM_QM9 = MoleculeCodec(elements=(1, 6, 7, 8, 9), type_scale=0.25, charge_scale=0.1)
EDM_COUNTS = (
    "1 4 5 9 16 49 124 362 807 1689 3060 5136 7796 10644 13025 13364 13832 9482 9970 3393 4848 539 1506 48 266 25"
)
EDM_SIZES = Sizes((*range(3, 28), 29), tuple(map(int, EDM_COUNTS.split())))  # of EDM's QM9 training split


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The fields of model.json: enough to build the network, and to read and draw molecules.

    Attributes:
        network: "kind", one of NETWORKS or of an entry point, and the sizes it takes.
        noise_min, noise_max: ends of the log-linear schedule, in the data's units.
        data_std: root mean square of each state channel.
        codec: fields of a MoleculeCodec or, with "types", of an AtomTypeCodec.
        sizes: histogram of the numbers of atoms in the training set.
        conditions: fields of each Condition, in the order of the network's inputs; none for an unconditional model.
    """

    network: Mapping[str, Any]
    noise_min: float
    noise_max: float
    data_std: tuple[float, ...]
    codec: Mapping[str, Any]
    sizes: Mapping[str, Any]
    conditions: Sequence[Mapping[str, Any]] = ()

    def plain(self) -> dict[str, Any]:
        """Return the description for model.json; that of an unconditional model has no conditions."""
        return with_header(
            MOLECULES, {name: value for name, value in asdict(self).items() if name != "conditions" or value}
        )

    def build(self) -> "Pretrained":
        """Return a model with freshly initialised weights."""
        conditions, sizes = self.checked_conditions(), Sizes(tuple(self.sizes["atoms"]), tuple(self.sizes["counts"]))
        codec = build_codec(self.codec)
        schedule = LogLinear(self.noise_min, self.noise_max)
        network = build_network(self.network, NETWORKS, features=codec.features, conditions=len(conditions))
        denoiser = Preconditioned(network, schedule, self.data_std)
        return Pretrained(denoiser, schedule, codec, sizes, None, self, conditions)

    def checked_conditions(self) -> tuple[Condition, ...]:
        """Return the conditions; raises ValueError where the network or the sizes do not fit them."""
        kind, conditions = self.network["kind"], tuple(Condition(**fields) for fields in self.conditions)
        if conditions and not takes(kind, NETWORKS, "conditions"):
            able = ", ".join(name for name in NETWORKS if takes(name, NETWORKS, "conditions"))
            raise ValueError(f"conditions: a network of kind {kind!r} takes none, {able} does")
        for condition in conditions:
            if missing := [size for size in self.sizes["atoms"] if str(size) not in condition.quantiles]:
                raise ValueError(f"condition {condition.name}: no quantiles for molecules of {missing} atoms")
        return conditions


@dataclass(frozen=True)
class Pretrained:
    """A denoiser with everything that is needed to draw molecules from it.

    Attributes:
        reference: the training set, for novelty; None where the model came without it.
    """

    denoiser: nn.Module
    schedule: Schedule
    codec: Codec
    sizes: Sizes
    reference: Reference | None
    architecture: Architecture | None
    conditions: tuple[Condition, ...] = ()


def build_codec(fields: Mapping[str, Any]) -> Codec:
    """Return the codec that a description names.

    Raises:
        TypeError, ValueError: the fields are not those of a codec.
    """
    if "types" not in fields:
        return MoleculeCodec(**{**fields, "elements": tuple(fields["elements"])})
    types = tuple((int(number), int(hydrogens), int(charge)) for number, hydrogens, charge in fields["types"])
    codes = tuple(tuple(map(float, code)) for code in fields["codes"])
    return AtomTypeCodec(**{**fields, "types": types, "codes": codes})


def domain_at(weights: str) -> str:
    """Return the domain of the model that a name or a path stands for; EDM's published weights are of molecules.

    Raises:
        CheckpointError: there is no such model, or it is of another format.
    """
    return MOLECULES if weights.endswith(".safetensors") else domain_of(locate(weights)) or MOLECULES


def load(weights: str) -> Pretrained:
    """Read a model in evaluation mode: by its name or folder, or EDM's published QM9 weights as a .safetensors file.

    Raises:
        CheckpointError: missing, altered, of another format or domain, or not fitting its own description.
    """
    if weights.endswith(".safetensors"):
        return load_edm(Path(weights))
    folder = locate(weights)
    model, headers = load_network(
        folder, MOLECULES, lambda fields: Architecture(**fields).build(), lambda built: built.denoiser
    )
    return replace(model, reference=read_hashes(folder, headers) or read_reference(folder))


def load_edm(path: Path) -> Pretrained:
    """Read EDM's network, with its schedule, scaling and size histogram (Hoogeboom et al. 2022, arXiv:2203.17003)."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    network = EDM.from_safetensors(path).eval()
    features = network.state_dict()["dynamics.egnn.embedding.weight"].shape[1] - 1
    if features != EDM_QM9.features:
        raise CheckpointError(f"{path}: {features} features per atom, EDM's QM9 model has {EDM_QM9.features}")
    return Pretrained(network, Polynomial(), EDM_QM9, EDM_SIZES, None, None)


def save(folder: Path, architecture: Architecture, state: Mapping[str, Tensor], reference: Reference | None) -> None:
    """Write a model's folder for `load`, with the SMILES of its training set or their hashes."""
    tensors = {"weights": state}
    if isinstance(reference, SmilesHashes):
        tensors[HASHES] = {HASHES: torch.from_numpy(reference.values.view(np.int64))}
    checkpoint.save(folder, tensors, {"model": architecture.plain()})
    if isinstance(reference, frozenset):
        text = "\n".join(sorted(reference)) + "\n"
        replace_file(folder / REFERENCE, gzip.compress(text.encode(), 6, mtime=0))


def read_hashes(folder: Path, headers: Mapping[str, Header]) -> SmilesHashes | None:
    """Return the hashes of the training set's SMILES, or None where the model came without them."""
    if HASHES not in headers:
        return None
    try:
        entry = headers[HASHES][HASHES]
        if entry.dtype != torch.int64 or len(entry.shape) != 1 or entry.shape[0] > MAX_HASHES:
            raise ValueError(f"got {entry.dtype} {entry.shape}, expected at most {MAX_HASHES} uint64 as int64")
        return SmilesHashes(checkpoint.load_group(folder, HASHES)[HASHES].numpy().view(np.uint64))
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{folder}: the hashes of its training set are damaged ({error})") from error


def read_training_set(folder: Path) -> Reference | None:
    """Return the SMILES of a model's training set or their hashes, or None where the model came without both."""
    smiles = read_reference(folder)
    return read_hashes(folder, checkpoint.inspect(folder)[0]) if smiles is None else smiles


def read_reference(folder: Path) -> frozenset[str] | None:
    """Return the SMILES of the training set, or None where the model came without them."""
    path = folder / REFERENCE
    if not os.path.lexists(path):
        return None
    try:
        with open_regular(path) as packed, gzip.GzipFile(fileobj=packed) as file, naming(path):
            data = file.read(MAX_REFERENCE_BYTES + 1)
    except (EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise CheckpointError(f"{path}: damaged ({error})") from error
    if len(data) > MAX_REFERENCE_BYTES or data.count(b"\n") > MAX_HASHES:
        raise CheckpointError(f"{path}: unpacks to more than {MAX_REFERENCE_BYTES} bytes or {MAX_HASHES} lines")
    return frozenset(data.decode(errors="replace").split())
