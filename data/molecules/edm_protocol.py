"""EDM's protocol: bonds by distance alone, valid if RDKit's sanitisation accepts them, hydrogens as atoms throughout.

(Hoogeboom et al. 2022, arXiv:2203.17003, Sec. 5; published code ehoogeboom/e3_diffusion_for_molecules, qm9/analyze.py
and qm9/rdkit_functions.py.) Its figures compare with those of other papers on all-atom QM9 and GEOM, and with nothing
else. The stabilities are those of `molrl.data.molecules.quality`; the code counts them on GEOM by the same table.
"""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from rdkit import Chem, rdBase

from molrl.data.molecules.bonds import assemble, bond_orders, molecule_problem
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.quality import fraction


@dataclass(frozen=True)
class EDMQuality:
    """The figures of EDM's tables beside the stabilities, in [0, 1]; None for a fraction of an empty set.

    Attributes:
        validity: molecules that sanitise with the bond orders of the table, the rule for QM9; of all.
        geom_validity: molecules that sanitise with all bonds of the table as single ones, the rule for GEOM; of all.
        uniqueness: distinct SMILES of the largest fragments by QM9's rule, of the valid.
        valid_and_unique: the product of validity and uniqueness.
        novelty: distinct SMILES that are not in the reference, of the distinct ones; None without a reference.
    """

    validity: float | None
    geom_validity: float | None
    uniqueness: float | None
    valid_and_unique: float | None
    novelty: float | None


def measure_edm(molecules: Sequence[Molecule], n: int, reference: Set[str] | None) -> EDMQuality:
    """Measure molecules by EDM's protocol; hydrogen counts are ignored.

    Args:
        n: number of samples, those included that gave no molecule.
        reference: what `edm_smiles` gives for the molecules of the training set.
    """
    texts = [text for text in map(edm_smiles, molecules) if text]
    distinct = set(texts)
    return EDMQuality(
        validity=fraction(len(texts), n),
        geom_validity=fraction(sum(sanitised(molecule, single=True) is not None for molecule in molecules), n),
        uniqueness=fraction(len(distinct), len(texts)),
        valid_and_unique=fraction(len(distinct), n),
        novelty=None if reference is None else fraction(len(distinct - reference), len(distinct)),
    )


def edm_smiles(molecule: Molecule) -> str:
    """Return the SMILES, explicit hydrogens included, of the fragment with the most atoms; "" if it is not valid."""
    mol = sanitised(molecule, single=False)
    if mol is None:
        return ""
    return Chem.MolToSmiles(max(Chem.GetMolFrags(mol, asMols=True), key=lambda fragment: fragment.GetNumAtoms()))


def edm_smiles_set(molecules: Iterable[Molecule]) -> frozenset[str]:
    """Return the SMILES of all valid molecules, a reference for the novelty of this protocol."""
    return frozenset(text for molecule in molecules if (text := edm_smiles(molecule)))


def sanitised(molecule: Molecule, *, single: bool) -> Chem.Mol | None:
    """Return the atoms with the bonds of the distance table if RDKit accepts them, else None.

    Args:
        single: make all bonds single.
    """
    if molecule_problem(molecule):
        return None
    orders = bond_orders(molecule)
    mol = assemble(molecule, orders.clip(0, 1) if single else orders)
    mol.RemoveAllConformers()
    with rdBase.BlockLogs():
        try:
            Chem.SanitizeMol(mol)
        except ValueError:
            return None
    return mol.GetMol()
