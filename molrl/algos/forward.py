"""The forward process: learning from noised copies of finished samples, whatever sampler drew them.

Nothing here needs the states of a chain or their densities: only finished samples x_0, their rewards, and the law
x_t = alpha x_0 + sigma eps that the model was pretrained with. The chain may be deterministic (eta = 0) or of second
order (order = 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.algos import Collected, Learner, checks
from molrl.gaussian import Context, Space, sum_per_sample
from molrl.machine.processes import Processes
from molrl.noise import Draw, Key
from molrl.policy import Policy
from molrl.reward_queue import parts
from molrl.samplers import Sampler
from molrl.task import Metrics, Rollouts, Task
from molrl.trajectory import Noised, select


def predict_target(policy: Policy, batch: Noised) -> Float[Tensor, "m ..."]:
    """Return the prediction of the network in every row of the table, projected onto the space of the states."""
    sampler, context = policy.sampler, batch.context
    predicted = sampler.predict_target(policy.predict_target, batch.x, batch.step, context)
    return sampler.space.project(predicted, context)


def mean_square(difference: Float[Tensor, "m ..."], space: Space, context: Context) -> Float[Tensor, " m"]:
    """Compute the squared norm of a projected difference per degree of freedom."""
    return sum_per_sample(difference.square()) / space.dof(difference, context)


def denoising_error(policy: Policy, batch: Noised) -> Float[Tensor, " m"]:
    """Compute |eps - eps_theta(x_t)|^2 per degree of freedom (Ho et al. 2020, arXiv:2006.11239, Eq. 14)."""
    return mean_square(predict_target(policy, batch) - batch.target, policy.sampler.space, batch.context)


def noise_samples(
    sampler: Sampler,
    x0: Float[Tensor, "b ..."],
    contexts: Context,
    weight: Float[Tensor, " b"],
    samples: Sequence[int],
    key: Key,
    count: int,
    points: Sequence[int] | None = None,
    drawn: int = 0,
) -> Noised:
    """Add noise `count` times to each clean sample whose weight is not NaN, at grid points that are taken evenly.

    Args:
        sampler: with the grid and the law of the noise.
        x0: clean samples.
        contexts: conditions of the samples.
        weight: of each sample, which its rows have as well.
        samples: indices of the samples, which key their noise.
        key: of the noise.
        count: rows of a sample.
        points: grid points; None: all of them.
        drawn: rows that the samples have already, with this key.
    """
    grid = torch.tensor(range(sampler.num_steps + 1) if points is None else points, device=x0.device)
    rows = (~weight.isnan()).nonzero().squeeze(1)
    kept, clean, context = [samples[row] for row in rows.tolist()], x0[rows], select(contexts, rows)
    start = torch.tensor([key.generator(sample, Draw.GRID).random() for sample in kept], dtype=torch.float64)
    x, target, step = [], [], []
    for k in range(count):
        point = grid[(((start + k / count) % 1.0) * len(grid)).long().to(grid.device)]
        draws = key.normal(kept, Draw.NOISING.at(drawn + k), tuple(x0.shape[1:])).to(clean) if kept else clean
        eps = sampler.space.project(draws, context)
        x.append(sampler.add_noise(clean, eps, point))
        target.append(sampler.target(clean, eps))
        step.append(point)
    sample = rows.repeat(count)
    return Noised(torch.cat(x), torch.cat(target), torch.cat(step), weight[sample], sample, contexts)


@torch.no_grad()
def predict_table(policy: Policy, table: Noised, world: Processes) -> Float[Tensor, "m ..."]:
    """Return the predictions in all rows of a table, computed a part at a time."""
    slices = list(parts(len(table), table.x.shape[1:].numel(), table.x.device)) if len(table) else []
    predicted = [predict_target(policy, table[part]) for part in slices]
    for _ in range(world.missing_passes(len(slices))):  # processes that share a network pass through it together
        predict_target(policy, table[:1])
    return torch.cat(predicted) if predicted else table.target


@dataclass(frozen=True, kw_only=True)
class ForwardProcess:
    """A method that rolls out, weighs the finished samples, and learns from noised copies of them.

    Attributes:
        noisings: noised states made of each sample; their grid points cover the chain, or a window of it, evenly.
    """

    noisings: int
    needs_densities: ClassVar[bool] = False
    needs_steps: ClassVar[bool] = False

    def __post_init__(self) -> None:
        checks.require_positive(noisings=self.noisings)

    @property
    def group_size(self) -> int:
        """Return the number of neighbouring samples that share one condition."""
        return 1

    def modules(self, task: Task) -> nn.ModuleDict:
        """Return no modules: nothing but the policy is learned."""
        return nn.ModuleDict()

    def learning_rate(self, name: str) -> float:
        """Return zero, for no module is learned."""
        return 0.0

    def behaviour(self, learner: Learner) -> Policy:
        """Return the policy that draws the samples: the one in training."""
        return learner.policy

    def weigh(self, learner: Learner, rollouts: Rollouts) -> tuple[Float[Tensor, " n"], Metrics]:
        """Return the weights of all finished samples and metrics; samples with NaN are left out."""
        raise NotImplementedError

    def grid_points(self, num_steps: int) -> range:
        """Return the grid points of the noised states: 0 is the prior, `num_steps` the end of the chain."""
        return range(num_steps + 1)

    def add_noise(
        self,
        sampler: Sampler,
        x0: Float[Tensor, "b ..."],
        contexts: Context,
        weight: Float[Tensor, " b"],
        samples: Sequence[int],
        key: Key,
    ) -> Noised:
        """Add noise to the samples whose weight is not NaN: a noised state of each, then another of each, and so on."""
        points = self.grid_points(sampler.num_steps)
        return noise_samples(sampler, x0, contexts, weight, samples, key, self.noisings, points)

    def collect(self, learner: Learner, samples: list[int], key: Key) -> Collected[Noised]:
        """Roll out, score and weigh the samples, and add noise to them."""
        behaviour = self.behaviour(learner)
        rollouts = replace(learner.task, policy=behaviour).rollout(samples, key, self.group_size)
        weight, metrics = self.weigh(learner, rollouts)
        own, trajectory = rollouts.own, rollouts.trajectory
        weight, samples = weight[own], samples[own]
        table = self.add_noise(behaviour.sampler, trajectory.final, trajectory.context, weight, samples, key)
        table = self.complete(learner, behaviour, table, weight, samples, key)
        known = max(int((~weight.isnan()).sum()), 1)
        row_order = torch.arange(len(table)) // known
        return Collected(table, row_order, rollouts, behaviour, len(rollouts.rewards), metrics=metrics)

    def complete(
        self,
        learner: Learner,
        behaviour: Policy,
        table: Noised,
        weight: Float[Tensor, " b"],
        samples: list[int],
        key: Key,
    ) -> Noised:
        """Return the table with the columns that the loss needs besides."""
        return table
