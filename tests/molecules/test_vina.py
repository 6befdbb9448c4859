"""The scoring function is AutoDock Vina's: its own numbers, and the laws of a sum over pairs."""

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rdkit import Chem
from torch import Tensor
from torch.testing import assert_close

from molrl.data.files import EXAMPLES
from molrl.data.molecules.pdbqt import MAX_LIGAND_ATOMS, Structure, read_ligand, read_receptor
from molrl.rewards.molecules.docking.atom_types import (
    AtomTypes,
    Ligand,
    graph_ligand,
    heavy,
    structure_ligand,
    structure_types,
)
from molrl.rewards.molecules.docking.placement import in_principal_axes, place, quaternion, rotation
from molrl.rewards.molecules.docking.scoring_function import (
    CUTOFF,
    MAX_REPULSION,
    ROTOR_WEIGHT,
    VINA,
    Box,
    Ligands,
    Pocket,
    Terms,
    with_types,
)
from molrl.rewards.molecules.docking.vinardo import VINARDO, vinardo_types

DATA = Path(__file__).parents[1] / "data/docking"
RECEPTOR = read_receptor(EXAMPLES / "1iep_pocket.pdbqt")
IMATINIB = read_ligand(EXAMPLES / "1iep_ligand.pdbqt")
BOX = Box((15.190, 53.903, 16.917), (24.0, 24.0, 24.0))
# AutoDock Vina 1.2.7 run on these files; see the README beside them
GOLDEN: list[dict[str, Any]] = json.loads((DATA / "vina.json").read_text())
CRYSTAL = torch.tensor(IMATINIB.positions[heavy(IMATINIB)])
# Rotors that AutoDock Vina 1.2.7 counts in what Meeko 0.8.0 prepares
ROTORS = {
    **{"CCCCCC": 3, "CCCc1ccccc1": 2, "CCc1ccccc1": 1, "Oc1ccccc1": 0.5, "OCCc1ccccc1": 2.5, "NCCc1ccccc1": 2.5},
    **{"OCCO": 2, "CC(=O)O": 0.5, "CC(=O)Nc1ccccc1": 1, "c1ccccc1-c1ccccc1": 1, "N#Cc1ccccc1": 0, "CC#CCO": 1.5},
    **{"CN(C)C(=O)c1ccccc1": 1, "CCN(C)C(=O)c1ccccc1": 3, "CC#CC": 1, "C#CCCO": 1.5},
    "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1": 7,
}


@cache
def pocket() -> Pocket:
    return Pocket(RECEPTOR, BOX, dtype=torch.float64)


def imatinib() -> Ligands:
    return Ligands([structure_ligand(IMATINIB)], dtype=torch.float64)


def golden_pose(golden: dict[str, Any]) -> tuple[Tensor, Ligand]:
    if "shift" in golden:
        return CRYSTAL + torch.tensor(golden["shift"], dtype=torch.float64), structure_ligand(IMATINIB)
    return torch.tensor(golden["positions"], dtype=torch.float64), graph_ligand(Chem.MolFromSmiles(golden["ligand"]))


def all_pairs(pose: Tensor, ligand: Ligand, receptor: Structure, at: Callable[[Tensor], list[Tensor]]) -> list[Tensor]:
    """Return the five terms of each ligand atom [5, n] from every pair of atoms, as means over the distances `at`."""
    kinds = [torch.tensor(np.asarray(kind, dtype=np.float64)) for kind in structure_types(receptor)]
    mine = [torch.tensor(np.asarray(kind, dtype=np.float64))[:, None] for kind in ligand.types]
    r = (pose[:, None] - torch.tensor(receptor.positions[heavy(receptor)])[None]).norm(dim=-1)
    sums = []
    for distance in at(r):
        bond = ((kinds[2] * mine[3] + kinds[3] * mine[2]) > 0).double()
        terms = VINA.pair_terms(distance - kinds[0] - mine[0], kinds[1] * mine[1], bond)
        sums.append(torch.stack([(term * (distance < CUTOFF) * (r < CUTOFF)).sum(-1) for term in terms]))
    return list(torch.stack(sums).mean(0).unbind())


