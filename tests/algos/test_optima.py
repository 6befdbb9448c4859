"""The known answers are right: published tables of closed forms, brute force, and samples agree with them."""

import math
from collections.abc import Callable
from dataclasses import replace
from statistics import NormalDist

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toy import ExactDenoiser

from molrl.gaussian import Context
from molrl.oracle.chain import Chain, Moments, Parabola, linear, quadratic
from molrl.oracle.control import KL, best_reward, optimal_control, optimal_control_standardised
from molrl.oracle.linear_gaussian import BASE_MEAN, BASE_VARIANCE, AffineDenoiser, make_sampler
from molrl.oracle.mixture import Mixture, log_partition, mixture_noise, tilt_linear, tilt_quadratic
from molrl.oracle.pull import rgdm, rgdm_posterior
from molrl.oracle.refit import (
    Weight,
    exponential_weight,
    refit,
    refit_rounds,
    sft_kl_d,
    sft_kl_o,
    shifted_weight,
    standardised_weight,
    top_weight,
    weighted_moments,
)
from molrl.oracle.trial import objective, path_kl
from molrl.policy import Policy
from molrl.schedule import Cosine, alpha, sigma

F64 = torch.float64
REWARD = quadratic(1.0, 2.0)
TWO_HUMPS = Mixture(
    torch.tensor([0.3, 0.7], dtype=F64),
    torch.tensor([[-2.0], [1.0]], dtype=F64),
    torch.tensor([[[0.25]], [[0.64]]], dtype=F64),
)
OBLIQUE = Mixture(
    torch.tensor([0.4, 0.6], dtype=F64),
    torch.tensor([[-1.0, 0.5], [1.0, 0.0]], dtype=F64),
    torch.tensor([[[0.5, 0.2], [0.2, 0.3]], [[0.4, -0.3], [-0.3, 0.6]]], dtype=F64),
)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def base_chain(num_steps: int = 10, eta: float = 1.0) -> Chain:
    """Return the chain of the exact denoiser of N(0.5, 0.49)."""
    return Chain.exact(make_sampler(num_steps, eta), BASE_MEAN, BASE_VARIANCE)


def to_the_last_state(of: Chain) -> Chain:
    """Return the same chain with its last state as the sample, as in the tables."""
    return replace(of, decode_slope=1.0, decode_offset=0.0)


def normal(law: Moments) -> Mixture:
    return Mixture(
        torch.ones(1, dtype=F64),
        torch.tensor([[law.mean]], dtype=F64),
        torch.tensor([[[law.variance]]], dtype=F64),
    )


