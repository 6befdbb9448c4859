"""Pretraining of molecule models: a training set in the model's form of molecules, and the network that learns it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from molrl.config import ConfigError, settings
from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.molecule import Molecule, Molecules
from molrl.data.molecules.quality import smiles_set, without_stereo
from molrl.data.molecules.sets import MoleculeSet
from molrl.data.molecules.sizes import Sizes
from molrl.data.molecules.smiles_hashes import SmilesHashes
from molrl.gaussian import MaskedPoints
from molrl.models.molecules.codec import Codec, CodecDesign
from molrl.models.molecules.condition import Condition, label_molecules, standardise
from molrl.models.molecules.decoder import MoleculeDecoder
from molrl.models.molecules.masked import CoreLoss, check_cores, draw_cores
from molrl.models.molecules.model import MOLECULES, NETWORKS, Architecture, Pretrained, Reference, load, save
from molrl.models.molecules.policy import molecule_policy
from molrl.models.networks import takes
from molrl.models.pretraining import SamplingSettings, count_parameters, require_grid_power
from molrl.models.recycling import recycling_loss
from molrl.policy import Policy
from molrl.pretraining import Bucket, Loss, Pretraining, denoising_loss
from molrl.rewards.scores import PerSample
from molrl.runs.checkpoint import check_fits

MIN_ATOMS = 3  # with fewer there is no shape to learn
MAX_SKIPPED_LINES = 20  # printed
WITHOUT_EFFECT = {  # on whole molecules, at first: prefix of the names of layers -> what they read
    "network.condition_embedding.": "the condition",
    "network.estimate_": "the estimate of an earlier pass",
    "network.core_embedding.": "the atoms of a core",
}


@dataclass(frozen=True)
class Examples:
    """Molecules to learn from, all known to the codec.

    Attributes:
        values: properties that the model is conditioned on [molecules, conditions].
        codec: codec of their states.
        reference: their canonical SMILES without stereo marks, for the novelty of samples.
    """

    molecules: Sequence[Molecule]
    values: NDArray[np.float64]
    codec: Codec
    reference: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class MoleculeDesign:
    """A molecule model that has not met its data set yet.

    Attributes:
        network: "kind" of the network, and the sizes it takes.
        noise_min, noise_max: ends of the log-linear schedule, angstrom.
        codec: of states; it is fitted to the data set.
        bucket: numbers of atoms are padded to multiples of this.
        conditions: properties to condition on: name -> reward that computes it.
        reader: reads bonds, for the training set's SMILES and for the metrics of samples.
        reference: how the model keeps its training set for the novelty of samples: "smiles", or "hashes" of them.
        max_skipped: largest share of the data set's records that may be left out.
        core_probability: of training a molecule with a random core, see `molrl.models.molecules.masked`; 0: never.
    """

    network: Mapping[str, Any]
    noise_min: float
    noise_max: float
    codec: CodecDesign
    bucket: int
    conditions: Mapping[str, PerSample[Molecule]]
    reader: BondReader
    reference: Literal["smiles", "hashes"]
    max_skipped: float
    core_probability: float
    domain: ClassVar[str] = MOLECULES
    data_argument: ClassVar[str] = "hydrogens"

    def __post_init__(self) -> None:
        if self.bucket < 1:
            raise ValueError(f"bucket: got {self.bucket}, need at least 1")
        if not 0 <= self.max_skipped <= 1:
            raise ValueError(f"max_skipped: got {self.max_skipped}, allowed 0 to 1")
        if self.core_probability:
            knows_cores = takes(str(self.network.get("kind")), NETWORKS, "cores")
            check_cores(self.core_probability, self.codec.hydrogens, knows_cores=knows_cores)
        if self.reference not in ("smiles", "hashes"):
            raise ValueError(f"reference: got {self.reference!r}, allowed are 'smiles', 'hashes'")
        for name, reward in self.conditions.items():
            if not isinstance(reward, PerSample):
                raise ValueError(f"conditions.{name}: got {reward!r}, need a reward of single molecules such as QED")

    def load_data(self, data: Callable[..., MoleculeSet], init: str | None) -> Examples:
        """Return the molecules that the codec knows and that have the properties; print how many have not, and why.

        Args:
            init: model whose weights training starts from; the atom types that it knows may be rare here.

        Raises:
            CheckpointError: there is no such model.
            ConfigError: more than `max_skipped` of the records would be left out.
        """
        start = None if init is None else load(init).codec  # first: conformers may take hours
        with settings("data"):
            loaded = data(hydrogens=self.codec.hydrogens)
        for line in loaded.report:
            print(line)
        with settings("model"):
            codec = self.codec.fit(loaded.molecules, start)
        known, foreign = split_known(loaded.molecules, codec)
        rows, values, unlabelled = label_molecules(take(loaded.molecules, known), self.conditions)
        for line in [*shorten([*map(str, loaded.skipped), *foreign]), *unlabelled]:
            print(f"skipped {line}")
        kept = known[rows]
        self.refuse_many_skipped(len(kept), loaded, foreign)
        molecules = take(loaded.molecules, kept)
        texts = None if loaded.smiles is None else [loaded.smiles[int(row)] for row in kept]
        reference = smiles_set(molecules, self.reader) if texts is None else without_stereo(texts)
        return Examples(molecules, values, codec, reference)

    def refuse_many_skipped(self, kept: int, loaded: MoleculeSet, foreign: Sequence[str]) -> None:
        """Raise ConfigError where more than `max_skipped` of the molecules of a data set would be left out.

        Args:
            kept: number of the others.
            loaded: the data set.
            foreign: a line about each molecule that the codec does not know.
        """
        wanted = loaded.considered - loaded.duplicates - loaded.outside
        share = 1 - kept / max(1, wanted)
        if kept < wanted and share > self.max_skipped:
            remedy = f"; {self.codec.remedy} ({len(foreign)} of these records)" if foreign else ""
            raise ConfigError(
                f"training set: {wanted - kept} of {wanted} records ({share:.0%}) would be left out for the reasons "
                f"above, more than model.max_skipped={self.max_skipped}{remedy}; a larger model.max_skipped trains on "
                f"the other {kept}"
            )

    def fit(self, examples: Examples) -> "MoleculeTrainee":
        """Take the statistics of the training set, and build the model with random weights."""
        architecture, buckets = self.describe(examples)
        with settings("model"):
            model = architecture.build()
        smiles = examples.reference
        reference = SmilesHashes.of(smiles) if self.reference == "hashes" else smiles
        return MoleculeTrainee(
            model, architecture, buckets, len(examples.molecules), reference, self.reader, self.core_probability
        )

    def describe(self, examples: Examples) -> tuple[Architecture, list[Bucket]]:
        """Return the architecture with the statistics of the training set, and the set in buckets of nearly one size.

        Raises:
            ValueError: no molecule is large enough.
        """
        molecules = examples.molecules
        rows = [row for row, molecule in enumerate(molecules) if len(molecule) >= MIN_ATOMS]
        if not rows:
            raise ValueError(f"training set: none of {len(molecules)} molecules has at least {MIN_ATOMS} atoms")
        kept, values = [molecules[row] for row in rows], examples.values[rows]
        atoms = np.array([len(molecule) for molecule in kept])
        width = -(-atoms // self.bucket) * self.bucket
        groups = [np.flatnonzero(width == each) for each in np.unique(width)]
        encoded = [examples.codec.encode([kept[row] for row in group], int(width[group[0]])) for group in groups]
        square = sum(x.double().square().sum((0, 1)) for x, _ in encoded)
        rms = (torch.as_tensor(square) / int(atoms.sum())).sqrt()
        std = torch.cat([rms[:3].square().mean().sqrt().expand(3), rms[3:].clamp(min=1e-2)])  # one scale for x, y, z
        sizes = Sizes.of(atoms.tolist())
        conditions = [Condition.fit(name, values[:, column], atoms) for column, name in enumerate(self.conditions)]
        architecture = Architecture(
            network={**self.network, **({"cores": 1} if self.core_probability else {})},
            noise_min=self.noise_min,
            noise_max=self.noise_max,
            data_std=tuple(round(value, 4) for value in std.tolist()),
            codec=examples.codec.plain(),
            sizes={"atoms": list(sizes.atoms), "counts": list(sizes.counts)},
            conditions=[asdict(condition) for condition in conditions],
        )
        contexts = [{"mask": mask} for _, mask in encoded]
        if conditions:
            inputs = torch.from_numpy(standardise(conditions, values))
            contexts = [
                {**context, "condition": inputs[group]} for context, group in zip(contexts, groups, strict=True)
            ]
        if self.core_probability:
            for context, group in zip(contexts, groups, strict=True):
                padded = context["mask"].shape[1]
                context["cores"] = draw_cores([kept[row] for row in group], group, self.reader, padded)
        return architecture, [Bucket(x, context) for (x, _), context in zip(encoded, contexts, strict=True)]


@dataclass(frozen=True)
class MoleculeTrainee:
    """A molecule model with random weights, and its training set in buckets.

    Attributes:
        size: number of molecules in the training set.
        reference: the training set, for the novelty of samples.
    """

    model: Pretrained
    architecture: Architecture
    batches: Sequence[Bucket]
    size: int
    reference: Reference
    reader: BondReader
    core_probability: float = 0.0
    sample_batch: ClassVar[int] = 256
    progress_metrics: ClassVar[Mapping[str, str]] = {
        "validity": "validity",
        "connected": "validity_connected",
        "uniqueness": "uniqueness",
        "stable": "valence_molecule_stability",
    }

    @property
    def denoiser(self) -> nn.Module:
        """Return the network with its preconditioning."""
        return self.model.denoiser

    @property
    def space(self) -> MaskedPoints:
        """Return the space of centred positions and features."""
        return MaskedPoints()

    @property
    def loss(self) -> Loss:
        """Return the usual denoising loss; a network of several passes learns from half of each batch in two."""
        if self.core_probability:
            return cast(Loss, CoreLoss(self.core_probability))
        return cast(Loss, recycling_loss if getattr(self.denoiser, "passes", 1) > 1 else denoising_loss)

    @property
    def summary(self) -> str:
        """Return the numbers of molecules and of parameters."""
        return f"{self.size} molecules, {count_parameters(self.denoiser):,} parameters"

    @property
    def description(self) -> Mapping[str, Any]:
        """Return what model.json will say, statistics of the training set included."""
        return self.architecture.plain()

    def warm_start(self, init: str) -> None:
        """Take over the weights of another molecule model: see `warm_start`."""
        warm_start(self.denoiser, self.model.codec, init)

    def check_sampling(self, sampling: SamplingSettings) -> None:
        """Raise ValueError where no chain has such settings."""
        self.policy(self.model, sampling)

    def prepare(
        self, training: Pretraining, folder: Path, device: torch.device, should_stop: Callable[[], bool]
    ) -> None:
        """Do nothing: the denoiser is all there is to train."""

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write a model folder with the training set's SMILES."""
        save(folder, self.architecture, state, self.reference)

    def load(self, folder: Path, sampling: SamplingSettings) -> tuple[Policy, MoleculeDecoder]:
        """Load a model folder, ready to draw molecules and to measure them."""
        model = load(str(folder))
        return self.policy(model, sampling), MoleculeDecoder(model=model, reader=self.reader)

    @staticmethod
    def policy(model: Pretrained, sampling: SamplingSettings) -> Policy:
        """Return the model's ancestral chain with these settings."""
        power = require_grid_power(sampling)
        return molecule_policy(model, num_steps=sampling.num_steps, grid_power=power, eta=1.0, device=sampling.device)


