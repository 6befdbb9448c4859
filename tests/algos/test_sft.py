"""The supervised baselines imitate the pretrained model's own samples, the better ones more."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toy import cloud_task, learner, lifted, number_task, randn, scored

from molrl.algos import Learner
from molrl.algos.forward import denoising_error
from molrl.algos.rwr import WeightedDenoising
from molrl.algos.sft import SupervisedKLD, SupervisedKLO
from molrl.finetune import freeze_copy
from molrl.gaussian import Context
from molrl.noise import Key
from molrl.oracle.linear_gaussian import AffineDenoiser, make_sampler
from molrl.policy import Policy
from molrl.trainable_parameters import trainable_module
from molrl.trajectory import Noised

F64 = torch.float64
KEY = Key(0, 1)
NAN = float("nan")
REWARDS = torch.tensor([1.0, 4.0, -2.0, 0.0, NAN])
METHODS = pytest.mark.parametrize(
    "algorithm", [SupervisedKLD(gamma=0.5, noisings=4), SupervisedKLO(gamma=0.5, noisings=4)], ids=["KL-D", "KL-O"]
)


def moved(student: Learner, slope: float = 0.2, shift: float = 0.7) -> Learner:
    """Return a learner whose policy differs from the reference."""
    with torch.no_grad():
        trainable_module(student.policy).get_parameter("slope").add_(slope)
        trainable_module(student.policy).get_parameter("shift").add_(shift)
    return student


def oracle() -> Learner:
    task = number_task(lifted)
    return learner(task, freeze_copy(task.policy))


def states(count: int, dims: int = 2, weight: float = 1.0) -> Noised:
    """Return noisy states of standard normal samples at random grid points, in double precision."""
    sampler = make_sampler()
    x0, noise = randn(count, dims), randn(count, dims, seed=1)
    step = torch.randint(0, 11, (count,), generator=torch.Generator().manual_seed(0))
    weights = torch.full((count,), weight, dtype=F64)
    return Noised(sampler.add_noise(x0, noise, step), noise, step, weights, torch.arange(count), {})


def in_double(slope: float, shift: float) -> Learner:
    policy = Policy(AffineDenoiser(make_sampler(), F64), make_sampler())
    return moved(learner(policy, freeze_copy(policy)), slope, shift)


def distance(table: Noised, slope: float, shift: float) -> Tensor:
    """Compute the mean square over the dimensions of the noise that `AffineDenoiser` adds to the base's."""
    sampler = make_sampler()
    unit = torch.cat([sampler.std / sampler.prediction_coef, torch.zeros(1, dtype=F64)])[table.step]
    return (unit.unsqueeze(1) * (slope * table.x + shift)).square().mean(1)


@METHODS
def test_samples_come_from_the_reference_wherever_the_policy_went(algorithm: WeightedDenoising) -> None:
    student = oracle()
    samples = list(range(12))
    before = algorithm.collect(student, samples, KEY)
    after = algorithm.collect(moved(student), samples, KEY)
    own = student.task.rollout(samples, KEY)
    assert (own.trajectory.final - before.rollouts.trajectory.final).abs().min() > 0.01
    assert after.behaviour is student.reference
    assert after.reward_queries == 12
    assert_close(after.rollouts.rewards, before.rollouts.rewards, rtol=0, atol=0)
    for name in ("x", "target", "step", "weight", "sample"):
        pair = (getattr(collected.table, name) for collected in (after, before))
        assert_close(*pair, rtol=0, atol=0)


@METHODS
def test_each_round_draws_samples_of_its_own(algorithm: WeightedDenoising) -> None:
    one, two = (algorithm.collect(oracle(), [0, 1], Key(0, stream)).rollouts.rewards for stream in (1, 2))
    assert (one != two).all()


def test_kl_d_weights_are_the_shifted_reward_above_zero() -> None:
    assert SupervisedKLD(gamma=0.5, noisings=1).weights(REWARDS)[:4].tolist() == [1.5, 4.5, 0.0, 0.5]
    assert SupervisedKLD(gamma=0.0, noisings=1).weights(REWARDS)[:4].tolist() == [1.0, 4.0, 0.0, 0.0]


def test_kl_o_weights_are_the_reward_above_zero() -> None:
    for gamma in (0.0, 5.0):
        assert SupervisedKLO(gamma=gamma, noisings=1).weights(REWARDS)[:4].tolist() == [1.0, 4.0, 0.0, 0.0]


@METHODS
def test_samples_without_a_reward_are_left_out(algorithm: WeightedDenoising) -> None:
    assert algorithm.weights(REWARDS).isnan().tolist() == [False] * 4 + [True]
    student = oracle()
    student = replace(student, task=replace(student.task, reward=scored(REWARDS)))
    collected = algorithm.collect(student, list(range(5)), KEY)
    assert sorted(collected.table.sample.tolist()) == sorted([0, 1, 2, 3] * 4)
    assert algorithm.loss(student, collected.table)[0].isfinite()