def scalar(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def digits(value: float, printed: str) -> bool:
    """Check that a number rounds to the printed one, up to half a unit of the last digit and a tenth of it."""
    unit = 10.0 ** -len(printed.partition(".")[2])
    return abs(value - float(printed)) <= 0.6 * unit


def same(one: Chain, other: Chain, tolerance: float = 1e-9) -> None:
    for field in ("slope", "offset", "std", "decode_slope", "decode_offset"):
        assert getattr(one, field) == pytest.approx(getattr(other, field), abs=tolerance, rel=tolerance), field


def policy_of(wanted: Chain) -> Policy:
    """Return a policy of ten steps with the base's decode whose chain is `wanted`."""
    sampler, reference = make_sampler(), base_chain()
    denoiser = AffineDenoiser(sampler, F64)
    std = torch.tensor(reference.std, dtype=F64)
    with torch.no_grad():
        denoiser.slope.copy_((torch.tensor(wanted.slope, dtype=F64) - torch.tensor(reference.slope, dtype=F64)) / std)
        denoiser.shift.copy_((torch.tensor(wanted.offset, dtype=F64) - torch.tensor(reference.offset, dtype=F64)) / std)
    return Policy(denoiser, sampler)


def moved(of: Chain, seed: int, size: float) -> Chain:
    """Return the chain with random moves of all means, in units of the steps' stds."""
    slope, offset = randn(2, len(of.std), seed=seed) * size * torch.tensor(of.std, dtype=F64)
    return replace(
        of,
        slope=tuple((torch.tensor(of.slope, dtype=F64) + slope).tolist()),
        offset=tuple((torch.tensor(of.offset, dtype=F64) + offset).tolist()),
    )


def changed(of: Chain, field: str, step: int, change: float) -> Chain:
    """Return the chain with one slope or one offset moved."""
    numbers = list(of.slope if field == "slope" else of.offset)
    numbers[step] += change
    return replace(of, slope=tuple(numbers)) if field == "slope" else replace(of, offset=tuple(numbers))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_chain_of_a_policy_is_that_of_its_denoiser(eta: float) -> None:
    sampler = make_sampler(10, eta)
    same(Chain.from_policy(Policy(ExactDenoiser(sampler.schedule), sampler)), base_chain(10, eta))
    same(Chain.from_noise(sampler, *base_chain(10, eta).predicted_noise(sampler)), base_chain(10, eta))


def test_samples_have_the_moments_of_the_chain() -> None:
    n = 100_000
    wanted = moved(base_chain(), seed=3, size=0.3)
    policy = policy_of(wanted)
    same(Chain.from_policy(policy), wanted)
    noise = randn(11, n, 1)
    run = policy.rollout({}, lambda i: noise[i])
    for state, law in zip([*run.states, run.final], [*wanted.states(), wanted.marginal()], strict=True):
        assert abs(state.mean().item() - law.mean) < 4 * math.sqrt(law.variance / n)
        assert state.var().item() == pytest.approx(law.variance, rel=4 * math.sqrt(2 / n))


def test_a_policy_that_is_not_affine_has_no_chain() -> None:
    sampler = make_sampler()
    curved = ExactDenoiser(sampler.schedule, (0.5, 0.5), (-1.0, 1.0), (0.1, 0.1))
    with pytest.raises(ValueError, match="not affine"):
        Chain.from_policy(Policy(curved, sampler))


def test_a_parabola_has_the_moments_of_its_samples() -> None:
    reward, law = Parabola(0.7, -0.4, 0.3), Moments(1.2, 0.6)
    sampled = reward(law.mean + math.sqrt(law.variance) * randn(1_000_000))
    assert sampled.mean().item() == pytest.approx(reward.expected(law), abs=4e-3)
    assert sampled.var().item() == pytest.approx(reward.variance(law), rel=1e-2)
    before = reward.pull_back(0.5, 1.0, 0.8)
    assert before(scalar(0.4)).item() == pytest.approx(reward.expected(Moments(0.5 * 0.4 + 1.0, 0.64)))
    assert quadratic(3.0, 2.0)(scalar(1.0)).item() == pytest.approx(-1.5)
    assert linear(3.0)(scalar(2.0)).item() == pytest.approx(6.0)


# Linear-quadratic control of the exact chain, computed independently of this code in float64: base N(0.5, 0.49),
# r = -(x - 2)^2 / 2, beta = 1: steps, eta | chain | tilt of its end, log Z | optimum, J | local fixed point, J | J_ref
TABLE = """
5  1    0.500 0.232  0.7828 0.1885 -1.0174  0.7828 0.2006 -1.0207  0.7663 0.2013 -1.0219  -1.2412
10 1    0.500 0.318  0.8619 0.2413 -0.9916  0.8619 0.2510 -0.9944  0.8313 0.2542 -0.9974  -1.2841
20 1    0.500 0.385  0.9167 0.2778 -0.9752  0.9167 0.2843 -0.9771  0.8747 0.2905 -0.9818  -1.3174
50 1    0.500 0.440  0.9584 0.3056 -0.9636  0.9584 0.3088 -0.9645  0.9072 0.3181 -0.9708  -1.3451
10 0.5  0.498 0.367  0.9014 0.2685 -0.9813  0.7820 0.2823 -1.0751  0.7622 0.2868 -1.0767  -1.3113
10 0.2  0.497 0.376  0.9079 0.2733 -0.9802  0.5718 0.3426 -1.2527  0.5703 0.3432 -1.2527  -1.3174
10 0.05 0.497 0.378  0.9089 0.2741 -0.9801  0.5021 0.3750 -1.3138  0.5021 0.3750 -1.3138  -1.3184
50 0.2  0.497 0.465  0.9737 0.3172 -0.9620  0.6502 0.3855 -1.2259  0.6434 0.3887 -1.2262  -1.3617
"""


@pytest.mark.parametrize("row", TABLE.strip().splitlines())
def test_the_optima_are_those_of_the_table(row: str) -> None:
    steps, eta, *printed = row.split()
    reference = to_the_last_state(base_chain(int(steps), float(eta)))
    tilted, log_z = tilt_quadratic(normal(reference.marginal()), torch.eye(1, dtype=F64), scalar(2.0))
    values = [*reference.marginal(), tilted.mean().item(), tilted.covariance().item(), log_z]
    modes: tuple[KL, KL] = ("return_to_go", "local")
    for kl in modes:
        optimum = optimal_control(reference, REWARD, 1.0, kl)
        values += [*optimum.marginal(), objective(optimum, reference, REWARD, 1.0)]
    values.append(objective(reference, reference, REWARD, 1.0))
    assert [digits(value, text) for value, text in zip(values, printed, strict=True)] == [True] * len(printed)


@pytest.mark.parametrize(("eta", "beta", "reward"), [(1.0, 1.0, REWARD), (0.5, 0.2, REWARD), (0.3, 2.0, linear(1.5))])
def test_no_other_chain_does_better_than_the_optimum(eta: float, beta: float, reward: Parabola) -> None:
    reference = base_chain(10, eta)
    optimum = optimal_control(reference, reward, beta)
    top = objective(optimum, reference, reward, beta)
    for seed in range(300):
        for start in (optimum, reference):
            assert objective(moved(start, seed, 10.0 ** -(seed % 4)), reference, reward, beta) <= top
    local = optimal_control(reference, reward, beta, "local")
    if reward.curvature:
        assert objective(local, reference, reward, beta) < top
    else:  # where later KLs do not depend on earlier steps, both are one
        same(local, optimum)
    assert objective(moved(optimum, 0, 1e-4), reference, reward, beta) == pytest.approx(top, abs=1e-4)


def test_no_other_move_of_a_window_does_better_than_its_optimum() -> None:
    reference, window = base_chain(), range(3, 8)
    optimum = optimal_control(reference, REWARD, 0.5, window=window)
    top, whole = (
        objective(chain, reference, REWARD, 0.5) for chain in (optimum, optimal_control(reference, REWARD, 0.5))
    )
    assert objective(reference, reference, REWARD, 0.5) < top < whole
    for step in range(10):
        at_rest = (optimum.slope[step], optimum.offset[step]) == (reference.slope[step], reference.offset[step])
        assert at_rest == (step not in window)
        for field in ("slope", "offset"):
            for change in (1e-3, -1e-3) if step in window else ():
                assert objective(changed(optimum, field, step, change), reference, REWARD, 0.5) < top
    same(optimal_control(reference, REWARD, 0.5, window=range(10)), optimal_control(reference, REWARD, 0.5))


def test_the_optimum_is_measured_by_the_value_of_its_tilt() -> None:
    """Fixed stds cost a linear reward nothing: J = beta log Z where x_0 does not depend on the prior's draw."""
    reference = base_chain()
    _, log_z = tilt_linear(normal(reference.marginal()), scalar(0.8 / 0.5))
    optimum = optimal_control(reference, linear(0.8), 0.5)
    value = objective(optimum, reference, linear(0.8), 0.5)
    assert value == pytest.approx(0.5 * log_z, rel=1e-3)
    assert value <= 0.5 * log_z


def test_the_local_fixed_point_is_where_its_gradient_vanishes() -> None:
    """d E[r] / d theta_k = beta d KL_k / d theta_k, with x_k drawn from the chain but not differentiated."""
    reference, beta, h = base_chain(), 0.7, 1e-6
    fixed = optimal_control(reference, REWARD, beta, "local")
    laws = fixed.states()
    for k, (law, std) in enumerate(zip(laws, fixed.std, strict=False)):
        turn, shift = fixed.slope[k] - reference.slope[k], fixed.offset[k] - reference.offset[k]
        difference = turn * law.mean + shift
        kl = {"slope": (difference * law.mean + turn * law.variance) / std**2, "offset": difference / std**2}
        for field, expected in kl.items():
            up, down = (REWARD.expected(changed(fixed, field, k, change).marginal()) for change in (h, -h))
            assert (up - down) / (2 * h) == pytest.approx(beta * expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("kl", "stationary"), [("local", True), ("return_to_go", False)])
def test_a_policy_gradient_with_local_kl_rests_only_at_the_local_fixed_point(kl: KL, stationary: bool) -> None:
    """Score functions of sampled rollouts with standardised advantages, and exact KLs."""
    reference, weight = base_chain(), 0.8
    policy, anchor = policy_of(optimal_control_standardised(reference, REWARD, weight, kl)), policy_of(reference)
    assert isinstance(policy.denoiser, AffineDenoiser)
    gradients = []
    for batch in range(16):
        noise = randn(11, 4000, 1, seed=batch)
        run = policy.rollout({}, lambda i, noise=noise: noise[i])  # type: ignore[misc]
        rewards = REWARD(run.final.squeeze(1))
        table = run.transitions((rewards - rewards.mean()) / rewards.std())
        kernel = policy.transition(table)
        loss = weight * kernel.kl(anchor.transition(table)).mean() - (table.advantage * kernel.log_prob(table.y)).mean()
        gradients.append(torch.cat(torch.autograd.grad(loss, [policy.denoiser.slope, policy.denoiser.shift])))
    gradient = torch.stack(gradients)
    errors = (gradient.mean(0) / (gradient.std(0) / math.sqrt(len(gradient)))).abs()
    assert bool(errors.max() < 5) == stationary


def test_standardised_rewards_set_their_own_temperature() -> None:
    reference = base_chain()
    fixed = optimal_control_standardised(reference, REWARD, 0.8)
    beta = 0.8 * math.sqrt(REWARD.variance(fixed.marginal()))
    same(fixed, optimal_control(reference, REWARD, beta, "local"))
    same(optimal_control_standardised(reference, quadratic(50.0, 2.0), 0.8), fixed, 1e-8)


def test_the_objective_is_that_of_sampled_paths() -> None:
    reference, n = base_chain(), 100_000
    chosen = optimal_control(reference, REWARD, 0.5)
    policy, anchor, noise = policy_of(chosen), policy_of(reference), randn(11, n, 1)
    run = policy.rollout({}, lambda i: noise[i])
    table = run.transitions(torch.zeros(n, dtype=F64))
    with torch.no_grad():
        kl = policy.transition(table).kl(anchor.transition(table)).view(10, n).sum(0)
    sampled = REWARD(run.final.squeeze(1)) - 0.5 * kl
    expected = objective(chosen, reference, REWARD, 0.5)
    assert abs(sampled.mean().item() - expected) < 4 * sampled.std().item() / math.sqrt(n)
    assert kl.mean().item() == pytest.approx(path_kl(chosen, reference), rel=0.02)


def test_without_a_kl_only_the_last_noise_is_lost() -> None:
    """beta = 0: the last mean decodes to the target."""
    reference = base_chain(10, 0.5)
    top = best_reward(reference, quadratic(3.0, 2.0))
    assert top == pytest.approx(-3.0 * (reference.decode_slope * reference.std[-1]) ** 2 / 2)
    target = (2.0 - reference.decode_offset) / reference.decode_slope
    aimed = replace(reference, slope=(*reference.slope[:-1], 0.0), offset=(*reference.offset[:-1], target))
    assert objective(aimed, reference, quadratic(3.0, 2.0), 0.0) == pytest.approx(top)
    almost = optimal_control(reference, quadratic(3.0, 2.0), 1e-9)
    assert objective(almost, reference, quadratic(3.0, 2.0), 0.0) == pytest.approx(top, abs=1e-6)


def test_rgdm_rests_where_the_pull_is_the_anchor() -> None:
    """Candidates around sampled steps, weighted by softmax of their rewards: E[pull] = kl_weight (mean - reference)."""
    n, radius, temperature, kl_weight, reward = 2000, 0.5, 3.0, 0.1, linear(-1.3)
    sampler, reference = make_sampler(), base_chain()
    fixed = rgdm(sampler, reference, -1.3, radius, temperature, kl_weight)
    policy, noise = policy_of(fixed), randn(11, n, 1)
    assert fixed.marginal().mean < reference.marginal().mean - 0.1
    assert fixed.marginal().variance == pytest.approx(reference.marginal().variance)
    run = policy.rollout({}, lambda i: noise[i])
    scale = math.sqrt(reward.variance(reference.marginal()))
    assert reward(run.final).std().item() == pytest.approx(scale, rel=4 / math.sqrt(2 * n))
    generator = torch.Generator().manual_seed(5)
    for k in range(sampler.num_steps):
        ball = radius * math.sqrt(3) * fixed.std[k] * (2 * torch.rand(32, n, 1, generator=generator, dtype=F64) - 1)
        offsets = torch.cat([ball, -ball])
        candidates = (run.states[k + 1] + offsets).flatten(0, 1)
        with torch.no_grad():
            estimates = policy.lookahead_x0(candidates, policy.at(k + 1, candidates), 0, {})
        weights = torch.softmax(reward(estimates).view(64, n, 1) / (scale * temperature), 0)
        pull = (weights * offsets).sum(0).squeeze(1)
        balance = kl_weight * (fixed.offset[k] - reference.offset[k])
        assert fixed.slope[k] == reference.slope[k]
        assert abs(pull.mean().item() - balance) < 4 * pull.std().item() / math.sqrt(n) + 0.02 * abs(balance)
        tied = torch.corrcoef(torch.stack([pull, run.states[k].squeeze(1)]))[0, 1].item()
        assert abs(tied) < 5 / math.sqrt(n)  # the pull is the same wherever the step starts


def test_real_samples_hold_rgdm_as_a_kl_of_one_more_does() -> None:
    """From data the ordinary step regresses on the reference itself: D / (1 + kl_weight) instead of D / kl_weight."""
    sampler, reference, size = make_sampler(), base_chain(), (-1.3, 0.5, 3.0)
    law = Moments(BASE_MEAN, BASE_VARIANCE)
    same(
        rgdm_posterior(sampler, reference, *size, 0.4, law, range(10)),
        rgdm(sampler, reference, *size, 1.4),
    )


def test_a_replay_rests_where_its_own_samples_and_the_anchor_balance() -> None:
    """Each mean of the window is the regression on its own samples, their pull and the reference, in these weights."""
    sampler, reference, weight, window = make_sampler(), base_chain(), 0.5, range(7)
    fixed = rgdm_posterior(sampler, reference, 1.0, 0.5, 4.0, weight, None, window)
    own = Chain.exact(sampler, *fixed.marginal())
    assert fixed.marginal().variance < reference.marginal().variance - 0.02  # refitting loses some
    for k in range(10):
        kept = [(1 + weight) * fixed.slope[k], own.slope[k] + weight * reference.slope[k]]
        assert kept[0] == pytest.approx(kept[1], abs=1e-8) or k not in window
        pull = (1 + weight) * fixed.offset[k] - own.offset[k] - weight * reference.offset[k]
        assert 0 < pull < 0.25 * fixed.std[k] or k not in window
        assert k in window or fixed.slope[k] == reference.slope[k]


# Variance after 1, 2, 5, 10 fits of a model to its own samples, no reward (exact regression in float64).
@pytest.mark.parametrize(
    ("steps", "eta", "printed"),
    [
        (10, 1.0, "0.318 0.198 0.030 0.000"),
        (50, 1.0, "0.440 0.394 0.276 0.135"),
        (50, 0.0, "0.465 0.442 0.376 0.284"),
    ],
)
def test_refitting_to_own_samples_loses_variance(steps: int, eta: float, printed: str) -> None:
    chains = refit_rounds(make_sampler(steps, eta), base_chain(steps, eta), REWARD, exponential_weight(0.0), 9)
    variances = [chains[fit].marginal().variance for fit in (0, 1, 4, 9)]
    assert all(digits(value, text) for value, text in zip(variances, printed.split(), strict=True))


@pytest.mark.parametrize("reward", [quadratic(0.6, 2.0), linear(0.9)])
def test_exponential_weights_are_the_tilt(reward: Parabola) -> None:
    """Five fits without a sampler in between are one with five times the reward."""
    law = Moments(BASE_MEAN, BASE_VARIANCE)
    for _ in range(5):
        law = Moments(*weighted_moments(*law, reward, exponential_weight(0.5))[1:])
    tilted, _ = (
        tilt_quadratic(normal(Moments(BASE_MEAN, BASE_VARIANCE)), scalar(2.5 * 0.6).view(1, 1), scalar(2.0))
        if reward.curvature
        else tilt_linear(normal(Moments(BASE_MEAN, BASE_VARIANCE)), scalar(2.5 * 0.9))
    )
    assert law == pytest.approx((tilted.mean().item(), tilted.covariance().item()), abs=1e-9)


def test_five_rounds_of_exponential_weights_are_those_of_the_table() -> None:
    law = Moments(BASE_MEAN, BASE_VARIANCE)
    for _ in range(5):
        law = Moments(*weighted_moments(*law, REWARD, exponential_weight(1.0))[1:])
    assert digits(law.mean, "1.5652")
    assert digits(law.variance, "0.1420")


def test_the_best_share_of_a_normal_variable_is_a_truncated_one() -> None:
    """E[z | z > c] = pdf(c) / share, Var = 1 + c pdf(c) / share - (pdf(c) / share)^2."""
    share, unit = 0.1, NormalDist()
    threshold = unit.inv_cdf(1 - share)
    hazard = unit.pdf(threshold) / share
    weight, mean, variance = weighted_moments(0.5, 0.49, linear(2.0), top_weight(share))
    assert weight == pytest.approx(share, abs=1e-12)
    assert mean == pytest.approx(0.5 + 0.7 * hazard, abs=1e-6)
    assert variance == pytest.approx(0.49 * (1 + threshold * hazard - hazard**2), abs=1e-6)


def test_standardised_weights_do_not_know_the_units_of_the_reward() -> None:
    """A linear reward moves the mean by std / temperature, whatever its gradient."""
    for gradient in (1e-3, 1.0, 50.0):
        _, mean, variance = weighted_moments(0.5, 0.49, linear(gradient), standardised_weight(2.0))
        assert (mean, variance) == pytest.approx((0.5 + 0.7 / 2, 0.49), abs=1e-9)
    assert weighted_moments(0.5, 0.49, linear(0.0), standardised_weight(2.0)) == pytest.approx((1.0, 0.5, 0.49))


def test_weighted_samples_have_the_moments_of_the_quadrature() -> None:
    x, reward = 0.5 + 0.7 * randn(1_000_000), quadratic(1.0, 1.0)
    mass = torch.full_like(x, 1 / len(x))
    weights: list[Weight] = [exponential_weight(2.0), standardised_weight(0.5), top_weight(0.2), shifted_weight(0.4)]
    for weight in weights:
        total, mean, variance = weighted_moments(0.5, 0.49, reward, weight)
        weights_of_samples = weight(reward(x), mass)
        share = weights_of_samples / weights_of_samples.sum()
        assert weights_of_samples.mean().item() == pytest.approx(total, rel=0.01)
        assert (share @ x).item() == pytest.approx(mean, abs=0.005)
        assert (share @ (x - mean) ** 2).item() == pytest.approx(variance, rel=0.01)


def test_weights_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="mean weight of 0"):
        weighted_moments(0.5, 0.49, REWARD, shifted_weight(0.0))