def split_known(molecules: Sequence[Molecule], codec: Codec) -> tuple[NDArray[np.int64], list[str]]:
    """Return the rows of the molecules that a codec knows, and a line for each other one."""
    missing = [codec.missing(molecule) for molecule in molecules]
    lines = [f"{molecules[row].name or f'molecule {row + 1}'}: {text}" for row, text in enumerate(missing) if text]
    return np.array([row for row, text in enumerate(missing) if not text], dtype=np.int64), lines


def take(molecules: Sequence[Molecule], rows: NDArray[np.int64]) -> Sequence[Molecule]:
    """Return the molecules of these rows; flat arrays stay flat."""
    return molecules.take(rows) if isinstance(molecules, Molecules) else [molecules[row] for row in rows]


def shorten(lines: Sequence[str]) -> list[str]:
    """Return the first lines, and one about the number of the others."""
    more = len(lines) - MAX_SKIPPED_LINES
    return [*lines[:MAX_SKIPPED_LINES], *([f"{more} more"] if more > 0 else [])]


def warm_start(denoiser: nn.Module, codec: Codec, weights: str) -> None:
    """Copy another model's weights into a denoiser, whose statistics of the data stay those of its own training set.

    Of elements, the rows that both models know are copied. Layers of `WITHOUT_EFFECT` that only the denoiser has keep
    their first weights.

    Raises:
        CheckpointError: the weights do not fit.
    """
    source = load(weights)
    expected, state = denoiser.state_dict(), source.denoiser.state_dict()
    if source.codec.channels != codec.channels:
        state = {**state, **match_channels(denoiser, state, source.codec.channels, codec.channels)}
        print(f"init={weights}: {summarise_channels(source.codec.channels, codec.channels)}")
    for prefix, what in WITHOUT_EFFECT.items():
        fresh = {name: value for name, value in expected.items() if name.startswith(prefix)}
        if fresh and not any(name.startswith(prefix) for name in state):
            print(f"init={weights} does not read {what}, which starts without effect")
            state = {**fresh, **state}
    check_fits(expected, state, f"the network to be trained (init={weights})")
    denoiser.load_state_dict(state)


