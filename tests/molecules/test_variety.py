"""#Circles and the total variation distance of compositions: hand-computed cases and laws."""

from collections import Counter
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from molrl.data.molecules.circles import count_circles
from molrl.data.molecules.composition import (
    compare_composition,
    count_elements,
    count_ring_sizes,
    count_rings,
    count_sizes,
    shift,
)
from molrl.data.molecules.groups import GROUPS, count_groups
from molrl.data.molecules.unembedded import Graphs

MOLECULES = (
    "CCO CCCO CCCCO OCCO CCN CCCN c1ccccc1 Cc1ccccc1 Oc1ccccc1 c1ccncc1 Cc1ccncc1 CC(=O)O CCC(=O)O CC(=O)N CC(=O)C"
).split()

# One molecule for each group, and others that look like it and have none.
EXAMPLES = {
    "CC(=O)O": "carboxylic acid",
    "CC(=O)[O-]": "carboxylic acid",
    "CC(=O)OC": "ester",
    "O=COC": "ester",
    "CC(=O)N": "amide",
    "O=CN(C)C": "amide",
    "NC(=O)N": "urea",
    "COC(=O)N": "carbamate",
    "CC(=O)C": "ketone",
    "CC=O": "aldehyde",
    "CCO": "alcohol",
    "Oc1ccccc1": "phenol",
    "COC": "ether",
    "CN": "primary amine",
    "C[NH3+]": "primary amine",
    "Nc1ccccc1": "primary amine",
    "CNC": "secondary amine",
    "C[NH2+]C": "secondary amine",
    "CN(C)C": "tertiary amine",
    "C[NH+](C)C": "tertiary amine",
    "C[N+](C)(C)C": "quaternary ammonium",
    "CC(=N)N": "amidine or guanidine",
    "CC(N)=[NH2+]": "amidine or guanidine",
    "CC=NC": "imine",
    "CC=NO": "oxime",
    "CNNC": "hydrazine or hydrazone",
    "CC=NNC": "hydrazine or hydrazone",
    "CN=NC": "azo",
    "C[N+](=O)[O-]": "nitro",
    "C[N+](C)(C)[O-]": "N-oxide",
    "c1cc[n+]([O-])cc1": "N-oxide",
    "CC#N": "nitrile",
    "C=C": "alkene",
    "C#C": "alkyne",
    "CS(=O)(=O)N": "sulfonamide",
    "CS(=O)(=O)C": "sulfone",
    "CS(C)=O": "sulfoxide",
    "C[S+](C)[O-]": "sulfoxide",
    "CSC": "thioether",
    "CS": "thiol",
    "CC(=S)C": "thiocarbonyl",
    "COP(=O)(O)O": "phosphoryl",
    "CB(O)O": "boronic acid",
    "CF": "fluorine",
    "CCl": "chlorine",
    "CBr": "bromine",
    "CI": "iodine",
    "COC(=O)OC": "",  # a carbonate
    "CC(=O)OC(=O)C": "",  # an anhydride
    "c1ccoc1": "",
    "c1ccsc1": "",
    "Cn1cccc1": "",
    "CN=[N+]=[N-]": "",  # an azide
    "CN(C)N=O": "",  # a nitrosamine
}


@cache
def graphs(*smiles: str) -> Graphs:
    return Graphs.parse(smiles)


