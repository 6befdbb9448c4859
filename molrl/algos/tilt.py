"""Tilt Matching: rounds of small tilts, each exact (Potaptchik et al. 2025, arXiv:2512.21829)."""

from dataclasses import dataclass
from typing import cast

from jaxtyping import Float
from torch import Tensor

from molrl.algos import RowMetrics, checks
from molrl.algos.matching import AdvantageMatching, Errors
from molrl.algos.ram import broadcast
from molrl.trajectory import Noised


@dataclass(frozen=True, kw_only=True)
class Tilt(AdvantageMatching):
    """A complete fit of one round multiplies the law of the samples by exp(tilt_step A).

    The implicit form is |eps_theta - sg(eps_old + (exp(h A) - 1) (eps - eps_theta))|^2, at rest where
    E[exp(h A) (eps - eps_theta) | x_t] = 0: at the tilt of the old policy, whatever h. The explicit one has the target
    eps_old + h A (eps - eps_old), an Euler step of d eps_s / d s = Cov_s(A, eps | x_t), the path that tilts follow.
    Nothing ends that path but the number of rounds.

    Attributes:
        tilt_step: h, so that K rounds tilt by exp(K h A).
        implicit: True: the implicit form; False: the explicit one.
    """

    tilt_step: float
    implicit: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.require_positive(tilt_step=self.tilt_step)

    def rows(
        self, predicted: Float[Tensor, "m ..."], batch: Noised, error: Errors
    ) -> tuple[Float[Tensor, " m"], RowMetrics]:
        """Compute the squared distance to the tilted prediction of the old policy."""
        old, exponent = cast(Tensor, batch.old), broadcast(self.tilt_step * batch.weight, predicted)
        if self.implicit:
            target = old + exponent.expm1() * (batch.target - predicted)
        else:
            target = old + exponent * (batch.target - old)
        return error(predicted, target.detach()), {}
