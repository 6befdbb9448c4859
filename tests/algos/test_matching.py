"""The forward-process losses: what a complete fit at one noisy state gives, in closed form, and what all share."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close
from toy import learner, randn

from molrl.advantages import Centred
from molrl.algos.awm import AWM
from molrl.algos.epg import EPG, PEPG, lower_bound
from molrl.algos.matching import AdvantageMatching, Errors
from molrl.algos.nft import NFT
from molrl.algos.ram import RAM
from molrl.algos.tilt import Tilt
from molrl.gaussian import Context, Euclidean
from molrl.oracle.linear_gaussian import make_sampler
from molrl.policy import Policy
from molrl.trajectory import Noised

F64 = torch.float64
DIMS = 3
COMMON: dict[str, Any] = {
    **{"advantage": Centred(), "advantage_clip": 4.0, "noisings": 4, "first": 0.0, "last": 1.0},
    **{"held": 0, "decay": 0.0, "old_weight": 0.0, "reference_weight": 0.0, "data_weight": 0.0},
}
LOSSES: dict[str, Callable[..., AdvantageMatching]] = {
    "nft": lambda **changes: NFT(**{**COMMON, "mixing": 1.0, **changes}),
    "awm": lambda **changes: AWM(**{**COMMON, "clip": 0.5, **changes}),
    "epg": lambda **changes: EPG(**{**COMMON, **changes}),
    "pepg": lambda **changes: PEPG(**{**COMMON, **changes}),
    "ram": lambda **changes: RAM(**{**COMMON, "temperature": 4.5, **changes}),
    "tilt": lambda **changes: Tilt(**{**COMMON, "tilt_step": 0.2, "implicit": True, **changes}),
    "explicit tilt": lambda **changes: Tilt(**{**COMMON, "tilt_step": 0.2, "implicit": False, **changes}),
}


class Point(nn.Module):
    """A denoiser that predicts one noise, to be learned: the value at a fixed x_t."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value.clone())

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        return self.value.expand_as(x)


def state(count: int = 40, seed: int = 0, scale: float = 1.0) -> Noised:
    """Return correlated draws of (eps, A) at one x_t; the old prediction is the mean of eps, as a fit would have it."""
    eps = 0.3 + randn(count, DIMS, seed=seed)
    advantage = scale * (0.8 * eps[:, 0] - 0.5 * eps[:, 1] + 0.6 * randn(count, seed=seed + 1)).clamp(-4, 4)
    old = eps.mean(0).expand_as(eps)
    reference = old + 0.2
    rows = torch.arange(count)
    return Noised(0 * eps, eps, torch.zeros(count).long(), advantage, rows, {}, old=old, reference=reference)


def gradient(algorithm: AdvantageMatching, batch: Noised, value: Tensor) -> Tensor:
    """Compute d times the gradient of the loss in the prediction at x_t."""
    policy = Policy(Point(value), make_sampler())
    loss, _ = algorithm.loss(learner(policy), batch)
    (slope,) = torch.autograd.grad(loss, policy.denoiser.value)  # type: ignore[attr-defined]
    return slope * DIMS


def complete_fit(algorithm: AdvantageMatching, batch: Noised) -> Tensor:
    """Return where the gradient vanishes; it is affine in the prediction, with one slope for all coordinates."""
    start = torch.zeros(DIMS, dtype=F64)
    first, second = gradient(algorithm, batch, start), gradient(algorithm, batch, start + 1)
    fit = start - first / (second - first)
    assert gradient(algorithm, batch, fit).abs().max() < 1e-10
    return fit


def covariance(advantage: Tensor, noise: Tensor) -> Tensor:
    return (advantage.unsqueeze(1) * (noise - noise.mean(0))).mean(0)


