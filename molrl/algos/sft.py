"""The supervised baselines of DPOK: fit to samples of the pretrained model, weighted by their reward (Fan et al. 2023,
arXiv:2305.16381, Sec. 4.3 and App. B).

The paper draws all its samples once, before training. Here each round draws a part of them, always from the
pretrained model. The rewards that a round reports are therefore those of that model; only the measurement after
training is about the trained one.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.algos import Learner, RowMetrics, checks
from molrl.algos.forward import mean_square, predict_target
from molrl.algos.rwr import WeightedDenoising
from molrl.policy import Policy
from molrl.trajectory import Noised


@dataclass(frozen=True, kw_only=True)
class SupervisedKLD(WeightedDenoising):
    """KL-D, which minimises mean(max(r + gamma, 0) |eps - eps_theta|^2); our reading of the lemma.

    Attributes:
        gamma: in units of the reward; the larger it is, the more equal are the weights, and the nearer the fit comes to
            plain imitation.
    """

    gamma: float

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.require_non_negative(gamma=self.gamma)

    def behaviour(self, learner: Learner) -> Policy:
        """Return the policy that draws the samples: the pretrained one."""
        return learner.reference

    def weights(self, rewards: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Compute max(r + gamma, 0)."""
        return (rewards + self.gamma).clamp(min=0)


@dataclass(frozen=True, kw_only=True)
class SupervisedKLO(WeightedDenoising):
    """KL-O, which minimises mean(max(r, 0) |eps - eps_theta|^2 + gamma |eps_theta - eps_ref|^2) (App. B; our reading).

    Attributes:
        gamma: in units of the reward; weight of staying where the pretrained model is.
    """

    gamma: float

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.require_non_negative(gamma=self.gamma)

    def behaviour(self, learner: Learner) -> Policy:
        """Return the policy that draws the samples: the pretrained one."""
        return learner.reference

    def weights(self, rewards: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Compute the weights max(r, 0) of rewards."""
        return rewards.clamp(min=0)

    def loss(self, learner: Learner, batch: Noised) -> tuple[Float[Tensor, ""], RowMetrics]:
        """Compute the sum of both errors, per degree of freedom."""
        space, context = learner.policy.sampler.space, batch.context
        predicted = predict_target(learner.policy, batch)
        with torch.no_grad():
            anchor = predict_target(learner.reference, batch)
        error, moved = (mean_square(predicted - other, space, context) for other in (batch.target, anchor))
        return (batch.weight * error + self.gamma * moved).mean(), {"denoising_error": error.detach(), "moved": moved}
