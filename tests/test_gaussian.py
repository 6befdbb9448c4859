"""The Gaussian of a padded, centred batch is an ordinary Gaussian in an orthonormal basis of its subspace."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence
from torch.testing import assert_close

from molrl.gaussian import Context, Euclidean, Gaussian, MaskedPoints, Space

SIZES, WIDTH, CHANNELS = (4, 1, 3), 5, 5
STD = (0.3, 1.0, 2.5)
CONTEXT: Context = {"mask": torch.arange(WIDTH) < torch.tensor(SIZES)[:, None]}


def randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(seed: int, space: Space, std: tuple[float, ...] = STD) -> Gaussian:
    mean = space.project(randn(seed, len(SIZES), WIDTH, CHANNELS), CONTEXT)
    return Gaussian(mean, torch.tensor(std, dtype=torch.float64), space, CONTEXT)


def basis(row: int) -> Tensor:
    """Return orthonormal columns that span the subspace of one sample, from the matrix of its projection."""
    unit = torch.eye(WIDTH * CHANNELS, dtype=torch.float64).view(-1, WIDTH, CHANNELS)
    context = {"mask": CONTEXT["mask"][row].expand(len(unit), -1)}
    matrix = MaskedPoints().project(unit, context).flatten(1)
    assert_close(matrix, matrix.T, rtol=0, atol=1e-14)  # orthogonal, not oblique
    assert_close(matrix @ matrix, matrix, rtol=0, atol=1e-14)
    values, vectors = torch.linalg.eigh(matrix)
    inside: Tensor = vectors[:, values > 0.5]
    return inside


def repeated(p: Gaussian, times: int) -> Gaussian:
    """Repeat the distributions along the batch: [times * b, ...]."""
    context = {"mask": CONTEXT["mask"].repeat(times, 1)}
    return Gaussian(p.mean.repeat(times, 1, 1), p.std.repeat(times), p.space, context)


def in_basis(p: Gaussian, row: int) -> Distribution:
    mean = p.mean[row].flatten() @ basis(row)
    return Independent(Normal(mean, p.std[row].expand_as(mean)), 1)


def test_the_degrees_of_freedom_are_the_dimension_of_the_subspace() -> None:
    p = gaussian(0, MaskedPoints())
    assert p.dof.tolist() == [basis(row).shape[1] for row in range(len(SIZES))]
    assert p.dof.tolist() == [3 * (n - 1) + (CHANNELS - 3) * n for n in SIZES]


def test_a_molecule_of_edm_has_nine_n_minus_three_degrees_of_freedom() -> None:
    mask = torch.arange(29) < torch.tensor([[29], [18], [9]])
    assert MaskedPoints().dof(torch.zeros(3, 29, 9), {"mask": mask}).tolist() == [258, 159, 78]


def test_every_entry_of_an_image_is_a_degree_of_freedom() -> None:
    assert Euclidean().dof(torch.zeros(2, 3, 4, 4), {}).tolist() == [48, 48]


def test_log_prob_is_the_density_on_the_subspace() -> None:
    p = gaussian(0, MaskedPoints())
    y = p.sample(randn(1, *p.mean.shape))
    for row, value in enumerate(p.log_prob(y)):
        assert_close(value, in_basis(p, row).log_prob(y[row].flatten() @ basis(row)), rtol=0, atol=1e-11)


def test_kl_is_the_divergence_on_the_subspace() -> None:
    p, q = gaussian(0, MaskedPoints()), gaussian(1, MaskedPoints(), (0.7, 1.0, 0.9))
    for row, value in enumerate(p.kl(q)):
        assert_close(value, kl_divergence(in_basis(p, row), in_basis(q, row)), rtol=1e-12, atol=0)


def test_kl_is_the_mean_log_ratio_of_samples() -> None:
    p, q = gaussian(0, Euclidean()), gaussian(1, Euclidean(), (0.7, 1.0, 2.0))
    many = repeated(p, 4000)
    y = many.sample(randn(2, *many.mean.shape))
    draws = (many.log_prob(y) - repeated(q, 4000).log_prob(y)).view(4000, -1)
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - p.kl(q)).abs() < 4 * error).all()


@pytest.mark.parametrize("space", [Euclidean(), MaskedPoints()], ids=lambda s: type(s).__name__)
def test_a_distribution_is_at_no_distance_from_itself(space: Space) -> None:
    p = gaussian(0, space)
    assert_close(p.kl(p), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-14)


def test_samples_and_the_log_prob_at_the_mean_ignore_what_is_outside_of_the_subspace() -> None:
    p = gaussian(0, MaskedPoints())
    noise = randn(1, *p.mean.shape)
    outside = torch.where(CONTEXT["mask"][..., None], torch.tensor([5.0, 6.0, 7.0, 0.0, 0.0]), 9.0)
    assert_close(p.sample(noise + outside), p.sample(noise), rtol=0, atol=1e-13)


def test_samples_stay_in_the_subspace() -> None:
    p = gaussian(0, MaskedPoints())
    y = p.sample(randn(1, *p.mean.shape))
    assert (y[~CONTEXT["mask"]] == 0).all()
    assert_close(y[..., :3].sum(1), torch.zeros(3, 3, dtype=torch.float64), rtol=0, atol=1e-13)


def test_samples_have_the_stated_spread() -> None:
    p = gaussian(0, MaskedPoints())
    many = repeated(p, 4000)
    square = (many.sample(randn(3, *many.mean.shape)) - many.mean).square().sum((1, 2)).view(4000, -1)
    assert_close(square.mean(0), p.dof * p.std**2, rtol=0.05, atol=0)


def test_padding_changes_nothing() -> None:
    p, q = gaussian(0, MaskedPoints()), gaussian(1, MaskedPoints())
    y = p.sample(randn(2, *p.mean.shape))
    widened = [torch.cat([x, torch.zeros(3, 2, CHANNELS, dtype=torch.float64)], 1) for x in (p.mean, q.mean, y)]
    context = {"mask": torch.cat([CONTEXT["mask"], torch.zeros(3, 2, dtype=torch.bool)], 1)}
    wide_p, wide_q = (Gaussian(mean, p.std, MaskedPoints(), context) for mean in widened[:2])
    assert_close(wide_p.log_prob(widened[2]), p.log_prob(y), rtol=1e-13, atol=0)
    assert_close(wide_p.kl(wide_q), p.kl(q), rtol=1e-13, atol=0)


def test_a_row_without_noise_has_no_density_and_spoils_no_gradient() -> None:
    """Its log-probability counts as zero, wherever the state is; other rows keep theirs."""
    mean = randn(0, len(SIZES), WIDTH, CHANNELS).requires_grad_()
    mixed = Gaussian(
        MaskedPoints().project(mean, CONTEXT), torch.tensor([0.3, 0.0, 2.5]).double(), MaskedPoints(), CONTEXT
    )
    y = randn(1, len(SIZES), WIDTH, CHANNELS)
    log_prob = mixed.log_prob(y)
    assert mixed.stochastic.tolist() == [True, False, True]
    assert log_prob[1] == 0
    assert_close(log_prob[::2], replace(mixed, std=torch.tensor(STD).double()).log_prob(y)[::2])
    (gradient,) = torch.autograd.grad(log_prob.sum(), mean)
    assert gradient.isfinite().all()
    assert not gradient[1].any()


def test_the_divergence_of_point_masses_is_zero_or_infinite() -> None:
    """Equal ones; different ones; a point mass from a normal law; a normal law from a point mass."""
    mean, other = torch.zeros(4, 2), torch.tensor([[0.0, 0.0], [0.0, 0.1], [0.0, 0.0], [0.0, 0.0]])
    one = Gaussian(mean, torch.tensor([0.0, 0.0, 0.0, 1.0]), Euclidean(), {})
    two = Gaussian(other, torch.tensor([0.0, 0.0, 1.0, 0.0]), Euclidean(), {})
    assert one.kl(two).tolist() == [0.0, math.inf, math.inf, math.inf]
