"""Whether geometries are physically plausible, by PoseBusters (Buttenschoen et al. 2024, doi:10.1039/D3SC04185A)."""

import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from rdkit import Chem, rdBase

from molrl.data.bonds import BondReader
from molrl.data.molecule import Molecule
from molrl.data.sdf import bonded

LARGEST_SAMPLE = 200  # a molecule takes about half a second


def plausible(molecules: Sequence[Molecule], reader: BondReader) -> float | None:
    """The share of molecules that pass all tests for single molecules, of at most 200 that are chosen evenly.

    One that the reader cannot read does not pass. None without molecules and without the package posebusters, whose
    tests include sanitisation, connectedness, bond lengths and angles, clashes, flatness and internal energy.
    """
    if not molecules or find_spec("posebusters") is None:
        return None
    rows = np.linspace(0, len(molecules) - 1, min(len(molecules), LARGEST_SAMPLE)).round().astype(int)
    try:
        busters: Any = import_module("posebusters").PoseBusters(config="mol")
    except ImportError as error:
        warnings.warn(f"posebusters is installed but cannot be imported: {error}", stacklevel=2)
        return None
    return sum(passes(busters, molecules[row], reader) for row in rows) / len(rows)


def passes(busters: Any, molecule: Molecule, reader: BondReader) -> bool:
    """Whether one molecule passes; one that the tests choke on does not."""
    if molecule.graph is not None:
        mol, reason = Chem.Mol(molecule.graph), ""
        conformer = Chem.Conformer(len(molecule))
        conformer.SetPositions(molecule.positions.astype(np.float64))
        mol.RemoveAllConformers()
        mol.AddConformer(conformer)
    else:
        mol, reason = bonded(molecule, reader)
    if reason:
        return False
    with rdBase.BlockLogs(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            Chem.SanitizeMol(mol)
            return bool(busters.bust([mol], None, None).all(axis=None))
        except Exception:
            return False
