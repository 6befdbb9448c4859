"""The chain of a diffusers scheduler: its grid, its noise, its end, and the Gaussian of every step."""

from typing import Any

import pytest
import torch

from molrl.gaussian import Context
from molrl.models.images.scheduler_chain import SOLVERS, Chain, diffusers_chain
from molrl.policy import Policy

DIFFUSERS: Any = pytest.importorskip("diffusers", reason="images need the extra image")

STABLE: dict[str, Any] = {
    **{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000},
    **{"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading"},
}


def chain_of(spacing: str = "leading", offset: int = 1, *, to_one: bool = False, steps: int = 50, **more: Any) -> Chain:
    changed = {"timestep_spacing": spacing, "steps_offset": offset, "set_alpha_to_one": to_one}
    return diffusers_chain({**STABLE, **changed, **more}, steps, 1.0)


@pytest.mark.parametrize(
    ("spacing", "offset", "to_one", "steps", "first", "last", "sigmas", "policy_steps", "finish"),
    [
        ("leading", 1, False, 50, 981, 1, (0.4545, 0.0395, 0.02065), 50, "state"),
        ("leading", 1, False, 30, 958, 1, (0.55, None, 0.02065), 30, "state"),
        ("leading", 1, False, 20, 951, 1, (0.64, None, 0.02065), 20, "state"),
        ("leading", 1, False, 10, 901, 1, (0.78, None, 0.02065), 10, "state"),
        ("leading", 1, True, 50, 981, 1, (None, None, 0.0395), 49, "clean"),
        ("leading", 0, False, 50, 980, 0, (None, None, 0.0285), 49, "state"),
        ("leading", 0, True, 50, 980, 0, (None, None, 0.0285), 49, "clean"),
        ("trailing", 0, False, 50, 999, 19, (0.4600, 0.0971, 0.02846), 50, "state"),
        ("trailing", 0, True, 50, 999, 19, (None, None, 0.0971), 49, "clean"),
        ("linspace", 0, False, 50, 999, 0, (None, None, 0.0285), 49, "state"),
    ],
)
def test_every_kind_of_grid_has_noise_in_all_its_steps(
    spacing: str,
    offset: int,
    to_one: bool,
    steps: int,
    first: int,
    last: int,
    sigmas: tuple[float | None, float | None, float],
    policy_steps: int,
    finish: str,
) -> None:
    """First, next to last and last sigma as measured with diffusers 0.42.1; a last step without noise is left out."""
    found = chain_of(spacing, offset, to_one=to_one, steps=steps)
    sampler, levels = found.sampler, found.schedule.level(found.sampler.times)
    assert sampler.num_steps == policy_steps
    assert sampler.finish == finish
    assert levels[0] == first
    assert levels[-1] == (last if policy_steps < steps else 0)
    assert (sampler.std > 0).all()
    for place, expected in zip((0, -2, -1), sigmas, strict=True):
        if expected is not None:
            digits = 5e-3 if expected > 0.5 else 6e-5
            assert sampler.std[place].item() == pytest.approx(expected, abs=digits)
    assert bool(found.note) == (policy_steps < steps)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize(("spacing", "offset"), [("leading", 1), ("trailing", 0)])
def test_every_step_is_the_gaussian_of_the_schedulers_own(prediction: str, spacing: str, offset: int) -> None:
    """log p of its own next sample, per number of the latent, at each of 50 steps."""
    config = {**STABLE, "timestep_spacing": spacing, "steps_offset": offset, "prediction_type": prediction}
    scheduler = DIFFUSERS.DDIMScheduler(**config)
    scheduler.set_timesteps(50)
    for name in ("alphas_cumprod", "final_alpha_cumprod"):  # 1 - alpha_t / alpha_s loses digits in float32
        setattr(scheduler, name, getattr(scheduler, name).double())
    found = diffusers_chain(config, 50, 1.0)
    generator = torch.Generator().manual_seed(0)
    for step, level in enumerate(scheduler.timesteps):
        x0, eps, noise = (torch.randn(1, 4, 8, 8, dtype=torch.float64, generator=generator) for _ in range(3))
        signal = found.schedule.alpha_squared[level]
        alpha, sigma = signal.sqrt(), (1 - signal).sqrt()
        x = alpha * x0 + sigma * eps
        output = {"epsilon": eps, "sample": x0, "v_prediction": alpha * eps - sigma * x0}[prediction]

        def denoiser(x_t: torch.Tensor, t: torch.Tensor, context: Context, said: torch.Tensor = eps) -> torch.Tensor:
            return said

        def stepped(with_noise: torch.Tensor, at: int = int(level), z: torch.Tensor = x, o: Any = output) -> Any:
            return scheduler.step(o, at, z, eta=1.0, variance_noise=with_noise).prev_sample

        mean, y = stepped(torch.zeros_like(x)), stepped(noise)
        std = (stepped(torch.ones_like(x)) - mean).mean()
        expected = torch.distributions.Normal(mean, std).log_prob(y).mean()
        kernel = Policy(denoiser, found.sampler).sampler.transition(denoiser, x, torch.tensor([step]), {})
        torch.testing.assert_close(kernel.mean, mean, atol=1e-11, rtol=0)
        assert kernel.log_prob(y).item() / x.numel() == pytest.approx(expected.item(), abs=1e-9), step


