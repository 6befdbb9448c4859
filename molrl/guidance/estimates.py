"""Rewards of clean estimates, and choices by them: what the methods that guide a chain on its way share."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from molrl.config import ConfigError
from molrl.gaussian import Context
from molrl.noise import Draw, Key
from molrl.policy import Policy
from molrl.reward_queue import RewardQueue
from molrl.task import Task

NEVER = -1e300  # the logit of a candidate without a reward


def require_noise(policy: Policy) -> None:
    """Raise ConfigError for a chain whose steps leave nothing to choose from."""
    if getattr(policy.sampler, "eta", 1.0) == 0:
        raise ConfigError("eta: got 0, a deterministic chain; a choice among its steps needs eta above 0")


def score_estimates(
    task: Task, states: Float[Tensor, "j b ..."], step: int, lookahead: int, context: Context
) -> Float[Tensor, "j b"]:
    """Score the clean estimates of states at grid point `step`; NaN where one could not be scored.

    Args:
        task: with the policy that estimates and the reward.
        states: j states of each of the b samples.
        step: grid point of the states.
        lookahead: deterministic steps toward the data before the estimate is made.
        context: conditions of the b samples.
    """
    queue = RewardQueue(task.reward)
    for state in states:
        x0 = task.policy.lookahead_x0(state, task.policy.at(step, state), lookahead, context)
        queue.submit(task.decoder.decode(x0, context))
    return queue.results().to(states.device).view(len(states), -1)


def choose_by_reward(
    rewards: Float[Tensor, "j b"], temperature: float, samples: Sequence[int], key: Key, step: int
) -> Int[Tensor, " b"]:
    """Draw one of j candidates of each sample from softmax(r / temperature), by the Gumbel trick.

    One without a reward (NaN) is never chosen; where none has a reward, the first is.
    """
    draws = [key.generator(sample, Draw.CHOICE.at(step)).gumbel(size=len(rewards)) for sample in samples]
    gumbel = torch.from_numpy(np.stack(draws, 1))
    logits = (rewards.cpu().double() / temperature).nan_to_num(NEVER)
    return logits.add(gumbel).argmax(0).to(rewards.device)