@settings(max_examples=20, deadline=None)
@given(mixing=st.floats(0.05, 5.0), bound=st.floats(0.5, 10.0), seed=st.integers(0, 1000))
def test_a_complete_fit_of_nft_moves_by_the_covariance_over_b_m(mixing: float, bound: float, seed: int) -> None:
    batch = state(seed=seed)
    fit = complete_fit(LOSSES["nft"](mixing=mixing, advantage_clip=bound), batch)
    old = batch.target.mean(0)
    assert_close(fit, old + covariance(batch.weight, batch.target) / (mixing * bound), rtol=1e-9, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(temperature=st.floats(4.5, 50.0), seed=st.integers(0, 1000))
def test_a_complete_fit_of_ram_is_its_fixed_point(temperature: float, seed: int) -> None:
    """eps* = (eps_ref + E[R eps]) / (1 + E[R])."""
    batch = state(seed=seed)
    tilt = batch.weight / temperature
    expected = (batch.target.mean(0) + 0.2 + (tilt.unsqueeze(1) * batch.target).mean(0)) / (1 + tilt.mean())
    assert_close(complete_fit(LOSSES["ram"](temperature=temperature), batch), expected, rtol=1e-9, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(step=st.floats(0.01, 3.0), seed=st.integers(0, 1000))
def test_a_complete_fit_of_tilt_matching_is_the_tilted_mean(step: float, seed: int) -> None:
    """E[exp(h A) eps] / E[exp(h A)] whatever h; the explicit form is its first order, eps_old + h Cov(A, eps)."""
    batch = state(seed=seed)
    weight = (step * batch.weight).exp().unsqueeze(1)
    tilted = (weight * batch.target).mean(0) / weight.mean()
    assert_close(complete_fit(LOSSES["tilt"](tilt_step=step), batch), tilted, rtol=1e-8, atol=1e-8)
    first_order = batch.target.mean(0) + step * covariance(batch.weight, batch.target)
    assert_close(complete_fit(LOSSES["explicit tilt"](tilt_step=step), batch), first_order, rtol=1e-9, atol=1e-9)


def test_small_advantages_move_awm_by_the_covariance_over_the_anchor() -> None:
    """eps_old + Cov(A, eps) / kappa to first order in A; the loss itself is not quadratic."""
    batch = state(scale=1e-5)
    moved = complete_step(LOSSES["awm"](old_weight=0.7), batch) - batch.target.mean(0)
    assert_close(moved / 1e-5, covariance(batch.weight, batch.target) / 0.7 / 1e-5, rtol=1e-3, atol=1e-4)


def test_small_advantages_move_pepg_as_a_regression_of_a_on_the_log_ratio() -> None:
    """E[(A - g.move) u / |u|_1] = 0, where g.move is l to first order, g = 2 u / |u|_1 - |u|^2 sign(u) / |u|_1^2.

    With the plain error in the place of the adaptive one it would be E[u u^T]^-1 Cov(A, eps) / 2.
    """
    batch = state(scale=1e-5)
    u, old = batch.target - batch.target.mean(0), batch.target.mean(0)
    size = u.abs().sum(1, keepdim=True)
    slope = 2 * u / size - u.square().sum(1, keepdim=True) * u.sign() / size**2
    regression = (u / size).T @ slope / len(u)
    expected = torch.linalg.solve(regression, (batch.weight.unsqueeze(1) * u / size).mean(0))
    moved = complete_step(LOSSES["pepg"](), batch) - old
    assert_close(moved / 1e-5, expected / 1e-5, rtol=1e-3, atol=1e-4)


def complete_step(algorithm: AdvantageMatching, batch: Noised) -> Tensor:
    """Return the minimum of a loss that is nearly quadratic, by Newton's method from the old prediction."""
    value = batch.target.mean(0)
    for _ in range(5):
        first = gradient(algorithm, batch, value)
        unit = 1e-6 * torch.eye(DIMS, dtype=F64)
        slopes = torch.stack([(gradient(algorithm, batch, value + e) - first) / 1e-6 for e in unit], 1)
        value = value - torch.linalg.solve(slopes, first)
    return value


@pytest.mark.parametrize("name", LOSSES)
def test_all_losses_share_their_first_direction(name: str) -> None:
    """At eps_theta = eps_old the gradient is -2 A u; that of the bounds has each row's adaptive weight."""
    batch = state()
    old, u = batch.target.mean(0), batch.target - batch.target.mean(0)
    if name == "ram":
        batch = Noised(**{**vars(batch), "reference": batch.old})
    scale = {"ram": 1 / 4.5, "explicit tilt": 0.2}.get(name, 1.0)
    strength = (0.2 * batch.weight).expm1() if name == "tilt" else scale * batch.weight
    if name in ("epg", "pepg"):
        strength = strength / u.abs().mean(1)
    expected = -2 * (strength.unsqueeze(1) * u).mean(0)
    assert_close(gradient(LOSSES[name](), batch, old), expected, rtol=1e-9, atol=1e-12)


def test_pepg_has_the_gradient_of_par() -> None:
    """PAR: sg(exp(l)) (A - (E - E_old))^2 / 2, by automatic differentiation, far from the old policy too."""
    batch, error = state(), Errors(Euclidean(), {})
    for seed in range(5):
        value = (batch.target.mean(0) + 0.5 * randn(DIMS, seed=seed)).requires_grad_()
        bound = lower_bound(value.expand_as(batch.target), batch, error)
        log_ratio = bound - lower_bound(batch.target.mean(0).expand_as(batch.target), batch, error)
        par = (log_ratio.detach().exp() * (batch.weight - log_ratio).square() / 2).mean()
        (expected,) = torch.autograd.grad(par, value)
        assert_close(gradient(LOSSES["pepg"](), batch, value.detach()), DIMS * expected, rtol=1e-9, atol=1e-12)


def test_the_published_form_of_nft_is_that_of_both_sides() -> None:
    """Written out for one row: b = 0.5, m = 2, A = 1, eps_old = 0, eps_theta = 0.4, eps = 1: r = 3/4."""
    one = torch.ones(1, 1, dtype=F64)
    batch = Noised(0 * one, one, torch.zeros(1).long(), one[0], torch.arange(1), {}, old=0 * one)
    loss, facts = LOSSES["nft"](mixing=0.5, advantage_clip=2.0).loss(
        learner(Policy(Point(torch.tensor([0.4], dtype=F64)), make_sampler())), batch
    )
    assert loss.item() == pytest.approx(2 / 0.5 * (0.75 * 0.8**2 + 0.25 * 1.2**2))
    assert facts["moved"].item() == pytest.approx(0.16)
    assert facts["denoising_error"].item() == pytest.approx(0.36)


def test_awm_stops_at_its_clip_on_the_good_side_alone() -> None:
    """A > 0: no gradient once exp(l) > 1 + c; A < 0: none once exp(l) < 1 - c; elsewhere there is one."""
    one = torch.ones(1, 1, dtype=F64)
    for advantage, value, still in ((1.0, 0.9, True), (1.0, -0.9, False), (-1.0, -0.9, True), (-1.0, 0.9, False)):
        row = Noised(0 * one, one, torch.zeros(1).long(), advantage * one[0], torch.arange(1), {}, old=0 * one)
        policy = Policy(Point(torch.tensor([value], dtype=F64)), make_sampler())
        loss, facts = LOSSES["awm"](clip=0.2).loss(learner(policy), row)
        (slope,) = torch.autograd.grad(loss, policy.denoiser.value)  # type: ignore[attr-defined]
        assert (slope.item() == 0) == still
        assert facts["log_ratio"].item() == pytest.approx(1 - (1 - value) ** 2)
        assert facts["clipped"].item() == 1


@pytest.mark.parametrize("name", LOSSES)
def test_anchors_add_their_squared_distances(name: str) -> None:
    batch, value = state(), torch.tensor([0.1, -0.2, 0.3], dtype=F64)
    plain = gradient(LOSSES[name](), batch, value)
    for anchor, centre in (("old_weight", batch.target.mean(0)), ("reference_weight", batch.target.mean(0) + 0.2)):
        anchored = gradient(LOSSES[name](**{anchor: 0.7}), batch, value)
        assert_close(anchored - plain, 1.4 * (value - centre), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_without_advantages_the_old_prediction_is_at_rest(name: str) -> None:
    batch = state(scale=0.0)
    if name == "ram":
        batch = Noised(**{**vars(batch), "reference": batch.old})
    assert gradient(LOSSES[name](), batch, batch.target.mean(0)).abs().max() < 1e-12


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "wrong",
    [
        {"advantage_clip": 0.0},
        {"noisings": 0},
        {"decay": 1.0},
        {"decay": -0.1},
        {"old_weight": float("nan")},
        {"reference_weight": -1.0},
        {"data_weight": float("inf")},
        {"first": 0.5, "last": 0.5},
    ],
)
def test_settings_that_mean_nothing_are_refused_by_name(name: str, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LOSSES[name](**wrong)


@pytest.mark.parametrize(
    ("name", "setting"), [("nft", "mixing"), ("awm", "clip"), ("ram", "temperature"), ("tilt", "tilt_step")]
)
def test_a_strength_of_nothing_is_refused_by_name(name: str, setting: str) -> None:
    with pytest.raises(ValueError, match=setting):
        LOSSES[name](**{setting: 0.0})