def nodes(r: Tensor) -> list[Tensor]:
    """Return the two nodes of the package's tables, in 1/32 of the squared distance, that it takes the mean of."""
    below = (r.square() * 32).floor()
    return [(below / 32).sqrt(), ((below + 1) / 32).sqrt()]


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: f"{golden['ligand']} {golden['inter']:.1f}")
def test_terms_and_scores_are_those_of_the_package(golden: dict[str, Any]) -> None:
    """To 0.01 kcal/mol where nothing clashes; its table makes 0.3 % of the repulsion."""
    pose, ligand = golden_pose(golden)
    ligands = Ligands([ligand], dtype=torch.float64)
    computed = torch.stack([term.sum() for term in pocket().terms(pose[None], ligands)])
    off = (computed - torch.tensor(golden["terms"], dtype=torch.float64)) * torch.tensor(
        VINA.weights, dtype=torch.float64
    )
    clash = VINA.weights[2] * golden["terms"][2]
    assert off[[0, 1, 3, 4]].abs().max() < 0.01
    assert off[2].abs() < 0.01 + 0.003 * clash
    assert pocket().energy(pose[None], ligands).item() == pytest.approx(golden["inter"], abs=0.015 + 0.003 * clash)
    assert pocket().score(pose[None], ligands).item() == pytest.approx(golden["score"], abs=0.015 + 0.003 * clash)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: f"{golden['ligand']} {golden['inter']:.1f}")
def test_with_the_table_of_the_package_the_energy_is_its_own_to_the_last_digit(golden: dict[str, Any]) -> None:
    pose, ligand = golden_pose(golden)
    terms = all_pairs(pose, ligand, RECEPTOR, nodes)
    e = VINA.weighted_sum(Terms(*terms))
    capped = torch.where(e > 0, MAX_REPULSION * e / (MAX_REPULSION + e), e).sum().item()
    assert capped == pytest.approx(golden["inter"], abs=0.0015)
    assert capped / (1 + ROTOR_WEIGHT * ligand.rotors) == pytest.approx(golden["score"], abs=0.0015)
    assert [term.sum().item() for term in terms] == pytest.approx(golden["terms"], abs=2e-3, rel=1e-5)


def test_the_example_of_the_package_scores_what_it_publishes() -> None:
    """-12.513 kcal/mol, -17.634 between molecules, in the example of the repository named in the README."""
    assert pocket().score(CRYSTAL[None], imatinib()).item() == pytest.approx(-12.513, abs=0.01)
    assert pocket().energy(CRYSTAL[None], imatinib()).item() == pytest.approx(-17.634, abs=0.01)
    assert imatinib().rotors.item() == 7


