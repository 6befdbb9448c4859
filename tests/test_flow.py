"""Flows: the Gaussian of every step, its KL, its marginals, its deterministic limit, and all trainers on it."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from test_finetune import ALGORITHMS, SUPERVISED, finetuning
from torch import Tensor, nn
from torch.testing import assert_close
from toy import Clouds, always, lifted, number_task, randn

from molrl.algos.forward import noise_samples
from molrl.algos.windows import WINDOW, windowed
from molrl.finetune import check_setup, finetune, freeze_copy
from molrl.flow import FlowSDE, ShiftedGrid
from molrl.gaussian import Context, Euclidean, Gaussian, MaskedPoints
from molrl.noise import Key
from molrl.oracle.linear_gaussian import QUADRATIC, Points
from molrl.policy import Policy
from molrl.samplers import DDIM
from molrl.task import Task

F64 = torch.float64
MEAN, VARIANCE = 0.5, 0.49
TRAINERS = ("DDPO", "DPOK", "GRPO", "RGDM-replay", "DRaFT", "ReFL", "Adjoint", "DPO", "KL-O", "NFT", "AWM")
KINDS = [("euler", 0.7), ("euler", 1.4), ("ancestral", 0.5), ("ancestral", 1.0)]


def flow(num_steps: int = 8, discretisation: Any = "euler", eta: float = 0.7, **more: Any) -> FlowSDE:
    settings = {"space": Euclidean(), **more}
    return FlowSDE(num_steps=num_steps, eta=eta, discretisation=discretisation, **settings)


class Velocity(nn.Module):
    """The exact velocity of N(0.5, 0.49) in each number, plus a trained affine move that grows with t."""

    def __init__(self) -> None:
        super().__init__()
        self.slope, self.shift = (nn.Parameter(torch.zeros(11, dtype=torch.float32)) for _ in range(2))

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        time, rows = t.view(-1, *[1] * (x.dim() - 1)), (-1, *[1] * (x.dim() - 1))
        centred = (x - (1 - time) * MEAN) / ((1 - time) ** 2 * VARIANCE + time**2)
        place = (10 * t).round().long()
        move = self.slope[place].view(rows) * x + self.shift[place].view(rows)
        return time * centred - (MEAN + (1 - time) * VARIANCE * centred) + move.to(x)


class Two:
    """Data that are -1 or 1: their velocity, which is not affine."""

    def __call__(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        time = t.view(-1, *[1] * (x.dim() - 1))
        clean = ((1 - time) * x / time.square()).tanh()
        return (x - (1 - time) * clean) / time - clean


def marginal(t: Tensor) -> Tensor:
    """Return mean and variance of x_t."""
    return torch.stack([(1 - t) * MEAN, (1 - t) ** 2 * VARIANCE + t**2])


@torch.no_grad()
def moments(sampler: FlowSDE, start: Tensor) -> Tensor:
    """Return mean and variance of every state from those of the first, exactly: each step is an affine map."""
    exact, probes, found = Velocity(), torch.tensor([[0.0], [1.0]], dtype=F64), [start]
    for k in range(sampler.num_steps):
        kernel = sampler.transition(exact, probes, torch.tensor([k, k]), {})
        offset, slope = kernel.mean[0, 0], kernel.mean[1, 0] - kernel.mean[0, 0]
        found.append(torch.stack([offset + slope * found[-1][0], slope**2 * found[-1][1] + kernel.std[0] ** 2]))
    return torch.stack(found, 1)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_eulers_step_is_the_one_of_flow_grpo(shift: float) -> None:
    """Liu et al. 2025, Eq. 9, as printed in their code: sigma of the second time stands for 1 in the denominator."""
    sampler, a = flow(eta=0.7, grid=ShiftedGrid(shift)), 0.7
    x, v = randn(8, 3), randn(8, 3, seed=1)
    kernel = sampler.transition(always(v), x, torch.arange(8), {})
    times = [shift * u / (1 + (shift - 1) * u) for u in (1 - k / 9 for k in range(9))]
    for k in range(8):
        t, dt = times[k], times[k + 1] - times[k]
        std = math.sqrt(t / (1 - (times[1] if t == 1 else t))) * a
        mean = x[k] * (1 + std**2 / (2 * t) * dt) + v[k] * (1 + std**2 * (1 - t) / (2 * t)) * dt
        assert_close(kernel.mean[k], mean, rtol=1e-12, atol=1e-12)
        assert kernel.std[k].item() == pytest.approx(std * math.sqrt(-dt), rel=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_the_ancestral_step_is_ddims_in_another_coordinate(eta: float) -> None:
    """With y = x / c, c^2 = (1 - t)^2 + t^2, and the log SNR 2 log((1 - t) / t), the same Gaussian of y."""

    class Rectified:
        def log_snr(self, t: Tensor) -> Tensor:
            return 2 * ((1 - t) / t).log()

    times = torch.tensor([0.97, 0.8, 0.5, 0.2, 0.05], dtype=F64)
    ours = flow(4, "ancestral", eta, grid=lambda _: times)
    ddim = DDIM(schedule=Rectified(), num_steps=4, space=Euclidean(), eta=eta, grid=lambda _: times)
    scale = ((1 - times) ** 2 + times**2).sqrt()
    x, v, steps = randn(4, 3), randn(4, 3, seed=1), torch.arange(4)
    kernel = ours.transition(always(v), x, steps, {})
    eps = x + (1 - times[:4, None]) * v
    expected = ddim.transition(always(eps), x / scale[:4, None], steps, {})
    assert_close(kernel.mean / scale[1:, None], expected.mean, rtol=1e-10, atol=1e-12)
    assert_close(kernel.std / scale[1:], expected.std, rtol=1e-10, atol=1e-14)


def test_small_steps_of_both_kinds_are_the_same() -> None:
    """The std of Euler's steps at sqrt(2) a over that of ancestral steps at a goes to 1, and so does their drift."""
    x, v, gaps = randn(1, 3), randn(1, 3, seed=1), []
    for width in (1e-2, 1e-3):
        times = torch.tensor([0.6, 0.6 - width], dtype=F64)
        one = flow(1, "euler", 2**0.5 * 0.4, grid=lambda _, t=times: t).kernel(x, v, torch.tensor([0]), {})
        other = flow(1, "ancestral", 0.4, grid=lambda _, t=times: t).kernel(x, v, torch.tensor([0]), {})
        drift = ((one.mean - other.mean) / width).abs().max().item()
        gaps.append((abs((one.std / other.std).item() - 1), drift))
    for coarse, fine in zip(*gaps, strict=True):
        assert fine == pytest.approx(coarse / 10, rel=0.15)


