"""What a rollout leaves behind: states, log-probabilities, and the flat table of reverse steps to learn from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from molrl.gaussian import Context


def select(context: Context, rows: Tensor) -> Context:
    """The context of some of the samples."""
    return {name: value[rows] for name, value in context.items()}


@dataclass(frozen=True)
class Transitions:
    """A flat table of m reverse steps x -> y, in any order.

    Attributes:
        x: states [m, ...].
        y: next states, or the targets an algorithm regresses the mean of the next state on.
        step: grid point of x.
        log_prob: log p_old(y | x) at the rollout, in nats.
        advantage: what a policy gradient weighs the step with.
        sample: row of `contexts` that the step belongs to.
        contexts: context of every sample, stored once.
    """

    x: Float[Tensor, "m ..."]
    y: Float[Tensor, "m ..."]
    step: Int[Tensor, " m"]
    log_prob: Float[Tensor, " m"]
    advantage: Float[Tensor, " m"]
    sample: Int[Tensor, " m"]
    contexts: Context

    def __len__(self) -> int:
        return len(self.step)

    def __getitem__(self, rows: Tensor) -> "Transitions":
        """Some of the steps."""
        return replace(
            self,
            x=self.x[rows],
            y=self.y[rows],
            step=self.step[rows],
            log_prob=self.log_prob[rows],
            advantage=self.advantage[rows],
            sample=self.sample[rows],
        )

    def extended(self, other: "Transitions") -> "Transitions":
        """These steps and then others of the same rollout."""
        return replace(
            self,
            x=torch.cat([self.x, other.x]),
            y=torch.cat([self.y, other.y]),
            step=torch.cat([self.step, other.step]),
            log_prob=torch.cat([self.log_prob, other.log_prob]),
            advantage=torch.cat([self.advantage, other.advantage]),
            sample=torch.cat([self.sample, other.sample]),
        )

    @property
    def context(self) -> Context:
        """Context of each row of the table."""
        return select(self.contexts, self.sample)


@dataclass(frozen=True)
class Noised:
    """A flat table of m noised clean samples, to be denoised again: what methods of the forward process learn from.

    Attributes:
        x: x_t = alpha x_0 + sigma noise [m, ...].
        noise: the noise in it.
        step: grid point of x.
        weight: what the squared error of the row counts.
        sample: row of `contexts`.
        contexts: context of every sample, stored once.
    """

    x: Float[Tensor, "m ..."]
    noise: Float[Tensor, "m ..."]
    step: Int[Tensor, " m"]
    weight: Float[Tensor, " m"]
    sample: Int[Tensor, " m"]
    contexts: Context

    def __len__(self) -> int:
        return len(self.step)

    def __getitem__(self, rows: Tensor) -> "Noised":
        """Some of the rows."""
        return replace(
            self,
            x=self.x[rows],
            noise=self.noise[rows],
            step=self.step[rows],
            weight=self.weight[rows],
            sample=self.sample[rows],
        )

    @property
    def context(self) -> Context:
        """Context of each row of the table."""
        return select(self.contexts, self.sample)


@dataclass(frozen=True)
class Trajectory:
    """One rollout of b samples over K steps.

    Attributes:
        states: [K + 1, b, ...], from the prior to the end of the chain.
        log_prob: [K, b], of each step, in nats.
        final: [b, ...], the clean estimate read off the last state.
        context: what the rollout was conditioned on.
    """

    states: Float[Tensor, "points b ..."]
    log_prob: Float[Tensor, "steps b"]
    final: Float[Tensor, "b ..."]
    context: Context

    def transitions(self, advantage: Float[Tensor, " b"], keep: Bool[Tensor, "steps b"] | None = None) -> Transitions:
        """All reverse steps, or those in `keep`, each with its sample's advantage."""
        steps, batch = self.log_prob.shape
        step = torch.arange(steps, device=advantage.device).repeat_interleave(batch)
        sample = torch.arange(batch, device=advantage.device).repeat(steps)
        table = Transitions(
            x=self.states[:-1].flatten(0, 1),
            y=self.states[1:].flatten(0, 1),
            step=step,
            log_prob=self.log_prob.flatten(),
            advantage=advantage[sample],
            sample=sample,
            contexts=self.context,
        )
        return table if keep is None else table[keep.flatten().nonzero().squeeze(1)]


def joined(trajectories: Sequence[Trajectory], context: Context) -> Trajectory:
    """Trajectories of parts of a batch as one, with the context of the whole."""
    if len(trajectories) == 1:
        return trajectories[0]
    return Trajectory(
        states=torch.cat([part.states for part in trajectories], 1),
        log_prob=torch.cat([part.log_prob for part in trajectories], 1),
        final=torch.cat([part.final for part in trajectories]),
        context=context,
    )