@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_supervised_fits_minimise_their_losses(gamma: float) -> None:
    """Weighted least squares on a lattice of x_0 and eps, at some grid points, decode included."""
    sampler, reference, reward = make_sampler(), base_chain(), linear(1.5)
    law, (slope, offset) = reference.marginal(), reference.predicted_noise(sampler)
    nodes = torch.linspace(-8, 8, 1201, dtype=F64)
    clean = law.mean + math.sqrt(law.variance) * nodes
    z = torch.linspace(-8, 8, 81, dtype=F64)
    mass = torch.outer(torch.softmax(-(nodes**2) / 2, 0), torch.softmax(-(z**2) / 2, 0)).flatten()
    weight = (mass.view(1201, 81) * reward(clean).clamp(min=0).unsqueeze(1)).flatten()
    fitted = sft_kl_o(sampler, reference, reward, gamma).predicted_noise(sampler)
    for k in (0, 4, 8, 10):
        a, s = alpha(sampler.log_snr[k]), sigma(sampler.log_snr[k])
        x = (a * clean.unsqueeze(1) + s * z).flatten()
        features = torch.stack([x, torch.ones_like(x)], 1)
        rows = torch.cat([features * weight.sqrt().unsqueeze(1), features * (gamma * mass).sqrt().unsqueeze(1)])
        ahead = torch.cat([z.repeat(1201) * weight.sqrt(), (slope[k] * x + offset[k]) * (gamma * mass).sqrt()])
        theta = torch.linalg.lstsq(rows, ahead.unsqueeze(1)).solution.squeeze(1)
        assert_close(torch.stack([fitted[0][k], fitted[1][k]]), theta, rtol=1e-4, atol=1e-4)


