"""Advantages are centred, scaled, and silent where a reward says nothing."""

from typing import cast

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from molrl.advantages import (
    INITIAL_ROWS,
    Centred,
    Estimator,
    GroupRelative,
    Regressed,
    Standardised,
    Tracker,
    estimator,
    reserve_rows,
    standardise,
    standardise_groups,
)
from molrl.runs.checkpoint import check_fits

NAN = float("nan")
REWARDS = torch.tensor([1.0, 4.0, -2.0, 5.0], dtype=torch.float64)


def ring(tracker: Tracker, context: int) -> torch.Tensor:
    """Return the recent rewards of a condition, in no order."""
    row = tracker.index().get(context)
    return torch.empty(0) if row is None else tracker.rings[row, : min(int(tracker.used[row]), tracker.buffer_size)]


def test_standardised_rewards_have_mean_zero_and_variance_one() -> None:
    advantage = standardise(REWARDS)
    assert_close(advantage, (REWARDS - 2) / 7.5**0.5, rtol=1e-12, atol=0)


def test_scale_and_offset_of_the_reward_do_not_matter() -> None:
    assert_close(standardise(3 * REWARDS - 7), standardise(REWARDS), rtol=1e-12, atol=0)
    assert_close(
        standardise_groups(3 * REWARDS - 7, [0, 0, 1, 1]), standardise_groups(REWARDS, [0, 0, 1, 1]), rtol=1e-12, atol=0
    )


def test_a_reward_that_is_the_same_for_all_moves_nothing() -> None:
    flat = torch.full((5,), 0.1)
    assert standardise(flat).tolist() == [0] * 5
    assert standardise_groups(flat, [0, 0, 0, 1, 1]).tolist() == [0] * 5


def test_a_single_sample_says_nothing() -> None:
    assert standardise(torch.tensor([3.0])).tolist() == [0]
    assert standardise_groups(torch.tensor([3.0, 8.0]), [0, 1]).tolist() == [0, 0]


@pytest.mark.parametrize("groups", [None, [0, 0, 0, 0, 0]])
def test_unknown_rewards_stay_unknown_and_out_of_the_statistics(groups: list[int] | None) -> None:
    rewards = torch.cat([REWARDS[:2], torch.tensor([NAN], dtype=torch.float64), REWARDS[2:]])
    advantage = standardise(rewards) if groups is None else standardise_groups(rewards, groups)
    assert advantage.isnan().tolist() == [False, False, True, False, False]
    assert_close(advantage[[0, 1, 3, 4]], standardise(REWARDS), rtol=1e-12, atol=0)


def test_nothing_known_gives_nothing_known() -> None:
    unknown = torch.full((3,), NAN)
    assert standardise(unknown).isnan().all()
    assert standardise_groups(unknown, [0, 0, 1]).isnan().all()


def test_a_flat_reward_with_unknown_ones_is_zero_where_known() -> None:
    rewards = torch.tensor([2.0, NAN, 2.0])
    for advantage in (standardise(rewards), standardise_groups(rewards, [0, 0, 0])):
        assert advantage.nan_to_num(9).tolist() == [0, 9, 0]


def test_groups_are_compared_within_themselves() -> None:
    """Members of an easy group have no advantage over those of a hard one."""
    advantage = standardise_groups(torch.tensor([1.0, 3.0, 101.0, 103.0]), [7, 7, -1, -1])
    assert_close(advantage, torch.tensor([-1.0, 1.0, -1.0, 1.0]), rtol=1e-6, atol=0)


def test_all_groups_share_one_scale() -> None:
    advantage = standardise_groups(torch.tensor([0.0, 2.0, 0.0, 6.0]), [0, 0, 1, 1])
    assert_close(advantage, torch.tensor([-1.0, 1.0, -3.0, 3.0]) / 5**0.5, rtol=1e-6, atol=0)


def test_the_rewards_are_left_as_they_were() -> None:
    rewards = REWARDS.clone()
    standardise(rewards)
    standardise_groups(rewards, [0, 0, 1, 1])
    assert (rewards == REWARDS).all()


def test_centred_rewards_keep_their_units() -> None:
    advantage, _ = Centred()(REWARDS, [0] * 4)
    assert advantage.tolist() == [-1, 2, -4, 3]
    with_gap, _ = Centred()(torch.tensor([1.0, NAN, 5.0]), [0] * 3)
    assert with_gap.nan_to_num(9).tolist() == [-2, 9, 2]


