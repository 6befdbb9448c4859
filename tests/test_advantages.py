"""Advantages are centred, scaled, and silent where a reward says nothing."""

import pytest
import torch
from torch.testing import assert_close

from molrl.advantages import per_group, standardised

NAN = float("nan")
REWARDS = torch.tensor([1.0, 4.0, -2.0, 5.0], dtype=torch.float64)


def test_standardised_rewards_have_mean_zero_and_variance_one() -> None:
    advantage = standardised(REWARDS)
    assert_close(advantage, (REWARDS - 2) / 7.5**0.5, rtol=1e-12, atol=0)


def test_scale_and_offset_of_the_reward_do_not_matter() -> None:
    assert_close(standardised(3 * REWARDS - 7), standardised(REWARDS), rtol=1e-12, atol=0)
    assert_close(per_group(3 * REWARDS - 7, [0, 0, 1, 1]), per_group(REWARDS, [0, 0, 1, 1]), rtol=1e-12, atol=0)


def test_a_reward_that_is_the_same_for_all_moves_nothing() -> None:
    flat = torch.full((5,), 0.1)
    assert standardised(flat).tolist() == [0] * 5
    assert per_group(flat, [0, 0, 0, 1, 1]).tolist() == [0] * 5


def test_a_single_sample_says_nothing() -> None:
    assert standardised(torch.tensor([3.0])).tolist() == [0]
    assert per_group(torch.tensor([3.0, 8.0]), [0, 1]).tolist() == [0, 0]


@pytest.mark.parametrize("groups", [None, [0, 0, 0, 0, 0]])
def test_unknown_rewards_stay_unknown_and_out_of_the_statistics(groups: list[int] | None) -> None:
    rewards = torch.cat([REWARDS[:2], torch.tensor([NAN], dtype=torch.float64), REWARDS[2:]])
    advantage = standardised(rewards) if groups is None else per_group(rewards, groups)
    assert advantage.isnan().tolist() == [False, False, True, False, False]
    assert_close(advantage[[0, 1, 3, 4]], standardised(REWARDS), rtol=1e-12, atol=0)


def test_nothing_known_gives_nothing_known() -> None:
    unknown = torch.full((3,), NAN)
    assert standardised(unknown).isnan().all()
    assert per_group(unknown, [0, 0, 1]).isnan().all()


def test_a_flat_reward_with_unknown_ones_is_zero_where_known() -> None:
    rewards = torch.tensor([2.0, NAN, 2.0])
    for advantage in (standardised(rewards), per_group(rewards, [0, 0, 0])):
        assert advantage.nan_to_num(9).tolist() == [0, 9, 0]


def test_groups_are_compared_within_themselves() -> None:
    """Members of an easy group have no advantage over those of a hard one."""
    advantage = per_group(torch.tensor([1.0, 3.0, 101.0, 103.0]), [7, 7, -1, -1])
    assert_close(advantage, torch.tensor([-1.0, 1.0, -1.0, 1.0]), rtol=1e-6, atol=0)


def test_all_groups_share_one_scale() -> None:
    advantage = per_group(torch.tensor([0.0, 2.0, 0.0, 6.0]), [0, 0, 1, 1])
    assert_close(advantage, torch.tensor([-1.0, 1.0, -3.0, 3.0]) / 5**0.5, rtol=1e-6, atol=0)


def test_the_rewards_are_left_as_they_were() -> None:
    rewards = REWARDS.clone()
    standardised(rewards)
    per_group(rewards, [0, 0, 1, 1])
    assert (rewards == REWARDS).all()