def test_a_large_gamma_makes_kl_d_an_imitation() -> None:
    weights = SupervisedKLD(gamma=1e4, noisings=1).weights(torch.tensor([1.0, 4.0, -2.0]))
    assert_close(weights / weights.mean(), torch.ones(3), rtol=1e-3, atol=0)


def test_kl_d_minimises_the_weighted_error() -> None:
    student, table = in_double(0.1, 0.3), states(40)
    table = replace(table, weight=randn(40, seed=5).abs())
    loss, facts = SupervisedKLD(gamma=2.0, noisings=1).loss(student, table)
    error = denoising_error(student.policy, table)
    assert_close(loss, (table.weight * error).mean(), rtol=1e-12, atol=0)
    assert_close(facts["denoising_error"], error, rtol=1e-12, atol=0)


def test_kl_o_adds_gamma_times_the_distance_to_the_reference() -> None:
    """mean(w |eps - eps_th|^2 + gamma |eps_th - eps_ref|^2), both per degree of freedom; gamma is not weighted."""
    table = replace(states(40), weight=randn(40, seed=5).abs())
    student = in_double(0.1, 0.3)
    loss, facts = SupervisedKLO(gamma=2.0, noisings=1).loss(student, table)
    away = distance(table, 0.1, 0.3)
    assert_close(facts["moved"].detach(), away, rtol=1e-9, atol=1e-12)
    expected = (table.weight * denoising_error(student.policy, table)).mean() + 2.0 * away.mean()
    assert_close(loss, expected, rtol=1e-9, atol=0)


def test_the_anchor_alone_leads_back_to_the_reference() -> None:
    """No reward, no weight: the loss is the distance, and its gradient points away from the reference."""
    table = states(60, weight=0.0)
    algorithm = SupervisedKLO(gamma=1.5, noisings=1)
    for shift in (0.4, -0.4):
        student = in_double(0.0, shift)
        loss, _ = algorithm.loss(student, table)
        assert loss.item() == pytest.approx(1.5 * distance(table, 0.0, shift).mean().item(), rel=1e-9)
        (gradient,) = torch.autograd.grad(loss, trainable_module(student.policy).get_parameter("shift"))
        assert (gradient.sign() == (1 if shift > 0 else -1)).all()


def test_at_the_reference_the_anchor_is_still() -> None:
    student, table = in_double(0.0, 0.0), states(60)
    parameters = list(trainable_module(student.policy).parameters())
    anchored, free = (
        torch.autograd.grad(SupervisedKLO(gamma=gamma, noisings=1).loss(student, table)[0], parameters)
        for gamma in (3.0, 0.0)
    )
    assert_close(anchored, free, rtol=1e-12, atol=0)
    assert max(gradient.abs().max() for gradient in free) > 0


def test_the_anchor_is_per_degree_of_freedom_and_ignores_padding() -> None:
    """Clouds whose noise the policy gets wrong by one in every real feature: 2 m of 5 m - 3 degrees of freedom."""

    def away(x: Tensor, t: Tensor, context: Context) -> Tensor:
        eps = torch.full_like(x, 9.0)  # also on padding
        eps[..., 3:] = 1.0
        eps[..., :3] = 4.0  # a mean that the space does not know
        return eps

    def nothing(x: Tensor, t: Tensor, context: Context) -> Tensor:
        return torch.zeros_like(x)

    task = cloud_task(lambda samples: torch.ones(len(samples)))
    reference = replace(task.policy, denoiser=nothing)
    student = Learner(replace(task, policy=replace(task.policy, denoiser=away)), reference)
    algorithm = SupervisedKLO(gamma=1.0, noisings=2)
    table = algorithm.collect(student, list(range(6)), KEY).table
    _, facts = algorithm.loss(student, table)
    size = table.context["mask"].sum(1).float()
    assert_close(facts["moved"], 2 * size / (5 * size - 3), rtol=1e-5, atol=0)


@METHODS
def test_the_reference_has_no_gradient(algorithm: WeightedDenoising) -> None:
    student = moved(oracle())
    table = algorithm.collect(student, [0, 1, 2], KEY).table
    algorithm.loss(student, table)[0].backward()
    assert all(parameter.grad is None for parameter in trainable_module(student.reference).parameters())
    assert all(parameter.grad is not None for parameter in trainable_module(student.policy).parameters())


@pytest.mark.parametrize("kind", [SupervisedKLD, SupervisedKLO])
@pytest.mark.parametrize("wrong", [{"gamma": -0.1}, {"gamma": NAN}, {"noisings": 0}])
def test_settings_that_mean_nothing_are_refused_by_name(
    kind: type[SupervisedKLD] | type[SupervisedKLO], wrong: dict[str, float]
) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kind(**{"gamma": 0.5, "noisings": 1, **wrong})  # type: ignore[arg-type]
