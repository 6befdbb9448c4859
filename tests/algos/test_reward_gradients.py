"""Methods that differentiate the reward have the gradients and targets of closed forms and finite differences."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from test_finetune import finetuning
from torch import Tensor
from torch.testing import assert_close
from toy import UNMEASURED, cloud_task, learner, number_task

from molrl.algos import Learner
from molrl.algos.adjoint import AdjointMatching, adjoint_targets
from molrl.algos.differentiable import Tails, linearised_reward, require_gradient, reward_gradient
from molrl.algos.draft import DRaFT
from molrl.algos.held_out import HeldOut, HeldOutRecord
from molrl.algos.refl import ReFL
from molrl.finetune import finetune, freeze_copy
from molrl.noise import Key
from molrl.oracle.chain import Chain, linear, quadratic
from molrl.oracle.control import optimal_control
from molrl.oracle.linear_gaussian import BASE_MEAN, BASE_VARIANCE, AffineDenoiser, ParabolaReward, make_sampler
from molrl.oracle.reward_gradient import control_of_last_steps, refl
from molrl.policy import Policy
from molrl.samplers import DDIM
from molrl.schedule import alpha, sigma
from molrl.task import Metrics, Task
from molrl.trainable_parameters import trainable_module

F64, KEY, NAN = torch.float64, Key(0, 1), float("nan")
QUADRATIC = quadratic(1.0, 2.0)


def base(num_steps: int = 10) -> Chain:
    return Chain.exact(make_sampler(num_steps), BASE_MEAN, BASE_VARIANCE)


def exact_task(reward: Any, num_steps: int = 10, eta: float = 1.0, chain: Chain | None = None) -> Task:
    """Return the linear-Gaussian problem in float64, with the moves that make its chain the given one."""
    sampler = make_sampler(num_steps, eta)
    denoiser = AffineDenoiser(sampler, F64, in_stds=eta > 0)
    if chain is not None:
        before, std = base(num_steps), torch.tensor(chain.std, dtype=F64)
        with torch.no_grad():
            for parameter, new, old in (
                (denoiser.slope, chain.slope, before.slope),
                (denoiser.shift, chain.offset, before.offset),
            ):
                parameter.copy_((torch.tensor(new, dtype=F64) - torch.tensor(old, dtype=F64)) / std)
    return replace(number_task(reward), policy=Policy(denoiser, sampler))


def gradients(of: Learner, loss: Tensor) -> dict[str, Tensor]:
    parameters = dict(trainable_module(of.policy).named_parameters())
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(parameters.items(), found, strict=True)
    }


# the adjoint


@pytest.mark.parametrize("num_steps", [1, 5, 10])
def test_the_targets_at_the_best_chain_are_its_own_means(num_steps: int) -> None:
    """They are affine in the later noise, so that a trajectory without any has the conditional expectation."""
    best = optimal_control(base(num_steps), QUADRATIC, 0.7)
    task = exact_task(ParabolaReward(QUADRATIC), num_steps, chain=best)
    start = torch.tensor([[-1.3], [0.4], [2.0]], dtype=F64)
    still = task.policy.rollout({}, lambda draw: start if draw == 0 else torch.zeros_like(start))
    targets, known = adjoint_targets(task, exact_task(None, num_steps).policy, still, 0.7)
    assert known.all()
    assert_close(targets, still.states[1:], atol=1e-10, rtol=0)


def test_the_published_tables_of_both_adjoints_hold() -> None:
    """After the step the fixed point is the optimum; before it, as released, the mean is lower, most in few steps."""
    for num_steps, after, before in ((10, 0.8619, 0.788), (50, 0.9584, 0.942)):
        chain = replace(base(num_steps), decode_slope=1.0, decode_offset=0.0)
        assert optimal_control(chain, QUADRATIC, 1.0).marginal().mean == pytest.approx(after, abs=6e-5)
        slopes, offsets = [], []
        p, r = 1.0, -2.0  # E[a_{k+1} | x'] = p x' + r, from a_K = x_K - 2
        for a, b, std in reversed(chain.steps):
            shrinkage = 1 + std**2 * a * p  # mean M(x) = a x + b - std^2 a E[a_{k+1} | x]
            slopes.append(a / shrinkage)
            offsets.append((b - std**2 * a * r) / shrinkage)
            p, r = a * p * slopes[-1], a * (p * offsets[-1] + r)
        released = replace(chain, slope=tuple(reversed(slopes)), offset=tuple(reversed(offsets)))
        assert released.marginal().mean == pytest.approx(before, abs=6e-4)


def test_an_adjoint_is_the_gradient_of_the_reward_through_the_frozen_steps() -> None:
    """For a linear reward it is known by hand: -g / beta times the decode's slope and those of the later steps."""
    task, chain = exact_task(ParabolaReward(linear(3.0)), 4), base(4)
    trajectory = task.rollout([0, 1], KEY).trajectory
    targets, _ = adjoint_targets(task, task.policy, trajectory, 0.5)
    adjoint = -3.0 / 0.5 * chain.decode_slope
    for k in (3, 2, 1, 0):
        a, b, std = chain.steps[k]
        expected = a * trajectory.states[k] + b - std**2 * adjoint
        assert_close(targets[k], expected, atol=1e-10, rtol=0)
        adjoint *= a