def test_kl_o_lies_between_the_weighted_fit_and_the_reference() -> None:
    sampler, reference, reward = make_sampler(), base_chain(), linear(1.5)
    same(sft_kl_o(sampler, reference, reward, 0.0), refit(sampler, reference, reward, shifted_weight(0.0)), 1e-7)
    same(sft_kl_o(sampler, reference, reward, 1e9), reference, 1e-6)
    means = [sft_kl_o(sampler, reference, reward, gamma).marginal().mean for gamma in (0.0, 0.1, 1.0, 10.0)]
    assert means == sorted(means, reverse=True)


def test_kl_d_tends_to_imitation_as_its_weights_become_even() -> None:
    """The reference's own samples, not the data: a few steps have lost some variance."""
    sampler, reference = make_sampler(), base_chain()
    imitation = Chain.exact(sampler, *reference.marginal())
    same(sft_kl_d(sampler, reference, REWARD, 1e9), imitation, 1e-6)
    pushed = sft_kl_d(sampler, reference, REWARD, 2.0)
    assert pushed.marginal().mean > imitation.marginal().mean + 0.1


# Closed forms for 0.3 N(-2, 0.25) + 0.7 N(1, 0.64): mean, variance, log Z, KL, E*[R], base E[R].
@pytest.mark.parametrize(
    ("curvature", "target", "gradient", "printed"),
    [
        (0.0, 0.0, 0.8, "1.4021 0.9789 0.6819 0.4398 1.1217 0.0800"),
        (1.0, 2.0, 0.0, "1.3874 0.3974 -0.9078 0.5214 -0.3864 -3.0115"),
        (1.0, -2.0, 0.0, "-1.7881 0.5648 -1.1924 0.8876 -0.3048 -3.4115"),
    ],
)
def test_tilts_are_those_of_the_table(curvature: float, target: float, gradient: float, printed: str) -> None:
    reward = quadratic(curvature, target) if curvature else linear(gradient)
    tilted, log_z = (
        tilt_quadratic(TWO_HUMPS, scalar(curvature).view(1, 1), scalar(target))
        if curvature
        else tilt_linear(TWO_HUMPS, scalar(gradient))
    )
    law, base = (Moments(m.mean().item(), m.covariance().item()) for m in (tilted, TWO_HUMPS))
    reached = reward.expected(law)
    values = [*law, log_z, reached - log_z, reached, reward.expected(base)]
    assert all(digits(value, text) for value, text in zip(values, printed.split(), strict=True))


