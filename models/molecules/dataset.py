"""Real molecules as clean states, for the algorithms that also learn from data."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from molrl.data.molecules.files import read
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.standardise import Fragments, Treatment
from molrl.gaussian import Context
from molrl.models.molecules.codec import Codec
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
    codec: Codec
    fragments: Fragments = "keep"

    @cached_property
    def molecules(self) -> Sequence[Molecule]:
        """Return the molecules of the file that the model has a code for.

        Raises:
            ValueError: there is none.
        """
        molecules, report = read(self.path, self.codec.hydrogens, treatment=Treatment(self.fragments))
        if report.skipped:
            warnings.warn(f"task.data={report}", stacklevel=2)
        kept = [molecule for molecule in molecules if not self.codec.missing(molecule)]
        if not kept:
            raise ValueError(f"task.data={self.path}: the model knows the atoms of none of {len(molecules)} molecules")
        return kept

    def __call__(self, samples: Sequence[int], key: Key) -> tuple[Tensor, Context]:
        """Return states [b, n, 3 + features] and their mask; sample i depends on the key and on i alone."""
        rows = [int(key.generator(sample, 0).integers(len(self.molecules))) for sample in samples]
        drawn = [self.molecules[row] for row in rows]
        x0, mask = self.codec.encode(drawn, max(len(molecule) for molecule in drawn))
        return x0, {"mask": mask}
