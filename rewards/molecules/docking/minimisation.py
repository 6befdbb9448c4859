"""Local minimisation of many poses at once by BFGS (Nocedal and Wright 2006, Numerical Optimization, Algorithm 6.1)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.rewards.molecules.docking.kinematics import Coordinates

Surface: TypeAlias = Callable[[Coordinates], tuple[Tensor, Tensor]]
"""Energy [l, s] at coordinates and its gradient by a step of these [l, s, d]."""

SUFFICIENT_DECREASE = 1e-4  # of Armijo's condition, as in Vina
BACKTRACK = 0.5  # factor of a step that was too long
FIRST_MOVE = 0.3  # length of the first step, in the units of `scale`
MAX_MOVE = 1.0  # length of any step, in these units


@dataclass(eq=False)
class Minimum:
    """Poses with their energy [l, s], kcal/mol, and its gradient by a step [l, s, d]."""

    at: Coordinates
    energy: Tensor
    gradient: Tensor

    def where(self, condition: Tensor, other: "Minimum") -> "Minimum":
        """Return these poses where a condition [l, s] holds, elsewhere the others."""
        energy = torch.where(condition, self.energy, other.energy)
        gradient = torch.where(condition[..., None], self.gradient, other.gradient)
        return Minimum(self.at.where(condition, other.at), energy, gradient)


def minimise(surface: Surface, at: Coordinates, scale: Float[Tensor, "l 1 d"], evaluations: int) -> Minimum:
    """Lower the energy of each pose; each evaluation is a trial step of every pose.

    A trial that fails is halved, one that succeeds updates the inverse Hessian and sets the next direction, so that
    poses do not wait for each other.

    Args:
        scale: steps of each coordinate that move atoms by about one angstrom.
        evaluations: of the energy, beside the first.
    """
    lowest = Minimum(at, *surface(at))
    inverse = torch.diag_embed(scale.square().expand_as(lowest.gradient))
    step = -scale.square() * lowest.gradient
    step = step * (FIRST_MOVE / (step / scale).norm(dim=-1, keepdim=True).clamp(min=1e-12))
    fresh = torch.ones_like(lowest.energy, dtype=torch.bool)
    for _ in range(evaluations):
        new_at = lowest.at.moved(step)
        trial = Minimum(new_at, *surface(new_at))
        slope = (step * lowest.gradient).sum(-1)
        better = trial.energy <= lowest.energy + SUFFICIENT_DECREASE * slope
        inverse = updated(inverse, step, trial.gradient - lowest.gradient, better, fresh)
        fresh = fresh & ~better
        lowest = trial.where(better, lowest)
        newton = -(inverse @ lowest.gradient[..., None])[..., 0]
        length = (newton / scale).norm(dim=-1, keepdim=True)
        step = torch.where(better[..., None], newton * (MAX_MOVE / length.clamp(min=MAX_MOVE)), BACKTRACK * step)
    return lowest


def updated(inverse: Tensor, step: Tensor, change: Tensor, better: Tensor, fresh: Tensor) -> Tensor:
    """Return the inverse Hessians after steps and the changes of the gradient along them (Eq. 6.17).

    The first is scaled to the curvature before (Eq. 6.20). Poses that are not `better`, or along whose step the
    curvature is not positive, keep theirs.
    """
    curvature = (step * change).sum(-1)
    ahead = (inverse @ change[..., None])[..., 0]
    square = (change * ahead).sum(-1)
    valid = better & (curvature > 1e-10) & (square > 1e-10)
    factor = torch.where(valid & fresh, curvature / square.clamp(min=1e-10), 1.0)
    rho = torch.where(valid, 1.0 / curvature.clamp(min=1e-10), 0.0)
    ahead, square = ahead * factor[..., None], square * factor
    cross = (rho[..., None] * step)[..., :, None] * (0.5 * (1 + rho * square)[..., None] * step - ahead)[..., None, :]
    return inverse * factor[..., None, None] + cross + cross.transpose(-1, -2)
