"""Poses in their surroundings, as a report shows them."""

from dataclasses import replace

import numpy as np
import pytest

from molrl.data.files import EXAMPLES
from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.files import read
from molrl.data.molecules.molecule import Molecule
from molrl.exhibit import find_scene
from molrl.rewards.molecules.docking.pose import PoseScore
from molrl.rewards.molecules.docking.proxy import DockingProxy
from molrl.rewards.molecules.docking.site import Site
from molrl.rewards.molecules.docking.surroundings import REACH, record, write_surroundings
from molrl.rewards.molecules.qed import QED
from molrl.rewards.workers.pooled import Pooled

DATA = EXAMPLES
SITE = Site(receptor=str(DATA / "1iep_pocket.pdbqt"), centre=[15.190, 53.903, 16.917], size=[12.0, 12.0, 12.0])


def fragment() -> Molecule:
    ((molecule,), _) = read(str(DATA / "imatinib_hinge.sdf"))
    return replace(molecule, positions=molecule.positions + np.float32(30))


def test_surroundings_are_whole_residues_around_the_box() -> None:
    lines = write_surroundings(SITE).splitlines()
    found = np.array([[float(line[start : start + 8]) for start in (30, 38, 46)] for line in lines])
    labels = [line[21] + ":" + line[17:20].strip() + line[22:26].strip() for line in lines]
    structure, box = SITE.structure(), SITE.box()
    beyond = np.abs(structure.positions - np.array(box.centre)) - np.array(box.size) / 2
    near = np.all(beyond <= REACH, axis=1).tolist()
    wanted = {label for label, is_near in zip(structure.residues, near, strict=True) if is_near}
    assert set(labels) == wanted
    assert len(lines) == sum(label in wanted for label in structure.residues) < len(structure)
    assert found[0] == pytest.approx(structure.positions[structure.residues.index(labels[0])], abs=5e-4)


def test_a_record_has_the_columns_of_a_pdb_file() -> None:
    line = record(7, "N", "A:MET318", 1.0, -2.5, 300.125)
    assert (line[:6], line[6:11], line[17:20], line[21], line[22:26]) == ("ATOM  ", "    7", "MET", "A", " 318")
    assert (line[30:38], line[38:46], line[46:54], line[76:78]) == ("   1.000", "  -2.500", " 300.125", " N")
    assert record(7, "C", "", 0.0, 0.0, 0.0)[17:26] == "UNK A   1"


def test_a_docked_sample_is_shown_where_its_value_is_of() -> None:
    proxy = DockingProxy(site=SITE, starts=8, steps=12, seed=0, reader=rdkit_bonds)
    sample = fragment()
    posed = proxy.pose(sample)
    assert posed is not None
    distances = [np.linalg.norm(one.positions[:, None] - one.positions, axis=-1) for one in (sample, posed)]
    assert distances[0] == pytest.approx(distances[1], abs=2e-3)
    value = PoseScore(site=SITE, reader=rdkit_bonds).score_one(posed).value
    assert value == pytest.approx(proxy.score_one(sample).value, abs=1e-2)
    assert value > 0


def test_a_sample_without_a_place_has_no_pose() -> None:
    tight = Site(receptor=SITE.receptor, centre=[15.190, 53.903, 16.917], size=[3.0, 3.0, 3.0])
    proxy = DockingProxy(site=tight, starts=2, steps=1, seed=0, reader=rdkit_bonds)
    assert proxy.pose(fragment()) is None
    broken = replace(fragment(), positions=np.zeros_like(fragment().positions), graph=None)
    assert proxy.pose(broken) is None


def test_the_scene_of_a_reward_is_found_inside_its_wrappers() -> None:
    scene = PoseScore(site=SITE, reader=rdkit_bonds)
    assert find_scene(Pooled(scorer=scene, workers=0)) is scene
    assert find_scene(QED(reader=rdkit_bonds)) is None
    assert find_scene(len) is None
