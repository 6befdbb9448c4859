"""EPG and PEPG: policy gradients of the evidence lower bound (Choi et al. 2026, arXiv:2602.04663).

PAR, the third loss of the paper, sg(exp(l)) (A - (E - E_old))^2 / 2, has PEPG's gradient for every l.
"""

from dataclasses import dataclass
from typing import cast

from jaxtyping import Float
from torch import Tensor

from molrl.algos import RowMetrics
from molrl.algos.matching import AdvantageMatching, Errors
from molrl.gaussian import sum_per_sample
from molrl.trajectory import Noised


def lower_bound(predicted: Float[Tensor, "m ..."], batch: Noised, error: Errors) -> Float[Tensor, " m"]:
    """Compute E = -|eps_pred - eps|^2 / sg(mean |eps_pred - eps|), with the published adaptive weight."""
    size = sum_per_sample((predicted - batch.target).abs()) / error.space.dof(batch.target, error.context)
    return -error(predicted, batch.target) / size.detach()


@dataclass(frozen=True, kw_only=True)
class EPG(AdvantageMatching):
    """The importance-weighted score function of the bound: -sg(exp(l)) A E with l = E - E_old."""

    def rows(
        self, predicted: Float[Tensor, "m ..."], batch: Noised, error: Errors
    ) -> tuple[Float[Tensor, " m"], RowMetrics]:
        """Compute the surrogate of every row."""
        bound = lower_bound(predicted, batch, error)
        log_ratio = bound.detach() - lower_bound(cast(Tensor, batch.old), batch, error)
        return -log_ratio.exp() * self.signal(batch.weight, log_ratio) * bound, {"log_ratio": log_ratio}

    def signal(self, advantage: Float[Tensor, " m"], log_ratio: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
        """Return what the score function is weighted with: the advantage."""
        return advantage


@dataclass(frozen=True, kw_only=True)
class PEPG(EPG):
    """EPG with a proximal term: the advantage of a row counts less the log-ratio that it has already moved by."""

    def signal(self, advantage: Float[Tensor, " m"], log_ratio: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
        """Return A - l, which is zero where the log-ratio has reached the advantage."""
        return advantage - log_ratio
