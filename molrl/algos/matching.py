"""Advantage matching: the trainer that the losses of the forward process share.

In one notation: x_0 is drawn from the old policy, A is its advantage, eps_old, eps_ref and eps_theta are what the old
policy, the reference and the policy in training predict in x_t, and u = eps - eps_old. All squares are per degree of
freedom. At eps_theta = eps_old every loss of the family has the gradient -2 A u, up to a factor: a step toward
Cov(A, eps | x_t), along which the samples' law tilts toward exp(A). They differ in what ends that step.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from molrl.advantages import Estimator
from molrl.algos import Learner, RowMetrics, checks
from molrl.algos.average import MovingAverage
from molrl.algos.forward import (
    ForwardProcess,
    denoising_error,
    mean_square,
    noise_samples,
    predict_table,
    predict_target,
)
from molrl.algos.steps import window_of
from molrl.gaussian import Context, Space
from molrl.noise import Key, Stream
from molrl.policy import Policy
from molrl.samplers import Sampler
from molrl.task import Metrics, Rollouts, Task
from molrl.trainable_parameters import trainable_module
from molrl.trajectory import Noised, move_context


@dataclass(frozen=True)
class Errors:
    """Squared distances per degree of freedom in the space of a batch."""

    space: Space
    context: Context

    def __call__(self, one: Float[Tensor, "m ..."], other: Float[Tensor, "m ..."]) -> Float[Tensor, " m"]:
        """Compute |one - other|^2 / d of every row."""
        return mean_square(one - other, self.space, self.context)


@dataclass(frozen=True, kw_only=True)
class AdvantageMatching(ForwardProcess):
    """A loss on noised samples and their advantages, with anchors.

    Attributes:
        advantage: computes advantages from rewards.
        advantage_clip: advantages are clamped to +- this.
        first: fraction of the chain after which the noised states lie (0 is the prior, 1 the end).
        last: fraction of the chain up to which they lie.
        held: further noised states of each sample, at the other grid points. They have no advantage, and their loss is
            |eps_theta - eps_ref|^2: they keep the rest of the chain where it is while this part moves.
        decay: of the old policy, which draws the samples: a moving average of the weights over the rounds. 0: the
            policy in training, as it is when the round begins.
        old_weight: weight of |eps_theta - eps_old|^2, which bounds how far a round goes.
        reference_weight: weight of |eps_theta - eps_ref|^2, which bounds how far all rounds go.
        data_weight: weight of |eps_theta - eps|^2 on noised real samples, one for each row; needs a task with data.
    """

    advantage: Estimator
    advantage_clip: float
    first: float
    last: float
    held: int
    decay: float
    old_weight: float
    reference_weight: float
    data_weight: float

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.require_positive(advantage_clip=self.advantage_clip)
        checks.require_window(self.first, self.last)
        weights = {name: getattr(self, name) for name in ("old_weight", "reference_weight", "data_weight")}
        checks.require_non_negative(held=self.held, decay=self.decay, **weights)
        if self.decay >= 1:
            raise ValueError(f"decay: got {self.decay}, allowed 0 to below 1")

    @property
    def group_size(self) -> int:
        """Return the number of neighbouring samples that share one condition."""
        return self.advantage.group_size

    @property
    def needs_reference(self) -> bool:
        """Return whether the loss reads the reference's prediction."""
        return self.reference_weight > 0 or self.held > 0

    def modules(self, task: Task) -> nn.ModuleDict:
        """Return the old policy's weights and the running statistics of the advantages, where there are some."""
        if self.data_weight and task.data is None:
            raise ValueError(f"data_weight: task {task.name!r} has no data set; set task.data, or data_weight=0")
        modules = dict[str, nn.Module]()
        if isinstance(self.advantage, nn.Module):
            modules["advantage"] = deepcopy(self.advantage)
        if self.decay:
            if task.processes.lockstep:
                raise ValueError("decay: processes that share a network keep no second set of weights; set decay=0")
            modules["old"] = MovingAverage(trainable_module(task.policy), self.decay)
        return nn.ModuleDict(modules)

    def behaviour(self, learner: Learner) -> Policy:
        """Return the old policy, moved on toward the policy in training."""
        if not self.decay:
            return learner.policy
        average = cast(MovingAverage, learner.modules["old"])
        average.update(trainable_module(learner.policy))
        return average.policy(learner.policy)

    def weigh(self, learner: Learner, rollouts: Rollouts) -> tuple[Float[Tensor, " n"], Metrics]:
        """Compute the advantages of all samples, clamped."""
        groups = torch.tensor(list(learner.task.decoder.groups(rollouts.trajectory.context)))
        contexts = learner.task.processes.gather(groups).tolist()
        estimate = cast(Estimator, learner.modules["advantage"]) if "advantage" in learner.modules else self.advantage
        advantage, metrics = estimate(rollouts.rewards, contexts)
        saturated = (advantage.abs() > self.advantage_clip).float().mean().item()
        clamped = advantage.clamp(-self.advantage_clip, self.advantage_clip)
        return clamped, {**metrics, "advantage_saturated": saturated}

    def grid_points(self, num_steps: int) -> range:
        """Return the grid points of the window; to 1 it includes the end of the chain, where a little noise is left."""
        window = window_of(num_steps, self.first, self.last)
        return range(window.start, window.stop + (self.last == 1))

    def add_noise(
        self,
        sampler: Sampler,
        x0: Float[Tensor, "b ..."],
        contexts: Context,
        weight: Float[Tensor, " b"],
        samples: Sequence[int],
        key: Key,
    ) -> Noised:
        """Add noise to the samples in the window, and then to those that are held outside of it."""
        table = super().add_noise(sampler, x0, contexts, weight, samples, key)
        window = self.grid_points(sampler.num_steps)
        outside = [point for point in range(sampler.num_steps + 1) if point not in window]
        if not (self.held and outside):
            return table
        others = noise_samples(sampler, x0, contexts, 0 * weight, samples, key, self.held, outside, self.noisings)
        return table.join(others)

    def is_held(self, batch: Noised, num_steps: int) -> Bool[Tensor, " m"]:
        """Tell which rows lie outside of the window."""
        window = self.grid_points(num_steps)
        return (batch.step < window.start) | (batch.step >= window.stop)

    def complete(
        self,
        learner: Learner,
        behaviour: Policy,
        table: Noised,
        weight: Float[Tensor, " b"],
        samples: list[int],
        key: Key,
    ) -> Noised:
        """Add what the old policy and the reference predict, and a noised real sample to each row."""
        task = learner.task
        table = replace(table, old=predict_table(behaviour, table, task.processes))
        if self.needs_reference:
            table = replace(table, reference=predict_table(learner.reference, table, task.processes))
        if self.data_weight and task.data is not None:
            own_key = key.child(Stream.DATA.at(key.stream))
            x0, context = task.data(samples, own_key)
            x0, context = x0.to(task.device), move_context(context, task.device)
            real = self.add_noise(behaviour.sampler, x0, context, weight, samples, own_key)
            table = replace(table, real=real)
        return table

    def loss(self, learner: Learner, batch: Noised) -> tuple[Float[Tensor, ""], RowMetrics]:
        """Compute the mean of the method's own loss and of the anchors over the rows."""
        predicted, error = predict_target(learner.policy, batch), Errors(learner.policy.sampler.space, batch.context)
        moved = error(predicted, cast(Tensor, batch.old))
        loss, facts = self.rows(predicted, batch, error)
        loss = loss + self.old_weight * moved
        if self.reference_weight or self.held:
            anchor = error(predicted, cast(Tensor, batch.reference))
            held = self.is_held(batch, learner.policy.sampler.num_steps)
            loss = torch.where(held, anchor, loss + self.reference_weight * anchor)
        if self.data_weight:
            loss = loss + self.data_weight * denoising_error(learner.policy, cast(Noised, batch.real))
        reported = {"denoising_error": error(predicted, batch.target), "moved": moved}
        return loss.mean(), {name: values.detach() for name, values in {**reported, **facts}.items()}

    def rows(
        self, predicted: Float[Tensor, "m ..."], batch: Noised, error: Errors
    ) -> tuple[Float[Tensor, " m"], RowMetrics]:
        """Compute the method's own loss of every row, and further metrics."""
        raise NotImplementedError
