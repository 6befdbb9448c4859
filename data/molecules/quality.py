"""Quality of a set of generated molecules: validity, stability, uniqueness, novelty and variety.

Everything depends on the bond reader but the two stabilities of EDM's protocol, which go by distances alone
(Hoogeboom et al. 2022, arXiv:2203.17003, Section 5).
"""

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, DataStructs, rdBase
from rdkit.Chem import rdFingerprintGenerator
from rdkit.Chem.Scaffolds import MurckoScaffold

from molrl.data.molecules.bonds import BondReader, Reading, is_connected, stable_atoms
from molrl.data.molecules.graphs import constitution
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.records import has_geometry
from molrl.data.molecules.stability import valence_stable_atoms

MAX_DIVERSITY_SAMPLE = 500
ISOTOPE_OR_STEREO = re.compile(r"[@/\\]|\[\d")  # in SMILES


@dataclass(frozen=True)
class Quality:
    """The quality of a set: fractions in [0, 1] unless stated otherwise, None for a fraction of an empty set.

    Attributes:
        n: the number of molecules, and of records that gave none.
        valence_atom_stability: heavy atoms with a valence that chemistry allows (`valence_stable_atoms`), of all heavy
            atoms of the molecules.
        valence_molecule_stability: molecules of such atoms only, of all.
        edm_atom_stability: atoms with an allowed valence in EDM's table of distances (`stable_atoms`), of all atoms of
            the molecules, whatever the reader; None where some molecule has no geometry.
        edm_molecule_stability: molecules of such atoms only, of all; None like the former.
        validity: molecules that the reader can read.
        validity_connected: valid molecules of one fragment.
        uniqueness: distinct SMILES of the largest fragments, of the valid molecules.
        novelty: distinct SMILES that are not in the reference, of the distinct ones; None without a reference.
        internal_diversity: mean Tanimoto distance of Morgan fingerprints over pairs of at most 500 valid molecules.
        scaffolds: distinct Bemis-Murcko scaffolds (1996, doi:10.1021/jm9602928) of the valid molecules; a molecule
            without rings has none.
        aromatic: valid molecules with an aromatic ring. EDM's table counts few of these as stable, so a reward
            for that stability lowers this: report both.
        mean_heavy_atoms: over all molecules.
        sizes: how many molecules have each number of atoms (heavy atoms in the heavy-atom setting).
        elements: how many atoms there are of each atomic number.
        unreadable: how many molecules the reader could not read, and records that gave none, by reason.
    """

    n: int
    valence_atom_stability: float | None
    valence_molecule_stability: float | None
    edm_atom_stability: float | None
    edm_molecule_stability: float | None
    validity: float | None
    validity_connected: float | None
    uniqueness: float | None
    novelty: float | None
    internal_diversity: float | None
    scaffolds: int
    aromatic: float | None
    mean_heavy_atoms: float | None
    sizes: Mapping[int, int]
    elements: Mapping[int, int]
    unreadable: Mapping[str, int]

    def as_dict(self) -> dict[str, object]:
        """Return the values for JSON, with text as keys."""
        return {
            key: {str(name): count for name, count in value.items()} if isinstance(value, Mapping) else value
            for key, value in asdict(self).items()
        }


def measure(molecules: Sequence[Molecule], reader: BondReader, reference: Container[str] | None = None) -> Quality:
    """Measure the quality of molecules; results of different readers cannot be compared.

    Args:
        reader: defines everything but EDM's two stabilities.
        reference: canonical SMILES of the training set, read from its geometries by the same reader with `smiles_set`;
            the SMILES shipped with a data set give a wrong novelty.
    """
    return measure_readings(molecules, [reader(molecule) for molecule in molecules], reference)


