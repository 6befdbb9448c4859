"""Training of networks that read their own estimate: each prediction is made in several passes of one network.

Every pass after the first reads the clean estimate of the pass before, which makes the network deeper without more
weights (recycling: Jumper et al. 2021, doi:10.1038/s41586-021-03819-2, Suppl. 1.10). Self-conditioning (Chen et al.
2022, arXiv:2208.04202) reads the estimate of the last *step* instead; a step of the chain would then depend on more
than its state, and its log-probability could not be computed from the state alone.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.gaussian import Context, Space
from molrl.models.precondition import Preconditioned
from molrl.pretraining import denoising_loss
from molrl.schedule import Schedule
from molrl.trajectory import select


@dataclass(frozen=True)
class HalfRecycled:
    """A preconditioned network of which half of a batch sees the estimate of a first pass, and the other half none.

    The first pass is made without gradient; it is learned from the other half.
    """

    model: Preconditioned

    @property
    def schedule(self) -> Schedule:
        """Return the schedule of the model."""
        return self.model.schedule

    def raw(self, x: Float[Tensor, "b n c"], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, "b n c"]:
        """Compute the outputs of the network; rows from the middle on have seen an estimate."""
        rows = slice(len(x) // 2, None)
        seeing = x[rows], t[rows], select(context, rows)
        estimate = torch.zeros_like(x)
        with torch.no_grad():
            estimate[rows] = self.model.clean_estimate(x[rows], t[rows], self.model.raw(*seeing))
        return self.model.raw(x, t, context, estimate)

    def target(
        self, x0: Float[Tensor, "b n c"], eps: Float[Tensor, "b n c"], t: Float[Tensor, " b"]
    ) -> Float[Tensor, "b n c"]:
        """Return the target of the model's output."""
        return self.model.target(x0, eps, t)


def recycling_loss(
    model: Preconditioned,
    space: Space,
    x0: Float[Tensor, "b n c"],
    t: Float[Tensor, " b"],
    noise: Float[Tensor, "b n c"],
    context: Context,
) -> Float[Tensor, " b"]:
    """Compute |F - target|^2 per degree of freedom; half of the samples are predicted in two passes."""
    return denoising_loss(HalfRecycled(model), space, x0, t, noise, context)
