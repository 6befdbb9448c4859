"""DPOK climbs its own objective: reward less KL, by exact gradients of a chain small enough to integrate over."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import Tensor, nn
from torch.testing import assert_close
from toy import learner, number_task, quadratic, randn, scored

from molrl.advantages import Centred
from molrl.algos import Algorithm, Learner
from molrl.algos.ddpo import DDPO
from molrl.algos.dpok import CHUNK_ROWS, DPOK, step_kl, sum_of_later
from molrl.finetune import freeze_copy
from molrl.gaussian import Context, Euclidean
from molrl.noise import Key
from molrl.oracle.chain import Chain, Moments
from molrl.oracle.chain import quadratic as parabola
from molrl.oracle.control import KL, optimal_control
from molrl.oracle.linear_gaussian import AffineDenoiser, Points, Values
from molrl.oracle.trial import objective
from molrl.policy import Policy
from molrl.samplers import DDIM
from molrl.schedule import LogLinear
from molrl.task import Rollouts, Task
from molrl.trainable_parameters import trainable_module
from molrl.trajectory import Transitions

F64 = torch.float64
KEY = Key(0, 1)
NAN = float("nan")
REWARD = parabola(1.0, 2.0)  # what `toy.quadratic` is
BETA, WEIGHT = 0.7, 1.5
Gradients = tuple[Tensor, ...]


def dpok(**changes: object) -> DPOK:
    settings = {
        "reward_weight": 1.0,
        "kl_weight": 0.0,
        "kl_mode": "local",
        "clip": 0.2,
        "clip_mode": "ppo",
        "critic": False,
        "critic_lr": 0.01,
        "train_steps": 10,
        "first": 0.0,
        "last": 1.0,
    }
    return DPOK(**{**settings, **changes})  # type: ignore[arg-type]


def gradients(policy: Policy, loss: Tensor) -> Gradients:
    return torch.autograd.grad(loss, list(trainable_module(policy).parameters()))


def moved(policy: Policy, size: float = 0.3) -> Policy:
    """Return the policy with random slopes and shifts."""
    with torch.no_grad():
        for seed, parameter in enumerate(trainable_module(policy).parameters()):
            parameter.add_(size * randn(len(parameter), seed=seed).to(parameter))
    return policy


def affine(num_steps: int = 2) -> Policy:
    """Return a policy in double precision, on a grid in which even the last of two steps matters."""
    sampler = DDIM(schedule=LogLinear(0.5, 5.0), num_steps=num_steps, space=Euclidean())
    return Policy(AffineDenoiser(sampler, F64), sampler)


def rule(draws: int, points: int) -> tuple[Tensor, Tensor]:
    """Return nodes [points^draws, draws] and weights of Gauss-Hermite quadrature, of degree 2 points - 1 in each."""
    nodes, weights = hermegauss(points)
    grid = torch.tensor(list(itertools.product(nodes, repeat=draws)), dtype=F64)
    mass = [float(np.prod(each)) for each in itertools.product(weights / weights.sum(), repeat=draws)]
    return grid, torch.tensor(mass, dtype=F64)


@dataclass(frozen=True)
class OnNodes(Task):
    """A task whose rollouts are the nodes of a quadrature over the prior and the noise of each step."""

    points: int = 5

    def rollout(self, samples: Sequence[int], key: Key, group_size: int = 1) -> Rollouts:
        nodes, _ = rule(self.policy.sampler.num_steps + 1, self.points)
        run = self.policy.rollout({}, lambda i: nodes[:, i : i + 1])
        finished = list(run.final)
        return Rollouts(run, finished, self.reward(finished), {"rollout": 0.0, "decode": 0.0, "reward": 0.0})


def on_nodes(
    policy: Policy, reward: Callable[[Sequence[Any]], Tensor] = quadratic, points: int = 5, network: Any = Values
) -> OnNodes:
    return OnNodes("nodes", policy, Points(), reward, value_network=network, points=points)


def expected_gradient(algorithm: DPOK, policy: Policy, reference: Policy) -> Gradients:
    """Compute the mean over all rollouts of the gradient of the loss, summed over the steps."""
    task = on_nodes(policy)
    _, mass = rule(3, 5)
    modules = algorithm.modules(task).double()
    student = Learner(task, reference, modules)
    table = algorithm.collect(student, list(range(len(mass))), KEY).table
    total = [torch.zeros(2, dtype=F64), torch.zeros(2, dtype=F64)]
    for sample, weight in enumerate(mass):
        batch = table[(table.sample == sample).nonzero().squeeze(1)]
        assert len(batch) == 2
        for sum_, gradient in zip(total, gradients(policy, algorithm.loss(student, batch)[0]), strict=True):
            sum_.add_(weight * 2 * gradient)  # the loss is a mean over the two steps
    return tuple(total)


def derivative(policy: Policy, value: Callable[[], float]) -> Gradients:
    """Compute central differences along each slope and each shift."""
    slopes = []
    for parameter in trainable_module(policy).parameters():
        one = torch.zeros_like(parameter)
        for k in range(len(parameter)):
            values = []
            for change in (1e-4, -1e-4):
                with torch.no_grad():
                    parameter[k] += change
                    values.append(value())
                    parameter[k] -= change
            one[k] = (values[0] - values[1]) / 2e-4
        slopes.append(one)
    return tuple(slopes)


def own_kl(policy: Policy, reference: Policy, laws: Sequence[Moments]) -> float:
    """Sum the steps' KLs at states of these laws, wherever the policy would lead."""
    total = 0.0
    steps = zip(laws, Chain.from_policy(policy).steps, Chain.from_policy(reference).steps, strict=False)
    for law, (a, b, std), (a_ref, b_ref, _) in steps:
        total += (((a - a_ref) * law.mean + b - b_ref) ** 2 + (a - a_ref) ** 2 * law.variance) / (2 * std**2)
    return total


