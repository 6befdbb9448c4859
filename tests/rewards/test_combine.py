"""Rewards that wrap others: combinations, desirabilities, caches, budgets, and the kinds that they score."""

import csv
import itertools
import math
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command import molrl
from faulty_scorers import Faulty, Square
from rdkit import Chem
from test_molecule_rewards import ASPIRIN, BAD, IMATINIB, embedded, from_graph, from_smiles

from molrl.composition import choices
from molrl.data.molecules.bonds import Reading, edm_table, rdkit_bonds
from molrl.data.molecules.molecule import Molecule
from molrl.domains import reward_kinds
from molrl.rewards.combine import Combination, Term, WeightedProduct, WeightedSum
from molrl.rewards.desirability import Desirability
from molrl.rewards.molecules.cached import Cached
from molrl.rewards.molecules.descriptors import Descriptor
from molrl.rewards.molecules.logp import LogP
from molrl.rewards.molecules.plausibility import Plausibility
from molrl.rewards.molecules.qed import QED
from molrl.rewards.molecules.sa import Synthesisability
from molrl.rewards.molecules.stability import Stability
from molrl.rewards.molecules.strain import Strain
from molrl.rewards.scores import Explained, Scored, Scorer, gradient_of, score_safely
from molrl.rewards.shapes.stability import StabilityMargin
from molrl.rewards.workers.budget import BudgetError, Capped
from molrl.rewards.workers.pooled import Pooled

CONF = Path(__file__).parents[2] / "conf/reward"
NAN = math.nan
# QED and SA from RDKit 2026.09.1 called on its own, as in test_rewards
ASPIRIN_QED, ASPIRIN_SYNTHESISABILITY = 0.5501, (10 - 1.5800) / 9


@dataclass(frozen=True)
class Coordinate:
    """One of the numbers that make up a sample; NaN is lost, and a text is the reason of a bad sample."""

    place: int
    floor: float = -5.0

    def score_one(self, sample: Any, /) -> Scored:
        value = sample[self.place]
        if isinstance(value, str):
            return Scored(self.floor, value)
        return Scored(value, "timeout" if math.isnan(value) else "")


@dataclass(eq=False)
class Counting:
    """A bond reader that counts."""

    calls: int = 0

    def __call__(self, molecule: Molecule) -> Reading:
        self.calls += 1
        return rdkit_bonds(molecule)


def terms(*weights: float, thresholds: Mapping[int, float] | None = None) -> dict[str, Term]:
    """Return terms for the first, second ... coordinate, named a, b ..., with these weights."""
    thresholds = thresholds or {}
    return {
        "abcdef"[place]: Term(scorer=Coordinate(place), weight=weight, threshold=thresholds.get(place))
        for place, weight in enumerate(weights)
    }


def qed_sa(reader: Any = edm_table) -> WeightedProduct:
    return WeightedProduct(
        terms={
            "qed": Term(scorer=QED(reader=reader), weight=1.0),
            "sa": Term(scorer=Synthesisability(reader=reader), weight=1.0),
        }
    )


def same(first: Scored, second: Scored) -> bool:
    """Return True if two scores are equal, NaN included."""
    return first.reason == second.reason and (first.value == second.value or math.isnan(first.value + second.value))


# The formulas of the two means


def test_a_sum_adds_weighted_parts_and_a_product_is_their_geometric_mean() -> None:
    assert WeightedSum(terms=terms(2.0, -0.5), floor=-1.0).score_one((3.0, 4.0)) == Scored(4.0)
    assert WeightedProduct(terms=terms(1.0, 1.0)).score_one((0.25, 1.0)).value == pytest.approx(0.5)
    assert WeightedProduct(terms=terms(3.0, 1.0)).score_one((0.5, 1 / 32)).value == pytest.approx(0.25)


def test_qed_and_synthesisability_of_aspirin_at_once() -> None:
    expected = math.sqrt(ASPIRIN_QED * ASPIRIN_SYNTHESISABILITY)
    assert qed_sa()([from_smiles(ASPIRIN)]).item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("scale", [0.1, 7.0])
