"""The records of a rollout: states, log-probabilities, and flat tables of steps to learn from."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from molrl.gaussian import Context


def select(context: Context, rows: Tensor | slice) -> Context:
    """Return the context of some of the samples."""
    return {name: value[rows] for name, value in context.items()}


def move_context(context: Context, device: torch.device) -> Context:
    """Return the context on another device."""
    return {name: value.to(device) for name, value in context.items()}


@dataclass(frozen=True)
class Transitions:
    """A flat table of m reverse steps x -> y, in any order.

    Attributes:
        x: states [m, ...].
        y: next states, or the targets of an algorithm's regression of their mean.
        step: grid point of x.
        log_prob: log p_old(y | x) at the rollout, in nats.
        advantage: weight of the step in a policy gradient.
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
        """Return some of the steps."""
        return replace(
            self,
            x=self.x[rows],
            y=self.y[rows],
            step=self.step[rows],
            log_prob=self.log_prob[rows],
            advantage=self.advantage[rows],
            sample=self.sample[rows],
        )

    def join(self, other: "Transitions") -> "Transitions":
        """Return these steps followed by others of the same rollout."""
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
        """Return the context of each row of the table."""
        return select(self.contexts, self.sample)


@dataclass(frozen=True)
class Noised:
    """A flat table of m clean samples with noise added, for methods on the forward process.

    Attributes:
        x: x_t = alpha x_0 + sigma eps [m, ...].
        target: what the network is to predict there (`Sampler.target`): the noise eps, for a flow the velocity.
        step: grid point of x.
        weight: of the squared error of the row, or the advantage of its sample.
        sample: row of `contexts`.
        contexts: context of every sample, stored once.
        old: what the policy predicted in x when the round was sampled; None: not needed.
        reference: what the reference predicts in x; None: not needed.
        real: noised real samples, one beside each row; None: not needed.
    """

    x: Float[Tensor, "m ..."]
    target: Float[Tensor, "m ..."]
    step: Int[Tensor, " m"]
    weight: Float[Tensor, " m"]
    sample: Int[Tensor, " m"]
    contexts: Context
    old: Float[Tensor, "m ..."] | None = None
    reference: Float[Tensor, "m ..."] | None = None
    real: "Noised | None" = None

    def __len__(self) -> int:
        return len(self.step)

    def __getitem__(self, rows: Tensor | slice) -> "Noised":
        """Return some of the rows."""
        columns = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "contexts"}
        return replace(self, **{name: value[rows] for name, value in columns.items() if value is not None})

    def join(self, other: "Noised") -> "Noised":
        """Return these rows followed by others of the same samples; neither has predictions or real samples."""
        return replace(
            self,
            x=torch.cat([self.x, other.x]),
            target=torch.cat([self.target, other.target]),
            step=torch.cat([self.step, other.step]),
            weight=torch.cat([self.weight, other.weight]),
            sample=torch.cat([self.sample, other.sample]),
        )

    @property
    def context(self) -> Context:
        """Return the context of each row of the table."""
        return select(self.contexts, self.sample)


@dataclass(frozen=True)
class Trajectory:
    """A rollout of b samples over K steps.

    Attributes:
        states: [K + 1, b, ...], from the prior to the end of the chain.
        log_prob: [K, b], of each step, in nats; NaN for a deterministic chain, whose steps have no density.
        final: [b, ...], the clean estimate read off the last state.
        context: conditions of the samples.
    """

    states: Float[Tensor, "points b ..."]
    log_prob: Float[Tensor, "steps b"]
    final: Float[Tensor, "b ..."]
    context: Context

    def transitions(self, advantage: Float[Tensor, " b"], keep: Bool[Tensor, "steps b"] | None = None) -> Transitions:
        """Return all reverse steps, or those in `keep`, each with the advantage of its sample."""
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


def join_trajectories(trajectories: Sequence[Trajectory], context: Context) -> Trajectory:
    """Join the trajectories of the parts of a batch; `context` is that of the batch."""
    if len(trajectories) == 1:
        return trajectories[0]
    return Trajectory(
        states=torch.cat([part.states for part in trajectories], 1),
        log_prob=torch.cat([part.log_prob for part in trajectories], 1),
        final=torch.cat([part.final for part in trajectories]),
        context=context,
    )
