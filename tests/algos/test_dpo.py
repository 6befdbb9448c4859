"""Diffusion-DPO: its optimum has the log-odds of the preferences, and pairs are those that a table or a round gives."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from toy import cloud_task, learner, lifted, number_task

from molrl.algos import Learner
from molrl.algos.dpo import DiffusionDPO, Pairs
from molrl.finetune import freeze_copy
from molrl.noise import Key
from molrl.oracle.linear_gaussian import AffineDenoiser, make_sampler
from molrl.policy import Policy
from molrl.preferences import PreferenceTable, RecordStates, extremes, pair_source, read_preferences
from molrl.task import Task
from molrl.trainable_parameters import trainable_module

F64, KEY, NAN = torch.float64, Key(0, 1), float("nan")


def dpo(**changes: Any) -> DiffusionDPO:
    settings: dict[str, Any] = {"source": "policy", "preferences": None, "column": None, "group_size": 4, "pairs": 1}
    settings |= {"margin": 0.0, "noisings": 3, "beta": 0.8, "likelihood": "joint"}
    return DiffusionDPO(**{**settings, **changes})


def wide() -> Policy:
    sampler = make_sampler()
    return Policy(AffineDenoiser(sampler, F64, in_stds=False), sampler)


def two_points(step: int = 6, wins: int = 3, losses: int = 1) -> tuple[Task, Pairs]:
    """Return pairs of -1 and 2 with one noise at one step, in which 2 wins so many times."""
    task = replace(number_task(), policy=wide())
    x0, eps = torch.tensor([[2.0], [-1.0]], dtype=F64), torch.full((2, 1), 0.3, dtype=F64)
    x = task.policy.sampler.add_noise(x0, eps, torch.tensor([step, step]))
    ways = [[0, 1]] * wins + [[1, 0]] * losses
    pairs = Pairs(
        x=torch.stack([x[way] for way in ways]),
        target=torch.stack([eps[way] for way in ways]),
        step=torch.full((wins + losses,), step),
        weight=torch.ones(wins + losses, dtype=F64),
        sample=torch.arange(wins + losses),
        rows=torch.tensor(ways),
        contexts={},
    )
    return task, pairs


@pytest.mark.parametrize("likelihood", ["joint", "per_dim"])
@pytest.mark.parametrize(("wins", "losses"), [(3, 1), (1, 4), (2, 2)])
def test_the_optimum_has_the_log_odds_of_the_preferences(
    wins: int, losses: int, likelihood: Literal["joint", "per_dim"]
) -> None:
    """At a fixed x_t of each point: implicit rewards differ by log(P(2 wins) / P(-1 wins))."""
    task, pairs = two_points(wins=wins, losses=losses)
    algorithm, at = dpo(likelihood=likelihood), learner(task, wide())
    fine: dict[str, Any] = {"line_search_fn": "strong_wolfe", "tolerance_grad": 1e-12, "tolerance_change": 1e-15}
    optimizer = torch.optim.LBFGS(trainable_module(task.policy).parameters(), max_iter=200, **fine)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = algorithm.loss(at, pairs)[0]
        loss.backward()
        return loss

    optimizer.step(closure)
    metrics = algorithm.loss(at, pairs)[1]
    assert metrics["log_odds"][0].item() == pytest.approx(math.log(wins / losses), abs=1e-5)
    difference = metrics["implicit_reward_winner"][0] - metrics["implicit_reward_loser"][0]
    assert difference.item() == pytest.approx(math.log(wins / losses), abs=1e-5)


def test_the_gradient_at_the_reference_is_the_published_one() -> None:
    """By hand: sigma(0) beta / 2 (de_w - de_l) with de = 2 (eps_ref - eps) for a change of the shift."""
    task, pairs = two_points(wins=1, losses=0)
    algorithm, at = dpo(beta=0.8), learner(task, wide())
    loss, metrics = algorithm.loss(at, pairs)
    assert loss.item() == pytest.approx(math.log(2))
    assert metrics["log_odds"].item() == 0
    (found,) = torch.autograd.grad(loss, trainable_module(task.policy).get_parameter("shift"))
    eps = task.policy.denoiser(pairs.x[0], torch.full((2,), 0.4, dtype=F64), {}).squeeze(1)
    expected = 0.5 * 0.8 / 2 * (2 * (eps[0] - 0.3) - 2 * (eps[1] - 0.3))
    assert found[6].item() == pytest.approx(expected.item(), rel=1e-9)
    assert int((found != 0).sum()) == 1


def test_the_sign_of_the_gradient_is_that_of_the_preference() -> None:
    """A step down the loss makes the winner's error smaller than the loser's, whoever wins."""
    for wins, losses in ((1, 0), (0, 1)):
        task, pairs = two_points(wins=wins, losses=losses)
        at = learner(task, wide())
        parameters = list(trainable_module(task.policy).parameters())
        for parameter, slope in zip(parameters, torch.autograd.grad(dpo().loss(at, pairs)[0], parameters), strict=True):
            with torch.no_grad():
                parameter.sub_(1e-2 * slope)
        assert dpo().loss(at, pairs)[1]["log_odds"].item() > 0


def test_beta_per_dimension_is_beta_over_the_dimensions() -> None:
    task = number_task(dims=3)
    at = Learner(task, freeze_copy(number_task(dims=3).policy))
    with torch.no_grad():
        trainable_module(task.policy).get_parameter("shift").add_(0.1)
    table = dpo().collect(at, list(range(8)), KEY).table
    joint, per_dim = dpo(beta=0.5), dpo(beta=1.5, likelihood="per_dim")
    assert_close(joint.loss(at, table)[0], per_dim.loss(at, table)[0])


def test_a_round_pairs_the_best_with_the_worst_of_each_group() -> None:
    task = number_task(lifted)
    collected = dpo(noisings=2).collect(learner(task), list(range(12)), KEY)
    rewards = collected.rollouts.rewards.view(3, 4)
    best = (rewards.argmax(1) + 4 * torch.arange(3)).tolist()
    worst = (rewards.argmin(1) + 4 * torch.arange(3)).tolist()
    table = collected.table
    assert table.rows[:3].tolist() == [list(pair) for pair in zip(best, worst, strict=True)]
    assert table.rows[3:].tolist() == table.rows[:3].tolist()
    assert table.sample.tolist() == [0, 4, 8] * 2
    assert collected.metrics["preferences"] == 1
    x0 = collected.rollouts.trajectory.final[table.rows.flatten()]
    noised = task.policy.sampler.add_noise(x0, table.target.flatten(0, 1), table.step.repeat_interleave(2))
    assert_close(table.x.flatten(0, 1), noised)
    assert_close(table.target[:, 0], table.target[:, 1], atol=0, rtol=0)


def test_winner_and_loser_share_their_noise_up_to_the_space_of_each() -> None:
    """Points of one size have the very same noise, centred and zero on the padding."""

    def width(samples: Sequence[Tensor]) -> Tensor:
        return torch.stack([sample.square().sum() for sample in samples])

    task = cloud_task(width, sizes=(4, 2, 3))
    table = dpo(group_size=2, noisings=1).collect(learner(task), list(range(6)), KEY).table
    context = {"mask": table.contexts["mask"][table.rows.flatten()]}
    flat = table.target.flatten(0, 1)
    assert_close(task.policy.sampler.space.project(flat, context), flat)
    assert_close(table.target[:, 0], table.target[:, 1], atol=0, rtol=0)
    assert (context["mask"].view(-1, 2, 4)[:, 0] == context["mask"].view(-1, 2, 4)[:, 1]).all()


@pytest.mark.parametrize(
    ("rewards", "margin", "rows", "decided"),
    [
        ([1, 2, 3, 0], 0.0, [[1, 0], [2, 3]], [True, True]),
        ([1, 2, 3, 0], 2.0, [[1, 0], [2, 3]], [False, True]),  # two stds of 1: the first group differs by one only
        ([1, 1, 5, 4], 0.0, [[0, 0], [2, 3]], [False, True]),  # equal rewards are no preference
        ([NAN, 2, 3, 0], 0.0, [[1, 1], [2, 3]], [False, True]),  # a group of one
        ([NAN, NAN, NAN, 0], 0.0, [[3, 3]], [False]),
        ([NAN, NAN], 0.0, [], []),
    ],
)
def test_extremes_of_groups(rewards: list[float], margin: float, rows: list[list[int]], decided: list[bool]) -> None:
    found = extremes(torch.tensor(rewards, dtype=F64), 2, margin, 1.0)
    assert [part.tolist() for part in found] == [rows, decided]


def test_a_pair_without_a_preference_has_no_gradient() -> None:
    task = number_task(lambda samples: torch.ones(len(samples)))
    at = learner(task, freeze_copy(number_task().policy))
    collected = dpo().collect(at, list(range(8)), KEY)
    assert collected.metrics["preferences"] == 0
    assert len(collected.table) == 2 * 3
    loss, _ = dpo().loss(at, collected.table)
    assert all((g == 0).all() for g in torch.autograd.grad(loss, list(trainable_module(task.policy).parameters())))


# tables


def table_file(folder: Path, text: str) -> str:
    (folder / "table.csv").write_text(text)
    return str(folder / "table.csv")


def test_the_table_of_score_and_a_table_of_pairs_are_read(tmp_path: Path) -> None:
    scored = 'record,line,name,smiles,qed,reason\n1,1,a,C,0.5,\n2,5,b,CC,,invalid\n4,9,"c,d",O,-1e-3,\n'
    assert read_preferences(table_file(tmp_path, scored)) == PreferenceTable({1: 0.5, 4: -1e-3}, ())
    pairs = "winner,loser,by\n3,1,me\n1,2,you\n"
    assert read_preferences(table_file(tmp_path, pairs)) == PreferenceTable({}, [(3, 1), (1, 2)])
    two = "record,qed,sa\n1,0.5,3\n2,0.4,4\n"
    assert read_preferences(table_file(tmp_path, two), "sa") == PreferenceTable({1: 3.0, 2: 4.0}, ())


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("record,qed,sa\n1,0.5,3\n", None, "got qed, sa; name the one of the scores"),
        ("record,name\n1,a\n", None, "got none; name the one"),
        ("record,qed\n1,0.5\n", "qud", "no column 'qud'; it has record, qed"),
        ("record,qed\n1,0.5\n1,0.6\n", None, "record 1 twice"),
        ("record,qed\n0,0.5\n", None, "got the record '0', need a number from 1"),
        ("record,qed\n1,nan\n", "qed", "qed: got 'nan', need a finite number"),
        ("record,qed\n1,\n", "qed", "no score in column 'qed'"),
        ("winner,loser\n1,x\n", None, "got the record 'x'"),
        ("winner,loser\n1\n", None, "got the record 'None'"),
        ("winner,loser\n", None, "no pair in it"),
        ("smiles,qed\nC,0.5\n", None, "got the columns smiles, qed; need record and a score, or winner and loser"),
        ("", None, "need record and a score"),
    ],
)
def test_a_table_that_says_nothing_is_refused(text: str, column: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_preferences(table_file(tmp_path, text), column)


def test_pairs_have_one_condition_and_differ_by_the_margin() -> None:
    """Standard deviation of the scores: sqrt(10) / 2 = 1.58; records 1, 3, 5, 6 of groups 0, 0, 0, 1."""
    scores = PreferenceTable({1: 0.0, 3: 1.0, 5: 4.0, 6: 3.0}, ())

    def pairs(margin: float) -> set[tuple[int, int]]:
        source = pair_source(scores, [1, 3, 5, 6], [0, 0, 0, 1], margin)
        return {(int(a), int(b)) for a, rows in zip(source.better, source.worse, strict=True) for b in rows}

    assert pairs(0.0) == {(1, 0), (2, 0), (2, 1)}
    assert pairs(1.0) == {(2, 0), (2, 1)}
    assert pairs(2.0) == {(2, 0)}
    with pytest.raises(ValueError, match="no pair among 4 samples"):
        pairs(9.0)


def test_pairs_of_records_that_the_model_does_not_know_are_left_out() -> None:
    table = PreferenceTable({}, [(1, 2), (2, 9), (3, 1)])
    source = pair_source(table, [1, 2, 3], [0, 0, 1], 0.0)
    assert source.better.tolist() == [0]
    assert source.worse[0].tolist() == [1]


def test_a_preference_that_is_given_more_often_is_drawn_more_often() -> None:
    source = pair_source(PreferenceTable({}, [(2, 1)] * 3 + [(1, 2)]), [1, 2], [0, 0], 0.0)
    generator = np.random.default_rng(0)
    drawn = [source.draw(generator) for _ in range(2000)]
    assert drawn.count((1, 0)) == pytest.approx(1500, abs=4 * (2000 * 3 / 16) ** 0.5)
    assert set(drawn) == {(1, 0), (0, 1)}


@given(scores=st.lists(st.integers(-3, 3), min_size=2, max_size=8), seed=st.integers(0, 99))
def test_a_drawn_pair_has_the_better_one_first(scores: list[int], seed: int) -> None:
    if len(set(scores)) < 2:
        return
    table = PreferenceTable({k + 1: float(score) for k, score in enumerate(scores)}, ())
    source = pair_source(table, range(1, len(scores) + 1), [0] * len(scores), 0.0)
    better, worse = source.draw(np.random.default_rng(seed))
    assert scores[better] > scores[worse]


# records


def records() -> RecordStates:
    return RecordStates(torch.tensor([[0.0], [1.0], [2.0]]), {"sample": torch.arange(3)}, [1, 2, 4])


def test_pairs_of_records_are_drawn_by_the_key_and_noised(tmp_path: Path) -> None:
    path = table_file(tmp_path, "record,score\n1,0.1\n2,0.3\n3,9\n4,0.2\n")
    task = replace(number_task(), records=records)
    algorithm = dpo(source="records", preferences=path, group_size=1, noisings=2)
    algorithm.modules(task)
    tables = [algorithm.collect(learner(task), list(range(16)), key).table for key in (KEY, KEY, Key(1, 1))]
    assert len(tables[0]) == 32
    assert {tuple(rows) for rows in tables[0].rows.tolist()} == {(1, 0), (1, 2), (2, 0)}
    assert torch.equal(tables[0].x, tables[1].x)
    assert not torch.equal(tables[0].rows, tables[2].rows)


def test_a_few_rollouts_may_have_many_pairs_each_with_noise_of_its_own(tmp_path: Path) -> None:
    path = table_file(tmp_path, "winner,loser\n2,1\n4,1\n4,2\n")
    task = replace(number_task(), records=records)
    collected = dpo(source="records", preferences=path, group_size=1, noisings=2, pairs=5).collect(
        learner(task), list(range(3)), KEY
    )
    assert collected.reward_queries == 3
    table, order = collected.table, collected.row_order
    assert len(table.target[:, 0].unique()) == len(table) == 3 * 5 * 2
    assert table.sample.tolist() == [row // 5 for row in range(15)] * 2
    assert len({*zip(order.tolist(), table.sample.tolist(), strict=True)}) == len(table)
    assert {tuple(rows) for rows in table.rows.tolist()} == {(1, 0), (2, 0), (2, 1)}


class Fielded:
    """Records with a field."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def __call__(self) -> RecordStates:
        return records()

    def field_values(self, name: str) -> dict[int, str]:
        assert name == "score"
        return dict(zip((1, 2, 4), self.texts, strict=True))


