"""RWR: weighted denoising of the policy's own samples (Black et al. 2023, arXiv:2305.13301, Sec. 4.2).

After Peters and Schaal 2007 and Lee et al. 2023 (arXiv:2302.12192): sample, weigh each sample by its reward, and fit
the model to the weighted samples, E[w(x_0) |eps - eps_theta(x_t)|^2].
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.advantages import MIN_STD
from molrl.algos import Learner, RowMetrics, checks
from molrl.algos.forward import ForwardProcess, denoising_error
from molrl.diagnostics import effective_share
from molrl.task import Metrics, Rollouts
from molrl.trajectory import Noised


@dataclass(frozen=True, kw_only=True)
class WeightedDenoising(ForwardProcess):
    """A fit of the denoiser to weighted samples."""

    def weights(self, rewards: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the weights of finished samples; those with NaN are left out."""
        raise NotImplementedError

    def weigh(self, learner: Learner, rollouts: Rollouts) -> tuple[Float[Tensor, " n"], Metrics]:
        """Return the weights, and how many samples carry them."""
        weight = self.weights(rollouts.rewards)
        known = weight.nan_to_num(0)
        return weight, {"weight_ess": effective_share(known), "weight_max": known.max().item()}

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
