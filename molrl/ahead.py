"""Rounds that are drawn ahead of learning, for rewards whose values come late.

While round i is learned from, the samples of rounds i + 1 to i + n are drawn and their rewards asked for. So a round is
drawn by the policy of n rounds before. The weights of that policy are recorded: when the rewards are due, the round is
drawn again with them, which gives the same samples bit by bit, since all noise is keyed, and with these the densities
or predictions of the policy that made them. What is learned is then what the algorithm says of samples of another
policy than the one in training: importance ratios (DDPO, GRPO), or the fit beside the old policy (NFT).
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.algos import Algorithm, Learner
from molrl.algos.average import Reweighted, trained_parameters
from molrl.diversity.shaped_reward import ShapedReward
from molrl.noise import Key, Stream
from molrl.task import Task
from molrl.trainable_parameters import trainable_module


class RecordedWeights(nn.Module):
    """The trained parameters that each of the last rounds was drawn with, as buffers, which checkpoints hold.

    Args:
        network: in training.
        count: rounds that are drawn ahead.
    """

    def __init__(self, network: nn.Module, count: int) -> None:
        super().__init__()
        self.count = count
        for place in range(count):
            for name, parameter in trained_parameters(network).items():
                self.register_buffer(self.buffer_name(place, name), parameter.detach().clone())

    def buffer_name(self, round_number: int, parameter: str) -> str:
        """Return the name of a buffer: its place among `count`, and the parameter."""
        return f"{round_number % self.count}/{parameter.replace('.', '/')}"

    @torch.no_grad()
    def record(self, round_number: int, network: nn.Module) -> None:
        """Record the parameters that a round is drawn with, in the place of one that was learned from."""
        for name, parameter in trained_parameters(network).items():
            self.get_buffer(self.buffer_name(round_number, name)).copy_(parameter)

    def weights(self, round_number: int, network: nn.Module) -> dict[str, Tensor]:
        """Return a copy of the parameters that a round was drawn with, by name."""
        names = trained_parameters(network)
        return {name: self.get_buffer(self.buffer_name(round_number, name)).clone() for name in names}


class CollectionEnded(Exception):
    """The end of a collection whose rewards have been asked for."""


@dataclass(frozen=True)
class RequestOnly:
    """A reward in name, which ends a collection as soon as it has asked for the values of the samples."""

    request: Callable[[Sequence[Any]], None]

    def __call__(self, samples: Sequence[Any]) -> Float[Tensor, " b"]:
        """Ask for the values, and raise `CollectionEnded`."""
        self.request(samples)
        raise CollectionEnded


def round_of(number: int, rollouts: int, seed: int) -> tuple[list[int], Key]:
    """Return the indices of the samples of a round, and the key of its noise."""
    return list(range(number * rollouts, (number + 1) * rollouts)), Key(seed, Stream.ROUND.at(number))


def request_of(task: Task) -> Callable[[Sequence[Any]], None] | None:
    """Return the function by which a task's reward is asked without waiting; None: it has none."""
    reward = task.reward.reward if isinstance(task.reward, ShapedReward) else task.reward
    found: Callable[[Sequence[Any]], None] | None = getattr(reward, "request", None)
    return found


def check_ahead(task: Task, algorithm: Algorithm) -> None:
    """Refuse to draw ahead where that is of no use, or another policy than the one in training draws the samples.

    Raises:
        ValueError: the reward cannot be asked without waiting, or the algorithm has an old policy of its own.
    """
    if request_of(task) is None:
        raise ValueError("ahead: the reward cannot be asked without waiting for it; one with `request`, as queue, can")
    if getattr(algorithm, "decay", 0.0):
        raise ValueError("ahead: need algo.decay=0; samples of a moving average of the policy are not drawn ahead")


def learner_of_round(
    recorded: RecordedWeights, learner: Learner, algorithm: Algorithm, number: int, last: int, rollouts: int, seed: int
) -> Learner:
    """Ask for the rewards of the round that is due to be drawn, and return the learner that collects round `number`.

    Args:
        recorded: the weights that rounds were drawn with.
        learner: in training.
        algorithm: draws the rounds, as far as to its question for rewards.
        number: of the round that is due to be learned from.
        last: number of the run's last round.
        rollouts: samples of a round.
        seed: of the run.

    Returns:
        The learner with the policy that round `number` was drawn with in the place of the one in training.
    """
    network, newest = trainable_module(learner.policy), number + recorded.count
    weights = recorded.weights(number, network)
    recorded.record(newest, network)
    request = request_of(learner.task)
    assert request is not None
    requesting = replace(learner, task=replace(learner.task, reward=RequestOnly(request)))
    for one in range(newest if number else 0, min(newest, last) + 1):  # the first time also those before
        with contextlib.suppress(CollectionEnded):
            algorithm.collect(requesting, *round_of(one, rollouts, seed))
    drawn = replace(learner.policy, denoiser=Reweighted(network, weights))
    return replace(learner, task=replace(learner.task, policy=drawn))
