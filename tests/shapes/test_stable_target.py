"""Stable targets have the optimum of plain ones, with nearly all of the noise gone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from molrl.data.shapes.procedural import Procedural
from molrl.gaussian import Euclidean
from molrl.models.precondition import Preconditioned
from molrl.models.shapes.latent_transformer import LatentTransformer
from molrl.models.shapes.set_transformer import SetTransformer
from molrl.models.shapes.stable_target import Pools, StableLoss, posterior_mean
from molrl.pretraining import denoising_loss
from molrl.schedule import LogLinear
from molrl.testing.denoisers import perturb_parameters

F64 = torch.float64
SCHEDULE = LogLinear(0.02, 20.0)
POINTS, POOL = 16, 512


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def level(noise: float, clouds: int = 1) -> Tensor:
    return torch.full((clouds, 1, 1), noise, dtype=F64)


def test_between_two_points_it_is_a_hyperbolic_tangent() -> None:
    """Pool {-a, a}: E[x_0 | y] = a tanh(a . y / s^2)."""
    a = torch.tensor([0.3, -0.5, 0.2], dtype=F64)
    y = torch.randn(1, 40, 3, generator=generator(0), dtype=F64)
    for noise in (0.2, 1.0, 7.0):
        expected = a * torch.tanh(y @ a / noise**2)[..., None]
        assert_close(posterior_mean(y, torch.stack([a, -a])[None], level(noise)), expected)


def test_it_is_the_point_itself_without_noise_and_the_mean_with_nothing_else() -> None:
    pool = torch.randn(2, 50, 3, generator=generator(0), dtype=F64)
    assert_close(posterior_mean(pool[:, :9], pool, level(1e-3, 2)), pool[:, :9])
    far = posterior_mean(1e5 * torch.randn(2, 9, 3, generator=generator(1), dtype=F64), pool, level(1e5, 2))
    assert_close(far, pool.mean(1, keepdim=True).expand(-1, 9, -1), atol=1e-4, rtol=0)


def test_half_precision_of_the_network_does_not_touch_it() -> None:
    y, pool = torch.randn(2, 9, 3, generator=generator(0)), torch.randn(2, 50, 3, generator=generator(1))
    noise = torch.tensor([0.05, 0.5]).view(2, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = posterior_mean(y, pool, noise)
    assert torch.equal(inside, posterior_mean(y, pool, noise))


def table() -> Tensor:
    """Return the points [POOL, 3] of one procedural table, which is no simple set, at about unit scale."""
    pytest.importorskip("manifold3d", reason="procedural shapes need the extra shapes")
    points = torch.from_numpy(Procedural(families=("table",)).point_cloud(1, POOL).points).double()
    return (points - points.mean(0)) / points.std()


@pytest.mark.parametrize("noise", [0.1, 0.4, 1.5])
@pytest.mark.parametrize(
    "view",
    [lambda y: y, lambda y: y.tanh() * y[..., :1], lambda y: y.roll(1, 1), lambda y: (y / 0.3).sin()],
    ids=["itself", "squared", "neighbour", "wave"],
)
def test_what_it_leaves_out_is_noise(view: Callable[[Tensor], Tensor], noise: float) -> None:
    """E[(x_0 - E[x_0 | y, pool]) f(all y)] = 0: nothing that could be learned from the noisy cloud is missing."""
    pool, draw = table(), generator(0)
    rows = torch.stack([torch.randperm(POOL, generator=draw)[:POINTS] for _ in range(3000)])
    x0 = pool[rows]
    y = x0 + noise * torch.randn(x0.shape, generator=draw, dtype=F64)
    missing = x0 - posterior_mean(y, pool.expand(len(y), -1, -1), level(noise, len(y)))
    product = (missing * view(y)).mean(1)
    z = product.mean(0) / (product.std(0) / len(product) ** 0.5)
    assert z.abs().max() < 4.0


def network() -> Preconditioned:
    torch.manual_seed(0)
    raw = SetTransformer(classes=0, width=8, layers=1, inducers=4, heads=2)
    for parameter in raw.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape)
    return Preconditioned(raw, SCHEDULE, [1.0, 1.0, 1.0]).double()


def test_gradients_agree_on_average_and_differ_in_their_noise() -> None:
    """Of the same clouds at the same noise: the mean of the difference is its standard error, its spread the noise."""
    model, pool, draw, clouds = network(), table(), generator(1), 256
    weights = list(model.parameters())
    stable, plain = [], []
    for _ in range(60):
        order = torch.stack([torch.randperm(POOL, generator=draw) for _ in range(clouds)])
        pools, t = pool[order], 0.4 + 0.4 * torch.rand(clouds, generator=draw, dtype=F64)
        noise = torch.randn(pools.shape, generator=draw, dtype=F64)
        loss = StableLoss(POINTS)(model, Euclidean(), pools, t, noise, {}).mean()
        stable.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)]))
        loss = denoising_loss(model, Euclidean(), pools[:, :POINTS], t, noise[:, :POINTS], {}).mean()
        plain.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)]))
    one, other = torch.stack(stable), torch.stack(plain)
    difference = one - other
    z = difference.mean(0) / (difference.std(0) / len(one) ** 0.5).clamp(min=1e-12)
    assert 0.7 < z.square().mean().sqrt() < 1.3
    assert difference.mean(0).norm() < 0.1 * one.mean(0).norm()
    assert one.var(0).sum() < other.var(0).sum() / 3


def test_the_loss_of_the_points_that_are_written_is_that_of_a_network_that_writes_all() -> None:
    """The mean of the losses of the two halves of a cloud is the loss of the cloud."""
    torch.manual_seed(0)
    raw = LatentTransformer(classes=0, width=8, latents=4, latent_width=16, blocks=2, layers=1, heads=2)
    model = Preconditioned(perturb_parameters(raw), SCHEDULE, [1.0, 1.0, 1.0]).double()
    draw = generator(2)
    pools = table()[torch.stack([torch.randperm(POOL, generator=draw) for _ in range(3)])]
    noise, t = torch.randn(pools.shape, generator=draw, dtype=F64), torch.tensor([0.3, 0.5, 0.7], dtype=F64)
    order = torch.cat([torch.arange(POINTS // 2, POINTS), torch.arange(POINTS // 2), torch.arange(POINTS, POOL)])
    half = StableLoss(POINTS, POINTS // 2)
    halves = [half(model, Euclidean(), pools[:, rows], t, noise[:, rows], {}) for rows in (torch.arange(POOL), order)]
    every = StableLoss(POINTS)(model, Euclidean(), pools, t, noise, {})
    assert_close(torch.stack(halves).mean(0), every)
    assert (halves[0] - halves[1]).abs().min() > 1e-6


def test_the_clouds_of_a_pool_share_no_point() -> None:
    x0 = torch.arange(3 * 10).view(3, 10, 1).expand(-1, -1, 3).float()
    pools = Pools(x0, {"class": torch.tensor([5, 6, 7])}, 4)
    assert len(pools) == 6
    drawn, context = pools.rows(torch.tensor([3, 2, 5]))
    assert context["class"].tolist() == [6, 6, 7]
    assert drawn[:, :4, 0].tolist() == [[14, 15, 16, 17], [10, 11, 12, 13], [24, 25, 26, 27]]
    assert [sorted(row) for row in drawn[..., 0].tolist()] == [sorted(x0[row, :, 0].tolist()) for row in (1, 1, 2)]
