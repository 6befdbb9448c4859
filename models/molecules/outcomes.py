"""Descriptors of a molecule for the memory of variety: two samples are alike where their values are equal."""

from collections.abc import Container, Mapping

from rdkit import Chem, DataStructs
from rdkit.Chem.Scaffolds import MurckoScaffold

from molrl.data.molecules.bonds import Reading, is_connected
from molrl.data.molecules.circles import morgan_generator
from molrl.data.molecules.elements import symbol
from molrl.data.molecules.graphs import constitution
from molrl.data.molecules.quality import is_aromatic

DESCRIPTORS = ("identity", "bucket", "elements", "rings", "aromatic", "fingerprint")
NOVEL = "novel"  # where the training set is known
ACYCLIC = "acyclic"  # the bucket of all molecules without a ring: they share no framework, and one bucket fills soon
MAX_RINGS = 4  # that are told apart


def describe_molecule(reading: Reading, reference: Container[str] | None) -> Mapping[str, str]:
    """Return the descriptors of a valid molecule of one fragment; none of any other.

    identity: SMILES without stereo marks; bucket: Bemis-Murcko scaffold (1996, doi:10.1021/jm9602928), or "acyclic";
    elements: those of its heavy atoms; rings: their number, "4" for more; aromatic: "yes" or "no"; fingerprint: that of
    #Circles, in hexadecimal digits; novel: whether the reference lacks it.
    """
    if reading.mol is None or not is_connected(reading.mol):
        return {}
    smiles = constitution(reading.mol)
    rings = reading.mol.GetRingInfo().NumRings()
    described = {
        "identity": smiles,
        "bucket": scaffold(smiles) if rings else ACYCLIC,
        "elements": " ".join(symbol(number) for number in sorted({a.GetAtomicNum() for a in reading.mol.GetAtoms()})),
        "rings": str(min(rings, MAX_RINGS)),
        "aromatic": yes_or_no(is_aromatic(reading.mol)),
        "fingerprint": DataStructs.BitVectToFPSText(morgan_generator().GetFingerprint(reading.mol)),
    }
    return described if reference is None else {**described, NOVEL: yes_or_no(smiles not in reference)}


def scaffold(smiles: str) -> str:
    """Return the SMILES of the ring systems and linkers of a molecule; its own where RDKit cannot read that back."""
    mol = Chem.MolFromSmiles(smiles)
    return smiles if mol is None else str(Chem.MolToSmiles(MurckoScaffold.GetScaffoldForMol(mol)))


def yes_or_no(flag: bool) -> str:
    """Return a flag as a word."""
    return "yes" if flag else "no"
