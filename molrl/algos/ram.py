"""RAM: Reinforce Adjoint Matching (Bergmeister et al. 2026, arXiv:2605.10759)."""

from dataclasses import dataclass
from typing import cast

from jaxtyping import Float
from torch import Tensor

from molrl.algos import RowMetrics, checks
from molrl.algos.matching import AdvantageMatching, Errors
from molrl.trajectory import Noised


@dataclass(frozen=True, kw_only=True)
class RAM(AdvantageMatching):
    """A consistency loss |eps_theta - sg(eps_ref + R (eps - eps_theta))|^2 with R = A / temperature.

    It is at rest where eps_theta = eps_ref + E[R (eps - eps_theta) | x_t], the samples being the policy's own. That is
    less of a tilt than exp(R), unless the data are normal and R linear, because the paper's path-cost correction is
    left out. The iteration is stable where E[R | x_t] > -1.

    Attributes:
        temperature: of the reward, in units of the advantage.
    """

    temperature: float

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.require_positive(temperature=self.temperature)

    @property
    def needs_reference(self) -> bool:
        """Return True: the reference is where the target begins."""
        return True

    def rows(
        self, predicted: Float[Tensor, "m ..."], batch: Noised, error: Errors
    ) -> tuple[Float[Tensor, " m"], RowMetrics]:
        """Compute the squared distance to the corrected prediction of the reference."""
        tilt = broadcast(batch.weight / self.temperature, predicted)
        target = cast(Tensor, batch.reference) + tilt * (batch.target - predicted)
        return error(predicted, target.detach()), {}


def broadcast(rows: Float[Tensor, " m"], like: Float[Tensor, "m ..."]) -> Tensor:
    """Shape a number per row so that it multiplies a batch of states."""
    return rows.view(-1, *[1] * (like.dim() - 1))
