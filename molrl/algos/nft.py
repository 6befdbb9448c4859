"""DiffusionNFT: negative-aware fine-tuning on the forward process (Zheng et al. 2025, arXiv:2509.16117)."""

from dataclasses import dataclass
from typing import cast

from jaxtyping import Float
from torch import Tensor

from molrl.algos import RowMetrics, checks
from molrl.algos.matching import AdvantageMatching, Errors
from molrl.trajectory import Noised


@dataclass(frozen=True, kw_only=True)
class NFT(AdvantageMatching):
    """The policy is fitted on both sides of the old one: eps+ to good samples, its mirror image eps- to bad ones.

    With m = advantage_clip and r = 1/2 + A / (2m), the loss is (m/b) (r |eps+ - eps|^2 + (1 - r) |eps- - eps|^2),
    eps+- = (1 -+ b) eps_old +- b eps_theta, which is b m |eps_theta - eps_old|^2 - 2 A u.(eps_theta - eps_old) up to a
    constant: a complete fit of one round moves the prediction by Cov(A, eps | x_t) / (b m). The factor m/b is that of
    the published code.

    Attributes:
        mixing: b; the larger, the smaller the step of a complete fit. 1 in the paper, and 0.1 for some rewards.
    """

    mixing: float

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.require_positive(mixing=self.mixing)

    def rows(
        self, predicted: Float[Tensor, "m ..."], batch: Noised, error: Errors
    ) -> tuple[Float[Tensor, " m"], RowMetrics]:
        """Compute the loss of both sides."""
        old, b, m = cast(Tensor, batch.old), self.mixing, self.advantage_clip
        share = 0.5 + batch.weight / (2 * m)
        good, bad = (
            error((1 - b) * old + b * predicted, batch.target),
            error((1 + b) * old - b * predicted, batch.target),
        )
        return m / b * (share * good + (1 - share) * bad), {}