def test_batch_estimators_take_no_notice_of_what_was_asked_for() -> None:
    for estimate in (Centred(), Standardised()):
        assert_close(estimate(REWARDS, [0, 1, 2, 3])[0], estimate(REWARDS, [5] * 4)[0], rtol=0, atol=0)
    assert_close(Standardised()(REWARDS, [0] * 4)[0], standardise(REWARDS), rtol=0, atol=0)


@pytest.mark.parametrize("size", [1, 0, -2])
def test_a_group_needs_two_members(size: int) -> None:
    with pytest.raises(ValueError, match=f"size: got {size}, need 2 or more"):
        GroupRelative(size)


def test_rollouts_that_do_not_fill_their_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="rollouts: got 4, need a multiple of the group size 3"):
        GroupRelative(3)(REWARDS, [0] * 4)


def test_groups_are_neighbours_compared_with_each_other() -> None:
    """Deviations -1 1 | -3 3, over their root mean square, sqrt(5); the contexts have no say."""
    advantage, metrics = GroupRelative(2)(torch.tensor([10.0, 12.0, 0.0, 6.0]), [0, 1, 0, 1])
    assert_close(advantage, torch.tensor([-1.0, 1.0, -3.0, 3.0]) / 5**0.5, rtol=1e-6, atol=0)
    assert metrics["groups_flat"] == 0


def test_groups_in_which_nothing_differs_are_counted_and_silent() -> None:
    advantage, metrics = GroupRelative(2)(torch.tensor([0.1, 0.1, 7.0, 9.0, 5.0, NAN, NAN, NAN]), [0] * 8)
    assert metrics["groups_flat"] == 0.75
    assert advantage[:2].tolist() == [0, 0]
    assert advantage[2:4].tolist() == [-advantage[3], advantage[3]]
    assert advantage[4] == 0  # nobody left to be compared with
    assert advantage[5:].isnan().all()


def test_a_flat_batch_of_groups_moves_nothing() -> None:
    advantage, metrics = GroupRelative(3)(torch.full((6,), 0.1), [0] * 6)
    assert advantage.tolist() == [0] * 6
    assert metrics["groups_flat"] == 1


def filled(tracker: Tracker, context: int, values: list[float]) -> Tracker:
    for value in values:
        tracker(torch.tensor([value], dtype=torch.float64), [context])
    return tracker


def test_a_ring_forgets_the_oldest_reward_first() -> None:
    tracker = filled(Tracker(buffer_size=3, min_count=2), 5, [1.0, 2.0, 3.0])
    assert sorted(ring(tracker, 5).tolist()) == [1, 2, 3]
    filled(tracker, 5, [4.0])
    assert sorted(ring(tracker, 5).tolist()) == [2, 3, 4]
    filled(tracker, 5, [5.0, 6.0, 7.0])
    assert sorted(ring(tracker, 5).tolist()) == [5, 6, 7]


def test_a_ring_holds_what_one_batch_brings_at_once() -> None:
    tracker = Tracker(buffer_size=3, min_count=2)
    tracker(REWARDS, [5] * 4)
    assert sorted(ring(tracker, 5).tolist()) == [-2, 4, 5]


def test_a_young_condition_is_judged_by_the_batch() -> None:
    """Rings of two rewards where three are needed: mean and std of all four."""
    advantage, metrics = Tracker(buffer_size=8, min_count=3)(REWARDS, [0, 0, 1, 1])
    assert_close(advantage, (REWARDS - 2) / (7.5**0.5 + 1e-6), rtol=1e-6, atol=0)
    assert metrics["contexts_young"] == 1


def test_an_old_condition_is_judged_by_itself() -> None:
    """The rewards enter the ring before they are judged: 1, 3 and then 8 have mean 4 and variance 26 / 3."""
    tracker = Tracker(buffer_size=8, min_count=3)
    tracker(torch.tensor([1.0, 3.0, 100.0]), [7, 7, 2])
    advantage, metrics = tracker(torch.tensor([8.0, 300.0]), [7, 2])
    assert advantage[0].item() == pytest.approx(4 / ((26 / 3) ** 0.5 + 1e-6), rel=1e-5)
    assert advantage[1].item() == pytest.approx((300 - 154) / (146 + 1e-6), rel=1e-5)  # the batch is 8 and 300
    assert metrics["contexts_young"] == 0.5


