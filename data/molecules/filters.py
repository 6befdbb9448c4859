"""Medicinal chemistry filters of MOSES (Polykovskiy et al. 2020, doi:10.3389/fphar.2020.565644, Sec. 2.1).

A molecule passes that has no formal charge, no element but C, N, S, O, F, Cl, Br and H, no ring of eight or more atoms,
and none of two sets of substructures: PAINS (assay interference, Baell and Holloway 2010, doi:10.1021/jm901137j) and
MCF, 22 unstable or reactive groups. RDKit comes with PAINS. The SMARTS of MCF, and of PAINS as MOSES has them, are data
of the package molsets and are used where that is installed.
"""

import csv
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from rdkit import Chem, rdBase
from rdkit.Chem import FilterCatalog

ELEMENTS = frozenset({1, 6, 7, 8, 9, 16, 17, 35})
MAX_RING_SIZE = 7


def passes_filters(mol: Chem.Mol) -> bool:
    """Tell whether a molecule passes the filters, those of MCF only if `mcf_is_installed`."""
    if any(atom.GetFormalCharge() or atom.GetAtomicNum() not in ELEMENTS for atom in mol.GetAtoms()):
        return False
    if any(len(ring) > MAX_RING_SIZE for ring in mol.GetRingInfo().AtomRings()):
        return False
    patterns = molsets_patterns()
    return not (pains().HasMatch(mol) if patterns is None else patterns.HasMatch(Chem.AddHs(mol)))


def mcf_is_installed() -> bool:
    """Tell whether the package molsets, which has the SMARTS of MCF, is installed."""
    return molsets_patterns() is not None


@lru_cache
def pains() -> FilterCatalog.FilterCatalog:
    """Return the 480 patterns of PAINS that come with RDKit, compiled once."""
    parameters = FilterCatalog.FilterCatalogParams()
    parameters.AddCatalog(FilterCatalog.FilterCatalogParams.FilterCatalogs.PAINS)
    return FilterCatalog.FilterCatalog(parameters)


@lru_cache
def molsets_patterns() -> FilterCatalog.FilterCatalog | None:
    """Return the patterns of MCF and PAINS in the package molsets, for molecules with explicit hydrogens, or None.

    Its files are read without importing the package, which needs old versions of others.
    """
    try:
        folder = Path(str(distribution("molsets").locate_file("moses/metrics")))
        with (folder / "mcf.csv").open() as mcf, (folder / "wehi_pains.csv").open() as wehi:
            smarts = [row["smarts"] for row in csv.DictReader(mcf)] + [row[0] for row in csv.reader(wehi)]
    except (PackageNotFoundError, OSError):
        return None
    catalog = FilterCatalog.FilterCatalog()
    with rdBase.BlockLogs():
        for text in smarts:
            matcher = FilterCatalog.SmartsMatcher("", Chem.MolFromSmarts(text), 1)
            catalog.AddEntry(FilterCatalog.FilterCatalogEntry(text, matcher))
    return catalog