def match_channels(
    denoiser: nn.Module, state: Mapping[str, Tensor], old: Sequence[str], new: Sequence[str]
) -> dict[str, Tensor]:
    """Return the first and last layer of a network with the rows of the channels that both codecs have.

    The other rows keep the values that the denoiser was initialised with.

    Args:
        state: weights of the network with the old channels.
        old, new: names of the channels after the position.
    """
    network, expected = getattr(denoiser, "network", denoiser), denoiser.state_dict()
    pairs = [(new.index(name), old.index(name)) for name in new if name in old]
    to, source = (torch.tensor(list(places), dtype=torch.long) for places in zip(*pairs, strict=True))
    matched = {}
    for axis, names in ((1, getattr(network, "feature_inputs", ())), (0, getattr(network, "feature_outputs", ()))):
        for name in {f"network.{name}" for name in names} & state.keys() & expected.keys():
            matched[name] = expected[name].clone().index_copy(axis, to, state[name].index_select(axis, source))
    return matched


def summarise_channels(old: Sequence[str], new: Sequence[str]) -> str:
    """Describe which channels of a model start from another one's."""
    kept, fresh = [name for name in new if name in old], [name for name in new if name not in old]
    lost = [name for name in old if name not in new]
    parts = {"kept": kept, "untrained": fresh, "dropped": lost}
    return "; ".join(f"{label} {', '.join(names)}" for label, names in parts.items() if names)
