"""Rewards of poses for molecules that are docked first."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_docking import embedded
from test_flexible_reward import reward

from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.perception import perceive_bonds
from molrl.exhibit import find_scene
from molrl.rewards.combine import Term, WeightedSum
from molrl.rewards.molecules.docking.docked import Docked
from molrl.rewards.molecules.docking.flexible_docking import FlexibleDocking
from molrl.rewards.molecules.docking.interactions import Interactions
from molrl.rewards.molecules.docking.pose import PoseScore
from molrl.rewards.molecules.docking.pose_strain import PoseStrain
from molrl.rewards.molecules.geometry import NO_GEOMETRY
from molrl.rewards.scores import Scorer
from molrl.rewards.wrapping import parts_of

CHAIN = embedded("OCCc1ccccc1")


def docked(scorer: Scorer[Molecule], size: float = 12.0) -> Docked:
    return Docked(docking=reward(size), scorer=scorer, floor=-1.0)


def pose_score() -> PoseScore:
    return PoseScore(site=reward().site, reader=perceive_bonds)


def test_vinas_score_of_the_docked_pose_is_that_of_the_docking() -> None:
    """Wherever the sample lies: where it is, far outside the box, it is worth nothing."""
    far = replace(CHAIN, positions=CHAIN.positions + np.float32(50))
    at_pose, alone = docked(pose_score()).score([CHAIN, far]), pose_score().score([far])
    assert at_pose.values == pytest.approx(reward().score([CHAIN, far]).values, abs=1e-3)
    assert alone.values == [0.0]


def test_strain_is_that_of_the_docked_pose() -> None:
    """As the docking reports it as a part, and not that of the sample."""
    strain = PoseStrain(conformers=5, seed=0, reader=perceive_bonds)
    own = replace(reward(), strain_conformers=5)
    assert docked(strain).score_one(CHAIN).value == pytest.approx(parts_of(own.score_one(CHAIN))["strain"], abs=0.01)


def test_interactions_are_those_of_the_docked_pose(tmp_path: Path) -> None:
    """A water-like serine is put at 3 angstrom from the oxygen of the docked pose, away from its carbon."""
    pose = reward().pose(CHAIN)
    assert pose is not None
    oxygen, carbon = pose.positions[0], pose.positions[1]
    outward = (oxygen - carbon) / np.linalg.norm(oxygen - carbon)
    rows = {"OG": oxygen + 3 * outward, "CB": oxygen + 4.4 * outward, "CA": oxygen + 5.9 * outward}
    lines = [
        f"ATOM  {n:5d}  {name:3} SER A  10    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {name[0]:>2}\n"
        for n, (name, (x, y, z)) in enumerate(rows.items(), 1)
    ]
    (tmp_path / "serine.pdb").write_text("".join(lines) + "END\n")
    wanted = Interactions(
        receptor=str(tmp_path / "serine.pdb"), residues=["A:SER10:hbond"], slack=0.0, reader=perceive_bonds
    )
    far = replace(CHAIN, positions=CHAIN.positions + np.float32(50))
    assert [docked(wanted).score_one(far).value, wanted.score_one(far).value] == [1.0, 0.0]


def test_a_combination_of_pose_rewards_docks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    strain = PoseStrain(conformers=1, seed=0, reader=perceive_bonds)
    both = docked(
        WeightedSum(terms={"a": Term(scorer=pose_score(), weight=1), "b": Term(scorer=strain, weight=-0.1)}, floor=-9)
    )
    calls, search = list[Any](), FlexibleDocking.search_poses

    def counting(docking: FlexibleDocking, *arguments: Any) -> Any:
        calls.append(arguments)
        return search(docking, *arguments)

    monkeypatch.setattr(FlexibleDocking, "search_poses", counting)
    scored = both.score_one(CHAIN)
    parts = parts_of(scored)
    assert scored.value == pytest.approx(parts["a"] - 0.1 * parts["b"])
    assert (tuple(parts), len(calls)) == (both.parts, 1)


def test_what_has_no_pose_has_the_floor_and_the_reason_of_the_docking() -> None:
    tight = docked(pose_score(), size=3.0)
    bad = Molecule(np.array([6, 6]), np.eye(2, 3, dtype=np.float32) * 9, np.array([4, 4]))
    assert tight.score([embedded("CCCCCCCC"), bad]).scored == (
        (-1.0, "box: the molecule does not fit in"),
        (-1.0, "disconnected: 2 fragments"),
    )
    flat = replace(CHAIN, positions=np.zeros_like(CHAIN.positions), graph=rdkit_bonds(CHAIN).mol)
    value, reason = tight.score_one(flat)
    assert math.isnan(value)
    assert reason == NO_GEOMETRY


def test_a_report_shows_the_docked_pose() -> None:
    """Not the pose score within, which moves nothing."""
    whole = docked(pose_score())
    assert find_scene(whole) is whole
    pose = whole.pose(CHAIN)
    assert pose is not None
    assert pose_score().score_one(pose).value > 1
    assert "ATOM" in whole.surroundings() or "HETATM" in whole.surroundings()
