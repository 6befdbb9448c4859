"""The hit-to-lead arena: the rule of its series, the baseline of random substituents, its judge and its figures."""

import gzip
import importlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom
from test_benchmarks import FOLDER

from molrl.data.files import EXAMPLES
from molrl.data.molecules.perception import perceive_bonds
from molrl.models.molecules.growth import Growth
from molrl.models.molecules.growth_decoder import GrowthDecoder
from molrl.models.molecules.model import load
from molrl.rewards.molecules.docking.site import Site

RECEPTOR, IMATINIB = str(EXAMPLES / "1iep_pocket.pdbqt"), str(EXAMPLES / "imatinib.sdf")
HINGE = str(EXAMPLES / "imatinib_hinge.sdf")
RESIDUES = "ALA CYS ASP GLU PHE GLY HIS ILE LYS LEU MET ASN PRO GLN ARG SER"
NITROGEN = 13  # of the hinge binder, where imatinib goes on
REST = ("CC", "OC", "C#N", "CCC", "OCC", "C(C)C", "N(C)C", "C(N)=O", "SC")  # 2, 2, 2, 3, 3, 3, 3, 3, 2 atoms
FIRST, SECOND, THIRD = "ACDEFGHIKLMNPQRS", "SRQPNMLKIHGFEDCA", "GGAGDGLGIGMGFGKGPGSG"
NAMES = dict(zip("ACDEFGHIKLMNPQRS", RESIDUES.split(), strict=True))
CORE = "*c1ccc(NC(C)=O)cc1"


@pytest.fixture(scope="module")
def arena() -> Iterator[SimpleNamespace]:
    """Return the modules of the arena, which import each other as scripts do."""
    names = ("lead_cuts", "lead_targets", "lead_series", "lead_judge", "lead_table", "random_substituents")
    sys.path.insert(0, str(FOLDER))
    yield SimpleNamespace(**{name.removeprefix("lead_"): importlib.import_module(name) for name in names})
    sys.path.remove(str(FOLDER))


def protein(letters: str, first: int = 1) -> str:
    """Return a PDB file of residues with their central atoms, numbered from `first`."""
    names = [NAMES[letter] for letter in letters]
    return "".join(
        f"ATOM  {row + 1:5}  CA  {name} A{row + first:4}    {3.8 * row:8.3f}{0:8.3f}{0:8.3f}  1.00  0.00           C\n"
        for row, name in enumerate(names)
    )


def write_set(folder: Path, name: str, records: Sequence[tuple[str, float | None]], sequence: str) -> None:
    """Write ligands with binding energies, or without, and a pocket."""
    texts = []
    for smiles, energy in records:
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        assert rdDistGeom.EmbedMolecule(mol, randomSeed=5) == 0
        field = "" if energy is None else f"> <r_exp_dg>\n{energy}\n\n"
        texts.append(f"{Chem.MolToMolBlock(mol)}{field}$$$$\n")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}_ligands.sdf.gz").write_bytes(gzip.compress("".join(texts).encode()))
    (folder / f"{name}_pocket10.pdb.gz").write_bytes(gzip.compress(protein(sequence).encode()))


def acetanilides(*rests: str) -> list[tuple[str, float | None]]:
    """Return acetanilides with a rest at the para position, and energies from -5 downwards."""
    return [(f"CC(=O)Nc1ccc({rest})cc1", -5.0 - row) for row, rest in enumerate(rests)]


def test_a_cut_ligand_has_the_cores_that_are_drawn_by_hand(arena: SimpleNamespace) -> None:
    """Anisole has 8 atoms: methyl or methoxy can go; the oxygen alone would have two sites on one atom."""
    cuts = arena.cuts.cuts(Chem.MolFromSmiles("COc1ccccc1"), 0.5, 0.9)
    assert {(cut.core, cut.atoms, cut.sites) for cut in cuts} == {
        ("*Oc1ccccc1", (1, 2, 3, 4, 5, 6, 7), (1,)),
        ("*c1ccccc1", (2, 3, 4, 5, 6, 7), (2,)),
    }
    assert [cut.core for cut in arena.cuts.cuts(Chem.MolFromSmiles("COc1ccccc1"), 0.1, 0.2)] == ["*C"]


def test_nitro_groups_stay_whole_and_charges_of_protons_do_not_count(arena: SimpleNamespace) -> None:
    nitro, acid, salt = map(Chem.MolFromSmiles, ("CC[N+](=O)[O-]", "CCC(=O)O", "CCC(=O)[O-]"))
    assert len(arena.cuts.cuttable_bonds(nitro)) == 1
    assert arena.cuts.molecule_key(acid) == arena.cuts.molecule_key(salt) == "CCC(=O)O"