def test_a_step_of_reward_tilts_as_in_the_table() -> None:
    """R = 1.5 [x > 1.5], component by component: mean 0.8422, variance 2.3763, log Z 0.4997."""

    def weight(rewards: Tensor, _: Tensor) -> Tensor:
        return rewards.exp()

    def step(x: Tensor) -> Tensor:
        return 1.5 * (x > 1.5)

    parts = [
        weighted_moments(m.item(), v.item(), step, weight)
        for m, v in zip(TWO_HUMPS.means, TWO_HUMPS.covariances, strict=True)
    ]
    shares = TWO_HUMPS.weights * scalar(*(part.weight for part in parts))
    means, variances = scalar(*(part.mean for part in parts)), scalar(*(part.variance for part in parts))
    tilted = Mixture(shares / shares.sum(), means.view(2, 1), variances.view(2, 1, 1))
    values = (tilted.mean().item(), tilted.covariance().item(), shares.sum().log().item())
    assert values == pytest.approx((0.8422, 2.3763, 0.4997), abs=2e-4)


@pytest.mark.parametrize("kind", ["linear", "quadratic", "flat in one direction"])
def test_tilts_in_the_plane_are_those_of_a_lattice(kind: str) -> None:
    axis = torch.linspace(-7, 7, 561, dtype=F64)
    x = torch.cartesian_prod(axis, axis)
    parts = [
        torch.distributions.MultivariateNormal(m, c).log_prob(x)
        for m, c in zip(OBLIQUE.means, OBLIQUE.covariances, strict=True)
    ]
    log_density = (torch.stack(parts, 1) + OBLIQUE.weights.log()).logsumexp(1)
    if kind == "linear":
        gradient = scalar(0.8, -0.5)
        (tilted, log_z), reward = tilt_linear(OBLIQUE, gradient), x @ gradient
    else:
        precision = torch.tensor([[1.5, 0.4], [0.4, 0.8]] if kind == "quadratic" else [[1.0, -1.0], [-1.0, 1.0]])
        target = scalar(1.0, -1.0)
        tilted, log_z = tilt_quadratic(OBLIQUE, precision.to(F64), target)
        reward = -torch.einsum("bi,ij,bj->b", x - target, precision.to(F64), x - target) / 2
    log_weight = log_density + reward + 2 * math.log(14 / 560)
    weight = log_weight.softmax(0)
    assert log_weight.logsumexp(0).item() == pytest.approx(log_z, abs=1e-6)
    assert_close(weight @ x, tilted.mean(), atol=1e-6, rtol=0)
    difference = x - tilted.mean()
    assert_close(torch.einsum("b,bi,bj->ij", weight, difference, difference), tilted.covariance(), atol=1e-6, rtol=0)


