"""The share of signal of a gradient is estimated without bias, and its error is honest."""

import torch
from test_benchmarks import benchmark
from torch.testing import assert_close

signal = benchmark("gradient_signal")


def test_the_share_of_signal_is_the_squared_mean_over_the_mean_square() -> None:
    """Vectors of mean norm 1 and noise of total variance 3 have a share of 1/4; without a mean it is 0.

    The jackknife's variance is too large rather than too small (Efron and Stein 1981, doi:10.1214/aos/1176345462).
    """
    generator = torch.Generator().manual_seed(2)
    noise = (3 / 400) ** 0.5 * torch.randn(300, 12, 400, generator=generator)
    direction = torch.zeros(400).index_fill(0, torch.tensor([7]), 1.0)
    for mean, share in ((direction, 0.25), (torch.zeros(400), 0.0)):
        found = [signal.signal_of(list(mean + chunk)) for chunk in noise]
        shares = torch.tensor([one.share for one in found])
        errors = torch.tensor([one.error for one in found])
        assert abs(shares.mean() - share) < 4 * shares.std() / 300**0.5
        assert 0.9 < errors.square().mean().sqrt() / shares.std() < 1.6


def test_tensors_of_all_scales_count_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    chunks = [[torch.randn(5, 4, generator=generator), 1e4 * torch.randn(20, generator=generator)] for _ in range(12)]
    vectors = signal.normalised(chunks)
    assert_close(torch.stack(vectors)[:, :20].square().mean(), torch.tensor(1.0))
    assert_close(torch.stack(vectors)[:, 20:].square().mean(), torch.tensor(1.0))


def test_samples_that_do_not_count_have_no_advantage_and_no_say() -> None:
    rewards = torch.tensor([0.0, 0.5, 0.4, 0.6, 0.0])
    found, explained = signal.advantages(rewards, [9, 1, 2, 2, 30], rewards > 0)
    assert found[[0, 4]].tolist() == [0, 0]
    assert_close(found[1:4], torch.tensor([0.0, -(1.5**0.5), 1.5**0.5]))
    assert abs(explained) < 1e-6  # two sizes of the same mean
