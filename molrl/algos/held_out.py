"""A held-out reward: a second scorer, never trained on, that tells better samples from exploited scorers.

A policy that follows the gradient of a learned scorer finds its blind spots sooner than by a search (Clark et al. 2023,
arXiv:2309.17400). There the trained reward rises while another scorer of the same quality falls.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from molrl.algos import checks
from molrl.machine.processes import Processes
from molrl.reward_queue import RewardQueue
from molrl.task import Metrics, Reward, Rollouts

LOWEST = torch.finfo(torch.float32).min  # before the first round; checkpoints hold finite numbers
STANDARD_ERRORS = 3.0  # by which the held-out mean must be below its best round, a maximum over many


class HeldOutRecord(nn.Module):
    """The best round so far by the held-out reward, and the rounds since in which only the trained one was better."""

    def __init__(self) -> None:
        super().__init__()
        self.best: Tensor
        self.best_error: Tensor
        self.trained: Tensor
        self.rounds: Tensor
        self.register_buffer("best", torch.tensor(LOWEST))
        self.register_buffer("best_error", torch.tensor(0.0))
        self.register_buffer("trained", torch.tensor(LOWEST))
        self.register_buffer("rounds", torch.tensor(0))

    def add(self, trained: float, held_out: float, error: float) -> int:
        """Add a round and return for how many in a row, this one included, the rewards have diverged.

        They diverge where the trained mean is above that of the best round and the held-out mean below it by more than
        `STANDARD_ERRORS` of their difference. A round without a value changes nothing.

        Args:
            trained: mean of the reward that is trained on.
            held_out: mean of the held-out reward.
            error: standard error of that mean.
        """
        if math.isnan(trained) or math.isnan(held_out):
            return int(self.rounds)
        if held_out >= self.best:
            for buffer, value in ((self.best, held_out), (self.best_error, error), (self.trained, trained)):
                buffer.fill_(value)
        margin = STANDARD_ERRORS * math.hypot(error, self.best_error.item())
        diverged = trained > self.trained.item() and held_out < self.best.item() - margin
        self.rounds.fill_(int(self.rounds) + 1 if diverged else 0)
        return int(self.rounds)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A second reward of the same samples, measured in each round.

    Attributes:
        reward: of finished samples; larger is better. None: nothing is measured, but for `own_judge`.
        own_judge: without a reward here, measure by the `held_out_reward` of the trained one, where it has that.
        patience: rounds in a row, in which the trained reward rises while this one falls, before anything is done.
        stop: end the run then, instead of a warning.
    """

    reward: Reward | None
    own_judge: bool
    patience: int
    stop: bool

    def __post_init__(self) -> None:
        checks.require_positive(patience=self.patience)

    def start(self) -> None:
        """Start the workers of the reward, where it has some."""
        if (start := getattr(self.reward, "start", None)) is not None:
            start()

    def close(self) -> None:
        """End the workers of the reward."""
        if (close := getattr(self.reward, "close", None)) is not None:
            close()

    def judge_of(self, trained: Reward) -> Reward | None:
        """Return the second reward for one that is trained on."""
        own: Reward | None = getattr(trained, "held_out_reward", None) if self.own_judge else None
        return own if self.reward is None else self.reward

    def metrics(self, trained: Reward, record: HeldOutRecord, rollouts: Rollouts, world: Processes) -> Metrics:
        """Score a round and compare it with the best one; without a second reward there are no metrics.

        Args:
            trained: the reward of the task.
            record: of the rounds before.
            rollouts: of this round.
            world: the processes that share the round.

        Returns:
            `held_out`, the mean; `held_out_diverged`, rounds in a row; `exploited`, 1 after `patience` of them;
            `stop`, 1 where the run is to end.
        """
        if (judge := self.judge_of(trained)) is None:
            return {}
        queue = RewardQueue(judge)
        queue.submit(rollouts.samples[rollouts.own])
        values = world.gather(queue.results().to(rollouts.rewards.device))
        known = values[~values.isnan()]
        mean = known.mean().item()
        error = (known.std(correction=0) / math.sqrt(max(len(known), 1))).item()
        rounds = record.add(rollouts.scores[~rollouts.scores.isnan()].mean().item(), mean, error)
        exploited = rounds >= self.patience
        return {
            "held_out": mean,
            "held_out_diverged": float(rounds),
            "exploited": float(exploited),
            "stop": float(exploited and self.stop),
        }