def test_scaling_all_weights_scales_a_sum_and_leaves_a_product(scale: float) -> None:
    sample, weights = (0.3, 0.9, 0.5), (1.0, 2.0, 0.5)
    scaled = [weight * scale for weight in weights]
    before, after = (WeightedSum(terms=terms(*each), floor=0.0).score_one(sample).value for each in (weights, scaled))
    assert after == pytest.approx(scale * before)
    before, after = (WeightedProduct(terms=terms(*each)).score_one(sample).value for each in (weights, scaled))
    assert after == pytest.approx(before)


@pytest.mark.parametrize("sample", [(0.3, 0.7, 0.9), (0.1, NAN, "valence"), ("valence", "no atoms", 0.5), (0.1, 0, 1)])
def test_the_order_of_the_parts_changes_nothing(sample: tuple[Any, ...]) -> None:
    parts = terms(1.0, 2.0, 0.5, thresholds={0: 0.2, 1: 0.6})
    for kind in (lambda each: WeightedSum(terms=each, floor=-1.0), lambda each: WeightedProduct(terms=each)):
        scores = [kind(dict(order)).score_one(sample) for order in itertools.permutations(parts.items())]
        assert all(same(scores[0], other) for other in scores)


def test_a_product_lies_between_its_parts_and_is_zero_with_any_of_them() -> None:
    product = WeightedProduct(terms=terms(1.0, 2.0))
    assert 0.3 < product.score_one((0.3, 0.6)).value < 0.6
    assert product.score_one((0.4, 0.4)).value == pytest.approx(0.4)
    assert product.score_one((0.0, 1.0)) == Scored(0.0)
    assert product.score_one((1e-300, 1e-300)).value == pytest.approx(1e-300)


# Lost, bad and below the threshold


@pytest.mark.parametrize("kind", [WeightedSum, WeightedProduct])
@pytest.mark.parametrize("others", [0.0, 0.5, "valence"])
def test_a_lost_part_makes_the_whole_lost_and_never_zero(kind: type[Combination], others: Any) -> None:
    more = {"floor": 0.0} if kind is WeightedSum else {}
    reward = kind(terms=terms(1.0, 1.0, 1.0, thresholds={0: 0.9}), **more)
    scored = reward.score_one((others, NAN, others))
    assert (math.isnan(scored.value), scored.reason) == (True, "timeout (b)")
    assert math.isnan(reward([(others, NAN, others)]).item())


def test_a_part_that_raises_makes_the_whole_lost_with_its_reason() -> None:
    reward = WeightedSum(terms={name: Term(scorer=Faulty(), weight=1.0) for name in "ab"}, floor=0.0)
    assert reward.score_one("raise").reason == "error: RuntimeError: no such molecule"
    assert reward.score_one("infinity").reason == "non-finite: inf"
    assert reward.score_one(3) == Scored(18.0)


def test_a_bad_sample_has_the_floor_of_the_whole_and_the_reason_once() -> None:
    reward = WeightedSum(terms=terms(1.0, 1.0), floor=-3.0)
    assert reward.score_one(("valence", "valence")) == Scored(-3.0, "valence")
    assert reward.score_one((1.0, "valence")) == Scored(-3.0, "valence (b)")
    assert reward.score_one(("valence", "no atoms")) == Scored(-3.0, "no atoms (b); valence (a)")
    for smiles, reason in BAD.items():
        assert qed_sa().score_one(from_smiles(smiles)) == Scored(0.0, reason)


def test_below_a_threshold_the_whole_has_its_floor_whatever_the_weight() -> None:
    reward = WeightedSum(terms=terms(1e-6, 1.0, thresholds={0: 0.5}), floor=-1.0)
    assert reward.score_one((0.5, 2.0)).value == pytest.approx(2.0)
    assert reward.score_one((0.49, 2.0)) == Scored(-1.0, "below threshold: 0.49, at least 0.5 (a)")


def test_a_part_that_a_product_cannot_take_is_lost_and_says_what_to_do() -> None:
    scored = score_safely(WeightedProduct(terms=terms(1.0, 1.0)), (0.5, -0.1))
    assert math.isnan(scored.value)
    assert scored.reason == "error: ValueError: b is -0.1, a product needs parts of at least 0: wrap it in Desirability"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: WeightedSum(terms={}, floor=0.0), "terms: got none"),
        (lambda: WeightedSum(terms=terms(1.0), floor=NAN), "floor: got nan"),
        (lambda: WeightedProduct(terms=terms(1.0, -1.0)), "b: got weight -1.0"),
        (lambda: WeightedProduct(terms={"a,b": Term(scorer=Square(), weight=1.0)}), "name 'a,b'"),
        (lambda: Term(scorer=Square(), weight=0.0), "weight: got 0.0"),
        (lambda: Term(scorer=Square(), weight=math.inf), "weight: got inf"),
        (lambda: Term(scorer=Square(), weight=1.0, threshold=NAN), "threshold: got nan"),
    ],
)
def test_terms_that_make_no_sense_are_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


