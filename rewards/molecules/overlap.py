"""Overlap with a reference ligand in volume and pharmacophore, at the best superposition.

Gaussian shape and colour Tanimotos (Grant et al. 1996, J. Comput. Chem. 17, 1653) in the implementation of PubChem
(Bolton et al. 2011, doi:10.1186/1758-2946-3-13) that RDKit has.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from rdkit import Chem
from rdkit.Chem import rdShapeAlign

from molrl.data.files import Skipped
from molrl.data.molecules.files import stream
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.records import has_geometry
from molrl.data.molecules.standardise import Fragments, Treatment
from molrl.rewards.molecules.geometry import GeometryReward, heavy_graph
from molrl.rewards.molecules.graph import read_sound
from molrl.rewards.scores import Explained, Scored


@dataclass(frozen=True, kw_only=True)
class Overlap(GeometryReward):
    """The overlap (1 - w) shape + w colour in [0, 1]: 1 for the reference itself wherever it lies, 0 for a bad sample.

    The superposition is rigid and optimises that same sum: the sample keeps its geometry. Mirror images differ.
    Hydrogens have no volume, so that it does not matter whether they have positions. Colour is made of donors,
    acceptors, charges, hydrophobes and rings.

    Attributes:
        reference: a file with a geometry (.sdf, .mol or .xyz), its first molecule.
        colour_weight: w, from 0 (shape alone) to 1 (colour alone).
        fragments: of the reference; see `Treatment`.
    """

    reference: str
    colour_weight: float
    fragments: Fragments = "keep"
    floor: ClassVar[float] = 0.0
    parts: ClassVar[tuple[str, ...]] = ("shape", "colour")

    def __post_init__(self) -> None:
        if not 0 <= self.colour_weight <= 1:
            raise ValueError(f"colour_weight: got {self.colour_weight}, need 0 to 1")
        if self.colour_weight > 0 and overlaps(self.ligand, self.ligand, self.colour_weight)[1] == 0:
            raise ValueError(
                f"reference {self.reference}: no donor, acceptor, charge, ring or hydrophobe in it; "
                "set colour_weight=0 for the shape alone"
            )

    @cached_property
    def ligand(self) -> Chem.Mol:
        """Return the reference ligand without hydrogens, with its geometry."""
        molecules = stream(self.reference, treatment=Treatment(self.fragments))
        entry = next(iter(molecules), Skipped(self.reference, "no molecule"))
        if isinstance(entry, Skipped):
            raise ValueError(f"reference {self.reference}: {entry.reason}")
        if not has_geometry(entry):
            raise ValueError(f"reference {self.reference}: no geometry")
        mol, reason = read_sound(self.reader, entry)
        if mol is None:
            raise ValueError(f"reference {self.reference}: {reason}")
        return with_positions(heavy_graph(mol), entry)

    def measure(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        try:
            shape, colour = overlaps(self.ligand, with_positions(mol, sample), self.colour_weight)
        except ValueError as error:  # no radius
            return Scored(self.floor, f"element: {error}")
        value = (1 - self.colour_weight) * shape + self.colour_weight * colour
        return Explained(value, "", {"shape": shape, "colour": colour})


def with_positions(mol: Chem.Mol, sample: Molecule) -> Chem.Mol:
    """Return a copy of a sample's molecule, which has no hydrogens, with the positions of the sample's heavy atoms."""
    copied = Chem.Mol(mol)
    copied.RemoveAllConformers()
    conformer = Chem.Conformer(mol.GetNumAtoms())
    conformer.SetPositions(sample.positions[sample.numbers > 1].astype(float))
    copied.AddConformer(conformer)
    return copied


def overlaps(reference: Chem.Mol, probe: Chem.Mol, colour_weight: float) -> tuple[float, float]:
    """Return shape and colour Tanimoto at the best superposition of a copy of the probe."""
    shape, colour = rdShapeAlign.AlignMol(reference, Chem.Mol(probe), useColors=True, opt_param=1 - colour_weight)
    return min(shape, 1.0), min(colour, 1.0)  # RDKit's exceed 1 by up to 1e-4