def test_substituents_are_told_in_the_order_of_their_sites_and_bridges_are_none(arena: SimpleNamespace) -> None:
    """Fluoro-anisole without its ring; in benzodioxole one piece has both bonds to the ring."""
    anisole, dioxole = map(Chem.MolFromSmiles, ("Fc1ccc(OC)cc1", "C1Oc2ccccc2O1"))
    assert arena.cuts.substituents_of(anisole, {1, 2, 3, 4, 7, 8}) == ("*F", "*OC")
    assert arena.cuts.substituents_of(dioxole, set(range(2, 8))) == ()
    assert arena.cuts.substituents_of(anisole, set(range(9))) == ()


def test_the_rule_takes_the_largest_series_of_each_protein_and_says_why_others_are_dropped(
    arena: SimpleNamespace, tmp_path: Path
) -> None:
    """Nine acetanilides; eight of the same protein with another core; too few; the same core elsewhere; no energies."""
    source, openff = tmp_path / "schrodinger", tmp_path / "openff"
    twice = [("CC(=O)Nc1ccc(CC)cc1", -9.5), ("CC(=O)Nc1ccc(C)cc1", None)]  # ethyl again, and one without an energy
    write_set(source, "many", acetanilides(*REST) + twice, FIRST)
    write_set(source, "same_protein", [(f"CS(=O)(=O)Nc1ccc({rest})cc1", -6.0) for rest in REST[:8]], FIRST)
    write_set(source, "few", acetanilides(*REST[:7]), SECOND)
    write_set(source, "same_core", acetanilides(*REST[:8]), THIRD)
    write_set(openff, "unmeasured", [(smiles, None) for smiles, _ in acetanilides(*REST)], SECOND)
    choice = arena.series.choose_series(tmp_path)
    (series,) = choice.series
    assert (series.name, series.core, len(series.ligands), series.poses) == ("schrodinger/many", CORE, 9, 10)
    assert series.sizes == {2: 4, 3: 5}
    assert series.share == (10 / 13, 10 / 12)
    assert dict(choice.dropped) == {
        "schrodinger/same_protein": "the protein of schrodinger/many",
        "schrodinger/few": "no core of 8 ligands",
        "schrodinger/same_core": "the core of schrodinger/many",
        "openff/unmeasured": "no measured binding energies",
    }
    assert choice.left_out == {"no measured binding energy": 10}
    ethyl = next(ligand for ligand in series.ligands if ligand.key == "CCc1ccc(NC(C)=O)cc1")
    assert (ethyl.energy, ethyl.substituents, ethyl.new_atoms) == (-9.5, ("*CC",), 2)


def test_the_core_file_has_a_hydrogen_for_each_substituent_and_the_positions_of_the_pose(
    arena: SimpleNamespace, tmp_path: Path
) -> None:
    write_set(tmp_path / "schrodinger", "many", acetanilides(*REST), FIRST)
    (series,) = arena.series.choose_series(tmp_path).series
    ligand, path = series.ligands[series.reference], tmp_path / "core.sdf"
    arena.series.write_core(ligand, path)
    growth = Growth(core=str(path), attach=series.attach, atoms=3, steer=0.0, avoid=None)
    core = growth.decoder(load("qm9_heavy"), perceive_bonds).core
    site = core.attach[0] - 1
    assert core.molecule.core is not None
    assert core.molecule.hydrogens is not None
    assert core.molecule.core.open.tolist() == [int(row == site) for row in range(10)]
    assert core.molecule.hydrogens[site] == 0
    np.testing.assert_array_equal(core.molecule.positions, ligand.molecule.positions[list(ligand.cut.atoms)])
    assert Chem.MolToSmiles(arena.series.core_piece(ligand)) == "CC(=O)Nc1ccccc1"


def test_the_distance_of_two_cores_knows_their_symmetry(arena: SimpleNamespace, tmp_path: Path) -> None:
    """A phenyl ring turned by half a turn about its axis is the same; moved by 2 angstrom, it is 2 angstrom away."""
    write_set(tmp_path / "schrodinger", "many", acetanilides(*REST), FIRST)
    (series,) = arena.series.choose_series(tmp_path).series
    one = series.ligands[0]
    assert series.distances[0, 0] == 0
    ortho = [atom for match in one.graph.GetSubstructMatches(Chem.MolFromSmarts("N-c(:c):c")) for atom in match[2:]]
    meta = [next(n.GetIdx() for n in one.graph.GetAtomWithIdx(a).GetNeighbors() if n.GetDegree() == 2) for a in ortho]
    for shift, expected in ((0.0, 0.0), (2.0, 2.0)):
        x = one.molecule.positions.copy()
        x[[*ortho, *meta]] = x[[*ortho[::-1], *meta[::-1]]]
        shifted = replace(one.molecule, positions=x + np.array([0, 0, shift], dtype=np.float32))
        moved = replace(one, molecule=shifted)
        assert arena.series.core_rmsd(one, moved) == pytest.approx(expected, abs=1e-6)


