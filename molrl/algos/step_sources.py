"""Reverse steps to learn from: those of rollouts, or posterior steps made from clean samples."""

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from jaxtyping import Bool
from torch import Tensor

from molrl.algos.steps import row_numbers
from molrl.gaussian import Gaussian
from molrl.noise import Draw, Key, Stream
from molrl.policy import Policy
from molrl.samplers import Sampler
from molrl.task import Rollouts, Task
from molrl.trajectory import Trajectory, Transitions

Source = Literal["policy", "replay", "data"]


class StepSource(Protocol):
    """A place that ordinary reverse steps x -> y come from."""

    def steps(self, chosen: Bool[Tensor, "steps b"]) -> tuple[Transitions, Gaussian]:
        """Return the steps at the chosen places, and the Gaussian that each y was drawn from."""
        ...


@dataclass(frozen=True)
class RolloutSteps:
    """The policy's own reverse steps."""

    policy: Policy
    trajectory: Trajectory

    def steps(self, chosen: Bool[Tensor, "steps b"]) -> tuple[Transitions, Gaussian]:
        """Return the steps of the rollout, and the policy's kernel at each."""
        table = chosen_transitions(self.trajectory, chosen)
        with torch.no_grad():
            return table, self.policy.transition(table)


@dataclass(frozen=True)
class PosteriorSteps:
    """Steps of the noising process, reversed: x = alpha x_0 + sigma eps, and y from q(y | x, x_0).

    The posterior is the sampler's step with the true eps in the place of the predicted one (Song et al. 2021,
    arXiv:2010.02502, Eq. 7).

    Attributes:
        sampler: the chain.
        trajectory: `final` are the clean samples x_0.
        samples: their indices.
        key: of the noise.
    """

    sampler: Sampler
    trajectory: Trajectory
    samples: list[int]
    key: Key

    def steps(self, chosen: Bool[Tensor, "steps b"]) -> tuple[Transitions, Gaussian]:
        """Return a noised step per chosen place, and the posterior that y was drawn from."""
        sampler, table = self.sampler, chosen_transitions(self.trajectory, chosen)
        x0 = self.trajectory.final[table.sample]
        rows, shape = row_numbers(table, self.samples, sampler.num_steps), tuple(x0.shape[1:])
        noise, again = (self.key.normal(rows, Draw.REPLAY.at(k), shape).to(x0) if rows else x0 for k in range(2))
        eps = sampler.space.project(noise, table.context)
        x = sampler.add_noise(x0, eps, table.step)
        target = sampler.target(x0, eps)
        posterior = sampler.transition(lambda *_: target, x, table.step, table.context)
        return replace(table, x=x, y=posterior.sample(again)), posterior


def step_source(source: Source, task: Task, rollouts: Rollouts, samples: list[int], key: Key) -> StepSource:
    """Return the source of that name: the rollouts' own steps, or posterior steps from their samples or real ones."""
    if source == "policy":
        return RolloutSteps(task.policy, rollouts.trajectory)
    trajectory = rollouts.trajectory
    if source == "data" and task.data is not None:
        x0, context = task.data(samples, key.child(Stream.DATA.at(key.stream)))
        context = {name: value.to(task.device) for name, value in context.items()}
        trajectory = replace(trajectory, final=x0.to(task.device), context=context)
    return PosteriorSteps(task.policy.sampler, trajectory, samples, key)


def chosen_transitions(trajectory: Trajectory, chosen: Bool[Tensor, "steps b"]) -> Transitions:
    """Return the chosen reverse steps; their advantages, which nothing here reads, are zero."""
    zeros = torch.zeros_like(trajectory.log_prob[0])
    return trajectory.transitions(zeros, chosen.to(zeros.device))
