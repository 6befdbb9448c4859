"""Size-normalised scores of every reward that docks."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_docking import CENTRE, RECEPTOR, embedded
from test_pose import imatinib

from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.perception import perceive_bonds
from molrl.rewards.molecules.docking.flexible_docking import FlexibleDocking
from molrl.rewards.molecules.docking.ligand_efficiency import sized
from molrl.rewards.molecules.docking.monte_carlo import MonteCarlo
from molrl.rewards.molecules.docking.pose import PoseScore
from molrl.rewards.molecules.docking.preparation import Preparation
from molrl.rewards.molecules.docking.proxy import DockingProxy
from molrl.rewards.molecules.docking.site import Site
from molrl.rewards.molecules.docking.vina import VinaDocking
from molrl.rewards.scores import gradient_of
from molrl.rewards.wrapping import parts_of

SITE = Site(receptor=RECEPTOR, centre=CENTRE, size=[14.0] * 3)


@cache
def proxy(power: float) -> DockingProxy:
    return DockingProxy(site=SITE, starts=4, steps=5, seed=0, size_power=power, reader=rdkit_bonds)


@cache
def flexible(power: float) -> FlexibleDocking:
    return FlexibleDocking(
        site=SITE,
        preparation=Preparation(ph=None, canonical_tautomer=False, conformers=0, seed=0),
        search=MonteCarlo(chains=8, steps=1, evaluations=5, poses=1, seed=0),
        strain_conformers=0,
        size_power=power,
        reader=rdkit_bonds,
    )


def vina(power: float) -> VinaDocking:
    pytest.importorskip("vina")
    pytest.importorskip("meeko")
    return VinaDocking(site=SITE, mode="score", exhaustiveness=1, seed=1, size_power=power, reader=perceive_bonds)


def pose(power: float) -> PoseScore:
    return PoseScore(site=SITE, size_power=power, reader=rdkit_bonds)


@pytest.mark.parametrize("docking", [proxy, flexible])
@pytest.mark.parametrize("power", [1.0, 1 / 3])
def test_the_value_is_the_score_divided_by_a_power_of_the_size(docking: Callable[[float], Any], power: float) -> None:
    """Nine heavy atoms: 9 and 2.0801 are the divisors; what is bad keeps its floor."""
    sample = embedded("OCCc1ccccc1")
    plain, divided = docking(0.0).score_one(sample), docking(power).score_one(sample)
    assert plain.value > 1.0
    assert divided.value == pytest.approx(plain.value / {1.0: 9.0, 1 / 3: 2.0800838}[power], rel=1e-6)
    assert parts_of(divided) == pytest.approx(parts_of(plain), nan_ok=True)
    assert parts_of(divided)["score"] == plain.value
    bad = embedded("OB(O)C")
    assert docking(power).score_one(bad) == docking(0.0).score_one(bad)


def test_the_ligand_efficiency_of_imatinib() -> None:
    """AutoDock Vina 1.2.7 gives its crystal pose -12.513 kcal/mol (vina.json), over 37 heavy atoms."""
    reward = PoseScore(site=replace(SITE, size=[30.0] * 3), size_power=1.0, reader=perceive_bonds)
    scored = reward.score_one(imatinib())
    assert scored.value == pytest.approx(12.513 / 37, abs=1e-3)
    assert parts_of(scored)["score"] == pytest.approx(12.513, abs=0.02)


def test_the_gradient_is_that_of_the_divided_value() -> None:
    sample = embedded("OCCc1ccccc1")
    plain, divided = (gradient_of(proxy(power).score_one(sample)) for power in (0.0, 1.0))
    assert plain is not None
    assert divided is not None
    assert np.abs(plain).max() > 0.01
    assert divided == pytest.approx(plain / 9)


@pytest.mark.parametrize("build", [proxy, flexible, pose, vina])
@pytest.mark.parametrize("power", [-0.5, 1.5, float("nan")])
def test_a_power_that_is_none_is_refused(build: Callable[[float], Any], power: float) -> None:
    with pytest.raises(ValueError, match=r"size_power: got .*, need a number from 0"):
        build(power)


@given(st.floats(0, 20), st.integers(1, 80), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_power_favours_the_smaller_of_two_molecules(score: float, n: int, one: float, other: float) -> None:
    """The order of two with the same score, and the value between ligand efficiency and score."""
    low, high = sorted((one, other))
    value, parts = sized(score, n, high)
    assert value <= sized(score, n, low)[0] + 1e-12
    assert sized(score, n + 1, high)[0] <= value + 1e-12
    assert parts["per_heavy_atom"] - 1e-12 <= value <= score + 1e-12
