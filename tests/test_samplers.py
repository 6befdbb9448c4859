"""DDIM's kernels are the textbook's, and exact denoisers give chains with known moments."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toy import ExactDenoiser, always, last_state

from molrl.gaussian import Euclidean, MaskedPoints
from molrl.oracle.linear_gaussian import AffineDenoiser, make_sampler
from molrl.policy import Policy
from molrl.samplers import DDIM
from molrl.schedule import Cosine, LogLinear, Polynomial, Schedule, alpha, sigma

F64 = torch.float64
SCHEDULES = [LogLinear(0.01, 20.0), Polynomial(), Cosine()]


def ddim(schedule: Schedule, num_steps: int = 20, eta: float = 1.0) -> DDIM:
    return DDIM(schedule=schedule, num_steps=num_steps, space=Euclidean(), eta=eta)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def ends_of_steps(sampler: DDIM) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return alpha_t, sigma_t, alpha_s, sigma_s of every step."""
    a, s = alpha(sampler.log_snr), sigma(sampler.log_snr)
    return a[:-1], s[:-1], a[1:], s[1:]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_the_kernel_is_the_one_of_the_paper(schedule: Schedule, eta: float) -> None:
    """Song et al. 2021, Eq. 12 and 16, step by step as printed."""
    sampler = ddim(schedule, eta=eta)
    a_t, s_t, a_s, _ = (v[:, None] for v in ends_of_steps(sampler))
    x, eps = randn(20, 3), randn(20, 3, seed=1)
    std = eta * ((1 - a_s**2) / (1 - a_t**2)).sqrt() * (1 - a_t**2 / a_s**2).sqrt()
    mean = a_s * (x - s_t * eps) / a_t + (1 - a_s**2 - std**2).clamp(min=0).sqrt() * eps
    kernel = sampler.transition(always(eps), x, torch.arange(20), {})
    assert_close(kernel.std, std.squeeze(1), rtol=1e-9, atol=0)
    assert_close(kernel.mean, mean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_eta_one_is_the_posterior_of_the_forward_process(schedule: Schedule) -> None:
    """mean = x / q - (1 - q^2) / (q sigma_t) eps and std = sqrt(1 - q^2) sigma_s / sigma_t, q = alpha_t / alpha_s
    (Hoogeboom et al. 2022, Eq. 4-6 and 10).
    """
    sampler = ddim(schedule)
    a_t, s_t, a_s, s_s = ends_of_steps(sampler)
    q = a_t / a_s
    assert_close(sampler.x_coef, 1 / q, rtol=1e-10, atol=0)
    assert_close(sampler.prediction_coef, -(1 - q**2) / (q * s_t), rtol=1e-7, atol=0)
    assert_close(sampler.std, (1 - q**2).sqrt() * s_s / s_t, rtol=1e-9, atol=0)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_the_kl_of_a_step_is_the_fall_of_the_snr_times_the_difference_of_the_noise(schedule: Schedule) -> None:
    """KL = (SNR_s / SNR_t - 1) / 2 |eps - eps_ref|^2 for eta = 1."""
    sampler = ddim(schedule)
    x, eps, other = randn(20, 3), randn(20, 3, seed=1), randn(20, 3, seed=2)
    kernels = [sampler.transition(always(e), x, torch.arange(20), {}) for e in (eps, other)]
    fall = torch.expm1(sampler.log_snr.diff())
    assert_close(kernels[0].kl(kernels[1]), fall / 2 * (eps - other).square().sum(1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("num_steps", [1, 2, 50, 100])
def test_every_step_has_a_density(schedule: Schedule, num_steps: int) -> None:
    sampler = ddim(schedule, num_steps)
    assert sampler.std.shape == (num_steps,)
    for table in (sampler.std, sampler.std.float(), sampler.std.float() ** -2):
        assert table.isfinite().all()
        assert (table > 0).all()
    assert (sampler.prediction_coef < 0).all()


def test_edm_in_a_thousand_steps_has_a_density_at_every_step() -> None:
    assert (ddim(Polynomial(), 1000).std > 1e-3).all()


def test_each_row_is_at_a_step_of_its_own() -> None:
    sampler, step, x = ddim(LogLinear(0.01, 20.0)), torch.tensor([7, 0, 19, 3]), randn(4, 3)
    denoiser = ExactDenoiser(sampler.schedule)
    together = sampler.transition(denoiser, x, step, {})
    clean = sampler.predict_x0(denoiser, x, step, {})
    for row in range(4):
        alone = sampler.transition(denoiser, x[[row]], step[[row]], {})
        assert_close((together.mean[[row]], together.std[[row]]), (alone.mean, alone.std), rtol=1e-14, atol=1e-14)
        assert_close(clean[[row]], sampler.predict_x0(denoiser, x[[row]], step[[row]], {}), rtol=1e-14, atol=1e-14)


def test_the_denoiser_is_asked_at_the_time_of_the_state() -> None:
    asked: list[Tensor] = []

    def denoiser(x: Tensor, t: Tensor, context: object) -> Tensor:
        asked.append(t)
        return x

    sampler = ddim(Polynomial(), 4)
    sampler.transition(denoiser, randn(4, 1), torch.arange(4), {})
    sampler.predict_x0(denoiser, randn(5, 1), torch.arange(5), {})
    assert asked[0].tolist() == [1, 0.75, 0.5, 0.25]
    assert asked[1].tolist() == [1, 0.75, 0.5, 0.25, 0]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_the_true_noise_gives_the_clean_sample_back(schedule: Schedule) -> None:
    sampler, x0, eps = ddim(schedule, 5), randn(6, 3), randn(6, 3, seed=1)
    a, s = alpha(sampler.log_snr)[:, None], sigma(sampler.log_snr)[:, None]
    assert_close(sampler.predict_x0(always(eps), a * x0 + s * eps, torch.arange(6), {}), x0, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("num_steps", "eta", "mean", "variance"),
    [
        (5, 1.0, 0.500, 0.232),
        (10, 1.0, 0.500, 0.318),
        (20, 1.0, 0.500, 0.385),
        (50, 1.0, 0.500, 0.440),
        (10, 0.5, 0.498, 0.367),
        (10, 0.2, 0.497, 0.376),
        (50, 0.2, 0.497, 0.465),
    ],
)
def test_the_exact_denoiser_of_a_gaussian_gives_the_moments_of_the_discrete_chain(
    num_steps: int, eta: float, mean: float, variance: float
) -> None:
    """N(0.5, 0.49) on the cosine grid: the affine recursion of the chain, worked out separately in double precision."""
    sampler = make_sampler(num_steps, eta)
    got = last_state(Policy(AffineDenoiser(sampler, F64), sampler))
    assert got == pytest.approx((mean, variance), abs=6e-4)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_exact_denoiser_of_a_mixture_samples_the_mixture(eta: float) -> None:
    """0.3 N(-2, 0.25) + 0.7 N(1, 0.64) has mean 0.1 and variance 2.413."""
    sampler = ddim(LogLinear(0.002, 80.0), 300, eta)
    denoiser = ExactDenoiser(sampler.schedule, (0.3, 0.7), (-2.0, 1.0), (0.25, 0.64))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8000, 1, generator=generator, dtype=F64)
    for k in range(300):
        kernel = sampler.transition(denoiser, x, torch.full((len(x),), k), {})
        x = kernel.sample(torch.randn(x.shape, generator=generator, dtype=F64))
    x = sampler.predict_x0(denoiser, x, torch.full((len(x),), 300), {})
    assert x.mean().item() == pytest.approx(0.1, abs=0.05)
    assert x.var().item() == pytest.approx(2.413, abs=0.12)
    assert (x < -0.8).double().mean().item() == pytest.approx(0.306, abs=0.02)  # 0.3 Phi(2.4) + 0.7 Phi(-2.25)


def test_states_means_and_clean_estimates_stay_in_the_space() -> None:
    mask = torch.arange(5) < torch.tensor([[4], [2]])
    context = {"mask": mask}
    sampler = DDIM(schedule=Cosine(), num_steps=3, space=MaskedPoints())
    start = sampler.prior(randn(2, 5, 4), context)
    stray = always(torch.ones(2, 5, 4, dtype=F64))
    outputs = (start, sampler.transition(stray, start, torch.tensor([0, 2]), context).mean)
    for x in (*outputs, sampler.predict_x0(stray, start, torch.tensor([0, 3]), context)):
        assert (x[~mask] == 0).all()
        assert_close(x[..., :3].sum(1), torch.zeros(2, 3, dtype=F64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_steps", [0, -1])
def test_a_chain_has_at_least_one_step(num_steps: int) -> None:
    with pytest.raises(ValueError, match="num_steps"):
        ddim(Cosine(), num_steps)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_eta_lies_between_zero_and_one(eta: float) -> None:
    with pytest.raises(ValueError, match="eta"):
        ddim(Cosine(), 5, eta)


def test_steps_without_a_density_are_refused() -> None:
    """A table of 1000 noises cannot be walked in 1500 steps, nor the clamped end of the cosine in 1000."""
    for schedule, num_steps in ((Polynomial(), 1500), (Cosine(), 1000)):
        with pytest.raises(ValueError, match="num_steps"):
            ddim(schedule, num_steps)


@pytest.mark.parametrize("grid", [torch.linspace(0, 1, 6), torch.linspace(1, 0, 5), torch.linspace(1.2, 0, 6)])
def test_a_grid_falls_within_zero_and_one(grid: Tensor) -> None:
    with pytest.raises(ValueError, match="grid"):
        DDIM(schedule=Cosine(), num_steps=5, space=Euclidean(), grid=lambda _: grid)


def test_foresight_with_a_jump_for_every_step_is_the_deterministic_chain() -> None:
    """DDIM with eta = 0; the clean estimate is the last step."""
    sampler, exact = ddim(Cosine(), num_steps=6, eta=0.0), ExactDenoiser(Cosine(), means=(-1.0, 2.0))
    x = randn(7, 1)
    walked = x
    for k in range(5):
        walked = sampler.transition(exact, walked, torch.full((7,), k), {}).mean
    walked = sampler.predict_x0(exact, walked, torch.full((7,), 5), {})
    assert_close(sampler.lookahead_x0(exact, x, torch.zeros(7, dtype=torch.long), 5, {}), walked, rtol=1e-7, atol=1e-7)


def test_foresight_without_a_jump_is_the_clean_estimate() -> None:
    sampler, exact = ddim(Cosine()), ExactDenoiser(Cosine(), means=(-1.0, 2.0))
    x, step = randn(21, 1), torch.arange(21)
    assert_close(sampler.lookahead_x0(exact, x, step, 0, {}), sampler.predict_x0(exact, x, step, {}))


def test_foresight_leaves_the_end_of_the_chain_alone() -> None:
    """At the last grid point there is nowhere left to jump to."""
    sampler, exact = ddim(Cosine()), ExactDenoiser(Cosine(), means=(-1.0, 2.0))
    x, step = randn(4, 1), torch.full((4,), 20)
    assert_close(
        sampler.lookahead_x0(exact, x, step, 3, {}), sampler.predict_x0(exact, x, step, {}), rtol=1e-6, atol=1e-6
    )
