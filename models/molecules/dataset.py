"""Real molecules as clean states, for the algorithms that also learn from data."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from molrl.data.molecules.entries import keep_elements
from molrl.data.molecules.files import read
from molrl.data.molecules.molecule import Hydrogens, Molecule
from molrl.data.molecules.standardise import Fragments, Treatment
from molrl.gaussian import Context
from molrl.models.molecules.codec import MoleculeCodec
from molrl.noise import Key


@dataclass(frozen=True)
class RealMolecules:
    """Draws from a file of molecules, encoded as a model has them.

    Attributes:
        path: any file that `molrl score` reads.
        codec: codec of the model.
        fragments: see `Treatment`.
    """

    path: str
    codec: MoleculeCodec
    fragments: Fragments = "keep"

    @cached_property
    def molecules(self) -> Sequence[Molecule]:
        """Return the molecules of the file whose elements the model has channels for.

        Raises:
            ValueError: there is none.
        """
        hydrogens: Hydrogens = "atoms" if self.codec.hydrogen_scale is None else "counts"
        molecules, report = read(self.path, hydrogens, treatment=Treatment(self.fragments))
        if report.skipped:
            warnings.warn(f"task.data={report}", stacklevel=2)
        kept, _ = keep_elements(molecules, self.codec.elements)
        if not kept:
            raise ValueError(
                f"task.data={self.path}: the model knows the elements of none of {len(molecules)} molecules"
            )
        return kept

    def __call__(self, samples: Sequence[int], key: Key) -> tuple[Tensor, Context]:
        """Return states [b, n, 3 + features] and their mask; sample i depends on the key and on i alone."""
        rows = [int(key.generator(sample, 0).integers(len(self.molecules))) for sample in samples]
        drawn = [self.molecules[row] for row in rows]
        x0, mask = self.codec.encode(drawn, max(len(molecule) for molecule in drawn))
        return x0, {"mask": mask}
