"""Terms of a report for the metrics of molecules, which `molrl.data.molecules.quality` computes."""

from collections.abc import Mapping

from molrl.glossary import Term

SAMPLES, VALID = ("n",), ("n", "validity")  # that a share is taken of
DISTINCT = (*VALID, "uniqueness")

METRICS: Mapping[str, Term] = {
    "validity": Term("valid", "share of the samples whose bonds and valences can be read", SAMPLES),
    "validity_connected": Term(
        "connected", "share of the samples that are valid and one molecule, not pieces", SAMPLES
    ),
    "core_unchanged": Term(
        "core unchanged", "share of the samples with the atoms and bonds of the given core", SAMPLES
    ),
    "attach_only": Term("new bonds at attach only", "share of the samples that bind to the core where asked", SAMPLES),
    "uniqueness": Term("unique", "different molecules, of the valid ones", VALID),
    "novelty": Term("novel", "molecules that are not in the training set, of the different valid ones", DISTINCT),
    "valence_molecule_stability": Term(
        "stable by valence", "share of the samples whose atoms all have allowed valences", SAMPLES
    ),
    "valence_atom_stability": Term(
        "atoms stable by valence", "share of the heavy atoms with an allowed valence", SAMPLES
    ),
    "edm_molecule_stability": Term(
        "stable by EDM's table",
        "share of the samples whose atoms all have allowed valences in EDM's table of distances",
        SAMPLES,
    ),
    "edm_atom_stability": Term(
        "atoms stable by EDM's table", "share of the atoms with an allowed valence in EDM's table of distances", SAMPLES
    ),
    "aromatic": Term("aromatic", "valid molecules with an aromatic ring", VALID),
    "molecules_with_charges": Term("with charges", "valid molecules with a charged atom", VALID),
    "molecules_with_*": Term("with *", "valid molecules with an atom of *", VALID),
    "internal_diversity": Term(
        "variety", "mean Tanimoto distance of two valid molecules, 0: all alike, 1: nothing in common"
    ),
    "mean_heavy_atoms": Term("heavy atoms", "mean number of a molecule's atoms other than hydrogen"),
    "rings": Term("rings", "mean number of rings of a valid molecule"),
    "distinct_scaffolds": Term("scaffolds", "number of different Bemis-Murcko scaffolds: rings and what links them"),
    "circles": Term(
        "molecules far from each other", "#Circles: the largest set found of molecules that are pairwise unlike"
    ),
    "sa": Term("SA score", "mean estimate of how hard valid molecules are to make, 1: easy, 10: hard"),
}
