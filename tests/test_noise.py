"""Noise is a function of its key: who else is drawn, in what order and how wide, is no part of it."""

import itertools

import pytest
import torch

from molrl.noise import Key

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


@pytest.mark.parametrize("n", [0, 1, 17])
def test_a_permutation_holds_every_number_once(n: int) -> None:
    assert sorted(KEY.permutation(n, -3).tolist()) == list(range(n))


def test_noise_is_single_precision_on_the_cpu() -> None:
    x = KEY.normal([0], 0, (2,))
    assert x.dtype == torch.float32
    assert x.device.type == "cpu"
