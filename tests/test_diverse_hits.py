"""Diverse Hits: what counts as a score, as a hit and as a different one, and the moves of the genetic algorithm."""

import csv
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from command import molrl
from rdkit import Chem
from rdkit.Chem import Descriptors
from test_benchmarks import FOLDER, benchmark
from test_combine import cell

pytest.importorskip("sklearn")
pytest.importorskip("skops.io")

PENTANE, HEXANE, BENZENE = "CCCCC", "CCCCCC", "c1ccccc1"
DRUGS = (  # with aromatic and saturated rings, charges, stereo marks and an aromatic nitrogen that has a hydrogen
    "CC(C)(C)c1ccc2occ(CC(=O)Nc3ccccc3F)c2c1",
    "C[C@@H]1CC(Nc2cncc(-c3nncn3C)c2)C[C@@H](C)C1",
    "O=[N+]([O-])c1ccc(C(=O)[O-])cc1CC[NH3+]",
    "c1ccc2[nH]c(-c3cc[nH]n3)cc2c1",
    "CS(=O)(=O)N1CCC(C#N)CC1/C=C/Br",
)


@pytest.fixture(scope="module")
def hits() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    yield benchmark("diverse_hits")
    sys.path.remove(str(FOLDER))


def part(hits: ModuleType, name: str) -> Any:
    """Return a module of the benchmark."""
    return sys.modules[name]


