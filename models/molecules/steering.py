"""Corrections of the clean estimate on the way: new atoms reach the open atoms of a core and keep off all others.

A model of free molecules does not know where it may make bonds, nor that there is a protein. In each step the estimate
of the positions x_0 is replaced by the minimum, over a few steps of descent, of |x - x_0|^2 / (2 w r^2) + E(x): a
restraint with the uncertainty r of an estimate, r^2 = s^2 d^2 / (s^2 + d^2) for noise s and data of spread d, and an
energy E of contacts. The correction is a function of the state and of constants, so each step keeps its exact density,
and it fades as r does: near the data the model decides alone.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.gaussian import Context

ITERATIONS = 10
STEP = 0.3  # of the descent, in units of the restraint
BOND = 1.5  # angstrom from an open atom to its nearest new atom
SEPARATION = 2.3  # angstrom from other atoms of the core; second neighbours are 2.4 and more apart
CONTACT = 3.0  # angstrom from the heavy atoms of a protein; hydrogen bonds are 2.6 and more long
MAX_PULL = 3.0  # angstrom, of the distance that is corrected in one step
FAR = 1e3  # angstrom, of padding


@dataclass(frozen=True, eq=False)
class Steering:
    """A correction of predicted noise by contacts of the free atoms.

    Attributes:
        weight: w, of the contacts against the model's own estimate.
        spread: d, standard deviation of the positions of the model's training set, angstrom.
        obstacles: heavy atoms of a protein near the core [k, 3], angstrom in the frame of the core; None: no protein.
    """

    weight: float
    spread: float
    obstacles: Float[Tensor, "k 3"] | None = None

    def __call__(
        self,
        eps: Float[Tensor, "b m c"],
        x: Float[Tensor, "b m c"],
        a: Float[Tensor, "b 1 1"],
        s: Float[Tensor, "b 1 1"],
        context: Context,
    ) -> Float[Tensor, "b m c"]:
        """Return the noise that belongs to the corrected clean estimate.

        Args:
            eps: predicted noise.
            x: state of the free atoms, alpha x_0 + sigma eps.
            a, s: alpha and sigma.
            context: "core" and "open" of the core, "mask" of the free atoms.
        """
        variance = 1 / ((a / s).square() + self.spread**-2)
        estimate = (x - s * eps)[..., :3] / a
        moved = self.relax(estimate, self.weight * variance, context) - estimate
        correction = torch.zeros_like(eps)
        correction[..., :3] = -a / s * moved * context["mask"].unsqueeze(-1)
        return eps + correction

    def relax(
        self, start: Float[Tensor, "b m 3"], width: Float[Tensor, "b 1 1"], context: Context
    ) -> Float[Tensor, "b m 3"]:
        """Descend from clean estimates along the contacts and the restraint of squared width w r^2."""
        x = start
        for _ in range(ITERATIONS):
            force = core_force(x, context)
            if self.obstacles is not None:
                force = force + repulsion(x, self.obstacles.to(x).expand(len(x), -1, -1), CONTACT)
            x = x + STEP * (width * force - (x - start)) / (1 + width)
        return x


def core_force(x: Float[Tensor, "b m 3"], context: Context) -> Float[Tensor, "b m 3"]:
    """Return the pull of each open atom on the nearest free one, and the repulsion of all other close pairs."""
    core, opened = context["core"][..., :3], context["open"] > 0
    difference, distance = pairs(x, core)
    distance = distance.masked_fill(~context["mask"].unsqueeze(2), FAR)
    nearest = torch.zeros_like(distance).scatter(1, distance.argmin(1, keepdim=True), 1.0) * opened.unsqueeze(1)
    pull = (BOND - distance).clamp(-MAX_PULL, MAX_PULL) * nearest
    push = (SEPARATION - distance).clamp(min=0) * (1 - nearest)
    return total(pull + push, difference, distance)


def repulsion(x: Float[Tensor, "b m 3"], others: Float[Tensor, "b k 3"], reach: float) -> Float[Tensor, "b m 3"]:
    """Return the force on each atom away from others that are closer than `reach`, angstrom."""
    difference, distance = pairs(x, others)
    return total((reach - distance).clamp(min=0), difference, distance)


def pairs(x: Float[Tensor, "b m 3"], others: Float[Tensor, "b k 3"]) -> tuple[Tensor, Tensor]:
    """Return differences [b, m, k, 3] and distances [b, m, k], with a finite gradient at zero."""
    difference = x.unsqueeze(2) - others.unsqueeze(1)
    return difference, (difference.square().sum(-1) + 1e-6).sqrt()


def total(
    strength: Float[Tensor, "b m k"], difference: Float[Tensor, "b m k 3"], distance: Float[Tensor, "b m k"]
) -> Float[Tensor, "b m 3"]:
    """Return the mean force on each atom over its contacts, of which a crowd must not push further than one."""
    contacts = (strength != 0).sum(-1, keepdim=True).clamp(min=1)
    return ((strength / distance).unsqueeze(-1) * difference).sum(2) / contacts
