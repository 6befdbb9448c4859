"""Rewards of the molecular graph beyond QED, SA and logP: values from the literature, and refused settings."""

import math
from pathlib import Path
from typing import Any

import pytest
from rdkit import Chem
from test_molecule_rewards import ASPIRIN, BAD, IMATINIB, embedded, from_graph, from_smiles

from molrl.data.files import MAX_LINE
from molrl.data.molecules.bonds import edm_table, rdkit_bonds
from molrl.rewards.molecules.alerts import NoAlerts, alerts
from molrl.rewards.molecules.descriptors import FUNCTIONS, Descriptor, Name
from molrl.rewards.molecules.graph import GraphReward
from molrl.rewards.molecules.rings import AllowedRings
from molrl.rewards.molecules.similarity import Novelty, Similarity
from molrl.rewards.scores import Scored

CAFFEINE = "Cn1c(=O)c2c(ncn2C)n(C)c1=O"
IBUPROFEN = "CC(C)Cc1ccc(C(C)C(=O)O)cc1"
PARACETAMOL = "CC(=O)Nc1ccc(O)cc1"
# Molecular weight, TPSA, hydrogen-bond donors, rings: PubChem's records 2244, 2519, 3672, 1983 and 5291. Caffeine's
# TPSA is the sum of the fragments in Ertl et al. 2000, doi:10.1021/jm000942e, Table 1: 2 x 17.07 (=O) + 3 x 4.93 (n
# with three neighbours) + 12.89 (n with two); PubChem has 58.4, with the larger ring not aromatic.
PUBLISHED = {
    ASPIRIN: (180.16, 63.6, 1, 1),
    CAFFEINE: (194.19, 61.82, 0, 2),
    IBUPROFEN: (206.28, 37.3, 1, 1),
    PARACETAMOL: (151.16, 49.3, 2, 1),
    IMATINIB: (493.6, 86.3, 2, 5),
}
REWARDS: list[GraphReward] = [
    *(Descriptor(reader=edm_table, name=name) for name in FUNCTIONS),
    NoAlerts(reader=edm_table, catalogues=["PAINS", "BRENK"]),
    AllowedRings(reader=edm_table, sizes=[5, 6, 7]),
    Similarity(reader=edm_table, reference=[ASPIRIN, CAFFEINE]),
    Novelty(reader=edm_table, reference=[ASPIRIN, CAFFEINE]),
]

each_reward = pytest.mark.parametrize(
    "reward", REWARDS, ids=lambda reward: getattr(reward, "name", type(reward).__name__)
)


def value(reward: GraphReward, smiles: str) -> float:
    scored, reason = reward.score_one(from_smiles(smiles))
    assert reason == ""
    return scored


def measured(name: Name, smiles: str) -> float:
    return value(Descriptor(reader=edm_table, name=name), smiles)


@pytest.mark.parametrize(("smiles", "published"), PUBLISHED.items())
def test_descriptors_of_known_molecules(smiles: str, published: tuple[float, float, int, int]) -> None:
    weight, tpsa, donors, rings = published
    assert measured("molecular_weight", smiles) == pytest.approx(weight, abs=0.02)
    assert measured("tpsa", smiles) == pytest.approx(tpsa, abs=0.06)
    assert (measured("hydrogen_donors", smiles), measured("rings", smiles)) == (donors, rings)


def test_counts_that_can_be_done_by_hand() -> None:
    assert measured("rotatable_bonds", "CCCCC") == 2
    assert measured("rotatable_bonds", "CC(=O)NC") == 0  # an amide is rigid
    assert (measured("rings", "C1CC1CC1CCCCCCC1"), measured("largest_ring", "C1CC1CC1CCCCCCC1")) == (2, 8)
    assert measured("largest_ring", "CCO") == 0
    assert (measured("aromatic_rings", "C1CC1c1ccccc1"), measured("heavy_atoms", "C1CC1c1ccccc1")) == (1, 9)
    assert (measured("hydrogen_acceptors", "CO"), measured("heteroatoms", "CO")) == (1, 1)
    assert measured("fraction_sp3", "CC=C") == pytest.approx(1 / 3)


def test_an_unknown_descriptor_is_refused_with_those_that_are_known() -> None:
    unknown: Any = "weight"
    with pytest.raises(ValueError, match="got 'weight', known are molecular_weight, tpsa"):
        Descriptor(reader=edm_table, name=unknown)


# What the filters are for: Baell and Holloway 2010, doi:10.1021/jm901137j, and Brenk et al. 2008,
# doi:10.1002/cmdc.200700139
@pytest.mark.parametrize(
    ("smiles", "pains", "brenk"),
    [
        (IBUPROFEN, (), ()),
        (CAFFEINE, (), ()),
        (ASPIRIN, (), ("phenol_ester",)),
        ("O=C1C=CC(=O)C=C1", ("quinone_A(370)",), ("chinone_1",)),
        ("Oc1ccccc1O", ("catechol_A(92)",), ("catechol",)),
        ("O=C1NC(=S)SC1=Cc1ccccc1", ("ene_rhod_A(235)",), ("Michael_acceptor_1", "Thiocarbonyl_group")),
        ("CC=O", (), ("aldehyde",)),
    ],
)
def test_alerts_are_those_that_were_published(smiles: str, pains: tuple[str, ...], brenk: tuple[str, ...]) -> None:
    canonical = Chem.CanonSmiles(smiles)
    assert (alerts(("PAINS",), canonical), alerts(("BRENK",), canonical)) == (pains, brenk)
    assert value(NoAlerts(reader=edm_table, catalogues=["PAINS"]), smiles) == (not pains)
    assert value(NoAlerts(reader=edm_table, catalogues=["PAINS", "BRENK"]), smiles) == (not pains + brenk)


