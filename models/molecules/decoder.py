"""Sizes and conditions, decoding, metrics and files of molecule samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.quality import measure_readings
from molrl.data.molecules.sizes import AtomsRequest, Sizes, padding_mask
from molrl.exhibit import Counts, Exhibit
from molrl.gaussian import Context
from molrl.models.molecules.condition import check_request, check_sizes, draw_conditions
from molrl.models.molecules.exhibits import count_makeup, exhibit_molecule
from molrl.models.molecules.makeup import describe_changes, measure_makeup
from molrl.models.molecules.model import Pretrained, save
from molrl.models.molecules.outcomes import DESCRIPTORS, NOVEL, describe_molecule
from molrl.noise import Key
from molrl.rewards.molecules.sa import SA
from molrl.rewards.scores import Traced
from molrl.runs import checkpoint

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class MoleculeDecoder:
    """A decoder of states to molecules, each of a size that is drawn before the noise.

    Attributes:
        model: brings the coding of states, the distribution of sizes of the training set, and the training set (for
            novelty).
        reader: reads bonds for metrics, images and files; the reader that the training set was read with.
        condition: requested values of properties, by name, for a conditional model. Other properties, and sizes, are
            drawn from the distribution of the training set.
        atoms: requested numbers of atoms, heavy ones where hydrogens are implicit; see `Sizes.choose`.
    """

    model: Pretrained
    reader: BondReader
    condition: Mapping[str, float] = field(default_factory=dict)
    atoms: AtomsRequest = None
    suffixes: ClassVar[tuple[str, ...]] = (".sdf",)
    groups_are_amounts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_request(self.model.conditions, self.condition)
        check_sizes(self.model.conditions, self.condition, self.sizes.atoms)

    @cached_property
    def sizes(self) -> Sizes:
        """Return the distribution that numbers of atoms are drawn from."""
        return self.model.sizes.choose(self.atoms)

    @property
    def notes(self) -> list[str]:
        """Return a line about requested numbers of atoms beside those of the training set; none without a request."""
        if self.atoms is None:
            return []
        drawn, trained = self.sizes.atoms, self.model.sizes.atoms
        unseen = [str(size) for size in drawn if size not in trained]
        missing = f", but none of {', '.join(unseen)}" if unseen else ""
        return [f"atoms: {drawn[0]} to {drawn[-1]} (training set {trained[0]} to {trained[-1]}{missing})"]

    def draw_context(self, samples: Sequence[int], key: Key) -> Context:
        """Draw the mask [b, n] of each sample's atoms and, for a conditional model, its properties."""
        sizes = self.sizes.draw(samples, key)
        context = {"mask": padding_mask(sizes)}
        if self.model.conditions:
            drawn = draw_conditions(self.model.conditions, self.condition, sizes, samples, key)
            context["condition"] = torch.from_numpy(drawn)
        return context

    def state_shape(self, context: Context) -> tuple[int, ...]:
        """Return the shape [atoms, 3 + features] of a padded state."""
        return (context["mask"].shape[1], 3 + self.model.codec.features)

    def decode(self, x0: Float[Tensor, "b n c"], context: Context) -> Sequence[Any]:
        """Decode states to molecules without bonds, which only the reader assigns.

        States that require a gradient become `Traced` molecules, whose positions have it. The types of their atoms are
        discrete and have none.
        """
        molecules = self.model.codec.decode(x0, context)
        if not x0.requires_grad:
            return molecules
        rows = zip(molecules, x0[..., :3], context["mask"], strict=True)
        return [Traced(molecule, positions[real]) for molecule, positions, real in rows]

    def groups(self, context: Context) -> list[int]:
        """Return each sample's number of atoms as its group."""
        return context["mask"].sum(1).tolist()

    @property
    def descriptors(self) -> tuple[str, ...]:
        """Return the names of what `describe` tells of a molecule."""
        return DESCRIPTORS if self.model.reference is None else (*DESCRIPTORS, NOVEL)

    def describe(self, samples: Sequence[Any]) -> list[Mapping[str, str]]:
        """Return the descriptors of each molecule for `molrl.diversity`; see `describe_molecule`."""
        plain = [sample.sample if isinstance(sample, Traced) else sample for sample in samples]
        return [describe_molecule(self.reader(sample), self.model.reference) for sample in plain]

    def measure(self, samples: Sequence[Molecule]) -> Mapping[str, float]:
        """Compute quality, makeup and variety of the samples, and the mean SA score of the valid ones (low: easy)."""
        readings = [self.reader(sample) for sample in samples]
        quality = measure_readings(samples, readings, self.model.reference)
        names = ["validity", "validity_connected", "uniqueness", "novelty", "valence_atom_stability"]
        names += ["valence_molecule_stability", "edm_atom_stability", "edm_molecule_stability"]
        names += ["internal_diversity", "aromatic", "mean_heavy_atoms"]
        metrics = {name: getattr(quality, name) for name in names}
        scored = SA(reader=self.reader).score(samples).scored
        sa_scores = [value for value, reason in scored if not reason]
        metrics["sa"] = sum(sa_scores) / len(sa_scores) if sa_scores else None
        numbers = {name: float("nan") if value is None else float(value) for name, value in metrics.items()}
        return {**numbers, **measure_makeup(samples, readings)}

    def assess(self, samples: Sequence[Molecule]) -> Mapping[str, float]:
        """Compute the metrics of `measure`, before and after a run."""
        return self.measure(samples)

    def describe_changes(self, before: Mapping[str, float], after: Mapping[str, float], n: int) -> list[str]:
        """Describe how elements, rings, sizes and variety changed, where that is more than a fifth."""
        return describe_changes(before, after, n)

    def exhibit(self, samples: Sequence[Molecule]) -> list[Exhibit]:
        """Return the molecules with structural formulas and structures in space, for a report."""
        return [exhibit_molecule(sample, self.reader, self.model.reference) for sample in samples]

    def count_makeup(self, samples: Sequence[Molecule]) -> Mapping[str, Counts]:
        """Return how often elements, sizes, rings, functional groups and scaffolds occur, for a report."""
        return count_makeup([self.reader(sample) for sample in samples])

    def write(self, samples: Sequence[Molecule], path: Path, values: Mapping[str, Sequence[float]]) -> int:
        """Write an SDF with the values as properties; return the number of molecules whose bonds could be read."""
        from molrl.data.molecules.sdf import write_sdf

        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        return write_sdf(samples, path, self.reader, rows or None)

    def save(self, denoiser: nn.Module, folder: Path) -> None:
        """Write a model folder, or weights.safetensors under EDM's parameter names for EDM's network."""
        if self.model.architecture is None:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(checkpoint.detach_tensors(denoiser.state_dict()), folder / "weights.safetensors")
        else:
            save(folder, self.model.architecture, denoiser.state_dict(), self.model.reference)

    def draw(self, samples: Sequence[Molecule], captions: Sequence[str]) -> "Image":
        """Draw a grid of structural formulas with captions."""
        from molrl.data.molecules.drawing import draw_grid

        return draw_grid(samples, captions, self.reader, columns=4, title=None)
