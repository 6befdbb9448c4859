"""Flexible docking: torsions turn what they should, energies and gradients are exact, poses are found."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdMolTransforms
from torch import Tensor
from torch.testing import assert_close

from molrl.data.files import EXAMPLES
from molrl.data.molecules.pdbqt import Structure, read_receptor
from molrl.rewards.molecules.docking.atom_types import graph_ligand
from molrl.rewards.molecules.docking.complexes import Complexes, FlexibleLigand
from molrl.rewards.molecules.docking.kinematics import Coordinates, Skeletons
from molrl.rewards.molecules.docking.maps import Maps
from molrl.rewards.molecules.docking.minimisation import minimise
from molrl.rewards.molecules.docking.monte_carlo import MonteCarlo, dock
from molrl.rewards.molecules.docking.preparation import Preparation, embedded
from molrl.rewards.molecules.docking.scoring_function import Box, Ligands, Pocket
from molrl.rewards.molecules.docking.torsion_tree import torsion_tree

DATA = Path(__file__).parents[1] / "data/docking"
F64 = torch.float64
IMATINIB = Chem.RemoveAllHs(Chem.MolFromMolFile(str(EXAMPLES / "imatinib.sdf")))
CRYSTAL = IMATINIB.GetConformer().GetPositions()
BOX = Box((15.190, 53.903, 16.917), (24.0, 24.0, 24.0))
CHAIN, BRANCHED, RIGID, METHANE = "CCCCO", "CC(C)CC(=O)NCc1ccccc1", "c1ccccc1", "C"


def flexible(smiles: str) -> FlexibleLigand:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=3) == 0
    mol = Chem.RemoveAllHs(mol)
    return FlexibleLigand(graph_ligand(mol), torsion_tree(mol), mol.GetConformer().GetPositions())


@cache
def maps(dtype: torch.dtype = torch.float32, side: float = 7.0) -> Maps:
    """Return the maps of a shell of nitrogens and oxygens around a small box."""
    shell = np.random.default_rng(0).normal(size=(16, 3))
    shell *= 5.0 / np.linalg.norm(shell, axis=1, keepdims=True)
    structure = Structure(("C", "OA") * 8, shell, np.zeros(16), np.zeros((0, 2), np.int64))
    return Maps(Pocket(structure, Box((0.0, 0.0, 0.0), (side, side, side)), dtype=dtype))


def random_coordinates(number: int, poses: int, torsions: int) -> Coordinates:
    generator = torch.Generator().manual_seed(5)
    shift = torch.randn(number, poses, 3, generator=generator, dtype=F64)
    turn = torch.linalg.qr(torch.randn(number, poses, 3, 3, generator=generator, dtype=F64))[0]
    turn = turn * torch.linalg.det(turn)[..., None, None]
    return Coordinates(shift, turn, torch.randn(number, poses, torsions, generator=generator, dtype=F64))


def test_torsions_leave_lengths_angles_and_fragments_alone() -> None:
    """And turn each dihedral angle by just what they say, as RDKit measures it."""
    one = flexible(BRANCHED)
    tree, skeletons = one.tree, Skeletons([one.conformer], [one.tree], F64)
    at = random_coordinates(1, 4, tree.torsions)
    mol = Chem.MolFromSmiles(BRANCHED)
    near = (Chem.GetDistanceMatrix(mol) <= 2) | (tree.fragment[:, None] == tree.fragment)
    mol.AddConformer(Chem.Conformer(len(one.ligand)))
    for pose, angles in zip(skeletons.poses(at)[0].numpy(), at.angles[0].numpy(), strict=True):
        for first, second in np.argwhere(near):
            lengths = [np.linalg.norm(x[first] - x[second]) for x in (pose, one.conformer)]
            assert lengths[0] == pytest.approx(lengths[1], abs=1e-10)
        for (a, b), angle in zip(tree.bonds.tolist(), angles, strict=True):
            ends = [
                next(n.GetIdx() for n in mol.GetAtomWithIdx(i).GetNeighbors() if n.GetIdx() != j)
                for i, j in ((a, b), (b, a))
            ]
            dihedral = []
            for x in (one.conformer, pose):
                mol.GetConformer().SetPositions(np.ascontiguousarray(x))
                dihedral.append(rdMolTransforms.GetDihedralRad(mol.GetConformer(), ends[0], a, b, ends[1]))
            assert np.cos(dihedral[1] - dihedral[0] - angle) == pytest.approx(1.0, abs=1e-10)
        volumes = [np.linalg.det(x[[0, 2, 3]] - x[1]) for x in (pose, one.conformer)]  # about the branching carbon
        assert volumes[0] == pytest.approx(volumes[1], abs=1e-10)


def test_torsions_are_the_rotors_that_move_heavy_atoms() -> None:
    """Four of the five bonds of leucinol's chain; neither methyl groups nor rings turn, nor do amides."""
    assert flexible("OCC(N)CC(C)C").tree.torsions == 3
    assert flexible(CHAIN).tree.torsions == 2
    assert flexible(RIGID).tree.torsions == flexible(METHANE).tree.torsions == 0
    assert flexible("CC(=O)NCc1ccccc1").tree.torsions == 2
    assert torsion_tree(IMATINIB).torsions == 7