def test_neighbour_lists_miss_no_pair() -> None:
    ligand = structure_ligand(IMATINIB)
    shifts = torch.randn(4, 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    poses = CRYSTAL + shifts
    computed = pocket().terms(poses, imatinib())
    for row, pose in enumerate(poses):
        for term, expected in zip(computed, all_pairs(pose, ligand, RECEPTOR, lambda r: [r]), strict=True):
            assert_close(term[row], expected, rtol=1e-10, atol=1e-10)


def test_single_precision_is_enough() -> None:
    single = Pocket(RECEPTOR, BOX)
    scores = single.score(CRYSTAL[None].float(), Ligands([structure_ligand(IMATINIB)]))
    assert scores.dtype == torch.float32
    assert scores.item() == pytest.approx(pocket().score(CRYSTAL[None], imatinib()).item(), abs=1e-4)


def test_turning_receptor_and_ligand_together_changes_nothing() -> None:
    turn = quaternion(torch.nn.functional.normalize(torch.tensor([[0.3, -0.5, 0.7, 0.2]], dtype=torch.float64)))[0]
    centre = torch.tensor(BOX.centre, dtype=torch.float64)
    turned = ((torch.tensor(RECEPTOR.positions) - centre) @ turn).numpy()
    moved = Pocket(
        Structure(RECEPTOR.types, turned, RECEPTOR.charges, RECEPTOR.rotatable),
        Box((0, 0, 0), (30, 30, 30)),
        dtype=torch.float64,
    )
    scores = moved.score(((CRYSTAL - centre) @ turn)[None], imatinib())
    assert_close(scores, pocket().score(CRYSTAL[None], imatinib()), rtol=0, atol=1e-9)


def lone(kind: str, x: float, *, more: tuple[tuple[str, float], ...] = ()) -> Structure:
    """Return a structure of atoms on the x axis."""
    atoms = ((kind, x), *more)
    positions = np.array([[place, 0.0, 0.0] for _, place in atoms])
    return Structure(tuple(name for name, _ in atoms), positions, np.zeros(len(atoms)), np.zeros((0, 2), np.int64))


def carbon(rotors: float = 0.0) -> Ligands:
    kinds = AtomTypes(np.array([1.9]), np.array([True]), np.array([False]), np.array([False]))
    return Ligands([Ligand(kinds, rotors)], dtype=torch.float64)


def test_two_carbons_have_the_energy_of_the_formula_up_to_the_cutoff_and_none_beyond() -> None:
    """Trott and Olson 2010, table 1, at d = r - 3.8."""
    space = Pocket(lone("C", 0.0), Box((0, 0, 0), (20, 20, 20)), dtype=torch.float64)
    for r in (0.5, 3.0, 3.8, 4.5, 5.0, 7.99, 8.01, 9.9):
        d = r - 3.8
        ramp = min(1.0, max(0.0, 1.5 - d))
        e = -0.035579 * math.exp(-4 * d * d) - 0.005156 * math.exp(-(((d - 3) / 2) ** 2))
        e += 0.840245 * min(d, 0.0) ** 2 - 0.035069 * ramp
        expected = 0.0 if r > CUTOFF else e if e < 0 else MAX_REPULSION * e / (MAX_REPULSION + e)
        values = space.energy(torch.tensor([[[r, 0.0, 0.0]]], dtype=torch.float64), carbon())
        assert values.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("receptor", "ligand", "bonds"),
    [
        (lone("OA", 0.0), (True, False), True),
        (lone("OA", 0.0), (False, True), False),
        (lone("OA", 0.0, more=(("HD", 0.97),)), (False, True), True),
        (lone("OA", 0.0, more=(("HD", 0.97),)), (True, True), True),
        (lone("N", 0.0), (True, True), False),
        (lone("Zn", 0.0), (False, True), True),
        (lone("SA", 0.0), (True, True), False),
    ],
)
def test_a_hydrogen_bond_needs_a_donor_and_an_acceptor_and_counts_once(
    receptor: Structure, ligand: tuple[bool, bool], bonds: bool
) -> None:
    space = Pocket(receptor, Box((0, 0, 0), (20, 20, 20)), dtype=torch.float64)
    donor, acceptor = ligand
    kinds = AtomTypes(np.array([1.7]), np.array([False]), np.array([donor]), np.array([acceptor]))
    touching = torch.tensor([[[-1.5, 0.0, 0.0]]], dtype=torch.float64)
    terms = space.terms(touching, Ligands([Ligand(kinds, 0.0)], dtype=torch.float64))
    assert terms.hydrogen_bond.sum().item() == float(bonds)


def test_gradients_are_those_of_finite_differences() -> None:
    pose = (CRYSTAL + 0.05)[None].requires_grad_(True)
    (gradient,) = torch.autograd.grad(pocket().score(pose, imatinib()).sum(), pose)
    with torch.no_grad():
        for atom, axis in ((0, 0), (7, 1), (20, 2), (36, 0)):
            h = torch.zeros_like(pose)
            h[0, atom, axis] = 1e-6
            difference = pocket().score(pose + h, imatinib()) - pocket().score(pose - h, imatinib())
            assert gradient[0, atom, axis].item() == pytest.approx(difference.item() / 2e-6, abs=1e-6)


