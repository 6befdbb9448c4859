"""Selectivity is the difference of two docking scores, and nothing for what binds nowhere."""

import pytest

from molrl.building import build
from molrl.composition import compose
from molrl.data.files import EXAMPLES
from molrl.data.molecules.files import read


def scores(*settings: str, reward: str = "selectivity") -> list[float]:
    """Return the scores of imatinib where it binds."""
    imatinib, _ = read(EXAMPLES / "imatinib.sdf", "counts")
    sites = [f"reward.{site}.receptor='{EXAMPLES / '1iep_pocket.pdbqt'}'" for site in ("site", "off_site")]
    sites += [f"reward.{site}.ligand='{EXAMPLES / 'imatinib.sdf'}'" for site in ("site", "off_site")]
    config = compose("score", ["file=x.sdf", f"reward={reward}", "reward.workers=0", *sites, *settings])
    return list(build(config["reward"], "reward").score(imatinib).values)


def test_a_pocket_is_not_preferred_to_itself() -> None:
    assert scores("reward.scorer.terms.target.threshold=null") == pytest.approx([0.0], abs=1e-5)


def test_weights_are_of_the_two_pockets() -> None:
    """A half and a quarter of the score are left."""
    weight, threshold = "reward.scorer.terms.off_target.weight", "reward.scorer.terms.target.threshold=null"
    (half,) = scores(f"{weight}=-0.5", threshold)
    (quarter,) = scores(f"{weight}=-0.75", threshold)
    assert half > 1
    assert quarter == pytest.approx(half / 2, rel=1e-5)


def test_what_binds_to_the_wanted_pocket_too_weakly_has_the_floor() -> None:
    assert scores("reward.scorer.terms.target.threshold=50") == [-10.0]


def test_with_rotors_that_turn_a_pocket_is_not_preferred_to_itself_either() -> None:
    """The same search in both; with half the weight, half of the score of one is left."""
    search = ("reward.search.chains=16", "reward.search.steps=2", "reward.scorer.terms.target.threshold=null")
    assert scores(*search, reward="selectivity_flexible") == pytest.approx([0.0], abs=1e-5)
    (half,) = scores(*search, "reward.scorer.terms.off_target.weight=-0.5", reward="selectivity_flexible")
    assert half > 2