# What it was made of


def test_the_parts_are_reported_before_their_weights_also_below_a_threshold() -> None:
    reward = WeightedSum(terms=terms(3.0, 1.0, thresholds={1: 0.9}), floor=0.0)
    assert reward.parts == ("a", "b")
    assert reward.explain((0.5, 0.25)) == {"a": 0.5, "b": 0.25}


def test_a_part_without_a_value_is_nan_in_the_report() -> None:
    reward = WeightedSum(terms=terms(1.0, 1.0, 1.0), floor=0.0)
    parts = reward.explain((0.5, NAN, "valence"))
    assert parts["a"] == 0.5
    assert math.isnan(parts["b"])
    assert math.isnan(parts["c"])


def test_parts_have_parts() -> None:
    inner = WeightedProduct(terms={"logp": Term(scorer=desirable(LogP(reader=rdkit_bonds)), weight=1.0)})
    outer = WeightedSum(
        terms={
            "shape": Term(scorer=Plausibility(reader=rdkit_bonds), weight=1.0),
            "drug": Term(scorer=inner, weight=1.0),
        },
        floor=0.0,
    )
    assert outer.parts == (
        *("shape", "shape.lengths", "shape.angles", "shape.clashes"),
        *("drug", "drug.logp", "drug.logp.measured"),
    )
    parts = outer.explain(embedded(ASPIRIN))
    assert tuple(parts) == outer.parts
    assert parts["drug.logp.measured"] == pytest.approx(1.3101, abs=1e-3)
    assert parts["shape.clashes"] == 1.0
    lost = outer.explain(from_smiles("C.C"))
    assert tuple(lost) == outer.parts
    assert all(map(math.isnan, lost.values()))


def test_the_parts_come_back_from_worker_processes_with_the_value() -> None:
    samples = [from_smiles(ASPIRIN), from_smiles("C.C"), from_smiles("c1ccccc1")]
    here = qed_sa().score(samples)
    with Pooled(qed_sa(), workers=1) as reward:
        there = reward.score(samples)
    assert there == here
    first = there.scored[0]
    assert isinstance(first, Explained)
    assert first.parts == qed_sa().explain(samples[0])
    assert first.parts["qed"] == pytest.approx(ASPIRIN_QED, abs=1e-3)


def test_an_explained_score_survives_a_pickle_and_is_a_pair() -> None:
    scored = Explained(0.5, "", {"a": 1.0})
    copied = pickle.loads(pickle.dumps(scored))
    assert (copied, copied.parts) == (Scored(0.5), {"a": 1.0})
    value, reason = copied
    assert (value, reason) == (0.5, "")


# Bonds are read once


def test_bonds_are_read_once_for_all_parts_and_again_for_the_next_sample() -> None:
    reader = Counting()
    nested = WeightedSum(
        terms={
            "product": Term(scorer=qed_sa(reader), weight=1.0),
            "logp": Term(scorer=desirable(LogP(reader=reader)), weight=1.0),
            "shape": Term(scorer=Plausibility(reader=reader), weight=1.0),
        },
        floor=0.0,
    )
    sample = embedded("CCO")
    first = nested.score_one(sample)
    assert reader.calls == 1
    assert nested.score_one(sample) == first
    sample.positions[:] *= 10  # the same object, torn apart
    assert nested.score_one(sample).reason
    assert reader.calls == 3


def test_parts_with_different_readers_keep_them() -> None:
    readers = Counting(), Counting()
    reward = WeightedSum(
        terms={str(place): Term(scorer=QED(reader=reader), weight=1.0) for place, reader in enumerate(readers)},
        floor=0.0,
    )
    assert reward([embedded("CCO")]).item() == pytest.approx(2 * QED(reader=rdkit_bonds)([embedded("CCO")]).item())
    assert [reader.calls for reader in readers] == [1, 1]