def test_an_atom_on_a_receptor_atom_has_a_finite_gradient() -> None:
    space = Pocket(lone("C", 0.0), Box((0, 0, 0), (20, 20, 20)))
    pose = torch.zeros(1, 1, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(space.energy(pose, Ligands([structure_ligand(lone("C", 0.0))])).sum(), pose)
    assert gradient.isfinite().all()


def test_padding_changes_nothing() -> None:
    poses = [golden_pose(golden) for golden in (GOLDEN[0], GOLDEN[6], GOLDEN[-1])]
    ligands = Ligands([ligand for _, ligand in poses], dtype=torch.float64)
    padded = torch.full((3, 37, 3), 7.0, dtype=torch.float64)
    for row, (pose, _) in zip(padded, poses, strict=True):
        row[: len(pose)] = pose
    together = pocket().score(padded.requires_grad_(True), ligands)
    alone = [pocket().score(pose[None], Ligands([ligand], dtype=torch.float64)) for pose, ligand in poses]
    assert_close(together, torch.cat(alone), rtol=0, atol=1e-10)
    (gradient,) = torch.autograd.grad(together.sum(), padded)
    assert (gradient[~ligands.mask] == 0).all()


def test_rotors_divide_the_energy() -> None:
    space = Pocket(lone("C", 0.0), Box((0, 0, 0), (20, 20, 20)), dtype=torch.float64)
    pose = torch.tensor([[[4.0, 0.0, 0.0]]], dtype=torch.float64)
    energy = space.energy(pose, carbon()).item()
    for rotors in (0.0, 0.5, 7.0):
        assert space.score(pose, carbon(rotors)).item() == pytest.approx(energy / (1 + 0.05846 * rotors))


def test_a_pose_outside_the_box_has_no_score() -> None:
    shifts = torch.tensor([0.0, 20.0], dtype=torch.float64)[:, None, None]
    inside, outside = pocket().score(CRYSTAL + shifts, imatinib()).tolist()
    assert math.isfinite(inside)
    assert outside == math.inf


@pytest.mark.parametrize(("smiles", "expected"), ROTORS.items())
def test_rotors_are_counted_as_the_package_counts_them(smiles: str, expected: float) -> None:
    mol = Chem.MolFromSmiles(smiles)
    assert graph_ligand(mol).rotors == expected
    assert graph_ligand(Chem.AddHs(mol)).rotors == expected


def test_a_graph_and_a_prepared_file_have_the_same_types() -> None:
    """Imatinib, neutral in the graph; both protons of the file are on nitrogens that then accept nothing."""
    smiles = "Cc1ccc(NC(=O)c2ccc(C[NH+]3CC[NH+](C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1"
    graph, file = graph_ligand(Chem.MolFromSmiles(smiles)), structure_ligand(IMATINIB)
    assert [kind.sum() for kind in graph.types] == pytest.approx([kind.sum() for kind in file.types])
    assert [int(kind.sum()) for kind in file.types[1:]] == [15, 4, 4]


def test_an_element_without_a_radius_is_named() -> None:
    with pytest.raises(ValueError, match="no radius for B"):
        graph_ligand(Chem.MolFromSmiles("OB(O)c1ccccc1"))


@pytest.mark.parametrize(
    ("centre", "size", "message"),
    [
        ((0, 0), (1, 1, 1), "box centre"),
        ((0, 0, math.nan), (1, 1, 1), "box centre"),
        (("x", 0, 0), (1, 1, 1), "box centre: got .'x', 0, 0., need three numbers"),
        ((0, 0, 0), (1, 1, 0), "box size"),
        ((0, 0, 0), (1, 1, 400), "box size"),
    ],
)
def test_a_box_that_is_none_is_refused(centre: tuple[Any, ...], size: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Box(centre, size)


def test_a_box_far_from_the_receptor_is_refused() -> None:
    with pytest.raises(ValueError, match="beyond the cutoff"):
        Pocket(RECEPTOR, Box((0, 0, 0), (10, 10, 10)))


def test_a_search_finds_the_pose_of_the_crystal_again() -> None:
    """Minimised in place by the package, with its rotors free, the crystal pose has -13.249 kcal/mol."""
    single = Pocket(RECEPTOR, Box(BOX.centre, (20, 20, 20)))
    placement = place(single, structure_ligand(IMATINIB), CRYSTAL.float(), starts=64, steps=45, seed=0)
    assert placement is not None
    assert -13.3 < placement.score < -12.8
    assert (placement.positions - CRYSTAL).norm(dim=-1).mean() < 1.0
    again = single.score(placement.positions[None], Ligands([structure_ligand(IMATINIB)]))
    assert again.item() == pytest.approx(placement.score, abs=1e-4)


def test_a_search_keeps_the_shape_and_repeats_itself_by_seed() -> None:
    pose, ligand = golden_pose(GOLDEN[6])
    first, second, other = (place(pocket(), ligand, pose, starts=4, steps=6, seed=seed) for seed in (1, 1, 2))
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.score == second.score
    assert torch.equal(first.positions, second.positions)
    assert not torch.equal(first.positions, other.positions)
    assert_close(torch.cdist(first.positions, first.positions), torch.cdist(pose, pose), rtol=0, atol=1e-6)
    volumes = [torch.linalg.det(x[1:4] - x[0]).item() for x in (first.positions, pose)]
    assert volumes[0] == pytest.approx(volumes[1])  # its mirror image is another molecule


def test_where_a_search_sets_out_from_does_not_matter() -> None:
    pose, ligand = golden_pose(GOLDEN[6])
    turn = rotation(torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64))[0]
    here, there = (place(pocket(), ligand, x, starts=4, steps=6, seed=1) for x in (pose, pose @ turn + 5.0))
    assert here is not None
    assert there is not None
    assert here.score == pytest.approx(there.score, abs=1e-6)
    assert_close(in_principal_axes(pose), in_principal_axes(pose @ turn + 5.0), rtol=0, atol=1e-8)


def test_a_ligand_larger_than_the_box_has_no_place() -> None:
    tight = Pocket(RECEPTOR, Box(BOX.centre, (6, 6, 6)))
    assert place(tight, structure_ligand(IMATINIB), CRYSTAL.float(), starts=4, steps=4, seed=0) is None


LINE = "ATOM      1  C1  LIG L   1      15.822  54.641  12.322  1.00  0.00     0.038 A "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LINE.replace("15.822", "  nan "), r"line 2: x: got .*expected a decimal number"),
        (LINE.replace("15.822", "1e9   "), r"line 2: x: got .*expected a decimal number"),
        (LINE.replace("  15.822", "900000.0"), r"line 2: x: got 900000 angstrom, at most 100000"),
        (LINE.replace(" 0.038", " x.038"), r"line 2: charge: got"),
        (LINE.replace("A ", "Xx"), r"line 2: AutoDock type in column 78: got 'Xx', known are H, HD"),
        (LINE[:60], r"line 2: AutoDock type in column 78: got ''"),
        (LINE[:40], r"line 2: y: got '  '"),
        (f"{LINE}\nBRANCH 1 2\nENDBRANCH 1 2", r"pdbqt: BRANCH 1 2: 0 atoms have the number 2"),
        (f"{LINE}\n{LINE}\nBRANCH 1 1\nENDBRANCH 1 1", r"BRANCH 1 1: 2 atoms have the number 1"),
        (f"{LINE}\nBRANCH 1 2\nENDBRANCH 2 1", r"line 4: ENDBRANCH does not end the branch opened last"),
        (f"{LINE}\nBRANCH 1 2", r"pdbqt: BRANCH 1 2 is not ended"),
        (f"{LINE}\nBRANCH 1", r"line 3: got 'BRANCH 1', expected BRANCH and two atom numbers"),
        (f"{LINE}\nROOT", r"line 3: got the record 'ROOT', expected one ligand"),
        (f"{LINE}\nCONECT", r"line 3: got the record 'CONECT', expected one ligand"),
        ("ENDROOT", r"pdbqt: no atoms"),
        (
            "\n".join([LINE] * (MAX_LIGAND_ATOMS + 1)),
            rf"line {MAX_LIGAND_ATOMS + 2}: more than {MAX_LIGAND_ATOMS} atoms",
        ),
    ],
)
def test_a_ligand_file_that_is_none_says_where_and_why(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "ligand.pdbqt"
    path.write_text(f"ROOT\n{text}\n")
    with pytest.raises(ValueError, match=message) as caught:
        read_ligand(path)
    assert str(path) in str(caught.value)


def test_a_ligand_is_no_receptor_and_a_receptor_no_ligand() -> None:
    with pytest.raises(ValueError, match="line 3: got the record 'ROOT', which no rigid receptor has"):
        read_receptor(EXAMPLES / "1iep_ligand.pdbqt")
    with pytest.raises(ValueError, match="no ROOT record"):
        read_ligand(EXAMPLES / "1iep_pocket.pdbqt")


def test_a_file_that_cannot_be_read_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_receptor(tmp_path / "missing.pdbqt")
    (tmp_path / "empty.pdbqt").write_text("\n")
    with pytest.raises(ValueError, match="empty file"):
        read_ligand(tmp_path / "empty.pdbqt")


def test_vinardo_is_that_of_the_package() -> None:
    """AutoDock Vina 1.2.7 with `sf_name="vinardo"`: -12.936 kcal/mol of the crystal pose and a score of -9.180."""
    second = Pocket(RECEPTOR, BOX, dtype=torch.float64, function=VINARDO)
    ligand = with_types(structure_ligand(IMATINIB), VINARDO)
    ligands = Ligands([ligand], dtype=torch.float64)
    assert second.energy(CRYSTAL[None], ligands).item() == pytest.approx(-12.936, abs=0.02)
    assert second.score(CRYSTAL[None], ligands).item() == pytest.approx(-9.180, abs=0.02)


def test_vinardo_has_its_own_radii() -> None:
    """The elements are carbon, nitrogen and oxygen; chlorine, as large as nitrogen in Vina, keeps its own."""
    ligand = graph_ligand(Chem.MolFromSmiles("CNOCCl"))
    assert vinardo_types(ligand.types).radius.tolist() == [2.0, 1.7, 1.6, 2.0, 1.8]
    assert ligand.types.radius.tolist() == [1.9, 1.8, 1.7, 1.9, 1.8]


def test_vinardo_has_its_own_ramps() -> None:
    """By hand at three surface distances: gauss1, repulsion, hydrophobic and hydrogen bond of the paper."""
    one = torch.ones(3, dtype=torch.float64)
    terms = VINARDO.pair_terms(torch.tensor([-0.3, 0.8, 1.25], dtype=torch.float64), one, one)
    assert terms.gauss1.tolist() == pytest.approx([math.exp(-((0.3 / 0.8) ** 2)), math.exp(-1), math.exp(-2.44140625)])
    assert terms.repulsion.tolist() == pytest.approx([0.09, 0, 0])
    assert terms.hydrophobic.tolist() == pytest.approx([1, 0.68, 0.5])
    assert terms.hydrogen_bond.tolist() == pytest.approx([0.5, 0, 0])
    expected = -0.045 * terms.gauss1[0] + 0.8 * 0.09 - 0.035 - 0.6 * 0.5
    assert VINARDO.weighted_sum(terms)[0].item() == pytest.approx(expected.item())


@pytest.mark.slow
def test_scores_agree_with_an_installed_package() -> None:
    """New poses, for whoever has `vina` (1.2) installed."""
    vina = pytest.importorskip("vina", reason="needs the vina package")
    package = vina.Vina(cpu=1, verbosity=0)
    package.set_receptor(str(EXAMPLES / "1iep_pocket.pdbqt"))
    package.compute_vina_maps(list(BOX.centre), list(BOX.size))
    shifts = torch.randn(3, 3, generator=torch.Generator().manual_seed(3)).double().mul(0.3).round(decimals=3)
    lines = (EXAMPLES / "1iep_ligand.pdbqt").read_text().splitlines()
    for shift in shifts:
        moved = [
            line[:30] + "".join(f"{float(line[30 + 8 * k : 38 + 8 * k]) + shift[k]:8.3f}" for k in range(3)) + line[54:]
            if line.startswith("ATOM")
            else line
            for line in lines
        ]
        package.set_ligand_from_string("\n".join(moved) + "\n")
        theirs = package.score()[0]
        ours = pocket().score((CRYSTAL + shift)[None], imatinib()).item()
        assert ours == pytest.approx(theirs, abs=0.02, rel=2e-3)
