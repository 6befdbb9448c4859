"""Interactions with named residues, at distances and angles that are known."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_molecule_rewards import from_smiles

from molrl.data.molecules.bonds import rdkit_bonds
from molrl.rewards.molecules.docking.interactions import Interactions
from molrl.rewards.scores import Explained

ROW = "ATOM  {:5d}  {:3} {} A  10    {:8.3f}{:8.3f}{:8.3f}  1.00  0.00          {:>2}\n"
BACKBONE = {"N": (-3.3, 1.4, 0), "CA": (-1.9, 1.4, 0), "C": (-1.4, 2.8, 0), "O": (-0.2, 3, 0)}
SERINE = {**BACKBONE, "CB": (-1.4, 0, 0), "OG": (0, 0, 0)}
ALANINE = {**BACKBONE, "CB": (-1.4, 0, 0)}


def receptor(folder: Path, name: str, atoms: dict[str, Any]) -> str:
    path = folder / f"{name}.pdb"
    rows = enumerate(atoms.items(), 1)
    path.write_text("".join(ROW.format(row, atom, name, *place, atom[0]) for row, (atom, place) in rows) + "END\n")
    return str(path)


def score(reward: Interactions, smiles: str, *places: tuple[float, float, float]) -> Explained:
    scored = reward.score_one(replace(from_smiles(smiles), positions=np.array(places, np.float32)))
    assert isinstance(scored, Explained), scored
    return scored


def wanted(file: str, *residues: str, slack: float = 2.0) -> Interactions:
    return Interactions(receptor=file, residues=residues, slack=slack, reader=rdkit_bonds)


@pytest.mark.parametrize(
    ("distance", "slack", "credit"),
    [(2.9, 2.0, 1), (3.49, 0.0, 1), (4.5, 2.0, 0.5), (4.5, 0.0, 0), (5.0, 2.0, 0.25), (9.0, 2.0, 0)],
)
def test_a_hydrogen_bond_counts_by_its_length(tmp_path: Path, distance: float, slack: float, credit: float) -> None:
    """Methanol on the far side of a serine's hydroxyl, in one line with its bond."""
    reward = wanted(receptor(tmp_path, "SER", SERINE), "A:SER10:hbond", slack=slack)
    scored = score(reward, "CO", (distance + 1.4, 0, 0), (distance, 0, 0))
    assert scored.value == pytest.approx(credit, abs=1e-6)
    assert scored.parts == {"A_SER10_hbond": float(distance < 3.5)}


def test_a_hydrogen_bond_across_a_bond_is_none(tmp_path: Path) -> None:
    """From behind the bond of the residue's atom, or of the ligand's."""
    reward = wanted(receptor(tmp_path, "SER", SERINE), "A:SER10:hbond")
    assert score(reward, "CO", (-1.44, -4.33, 0), (-1.0, -3.0, 0)).value == 0
    assert score(reward, "CO", (1.9, 1.0, 0), (2.9, 0, 0)).value == 0
    assert score(reward, "CO", (2.9, 1.4, 0), (2.9, 0, 0)).value == 1  # ninety degrees


def test_two_acceptors_make_no_hydrogen_bond(tmp_path: Path) -> None:
    """Dimethyl ether accepts one, so serine gives it one; the carbonyl of alanine can only accept, too."""
    ether = ((3.6, 1.2, 0), (2.9, 0, 0), (3.6, -1.2, 0))
    assert score(wanted(receptor(tmp_path, "SER", SERINE), "A:SER10:hbond"), "COC", *ether).value == 1
    carbonyl = {**ALANINE, "N": (-9.0, 1.4, 0), "O": (0, 2.8, 0)}
    alone = wanted(receptor(tmp_path, "ALA", carbonyl), "A:ALA10:hbond")
    at_carbonyl = [(x, y + 2.8, z) for x, y, z in ether]
    assert score(alone, "COC", *at_carbonyl).value == 0
    assert score(alone, "CO", at_carbonyl[0], at_carbonyl[1]).value == 1


def test_hydrophobic_contacts_are_between_carbons_without_hetero_atoms(tmp_path: Path) -> None:
    reward = wanted(receptor(tmp_path, "ALA", ALANINE), "A:ALA10:hydrophobic")
    assert score(reward, "CC", (2.5, 0, 0), (4.0, 0, 0)).value == 1
    assert score(reward, "CC", (3.6, 0, 0), (5.1, 0, 0)).value == pytest.approx(0.5, abs=1e-6)
    assert score(reward, "CO", (2.5, 0, 0), (3.9, 0, 0)).value == 0


def test_several_interactions_are_a_mean(tmp_path: Path) -> None:
    reward = wanted(receptor(tmp_path, "SER", SERINE), "A:SER10:hbond", "A:SER10:hbond", slack=0)
    assert score(reward, "CO", (4.3, 0, 0), (2.9, 0, 0)).value == 1
    both = wanted(receptor(tmp_path, "ALA", ALANINE), "A:ALA10:hydrophobic", "A:ALA10:hbond", slack=0)
    assert score(both, "CC", (2.5, 0, 0), (4.0, 0, 0)).value == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A:SER11:hbond", r"has no A:SER11; at that place is nothing"),
        ("A:MET10:hbond", r"has no A:MET10; at that place is \['SER'\]"),
        ("SER10:hbond", "need CHAIN:NAME and number"),
        ("A:SER10:salt", "need CHAIN:NAME and number"),
        ("A:SER10:hydrophobic", "no atom of SER can do that"),
    ],
)
def test_residues_that_are_not_there_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wanted(receptor(tmp_path, "SER", SERINE), text)


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    file = receptor(tmp_path, "SER", SERINE)
    for residues, slack in (([], 1.0), ("A:SER10:hbond", 1.0), (["A:SER10:hbond"], math.inf)):
        with pytest.raises(ValueError, match=r"residues|slack"):
            Interactions(receptor=file, residues=residues, slack=slack, reader=rdkit_bonds)