# Desirability


def desirable(scorer: Scorer[Any], **changes: Any) -> Desirability:
    return Desirability(**{"scorer": scorer, "low": 1.0, "high": 3.0, "goal": "window", "slack": 2.0, **changes})


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        ({"goal": "larger", "slack": None}, {-9: 0, 1: 0, 1.5: 0.25, 2: 0.5, 3: 1, 99: 1}),
        ({"goal": "smaller", "slack": None}, {-9: 1, 1: 1, 1.5: 0.75, 2: 0.5, 3: 0, 99: 0}),
        ({"goal": "window"}, {-1: 0, 0: 0.5, 1: 1, 2: 1, 3: 1, 4: 0.5, 5: 0, 9: 0}),
        ({"goal": "window", "low": 2.0, "high": 2.0}, {0: 0, 1: 0.5, 2: 1, 3: 0.5, 4: 0}),
        ({"goal": "larger", "slack": None, "power": 2.0}, {1: 0, 2: 0.25, 3: 1}),
        ({"goal": "smaller", "slack": None, "power": 0.5}, {1: 1, 2: 0.5**0.5, 3: 0}),
    ],
)
def test_desirability_is_that_of_derringer_and_suich(settings: dict[str, Any], values: Mapping[float, float]) -> None:
    reward = desirable(Coordinate(0), **settings)
    assert {value: reward.score_one((value,)).value for value in values} == pytest.approx(values)


def test_a_bad_sample_is_not_desirable_however_good_its_floor_looks() -> None:
    reward = desirable(Coordinate(0, floor=2.0))
    assert reward.score_one(("valence",)) == Scored(0.0, "valence")
    smaller = desirable(Coordinate(0), goal="smaller", slack=None)
    assert smaller.score_one(("valence",)) == Scored(0.0, "valence")


def test_what_was_not_measured_is_not_undesirable() -> None:
    scored = desirable(Coordinate(0)).score_one((NAN,))
    assert (math.isnan(scored.value), scored.reason) == (True, "timeout")