def test_pockets_of_one_protein_are_told_apart_from_others_whatever_their_numbers(
    arena: SimpleNamespace, tmp_path: Path
) -> None:
    """A chain of 16 residues has 14 runs of three; numbers from 62 on are those of another entry."""
    texts = {"a": protein(FIRST), "other": protein(SECOND), "renumbered": protein(FIRST, 62)}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    sequences = {name: arena.targets.read_sequence(tmp_path / name) for name in texts}
    assert (len(sequences["a"].residues), len(sequences["a"].runs)) == (16, 14)
    assert arena.targets.first_of_each(sequences) == {"a": "a", "other": "other", "renumbered": "a"}


@pytest.fixture(scope="module")
def decoder() -> GrowthDecoder:
    """Return the decoder of molecules that grow from the hinge binder of imatinib."""
    growth = Growth(core=HINGE, attach=NITROGEN, atoms=4, steer=0.0, avoid=None)
    return growth.decoder(load("qm9_heavy"), perceive_bonds)


@pytest.fixture(scope="module")
def judge(arena: SimpleNamespace) -> Any:
    return arena.judge.Judge(Site(receptor=RECEPTOR, ligand=IMATINIB))


def test_the_judge_has_the_scores_of_the_packages(judge: Any) -> None:
    """AutoDock Vina 1.2.7 gives -12.513 and, with --scoring vinardo, -9.180 kcal/mol for the crystal pose."""
    mol = Chem.MolFromMolFile(IMATINIB)
    measures = judge.measure_pose(mol, range(13))
    assert (measures.vina, measures.vinardo) == pytest.approx((12.513, 9.180), abs=0.03)
    assert (measures.new_atoms, measures.clashes) == (mol.GetNumAtoms() - 13, 0.0)


def test_fragments_of_a_file_are_counted_by_size_as_often_as_they_occur(arena: SimpleNamespace, tmp_path: Path) -> None:
    """Each cut of propylbenzene leaves two pieces; methyl of ethanol and of propylbenzene count twice."""
    path = tmp_path / "a.smi"
    path.write_text("CCCc1ccccc1\nCCO\n")
    fragments = arena.random_substituents.read_fragments(path, 6, 0)
    counted = {size: Counter(texts) for size, texts in fragments.items()}
    assert counted == {
        1: {"*C": 2, "*O": 1},
        2: {"*CC": 2, "*CO": 1},
        3: {"*CCC": 1},
        6: {"*c1ccccc1": 1},
    }
    path.write_text("CCO\nnonsense\n")
    with pytest.raises(ValueError, match=r"line 2: 'nonsense' is no molecule"):
        arena.random_substituents.read_fragments(path, 6, 0)


def test_a_random_substituent_has_the_size_that_is_asked_for_and_leaves_the_core_where_it_is(
    arena: SimpleNamespace, decoder: GrowthDecoder, judge: Any
) -> None:
    sampler = arena.random_substituents.RandomSubstituents(
        core=Chem.MolFromMolFile(HINGE),
        molecule=decoder.core.molecule,
        sites=[NITROGEN - 1],
        fragments={4: ["*CC(=O)O", "*C1CCC1"]},
        overlap=judge.clashes,
    )
    generator = np.random.default_rng(0)
    samples = [sampler.draw(4, generator) for _ in range(3)]
    measured = [judge.measure(sample, decoder) for sample in samples]
    assert {row.reason for row in measured} == {""}
    assert {row.substituents for row in measured} == {("*CC(=O)O",), ("*C1CCC1",)}
    assert all(decoder.keeps_core(sample) for sample in samples)
    assert all(row.new_atoms == 4 for row in measured)
    with pytest.raises(ValueError, match="none with 5 heavy atoms"):
        sampler.draw(5, generator)
    assert judge.measure(None, decoder).reason == "not made"


def test_sizes_are_split_over_two_sites_in_all_ways(arena: SimpleNamespace) -> None:
    assert arena.random_substituents.compositions(4, 2) == [(1, 3), (2, 2), (3, 1)]
    assert arena.random_substituents.compositions(4, 1) == [(4,)]


def sample_row(key: str, new_atoms: int, vina: float, *substituents: str) -> Mapping[str, Any]:
    values = {"vina": vina, "vinardo": vina, "clashes": 0.0, "strain": float("nan")}
    return {"key": key, "new_atoms": new_atoms, "substituents": list(substituents), **values}


def test_enrichment_is_the_probability_that_a_found_ligand_binds_better(arena: SimpleNamespace) -> None:
    """Found: -9 and -6; not: -8 and -6. Of the pairs -9 wins two, -6 loses one and ties one: 2.5 of 4."""
    energies = {"a": -9.0, "b": -8.0, "c": -6.0, "d": -6.0}
    assert arena.table.enrichment(energies, {"a", "c"}) == 2.5 / 4
    assert np.isnan(arena.table.enrichment(energies, set()))
    assert np.isnan(arena.table.enrichment(energies, set(energies)))


