"""Shaped rewards: the factors by hand, and what no factor may do to a reward."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from molrl.diversity import Diversity
from molrl.diversity.buckets import BucketPenalty
from molrl.diversity.frequencies import InverseFrequency
from molrl.diversity.shaped_reward import ShapedReward

NAN = math.nan
REWARDS = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=12)


def buckets(texts: str) -> list[Mapping[str, str]]:
    """Return samples with the bucket that each letter names; a dot is no sound sample."""
    return [{} if text == "." else {"bucket": text} for text in texts]


def penalty(size: float = 6.0, decay: float = 1.0, floor: float | None = None) -> Diversity:
    return Diversity(floor, BucketPenalty("bucket", size, decay), None)


def frequency(
    target: Any = "uniform", strength: float = 1.0, cap: float = 100.0, names: Sequence[str] = ("bucket",)
) -> Diversity:
    return Diversity(None, None, InverseFrequency(names, target, 1, strength, 1.0, cap))


def both() -> Diversity:
    return Diversity(None, BucketPenalty("bucket", 6.0, 1.0), InverseFrequency(["bucket"], "uniform", 1, 1.0, 1.0, 3.0))


def test_the_penalty_is_the_published_tangent_of_the_other_samples() -> None:
    """Buckets of three, one and one; in the next round the first has four others: 1 - tanh(3 n / 6)."""
    shaper = penalty()
    one = shaper.shape_round(buckets("aaabc"), torch.ones(5))
    full = 1 - math.tanh(1.0)
    assert_close(one, torch.tensor([full, full, full, 1, 1]))
    two = shaper.shape_round(buckets("aad"), torch.ones(3))
    assert_close(two, torch.tensor([1 - math.tanh(2.0), 1 - math.tanh(2.0), 1]))


def test_a_memory_that_fades_lets_a_bucket_open_again() -> None:
    shaper = penalty(decay=0.5)
    shaper.shape_round(buckets("aaaa"), torch.ones(4))
    assert_close(shaper.shape_round(buckets("a"), torch.ones(1)), torch.tensor([1 - math.tanh(3 * 2 / 6)]))


def test_a_reward_is_divided_by_the_share_of_its_bucket() -> None:
    """Shares 3/4 and 1/4: weights 4/3 and 4, over their mean (3 x 4/3 + 4) / 4 = 2."""
    got = frequency().shape_round(buckets("aaab"), torch.tensor([1.0, 2.0, 3.0, 1.0]))
    assert_close(got, torch.tensor([2 / 3, 4 / 3, 2.0, 2.0]))


def test_the_strength_is_a_power_and_the_cap_a_bound() -> None:
    """Weights (4/3)^1/2 and 2, over their mean (3 x 1.1547 + 2) / 4 = 1.3660."""
    root = frequency(strength=0.5).shape_round(buckets("aaab"), torch.ones(4))
    assert_close(root, torch.tensor([0.8453, 0.8453, 0.8453, 1.4641]), rtol=0, atol=1e-4)
    capped = frequency(cap=1.5).shape_round(buckets("aaab"), torch.ones(4))
    assert_close(capped, torch.tensor([2 / 3, 2 / 3, 2 / 3, 1.5]))


def test_shares_of_the_pretrained_model_are_the_ones_that_are_wanted() -> None:
    """Wanted 1/4 of b; of late 2 + 1 of 8: weights (3/4)/(5/8) and (1/4)/(3/8), over the mean of 6/5 and 2 x 2/3."""
    shaper = frequency("reference")
    shaper.set_reference(buckets("aaab"))
    got = shaper.shape_round(buckets("aabb"), torch.ones(4))
    mean = (2 * 6 / 5 + 2 * 2 / 3) / 4
    assert_close(got, torch.tensor([6 / 5, 6 / 5, 2 / 3, 2 / 3]) / mean)


def test_weights_of_several_descriptors_multiply() -> None:
    samples = [{"x": "p", "y": "u"}, {"x": "p", "y": "v"}, {"x": "q", "y": "v"}]
    got = frequency(names=("x", "y")).shape_round(samples, torch.ones(3))
    weights = torch.tensor([1.5 * 3, 1.5 * 1.5, 3 * 1.5])
    assert_close(got, weights / weights.mean())


def test_shares_as_wanted_leave_the_rewards_alone() -> None:
    shaper = frequency("reference")
    shaper.set_reference(buckets("aaab"))
    rewards = torch.tensor([0.1, 0.7, 0.3, 0.2])
    assert_close(shaper.shape_round(buckets("aaab"), rewards), rewards)


@pytest.mark.parametrize("make", [penalty, frequency, both])
def test_a_sample_at_the_floor_stays_there_however_often_it_comes(make: Any) -> None:
    """Negative rewards: the least of all is the floor, so that a duplicate of a bad sample never gains."""
    got = make().shape_round(buckets("aaaab"), torch.tensor([-8.0, -8.0, -8.0, -8.0, -2.0]))
    assert_close(got[:4], torch.full((4,), -8.0))
    assert got[4] > -8


@given(REWARDS, st.data())
def test_no_factor_takes_a_reward_below_the_floor_or_changes_an_order_within_a_bucket(
    values: list[float], data: st.DataObject
) -> None:
    texts = data.draw(st.text("abc.", min_size=len(values), max_size=len(values)))
    shaper, rewards = both(), torch.tensor(values)
    got = shaper.shape_round(buckets(texts), rewards)
    assert (got >= shaper.least - 1e-4).all()
    for text in "abc":
        rows = [row for row, other in enumerate(texts) if other == text]
        ordered = got[rows][rewards[rows].argsort(stable=True)]
        assert (ordered.diff() >= -1e-4).all()


@given(REWARDS, st.data())
def test_the_order_of_the_samples_does_not_matter(values: list[float], data: st.DataObject) -> None:
    texts = data.draw(st.text("abc.", min_size=len(values), max_size=len(values)))
    order = data.draw(st.permutations(range(len(values))))
    rewards, samples = torch.tensor(values), buckets(texts)
    straight = both().shape_round(samples, rewards)
    permuted = both().shape_round([samples[row] for row in order], rewards[list(order)])
    assert_close(permuted, straight[list(order)])


def test_lost_and_unsound_samples_are_not_remembered() -> None:
    shaper = penalty(floor=0.0)
    got = shaper.shape_round(buckets("aa.a"), torch.tensor([1.0, NAN, 0.5, 0.0]))
    assert_close(got, torch.tensor([1.0, NAN, 0.5, 0.0]), equal_nan=True)
    assert shaper.penalty is not None
    assert shaper.penalty.counts.total == 1


def test_a_round_without_any_reward_passes() -> None:
    got = both().shape_round(buckets("ab"), torch.tensor([NAN, NAN]))
    assert got.isnan().all()


def test_candidates_are_shaped_by_the_memory_and_leave_it_alone() -> None:
    shaper = penalty()
    shaper.shape_round(buckets("aa"), torch.ones(2))
    before = {name: value.clone() for name, value in shaper.state_dict().items()}
    got = shaper.shape(buckets("ab"), torch.ones(2))
    assert_close(got, torch.tensor([1 - math.tanh(1.0), 1.0]))
    assert all(torch.equal(before[name], value) for name, value in shaper.state_dict().items())


def test_a_gradient_passes_with_the_factor_as_a_constant() -> None:
    shaper = penalty()
    shaper.shape_round(buckets("aa"), torch.ones(2))
    x = torch.tensor([2.0, 3.0], requires_grad=True)
    shaper.shape(buckets("ab"), x**2).sum().backward()
    assert_close(x.grad, torch.tensor([4.0 * (1 - math.tanh(1.0)), 6.0]))


def test_a_reward_with_workers_is_still_submitted() -> None:
    class Slow:
        def submit(self, samples: Sequence[str]) -> Any:
            return lambda: self(samples)

        def __call__(self, samples: Sequence[str]) -> Tensor:
            return torch.ones(len(samples))

    shaped = ShapedReward(Slow(), lambda samples: buckets("".join(samples)), penalty())
    assert shaped.submit is not None
    assert_close(shaped.submit(["a", "b"])(), torch.ones(2))
    assert not shaped.differentiable
    assert ShapedReward(Slow().__call__, buckets, penalty()).submit is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((NAN, BucketPenalty("bucket", 6, 1.0), None), "floor: got nan"),
        ((None, None, None), "both are null"),
    ],
)
def test_wrong_settings_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Diversity(*arguments)


def test_wrong_settings_of_a_factor_are_refused() -> None:
    with pytest.raises(ValueError, match="size: got 0"):
        BucketPenalty("bucket", 0, 1.0)
    for names, strength, cap, message in (
        ([], 1.0, 3.0, "names: got"),
        (["a", "a"], 1.0, 3.0, "names: got"),
        (["a"], 0.0, 3.0, "strength: got 0"),
        (["a"], 1.0, 1.0, "cap: got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            InverseFrequency(names, "uniform", 1, strength, 1.0, cap)
    with pytest.raises(ValueError, match="reference_samples: got 0"):
        InverseFrequency(["a"], "reference", 0, 1.0, 1.0, 3.0)


def test_a_model_without_a_sound_sample_has_no_shares() -> None:
    with pytest.raises(ValueError, match="none of 2 samples of the model is sound"):
        frequency("reference").set_reference(buckets(".."))