def test_conditions_do_not_mix() -> None:
    alone, beside = Tracker(buffer_size=4, min_count=2), Tracker(buffer_size=4, min_count=2)
    for value in (1.0, 5.0, 2.0):
        (expected,) = alone(torch.tensor([value, value + 1]), [3, 3])[0][:1]
        got = beside(torch.tensor([value, 50 * value, value + 1, -9.0]), [3, -4, 3, 8])[0][0]
        assert got == expected


@pytest.mark.parametrize("value", [0.1, -5.3, 10.1, 1000.1])
@pytest.mark.parametrize("count", [7, 48])
def test_a_flat_reward_moves_nothing_whatever_its_size(value: float, count: int) -> None:
    """The rounding of a mean is no difference between samples: divided by its own std it would be one for all."""
    flat, alike = torch.full((count,), value), [0] * count
    young, old = Tracker(buffer_size=2 * count, min_count=2 * count), Tracker(buffer_size=count, min_count=2)
    found = {
        "global": standardise(flat),
        "group": standardise_groups(flat, alike),
        "young": young(flat, alike)[0],
        "old": old(flat, alike)[0],
    }
    assert {name: advantage.abs().max().item() for name, advantage in found.items()} == dict.fromkeys(found, 0.0)


def test_a_tracker_ignores_unknown_rewards() -> None:
    tracker = Tracker(buffer_size=4, min_count=2)
    advantage, _ = tracker(torch.tensor([1.0, NAN, 3.0, NAN]), [0, 0, 0, 9])
    assert_close(advantage[[0, 2]], torch.tensor([-1.0, 1.0]), rtol=1e-5, atol=0)
    assert advantage[[1, 3]].isnan().all()
    assert sorted(ring(tracker, 0).tolist()) == [1, 3]
    assert len(ring(tracker, 9)) == 0
    nothing, _ = tracker(torch.tensor([NAN, NAN]), [0, 4])
    assert nothing.isnan().all()
    assert sorted(ring(tracker, 0).tolist()) == [1, 3]


def test_a_condition_without_any_reward_takes_no_place() -> None:
    """Places go to conditions with a reward; one that was never scored must not hold, or share, another's."""
    tracker = Tracker(buffer_size=2, min_count=2)
    tracker(torch.tensor([NAN, NAN, 5.0, 7.0]), [1, 2, 3, 3])
    tracker(torch.tensor([1.0, 3.0]), [1, 1])
    assert sorted(ring(tracker, 3).tolist()) == [5, 7]
    assert sorted(ring(tracker, 1).tolist()) == [1, 3]
    assert len(ring(tracker, 2)) == 0


def test_a_tracker_survives_a_checkpoint() -> None:
    one = Tracker(buffer_size=3, min_count=2)
    one(torch.tensor([1.0, 4.0, 2.0, 8.0, NAN, 3.0]), [0, 0, 0, 0, 1, -6])
    two = Tracker(buffer_size=3, min_count=2)
    two.load_state_dict(one.state_dict())
    for rewards, contexts in (([3.0, 1.0], [0, -6]), ([9.0, 9.5, 0.0], [0, 2, -6])):
        asked = torch.tensor(rewards)
        assert_close(one(asked, contexts), two(asked, contexts), rtol=0, atol=0)
    assert_close(dict(one.state_dict()), dict(two.state_dict()), rtol=0, atol=0)


def test_a_tracker_has_the_advantages_in_the_rewards_own_type() -> None:
    tracker = Tracker(buffer_size=4, min_count=2)
    assert tracker(REWARDS, [0] * 4)[0].dtype == torch.float64
    assert tracker(torch.tensor([1, 0, 1, 1]).float(), [0] * 4)[0].dtype == torch.float32


