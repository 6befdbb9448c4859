"""The sections of `molrl evaluate` for molecules, each computed by one protocol and named after it."""

from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial

import numpy as np

from molrl.data.molecules.circles import THRESHOLD, count_circles
from molrl.data.molecules.composition import Shift, compare_composition
from molrl.data.molecules.edm_protocol import EDMQuality
from molrl.data.molecules.filters import mcf_is_installed, passes_filters
from molrl.data.molecules.known import share_known
from molrl.data.molecules.moses import (
    brics_fragments,
    cosine_similarity,
    fingerprints,
    frechet_chemnet_distance,
    internal_diversity,
    nearest_similarity,
    ring_scaffolds,
    wasserstein_distance,
)
from molrl.data.molecules.quality import Quality, fraction
from molrl.data.molecules.unembedded import Graphs
from molrl.models.molecules.metric_table import Metric, Section
from molrl.rewards.molecules.descriptors import descriptor
from molrl.rewards.molecules.logp import crippen_logp
from molrl.rewards.molecules.qed import drug_likeness
from molrl.rewards.molecules.sa import sa_score

NO_REFERENCE = "needs a reference"
PROPERTIES: Mapping[str, tuple[Callable[[str], float], str]] = {
    "logp": (crippen_logp, "Crippen's logP"),
    "sa": (sa_score, "SA score"),
    "qed": (drug_likeness, "QED"),
    "weight": (partial(descriptor, "molecular_weight"), "molecular weight"),
}


def quality_section(quality: Quality, reader: str) -> Section:
    """Return what a chemist asks first; all of it depends on the bonds."""
    metrics = [
        Metric("validity", quality.validity, "read by the reader"),
        Metric("validity_connected", quality.validity_connected, "read, and one fragment"),
        Metric("valence_atom_stability", quality.valence_atom_stability, "heavy atoms with an allowed valence"),
        Metric("valence_molecule_stability", quality.valence_molecule_stability, "molecules of such atoms only"),
        Metric("uniqueness", quality.uniqueness, "distinct, of the valid"),
        Metric("novelty", quality.novelty, "not in the reference, of the distinct"),
        Metric("aromatic", quality.aromatic, "with an aromatic ring, of the valid"),
        Metric("mean_heavy_atoms", quality.mean_heavy_atoms, "heavy atoms per molecule"),
    ]
    return Section(f"quality; bonds: {reader}", metrics)


def known_section(smiles: Sequence[str], reference: Container[str], known: Container[str]) -> Section:
    """Return where the distinct molecules are known from."""
    shares = share_known(set(smiles), reference, known)
    metrics = [
        Metric("seen", shares.seen, "in the reference, of the distinct"),
        Metric("unseen", shares.unseen, "known, but not in the reference"),
        Metric("outside", shares.outside, "neither"),
    ]
    return Section("known molecules", metrics)


def variety_section(quality: Quality, graphs: Graphs) -> Section:
    """Return how different the valid molecules are from one another."""
    circles = count_circles(graphs)
    metrics = [
        Metric("internal_diversity", quality.internal_diversity, "mean Tanimoto distance"),
        Metric("scaffolds", quality.scaffolds, "distinct Bemis-Murcko scaffolds"),
        Metric("circles", circles, f"#Circles, molecules further than {THRESHOLD} from one another, by MaxMin"),
    ]
    return Section("variety", metrics)


def edm_section(quality: Quality, edm: EDMQuality | None, *, implicit: bool, origin: str) -> Section:
    """Return EDM's protocol, which needs geometries.

    Args:
        implicit: hydrogens are counts, whereas the published figures are of molecules with all atoms.
        origin: says of which geometries molrl is the author.
    """
    heading = "EDM's protocol (Hoogeboom et al. 2022)"
    if edm is None:
        return Section(f"{heading}: needs geometries", [])
    novelty = "needs a reference with geometries" if edm.novelty is None else "not in the reference, of the distinct"
    metrics = [
        Metric("edm_atom_stability", quality.edm_atom_stability, "atoms with an allowed valence"),
        Metric("edm_molecule_stability", quality.edm_molecule_stability, "molecules of such atoms only"),
        Metric("edm_validity", edm.validity, "sanitise, as on QM9"),
        Metric("edm_uniqueness", edm.uniqueness, "distinct, of the valid"),
        Metric("edm_valid_and_unique", edm.valid_and_unique, "distinct valid ones, of all"),
        Metric("edm_novelty", edm.novelty, novelty),
        Metric("edm_geom_validity", edm.geom_validity, "sanitise with all bonds single, as on GEOM"),
    ]
    atoms = "; not that of the papers, whose hydrogens are atoms" if implicit else ""
    return Section(f"{heading}; bonds: by distance alone{atoms}{origin}", metrics)


