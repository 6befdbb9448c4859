"""Molecules as a domain of the trainers: what is drawn, how it is decoded, what is measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.quality import measure
from molrl.data.molecules.sizes import padding_mask
from molrl.gaussian import Context
from molrl.models.molecules.condition import check_request, draw_conditions
from molrl.models.molecules.model import Pretrained, save
from molrl.noise import Key
from molrl.rewards.molecules.sa import SA
from molrl.runs import checkpoint

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class MoleculeDecoder:
    """Molecules whose size is drawn first and then kept.

    Attributes:
        model: how states are coded, which sizes are drawn (the training set's, so that results are comparable), and
            what the training set was (for novelty).
        reader: reads bonds for the metrics, the images and the files; the one that read the training set.
        condition: what a conditional model is asked for, by the name of the property; others are drawn as the training
            set has them. Sizes stay the training set's.
    """

    model: Pretrained
    reader: BondReader
    condition: Mapping[str, float] = field(default_factory=dict)
    suffixes: ClassVar[tuple[str, ...]] = (".sdf",)

    def __post_init__(self) -> None:
        check_request(self.model.conditions, self.condition)

    def draw_context(self, samples: Sequence[int], key: Key) -> Context:
        """The mask of each sample's atoms, and what a conditional model is told."""
        sizes = self.model.sizes.draw(samples, key)
        context = {"mask": padding_mask(sizes)}
        if self.model.conditions:
            drawn = draw_conditions(self.model.conditions, self.condition, sizes, samples, key)
            context["condition"] = torch.from_numpy(drawn)
        return context

    def state_shape(self, context: Context) -> tuple[int, ...]:
        """[atoms, 3 + features]."""
        return (context["mask"].shape[1], 3 + self.model.codec.features)

    def decode(self, x0: Float[Tensor, "b n c"], context: Context) -> list[Molecule]:
        """Molecules without bonds: those are the reader's business."""
        return self.model.codec.decode(x0, context)

    def groups(self, context: Context) -> list[int]:
        """The number of atoms."""
        return context["mask"].sum(1).tolist()

    def measure(self, samples: Sequence[Molecule]) -> Mapping[str, float]:
        """EDM's protocol with this domain's reader, and the SA score of what is valid (lower is easier to make)."""
        quality = measure(samples, self.reader, self.model.reference)
        names = ["validity", "validity_connected", "uniqueness", "novelty", "atom_stability", "molecule_stability"]
        names += ["internal_diversity", "aromatic", "mean_heavy_atoms"]
        found = {name: getattr(quality, name) for name in names}
        scored = SA(reader=self.reader).score(samples).scored
        easy = [value for value, reason in scored if not reason]
        found["sa"] = sum(easy) / len(easy) if easy else None
        return {name: float("nan") if value is None else float(value) for name, value in found.items()}

    def assess(self, samples: Sequence[Molecule]) -> Mapping[str, float]:
        """The same: it is fast enough for every round."""
        return self.measure(samples)

    def write(self, samples: Sequence[Molecule], path: Path, values: Mapping[str, Sequence[float]]) -> int:
        """Write an SDF with the values as properties; return the number of molecules whose bonds could be read."""
        from molrl.data.molecules.sdf import write_sdf

        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        return write_sdf(samples, path, self.reader, rows or None)

    def save(self, denoiser: nn.Module, folder: Path) -> None:
        """What `weights=` accepts: a model folder, or weights.safetensors under EDM's names for EDM's network."""
        if self.model.architecture is None:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(checkpoint.detach_tensors(denoiser.state_dict()), folder / "weights.safetensors")
        else:
            save(folder, self.model.architecture, denoiser.state_dict(), self.model.reference)

    def draw(self, samples: Sequence[Molecule], captions: Sequence[str]) -> "Image":
        """A grid of structural formulas."""
        from molrl.data.molecules.drawing import draw_grid

        return draw_grid(samples, captions, self.reader, columns=4, title=None)