@pytest.mark.parametrize("catalogues", [[], ["PAIN"], "PAINS"])
def test_catalogues_that_are_none_are_refused(catalogues: Any) -> None:
    with pytest.raises(ValueError, match=r"catalogues: got .* need a list of PAINS, BRENK"):
        NoAlerts(reader=edm_table, catalogues=catalogues)


@pytest.mark.parametrize(
    ("smiles", "allowed"),
    [("CCO", 1), ("c1ccccc1", 1), ("C1CC1", 0), ("C1CCC1c1ccccc1", 0), ("C1CCCCCCC1", 0), ("C1CCC2CCCC2C1", 1)],
)
def test_every_ring_must_have_an_allowed_size(smiles: str, allowed: int) -> None:
    assert value(AllowedRings(reader=edm_table, sizes=[5, 6, 7]), smiles) == allowed


def test_no_allowed_size_means_no_rings() -> None:
    reward = AllowedRings(reader=edm_table, sizes=[])
    assert (value(reward, "CCO"), value(reward, "c1ccccc1")) == (1, 0)
    with pytest.raises(ValueError, match=r"sizes: got \[2\], need whole numbers from 3"):
        AllowedRings(reader=edm_table, sizes=[2])


def test_similarity_of_small_molecules_is_that_of_their_environments_counted_by_hand() -> None:
    """Ethane: CH3; both CH3 with the other, once. Propane: CH3; CH2; CH3 with CH2; CH2 with both CH3."""
    assert value(Similarity(reader=edm_table, reference=["CC"]), "CCC") == pytest.approx(1 / (2 + 4 - 1))
    assert value(Similarity(reader=edm_table, reference=["O"]), "C") == 0


def test_the_most_similar_molecule_of_the_reference_counts_and_novelty_is_the_rest() -> None:
    near = value(Similarity(reader=edm_table, reference=["CC"]), "CCC")
    for reference in (["CC", "O"], ["O", "CC"], ["CC", "CC", "O"]):
        assert value(Similarity(reader=edm_table, reference=reference), "CCC") == near
        assert value(Novelty(reader=edm_table, reference=reference), "CCC") == 1 - near
    assert value(Similarity(reader=edm_table, reference=["O", "CCC"]), "CCC") == 1


def test_a_reference_may_be_a_file_of_any_format(tmp_path: Path) -> None:
    (tmp_path / "known.smi").write_text(f"{ASPIRIN} aspirin\n{CAFFEINE} caffeine\n")
    (tmp_path / "known.csv").write_text(f"name,smiles\naspirin,{ASPIRIN}\n")
    mol = Chem.MolFromSmiles(ASPIRIN)
    geometry = Chem.AddHs(mol)
    sample = embedded(ASPIRIN)
    conformer = Chem.Conformer(len(sample))
    conformer.SetPositions(sample.positions.astype(float))
    geometry.AddConformer(conformer)
    (tmp_path / "known.sdf").write_text(Chem.MolToMolBlock(geometry) + "$$$$\n")
    (tmp_path / "known.xyz").write_text(Chem.MolToXYZBlock(geometry))
    for name in ("known.smi", "known.csv", "known.sdf", "known.xyz"):
        assert value(Similarity(reader=rdkit_bonds, reference=str(tmp_path / name)), ASPIRIN) == 1


def test_what_is_no_molecule_in_a_reference_is_left_out_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "known.smi").write_text(f"{ASPIRIN}\nC1CC\n{'C' * MAX_LINE}\n\nnothing\n")
    with pytest.warns(UserWarning, match="3 of 4 records left out"):
        reward = Similarity(reader=edm_table, reference=str(tmp_path / "known.smi"))
    assert value(reward, ASPIRIN) == 1


def test_a_reference_without_a_molecule_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.smi").write_text("C1CC\n")
    (tmp_path / "empty.smi").touch()
    for reference, words in (
        (str(tmp_path / "none.smi"), "none of 1 records is a molecule"),
        (str(tmp_path / "empty.smi"), "empty"),
        (str(tmp_path / "missing.smi"), "missing.smi"),
        ([], "none of 0 records is a molecule"),
    ):
        with pytest.raises(ValueError, match=words):
            Similarity(reader=edm_table, reference=reference)


@each_reward
@pytest.mark.parametrize(("smiles", "reason"), BAD.items(), ids=list(BAD.values()))
def test_a_bad_sample_gets_the_floor_and_a_reason(reward: GraphReward, smiles: str, reason: str) -> None:
    assert reward.score_one(from_smiles(smiles)) == Scored(reward.floor, reason)


@each_reward
def test_neither_hydrogens_nor_the_order_of_atoms_change_anything(reward: GraphReward) -> None:
    mol = Chem.MolFromSmiles(IMATINIB)
    turned = Chem.RenumberAtoms(mol, [*range(mol.GetNumAtoms())][::-1])
    scores = [reward.score_one(from_graph(graph)) for graph in (mol, turned, Chem.AddHs(mol))]
    assert scores[0] == scores[1] == scores[2]
    assert math.isfinite(scores[0].value)