def test_adjoint_steps_are_chosen_early_and_late_and_rows_match_their_targets() -> None:
    algorithm = AdjointMatching(kl_weight=1.0, early=2, late=1, split=0.6, held_out=UNMEASURED)
    task = exact_task(ParabolaReward(QUADRATIC))
    collected = algorithm.collect(Learner(task, task.policy, algorithm.modules(task)), [0, 1, 2, 3], KEY)
    table = collected.table
    for sample in range(4):
        steps = table.step[table.sample == sample]
        assert int((steps < 6).sum()) == 2
        assert int((steps >= 6).sum()) == 1
    targets, _ = adjoint_targets(task, task.policy, collected.rollouts.trajectory, 1.0)
    assert_close(table.y, targets[table.step, table.sample], atol=0, rtol=0)
    kernel = task.policy.transition(table)
    loss, _ = algorithm.loss(learner(task), table)
    half_square = ((table.y - kernel.mean).squeeze(1) / kernel.std) ** 2 / 2
    assert_close(loss, half_square.mean())


def test_an_adjoint_stays_in_the_space_of_the_states() -> None:
    """On padded, centred points: targets have no centre of mass and nothing on the padding."""

    def first(samples: Sequence[Tensor]) -> Tensor:
        return torch.stack([sample[0].sum() for sample in samples])

    first.differentiable = True  # type: ignore[attr-defined]
    task = cloud_task(first)
    trajectory = task.rollout([0, 1, 2], KEY).trajectory
    targets, known = adjoint_targets(task, task.policy, trajectory, 1.0)
    projected = torch.stack([task.policy.sampler.space.project(x, trajectory.context) for x in targets])
    assert known.all()
    assert_close(targets, projected, atol=1e-6, rtol=0)
    assert (targets - trajectory.states[1:]).abs().max() > 0.01


# DRaFT


def draft(steps: int, kl_weight: float = 0.0) -> DRaFT:
    return DRaFT(steps=steps, kl_weight=kl_weight, held_out=UNMEASURED)


def draft_table(task: Task, algorithm: DRaFT, count: int = 6) -> tuple[Learner, Tails]:
    at = Learner(task, exact_task(None).policy, algorithm.modules(task))
    return at, algorithm.collect(at, list(range(count)), KEY).table


@pytest.mark.parametrize("steps", [1, 3, 1000])
def test_the_gradient_of_draft_is_the_product_of_the_last_slopes(steps: int) -> None:
    """dE[g x_0] / d shift_k = g std_k times the slopes of the steps behind k and of the decode; zero before them."""
    task, chain = exact_task(ParabolaReward(linear(3.0))), base()
    at, table = draft_table(task, draft(steps))
    found = gradients(at, draft(steps).loss(at, table)[0])["shift"]
    expected, through = torch.zeros(10, dtype=F64), 3.0 * chain.decode_slope
    for k in range(9, max(9 - steps, -1), -1):
        expected[k] = -through * chain.std[k]
        through *= chain.slope[k]
    assert_close(found, expected, atol=1e-6, rtol=1e-6)  # rewards are float32


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_the_gradient_of_draft_is_the_slope_of_its_loss(steps: int) -> None:
    """With the KL, away from the reference, by central differences on the same noise."""
    moved = optimal_control(base(), quadratic(0.5, -1.0), 1.0)
    task = exact_task(lambda samples: ParabolaReward(QUADRATIC)(samples).double(), chain=moved)
    task.reward.differentiable = True  # type: ignore[attr-defined]
    algorithm = draft(steps, kl_weight=0.3)
    at, table = draft_table(task, algorithm)
    found = gradients(at, algorithm.loss(at, table)[0])
    for name, parameter in trainable_module(task.policy).named_parameters():
        for k in range(10):
            ends = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter[k] += sign * 1e-2
                ends.append(algorithm.loss(at, table)[0].item())
                with torch.no_grad():
                    parameter[k] -= sign * 1e-2
            assert found[name][k].item() == pytest.approx((ends[0] - ends[1]) / 2e-2, abs=3e-4), (name, k)