def test_pairs_are_those_beyond_three_bonds_whose_distance_changes() -> None:
    """Hexane by hand: C1 and C6 end both outer torsions; C1-C5 and C2-C6 turn about two each.

    Of biphenyl 5 by 5, without the ends of the bond, less the 4 of two ortho carbons.
    """
    assert flexible("CCCCCC").tree.pairs.tolist() == [[0, 4], [0, 5], [1, 5]]
    assert flexible("c1ccccc1-c1ccccc1").tree.pairs.shape == (21, 2)


def test_the_root_is_where_the_tree_is_least_deep() -> None:
    tree = flexible("CCCCCCCCCC").tree
    assert tree.torsions == 7
    assert tree.level.max() == 4
    assert (np.diff(tree.level) >= 0).all()


def test_explicit_gradients_are_those_of_autograd() -> None:
    """By position, orientation and every torsion, of a function without symmetry; of padded ligands too."""
    several = [flexible(smiles) for smiles in (BRANCHED, CHAIN, RIGID)]
    skeletons = Skeletons([one.conformer for one in several], [one.tree for one in several], F64)
    at = random_coordinates(3, 2, skeletons.torsions.shape[1])
    weight = torch.randn(skeletons.conformers[:, None].shape, generator=torch.Generator().manual_seed(1), dtype=F64)
    step = torch.zeros(3, 2, 6 + at.angles.shape[-1], dtype=F64, requires_grad=True)
    real = skeletons.moved[:, :1, :, None]
    poses = skeletons.poses(at.moved(step))
    (expected,) = torch.autograd.grad(((weight * poses.sin()) * real).sum(), step)
    found = skeletons.pull_back(poses.detach(), (weight * poses.detach().cos()) * real, at)
    assert_close(found, expected, atol=1e-9, rtol=0)
    assert (found[..., 6:].abs() > 1e-3)[skeletons.torsions[:, None].expand(-1, 2, -1)].all()


@pytest.mark.parametrize("surface", ["soft", "exact"])
def test_gradients_of_the_energy_are_central_differences(surface: str) -> None:
    """Atoms inside and outside the box, with and without clashes."""
    system = Complexes(maps(F64), [flexible(BRANCHED), flexible(METHANE)])
    energy = system.exact() if surface == "exact" else system.soft(10.0)
    at = system.random(6, torch.Generator().manual_seed(2))
    _, gradient = energy(at)
    for column in range(gradient.shape[-1]):
        step = torch.zeros_like(gradient)
        step[..., column] = 1e-6
        slope = (energy(at.moved(step))[0] - energy(at.moved(-step))[0]) / 2e-6
        assert_close(slope, gradient[..., column], atol=1e-4, rtol=1e-4)


