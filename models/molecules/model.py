"""Models in a folder: weights.safetensors, model.json with plain numbers, and a manifest; nothing in it names code."""

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from molrl.data.molecules.sizes import Sizes
from molrl.models.molecules.codec import MoleculeCodec
from molrl.models.molecules.condition import Condition
from molrl.models.molecules.edm import EDM
from molrl.models.molecules.egnn import EGNN
from molrl.models.molecules.tensor_field import TensorField
from molrl.models.precondition import Preconditioned
from molrl.models.shipped import MAX_WIDTH, describe, locate
from molrl.runs import checkpoint
from molrl.runs.checkpoint import CheckpointError
from molrl.schedule import LogLinear, Polynomial, Schedule

MOLECULES = "molecules"
REFERENCE_BYTES = 2**28
NETWORKS: Mapping[str, Callable[..., nn.Module]] = {"egnn": EGNN, "tensor_field": TensorField}
CONDITIONAL = {"egnn"}
EDM_QM9 = MoleculeCodec(elements=(1, 6, 7, 8, 9), type_scale=0.25, charge_scale=0.1)
EDM_COUNTS = (
    "1 4 5 9 16 49 124 362 807 1689 3060 5136 7796 10644 13025 13364 13832 9482 9970 3393 4848 539 1506 48 266 25"
)
EDM_SIZES = Sizes((*range(3, 28), 29), tuple(map(int, EDM_COUNTS.split())))  # of EDM's QM9 training split


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What model.json says: enough to build the network, and to read and draw molecules.

    Attributes:
        network: "kind", one of NETWORKS, and the sizes it takes.
        noise_min, noise_max: ends of the log-linear schedule, in the data's units.
        data_std: root mean square of each state channel.
        codec: fields of MoleculeCodec.
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
        """For model.json; an unconditional model says nothing of conditions."""
        return {name: value for name, value in asdict(self).items() if name != "conditions" or value}

    def build(self) -> "Pretrained":
        """A model with fresh weights."""
        kind, arguments = self.network["kind"], {name: size for name, size in self.network.items() if name != "kind"}
        if kind not in NETWORKS or any(not 0 < size <= MAX_WIDTH for size in arguments.values()):
            raise ValueError(f"network: got {dict(self.network)}, allowed {list(NETWORKS)} with sizes 1 to {MAX_WIDTH}")
        conditions, sizes = self.told(), Sizes(tuple(self.sizes["atoms"]), tuple(self.sizes["counts"]))
        told = {"conditions": len(conditions)} if kind in CONDITIONAL else {}
        codec = MoleculeCodec(**{**self.codec, "elements": tuple(self.codec["elements"])})
        schedule = LogLinear(self.noise_min, self.noise_max)
        denoiser = Preconditioned(NETWORKS[kind](features=codec.features, **told, **arguments), schedule, self.data_std)
        return Pretrained(denoiser, schedule, codec, sizes, None, self, conditions)

    def told(self) -> tuple[Condition, ...]:
        """The conditions, checked against the network and the sizes."""
        kind, conditions = self.network["kind"], tuple(Condition(**fields) for fields in self.conditions)
        if conditions and kind not in CONDITIONAL:
            raise ValueError(f"conditions: a network of kind {kind!r} takes none, {', '.join(CONDITIONAL)} does")
        for condition in conditions:
            if missing := [size for size in self.sizes["atoms"] if str(size) not in condition.quantiles]:
                raise ValueError(f"condition {condition.name}: no quantiles for molecules of {missing} atoms")
        return conditions


@dataclass(frozen=True)
class Pretrained:
    """A denoiser with all that is needed to draw molecules from it."""

    denoiser: nn.Module
    schedule: Schedule
    codec: MoleculeCodec
    sizes: Sizes
    reference: frozenset[str] | None
    architecture: Architecture | None
    conditions: tuple[Condition, ...] = ()


def domain_of(described: Any) -> str:
    """What the model of a model.json draws: "molecules", unless it names another "domain"."""
    return str(described.get("domain", MOLECULES)) if isinstance(described, Mapping) else MOLECULES


def domain_at(weights: str) -> str:
    """The same for what `weights=` names."""
    return MOLECULES if weights.endswith(".safetensors") else domain_of(describe(locate(weights)))


def refuse_other_domain(folder: Path, described: Any, wanted: str) -> None:
    """Raise CheckpointError where the model in a folder draws something else."""
    if (found := domain_of(described)) != wanted:
        raise CheckpointError(f"{folder}: a model of {found}, here one of {wanted} is needed")


def load(weights: str) -> Pretrained:
    """Read a model, in evaluation mode: a folder of ours, or EDM's published QM9 weights as a .safetensors file.

    Raises:
        CheckpointError: missing, altered, of another domain, or not fitting its own description.
    """
    if weights.endswith(".safetensors"):
        return load_edm(Path(weights))
    folder = locate(weights)
    tensors, values = checkpoint.load(folder)
    refuse_other_domain(folder, values.get("model"), MOLECULES)
    try:
        model = Architecture(**values["model"]).build()
        state = tensors["weights"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: not a molecule model ({error})") from error
    checkpoint.check_fits(model.denoiser.state_dict(), state, f"the network of {folder / 'model.json'}")
    model.denoiser.load_state_dict(state)
    model.denoiser.eval()
    return replace(model, reference=read_reference(folder))


def load_edm(path: Path) -> Pretrained:
    """EDM's network with its schedule, scaling and size histogram (Hoogeboom et al. 2022, arXiv:2203.17003)."""
    if not path.is_file():
        raise CheckpointError(f"weights={path}: no such file")
    network = EDM.from_safetensors(path).eval()
    features = network.state_dict()["dynamics.egnn.embedding.weight"].shape[1] - 1
    if features != EDM_QM9.features:
        raise CheckpointError(f"{path}: {features} features per atom, EDM's QM9 model has {EDM_QM9.features}")
    return Pretrained(network, Polynomial(), EDM_QM9, EDM_SIZES, None, None)


def save(
    folder: Path, architecture: Architecture, state: Mapping[str, Tensor], reference: frozenset[str] | None
) -> None:
    """Write a model that `load` reads."""
    checkpoint.save(folder, {"weights": state}, {"model": architecture.plain()})
    if reference is not None:
        text = "\n".join(sorted(reference)) + "\n"
        (folder / "reference.smi.gz").write_bytes(gzip.compress(text.encode(), 6, mtime=0))


def read_reference(folder: Path) -> frozenset[str] | None:
    """SMILES of the training set, where the model came with them."""
    path = folder / "reference.smi.gz"
    if not path.is_file():
        return None
    try:
        with gzip.open(path) as file:
            data = file.read(REFERENCE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise CheckpointError(f"{path}: damaged ({error})") from error
    if len(data) > REFERENCE_BYTES:
        raise CheckpointError(f"{path}: unpacks to more than {REFERENCE_BYTES} bytes")
    return frozenset(data.decode().split())
