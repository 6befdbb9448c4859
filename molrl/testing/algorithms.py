"""The laws of algorithms, on the linear-Gaussian problem of the oracle, where the expected reward is exact."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from molrl.algos import Algorithm, Collected, Learner, Table
from molrl.finetune import freeze_copy
from molrl.noise import Key
from molrl.oracle.chain import Chain
from molrl.oracle.linear_gaussian import QUADRATIC, ParabolaReward, linear_gaussian_task
from molrl.oracle.trial import ChainCase, FixedPoint, train
from molrl.task import Reward, Task
from molrl.testing.laws import check_law, require
from molrl.trainable_parameters import trainable_module
from molrl.trajectory import Transitions

REWARD = ParabolaReward(QUADRATIC, lift=5.0)  # above zero for nearly all samples
SAMPLES = list(range(64))
MAX_LOG_RATIO = 1e-3  # nats
MIN_GAIN = 0.05  # of the expected reward, which can rise by 1.28
LOOP: dict[str, Any] = {"iterations": 20, "rollouts": 512, "optimizer": partial(torch.optim.Adam, lr=0.05)}


@dataclass(frozen=True, kw_only=True)
class Case:
    """An algorithm to try; the attributes are the arguments of `check_algorithm`."""

    algorithm: Algorithm
    fixed_point: FixedPoint | None = None
    beta: float = 0.0
    tolerance: float = 0.1
    loop: dict[str, Any] = field(default_factory=dict)

    def collect(self, reward: Reward = REWARD) -> tuple[Learner, Collected[Table]]:
        """Collect one round with an untrained policy."""
        task = linear_gaussian_task(reward)
        learner = Learner(task, freeze_copy(task.policy), self.algorithm.modules(task))
        return learner, self.algorithm.collect(learner, SAMPLES, Key(0, 1))

    @property
    def on_steps(self) -> bool:
        """Return True for an algorithm that learns from reverse steps, False for one on the forward process."""
        return isinstance(self.collect()[1].table, Transitions)


def check_algorithm(
    algorithm: Algorithm,
    *,
    fixed_point: FixedPoint | None = None,
    beta: float = 0.0,
    tolerance: float = 0.1,
    **loop: Any,
) -> None:
    """Raise AssertionError with the name of the first law that the algorithm breaks.

    Args:
        algorithm: with settings under which the reward -(x - 2)^2 / 2 + 5 of N(0.5, 0.49) can rise.
        fixed_point: (sampler, chain before training) -> the chain, or the objective, that training is to end at
            (`molrl.oracle` has those of published methods); without one the reward only has to rise.
        beta: of the objective that is compared there, E[r] - beta KL.
        tolerance: of (J - J_start) / (J* - J_start), which is 1 at the fixed point.
        loop: settings of the fine-tuning that differ from the default (`molrl.oracle.trial.train`).
    """
    case = Case(algorithm=algorithm, fixed_point=fixed_point, beta=beta, tolerance=tolerance, loop=loop)
    for law in LAWS:
        check_law(law, case)


def a_round_yields_rows_to_learn_from(case: Case) -> None:
    """Check the table of one round, and the count of its reward evaluations."""
    _, collected = case.collect()
    table, rollouts = collected.table, collected.rollouts
    require(len(table) > 0, "the table is empty")
    require(len(rollouts.rewards) == len(SAMPLES), f"got {len(rollouts.rewards)} rewards, need {len(SAMPLES)}")
    require(collected.reward_queries >= len(SAMPLES), f"got {collected.reward_queries} reward queries")
    for name, rows in (("step", table.step), ("sample", table.sample), ("row_order", collected.row_order)):
        require(rows.shape == (len(table),), f"{name}: got shape {tuple(rows.shape)} for {len(table)} rows")
    require(table.sample.min() >= 0 and table.sample.max() < len(SAMPLES), "got a row of no sample")


def a_round_is_a_function_of_its_key(case: Case) -> None:
    """Check that a second round with the same key collects the same."""
    (learner, one), (other, two) = case.collect(), case.collect()
    losses = [case.algorithm.loss(learner, one.table)[0], case.algorithm.loss(other, two.table)[0]]
    require(torch.equal(one.table.step, two.table.step), "got other rows from the same key")
    require(torch.equal(losses[0], losses[1]), f"got the losses {losses[0]:.6g} and {losses[1]:.6g} from the same key")


def the_loss_and_its_gradient_are_finite(case: Case) -> None:
    """Check the loss on a round with a reward for every sample."""
    learner, collected = case.collect()
    loss, metrics = case.algorithm.loss(learner, collected.table)
    require(loss.shape == () and bool(loss.isfinite()), f"got {loss}")
    gradients = torch.autograd.grad(loss, list(trainable_module(learner.policy).parameters()), allow_unused=True)
    known = [gradient for gradient in gradients if gradient is not None]
    require(any(gradient.any() for gradient in known), "there is no gradient")
    require(all(gradient.isfinite().all() for gradient in known), "got a gradient that is not finite")
    for name, rows in metrics.items():
        require(rows.shape == (len(collected.table),), f"{name}: got shape {tuple(rows.shape)}, need one per row")


def the_log_ratio_is_zero_before_any_update(case: Case) -> None:
    """Check that rollout and training evaluate one policy, where the algorithm reports a log-ratio."""
    learner, collected = case.collect()
    log_ratio = case.algorithm.loss(learner, collected.table)[1].get("log_ratio", torch.zeros(1))
    require(log_ratio.abs().max() <= MAX_LOG_RATIO, f"got {log_ratio.abs().max():.3g} nats")


def lost_rewards_leave_the_loss_finite(case: Case) -> None:
    """Check a round in which every second sample could not be scored."""
    learner, collected = case.collect(HalfLost())
    if len(collected.table):
        loss = case.algorithm.loss(learner, collected.table)[0]
        require(loss.isfinite(), f"got {loss}")


def training_raises_the_expected_reward(case: Case) -> None:
    """Check the exact expected reward before and after some rounds."""
    task = linear_gaussian_task(REWARD, in_stds=case.on_steps)
    before = expected_reward(task)
    train(task, case.algorithm, 0, {**LOOP, **case.loop})
    after = expected_reward(task)
    require(after > before + MIN_GAIN, f"got {after:.3f} after {before:.3f}")


def training_ends_at_the_fixed_point(case: Case) -> None:
    """Check the objective against that of the fixed point, where one is given."""
    if case.fixed_point is None:
        return
    outcome = ChainCase(
        name=type(case.algorithm).__name__,
        algorithm=case.algorithm,
        reward=QUADRATIC,
        lift=REWARD.lift,
        beta=case.beta,
        in_stds=case.on_steps,
        fixed_point=case.fixed_point,
        loop=case.loop,
    ).run(0)
    require(
        abs(outcome.fraction - 1) <= case.tolerance,
        f"got {outcome.reached}, need {outcome.fixed_point}: {outcome.fraction:.1%} of the way",
    )


LAWS: tuple[Callable[[Case], None], ...] = (
    a_round_yields_rows_to_learn_from,
    a_round_is_a_function_of_its_key,
    the_loss_and_its_gradient_are_finite,
    the_log_ratio_is_zero_before_any_update,
    lost_rewards_leave_the_loss_finite,
    training_raises_the_expected_reward,
    training_ends_at_the_fixed_point,
)


class HalfLost:
    """A reward that is NaN for every second sample."""

    differentiable = True

    def __call__(self, samples: Sequence[Any]) -> Tensor:
        """Compute the rewards, and lose half of them."""
        values = REWARD(samples)
        return torch.where(torch.arange(len(values)) % 2 == 0, values, torch.nan)


def expected_reward(task: Task) -> float:
    """Compute the exact expected reward of the task's policy, without the lift."""
    return QUADRATIC.expected(Chain.from_policy(task.policy, torch.float32).marginal())