def test_padding_changes_no_energy() -> None:
    several = [flexible(BRANCHED), flexible(CHAIN), flexible(METHANE)]
    together = Complexes(maps(), several)
    at = together.random(3, torch.Generator().manual_seed(4))
    energies, gradients = together.soft(10.0)(at)
    for row, one in enumerate(several):
        alone = Complexes(maps(), [one])
        own = Coordinates(*(part[row : row + 1] for part in at))
        own = own._replace(angles=own.angles[..., : one.tree.torsions])
        energy, gradient = alone.soft(10.0)(own)
        assert_close(energy[0], energies[row], atol=1e-4, rtol=1e-5)
        assert_close(gradient[0], gradients[row, :, : 6 + one.tree.torsions], atol=1e-3, rtol=1e-4)


def test_maps_hold_the_energy_at_their_points() -> None:
    """Bins of 1/32 square angstrom, rounded, change each of at most 16 pairs by some 0.01 kcal/mol where they clash."""
    grids = maps()
    carbon = graph_ligand(Chem.MolFromSmiles("C"))
    rows = grids.rows_of(carbon.types)
    points = grids.points()[::97, None]
    found, _ = grids.energy(points, rows)
    terms = grids.pocket.energy(points, Ligands([carbon]))
    capped = torch.where(found > 0, 1000 * found / (1000 + found.clamp(min=0)), found)[:, 0]
    assert_close(capped, terms, atol=0.05, rtol=0.02)
    assert found.std() > 0.1


def test_minimisation_finds_the_minimum_of_a_quadratic_form() -> None:
    """In a narrow valley: curvatures from 0.1 to 30, mixed by a rotation, with the minimum where we put it."""
    generator = torch.Generator().manual_seed(6)
    mix = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=F64))[0]
    hessian = mix @ torch.diag(torch.tensor([0.1, 0.5, 2.0, 10.0, 30.0], dtype=F64)) @ mix.T
    target = torch.randn(5, generator=generator, dtype=F64)

    def valley(at: Coordinates) -> tuple[Tensor, Tensor]:
        offset = torch.cat([at.shift, at.angles], dim=-1) - target
        slope = offset @ hessian
        none = torch.zeros_like(at.shift)
        return (offset * slope).sum(-1) / 2, torch.cat([slope[..., :3], none, slope[..., 3:]], dim=-1)

    found = minimise(valley, random_coordinates(2, 3, 2), torch.ones(2, 1, 8, dtype=F64), 60)
    assert found.energy.max() < 1e-8
    assert_close(torch.cat([found.at.shift, found.at.angles], -1), target.expand(2, 3, 5), atol=1e-3, rtol=0)


def test_no_evaluation_makes_a_pose_worse() -> None:
    system = Complexes(maps(F64), [flexible(BRANCHED)])
    energies = [
        minimise(system.exact(), system.random(4, torch.Generator().manual_seed(8)), system.scale, number).energy
        for number in (0, 5, 30)
    ]
    assert (energies[1] <= energies[0]).all()
    assert (energies[2] <= energies[1]).all()
    assert (energies[2] < energies[0] - 1).all()


@cache
def pocket() -> Pocket:
    return Pocket(read_receptor(EXAMPLES / "1iep_pocket.pdbqt"), BOX)


DOCKED = [one for one in json.loads((DATA / "vina.json").read_text()) if "positions" in one and one["inter"] < 0]


@pytest.mark.parametrize("golden", DOCKED, ids=lambda one: one["ligand"])
def test_energies_are_those_of_the_package(golden: dict[str, Any]) -> None:
    """AutoDock Vina 1.2.7: the intermolecular energy of poses that bind."""
    mol, positions = Chem.MolFromSmiles(golden["ligand"]), np.array(golden["positions"])
    one = FlexibleLigand(graph_ligand(mol), torsion_tree(mol), positions)
    system = Complexes(Maps(pocket()), [one])
    at = Coordinates(
        torch.tensor(positions.mean(0), dtype=torch.float32)[None, None],
        torch.eye(3)[None, None],
        torch.zeros(1, 1, one.tree.torsions),
    )
    inter, _ = system.from_pairs(system.skeletons.poses(at))
    assert inter.item() == pytest.approx(golden["inter"], abs=0.02)


