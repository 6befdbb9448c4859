"""Whether geometries are physically plausible, by PoseBusters (Buttenschoen et al. 2024, doi:10.1039/D3SC04185A)."""

import logging
import warnings
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, Literal, TypeAlias

import numpy as np
from rdkit import Chem, rdBase

from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.sdf import bonded

Tests: TypeAlias = Literal["mol", "mol_fast"]
TESTS = ("mol", "mol_fast")


@dataclass(frozen=True)
class PassesPoseBusters:
    """Whether one molecule passes all tests; one that the reader cannot read, or that the tests choke on, does not.

    To run in a worker process: the energy test embeds 50 conformers, which takes minutes for some cages of ten atoms.

    Attributes:
        tests: "mol", all tests for single molecules: sanitisation, connectedness, radicals, bond lengths and angles,
            clashes, flatness, internal energy; or "mol_fast", the same without the energy.
        reader: gives the bonds of molecules that come without.
    """

    tests: Tests
    reader: BondReader

    def __call__(self, molecule: Molecule) -> bool:
        busters = loaded(self.tests)
        if molecule.graph is not None:
            mol, reason = Chem.Mol(molecule.graph), ""
            conformer = Chem.Conformer(len(molecule))
            conformer.SetPositions(molecule.positions.astype(np.float64))
            mol.RemoveAllConformers()
            mol.AddConformer(conformer)
        else:
            mol, reason = bonded(molecule, self.reader)
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
def loaded(tests: Tests) -> Any:
    """The tests, quiet."""
    logging.getLogger("posebusters").setLevel(logging.CRITICAL)
    return import_module("posebusters").PoseBusters(config=tests)