def test_the_noise_of_a_mixture_is_its_score() -> None:
    """eps(x_t) = -sigma_t grad log p_t(x_t)."""
    log_snr, x = torch.linspace(-6, 6, 40, dtype=F64), randn(40, 2).requires_grad_()
    a, s = alpha(log_snr).view(-1, 1, 1), sigma(log_snr).view(-1, 1, 1)
    spread = a.unsqueeze(3) ** 2 * OBLIQUE.covariances + s.unsqueeze(3) ** 2 * torch.eye(2, dtype=F64)
    parts = torch.distributions.MultivariateNormal(a * OBLIQUE.means, spread).log_prob(x.unsqueeze(1))
    (score,) = torch.autograd.grad((parts + OBLIQUE.weights.log()).logsumexp(1).sum(), x)
    noise = mixture_noise(x.detach(), log_snr, *OBLIQUE)
    assert_close(noise, -s.squeeze(2) * score)
    assert_close(mixture_noise(x.detach().float(), log_snr.float(), *OBLIQUE), noise.float(), rtol=1e-4, atol=1e-4)


def test_the_noise_of_one_coordinate_is_that_of_the_toy_denoiser() -> None:
    t = torch.linspace(0.1, 1, 30, dtype=F64)
    x, schedule = randn(30, 1), Cosine()
    toy = ExactDenoiser(schedule, (0.3, 0.7), (-2.0, 1.0), (0.25, 0.64))
    assert_close(mixture_noise(x, schedule.log_snr(t), *TWO_HUMPS), toy(x, t, {}))