def measure_readings(
    molecules: Sequence[Molecule],
    readings: Sequence[Reading],
    reference: Container[str] | None = None,
    unread: Mapping[str, int] = MappingProxyType({}),
) -> Quality:
    """Measure the quality of molecules that have been read; see `measure`.

    Args:
        readings: one for each molecule, all by one reader.
        unread: records of a file that gave no molecule, by reason; they count as invalid and unstable.
    """
    by_valence = [valence_stable_atoms(*pair) for pair in zip(readings, molecules, strict=True)]
    by_table = [stable_atoms(molecule) for molecule in molecules] if all(map(has_geometry, molecules)) else None
    valid = [mol for mol, _ in readings if mol is not None]
    texts = [fragment_smiles(reading) for reading in readings if reading.mol is not None]
    distinct = set(texts)
    heavy = [int((molecule.numbers > 1).sum()) for molecule in molecules]
    elements = np.bincount(np.concatenate([np.zeros(0, np.int64), *(item.numbers.clip(0) for item in molecules)]))
    reasons = Counter(reading.reason for reading in readings if reading.mol is None) + Counter(unread)
    n = len(molecules) + sum(unread.values())
    return Quality(
        n=n,
        valence_atom_stability=fraction_of_atoms(by_valence),
        valence_molecule_stability=fraction(count_stable(by_valence), n),
        edm_atom_stability=None if by_table is None else fraction_of_atoms(by_table),
        edm_molecule_stability=None if by_table is None else fraction(count_stable(by_table), n),
        validity=fraction(len(valid), n),
        validity_connected=fraction(sum(is_connected(mol) for mol in valid), n),
        uniqueness=fraction(len(distinct), len(valid)),
        novelty=None if reference is None else fraction(sum(text not in reference for text in distinct), len(distinct)),
        internal_diversity=internal_diversity(texts),
        scaffolds=len(scaffolds(distinct)),
        aromatic=fraction(sum(is_aromatic(mol) for mol in valid), len(valid)),
        mean_heavy_atoms=fraction(sum(heavy), len(molecules)),
        sizes=dict(sorted(Counter(len(molecule) for molecule in molecules).items())),
        elements={number: int(elements[number]) for number in np.flatnonzero(elements).tolist()},
        unreadable=dict(reasons.most_common()),
    )


def fraction_of_atoms(stable: Sequence[NDArray[np.bool_]]) -> float | None:
    """Return the fraction of stable atoms, of all atoms of all molecules."""
    return fraction(sum(int(atoms.sum()) for atoms in stable), sum(map(len, stable)))


def count_stable(stable: Sequence[NDArray[np.bool_]]) -> int:
    """Return how many molecules have stable atoms only; one without atoms is not stable."""
    return sum(len(atoms) > 0 and bool(atoms.all()) for atoms in stable)


def fragment_smiles(reading: Reading) -> str:
    """Return canonical SMILES of the largest fragment, see `constitution`; "" for an unreadable molecule."""
    if reading.mol is None:
        return ""
    largest = max(Chem.GetMolFrags(reading.mol, asMols=True), key=lambda mol: mol.GetNumHeavyAtoms(), default=None)
    return "" if largest is None else constitution(largest)


def smiles_set(molecules: Sequence[Molecule], reader: BondReader) -> frozenset[str]:
    """Return the SMILES of all readable molecules, a reference for novelty."""
    return frozenset(text for molecule in molecules if (text := fragment_smiles(reader(molecule))))


def without_stereo(texts: Iterable[str]) -> frozenset[str]:
    """Return canonical SMILES without isotopes and stereo marks for canonical isomeric SMILES; see `constitution`."""
    return frozenset(
        constitution(Chem.MolFromSmiles(text)) if ISOTOPE_OR_STEREO.search(text) else text for text in texts
    )


def internal_diversity(texts: Sequence[str]) -> float | None:
    """Compute the mean Tanimoto distance of Morgan fingerprints (radius 2, 2048 bits) of evenly spaced SMILES."""
    if len(texts) < 2:
        return None
    rows = np.linspace(0, len(texts) - 1, min(len(texts), MAX_DIVERSITY_SAMPLE)).round().astype(int)
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    with rdBase.BlockLogs():
        mols = [Chem.MolFromSmiles(texts[row]) for row in rows]
    prints = [generator.GetFingerprint(mol) for mol in mols if mol is not None]
    similar = [DataStructs.BulkTanimotoSimilarity(prints[row], prints[:row]) for row in range(1, len(prints))]
    pairs = sum(len(row) for row in similar)
    return 1.0 - float(sum(map(sum, similar))) / pairs if pairs else None


def scaffolds(texts: Iterable[str]) -> frozenset[str]:
    """Return the Bemis-Murcko scaffolds of molecules: ring systems and their linkers, without stereo marks."""
    frameworks = set()
    with rdBase.BlockLogs():
        for text in texts:
            mol = Chem.MolFromSmiles(text)
            if mol is not None and mol.GetRingInfo().NumRings():
                frameworks.add(Chem.MolToSmiles(MurckoScaffold.GetScaffoldForMol(mol)))
    return frozenset(frameworks)


def is_aromatic(mol: Chem.Mol) -> bool:
    """Tell whether the molecule has an aromatic ring."""
    return any(atom.GetIsAromatic() for atom in mol.GetAtoms())


def fraction(part: float, total: int) -> float | None:
    """Return the part of a total, or None if that is 0."""
    return part / total if total else None