def test_a_replayed_chain_is_that_of_the_rollout() -> None:
    task = exact_task(ParabolaReward(QUADRATIC))
    at, table = draft_table(task, draft(4))
    rewards = task.rollout(list(range(6)), KEY).rewards
    assert_close(draft(4).loss(at, table)[1]["reward_replayed"].float(), rewards, atol=1e-5, rtol=1e-5)


def test_a_chain_without_noise_has_a_gradient_and_no_kl() -> None:
    task = exact_task(ParabolaReward(linear(1.0)), eta=0.0)
    at, table = draft_table(task, draft(3))
    found = gradients(at, draft(3).loss(at, table)[0])["shift"]
    assert (found[7:].abs() > 0).all()  # three steps and the decode
    assert (found[:7] == 0).all()
    with pytest.raises(ValueError, match=r"kl_weight: got 0\.1; a chain without noise"):
        draft(3, kl_weight=0.1).modules(task)


def test_control_of_all_steps_is_the_optimal_control() -> None:
    assert control_of_last_steps(base(), QUADRATIC, 0.4, 10) == optimal_control(base(), QUADRATIC, 0.4)


@pytest.mark.parametrize("count", [1, 4])
def test_no_change_of_the_last_steps_is_better_than_their_control(count: int) -> None:
    """Brute force: E[r] - KL of these steps falls when any of their slopes or offsets moves."""
    from molrl.oracle.trial import objective

    best = control_of_last_steps(base(), QUADRATIC, 1.0, count)
    at_best = objective(best, base(), QUADRATIC, 1.0)
    assert best.slope[: 10 - count] == base().slope[: 10 - count]
    for field in ("slope", "offset"):
        for k in range(10 - count, 10):
            for change in (0.01, -0.01):
                values = list(getattr(best, field))
                values[k] += change
                moved: Any = {field: tuple(values)}
                assert objective(replace(best, **moved), base(), QUADRATIC, 1.0) < at_best


# ReFL


def refl_at(task: Task, x: float, step: int, algorithm: ReFL) -> tuple[Learner, Tensor]:
    """Return the loss at one state."""
    at = learner(task, exact_task(None).policy)
    state = torch.tensor([[x]], dtype=F64)
    empty, number = state.new_zeros(1, 0, 1), torch.tensor([step])
    return at, algorithm.loss(at, Tails(state, empty, number, torch.tensor([0]), {}))[0]


def wide(sampler: DDIM) -> Policy:
    return Policy(AffineDenoiser(sampler, F64, in_stds=False), sampler)


def test_the_gradient_of_refl_is_that_of_one_estimate() -> None:
    """d(-r(x0_hat) + anchor (eps - eps_ref)^2) / d eps = r' s / a + 2 anchor (eps - eps_ref), by hand."""
    sampler = make_sampler()
    task = replace(exact_task(ParabolaReward(QUADRATIC)), policy=wide(sampler))
    network = trainable_module(task.policy)
    with torch.no_grad():
        network.get_parameter("shift")[7] = 0.2
    algorithm = ReFL(first=0.5, last=1.0, ceiling=None, anchor=0.4, held_out=UNMEASURED)
    a, s = (float(table(sampler.log_snr)[7]) for table in (alpha, sigma))
    slope, offset = (float(column[7]) for column in base().predicted_noise(sampler))
    x, moved = 0.9, 0.2
    x0 = (x - s * (slope * x + offset + moved)) / a
    expected = (2.0 - x0) * s / a + 2 * 0.4 * moved
    found = gradients(*refl_at(task, x, 7, algorithm))["shift"]
    assert found[7].item() == pytest.approx(expected, rel=1e-5)
    assert int((found != 0).sum()) == 1


def test_no_gradient_is_above_the_ceiling() -> None:
    task = replace(exact_task(ParabolaReward(linear(1.0))), policy=wide(make_sampler()))
    capped = ReFL(first=0.5, last=1.0, ceiling=0.0, anchor=0.0, held_out=UNMEASURED)
    assert gradients(*refl_at(task, 2.0, 9, capped))["shift"].abs().max() == 0
    assert gradients(*refl_at(task, -2.0, 9, capped))["shift"].abs().max() > 0