def largest_packing(parsed: Graphs, threshold: float) -> int:
    """Return the size of the largest set of molecules further than the threshold from one another, by trying all."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    prints = [generator.GetFingerprint(mol) for mol in parsed.mols]
    near = [
        {j for j, other in enumerate(prints) if 1 - DataStructs.TanimotoSimilarity(one, other) <= threshold}
        for one in prints
    ]

    def best(candidates: frozenset[int]) -> int:
        if not candidates:
            return 0
        first = min(candidates)
        return max(1 + best(candidates - near[first]), best(candidates - {first}))

    return best(frozenset(range(len(prints))))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.6, 0.7, 0.8])
def test_circles_are_no_more_than_fit_and_nearly_as_many(threshold: float) -> None:
    parsed = graphs(*MOLECULES)
    most = largest_packing(parsed, threshold)
    assert 0.8 * most <= count_circles(parsed, threshold) <= most


def test_molecules_at_the_threshold_are_in_one_circle() -> None:
    """#Circles asks for distances above the threshold (Xie et al. 2023)."""
    parsed = graphs("CC", "CCC")
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    distance = 1 - DataStructs.TanimotoSimilarity(*map(generator.GetFingerprint, parsed.mols))
    assert 0 < distance < 1
    assert count_circles(parsed, distance) == 1
    assert count_circles(parsed, distance - 1e-6) == 2


@given(st.permutations(MOLECULES), st.integers(0, 5))
def test_order_and_copies_do_not_change_the_number_of_circles(order: list[str], copies: int) -> None:
    assert count_circles(graphs(*order, *order[:copies])) == count_circles(graphs(*MOLECULES))


def test_no_molecules_have_no_circles() -> None:
    assert count_circles(graphs()) == 0
    assert count_circles(graphs("CCO", "CCO")) == 1


def test_the_total_variation_distance_by_hand() -> None:
    found = shift(Counter({"C": 3, "N": 1}), Counter({"C": 1, "O": 1}))
    assert found is not None
    assert found.distance == pytest.approx((0.25 + 0.25 + 0.5) / 2)
    assert (found.outcome, found.share, found.reference_share) == ("O", 0.0, 0.5)
    assert shift(Counter(), Counter("a")) is None


COUNTS = st.dictionaries(st.integers(0, 4), st.integers(1, 20), min_size=1)


@given(COUNTS, COUNTS, st.integers(2, 5))
def test_the_distance_is_symmetric_bounded_and_of_proportions(
    first: dict[int, int], second: dict[int, int], times: int
) -> None:
    forth, back = shift(first, second), shift(second, first)
    assert forth is not None
    assert back is not None
    assert forth.distance == pytest.approx(back.distance)
    assert -1e-12 <= forth.distance <= 1 + 1e-12
    assert (forth.distance > 1 - 1e-12) == (not first.keys() & second.keys())
    assert forth.distance >= abs(forth.share - forth.reference_share) - 1e-12
    scaled = shift({key: times * count for key, count in first.items()}, second)
    assert scaled is not None
    assert scaled.distance == pytest.approx(forth.distance)


def test_what_is_counted_of_a_molecule() -> None:
    """Naphthyl cyclopropyl ketone and bromide, which is no molecule with them."""
    mols = graphs("O=C(c1cccc2ccccc12)C1CC1", "CBr").mols
    assert count_elements(mols) == {"C": 15, "O": 1, "Br": 1}
    assert count_sizes(mols) == {15: 1, 2: 1}
    assert count_rings(mols) == {3: 1, 0: 1}
    assert count_ring_sizes(mols) == {6: 2, 3: 1}
    assert +count_groups(mols) == {"ketone": 1, "bromine": 1}


def test_every_group_has_an_example() -> None:
    assert set(EXAMPLES.values()) - {""} == set(GROUPS)


@pytest.mark.parametrize("smiles", EXAMPLES)
def test_a_group_is_found_once_where_it_is_and_no_other(smiles: str) -> None:
    assert list((+count_groups([Chem.MolFromSmiles(smiles)])).elements()) == [EXAMPLES[smiles]] * bool(EXAMPLES[smiles])


def test_a_set_has_no_distance_from_itself() -> None:
    parsed = graphs(*MOLECULES).mols
    assert {found.distance for found in compare_composition(parsed, parsed).values() if found} == {0.0}
    assert compare_composition(parsed, graphs("CCO").mols)["ring_sizes"] is None
