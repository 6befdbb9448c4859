"""Pretraining of molecule models: a training set in the model's form of molecules, and the network that learns it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from molrl.config import check_arguments, settings
from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.entries import keep_elements
from molrl.data.molecules.molecule import Molecule, Molecules
from molrl.data.molecules.quality import smiles_set
from molrl.data.molecules.sets import MoleculeSet, skipped_lines
from molrl.data.molecules.sizes import Sizes
from molrl.gaussian import MaskedPoints
from molrl.models.molecules.codec import MoleculeCodec
from molrl.models.molecules.condition import Condition, label_molecules, standardise
from molrl.models.molecules.decoder import MoleculeDecoder
from molrl.models.molecules.model import MOLECULES, Architecture, Pretrained, load, save
from molrl.models.molecules.policy import molecule_policy
from molrl.models.pretraining import SamplingSettings, count_parameters, require_grid_power
from molrl.policy import Policy
from molrl.pretrain import Bucket, Loss, Pretraining, denoising_loss
from molrl.rewards.scores import PerSample
from molrl.runs.checkpoint import check_fits

MIN_ATOMS = 3  # with fewer there is no shape to learn
MAX_ATOMIC_NUMBER = 118
MAX_SKIPPED_LINES = 20  # printed
CONDITION_LAYERS = "network.condition_embedding."  # prefix of the parameters that read the condition


@dataclass(frozen=True)
class LabelledMolecules:
    """Molecules to learn from, with the properties that a model is conditioned on: values [molecules, conditions]."""

    molecules: Sequence[Molecule]
    values: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MoleculeDesign:
    """A molecule model that has not met its data set yet.

    Attributes:
        network: "kind" of the network, and the sizes it takes.
        noise_min, noise_max: ends of the log-linear schedule, angstrom.
        codec: fields of a MoleculeCodec.
        bucket: numbers of atoms are padded to multiples of this.
        conditions: properties to condition on: name -> reward that computes it.
        reader: reads bonds, for the training set's SMILES and for the metrics of samples.
    """

    network: Mapping[str, Any]
    noise_min: float
    noise_max: float
    codec: Mapping[str, Any]
    bucket: int
    conditions: Mapping[str, PerSample[Molecule]]
    reader: BondReader
    domain: ClassVar[str] = MOLECULES
    data_argument: ClassVar[str] = "hydrogens"

    def __post_init__(self) -> None:
        if self.bucket < 1:
            raise ValueError(f"bucket: got {self.bucket}, need at least 1")
        elements = self.codec.get("elements") or [None]
        if not all(type(number) is int and 0 < number <= MAX_ATOMIC_NUMBER for number in elements):
            raise ValueError(f"codec.elements: got {self.codec.get('elements')}, need atomic numbers")
        for name, reward in self.conditions.items():
            if not isinstance(reward, PerSample):
                raise ValueError(f"conditions.{name}: got {reward!r}, need a reward of single molecules such as QED")
        check_arguments(MoleculeCodec, self.codec, "model.codec", partial=False)
        _ = self.encoder

    @cached_property
    def encoder(self) -> MoleculeCodec:
        """Return the codec that the settings describe."""
        return MoleculeCodec(**{**self.codec, "elements": tuple(self.codec["elements"])})

    @property
    def hydrogens(self) -> Literal["atoms", "counts"]:
        """Return how a training set must hold its hydrogens."""
        return "atoms" if self.encoder.hydrogen_scale is None else "counts"

    def load_data(self, data: Callable[..., MoleculeSet]) -> LabelledMolecules:
        """Return the molecules of known elements and properties, and print how many others there are and why."""
        loaded = data(hydrogens=self.hydrogens)
        molecules, foreign = self.keep_known_elements(loaded.molecules)
        skipped = [*loaded.skipped, *foreign]
        for line in skipped[:MAX_SKIPPED_LINES]:
            print(f"skipped {line}")
        if len(skipped) > MAX_SKIPPED_LINES:
            print(f"skipped {len(skipped) - MAX_SKIPPED_LINES} more")
        rows, values, unlabelled = label_molecules(molecules, self.conditions)
        for line in unlabelled:
            print(f"skipped {line}")
        return LabelledMolecules([molecules[row] for row in rows] if unlabelled else molecules, values)

    def keep_known_elements(self, molecules: Sequence[Molecule]) -> tuple[Sequence[Molecule], list[str]]:
        """Return the molecules whose elements all have a channel, and a line for each other one."""
        elements = self.encoder.elements
        if isinstance(molecules, Molecules) and np.isin(molecules.numbers, elements).all():
            return molecules, []
        kept, report = keep_elements(molecules, elements)
        return kept, skipped_lines(report)

    def fit(self, examples: LabelledMolecules) -> "MoleculeTrainee":
        """Take the statistics of the training set, and build the model with random weights."""
        architecture, buckets = self.describe(examples)
        with settings("model"):
            model = architecture.build()
        reference = smiles_set(examples.molecules, self.reader)
        return MoleculeTrainee(model, architecture, buckets, len(examples.molecules), reference, self.reader)

    def describe(self, examples: LabelledMolecules) -> tuple[Architecture, list[Bucket]]:
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
        encoded = [self.encoder.encode([kept[row] for row in group], int(width[group[0]])) for group in groups]
        square = sum(x.double().square().sum((0, 1)) for x, _ in encoded)
        rms = (torch.as_tensor(square) / int(atoms.sum())).sqrt()
        std = torch.cat([rms[:3].square().mean().sqrt().expand(3), rms[3:].clamp(min=1e-2)])  # one scale for x, y, z
        sizes = Sizes.of(atoms.tolist())
        conditions = [Condition.fit(name, values[:, column], atoms) for column, name in enumerate(self.conditions)]
        architecture = Architecture(
            network=dict(self.network),
            noise_min=self.noise_min,
            noise_max=self.noise_max,
            data_std=tuple(round(value, 4) for value in std.tolist()),
            codec={
                "elements": list(self.encoder.elements),
                "type_scale": self.encoder.type_scale,
                "charge_scale": self.encoder.charge_scale,
                "hydrogen_scale": self.encoder.hydrogen_scale,
            },
            sizes={"atoms": list(sizes.atoms), "counts": list(sizes.counts)},
            conditions=[asdict(condition) for condition in conditions],
        )
        contexts = [{"mask": mask} for _, mask in encoded]
        if conditions:
            inputs = torch.from_numpy(standardise(conditions, values))
            contexts = [
                {**context, "condition": inputs[group]} for context, group in zip(contexts, groups, strict=True)
            ]
        return architecture, [Bucket(x, context) for (x, _), context in zip(encoded, contexts, strict=True)]


@dataclass(frozen=True)
class MoleculeTrainee:
    """A molecule model with random weights, and its training set in buckets.

    Attributes:
        size: number of molecules in the training set.
        reference: SMILES of the training set, for the novelty of samples.
    """

    model: Pretrained
    architecture: Architecture
    batches: Sequence[Bucket]
    size: int
    reference: frozenset[str]
    reader: BondReader
    sample_batch: ClassVar[int] = 256
    progress_metrics: ClassVar[Mapping[str, str]] = {
        "validity": "validity",
        "connected": "validity_connected",
        "uniqueness": "uniqueness",
        "molecule stability": "edm_molecule_stability",
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
        """Return the usual denoising loss."""
        return cast(Loss, denoising_loss)

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
        warm_start(self.denoiser, init)

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


def warm_start(denoiser: nn.Module, weights: str) -> None:
    """Copy another model's weights into a denoiser, whose statistics of the data stay those of its own training set.

    Where only the denoiser is conditional, its condition layers keep their first weights, which are without effect.

    Raises:
        CheckpointError: the weights do not fit.
    """
    expected, state = denoiser.state_dict(), load(weights).denoiser.state_dict()
    conditional = {name: value for name, value in expected.items() if name.startswith(CONDITION_LAYERS)}
    if conditional and not any(name.startswith(CONDITION_LAYERS) for name in state):
        print(f"init={weights} is unconditional: the condition starts without effect")
        state = {**conditional, **state}
    check_fits(expected, state, f"the network to be trained (init={weights})")
    denoiser.load_state_dict(state)