def test_refl_draws_one_late_state_of_each_sample() -> None:
    """With the end of the chain, whose estimate is the sample; not where the sample is the state itself."""
    algorithm = ReFL(first=0.7, last=1.0, ceiling=None, anchor=0.0, held_out=UNMEASURED)
    task = exact_task(ParabolaReward(QUADRATIC))
    for finish, steps in (("clean", {8, 9, 10}), ("state", {7, 8, 9})):
        sampler = replace(task.policy.sampler, finish=finish)  # type: ignore[type-var]
        changed = replace(task, policy=replace(task.policy, sampler=sampler))
        table = algorithm.collect(Learner(changed, task.policy, algorithm.modules(task)), list(range(64)), KEY).table
        assert set(table.step.tolist()) == steps
        assert table.sample.tolist() == list(range(64))


def test_the_fixed_point_of_refl_is_best_at_every_state() -> None:
    """Brute force over eps at a few states of each grid point of the window; other points stay."""
    sampler = make_sampler()
    best, start = refl(sampler, base(), QUADRATIC, 0.5, 1.0, 0.3), base().predicted_noise(sampler)
    slope, offset = best.predicted_noise(sampler)
    a, s = alpha(sampler.log_snr), sigma(sampler.log_snr)
    for x in (-1.0, 0.3, 2.0):
        reference, found = start[0] * x + start[1], slope * x + offset

        def value(eps: Tensor, x: float = x, reference: Tensor = reference) -> Tensor:
            return QUADRATIC((x - s * eps) / a) - 0.3 * (eps - reference) ** 2

        assert_close(found[:6], reference[:6], atol=1e-10, rtol=0)
        assert (value(found)[6:] > value(found + 1e-2)[6:]).all()
        assert (value(found)[6:] > value(found - 1e-2)[6:]).all()


# what they share


class Rooted:
    """A reward whose gradient is infinite at zero and whose value is NaN below it."""

    differentiable = True

    def __call__(self, samples: Sequence[Tensor]) -> Tensor:
        return torch.stack([sample.sum().sqrt() for sample in samples])


def test_a_sample_without_a_finite_gradient_does_not_reach_the_others() -> None:
    task = replace(number_task(), reward=Rooted())
    x0 = torch.tensor([[4.0], [0.0], [-1.0], [1.0]], requires_grad=True)
    rewards, known = linearised_reward(task, x0, {})
    assert known.tolist() == [True, False, False, True]
    assert rewards.tolist() == [2.0, 0.0, 0.0, 1.0]
    (gradient,) = torch.autograd.grad(rewards.sum(), x0)
    assert_close(gradient, torch.tensor([[0.25], [0.0], [0.0], [0.5]]))


def test_a_reward_that_only_claims_a_gradient_is_refused() -> None:
    def claims(samples: Sequence[Tensor]) -> Tensor:
        return torch.tensor([sample.item() for sample in samples])

    claims.differentiable = True  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="gave values without a gradient"):
        reward_gradient(replace(number_task(), reward=claims), torch.ones(2, 1), {})


def test_a_reward_without_a_gradient_is_answered_with_those_that_have_one() -> None:
    with pytest.raises(ValueError, match=r"no gradient.*shape_class, .*shape_symmetry, .*differentiable = True"):
        require_gradient(replace(number_task(), reward=len))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rounds", "counts"),
    [
        ([(0.0, 0.0), (1.0, 1.0), (2.0, 2.0)], [0, 0, 0]),  # both rise
        ([(0.0, 0.0), (1.0, -1.0), (2.0, -2.0)], [0, 1, 2]),  # only the trained one does
        ([(0.0, 0.0), (-1.0, -1.0), (1.0, -1.0)], [0, 0, 1]),  # both fall, then one recovers
        ([(0.0, 0.0), (1.0, -0.2), (2.0, -0.2)], [0, 0, 0]),  # within three standard errors of 0.1
        ([(0.0, 0.0), (1.0, -1.0), (2.0, -0.1), (3.0, -1.0)], [0, 1, 0, 1]),  # not in a row
        ([(0.0, 0.0), (1.0, -1.0), (NAN, NAN), (3.0, -1.0)], [0, 1, 1, 2]),  # a round without rewards says nothing
    ],
)
def test_rewards_diverge_where_only_the_trained_one_rises(rounds: list[tuple[float, float]], counts: list[int]) -> None:
    record = HeldOutRecord()
    assert [record.add(trained, held_out, 0.1) for trained, held_out in rounds] == counts
    again = HeldOutRecord()
    again.load_state_dict(record.state_dict())
    assert again.add(9.0, -9.0, 0.1) == counts[-1] + 1