def through_a_few_steps(mixture: Mixture, num_steps: int, eta: float) -> float:
    """Compute the variance of the last state under the exact denoiser of a mixture, by densities on a lattice.

    A chain without noise carries the nodes themselves.
    """
    sampler = make_sampler(num_steps, eta)

    def denoiser(x: Tensor, t: Tensor, context: Context) -> Tensor:
        return mixture_noise(x, sampler.schedule.log_snr(t), *mixture)

    lattice = torch.linspace(-6, 6, 1201, dtype=F64).view(-1, 1)
    mass, ends = torch.softmax(-(lattice.squeeze(1) ** 2) / 2, 0), lattice
    for k in range(num_steps):
        if eta and k:
            mass = mass @ (-(((lattice.T - ends) / sampler.std[k - 1]) ** 2) / 2).softmax(1)
        start = lattice if eta else ends
        ends = sampler.transition(denoiser, start, Policy.at(k, start), {}).mean
    centred = (ends - mass @ ends).squeeze(1)
    return (mass @ centred**2 + sampler.std[-1] ** 2).item()


# The exact denoiser of the quadratic case above, on the cosine grid; the digits are good to 1 %.
@pytest.mark.parametrize(
    ("steps", "eta", "expected"),
    [(10, 1.0, 0.250), (20, 1.0, 0.303), (10, 0.0, 0.300), (20, 0.0, 0.345), (50, 0.0, 0.375)],
)
def test_a_tilt_sampled_in_a_few_steps_is_narrower_than_the_tilt(steps: int, eta: float, expected: float) -> None:
    tilted, _ = tilt_quadratic(TWO_HUMPS, torch.eye(1, dtype=F64), scalar(2.0))
    variance = through_a_few_steps(tilted, steps, eta)
    assert variance == pytest.approx(expected, rel=0.01)
    assert variance < tilted.covariance().item()