@pytest.mark.parametrize(("kind", "eta"), KINDS)
def test_log_probabilities_are_those_of_the_normal_law(kind: Any, eta: float) -> None:
    """And the density of one number integrates to one."""
    sampler, x, v = flow(5, kind, eta), randn(5, 3), randn(5, 3, seed=1)
    kernel = sampler.transition(always(v), x, torch.arange(5), {})
    y = kernel.sample(randn(5, 3, seed=2))
    expected = torch.distributions.Normal(kernel.mean, kernel.std[:, None]).log_prob(y).sum(1)
    assert_close(kernel.log_prob(y), expected, rtol=1e-12, atol=1e-12)
    line = torch.linspace(-12, 12, 200_001, dtype=F64)
    one = Gaussian(kernel.mean[2:3, :1].expand(len(line), 1), kernel.std[2].expand(len(line)), Euclidean(), {})
    assert torch.trapezoid(one.log_prob(line[:, None]).exp(), line).item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("step", [1, 3])
def test_the_kl_has_the_width_of_the_step_in_it(step: int) -> None:
    """|dt|/2 (g (1 - t) / (2 t) + 1/g)^2 |v - v_ref|^2, and what a numerical integral of p log(p/q) says."""
    sampler = flow(5, eta=0.7)
    x, v, other = (
        torch.full((1, 1), 0.3, dtype=F64),
        torch.tensor([[0.4]], dtype=F64),
        torch.tensor([[-0.9]], dtype=F64),
    )
    at = torch.tensor([step])
    one, two = (sampler.kernel(x, velocity, at, {}) for velocity in (v, other))
    t, dt = sampler.times[step].item(), (sampler.times[step] - sampler.times[step + 1]).item()
    g = 0.7 * math.sqrt(t / (1 - t))
    expected = dt / 2 * (g * (1 - t) / (2 * t) + 1 / g) ** 2 * 1.3**2
    assert one.kl(two).item() == pytest.approx(expected, rel=1e-12)
    line = torch.linspace(-15, 15, 400_001, dtype=F64)[:, None]
    p, q = (
        Gaussian(each.mean.expand(len(line), 1), each.std.expand(len(line)), Euclidean(), {}).log_prob(line)
        for each in (one, two)
    )
    assert torch.trapezoid(p.exp() * (p - q), line.squeeze(1)).item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("kind", "eta"), [*KINDS, ("euler", 0.0)])
