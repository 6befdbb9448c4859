"""The samples of a file as one reader reads them: what `molrl evaluate` measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from molrl.config import ConfigError
from molrl.data.files import ReadReport
from molrl.data.molecules.bonds import BondReader, Reading
from molrl.data.molecules.molecule import Hydrogens, Molecule
from molrl.data.molecules.perception import without_bonds
from molrl.data.molecules.quality import fragment_smiles
from molrl.data.molecules.records import has_geometry
from molrl.data.molecules.standardise import AS_IT_IS, Treatment
from molrl.data.molecules.unembedded import count_embedded, read_unembedded


@dataclass(frozen=True)
class Samples:
    """The molecules of a file.

    Attributes:
        molecules: with a geometry, or all atoms at the origin.
        readings: one for each molecule.
        unread: records of the file that gave no molecule, by reason.
        embedded: number of molecules whose coordinates molrl computed from their graphs.
    """

    molecules: Sequence[Molecule]
    readings: Sequence[Reading]
    unread: Mapping[str, int]
    embedded: int = 0

    @cached_property
    def smiles(self) -> list[str]:
        """Return the SMILES of the largest fragment of each valid molecule."""
        return [fragment_smiles(reading) for reading in self.readings if reading.mol is not None]

    @cached_property
    def have_geometries(self) -> bool:
        """Tell whether all molecules have a geometry; those of SMILES have none."""
        return all(map(has_geometry, self.molecules))

    @cached_property
    def origin(self) -> str:
        """Return, for headings, how many of the geometries come from molrl and not from a model; "" for none."""
        return f"; molrl embedded {self.embedded} of {len(self.molecules)} itself" if self.embedded else ""

    @cached_property
    def hydrogens(self) -> Hydrogens:
        """Return how the molecules have their hydrogens: "counts" if all have counts, else "file"."""
        return "counts" if all(molecule.hydrogens is not None for molecule in self.molecules) else "file"


def read_samples(
    path: str, hydrogens: Hydrogens, reader: BondReader, *, perceive: bool, treatment: Treatment = AS_IT_IS
) -> tuple[Samples, ReadReport]:
    """Read the molecules of a file and their bonds.

    Args:
        hydrogens: as for `molrl.data.molecules.files.read`.
        perceive: ignore the bonds of the file.
        treatment: of molecules that come with bonds.

    Raises:
        ConfigError: bonds are to be perceived where there is no geometry.
    """
    molecules, report = read_unembedded(path, hydrogens, treatment)
    if perceive and not all(map(has_geometry, molecules)):
        raise ConfigError(f"perceive=true: {path} has molecules without a geometry")
    if perceive:
        molecules = [without_bonds(molecule) for molecule in molecules]
    readings = [reader(molecule) for molecule in molecules]
    return Samples(molecules, readings, report.reasons(), count_embedded(path)), report
