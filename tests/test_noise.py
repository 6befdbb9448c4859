"""Noise is a function of its key: who else is drawn, in what order and how wide, is no part of it."""

import itertools

import numpy as np
import pytest
import torch

from molrl.noise import ChainNoise, Draw, Key, Stream, normal_quantile

KEY = Key(seed=3, stream=1)


def test_noise_does_not_depend_on_the_batch_or_its_order() -> None:
    together = KEY.normal([0, 1, 2, 3], 5, (4, 3))
    assert (KEY.normal([3, 1], 5, (4, 3)) == together[[3, 1]]).all()
    assert (KEY.normal([2], 5, (4, 3)) == together[[2]]).all()


def test_padding_only_appends_noise() -> None:
    narrow, wide = KEY.normal([0, 7], 2, (4, 9)), KEY.normal([0, 7], 2, (11, 9))
    assert (wide[:, :4] == narrow).all()


def test_the_same_key_gives_the_same_noise() -> None:
    assert (Key(3, 1).normal([9], 2, (5,)) == KEY.normal([9], 2, (5,))).all()


def test_seed_stream_sample_and_step_each_make_other_noise() -> None:
    """Negative steps name draws that are not noise, and 64-bit numbers are told apart to the last bit."""
    big = 2**63
    seeds, streams, samples = (0, 1, -1, -2, big, big + 1), (0, 1, -1), (0, 1, big + 1)
    steps = (0, 1, 2, -1, -2, -3, -1000, -1001, big, big + 1)
    first = {
        Key(seed, stream).generator(sample, step).random()
        for seed, stream, sample, step in itertools.product(seeds, streams, samples, steps)
    }
    assert len(first) == len(seeds) * len(streams) * len(samples) * len(steps)


def test_a_child_is_another_stream_under_the_same_seed() -> None:
    assert KEY.child(8) == Key(seed=3, stream=8)


def test_noise_is_standard_normal_and_uncorrelated() -> None:
    x = KEY.normal(range(400), 1, (50,)).double()
    n = x.numel()
    assert abs(x.mean().item()) < 4 / n**0.5
    assert abs(x.square().mean().item() - 1) < 4 * (2 / n) ** 0.5
    assert abs((x**4).mean().item() - 3) < 4 * (96 / n) ** 0.5
    for other in (KEY.normal(range(400), 2, (50,)), KEY.normal(range(1, 401), 1, (50,))):
        assert abs((x * other).mean().item()) < 4 / n**0.5


def test_every_number_of_the_generator_has_a_finite_normal_one() -> None:
    """The extremes are quantiles 2^-54 and 1 - 2^-53, by tables of the normal law 8.2924 and 8.2095 stds away."""
    raw = np.array([0, 2**11 - 1, 2**11, 2**63, 2**64 - 2**11 - 1, 2**64 - 2**11, 2**64 - 1], dtype=np.uint64)
    normal = normal_quantile(raw)
    assert normal.isfinite().all()
    assert (normal.diff() >= 0).all()
    assert normal[[0, -1]].tolist() == pytest.approx([-8.2924, 8.2095], abs=1e-4)
    assert normal[3].item() == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("n", [0, 1, 17])
def test_a_permutation_holds_every_number_once(n: int) -> None:
    assert sorted(KEY.permutation(n, -3).tolist()) == list(range(n))


def test_noise_is_single_precision_on_the_cpu() -> None:
    x = KEY.normal([0], 0, (2,))
    assert x.dtype == torch.float32
    assert x.device.type == "cpu"


REALISTIC = range(60)  # steps, epochs, noisings and candidates of one key
HUGE = (992, 993, 10**4, 2**20, 2**30, 2**39, 2**40 - 1, 2**40, 2**40 + 1, 2**44, 2**47)
GUIDED = {Draw.CONTEXT, Draw.PRIOR, Draw.STEP, Draw.CHOICE, Draw.BALL}
TRAINED = set(Draw) - {Draw.CHOICE}


def numbers_of(member: Draw | Stream) -> list[int]:
    """Return the numbers of a member at realistic and huge indices; a member without an index has one."""
    return [member.at(index) for index in (*REALISTIC, *HUGE)] if member.room > 1 else [int(member)]


@pytest.mark.parametrize("members", [GUIDED, TRAINED, set(Stream)], ids=["guided", "trained", "stream"])
def test_draws_that_occur_under_one_key_never_share_a_number(members: set[Draw | Stream]) -> None:
    numbers = [number % 2**64 for member in members for number in numbers_of(member)]  # as Philox takes them
    assert len(set(numbers)) == len(numbers)


def test_every_index_of_a_member_has_a_number_of_its_own() -> None:
    for member in (Draw.SHUFFLE, Draw.CHOICE, Draw.REPLAY, Draw.NOISING):
        assert len({member.at(index) for index in range(2000)}) == 2000


def test_the_numbers_of_draws_are_those_that_runs_were_made_with() -> None:
    """Another number is other noise: no run of before could be repeated."""
    assert (Draw.CONTEXT, Draw.PRIOR, Draw.TRAIN_STEPS, Draw.SCORED_STEPS) == (0, 1, -1, -2)
    assert (Draw.HELD_STEPS, Draw.GRID) == (-3, -5)
    for k in REALISTIC:
        assert Draw.STEP.at(k) == k + 2
        assert Draw.CHOICE.at(k) == -7 - k
        assert Draw.NOISING.at(k) == -100 - k
        assert (Draw.BALL.at(2 * k), Draw.BALL.at(2 * k + 1)) == (-1000 - 2 * k, -1001 - 2 * k)
        assert (Stream.ROUND.at(k), Stream.DATA.at(k)) == (k + 1, -60 - k)
    assert [Draw.SHUFFLE.at(epoch) for epoch in range(40)] == list(range(-10, -50, -1))
    assert [Draw.REPLAY.at(k) for k in range(2)] == [-50, -51]
    assert (Stream.SAMPLING, Stream.MEASUREMENT) == (0, 2**62)


@pytest.mark.parametrize(("draw", "index"), [(Draw.SHUFFLE, -1), (Draw.SHUFFLE, 2**48), (Draw.GRID, 1)])
def test_an_index_that_a_draw_cannot_have_is_refused(draw: Draw, index: int) -> None:
    with pytest.raises(ValueError, match=f"Draw.{draw.name}: no index {index}"):
        draw.at(index)


def test_the_noise_of_a_chain_is_that_of_its_samples_under_the_key() -> None:
    noise = ChainNoise(KEY, [4, 7], (2, 3), torch.device("cpu"))
    assert (noise(0) == KEY.normal([4, 7], Draw.PRIOR, (2, 3))).all()
    assert (noise(3) == KEY.normal([4, 7], Draw.STEP.at(2), (2, 3))).all()