def test_means_at_equal_size_weigh_the_sizes_that_all_arms_have_by_the_series(arena: SimpleNamespace) -> None:
    """Sizes 1 and 2 are shared, with weights 3 and 1: (3 x 2 + 4) / 4 and (3 x 6 + 0) / 4; an empty arm has no mean."""
    arms = {
        "x": [sample_row("C", 1, 1.0), sample_row("N", 1, 3.0), sample_row("CC", 2, 4.0), sample_row("CCC", 3, 99.0)],
        "y": [sample_row("O", 1, 6.0), sample_row("CO", 2, 0.0)],
        "z": [],
    }
    means = arena.table.equal_size_means(arms, {1: 3, 2: 1, 3: 5}, "vina")
    assert (means["x"], means["y"]) == (2.5, 4.5)
    assert np.isnan(means["z"])


def test_figures_count_what_different_valid_molecules_recover(arena: SimpleNamespace, tmp_path: Path) -> None:
    """One arm finds the best of three known ligands twice and fails once, the other has a substituent elsewhere."""
    known = [("CCO", -9.0, "*O"), ("CCN", -7.0, "*N"), ("CCF", -5.0, "*F")]
    rows = [{**sample_row(key, 1, 5.0, rest), "energy": energy} for key, energy, rest in known]
    (tmp_path / "ligands.json").write_text(json.dumps(rows))
    ligands = arena.table.read_ligands(tmp_path / "ligands.json")
    one = [sample_row("CCO", 1, 2.0, "*O"), sample_row("CCO", 1, 7.0, "*O"), sample_row("", 0, 0.0)]
    other = [sample_row("CCl", 1, 4.0, "*Cl"), sample_row("CCCN", 1, 6.0, "*N")]
    drawn = {"one": arena.table.Drawn(one, 8, 1.0), "other": arena.table.Drawn(other, 0, 2.0)}
    found = arena.table.figures(drawn, ligands)
    columns = ("draws", "validity", "unique", "recovered", "substituents", "recovered_equal", "vina", "queries")
    assert [found["one"][name] for name in columns] == pytest.approx([3, 2 / 3, 1, 1, 1, 1, 2.0, 8])
    assert [found["other"][name] for name in columns] == pytest.approx([2, 1, 2, 0, 1, 0, 5.0, 0])
    assert found["one"]["enrichment"] == 1.0
    assert found["one"]["equal_n"] == found["other"]["equal_n"] == 1
    assert found["known ligands"]["vina"] == 5.0
    assert found["one"]["circles"] == found["other"]["circles"] == 1.0
    table = arena.table.summary({"a": {0: found, 1: found}}, ["known ligands", "one"])
    assert table.splitlines()[3].startswith("| one | 1 | 2 | 3 ± 0 | 0.667 ± 0.000 | 1 ± 0 | 1.00 ± 0.00 |")


@pytest.mark.slow
def test_an_arena_of_all_arms_is_drawn_once_and_goes_on_where_it_was(tmp_path: Path) -> None:
    """A second command draws nothing again, a lost batch is drawn as before, and other settings are refused."""
    write_set(tmp_path / "schrodinger", "many", acetanilides(*REST), FIRST)
    (tmp_path / "fragments.smi").write_text("CCCc1ccccc1\nCCOC\nCCC(C)C\n")
    script, folder = [sys.executable, str(FOLDER / "hit_to_lead.py"), str(tmp_path)], tmp_path / "arena"
    run = [*script, "run", str(folder), f"--fragments={tmp_path / 'fragments.smi'}", "--seeds=0", "--smoke"]
    subprocess.run([*run, "policy=qm9_heavy"], check=True)
    place = folder / "01_schrodinger_many/seed_0"
    first = {path: json.loads(path.read_text())["rows"] for path in sorted(place.glob("*/*.json"))}
    assert {path.parent.name for path in first} == {"random", "base", "best_of_4", "smc", "rl"}
    lost = place / "rl/000010.json"
    lost.unlink()
    subprocess.run([*run, "policy=qm9_heavy"], check=True)
    assert str(json.loads(lost.read_text())["rows"]) == str(first[lost])
    other = subprocess.run([*run, "policy=drugs"], capture_output=True, text=True, check=False)
    assert "but it was begun with" in other.stderr
    table = subprocess.run([*script, "table", str(folder)], check=True, capture_output=True, text=True).stdout
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:8]] == [
        *("known ligands", "random", "base", "best of 4", "smc", "rl"),
    ]
    assert (folder / "hit_to_lead.csv").read_text().count("\n") == 7