def test_scores_may_be_a_field_of_the_records() -> None:
    task = replace(number_task(), records=Fielded("0.1", "0.3", "0.2"))
    algorithm = dpo(source="records", column="score", group_size=1, noisings=2)
    algorithm.modules(task)
    table = algorithm.collect(learner(task), list(range(16)), KEY).table
    assert {tuple(rows) for rows in table.rows.tolist()} == {(1, 0), (1, 2), (2, 0)}
    with pytest.raises(ValueError, match=r"task\.records: record 2: score: got 'high', need a finite number"):
        algorithm.modules(replace(task, records=Fielded("0.1", "high", "0.2")))
    with pytest.raises(ValueError, match=r"the records of task .* have no fields; give a CSV file"):
        algorithm.modules(replace(task, records=records))


def test_preferences_of_records_move_the_policy_toward_the_winners(tmp_path: Path) -> None:
    """Records 0, 1 and 2, of which larger ones win: the mean of the samples rises."""
    from test_finetune import finetuning

    from molrl.finetune import finetune
    from molrl.oracle.chain import Chain

    path = table_file(tmp_path, "winner,loser\n2,1\n4,1\n4,2\n")
    task = replace(number_task(), records=records)
    algorithm = dpo(source="records", preferences=path, group_size=1, noisings=8)
    before = Chain.from_policy(task.policy, torch.float32).marginal().mean
    finetune(finetuning(iterations=6), task, algorithm, freeze_copy(number_task().policy), None, lambda _: None)
    assert Chain.from_policy(task.policy, torch.float32).marginal().mean > before + 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_size": 1}, "group_size: got 1, need at least 2"),
        ({"source": "records", "preferences": "x.csv"}, "group_size: got 4; with source=records"),
        ({"source": "records", "group_size": 1}, "preferences: got None with source=records"),
        ({"preferences": "x.csv"}, "preferences: got x.csv with source=policy"),
        ({"beta": 0.0}, "beta: got 0.0"),
        ({"pairs": 2}, "pairs: got 2; with source=policy"),
        ({"margin": -1.0}, "margin: got -1.0"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dpo(**changes)


def test_a_task_without_records_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has no file of records; give task\.records=FILE"):
        dpo(source="records", preferences="x.csv", group_size=1).modules(number_task())


def test_the_fixed_point_of_the_oracle_has_the_entropy_of_its_preferences() -> None:
    """-p log p - (1 - p) log(1 - p) with p = 3 / 4 at the inner points; log 2 at those that stay."""
    from molrl.oracle.chain import Chain
    from molrl.oracle.linear_gaussian import BASE_MEAN, BASE_VARIANCE
    from molrl.oracle.preference import INNER, preference_loss
    from molrl.oracle.preference import dpo as fixed_point

    sampler = make_sampler()
    reference = Chain.exact(sampler, BASE_MEAN, BASE_VARIANCE)
    loss = preference_loss(sampler, reference, 0.7, *fixed_point(sampler, reference, 0.7).predicted_noise(sampler))
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert_close(loss[INNER], torch.full_like(loss[INNER], entropy), atol=1e-9, rtol=0)
    assert_close(loss[[0, 1, 10]], torch.full((3,), math.log(2), dtype=F64), atol=1e-9, rtol=0)