def test_every_state_has_the_marginal_of_the_flow(kind: Any, eta: float) -> None:
    """N((1 - t) m, (1 - t)^2 s^2 + t^2) under the exact velocity: the error halves with the width of the steps.

    From pure noise for ancestral steps and for the ODE; for Euler's, whose g is infinite there, from below.
    """
    errors, first = [], 1.0 if kind == "ancestral" or not eta else 0.9
    for steps in (200, 400):
        sampler = flow(steps, kind, eta, grid=lambda k: torch.linspace(first, 0.02, k + 1, dtype=F64))
        wanted = marginal(sampler.times)
        errors.append((moments(sampler, wanted[:, 0]) - wanted).abs().amax().item())
    assert errors[0] < 0.03
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.15)


def test_eulers_first_step_adds_a_known_variance() -> None:
    """By 1 + eta^4 / 4 for data without a spread, however many steps: (1 - eta^2 / 2)^2 + eta^2."""
    for steps in (5, 500):
        sampler = flow(steps, "euler", 0.7)
        kernel = sampler.kernel(randn(1, 3), randn(1, 3), torch.tensor([0]), {})
        assert sampler.x_coef[0].item() == pytest.approx(1 - 0.49 / 2)
        assert sampler.x_coef[0].item() ** 2 + kernel.std.item() ** 2 == pytest.approx(1 + 0.7**4 / 4)


@pytest.mark.parametrize(("kind", "eta"), [("euler", 0.7), ("ancestral", 0.8)])
def test_data_at_two_points_are_found(kind: Any, eta: float) -> None:
    """A law that is not normal, in 400 steps: half of the samples at each end."""
    noise = torch.randn(402, 4000, 1, generator=torch.Generator().manual_seed(0), dtype=F64)
    final = Policy(Two(), flow(400, kind, eta)).rollout({}, lambda draw: noise[draw]).final
    assert (final.abs() - 1).abs().max() < 1e-2
    assert final.sign().mean().abs() < 4 / math.sqrt(4000)


@pytest.mark.parametrize("kind", ["euler", "ancestral"])
def test_without_noise_it_is_eulers_method(kind: Any) -> None:
    """Also in the rest of the way, the look-ahead, and the steps outside a window."""
    sampler, x = flow(5, kind, 0.0), randn(4, 2)
    policy = Policy(Two(), sampler)
    wanted, ends = x, [*sampler.times.tolist(), 0.0]
    for t, s in pairwise(ends):
        wanted = wanted + (s - t) * Two()(wanted, torch.full((4,), t, dtype=F64), {})
    trajectory = policy.rollout({}, lambda _: x)
    assert_close(trajectory.final, wanted, rtol=1e-10, atol=1e-10)
    assert not trajectory.log_prob.any()
    start = torch.zeros(4, dtype=torch.long)
    t, middle = sampler.times, x + (sampler.times[2] - 1) * Two()(x, torch.ones(4, dtype=F64), {})
    estimate = middle - t[2] * Two()(middle, t[2].expand(4), {})
    assert_close(policy.lookahead_x0(x, start, 1, {}), estimate, rtol=1e-10, atol=1e-10)
    outside = windowed(Policy(Two(), flow(5, kind, 0.5))).rollout({WINDOW: torch.tensor([[5, 5]] * 4)}, lambda _: x)
    assert_close(outside.final, wanted, rtol=1e-10, atol=1e-10)


def test_an_ancestral_chain_forgets_its_start() -> None:
    """eta = 1 from pure noise: the first step depends on the start by its clean estimate alone."""
    sampler = flow(6, "ancestral", 1.0)
    kernel = sampler.kernel(
        randn(1, 3), always(randn(1, 3) - 0.7)(randn(1, 3), torch.ones(1), {}), torch.tensor([0]), {}
    )
    assert_close(kernel.mean, (1 - sampler.times[1]) * torch.full((1, 3), 0.7, dtype=F64))
    assert kernel.std.item() == pytest.approx(sampler.times[1].item())


