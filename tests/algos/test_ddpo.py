"""DDPO follows the policy gradient: its first update is REINFORCE's, its clip bites on the right side."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toy import Clouds, last_state, learner, number_task, quadratic, scored

from molrl.advantages import GroupRelative, Standardised, standardise
from molrl.algos.ddpo import DDPO, DDPOSF, clipped_surrogate, score_function
from molrl.algos.steps import random_steps
from molrl.finetune import freeze_copy
from molrl.noise import Key
from molrl.oracle.chain import Moments
from molrl.oracle.linear_gaussian import QUADRATIC, AffineDenoiser, make_sampler
from molrl.policy import Policy
from molrl.trainable_parameters import trainable_module
from molrl.trajectory import Transitions

F64 = torch.float64
KEY = Key(0, 1)


def ddpo(**changes: object) -> DDPO:
    settings = {
        "clip": 0.2,
        "advantage_clip": 5.0,
        "train_steps": 10,
        "first": 0.0,
        "last": 1.0,
        "advantage": Standardised(),
        "kl_weight": 0.0,
    }
    return DDPO(**{**settings, **changes})  # type: ignore[arg-type]


def ddpo_sf(**changes: object) -> DDPOSF:
    settings: dict[str, Any] = {"advantage_clip": 5.0, "train_steps": 10, "first": 0.0, "last": 1.0}
    return DDPOSF(**{**settings, "advantage": Standardised(), **changes})


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def rolled_out(batch: int, num_steps: int = 10) -> tuple[Policy, Transitions]:
    """Return rollouts of the oracle in double precision, with standardised advantages."""
    sampler = make_sampler(num_steps)
    policy = Policy(AffineDenoiser(sampler, F64), sampler)
    noise = randn(num_steps + 1, batch, 1)
    run = policy.rollout({}, lambda i: noise[i])
    return policy, run.transitions(standardise(quadratic(list(run.final))))


def gradients(policy: Policy, loss: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, list(trainable_module(policy).parameters()))


def test_the_first_ratio_is_one() -> None:
    task = number_task()
    table = ddpo().collect(learner(task), list(range(8)), KEY).table
    _, facts = ddpo().loss(learner(task), table)
    assert (facts["log_ratio"] == 0).all()
    assert (facts["clipped"] == 0).all()


def test_the_first_gradient_is_that_of_reinforce() -> None:
    policy, table = rolled_out(64)
    clipped, _ = ddpo().loss(learner(policy, policy), table)
    expected = gradients(policy, -(table.advantage * policy.log_prob(table)).mean())
    assert_close(gradients(policy, clipped), expected, rtol=1e-10, atol=1e-12)
    plain, _ = ddpo_sf().loss(learner(policy, policy), table)
    assert_close(gradients(policy, plain), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("numbers", [1, 4])
def test_the_per_dimension_likelihood_is_the_joint_one_per_number(numbers: int) -> None:
    """Of the surrogate and of the KL: one update at the same policy has the same direction, shorter by the numbers."""
    sampler = make_sampler(10)
    policy, reference = (Policy(AffineDenoiser(sampler, F64), sampler) for _ in range(2))
    with torch.no_grad():
        for parameter in trainable_module(reference).parameters():
            parameter.add_(0.1)
    noise = randn(11, 32, numbers)
    table = policy.rollout({}, lambda i: noise[i]).transitions(randn(32, seed=1))
    joint, mean = (
        gradients(policy, ddpo(likelihood=likelihood, kl_weight=0.7).loss(learner(policy, reference), table)[0])
        for likelihood in ("joint", "per_dim")
    )
    assert any(part.abs().max() > 0 for part in joint)
    assert_close([part / numbers for part in joint], list(mean), rtol=1e-9, atol=1e-12)


def test_the_clip_of_the_per_dimension_likelihood_is_per_number() -> None:
    """A row whose numbers together moved by more than the clip, and each by less, is not clipped."""
    sampler = make_sampler(10)
    policy = Policy(AffineDenoiser(sampler, F64), sampler)
    noise = randn(11, 8, 50)
    table = policy.rollout({}, lambda i: noise[i]).transitions(torch.ones(8, dtype=F64))
    moved = replace(table, log_prob=table.log_prob - 0.5)  # now 0.5 nats likelier, 0.01 for each number
    clipped = [
        ddpo(likelihood=likelihood).loss(learner(policy, policy), moved)[1]["clipped"].mean().item()
        for likelihood in ("joint", "per_dim")
    ]
    assert clipped == [1.0, 0.0]


def test_both_variants_make_the_same_first_update() -> None:
    policy, table = rolled_out(64)
    for algorithm in (ddpo(clip=1e6), ddpo(clip=1e-4)):
        first = gradients(policy, algorithm.loss(learner(policy, policy), table)[0])
        assert_close(
            first, gradients(policy, ddpo_sf().loss(learner(policy, policy), table)[0]), rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize(
    ("advantage", "ratio", "expected"),
    [
        (1.0, 0.5, -0.5),  # a good step that became less likely is pulled back, however far it went
        (1.0, 1.0, -1.0),
        (1.0, 1.5, 0.0),  # enough
        (-1.0, 0.5, 0.0),  # enough
        (-1.0, 1.0, 1.0),
        (-1.0, 1.5, 1.5),  # a bad step that became more likely is pushed back
    ],
)
def test_the_clip_stops_only_moves_that_go_too_far(advantage: float, ratio: float, expected: float) -> None:
    """d loss / d log ratio = -A ratio, or zero."""
    log_ratio = torch.tensor([ratio], dtype=F64).log().requires_grad_()
    loss = clipped_surrogate(log_ratio, torch.tensor([advantage], dtype=F64), 0.2)
    (gradient,) = torch.autograd.grad(loss, log_ratio)
    assert gradient.item() == pytest.approx(expected, abs=1e-12)


def test_the_surrogate_never_promises_more_than_the_ratio() -> None:
    log_ratio, advantage = randn(500), randn(500, seed=1)
    assert clipped_surrogate(log_ratio, advantage, 0.2) >= -(log_ratio.exp() * advantage).mean()
    assert clipped_surrogate(log_ratio, advantage, 1e9) == -(log_ratio.exp() * advantage).mean()


def test_the_score_function_is_the_gradient_of_the_expected_reward() -> None:
    """r = -(x - 2)^2 / 2 and x ~ N(m, s^2): d E[r] / d m = -(m - 2)."""
    mean = torch.tensor(0.5, dtype=F64, requires_grad=True)
    std, n = 0.7, 200_000
    x = mean.detach() + std * randn(n)
    reward = -((x - 2) ** 2) / 2
    log_prob = -((x - mean) ** 2) / (2 * std**2)
    (gradient,) = torch.autograd.grad(score_function(log_prob, reward - reward.mean()), mean)
    assert gradient.item() == pytest.approx(-1.5, abs=0.03)  # the loss is minimised


def test_the_policy_gradient_of_the_chain_is_that_of_its_exact_moments() -> None:
    """E over rollouts of sum_k grad log p_k r, against the derivative of the exact E[r] of the affine chain."""
    policy, table = rolled_out(50_000, num_steps=3)
    denoiser, scale = policy.denoiser, 3  # the loss is a mean over the three steps
    assert isinstance(denoiser, AffineDenoiser)
    reward = quadratic(list(table.y[-50_000:]))
    raw = replace(table, advantage=(reward - reward.mean()).repeat(3))
    got = gradients(policy, scale * ddpo_sf().loss(learner(policy, policy), raw)[0])
    for parameter, gradient in zip((denoiser.slope, denoiser.shift), got, strict=True):
        for k in range(3):
            values = []
            for step in (1e-4, -1e-4):
                with torch.no_grad():
                    parameter[k] += step
                    values.append(QUADRATIC.expected(last_state(policy)))
                    parameter[k] -= step
            assert -gradient[k].item() == pytest.approx((values[0] - values[1]) / 2e-4, abs=0.03)


def test_kl_to_the_reference_holds_the_policy_back() -> None:
    policy, table = rolled_out(16)
    with torch.no_grad():
        anchor = freeze_copy(policy)
        policy.denoiser.shift.add_(0.3)  # type: ignore[attr-defined]
    flat = replace(table, advantage=torch.zeros_like(table.advantage), log_prob=policy.log_prob(table).detach())
    loss, _ = ddpo(kl_weight=2.0).loss(learner(policy, anchor), flat)
    assert loss.item() == pytest.approx(2.0 * 0.3**2 / 2, rel=1e-9)  # the mean of every step moved by 0.3 std
    _, shift = gradients(policy, loss)
    assert (shift > 0).all()
    assert_close(shift.sum(), torch.tensor(2.0 * 0.3, dtype=F64), rtol=1e-9, atol=0)


def test_integer_rewards_are_not_truncated() -> None:
    """0/1 rewards of four in ten have advantages sqrt(1.5) and -sqrt(2/3)."""

    def count(samples: Sequence[Tensor]) -> Tensor:
        return torch.tensor([1, 0, 0, 1, 0, 1, 0, 0, 1, 0])

    table = ddpo(train_steps=1).collect(learner(number_task(count)), list(range(10)), KEY).table
    expected = torch.where(count([]).bool(), 1.5**0.5, -((2 / 3) ** 0.5))
    assert_close(table.advantage, expected[table.sample], rtol=1e-6, atol=0)


def test_samples_without_a_reward_are_not_trained_on() -> None:
    def some(samples: Sequence[Tensor]) -> Tensor:
        return torch.tensor([1.0, float("nan"), 2.0, float("inf")])

    for algorithm in (ddpo(), ddpo_sf(), ddpo(advantage=GroupRelative(2))):
        table = algorithm.collect(learner(number_task(some)), list(range(4)), KEY).table
        assert set(table.sample.tolist()) == {0, 2}
        assert table.advantage.isfinite().all()


def test_a_flat_reward_gives_no_gradient() -> None:
    task = number_task(lambda samples: torch.ones(len(samples)))
    table = ddpo().collect(learner(task), list(range(4)), KEY).table
    assert (table.advantage == 0).all()
    for gradient in gradients(task.policy, ddpo().loss(learner(task.policy, task.policy), table)[0]):
        assert (gradient == 0).all()


def test_advantages_are_clamped_and_the_clamped_share_is_reported() -> None:
    task = number_task(scored(torch.tensor([0.0] * 19 + [100.0])))
    collected = ddpo(advantage_clip=2.0).collect(learner(task), list(range(20)), KEY)
    assert collected.table.advantage.max() == 2.0
    assert collected.metrics["advantage_saturated"] == pytest.approx(1 / 20)


def test_each_sample_is_trained_on_at_steps_of_its_own() -> None:
    task = number_task()
    collected = ddpo(train_steps=3).collect(learner(task), list(range(30)), KEY)
    chosen = [tuple(collected.table.step[collected.table.sample == i].tolist()) for i in range(30)]
    assert all(len(set(steps)) == 3 for steps in chosen)
    assert len(set(chosen)) > 15
    assert set(collected.table.step.tolist()) == set(range(10))


def test_the_chosen_steps_do_not_depend_on_the_batch() -> None:
    together = random_steps(10, [4, 5, 6], KEY, -1, range(10), 3)
    alone = random_steps(10, [5], KEY, -1, range(10), 3)
    assert (together[:, [1]] == alone).all()


def test_more_steps_than_there_are_means_all() -> None:
    assert len(ddpo(train_steps=99).collect(learner(number_task()), [0, 1], KEY).table) == 20


def test_the_members_of_a_group_are_asked_for_the_same_thing() -> None:
    """Sizes 2, 2, 3, 3: the reward grows with the size, and the advantage only with the place in the group."""
    task = number_task(lambda samples: torch.tensor([float(len(s) * 10 + i) for i, s in enumerate(samples)]))
    clouds = replace(task, decoder=Clouds(sizes=(2, 3), width=3, channels=4))
    collected = ddpo(advantage=GroupRelative(2), train_steps=1).collect(learner(clouds), list(range(4)), KEY)
    assert [len(sample) for sample in collected.rollouts.samples] == [2, 2, 3, 3]
    table = collected.table
    assert_close(table.advantage[table.sample.argsort()], torch.tensor([-1.0, 1.0, -1.0, 1.0]), rtol=1e-6, atol=0)


def train(algorithm: DDPO | DDPOSF, iterations: int, batch: int, rate: float) -> Moments:
    """Train on the oracle with a falling rate, and return the exact mean and variance of the chain."""
    sampler, generator = make_sampler(), torch.Generator().manual_seed(0)
    denoiser = AffineDenoiser(sampler, F64)
    policy = Policy(denoiser, sampler)
    reference = freeze_copy(policy)
    for i in range(iterations):
        noise = torch.randn(11, batch, 1, generator=generator, dtype=F64)
        run = policy.rollout({}, lambda k, noise=noise: noise[k])  # type: ignore[misc]
        table = run.transitions(standardise(quadratic(list(run.states[-1]))))
        gradient = gradients(policy, algorithm.loss(learner(policy, reference), table)[0])
        with torch.no_grad():
            for parameter, g in zip(denoiser.parameters(), gradient, strict=True):
                parameter.sub_(rate * sampler.num_steps * (1 - i / iterations) * g)  # the loss is a mean over the steps
    return last_state(policy)


@pytest.mark.parametrize("algorithm", [ddpo(), ddpo_sf()], ids=["IS", "SF"])
def test_the_expected_reward_of_the_oracle_rises(algorithm: DDPO | DDPOSF) -> None:
    before = QUADRATIC.expected(Moments(0.5, 0.318))
    assert QUADRATIC.expected(train(algorithm, 15, 500, 0.25)) > before + 0.7


def test_the_kl_penalty_stops_at_its_known_fixed_point() -> None:
    """The linear-Gaussian chain with a local KL of weight one per unit of reward ends at 0.8313 / 0.2542.

    A standardised advantage is the reward over its own spread, 0.616 at that point (Var (x - 2)^2 / 2 of the normal),
    so that the weight per unit of advantage is 1 / 0.616.
    """
    mean, variance = train(ddpo(kl_weight=1 / 0.616), 40, 4000, 0.4)
    assert mean == pytest.approx(0.8313, abs=0.012)
    assert variance == pytest.approx(0.2542, abs=0.008)


@pytest.mark.parametrize(
    "wrong", [{"clip": 0.0}, {"advantage_clip": -1.0}, {"train_steps": 0}, {"kl_weight": -0.1}, {"clip": float("nan")}]
)
def test_settings_that_mean_nothing_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ddpo(**wrong)


def test_only_steps_of_the_window_are_trained_on() -> None:
    """Ten steps: the window from 0.2 to 0.5 holds three."""
    table = ddpo(first=0.2, last=0.5).collect(learner(number_task()), list(range(20)), KEY).table
    assert set(table.step.tolist()) == {2, 3, 4}
    assert len(table) == 20 * 3


@pytest.mark.parametrize(("first", "last"), [(0.5, 0.5), (0.6, 0.4), (-0.1, 1.0), (0.0, 1.1)])
def test_an_empty_window_is_refused(first: float, last: float) -> None:
    with pytest.raises(ValueError, match="first, last"):
        ddpo(first=first, last=last)