def test_a_desirability_reports_what_was_measured() -> None:
    assert desirable(Coordinate(0)).parts == ("measured",)
    assert desirable(Coordinate(0)).explain((7.5,)) == {"measured": 7.5}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"goal": "target"}, "goal: got 'target', allowed are larger, smaller, window"),
        ({"low": 4.0}, "low 4.0, high 3.0; low must not exceed high"),
        ({"goal": "larger", "slack": None, "low": 3.0}, "low 3.0, high 3.0; low must be smaller than high"),
        ({"low": NAN}, "low nan"),
        ({"high": math.inf}, "high inf"),
        ({"slack": None}, "slack: got None"),
        ({"slack": 0.0}, "slack: got 0.0"),
        ({"goal": "larger"}, "slack: got 2.0, only a window"),
        ({"power": 0.0}, "power: got 0.0"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        desirable(Coordinate(0), **settings)


# Remembered values


def test_a_structure_is_scored_once_however_it_is_drawn() -> None:
    reward = Cached(qed_sa(), size=10)
    mol = Chem.MolFromSmiles(IMATINIB)
    turned = Chem.RenumberAtoms(mol, [*range(mol.GetNumAtoms())][::-1])
    scores = [reward.score_one(from_graph(graph)) for graph in (mol, turned, Chem.AddHs(mol))]
    assert scores[0] == scores[1] == scores[2] == qed_sa().score_one(from_graph(mol))
    assert (reward.hits, reward.misses) == (2, 1)
    assert reward.explain(from_graph(mol)) == qed_sa().explain(from_graph(mol))


def test_a_cache_changes_no_value() -> None:
    samples = [from_smiles(smiles) for smiles in (ASPIRIN, "CCO", "OCC", *BAD, ASPIRIN)]
    assert Cached(qed_sa(), size=1).score(samples) == qed_sa().score(samples)


def test_the_least_recently_used_value_is_forgotten_first() -> None:
    reward = Cached(QED(reader=edm_table), size=2)
    for smiles in ("C", "CC", "C", "CCC", "C", "CC"):  # CCC takes the place of CC
        reward.score_one(from_smiles(smiles))
    assert (reward.hits, reward.misses) == (2, 4)


def test_lost_measurements_are_repeated() -> None:
    odd = WeightedProduct(terms={"logp": Term(scorer=LogP(reader=edm_table), weight=1.0)})  # negative for water
    reward = Cached(odd, size=10)
    assert [score_safely(reward, from_smiles("O")).reason.partition(":")[0] for _ in range(2)] == ["error", "error"]
    assert (reward.hits, reward.misses) == (0, 2)


@pytest.mark.parametrize(
    "scorer",
    [
        Stability(),
        desirable(Strain(reader=edm_table, steps=10)),
        WeightedSum(
            terms={
                "qed": Term(scorer=QED(reader=edm_table), weight=1.0),
                "shape": Term(scorer=Plausibility(reader=edm_table), weight=1.0),
            },
            floor=0.0,
        ),
        Square(),
    ],
    ids=["stability", "strain", "part", "unknown"],
)
def test_a_scorer_that_may_depend_on_the_geometry_is_not_cached(scorer: Scorer[Any]) -> None:
    with pytest.raises(ValueError, match="may depend on the geometry"):
        Cached(scorer, size=10)


def test_a_cache_needs_room_and_one_reader() -> None:
    with pytest.raises(ValueError, match="size: got 0"):
        Cached(QED(reader=edm_table), size=0)
    mixed = {
        "qed": Term(scorer=QED(reader=edm_table), weight=1.0),
        "logp": Term(scorer=LogP(reader=rdkit_bonds), weight=1.0),
    }
    with pytest.raises(ValueError, match="2 different bond readers"):
        Cached(WeightedSum(terms=mixed, floor=0.0), size=10)


def test_a_cache_is_sent_to_workers_empty() -> None:
    reward = Cached(QED(reader=edm_table), size=10)
    reward.score_one(from_smiles("C"))
    sent = pickle.loads(pickle.dumps(reward))
    assert (sent.hits, sent.misses) == (0, 0)
    assert sent.score_one(from_smiles("C")) == reward.score_one(from_smiles("C"))
    assert (sent.hits, sent.misses) == (0, 1)


def test_a_cache_may_be_a_part() -> None:
    reader = Counting()
    part = Cached(QED(reader=reader), size=10)
    reward = WeightedSum(terms={"qed": Term(scorer=part, weight=2.0)}, floor=0.0)
    expected = 2 * QED(reader=rdkit_bonds)([embedded("CCO")]).item()
    assert reward([embedded("CCO")] * 3).tolist() == pytest.approx([expected] * 3)
    assert reader.calls == 3


# Limited calls


def test_a_spent_budget_is_an_error_before_anything_more_is_scored() -> None:
    reward = Capped(Pooled(Square(), workers=0), calls=5)
    assert reward([1, 2, 3]).tolist() == [1, 4, 9]
    with pytest.raises(BudgetError, match=r"5 samples \(calls\): 3 are spent, a batch of 3"):
        reward([1, 2, 3])
    assert reward.score([4, 5]).values == [16, 25]
    with pytest.raises(BudgetError, match="5 are spent, a batch of 1"):
        reward([1])


def test_a_limit_starts_and_ends_the_workers_it_stands_before() -> None:
    pool = Pooled(Square(), workers=1)
    reward = Capped(pool, calls=5)
    reward.start()
    assert reward([3]).tolist() == [9]
    reward.close()
    Capped(qed_sa(), calls=1).start()
    with pytest.raises(ValueError, match="calls: got 0"):
        Capped(pool, calls=0)


# Kinds of samples

MARGIN = StabilityMargin(plate=0.25)


def test_a_wrapper_scores_what_it_wraps() -> None:
    qed = QED(reader=edm_table)
    product = qed_sa()
    window = desirable(Cached(product, size=1))
    for reward in (qed, product, window, Pooled(window, workers=0), Capped(Pooled(window, workers=0), calls=1)):
        assert reward_kinds(reward) == {"molecules"}
    mixed = {"a": Term(scorer=MARGIN, weight=1.0), "b": Term(scorer=qed, weight=1.0)}
    assert reward_kinds(Pooled(WeightedSum(terms=mixed, floor=-1.0), workers=0)) == {"molecules", "shapes"}


def test_a_reward_that_states_no_kind_has_none() -> None:
    plain: list[Any] = [lambda samples: samples, Square(), Pooled(Square(), workers=0), terms(1.0)["a"].scorer]
    assert [reward_kinds(reward) for reward in plain] == [frozenset()] * 4


def scorer_classes(node: Any) -> Iterator[Any]:
    """Yield the classes in a reward's YAML that score samples and wrap no other scorer."""
    if isinstance(node, Mapping):
        for value in node.values():
            yield from scorer_classes(value)
        module, _, name = str(node.get("_target_", "")).rpartition(".")
        scorer: Any = getattr(import_module(module), name) if name else None
        if hasattr(scorer, "kind"):
            wraps = hasattr(scorer, "inner") or isinstance(scorer.kind, property)
            yield from () if wraps else (scorer,)


@pytest.mark.parametrize("path", sorted(CONF.glob("*/*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_reward_states_what_it_scores(path: Path) -> None:
    """A class in rewards/shapes scores shapes, and so on."""
    scorers = list(scorer_classes(yaml.safe_load(path.read_text("utf-8"))))
    assert scorers
    assert [scorer.kind for scorer in scorers] == [scorer.__module__.split(".")[2] for scorer in scorers]


# From the command line

GRAPH_REWARDS = ("alerts", "descriptor", "desirable_logp", "qed_sa", "rings", "similarity")
GEOMETRY_REWARDS = ("geometry", "stability", "strain")


def sdf(*smiles: str) -> str:
    """Return SDF records with geometries and bonds."""
    text = ""
    for item in smiles:
        mol = Chem.AddHs(Chem.MolFromSmiles(item))
        conformer = Chem.Conformer(mol.GetNumAtoms())
        conformer.SetPositions(embedded(item).positions.astype(float))
        mol.AddConformer(conformer)
        mol.SetProp("_Name", item)
        text += Chem.MolToMolBlock(mol) + "$$$$\n"
    return text


def scored_file(path: Path, reward: str) -> list[dict[str, str]]:
    table = path.with_name(f"{reward}.csv")
    done = molrl("score", str(path), f"reward={reward}", "reward.workers=0", f"out={table}")
    assert done.err == ""
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def cell(row: Mapping[str, str], end: str) -> str:
    """Return the cell in the column whose name ends so."""
    (column,) = [name for name in row if name.endswith(end)]
    return row[column]


@pytest.mark.parametrize("reward", [*GRAPH_REWARDS, *GEOMETRY_REWARDS])
def test_every_reward_scores_a_file_of_geometries(reward: str, tmp_path: Path) -> None:
    assert reward in choices("reward")
    (tmp_path / "some.sdf").write_text(sdf(ASPIRIN, "CCO"))
    rows = scored_file(tmp_path / "some.sdf", reward)
    assert [row["name"] for row in rows] == [ASPIRIN, "CCO"]
    assert [row["reason"] for row in rows] == ["", ""]


def test_a_table_has_a_column_for_each_part(tmp_path: Path) -> None:
    (tmp_path / "some.smi").write_text(f"{ASPIRIN} aspirin\nC.C two\n")
    aspirin, two = scored_file(tmp_path / "some.smi", "qed_sa")
    assert float(cell(aspirin, ".qed")) == pytest.approx(ASPIRIN_QED, abs=1e-3)
    assert float(cell(aspirin, ".synthesisability")) == pytest.approx(ASPIRIN_SYNTHESISABILITY, abs=1e-3)
    assert (cell(two, ".qed"), two["reason"]) == ("", "disconnected: 2 fragments")
    aspirin, two = scored_file(tmp_path / "some.smi", "desirable_logp")
    assert float(cell(aspirin, ".measured")) == pytest.approx(1.3101, abs=1e-3)


def test_a_descriptor_of_a_file_is_the_published_one(tmp_path: Path) -> None:
    (tmp_path / "some.smi").write_text(f"{ASPIRIN} aspirin\n")
    (aspirin,) = scored_file(tmp_path / "some.smi", "descriptor")
    assert float(cell(aspirin, "descriptor")) == pytest.approx(180.16, abs=0.01)  # PubChem 2244


@pytest.mark.parametrize("reward", GEOMETRY_REWARDS)
def test_a_smiles_has_no_geometry_to_score(reward: str, tmp_path: Path) -> None:
    (tmp_path / "some.smi").write_text(f"{ASPIRIN} aspirin\n")
    (row,) = scored_file(tmp_path / "some.smi", reward)
    assert "no geometry" in row["reason"]


def test_descriptors_can_be_combined() -> None:
    """Two drug-like windows on aspirin, 180.16 g/mol and 63.6 square angstrom: one met, one missed by half."""
    weight, tpsa = Descriptor(reader=edm_table, name="molecular_weight"), Descriptor(reader=edm_table, name="tpsa")
    reward = WeightedProduct(
        terms={
            "weight": Term(scorer=desirable(weight, low=150.0, high=500.0, slack=50.0), weight=1.0),
            "tpsa": Term(scorer=desirable(tpsa, low=0.0, high=53.6, slack=20.0), weight=1.0),
        }
    )
    assert reward([from_smiles(ASPIRIN)]).item() == pytest.approx(math.sqrt(0.5), abs=1e-3)


# gradients


@dataclass(frozen=True)
class Square2D:
    """The sum of squares of a pair of numbers, or a constant that only depends on what is discrete in it."""

    scale: float
    has_gradient: bool = True
    is_discrete: bool = False

    def score_one(self, sample: Any, /) -> Scored:
        x = np.asarray(sample)
        if not self.has_gradient:
            return Scored(self.scale)
        return Explained(self.scale * float((x**2).sum()), "", None, 2 * self.scale * x)


def graded(kind: type[Combination], **settings: Any) -> Combination:
    held = Square2D(0.5, has_gradient=False, is_discrete=True)
    scorers = {"a": (Square2D(0.3), 2.0), "b": (Square2D(0.1), 1.0), "c": (held, 0.5)}
    return kind(terms={name: Term(scorer=one, weight=weight) for name, (one, weight) in scorers.items()}, **settings)


@pytest.mark.parametrize(
    "scorer",
    [
        graded(WeightedSum, floor=0.0),
        graded(WeightedProduct),
        Desirability(scorer=Square2D(0.2), goal="larger", low=0.1, high=2.0, power=1.7),
        Desirability(scorer=Square2D(0.2), goal="smaller", low=0.1, high=2.0, power=0.6),
        Desirability(scorer=Square2D(0.2), goal="window", low=2.0, high=3.0, slack=2.5, power=2.0),
        Desirability(scorer=Square2D(0.2), goal="window", low=0.1, high=0.3, slack=2.5),
        Desirability(scorer=graded(WeightedProduct), goal="larger", low=0.0, high=3.0),
    ],
    ids=["sum", "product", "larger", "smaller", "below a window", "above a window", "of a product"],
)
def test_the_gradient_of_a_combination_is_the_slope_of_its_value(scorer: Any) -> None:
    """By central differences; parts that are discrete are constants."""
    assert scorer.differentiable
    x, found = np.array([1.3, -0.9]), np.zeros(2)
    for place in range(2):
        step = np.eye(2)[place] * 1e-6
        found[place] = (scorer.score_one(x + step)[0] - scorer.score_one(x - step)[0]) / 2e-6
    gradient = gradient_of(scorer.score_one(x))
    assert gradient is not None
    np.testing.assert_allclose(gradient, found, rtol=1e-7)
    assert np.abs(found).min() > 1e-3


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_beyond_the_ramp_of_a_desirability_there_is_no_slope(factor: float) -> None:
    scorer = Desirability(scorer=Square2D(factor), goal="larger", low=0.1, high=2.0)
    np.testing.assert_array_equal(gradient_of(scorer.score_one(np.array([1.0, 1.0]))), [0.0, 0.0])


def test_a_combination_with_a_part_of_unknown_gradient_has_none() -> None:
    """Leaving it out would follow half of the reward."""
    unknown = Term(scorer=Coordinate(0), weight=1.0)
    held = Term(scorer=Square2D(0.5, has_gradient=False, is_discrete=True), weight=1.0)
    known = Term(scorer=Square2D(0.3), weight=1.0)
    assert not WeightedProduct(terms={"a": known, "b": unknown}).differentiable
    assert not WeightedProduct(terms={"a": held}).differentiable
    assert WeightedProduct(terms={"a": held}).is_discrete
    assert WeightedProduct(terms={"a": known, "b": held}).differentiable