def test_noised_samples_say_their_velocity() -> None:
    """Forward-process losses regress eps - x_0 at x_t = (1 - t) x_0 + t eps; from both one gets back x_0 and eps."""
    sampler, x0 = flow(6), randn(4, 3)
    table = noise_samples(sampler, x0, {}, torch.ones(4, dtype=F64), range(4), Key(1), 5)
    t, clean = sampler.times[table.step][:, None], x0[table.sample]
    assert_close(table.x - t * table.target, clean)
    eps = table.x + (1 - t) * table.target
    assert eps.std().item() == pytest.approx(1, abs=0.3)
    assert_close((1 - t) * clean + t * eps, table.x)
    assert_close(sampler.predict_x0(always(table.target), table.x, table.step, {}), clean)


@pytest.mark.parametrize("name", TRAINERS)
def test_every_trainer_learns_on_a_flow(name: str) -> None:
    """The same objects as on a diffusion; the first minibatch repeats the rollout, and the reward rises."""
    sampler = flow(10)
    start = replace(number_task(), policy=Policy(Velocity(), sampler), decoder=Points(), reward=lifted)
    seen: list[dict[str, float]] = []
    loop = finetuning(iterations=6, rollouts=40)
    finetune(loop, start, ALGORITHMS[name], freeze_copy(start.policy), None, seen.append)
    noise = torch.randn(12, 2000, 1, generator=torch.Generator().manual_seed(0))
    before = QUADRATIC(Policy(Velocity(), sampler).rollout({}, lambda draw: noise[draw]).final).mean()
    after = QUADRATIC(start.policy.rollout({}, lambda draw: noise[draw]).final).mean()
    assert after - before > (0.01 if name in SUPERVISED else 0.05)
    assert all(math.isfinite(rounds["kl"]) for rounds in seen)


def test_padded_points_stay_in_their_space() -> None:
    """Molecules as a flow: centred positions, masked padding, and the degrees of freedom of the real atoms."""
    decoder = Clouds((4, 2, 3), 4, channels=5)
    context = decoder.draw_context(range(3), Key(0))
    policy = Policy(Two(), flow(4, space=MaskedPoints()))
    noise = torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=F64)
    trajectory = policy.rollout(context, lambda draw: noise[draw])
    assert not trajectory.states[:, ~context["mask"]].any()
    assert trajectory.states[..., :3].sum(2).abs().max() < 1e-12
    table = trajectory.transitions(torch.zeros(3))
    assert_close(policy.log_prob(table), table.log_prob)
    assert_close(policy.transition(table).dof[:3], torch.tensor([17.0, 7.0, 12.0], dtype=F64))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_steps": 0}, "num_steps: got 0"),
        ({"eta": -0.1}, "eta: got -0.1"),
        ({"eta": 1.2, "discretisation": "ancestral"}, "allowed 0 to 1 for ancestral steps"),
        ({"eta": math.nan}, "eta: got nan"),
        ({"discretisation": "heun"}, "'heun', allowed euler and ancestral"),
        ({"num_steps": 2, "grid": lambda _: torch.tensor([1.0, 0.5, 0.0])}, "fall from 1 to above 0"),
        ({"num_steps": 2, "grid": lambda _: torch.tensor([1.1, 0.5, 0.2])}, "fall from 1 to above 0"),
        ({"num_steps": 2, "grid": lambda _: torch.tensor([0.5, 0.5, 0.2])}, "fall from 1 to above 0"),
        ({"num_steps": 2, "grid": lambda _: torch.tensor([1.0, 0.5])}, "need 3"),
    ],
)
def test_a_chain_that_cannot_be_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        flow(**settings)


def test_a_shift_is_a_number_above_zero() -> None:
    with pytest.raises(ValueError, match="shift: got 0"):
        ShiftedGrid(0.0)


def test_a_deterministic_flow_has_no_policy_gradient() -> None:
    task = Task("numbers", Policy(Velocity(), flow(eta=0.0)), Points(), lifted)
    with pytest.raises(ValueError, match="eta: got 0, a deterministic chain"):
        check_setup(finetuning(), task, ALGORITHMS["DDPO"])
    assert flow(eta=0.0).with_densities.std.min() > 0