@pytest.mark.parametrize("golden", json.loads((DATA / "internal.json").read_text()), ids=lambda one: one["ligand"])
def test_energies_within_ligands_are_those_of_the_package(golden: dict[str, Any]) -> None:
    """AutoDock Vina 1.2.7, which rounds squares of distances to 1/32 square angstrom."""
    mol, positions = Chem.MolFromSmiles(golden["ligand"]), np.array(golden["positions"])
    system = Complexes(maps(F64), [FlexibleLigand(graph_ligand(mol), torsion_tree(mol), positions)])
    energy, _ = system.internal.energy(torch.tensor(positions)[None, None])
    assert energy.item() == pytest.approx(golden["internal"], abs=0.012)


@pytest.mark.slow
def test_imatinib_is_found_from_embedded_conformers() -> None:
    """AutoDock Vina 1.2.7 minimises the crystal pose to -13.249 kcal/mol."""
    prepare = Preparation(ph=None, canonical_tautomer=False, conformers=4, seed=1)
    ligands = [one.flexible for one in prepare(IMATINIB, CRYSTAL)]
    found = dock(Maps(pocket()), ligands, MonteCarlo(chains=96, steps=30, evaluations=20, poses=3, seed=0))
    best = min((poses[0] for poses in found), key=lambda pose: pose.score)
    assert best.score < -12.5
    assert (best.positions - torch.tensor(CRYSTAL)).square().sum(-1).mean().sqrt() < 2.0


@pytest.mark.parametrize(("numbers", "count"), [([-1], 0), ([0, -1, 1], 2)])
def test_a_conformer_that_ran_out_of_time_is_none(
    numbers: list[int], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RDKit's time limit is of the clock, so that a slow machine cannot be had otherwise."""
    embed = rdDistGeom.EmbedMultipleConfs

    def late(mol: Chem.Mol, _: int, settings: Any) -> list[int]:
        embed(mol, max(1, count), settings)
        return numbers

    monkeypatch.setattr(rdDistGeom, "EmbedMultipleConfs", late)
    assert len(embedded(Chem.MolFromSmiles("CCCCO"), 3, seed=1)) == count


def test_a_search_repeats_itself_and_ranks_distinct_poses() -> None:
    ligands = [flexible(CHAIN), flexible(METHANE)]
    search = MonteCarlo(chains=8, steps=2, evaluations=6, poses=4, seed=1)
    first, second = dock(maps(), ligands, search), dock(maps(), ligands, search)
    for one, other in zip(first, second, strict=True):
        assert [pose.score for pose in one] == [pose.score for pose in other]
        assert [pose.score for pose in one] == sorted(pose.score for pose in one)
        assert 1 <= len(one) <= 4
    for a, pose in enumerate(first[0]):
        assert pose.positions.abs().max() <= 3.5 + 1e-5
        for better in first[0][:a]:
            assert (pose.positions - better.positions).square().sum(-1).mean() >= 1.0


def test_the_score_of_the_best_pose_is_its_energy_by_the_scoring_function() -> None:
    one = flexible(CHAIN)
    (poses,) = dock(maps(), [one], MonteCarlo(chains=8, steps=2, evaluations=10, poses=3, seed=1))
    alone = maps().pocket.score(poses[0].positions[None], Ligands([one.ligand])).item()
    assert poses[0].score == pytest.approx(alone, abs=1e-4)


def test_a_ligand_larger_than_the_box_has_no_pose() -> None:
    small = maps(side=2.0)
    assert dock(small, [flexible("CCCCCCCC")], MonteCarlo(chains=4, steps=1, evaluations=5, poses=2, seed=0)) == [[]]


@pytest.mark.parametrize("name", ["chains", "evaluations", "poses"])
def test_a_search_of_nothing_is_refused(name: str) -> None:
    effort = {"chains": 1, "steps": 0, "evaluations": 1, "poses": 1, "seed": 0, name: 0}
    with pytest.raises(ValueError, match=f"{name}: got 0, need at least 1"):
        MonteCarlo(**effort)
