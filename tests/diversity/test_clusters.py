"""Clusters are near their centres, and never change."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem, DataStructs
from torch import nn
from torch.testing import assert_close

from molrl.advantages import reserve_rows
from molrl.data.molecules.bonds import Reading
from molrl.data.molecules.circles import morgan_generator
from molrl.diversity import Diversity
from molrl.diversity.buckets import BucketPenalty
from molrl.diversity.clusters import Clusters, packed, tanimoto_distances
from molrl.models.molecules.outcomes import describe_molecule

SMILES = ("CCO", "CCCO", "CCCCO", "c1ccccc1", "Cc1ccccc1", "CCN", "C#N", "O=C1CCCC1")
TEXTS = st.lists(st.integers(0, 2**8 - 1).map(lambda bits: f"{bits:02x}"), max_size=12)


def fingerprint(smiles: str) -> str:
    return describe_molecule(Reading(Chem.MolFromSmiles(smiles), ""), None)["fingerprint"]


def test_distances_are_those_of_rdkit() -> None:
    prints = [morgan_generator().GetFingerprint(Chem.MolFromSmiles(smiles)) for smiles in SMILES]
    expected = [[1 - DataStructs.TanimotoSimilarity(one, other) for other in prints] for one in prints]
    rows = packed([fingerprint(smiles) for smiles in SMILES])
    assert_close(tanimoto_distances(rows, rows), torch.tensor(expected), atol=1e-6, rtol=0)


def test_two_without_any_bit_are_equal_and_far_from_all_others() -> None:
    assert tanimoto_distances(packed(["00", "03"]), packed(["00", "03"])).tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_a_sample_belongs_to_the_oldest_centre_that_is_near() -> None:
    """Distances by hand: 07 to 0f is 1/4, 07 to 03 is 1/3, 03 to 0f is 1/2."""
    clusters = Clusters(0.4)
    clusters.add(["0f"])
    clusters.add(["03"])
    assert clusters.of(["0f", "03", "07", "f0"]) == ["0", "1", "0", "f0"]
    clusters.add(["07"])
    assert len(clusters) == 2


@given(st.lists(TEXTS, max_size=4), st.sampled_from([0.0, 0.3, 0.6]))
def test_centres_are_far_apart_and_every_sample_is_near_its_own(rounds: list[list[str]], distance: float) -> None:
    clusters, seen, names = Clusters(distance), list[str](), dict[str, str]()
    for texts in rounds:
        clusters.add(texts)
        seen += texts
        for text, name in zip(seen, clusters.of(seen), strict=True):
            assert names.setdefault(text, name) == name
    if seen:
        far = tanimoto_distances(clusters.centres, clusters.centres)
        assert all(far[i, j] > distance for i, j in itertools.combinations(range(len(clusters)), 2))
        own = tanimoto_distances(packed(seen), clusters.centres)
        assert all(own[row, int(name)] <= distance for row, name in enumerate(clusters.of(seen)))


@given(TEXTS, st.randoms(use_true_random=False))
def test_the_order_within_a_round_does_not_matter(texts: list[str], random: object) -> None:
    one, two = Clusters(0.3), Clusters(0.3)
    one.add(texts)
    two.add(random.sample(texts, len(texts)))  # type: ignore[attr-defined]
    assert torch.equal(one.centres, two.centres)


def test_beyond_the_capacity_a_sample_is_its_own_cluster() -> None:
    clusters = Clusters(0.1, capacity=1)
    clusters.add(["01", "02"])
    assert clusters.of(["01", "02"]) == ["0", "02"]


def test_saved_centres_are_loaded() -> None:
    whole, fresh = (nn.ModuleDict({"part": BucketPenalty("x", 5.0, 1.0, Clusters(0.4))}) for _ in range(2))
    whole["part"].add({"x": ["0f", "f0", "0f"]})  # type: ignore[operator]
    reserve_rows(fresh, whole.state_dict())
    fresh.load_state_dict(whole.state_dict())
    assert torch.equal(
        fresh["part"].factors({"x": ["0f", "f0"]}, remembered=True),  # type: ignore[operator]
        whole["part"].factors({"x": ["0f", "f0"]}, remembered=True),  # type: ignore[operator]
    )


def test_similar_molecules_share_a_penalty_and_others_do_not() -> None:
    """Butanol is near propanol (distance 5/12); benzene is near neither."""
    shaper = Diversity(None, BucketPenalty("fingerprint", 6.0, 1.0, Clusters(0.6)), None)
    first = [{"fingerprint": fingerprint(smiles)} for smiles in ("CCCO", "CCCCO", "c1ccccc1")]
    got = shaper.shape_round(first, torch.ones(3))
    expected = 1 - torch.tanh(torch.tensor([3 / 6, 3 / 6, 0.0]))
    assert_close(got, expected)


@pytest.mark.parametrize("distance", [-0.1, 1.0, float("nan")])
def test_a_distance_that_makes_no_clusters_is_refused(distance: float) -> None:
    with pytest.raises(ValueError, match=r"distance: got .*, need at least 0 and below 1"):
        Clusters(distance)
