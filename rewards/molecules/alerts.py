"""Structural alerts, substructures that medicinal chemists avoid, from the catalogues that come with RDKit."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, TypeAlias

from rdkit.Chem import FilterCatalog

from molrl.rewards.molecules.graph import CACHE_SIZE, GraphReward, parse

Catalogue: TypeAlias = Literal["PAINS", "BRENK", "NIH", "ZINC", "CHEMBL"]
CATALOGUES = ("PAINS", "BRENK", "NIH", "ZINC", "CHEMBL")


@dataclass(frozen=True, kw_only=True)
class NoAlerts(GraphReward):
    """1 for a molecule without a structural alert, 0 with one; 0 for a bad sample.

    Attributes:
        catalogues: PAINS (assay interference, Baell and Holloway 2010, doi:10.1021/jm901137j), BRENK (toxic, reactive
            or unstable groups, Brenk et al. 2008, doi:10.1002/cmdc.200700139), NIH, ZINC or CHEMBL.
    """

    catalogues: Sequence[Catalogue]
    floor: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.catalogues, str) or not self.catalogues or not set(self.catalogues) <= set(CATALOGUES):
            raise ValueError(f"catalogues: got {self.catalogues!r}, need a list of {', '.join(CATALOGUES)}")

    def value(self, smiles: str) -> float:
        return 0.0 if alerts(tuple(self.catalogues), smiles) else 1.0


@lru_cache(maxsize=CACHE_SIZE)
def alerts(catalogues: tuple[Catalogue, ...], smiles: str) -> tuple[str, ...]:
    """Return the names of the patterns that a molecule contains, in the order of the catalogues."""
    return tuple(entry.GetDescription() for entry in filter_catalog(catalogues).GetMatches(parse(smiles)))


@lru_cache
def filter_catalog(catalogues: tuple[Catalogue, ...]) -> FilterCatalog.FilterCatalog:
    """Return the patterns of some catalogues, compiled once for each process."""
    parameters = FilterCatalog.FilterCatalogParams()
    for name in catalogues:
        parameters.AddCatalog(getattr(FilterCatalog.FilterCatalogParams.FilterCatalogs, name))
    return FilterCatalog.FilterCatalog(parameters)