def test_a_tracker_has_room_for_every_condition() -> None:
    """As a prompt file of 6,000 lines has; each with the statistics of its own last rewards."""
    count, tracker, generator = 6000, Tracker(buffer_size=2, min_count=2), torch.Generator().manual_seed(0)
    rounds = torch.randn(3, count, dtype=torch.float64, generator=generator)
    orders = [torch.randperm(count, generator=generator) for _ in rounds]
    answers = [tracker(rewards[order], order.tolist()) for rewards, order in zip(rounds, orders, strict=True)]
    advantage, metrics = answers[-1]
    assert metrics["contexts_young"] == 0
    pair = rounds[1:]
    expected = (pair[1] - pair.mean(0)) / (pair.std(0, correction=0) + 1e-6)
    assert_close(advantage, expected[orders[-1]])


def test_a_larger_tracker_is_restored_into_a_new_one() -> None:
    """And goes on as if it had never stopped."""
    one, two = (nn.ModuleDict({"advantage": Tracker(buffer_size=2, min_count=2)}) for _ in range(2))
    many = list(range(5 * INITIAL_ROWS))
    one["advantage"](torch.arange(float(len(many))), many)
    saved = one.state_dict()
    reserve_rows(two, saved)
    check_fits(two.state_dict(), saved, "this test")
    two.load_state_dict(saved)
    again = torch.arange(float(len(many) + 3)).flip(0)
    results = [tree["advantage"](again, [*many, 10**6, -1, 7])[0] for tree in (one, two)]
    assert_close(results[0], results[1], rtol=0, atol=0)


@pytest.mark.gpu
def test_a_tracker_works_where_the_policy_is() -> None:
    here, there = Tracker(buffer_size=4, min_count=2), Tracker(buffer_size=4, min_count=2).to("cuda")
    for _ in range(2):
        expected, _ = here(REWARDS.float(), [0, 0, 1, 1])
        got, _ = there(REWARDS.float().to("cuda"), [0, 0, 1, 1])
        assert_close(got.cpu(), expected)


@pytest.mark.parametrize(("buffer_size", "min_count"), [(4, 1), (2, 3), (0, 0)])
def test_a_tracker_that_could_never_judge_is_refused(buffer_size: int, min_count: int) -> None:
    with pytest.raises(ValueError, match=f"min_count, buffer_size: got {min_count}, {buffer_size}"):
        Tracker(buffer_size, min_count)


def test_each_kind_names_its_estimator() -> None:
    assert estimator("global", 4, 32, 16) == Standardised()
    assert estimator("centred", 4, 32, 16) == Centred()
    assert estimator("group", 4, 32, 16) == GroupRelative(4)
    tracker = cast(Tracker, estimator("tracker", 4, 32, 16))
    assert isinstance(tracker, Tracker)
    assert (tracker.buffer_size, tracker.min_count) == (32, 16)
    kinds: list[Estimator] = [Standardised(), Centred(), tracker]
    assert [kind.group_size for kind in kinds] == [1, 1, 1]
    assert estimator("group", 4, 32, 16).group_size == 4


def test_what_follows_from_the_condition_is_no_advantage() -> None:
    amounts = list(range(10, 18))
    advantage, metrics = Regressed()(1 - 0.05 * torch.tensor(amounts), amounts)
    assert_close(advantage, torch.zeros(8), rtol=0, atol=1e-5)
    assert metrics["reward_explained"] == pytest.approx(1)


def test_deviations_are_those_from_numpys_line() -> None:
    generator = np.random.default_rng(3)
    amounts, rewards = generator.integers(8, 40, 50), generator.random(50)
    rewards[[4, 9]] = np.nan
    scored = ~np.isnan(rewards)
    line = np.polynomial.Polynomial.fit(amounts[scored], rewards[scored], 1)
    deviation = (rewards - line(amounts))[scored]
    advantage, metrics = Regressed()(torch.from_numpy(rewards), amounts.tolist())
    assert_close(advantage[torch.from_numpy(scored)].numpy(), deviation / deviation.std(), rtol=1e-9, atol=1e-9)
    assert advantage.isnan().sum() == 2
    assert metrics["reward_explained"] == pytest.approx(1 - deviation.var() / rewards[scored].var())


def test_one_condition_for_all_leaves_the_mean_alone() -> None:
    rewards = torch.tensor([0.1, 0.7, 0.4])
    advantage, metrics = Regressed()(rewards, [5, 5, 5])
    assert_close(advantage, standardise(rewards))
    assert metrics["reward_explained"] == 0
