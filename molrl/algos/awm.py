"""AWM: advantage-weighted matching (Xue et al. 2025, arXiv:2509.25050)."""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.algos import RowMetrics, checks
from molrl.algos.matching import AdvantageMatching, Errors
from molrl.trajectory import Noised


@dataclass(frozen=True, kw_only=True)
class AWM(AdvantageMatching):
    """PPO's surrogate with the denoising error in the place of the log-likelihood.

    l = |eps_old - eps|^2 - |eps_theta - eps|^2 stands for the log-ratio, and the loss is
    -min(exp(l) A, clamp(exp(l), 1 - clip, 1 + clip) A). Samples with A < 0 push the prediction away from their noise,
    which nothing but the clip and the anchors ends.

    Attributes:
        clip: half-width of the interval around 1 in which exp(l) counts; l is per degree of freedom.
    """

    clip: float

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.require_positive(clip=self.clip)

    def rows(
        self, predicted: Float[Tensor, "m ..."], batch: Noised, error: Errors
    ) -> tuple[Float[Tensor, " m"], RowMetrics]:
        """Compute PPO's pessimistic surrogate of every row."""
        log_ratio = error(cast(Tensor, batch.old), batch.target) - error(predicted, batch.target)
        ratio, advantage = log_ratio.exp(), batch.weight
        surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - self.clip, 1 + self.clip) * advantage)
        return -surrogate, {"log_ratio": log_ratio, "clipped": ((ratio - 1).abs() > self.clip).float()}