def test_the_partition_function_of_samples_has_the_error_it_states() -> None:
    """r ~ N(0, 1): beta log E[exp(r / beta)] = 1 / (2 beta)."""
    beta = 1.5
    estimates = [log_partition(randn(4000, seed=seed), beta) for seed in range(200)]
    scores = torch.tensor([(value - 1 / (2 * beta)) / error for value, error in estimates])
    assert scores.std().item() == pytest.approx(1, abs=0.2)
    assert scores.mean().abs().item() < 0.3
    shifted_by = log_partition(randn(4000) + 1e4, beta)  # no overflow
    assert shifted_by == pytest.approx((estimates[0][0] + 1e4, estimates[0][1]), rel=1e-9)


def test_no_control_beats_the_partition_function() -> None:
    reference, beta = base_chain(), 0.7
    law = reference.marginal()
    bound, error = log_partition(REWARD(law.mean + math.sqrt(law.variance) * randn(200_000)), beta)
    _, log_z = tilt_quadratic(normal(law), scalar(1 / beta).view(1, 1), scalar(2.0))
    assert abs(bound - beta * log_z) < 4 * error
    assert objective(optimal_control(reference, REWARD, beta), reference, REWARD, beta) < beta * log_z


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: optimal_control(base_chain(), REWARD, 0.0), "beta: got 0"),
        (lambda: optimal_control(base_chain(), quadratic(-1e3, 0.0), 0.1), "infinite"),
        (lambda: best_reward(base_chain(), linear(1.0)), "curvature 0"),
        (lambda: path_kl(base_chain(), base_chain(eta=0.5)), "need the same numbers"),
        (lambda: path_kl(base_chain(), base_chain(eta=0.0)), "need the same numbers"),
        (lambda: log_partition(scalar(1.0, math.nan), 1.0), "1 not finite"),
        (lambda: Chain((1.0,), (0.0, 1.0), (1.0,), 1.0, 0.0), "equal numbers"),
    ],
)
def test_what_has_no_answer_is_refused(call: Callable[[], object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()