def test_a_chain_that_ends_in_a_state_asks_no_more() -> None:
    calls: list[float] = []

    def denoiser(x: torch.Tensor, t: torch.Tensor, context: Context) -> torch.Tensor:
        calls.append(t[0].item())
        return x * 0

    for to_one, count in ((False, 4), (True, 4)):
        calls.clear()
        policy = Policy(denoiser, chain_of(steps=4, to_one=to_one).sampler)
        trajectory = policy.rollout({}, lambda _: torch.ones(2, 1, 2, 2))
        assert len(calls) == count
        assert torch.equal(trajectory.final, trajectory.states[-1]) is not to_one


def test_only_states_at_the_end_of_the_chain_are_taken_as_they_are() -> None:
    sampler = chain_of(steps=4).sampler
    x = torch.ones(2, 1, 2, 2)
    found = sampler.predict_x0(lambda x_t, *_: x_t * 0.5, x, torch.tensor([4, 3]), {})
    assert torch.equal(found[0], x[0])
    assert not torch.allclose(found[1], x[1])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"clip_sample": True}, "clip_sample is on"),
        ({"thresholding": True}, "thresholding is on"),
        ({"prediction_type": "flow"}, "'flow', allowed epsilon, sample, v_prediction"),
        ({"num_train_timesteps": 10**12}, "num_train_timesteps 1000000000000, allowed 1 to 100000"),
        ({"beta_schedule": "sigmoid"}, "does not make a DDIMScheduler"),
        ({"beta_start": "none"}, "does not make a DDIMScheduler"),
        ({"trained_betas": [float("nan")] * 20}, "noise levels that rise"),
        ({"trained_betas": [-0.5] * 20}, "noise levels that rise"),
        ({"warp": 2}, "warp is 2, an option that DDIM does not have"),
        ({"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}, "no signal at the first step"),
    ],
)
def test_a_chain_that_is_no_policy_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        diffusers_chain({**STABLE, **config}, 10, 1.0)


def test_a_scheduler_that_does_not_speak_of_clipping_does_not_clip() -> None:
    """Stable Diffusion 1.4 comes with another scheduler's configuration; DDIM's own default would clip."""
    config = {name: value for name, value in STABLE.items() if name != "clip_sample"}
    assert chain_of().sampler.times.equal(diffusers_chain({**config, "skip_prk_steps": True}, 50, 1.0).sampler.times)


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_of_the_same_levels_are_read_as_ddim(name: str) -> None:
    """With every option at its own default but the clipping, the noise levels are the solver's own."""
    try:
        own = getattr(DIFFUSERS, name)(beta_start=0.0001, beta_end=0.015)
    except ImportError as missing:
        pytest.skip(str(missing))
    config = {**own.config, "_class_name": name}
    found = diffusers_chain({**config, **{key: False for key in ("clip_sample",) if key in config}}, 10, 1.0)
    torch.testing.assert_close(found.schedule.alpha_squared, own.alphas_cumprod.double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "name",
    [
        *("LCMScheduler", "TCDScheduler", "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"),
        *("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "CMStochasticIterativeScheduler"),
        *("UnCLIPScheduler", "DDIMInverseScheduler", "VQDiffusionScheduler", "KarrasVeScheduler"),
    ],
)
def test_schedulers_of_another_kind_are_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"scheduler: {name} does not walk the noise levels of DDIM"):
        diffusers_chain({**STABLE, "_class_name": name}, 10, 1.0)


def sigmas_of(scheduler: Any) -> Any:
    scheduler.set_timesteps(10)
    return torch.as_tensor(scheduler.sigmas).double()


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_every_option_that_moves_the_levels_is_refused(name: str) -> None:
    """Each on/off option of the class is tried: where its sigmas move, the chain is not read as if they had not."""
    kind, refused = getattr(DIFFUSERS, name), set()
    given = {"timestep_spacing": "leading", "steps_offset": 1, "final_sigmas_type": "zero"}
    plain = sigmas_of(kind(**given))
    for option, default in kind().config.items():
        if option.startswith("_") or default is not False:
            continue
        try:
            moved = kind(**given, **{option: True})
            same = torch.equal(sigmas_of(moved), plain)
        except (ImportError, ValueError, AssertionError, TypeError):
            continue  # needs a package or another option
        if not same and option != "rescale_betas_zero_snr":  # DDIM has that one
            refused.add(option)
            with pytest.raises(ValueError, match=option):
                diffusers_chain({**moved.config, "_class_name": name}, 10, 1.0)
    assert {"use_karras_sigmas", "use_exponential_sigmas"} <= refused
