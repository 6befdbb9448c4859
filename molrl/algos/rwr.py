"""RWR: weighted denoising of the policy's own samples (Black et al. 2023, arXiv:2305.13301, Sec. 4.2).

After Peters and Schaal 2007 and Lee et al. 2023 (arXiv:2302.12192): sample, weigh each sample by its reward, and fit
the model to the weighted samples, E[w(x_0) |eps - eps_theta(x_t)|^2].
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.advantages import MIN_STD
from molrl.algos import Collected, Learner, RowMetrics, checks
from molrl.diagnostics import effective_share
from molrl.gaussian import sum_per_sample
from molrl.noise import Draw, Key
from molrl.policy import Policy
from molrl.task import Rollouts, Task
from molrl.trajectory import Noised


def denoising_error(policy: Policy, batch: Noised) -> Float[Tensor, " m"]:
    """Compute |eps - eps_theta(x_t)|^2 per degree of freedom (Ho et al. 2020, arXiv:2006.11239, Eq. 14)."""
    space, context = policy.sampler.space, batch.context
    predicted = policy.sampler.predict_noise(policy.predict_noise, batch.x, batch.step, context)
    return sum_per_sample(space.project(predicted - batch.noise, context).square()) / space.dof(batch.x, context)


def noise_samples(
    policy: Policy, rollouts: Rollouts, weight: Float[Tensor, " b"], samples: list[int], key: Key, count: int
) -> Noised:
    """Add noise `count` times to each finished sample with a weight, at grid points that cover the chain evenly."""
    trajectory, sampler = rollouts.trajectory, policy.sampler
    rows = (~weight.isnan()).nonzero().squeeze(1)
    kept = [samples[row] for row in rows.tolist()]
    start = torch.tensor([key.generator(sample, Draw.GRID).random() for sample in kept], dtype=torch.float64)
    points, shape = sampler.num_steps + 1, tuple(trajectory.final.shape[1:])
    x, noise, step = [], [], []
    context = {name: value[rows] for name, value in trajectory.context.items()}
    for k in range(count):
        point = (((start + k / count) % 1.0) * points).long().to(rows.device)
        draws = key.normal(kept, Draw.NOISING.at(k), shape).to(trajectory.final) if kept else trajectory.final[rows]
        eps = sampler.space.project(draws, context)
        x.append(sampler.add_noise(trajectory.final[rows], eps, point))
        noise.append(eps)
        step.append(point)
    sample = rows.repeat(count)
    return Noised(torch.cat(x), torch.cat(noise), torch.cat(step), weight[sample], sample, trajectory.context)


@dataclass(frozen=True, kw_only=True)
class WeightedDenoising:
    """A fit of the denoiser to weighted samples.

    Attributes:
        noisings: noised states made of each sample; their grid points cover the chain evenly.
    """

    noisings: int

    def __post_init__(self) -> None:
        checks.require_positive(noisings=self.noisings)

    def modules(self, task: Task) -> nn.ModuleDict:
        """Return no modules: nothing but the policy is learned."""
        return nn.ModuleDict()

    def learning_rate(self, name: str) -> float:
        """Return zero, for there is no module."""
        return 0.0

    def weights(self, rewards: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the weights of finished samples; those with NaN are left out."""
        raise NotImplementedError

    def behaviour(self, learner: Learner) -> Policy:
        """Return the policy that draws the samples: the one in training."""
        return learner.policy

    def collect(self, learner: Learner, samples: list[int], key: Key) -> Collected[Noised]:
        """Roll out, score and weigh the samples, and add noise to them."""
        behaviour = self.behaviour(learner)
        rollouts = replace(learner.task, policy=behaviour).rollout(samples, key)
        weight = self.weights(rollouts.rewards)
        metrics = {"weight_ess": effective_share(weight.nan_to_num(0)), "weight_max": weight.nan_to_num(0).max().item()}
        own = rollouts.own
        table = noise_samples(behaviour, rollouts, weight[own], samples[own], key, self.noisings)
        row_order = torch.arange(self.noisings).repeat_interleave(len(table) // self.noisings)
        return Collected(table, row_order, rollouts, behaviour, len(rollouts.rewards), metrics=metrics)

    def loss(self, learner: Learner, batch: Noised) -> tuple[Float[Tensor, ""], RowMetrics]:
        """Compute mean(w |eps - eps_theta|^2)."""
        error = denoising_error(learner.policy, batch)
        return (batch.weight * error).mean(), {"denoising_error": error}


@dataclass(frozen=True, kw_only=True)
class RWR(WeightedDenoising):
    """Reward-weighted regression with w = softmax(r / temperature), times the number of samples.

    Attributes:
        temperature: in standard deviations of the round's rewards. The paper's inverse temperature 0.2 is per kilobyte
            or aesthetic point and means nothing elsewhere.
    """

    temperature: float

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.require_positive(temperature=self.temperature)

    def weights(self, rewards: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return weights that average to one over the samples with a reward."""
        known = ~rewards.isnan()
        spread = rewards[known].std(correction=0) if known.any() else rewards.new_tensor(0.0)
        scaled = rewards / (self.temperature * spread) if spread > MIN_STD else rewards * 0
        weights = torch.softmax(scaled[known], 0) * known.sum()
        return torch.full_like(rewards, torch.nan).masked_scatter(known, weights)


@dataclass(frozen=True, kw_only=True)
class RWRSparse(WeightedDenoising):
    """Reward-weighted regression with w = 1 for the best samples of the round; the others are left out.

    Attributes:
        quantile: of the round's rewards, above which samples are kept; 0.9 in the paper.
    """

    quantile: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.quantile < 1:
            raise ValueError(f"quantile: got {self.quantile}, allowed 0 to below 1")

    def weights(self, rewards: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return one for each sample that is kept and NaN for the others."""
        if rewards.isnan().all():
            return rewards
        best = rewards >= rewards.nanquantile(self.quantile)
        return torch.where(best, 1.0, torch.nan).to(rewards)