def moses_section(samples: Graphs, reference: Graphs | None, against: str) -> Section:
    """Return the metrics of MOSES of the valid molecules against the reference.

    Args:
        against: what the reference is, for the heading.
    """
    prints = fingerprints(samples.mols)
    pass_rate = fraction(sum(map(passes_filters, samples.mols)), len(samples))
    filters = ("moses_filters", "pass MCF and PAINS, not charged, no large ring")
    if not mcf_is_installed():
        filters = (
            "moses_filters_without_mcf",
            "pass PAINS, not charged, no large ring; with MCF: pip install --no-deps molsets",
        )
    similarity: list[float | None] = [None] * 3
    if reference is not None:
        similarity = [
            nearest_similarity(prints, fingerprints(reference.mols)),
            cosine_similarity(brics_fragments(samples.mols), brics_fragments(reference.mols)),
            cosine_similarity(ring_scaffolds(samples.mols), ring_scaffolds(reference.mols)),
        ]
    meanings = ["SNN, Tanimoto similarity to the nearest", "cosine of BRICS fragments", "cosine of ring scaffolds"]
    names = ["moses_snn", "moses_fragments", "moses_scaffolds"]
    metrics = [
        Metric("moses_intdiv1", internal_diversity(prints, 1), "internal diversity"),
        Metric("moses_intdiv2", internal_diversity(prints, 2), "the same with p = 2"),
        Metric(filters[0], pass_rate, filters[1]),
        *(
            Metric(name, value, NO_REFERENCE if reference is None else meaning)
            for name, value, meaning in zip(names, similarity, meanings, strict=True)
        ),
        frechet_metric(samples, reference),
        *(property_metric(name, samples, reference) for name in PROPERTIES),
    ]
    return Section(f"MOSES (Polykovskiy et al. 2020), {against}", metrics)


def frechet_metric(samples: Graphs, reference: Graphs | None) -> Metric:
    """Return FCD, or what is missing for it."""
    if reference is None:
        return Metric("moses_fcd", None, NO_REFERENCE)
    try:
        value = frechet_chemnet_distance(samples.smiles, reference.smiles)
    except ImportError:
        return Metric("moses_fcd", None, "not installed: pip install 'molrl[fcd]'")
    return Metric("moses_fcd", value, "Frechet ChemNet distance; falls with the number of molecules")


def property_metric(name: str, samples: Graphs, reference: Graphs | None) -> Metric:
    """Return the Wasserstein-1 distance of the distribution of a property from that of the reference."""
    function, label = PROPERTIES[name]
    sets = [samples] if reference is None else [samples, reference]
    values = [np.array([function(smiles) for smiles in graphs.smiles], dtype=np.float64) for graphs in sets]
    means = [f"{each.mean():.3g}" if len(each) else "-" for each in values]
    if reference is None:
        return Metric(f"moses_{name}", None, f"{NO_REFERENCE}; {label}, mean {means[0]}")
    return Metric(
        f"moses_{name}", wasserstein_distance(*values), f"Wasserstein distance of {label}; means {', '.join(means)}"
    )


def composition_section(samples: Graphs, reference: Graphs) -> Section:
    """Return the total variation distances of the composition from that of the reference."""
    shifts = compare_composition(samples.mols, reference.mols)
    metrics = [composition_metric(name, shift) for name, shift in shifts.items()]
    return Section("composition, total variation distance from the reference", metrics)


def composition_metric(name: str, shift: Shift | None) -> Metric:
    """Return a distance with the outcome whose share differs most."""
    if shift is None:
        return Metric(f"variation_{name}", None, "one of the sets has none")
    text = f"most: {shift.outcome} {shift.share:.3f}, reference {shift.reference_share:.3f}"
    return Metric(f"variation_{name}", shift.distance, text)
