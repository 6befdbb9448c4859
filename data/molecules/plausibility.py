"""Physical plausibility of geometries, by PoseBusters (Buttenschoen et al. 2024, doi:10.1039/D3SC04185A)."""

import logging
import warnings
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, Literal, TypeAlias

import numpy as np
from rdkit import Chem, rdBase

from molrl.data.molecules.bonds import BondReader, attach_bonds
from molrl.data.molecules.molecule import Molecule

Tests: TypeAlias = Literal["mol", "mol_fast"]


@dataclass(frozen=True)
class PoseBustersCheck:
    """A check that a molecule passes all tests; one that cannot be read, or makes a test fail with an error, does not.

    Run it in a worker process: the energy test embeds 50 conformers, which takes minutes for some cages of ten atoms.

    Attributes:
        tests: "mol", all tests for single molecules: sanitisation, connectedness, radicals, bond lengths and angles,
            clashes, flatness, internal energy; or "mol_fast", the same without the energy.
        reader: perceives the bonds of molecules without a graph.
    """

    tests: Tests
    reader: BondReader

    def __call__(self, molecule: Molecule) -> bool:
        busters = load_tests(self.tests)
        if molecule.graph is not None:
            mol, reason = Chem.Mol(molecule.graph), ""
            conformer = Chem.Conformer(len(molecule))
            conformer.SetPositions(molecule.positions.astype(np.float64))
            mol.RemoveAllConformers()
            mol.AddConformer(conformer)
        else:
            mol, reason = attach_bonds(molecule, self.reader)
        if reason:
            return False
        with rdBase.BlockLogs(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                Chem.SanitizeMol(mol)
                return bool(busters.bust([mol], None, None).all(axis=None))
            except Exception:
                return False


@lru_cache
def load_tests(tests: Tests) -> Any:
    """Load the tests of PoseBusters, and silence its log."""
    logging.getLogger("posebusters").setLevel(logging.CRITICAL)
    return import_module("posebusters").PoseBusters(config=tests)
