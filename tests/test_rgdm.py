"""The pull of RGDM is what its formula says: uphill, inside its ball, and nothing where the reward says nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toy import AffineDenoiser, Clouds, ExactDenoiser, chain, expected_quadratic, number_task

from molrl.algos import Collected
from molrl.algos.rgdm import RGDM, in_ball, payoff
from molrl.finetune import frozen, trainable
from molrl.gaussian import MaskedPoints
from molrl.noise import Key
from molrl.policy import Policy
from molrl.samplers import DDIM
from molrl.schedule import Cosine, alpha, sigma
from molrl.task import Task

KEY = Key(0, 1)
NAN = float("nan")


def rgdm(**changes: object) -> RGDM:
    settings = {
        "candidates": 4,
        "radius": 0.5,
        "temperature": 1.0,
        "states": 2,
        "first": 0.0,
        "last": 1.0,
        "lookahead": 0,
        "held": 0,
        "kl_weight": 0.0,
    }
    return RGDM(**{**settings, **changes})  # type: ignore[arg-type]


def cloud_task(
    reward: Callable[[Sequence[Tensor]], Tensor], sizes: tuple[int, ...] = (4, 2, 3), width: int = 4
) -> Task:
    """Padded, centred clouds under an exact denoiser."""
    sampler = DDIM(schedule=Cosine(), num_steps=10, space=MaskedPoints())
    exact = ExactDenoiser(sampler.schedule, means=(0.0,))
    return Task("clouds", Policy(exact, sampler), Clouds(sizes, width, channels=5), reward)


def pulls(task: Task, collected: Collected) -> Tensor:
    """Where the table wants the means to go."""
    with torch.no_grad():
        return collected.table.y - task.policy.transition(collected.table).mean


def length(samples: Sequence[Tensor]) -> Tensor:
    return torch.stack([sample.square().mean() for sample in samples])


def test_a_flat_reward_pulls_nowhere() -> None:
    task = number_task(lambda samples: torch.ones(len(samples)))
    collected = rgdm().collect(task, list(range(4)), KEY)
    assert collected.metrics["payoff_flat"] == 1
    assert collected.metrics["pull"] == 0
    assert_close(pulls(task, collected), torch.zeros_like(collected.table.y), atol=1e-6, rtol=0)


def test_held_steps_are_learned_from_without_a_pull() -> None:
    """They come from the whole chain, those that are scored from the window alone."""
    task = number_task()
    collected = rgdm(states=2, first=0.5, last=0.6, held=3).collect(task, list(range(6)), KEY)
    pull = pulls(task, collected).abs().squeeze(1)
    scored = pull > 1e-6
    assert len(set(collected.table.step[scored].tolist())) == 1
    assert 6 * 2 <= int((~scored).sum()) <= 6 * 3


def test_weights_of_a_flat_reward_balance_each_pair() -> None:
    weights, scored = payoff(torch.full((6, 2), 3.0), 1.0)
    assert_close(weights, torch.full((6, 2), 1 / 6))
    assert scored.all()


def test_weights_are_the_pay_off_distribution() -> None:
    """w ~ exp(r / tau)."""
    weights, alive = payoff(torch.tensor([[0.0], [1.0], [3.0], [-1.0]]), 2.0)
    expected = torch.tensor([[0.0], [0.5], [1.5], [-0.5]]).exp()
    assert_close(weights, expected / expected.sum())
    assert alive.all()


def test_a_candidate_without_a_reward_takes_its_mirror_image_with_it() -> None:
    weights, alive = payoff(torch.tensor([[NAN, NAN], [1.0, NAN], [5.0, NAN], [2.0, NAN]]), 1.0)
    assert weights[[0, 2], 0].tolist() == [0, 0]
    assert weights[:, 0].sum().item() == pytest.approx(1)
    assert (weights[:, 1] == 0).all()
    assert alive.tolist() == [True, False]


@pytest.mark.parametrize("dims", [1, 3])
def test_a_linear_reward_pulls_by_the_radius_squared_along_its_gradient(dims: int) -> None:
    """E[pull] = R^2 / (tau (d + 2)) grad r to first order in R |grad r| / tau, R = rho std sqrt(d + 2)."""
    slope = torch.tensor([3.0, -1.0, 2.0])[:dims]
    task = number_task(lambda samples: torch.stack(list(samples)) @ slope, dims)
    algorithm = rgdm(temperature=5.0, radius=0.5, states=1, first=0.5, last=0.6, candidates=8)
    collected = algorithm.collect(task, list(range(800)), KEY)
    assert set(collected.table.step.tolist()) == {5}
    pull = pulls(task, collected).double()
    # The score is read off the clean estimate of the next state, for N(0.5, 0.49): x0_hat = const + gain y.
    sampler = chain()
    a, s = alpha(sampler.log_snr)[6], sigma(sampler.log_snr)[6]
    gain = (1 - s * s / (a**2 * 0.49 + s**2)) / a
    unit = collected.rollouts.rewards.std(correction=0).double()
    expected = (0.5 * sampler.std[5]) ** 2 / 5.0 * gain * slope.double() / unit
    error = pull.std(0) / len(pull) ** 0.5
    assert ((pull.mean(0) - expected).abs() < 4 * error + 0.02 * expected.abs()).all()
    assert (error < 0.1 * expected.abs().max()).all()


def test_pulls_are_centred_and_zero_on_padding() -> None:
    task = cloud_task(length)
    collected = rgdm().collect(task, list(range(6)), KEY)
    assert len(collected.table) == 12
    pull = pulls(task, collected)
    assert (pull[~collected.table.context["mask"]] == 0).all()
    assert_close(pull[..., :3].sum(1), torch.zeros(12, 3), rtol=0, atol=1e-5)
    assert (pull.flatten(1).norm(dim=1) > 0).all()


def test_pulls_stay_inside_of_the_ball() -> None:
    task = cloud_task(lambda samples: 1e6 * length(samples))
    collected = rgdm(temperature=1e-3, radius=0.3).collect(task, list(range(6)), KEY)
    table = collected.table
    with torch.no_grad():
        kernel = task.policy.transition(table)
    radius = 0.3 * kernel.std * (kernel.dof + 2).sqrt()
    assert (pulls(task, collected).flatten(1).norm(dim=1) <= radius * 1.0001).all()


def test_padding_changes_nothing() -> None:
    narrow, wide = (rgdm().collect(cloud_task(length, width=width), list(range(6)), KEY).table for width in (4, 7))
    assert_close(wide.y[:, :4], narrow.y, rtol=0, atol=2e-5)
    assert (wide.y[:, 4:] == 0).all()


def test_a_sample_is_pulled_alike_in_any_batch() -> None:
    together = rgdm().collect(cloud_task(length, sizes=(4,)), [3, 4, 5], KEY)
    alone = rgdm().collect(cloud_task(length, sizes=(4,)), [4], KEY)
    offsets = [
        rgdm().candidate_offsets(torch.ones(len(rows)), rows, MaskedPoints(), samples, KEY)
        for rows, samples in ((together.table[together.table.sample == 1], [3, 4, 5]), (alone.table, [4]))
    ]
    assert_close(offsets[0], offsets[1], rtol=0, atol=0)


def test_candidates_differ_and_come_in_pairs() -> None:
    table = rgdm().collect(cloud_task(length), list(range(3)), KEY).table
    offsets = rgdm(candidates=8).candidate_offsets(torch.ones(len(table)), table, MaskedPoints(), [0, 1, 2], KEY)
    assert_close(offsets[:4], -offsets[4:], rtol=0, atol=0)
    assert len(offsets.flatten(0, 1).flatten(1).unique(dim=0)) == 8 * len(table)


def test_the_ball_is_filled_evenly() -> None:
    """For u uniform in the unit ball of d dimensions, E[u u^T] = I / (d + 2) and |u|^d is uniform."""
    generator, context = torch.Generator().manual_seed(0), {"mask": (torch.arange(3) < 2).expand(8000, 3)}
    gaussian = torch.randn(8000, 3, 4, generator=generator, dtype=torch.float64)
    u = in_ball(gaussian, torch.rand(8000, generator=generator, dtype=torch.float64), MaskedPoints(), context)
    d = 3 + 2
    size = u.flatten(1).norm(dim=1)
    assert size.max() <= 1
    assert (size**d).mean().item() == pytest.approx(0.5, abs=0.015)
    assert u[:, 0, 3].square().mean().item() == pytest.approx(1 / (d + 2), abs=0.007)
    assert u.square().sum((1, 2)).mean().item() == pytest.approx(d / (d + 2), abs=0.01)


def test_candidates_without_a_reward_do_not_pull() -> None:
    """Half of the candidates cannot be scored, at random: no NaN, and the rest still pulls."""

    def flaky(samples: Sequence[Tensor]) -> Tensor:
        lost = torch.rand(len(samples), generator=torch.Generator().manual_seed(0)) < 0.5
        return torch.where(lost & torch.tensor(len(samples) > 8), NAN, length(samples))

    task = cloud_task(flaky)
    collected = rgdm(candidates=8).collect(task, list(range(8)), KEY)
    assert len(collected.table) > 0
    assert collected.table.y.isfinite().all()
    assert collected.table.log_prob.isfinite().all()


def test_nothing_scored_leaves_nothing_to_learn() -> None:
    collected = rgdm().collect(cloud_task(lambda samples: torch.full((len(samples),), NAN)), [0, 1], KEY)
    assert len(collected.table) == 0
    assert torch.tensor([collected.metrics[name] for name in ("payoff_ess", "payoff_flat", "pull")]).isfinite().all()


def test_at_infinite_temperature_the_policy_stays_where_it_is() -> None:
    task = number_task()
    table = rgdm(temperature=1e12).collect(task, list(range(4)), KEY).table
    with torch.no_grad():
        assert_close(table.y, task.policy.transition(table).mean, rtol=0, atol=1e-6)


def test_the_first_log_ratio_is_zero() -> None:
    task = number_task()
    table = rgdm().collect(task, list(range(4)), KEY).table
    _, metrics = rgdm().loss(task.policy, frozen(task.policy), table)
    assert metrics["max_abs_log_ratio"] == 0


def test_the_loss_is_a_regression_of_the_mean() -> None:
    """Gradient of |mu - target|^2 / (2 std^2) in the units of the toy: minus the pull in stds."""
    task = number_task()
    collected = rgdm().collect(task, list(range(6)), KEY)
    table, denoiser = collected.table, task.policy.denoiser
    assert isinstance(denoiser, AffineDenoiser)
    loss, _ = rgdm().loss(task.policy, frozen(task.policy), table)
    (gradient,) = torch.autograd.grad(loss, denoiser.shift)
    pull = pulls(task, collected).squeeze(1) / chain().std[table.step].float()
    expected = torch.zeros(10).index_add(0, table.step, -pull) / len(table)
    assert_close(gradient, expected, rtol=1e-3, atol=1e-6)


def test_kl_to_the_reference_holds_the_policy_back() -> None:
    task = number_task()
    table = rgdm().collect(task, list(range(4)), KEY).table
    reference = frozen(task.policy)
    with torch.no_grad():
        task.policy.denoiser.shift.add_(0.5)  # type: ignore[attr-defined]
    free, held = (rgdm(kl_weight=w).loss(task.policy, reference, table)[0].item() for w in (0.0, 3.0))
    assert held - free == pytest.approx(3.0 * 0.5**2 / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [(0.0, 1.0, set(range(10))), (0.3, 0.6, {3, 4, 5}), (0.99, 1.0, {9}), (0.5, 0.51, {5})],
)
def test_states_are_chosen_inside_of_the_window(first: float, last: float, expected: set[int]) -> None:
    algorithm = rgdm(first=first, last=last)
    table, _ = algorithm.choose(number_task().rollout(range(40), KEY), list(range(40)), KEY)
    assert set(table.step.tolist()) == expected


def test_every_question_to_the_reward_is_counted() -> None:
    asked: list[int] = []

    def counted(samples: Sequence[Tensor]) -> Tensor:
        asked.append(len(samples))
        return length(samples)

    collected = rgdm(candidates=6, states=3).collect(cloud_task(counted), list(range(5)), KEY)
    assert collected.reward_queries == sum(asked) == 5 + 5 * 3 * 6


def test_the_expected_reward_of_the_oracle_rises() -> None:
    task = number_task()
    denoiser = trainable(task.policy)
    assert isinstance(denoiser, AffineDenoiser)
    before = expected_quadratic(*denoiser.moments())
    optimizer = torch.optim.SGD(denoiser.parameters(), lr=2.0)
    algorithm = rgdm(states=10)
    for i in range(10):
        samples = list(range(20 * i, 20 * (i + 1)))
        table = algorithm.collect(task, samples, Key(0, i)).table
        optimizer.zero_grad()
        algorithm.loss(task.policy, task.policy, table)[0].backward()
        optimizer.step()
    assert expected_quadratic(*denoiser.moments()) > before + 0.35


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"candidates": 3}, "candidates"),
        ({"radius": 0.0}, "radius"),
        ({"temperature": NAN}, "temperature"),
        ({"states": 0}, "states"),
        ({"first": 0.6, "last": 0.5}, "first, last"),
        ({"last": 1.1}, "first, last"),
        ({"kl_weight": -1.0}, "kl_weight"),
    ],
)
def test_settings_that_mean_nothing_are_refused_by_name(wrong: dict[str, float], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        replace(rgdm(), **wrong)  # type: ignore[arg-type]
