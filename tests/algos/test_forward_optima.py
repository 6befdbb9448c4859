"""The fixed points of the forward-process family are right: draws of the chain they belong to agree with them."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from molrl.oracle.chain import Chain
from molrl.oracle.forward import (
    Score,
    adaptive_score,
    anchored,
    chain_of,
    nft_rounds,
    parameters,
    squared_score,
    tilt_rounds,
)
from molrl.oracle.linear_gaussian import BASE_MEAN, BASE_VARIANCE, LINEAR, QUADRATIC, make_sampler
from molrl.oracle.off_policy import Fit, Weigh, clipped, importance_weighted, proximal
from molrl.oracle.trial import noise_error
from molrl.schedule import alpha, sigma

F64 = torch.float64
COUNT = 200_000
SAMPLER = make_sampler()
REFERENCE = Chain.exact(SAMPLER, BASE_MEAN, BASE_VARIANCE)


def at_ratio_one(advantage: Tensor, log_ratio: Tensor) -> Tensor:
    return advantage


def without_ratio(advantage: Tensor, log_ratio: Tensor) -> Tensor:
    return advantage - log_ratio


class Draws:
    """Noisy states of draws from a chain, at every grid point but the prior's."""

    def __init__(self, chain: Chain) -> None:
        generator = torch.Generator().manual_seed(0)
        mean, variance = chain.marginal()
        self.x0 = mean + variance**0.5 * torch.randn(COUNT, generator=generator, dtype=F64)
        self.noise = torch.randn(10, COUNT, generator=generator, dtype=F64)
        a, s = (value[1:].unsqueeze(1) for value in (alpha(SAMPLER.log_snr), sigma(SAMPLER.log_snr)))
        self.x = a * self.x0 + s * self.noise

    def prediction(self, chain: Chain) -> Tensor:
        theta = parameters(SAMPLER, chain)[1:]
        predicted: Tensor = theta[:, :1] * self.x + theta[:, 1:]
        return predicted

    def is_balanced(self, residual: Tensor) -> bool:
        """Check that E[residual f] is zero for f = (x_t, 1), to four standard errors."""
        rows = torch.stack([residual * self.x, residual])
        return bool((rows.mean(-1).abs() <= 4 * rows.std(-1) / COUNT**0.5).all())


@pytest.mark.parametrize(("score", "weight"), [(squared_score, torch.ones_like), (adaptive_score, torch.reciprocal)])
def test_no_update_moves_the_anchored_fixed_point(score: Score, weight: Callable[[Tensor], Tensor]) -> None:
    """anchor (eps_theta - eps_ref) - A w(|u|) u has no linear part, u = eps - eps_theta; w is 1 or 1 / |u|."""
    fixed = anchored(SAMPLER, REFERENCE, QUADRATIC, 2.0, score)
    draws = Draws(fixed)
    u, reward = draws.noise - draws.prediction(fixed), QUADRATIC(draws.x0)
    advantage = reward - QUADRATIC.expected(fixed.marginal())
    moved = draws.prediction(fixed) - draws.prediction(REFERENCE)
    assert draws.is_balanced(2.0 * moved - advantage * weight(u.abs()) * u)
    assert not draws.is_balanced(1.5 * moved - advantage * weight(u.abs()) * u)


def test_a_round_of_nft_is_a_regression_on_the_chain_before() -> None:
    """b m (eps_theta - eps_old) = A (eps - eps_old), as far as a line can fit it."""
    before, after = (nft_rounds(SAMPLER, REFERENCE, LINEAR, 4.0, rounds) for rounds in (1, 2))
    draws = Draws(before)
    old, advantage = draws.prediction(before), draws.x0 - before.marginal().mean
    for strength, right in ((4.0, True), (3.0, False)):
        residual = strength * (draws.prediction(after) - old) - advantage * (draws.noise - old)
        assert draws.is_balanced(residual) == right


def test_a_round_of_tilt_matching_is_the_tilt_of_the_chain_before() -> None:
    """exp(h A) (eps - eps_theta) has no linear part where eps_old predicts the chain's own samples."""
    before, after = (tilt_rounds(SAMPLER, REFERENCE, LINEAR, 0.5, rounds) for rounds in (0, 1))
    draws = Draws(before)
    weight = (0.5 * (draws.x0 - before.marginal().mean)).exp()
    own, new = draws.prediction(before), draws.prediction(after)
    assert draws.is_balanced(new - own - (weight - 1) * (draws.noise - new))
    assert not draws.is_balanced(new - own - (weight.sqrt() - 1) * (draws.noise - new))


FITS = {
    "awm": (Fit(1.0, partial(clipped, 0.2), 1, adaptive=False), importance_weighted),  # another without its clip
    "epg": (Fit(1.0, importance_weighted, 3, adaptive=True), at_ratio_one),
    "pepg": (Fit(0.5, proximal, 3, adaptive=True), without_ratio),
}


@pytest.mark.parametrize("name", FITS)
def test_a_fit_away_from_the_old_policy_is_where_its_gradient_vanishes(name: str) -> None:
    """w(A, l) phi(u) - anchor (eps_theta - eps_old) has no linear part at the points that are trained."""
    fit, wrong = FITS[name]
    old = Draws(REFERENCE)
    after = fit.chain(SAMPLER, REFERENCE, LINEAR)
    u, before = (old.noise - old.prediction(chain) for chain in (after, REFERENCE))
    log_ratio = before.abs() - u.abs() if fit.adaptive else before.square() - u.square()
    advantage = (old.x0 - REFERENCE.marginal().mean).expand_as(u)

    def residual(weigh: Weigh) -> Tensor:
        force = weigh(advantage, log_ratio) * (u.sign() if fit.adaptive else u)
        value = force - fit.anchor * (old.prediction(after) - old.prediction(REFERENCE))
        return torch.cat([0 * value[: fit.first_trained - 1], value[fit.first_trained - 1 :]])

    assert old.is_balanced(residual(fit.weigh))
    assert not old.is_balanced(residual(wrong))
    another = replace(fit, weigh=wrong).chain(SAMPLER, REFERENCE, LINEAR)
    assert noise_error(SAMPLER, after, another) > 0.05  # tests of the oracle allow 0.03


def test_the_prior_is_left_as_it_is() -> None:
    for chain in (anchored(SAMPLER, REFERENCE, QUADRATIC, 2.0), tilt_rounds(SAMPLER, REFERENCE, LINEAR, 0.5, 3)):
        assert (parameters(SAMPLER, chain) - parameters(SAMPLER, REFERENCE))[0].abs().max() < 1e-12
        assert (
            parameters(SAMPLER, chain_of(SAMPLER, parameters(SAMPLER, chain))) - parameters(SAMPLER, chain)
        ).abs().max() < 1e-9