def minus(values: Gradients) -> Gradients:
    return tuple(-value for value in values)


@pytest.mark.parametrize("off_policy", [False, True])
def test_without_kl_and_critic_it_is_ddpo_with_centred_rewards(off_policy: bool) -> None:
    task = number_task()
    plain = DDPO(clip=0.2, advantage_clip=1e9, advantage=Centred(), kl_weight=0.0, train_steps=4, first=0.0, last=1.0)
    algorithms: tuple[Algorithm, Algorithm] = (dpok(train_steps=4), plain)
    tables = [algorithm.collect(learner(task), list(range(32)), KEY).table for algorithm in algorithms]
    if off_policy:
        moved(task.policy)
    got, expected = (algorithm.loss(learner(task), table) for algorithm, table in zip(algorithms, tables, strict=True))
    assert_close(gradients(task.policy, got[0]), gradients(task.policy, expected[0]), rtol=1e-5, atol=1e-6)
    assert_close(got[1], expected[1], rtol=0, atol=0)
    assert bool(got[1]["clipped"].any()) == off_policy


@pytest.mark.parametrize("critic", [False, True])
@pytest.mark.parametrize("clip_mode", ["ppo", "dpok"])
def test_without_kl_the_gradient_is_that_of_the_expected_reward(clip_mode: str, critic: bool) -> None:
    """To rounding, whatever the baseline; the loss is minimised."""
    policy = moved(affine())
    algorithm = dpok(clip_mode=clip_mode, critic=critic, reward_weight=WEIGHT)
    wanted = derivative(policy, lambda: WEIGHT * REWARD.expected(Chain.from_policy(policy).marginal()))
    assert_close(minus(expected_gradient(algorithm, policy, freeze_copy(policy))), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("critic", [False, True])
def test_return_to_go_has_the_gradient_of_the_objective(critic: bool) -> None:
    """E[weight r] - beta sum_k E KL_k, each later KL charged to the steps before."""
    reference, policy = affine(), moved(affine())
    algorithm = dpok(kl_mode="return_to_go", kl_weight=BETA, reward_weight=WEIGHT, critic=critic)

    def value() -> float:
        return WEIGHT * objective(Chain.from_policy(policy), Chain.from_policy(reference), REWARD, BETA / WEIGHT)

    got = minus(expected_gradient(algorithm, policy, reference))
    assert_close(got, derivative(policy, value), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dims", [1, 10])
@pytest.mark.parametrize("kl_mode", ["local", "return_to_go"])
def test_the_per_dimension_likelihood_divides_the_whole_loss_once(kl_mode: str, dims: int) -> None:
    """So it has the optimum of the joint likelihood: score weights are the same, gradients shorter by the numbers."""
    reference = affine()
    task = replace(number_task(), policy=moved(affine()), decoder=Points(dims))
    student = learner(task, reference)
    joint, mean = (dpok(kl_mode=kl_mode, kl_weight=BETA, likelihood=likelihood) for likelihood in ("joint", "per_dim"))
    tables = [algorithm.collect(student, list(range(8)), KEY).table for algorithm in (joint, mean)]
    assert_close(tables[0].advantage, tables[1].advantage, rtol=0, atol=0)
    whole, part = (
        gradients(task.policy, algorithm.loss(student, table)[0])
        for algorithm, table in zip((joint, mean), tables, strict=True)
    )
    assert_close([gradient / dims for gradient in whole], list(part), rtol=1e-5, atol=1e-9)  # of float32 states


def test_the_local_mode_charges_each_step_its_own_kl_alone() -> None:
    """So it lacks, in the first step, what that does to the KL of the second; in the last step it is exact."""
    reference, policy = affine(), moved(affine())
    laws = Chain.from_policy(policy).states()
    got = minus(expected_gradient(dpok(kl_weight=BETA), policy, reference))

    def value() -> float:
        reward = REWARD.expected(Chain.from_policy(policy).marginal())
        return reward - BETA * own_kl(policy, reference, laws)

    assert_close(got, derivative(policy, value), rtol=1e-6, atol=1e-7)
    total = derivative(policy, lambda: objective(Chain.from_policy(policy), Chain.from_policy(reference), REWARD, BETA))
    for local, full in zip(got, total, strict=True):
        assert local[0].item() != pytest.approx(full[0].item(), rel=1e-3)
        assert local[1].item() == pytest.approx(full[1].item(), rel=1e-6)


@pytest.mark.parametrize("mode", ["local", "return_to_go"])
def test_each_mode_stops_at_its_own_fixed_point(mode: KL) -> None:
    reference, policy = affine(), affine()
    base = Chain.from_policy(reference)
    optimum = optimal_control(base, REWARD, BETA, mode)
    denoiser = policy.denoiser
    assert isinstance(denoiser, AffineDenoiser)
    with torch.no_grad():
        for parameter, field in ((denoiser.slope, "slope"), (denoiser.shift, "offset")):
            there, here = (torch.tensor(getattr(each, field), dtype=F64) for each in (optimum, base))
            parameter.copy_((there - here) / torch.tensor(base.std, dtype=F64))
    for kl_mode in ("local", "return_to_go"):
        got = expected_gradient(dpok(kl_mode=kl_mode, kl_weight=BETA), policy, reference)
        largest = max(gradient.abs().max().item() for gradient in got)
        assert largest < 1e-7 if kl_mode == mode else largest > 1e-2


def test_later_is_the_sum_over_the_steps_after_each() -> None:
    cost = torch.tensor([[1.0, 8.0], [2.0, 0.0], [4.0, 3.0]])
    assert sum_of_later(cost).tolist() == [[6, 3], [4, 3], [0, 0]]


def test_the_kl_of_each_step_is_exact() -> None:
    """Every mean moved by `shift` stds costs shift^2 / 2, for more steps than fit into one chunk."""
    policy = affine(10)
    reference = freeze_copy(policy)
    shift = randn(10)
    with torch.no_grad():
        trainable_module(policy).get_parameter("shift").copy_(shift)
    noise = randn(11, 150, 1)
    run = policy.rollout({}, lambda i: noise[i])
    kl = step_kl(learner(policy, reference), Rollouts(run, [], torch.zeros(150, dtype=F64), {}))
    assert kl.numel() > CHUNK_ROWS
    assert_close(kl, (shift**2 / 2).view(-1, 1).expand(10, 150), rtol=1e-8, atol=0)


def test_later_kls_are_taken_off_the_reward_and_the_mean_of_each_step_too() -> None:
    """Mean-shifted policy: KL shift^2 / 2 at every step and sample, the same for all, so that nothing is left of it."""
    task = on_nodes(affine(), points=3)
    reference = freeze_copy(task.policy)
    with torch.no_grad():
        trainable_module(task.policy).get_parameter("shift").fill_(0.4)
    student = learner(task, reference)
    full = dpok(kl_mode="return_to_go", kl_weight=BETA)
    shifted = full.collect(student, list(range(27)), KEY).table
    free = dpok().collect(student, list(range(27)), KEY).table
    assert_close(shifted.advantage, free.advantage, rtol=1e-9, atol=1e-9)
    with_critic = replace(full, critic=True).collect(student, list(range(27)), KEY).table
    assert_close(with_critic.advantage, free.advantage, rtol=1e-9, atol=1e-9)


def one_step(advantage: float, ratio: float) -> tuple[Policy, Transitions, Tensor]:
    """Return a reverse step of likelihood ratio `ratio`, and the gradient of its log-probability in the shift."""
    policy = affine()
    noise = randn(3, 1, 1)
    table = policy.rollout({}, lambda i: noise[i]).transitions(torch.full((1,), advantage, dtype=F64))[
        torch.tensor([1])
    ]
    (gradient,) = torch.autograd.grad(policy.log_prob(table).sum(), trainable_module(policy).get_parameter("shift"))
    assert gradient[1].abs() > 0.1
    return policy, replace(table, log_prob=table.log_prob - torch.tensor(ratio, dtype=F64).log()), gradient


@pytest.mark.parametrize("advantage", [1.0, -2.0])
@pytest.mark.parametrize("ratio", [0.5, 0.79, 0.9, 1.0, 1.1, 1.21, 2.0])
def test_the_plain_clamp_stops_on_both_sides_and_the_pessimistic_one_on_one(advantage: float, ratio: float) -> None:
    """d loss = -A ratio d log p, or zero: outside of the band, or there only where the move went the wanted way."""
    inside = 0.8 <= ratio <= 1.2
    enough = (ratio - 1) * advantage > 0
    for mode, counts in (("dpok", inside), ("ppo", inside or not enough)):
        policy, table, score = one_step(advantage, ratio)
        loss, facts = dpok(clip_mode=mode).loss(learner(policy), table)
        (gradient,) = torch.autograd.grad(loss, trainable_module(policy).get_parameter("shift"))
        assert_close(gradient, -advantage * ratio * score * counts, rtol=1e-9, atol=1e-12)
        assert facts["clipped"].item() == (not inside)
        assert facts["log_ratio"].item() == pytest.approx(float(np.log(ratio)), abs=1e-12)


@pytest.mark.parametrize("clip_mode", ["ppo", "dpok"])
@pytest.mark.parametrize("critic", [False, True])
def test_the_gradient_is_the_slope_of_the_loss(clip_mode: str, critic: bool) -> None:
    """Off policy, some rows clipped, KL included: automatic against finite differences."""
    policy = affine(3)
    reference = freeze_copy(policy)
    noise = randn(4, 40, 1)
    table = policy.rollout({}, lambda i: noise[i]).transitions(randn(40, seed=1))
    moved(policy, 0.1)
    algorithm = dpok(clip_mode=clip_mode, kl_weight=BETA, critic=critic)
    task = on_nodes(policy)
    student = Learner(task, reference, algorithm.modules(task).double())
    loss, facts = algorithm.loss(student, table)
    assert 0 < facts["clipped"].mean() < 1
    got = gradients(policy, loss)

    def value() -> float:
        return algorithm.loss(student, table)[0].item()

    assert_close(got, derivative(policy, value), rtol=1e-5, atol=1e-7)


class Line(nn.Module):
    """V(x, t) = height_k + slope_k x at step k of a chain of two."""

    def __init__(self) -> None:
        super().__init__()
        self.height = nn.Parameter(torch.zeros(2, dtype=F64))
        self.slope = nn.Parameter(torch.zeros(2, dtype=F64))

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        step = ((1 - t) * 2).round().long()
        value: Tensor = self.height[step] + self.slope[step] * x.squeeze(1)
        return value


def test_the_critic_learns_what_a_state_is_worth() -> None:
    """Reward x, means shifted by 0.3 and -0.5 stds: V_k(x) = weight (E[x_0 | x_k] - E[x_0]), a line; KLs are the same
    for all and go with the mean.

    On nodes +-1 of equal weight, exact to degree three, the least squares are those of the whole law.
    """
    reference, policy = affine(), affine()
    with torch.no_grad():
        trainable_module(policy).get_parameter("shift").copy_(torch.tensor([0.3, -0.5]))
    task = on_nodes(policy, lambda samples: torch.cat(list(samples)), points=2, network=Line)
    algorithm = dpok(critic=True, kl_mode="return_to_go", kl_weight=BETA, reward_weight=WEIGHT)
    student = Learner(task, reference, algorithm.modules(task))
    table = algorithm.collect(student, list(range(8)), KEY).table
    critic = student.modules["critic"]
    assert isinstance(critic, Line)
    optimizer = torch.optim.LBFGS(
        critic.parameters(), max_iter=100, line_search_fn="strong_wolfe", tolerance_grad=1e-12, tolerance_change=1e-16
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss, facts = algorithm.loss(student, table)
        loss.backward()
        return facts["value_error"].mean()  # the rest of the loss has no gradient here

    optimizer.step(closure)
    law = Chain.from_policy(policy)
    last = WEIGHT * law.decode_slope * law.slope[1]
    assert critic.slope.tolist() == pytest.approx([last * law.slope[0], last], abs=1e-6)
    assert critic.height.tolist() == pytest.approx([0, -last * law.states()[1].mean], abs=1e-6)


def test_the_critic_learns_from_its_error_alone_and_is_only_a_number_to_the_policy() -> None:
    task = on_nodes(affine(), points=2)
    algorithm = dpok(critic=True)
    student = Learner(task, freeze_copy(task.policy), algorithm.modules(task).double())
    table = algorithm.collect(student, list(range(8)), KEY).table
    critic = student.modules["critic"]
    loss, facts = algorithm.loss(student, table)
    got = torch.autograd.grad(loss, list(critic.parameters()), retain_graph=True)
    value = critic(table.x, 1 - table.step.to(table.x) / 2, {})
    error = (value - table.advantage).square()
    assert_close(got, torch.autograd.grad(error.mean(), list(critic.parameters())), rtol=1e-12, atol=0)
    assert_close(facts["value_error"], error.detach(), rtol=1e-12, atol=0)
    advantage = (table.advantage - value).detach()
    expected = gradients(task.policy, -(advantage * task.policy.log_prob(table)).mean())
    assert_close(gradients(task.policy, loss), expected, rtol=1e-9, atol=1e-12)


def test_a_critic_is_the_tasks_own_network_at_its_own_rate() -> None:
    algorithm = dpok(critic=True, critic_lr=0.07)
    modules = algorithm.modules(number_task())
    assert isinstance(modules["critic"], Values)
    assert algorithm.learning_rate("critic") == 0.07
    assert len(dpok().modules(number_task())) == 0


def test_a_critic_without_a_network_for_values_is_refused() -> None:
    task = replace(number_task(), value_network=None)
    with pytest.raises(ValueError, match="critic: task 'numbers' offers no network for values of its states"):
        dpok(critic=True).modules(task)
    assert len(dpok(critic=False).modules(task)) == 0


@pytest.mark.parametrize("critic", [False, True])
@pytest.mark.parametrize("kl_mode", ["local", "return_to_go"])
def test_samples_without_a_reward_are_not_trained_on(kl_mode: str, critic: bool) -> None:
    task = number_task(scored(torch.tensor([1.0, NAN, 2.0, float("inf")])))
    algorithm = dpok(kl_mode=kl_mode, critic=critic, kl_weight=0.1, reward_weight=2.0)
    student = Learner(task, freeze_copy(task.policy), algorithm.modules(task))
    table = algorithm.collect(student, list(range(4)), KEY).table
    assert set(table.sample.tolist()) == {0, 2}
    worth = torch.tensor([-1.0, 0, 1.0])
    assert_close(table.advantage, worth[table.sample])
    assert algorithm.loss(student, table)[0].isfinite()


def test_only_steps_of_the_window_are_trained_on_and_each_has_the_advantage_of_its_place() -> None:
    """With a state-dependent KL an advantage belongs to one (step, sample) and must travel with it."""
    task = number_task()
    reference = freeze_copy(task.policy)
    moved(task.policy)
    student = learner(task, reference)
    settings: dict[str, object] = {"kl_mode": "return_to_go", "kl_weight": 1.0}
    every = dpok(**settings).collect(student, list(range(20)), KEY).table
    some = dpok(**settings, first=0.2, last=0.5, train_steps=2).collect(student, list(range(20)), KEY).table
    assert len(some) == 20 * 2
    assert set(some.step.tolist()) == {2, 3, 4}
    rows = some.step * 20 + some.sample
    assert_close(some.advantage, every.advantage[rows], rtol=0, atol=0)
    assert_close(some.y, every.y[rows], rtol=0, atol=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"reward_weight": 0.0},
        {"clip": -0.1},
        {"clip": NAN},
        {"critic_lr": 0.0},
        {"train_steps": 0},
        {"kl_weight": -1.0},
        {"kl_weight": float("inf")},
    ],
)
def test_settings_that_mean_nothing_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        dpok(**wrong)