class NitrogenOracle:
    """The share of nitrogen among the heavy atoms; it notes all queries."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.queries = answer, list[str]()

    def __call__(self, smiles: Sequence[str]) -> list[Any]:
        self.queries += smiles
        mols = map(Chem.MolFromSmiles, smiles)
        return [self.answer(sum(a.GetSymbol() == "N" for a in mol.GetAtoms()) / mol.GetNumAtoms()) for mol in mols]


@pytest.fixture
def oracle(hits: ModuleType) -> NitrogenOracle:
    return NitrogenOracle(part(hits, "hits_ledger").Answer)


def test_repeated_and_invalid_molecules_are_free_and_new_ones_beyond_the_budget_are_worth_nothing(
    hits: ModuleType, oracle: NitrogenOracle
) -> None:
    ledger = hits.Ledger(oracle, budget=3)
    assert ledger(["CN", "NC", "C(", "CC"]) == [0.5, 0.5, 0.0, 0.0]
    assert not ledger.is_spent
    assert ledger(["", "CN", "NN", "NNN"]) == [0.0, 0.5, 1.0, 0.0]
    assert ledger.is_spent
    assert oracle.queries == ["CN", "CC", "NN"]
    assert (len(ledger.answers), ledger.requests, ledger.invalid) == (3, 8, 2)


def test_a_ledger_that_was_read_back_goes_on_where_it_was(
    hits: ModuleType, oracle: NitrogenOracle, tmp_path: Path
) -> None:
    ledger = hits.Ledger(oracle, budget=3)
    ledger(["CN", "C(", "CC"])
    ledger.save(tmp_path / "ledger.json")
    again = hits.Ledger.load(tmp_path / "ledger.json", oracle, 3)
    assert again == ledger
    assert again(["CN", "NN", "NNN"]) == [0.5, 1.0, 0.0]
    assert oracle.queries == ["CN", "CC", "NN"]


def test_a_filter_knows_the_patterns_of_one_half_and_its_threshold_is_that_of_the_other(hits: ModuleType) -> None:
    """Pentane has 7 patterns: 2 atoms, 3 with their neighbours and 2 with the next ones as well, since the end atom's
    of these has the bonds of one before; hexane has 6 of them, and another one of an atom with the next two.
    """
    fitted = hits.fit_filter([PENTANE, HEXANE, PENTANE])
    assert len(fitted.patterns) == 7
    assert fitted.least_known == 6 / 7
    assert part(hits, "hits_filter").known_share({1, 2, 3, 4}, frozenset({1, 2, 9})) == 0.5
    with pytest.raises(ValueError, match="got 1 molecules, need at least 2"):
        hits.fit_filter([PENTANE, PENTANE])


def test_a_molecule_fails_by_its_mass_its_logp_or_its_patterns(hits: ModuleType, tmp_path: Path) -> None:
    aspirin = "CC(=O)Oc1ccccc1C(=O)O"
    fitted = hits.fit_filter([aspirin, "CCO"] + ["C" * n for n in range(1, 25)])
    known = part(hits, "hits_filter").patterns_of(Chem.MolFromSmiles(aspirin)) | fitted.patterns
    accepted = hits.PropertyFilter(frozenset(known), 0.9)
    accepted.save(tmp_path / "filter.npz")
    loaded = hits.PropertyFilter.load(tmp_path / "filter.npz")
    assert loaded == accepted
    problems = [loaded.problem(Chem.MolFromSmiles(one)) for one in (aspirin, "CCO", "C" * 24, "O=C(Br)CCCCCCC(=O)Cl")]
    assert problems == ["", "mass", "logP", "patterns"]  # 180.04; 46.04; a logP of 9.6; 269 and halides of acids


def test_diverse_hits_are_hits_far_from_one_another_and_novel_ones_far_from_the_actives(
    hits: ModuleType, oracle: NitrogenOracle
) -> None:
    """Pentane and hexane share 6 of 8 patterns, a distance of 0.25; benzene shares none with them."""
    ledger, answer = hits.Ledger(oracle, 10), part(hits, "hits_ledger").Answer
    ledger.answers = {PENTANE: answer(0.5), HEXANE: answer(0.9), BENZENE: answer(0.7), "CCCCO": answer(0.49)}
    ledger.answers |= {"CO": answer(0.0, "mass"), "CN": answer(0.0, "mass"), "CS": answer(0.0, "patterns")}
    found = hits.outcome_of(ledger, [HEXANE], "gsk3", "a", 0, 1.0)
    assert (found.scores, found.hits, found.circles, found.novel_circles) == (7, 3, 2, 1)
    assert (found.mass, found.logp, found.patterns) == (2, 0, 1)


def test_molecules_near_an_earlier_hit_are_worth_nothing(hits: ModuleType) -> None:
    memory = part(hits, "graph_ga").HitMemory()
    assert memory([HEXANE, BENZENE], [0.4, 0.3]) == [0.4, 0.3]
    assert memory([PENTANE, HEXANE, BENZENE], [0.6, 0.9, 0.4]) == [0.0, 0.0, 0.4]
    assert memory([HEXANE, BENZENE], [0.9, 0.4]) == [0.0, 0.4]


CHANGES = {  # heavy atoms and rings
    "insert_atom": ({1}, {0}),
    "append_atom": ({1}, {0}),
    "change_atom": ({0}, {0}),
    "change_bond": ({0}, {0}),
    "open_ring": ({0}, {-1}),
    "close_ring": ({0}, {1}),
    "delete_atom": ({-1}, {-1, 0}),
}


@pytest.mark.parametrize("move", CHANGES)
def test_a_move_keeps_valences_and_changes_atoms_and_rings_as_it_says(hits: ModuleType, move: str) -> None:
    operators, rng = part(hits, "graph_operators"), np.random.default_rng(0)
    sound = 0
    for smiles in DRUGS * 20:
        mol = Chem.MolFromSmiles(smiles)
        edited = operators.editable(mol)
        try:
            getattr(operators, move)(edited, rng)
        except operators.NoSuchPlaceError:
            continue
        child = operators.checked(edited, rng)
        if child is None:
            continue
        sound += 1
        assert_sound(child)
        atoms, rings = CHANGES[move]
        assert child.GetNumAtoms() - mol.GetNumAtoms() in atoms
        assert child.GetRingInfo().NumRings() - mol.GetRingInfo().NumRings() in rings
    assert sound >= 8
    assert move in {mutation.__name__ for mutation in operators.MUTATIONS}
    assert math.isclose(sum(operators.MUTATIONS.values()), 1.0)


def assert_sound(mol: Chem.Mol) -> None:
    """Check a molecule anew, from its own SMILES."""
    again = Chem.MolFromSmiles(Chem.MolToSmiles(mol))
    assert again is not None
    assert Descriptors.NumRadicalElectrons(again) == 0
    assert len(Chem.GetMolFrags(again)) == 1
    assert not [atom for atom in again.GetAtoms() if atom.GetAtomicNum() == 0]


@pytest.mark.parametrize(("cut", "ends"), [("cut_bond", 1), ("cut_ring", 2)])
def test_a_child_has_the_atoms_of_the_pieces_that_it_is_made_of(hits: ModuleType, cut: str, ends: int) -> None:
    operators, rng = part(hits, "graph_operators"), np.random.default_rng(0)
    for smiles in DRUGS * 3:
        mol = Chem.MolFromSmiles(smiles)
        try:
            left, right = getattr(operators, cut)(operators.editable(mol), rng)
        except operators.NoSuchPlaceError:
            continue
        assert [len(operators.dummies(piece)) for piece in (left, right)] == [ends, ends]
        joined = operators.join(left, right, rng)
        assert elements(joined) == elements(mol)
        assert joined.GetNumBonds() == mol.GetNumBonds()


def elements(mol: Chem.Mol) -> Counter[str]:
    """Count the atoms of each element."""
    return Counter(atom.GetSymbol() for atom in mol.GetAtoms())


def test_children_of_two_parents_are_sound_and_neither_of_them(hits: ModuleType) -> None:
    operators, rng = part(hits, "graph_operators"), np.random.default_rng(0)
    parents = [Chem.MolFromSmiles(smiles) for smiles in DRUGS]
    for left, right in zip(parents * 4, [*parents[1:], parents[0]] * 4, strict=True):
        child = operators.crossover(left, right, rng)
        assert_sound(child)
        assert Chem.MolToSmiles(child) not in {Chem.MolToSmiles(left), Chem.MolToSmiles(right)}
    assert operators.crossover(Chem.MolFromSmiles("CC"), Chem.MolFromSmiles("CC"), rng) is None


def test_evolution_spends_the_budget_and_finds_more_than_it_began_with(
    hits: ModuleType, oracle: NitrogenOracle
) -> None:
    library = [f"{one}{two}" for one in ("CCCCCC", "CCNCCC", "c1ccccc1C") for two in ("CCO", "CCF", "COC", "CN")]
    settings = hits.GraphGA(population=10, pool=10, mutation_rate=0.5, filtered=False)
    ledgers = [hits.Ledger(oracle, budget=120) for _ in range(2)]
    for ledger in ledgers:
        hits.evolve(ledger, library, settings, np.random.default_rng(1))
    assert len(ledgers[0].answers) == 120
    assert ledgers[0] == ledgers[1]
    first = max(oracle(library), key=lambda answer: answer.score).score
    assert max(answer.score for answer in ledgers[0].answers.values()) > 1.5 * first


def test_a_screening_draws_every_molecule_once_in_an_order_of_its_seed(
    hits: ModuleType, oracle: NitrogenOracle, tmp_path: Path
) -> None:
    library = tmp_path / "library.smi"
    library.write_text("".join(f"{'C' * n}N\n" for n in range(1, 41)))
    orders = []
    for seed in (0, 0, 1):
        ledger = hits.screen(hits.Ledger(oracle, budget=100), library=library, seed=seed)
        orders.append(list(ledger.answers))
    assert len(set(orders[0])) == 40
    assert orders[0] == orders[1] != orders[2]
    assert len(hits.screen(hits.Ledger(oracle, budget=7), library=library, seed=0).answers) == 7


def test_the_file_of_a_forest_gives_the_probabilities_of_scikit_learn(hits: ModuleType, tmp_path: Path) -> None:
    """Both by the reward that `molrl` finds by its name and by the oracle, there times the filter."""
    actives, others = ["c1ccncc1CCN", "c1ccncc1CCCN", "c1ccncc1CO"] * 3, ["CCCCCCO", "CCCCCO", "CCCCO"] * 3
    labels = np.array([True] * 9 + [False] * 9)
    parts = dict.fromkeys(("train", "test"), part(hits, "hits_forest").Labelled([*actives, *others], labels))
    forest, auc = hits.train_forest(parts)
    assert auc == 1.0
    file = hits.write_forest(forest, tmp_path, "gsk3")
    queries = ["c1ccncc1CCCCN", "CCCCCCCO", "c1ccncc1CCCC"]
    own = forest.predict_proba(part(hits, "hits_forest").fingerprints(queries))[:, 1]
    assert len(set(own)) == 3

    class Accepted:
        def problem(self, mol: Chem.Mol) -> str:
            return "" if mol.HasSubstructMatch(Chem.MolFromSmarts("N")) else "mass"

    answers = hits.activity_oracle(file, Accepted())(queries)
    assert [tuple(one) for one in answers] == [(own[0], ""), (0.0, "mass"), (0.0, "mass")]

    (tmp_path / "queries.smi").write_text("\n".join(queries))
    command = ["score", tmp_path / "queries.smi", "reward=gsk3", "reward.workers=0", "--config-dir", tmp_path]
    assert molrl(*map(str, command), f"out={tmp_path / 'scores.csv'}").code == 0
    with (tmp_path / "scores.csv").open(encoding="utf-8") as table:
        values = [float(cell(row, "gsk3")) for row in csv.DictReader(table)]
    assert values == pytest.approx(own.tolist(), abs=1e-6)


def test_a_split_is_read_by_parts_and_a_bad_row_is_named(hits: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("smiles,label,Split\nCCO,1,train\nCCN,0,test\nCC,0,train\n")
    parts = hits.read_split(path)
    assert parts["train"].smiles == ["CCO", "CC"]
    assert parts["train"].actives == ["CCO"]
    assert parts["test"].active.tolist() == [False]
    path.write_text("smiles,label,Split\nCCO,2,train\n")
    with pytest.raises(ValueError, match="line 2: got 'CCO,2,train'"):
        hits.read_split(path)
    path.write_text("smiles,label,Split\nCCO,1,train\n")
    with pytest.raises(ValueError, match="no molecule of the part test"):
        hits.read_split(path)


def test_a_folder_keeps_to_the_protocol_that_it_was_begun_with(hits: ModuleType, tmp_path: Path) -> None:
    hits.refuse_other_protocol(tmp_path, 100, [Path("a.smi")], ["rollouts=8"])
    hits.refuse_other_protocol(tmp_path, 100, [Path("elsewhere/a.smi")], ["rollouts=8"])
    with pytest.raises(ValueError, match="begun with"):
        hits.refuse_other_protocol(tmp_path, 200, [Path("a.smi")], ["rollouts=8"])


def test_a_row_has_the_mean_of_its_seeds_with_its_error_and_published_rows_follow(hits: ModuleType) -> None:
    counts = {"hits": 5, "novel_circles": 0, "mass": 0, "logp": 0, "patterns": 0, "requests": 9, "invalid": 0}
    outcomes = [
        part(hits, "hits_table").Outcome(
            target="jnk3", method="a", seed=seed, scores=9, circles=circles, seconds=1.0, **counts
        )
        for seed, circles in enumerate((1, 2, 3))
    ]
    lines = hits.markdown(outcomes).splitlines()
    assert lines[2].startswith("| jnk3 | a | 3 | 5.0 ± 0.0 | 2.0 ± 0.6 |")  # a deviation of 1, over the root of 3
    assert "| jnk3 | *AugMemory, published* | 5 | | 176 | 104 |" in lines[3]
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["nft", "nft, diversity"])
def test_fine_tuning_ends_with_the_budget_and_is_not_repeated(
    hits: ModuleType, oracle: NitrogenOracle, arm: str, tmp_path: Path
) -> None:
    small = ("policy=qm9_heavy", "policy.num_steps=10", "rollouts=16", "minibatch=32", "algo.noisings=2")
    place = {"file": tmp_path / "ledger.json", "folder": tmp_path, "arm": arm, "seed": 0, "settings": small}
    ledger = hits.fine_tune(hits.Ledger(oracle, 20), **place)
    assert ledger.is_spent
    assert len(oracle.queries) == len(set(oracle.queries)) == 20
    again = hits.fine_tune(hits.Ledger(oracle, 20), **place)
    assert again == ledger