def below(samples: Sequence[Tensor]) -> Tensor:
    return -torch.stack(list(samples)).sum(1)


@pytest.mark.parametrize(("stop", "rounds"), [(True, 3), (False, 12)])
def test_a_run_ends_where_the_held_out_reward_falls(stop: bool, rounds: int) -> None:
    """A linear reward against its negative: each round raises one and lowers the other."""
    held_out = HeldOut(reward=below, own_judge=True, patience=2, stop=stop)
    task, seen = number_task(ParabolaReward(linear(1.0))), list[Metrics]()
    loop = finetuning(iterations=12, rollouts=512, minibatch=512, optimizer=partial(torch.optim.SGD, lr=1.0))
    algorithm = DRaFT(steps=10, kl_weight=0.0, held_out=held_out)
    done = finetune(loop, task, algorithm, freeze_copy(number_task().policy), None, seen.append)
    assert seen[-1]["held_out"] == pytest.approx(-seen[-1]["reward"], rel=1e-6)
    assert [row["exploited"] for row in seen[:3]] == [0.0, 0.0, 1.0][: len(seen)]
    assert done == len(seen)
    assert done == rounds


class Judged(ParabolaReward):
    """A reward with a judge of its own."""

    held_out_reward = staticmethod(below)


@pytest.mark.parametrize(
    ("held_out", "sign"),
    [
        (HeldOut(reward=None, own_judge=True, patience=2, stop=False), -1),
        (HeldOut(reward=ParabolaReward(linear(2.0)), own_judge=True, patience=2, stop=False), 2),
        (HeldOut(reward=None, own_judge=False, patience=2, stop=False), None),
    ],
)
def test_a_reward_is_held_to_its_own_judge_unless_another_is_given(held_out: HeldOut, sign: float | None) -> None:
    task, rows = number_task(Judged(linear(1.0))), list[Metrics]()
    algorithm = DRaFT(steps=1, kl_weight=0.0, held_out=held_out)
    finetune(finetuning(iterations=1, rollouts=16), task, algorithm, freeze_copy(task.policy), None, rows.append)
    assert ("held_out" in rows[0]) == (sign is not None)
    if sign is not None:
        assert rows[0]["held_out"] == pytest.approx(sign * rows[0]["reward"], rel=1e-5)


def test_lost_rewards_leave_their_rows_out() -> None:
    def half(samples: Sequence[Tensor]) -> Tensor:
        values = torch.stack(list(samples)).sum(1)
        return torch.where(torch.arange(len(values)) % 2 == 0, values, torch.nan)

    half.differentiable = True  # type: ignore[attr-defined]
    task = number_task(half)
    for algorithm in (
        draft(2),
        ReFL(first=0.5, last=1.0, ceiling=None, anchor=0.0, held_out=UNMEASURED),
        AdjointMatching(kl_weight=1.0, early=1, late=1, split=0.5, held_out=UNMEASURED),
    ):
        at = Learner(task, task.policy, algorithm.modules(task))
        table = algorithm.collect(at, [0, 1, 2, 3], KEY).table
        assert sorted({*table.sample.tolist()}) == [0, 2]


@pytest.mark.parametrize(
    "algorithm",
    [
        draft(2),
        ReFL(first=0.5, last=1.0, ceiling=None, anchor=0.0, held_out=UNMEASURED),
        AdjointMatching(kl_weight=1.0, early=1, late=1, split=0.5, held_out=UNMEASURED),
    ],
    ids=lambda algorithm: type(algorithm).__name__,
)
def test_every_sample_that_the_reward_scores_is_a_query(algorithm: Any) -> None:
    """Rollouts, and the calls for a gradient: in each of three epochs where the loss makes them."""
    scored = list[int]()

    def counted(samples: Sequence[Tensor]) -> Tensor:
        scored.append(len(samples))
        return ParabolaReward(QUADRATIC)(samples)

    counted.differentiable = True  # type: ignore[attr-defined]
    task, rows = number_task(counted), list[Metrics]()
    loop = finetuning(iterations=2, rollouts=12, minibatch=5, epochs=3)
    finetune(loop, task, algorithm, freeze_copy(number_task().policy), None, rows.append)
    assert sum(row["reward_queries"] for row in rows) == sum(scored)
    assert rows[0]["reward_queries"] == (24 if isinstance(algorithm, AdjointMatching) else 48)
