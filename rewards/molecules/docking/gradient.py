"""The gradient of the best score of a rigid ligand by the positions of its atoms."""

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.rewards.molecules.docking.atom_types import Ligand
from molrl.rewards.molecules.docking.placement import Placement
from molrl.rewards.molecules.docking.scoring_function import Ligands, Pocket


def score_gradient(
    pocket: Pocket, ligand: Ligand, positions: Float[Tensor, "n 3"], placement: Placement
) -> Float[Tensor, "n 3"]:
    """Return the gradient of the score of a placed ligand by its own positions, kcal/mol per angstrom.

    The best pose x R + t follows the positions x. The score does not change to first order with R and t at the best
    pose, so that its gradient is that at a pose that is held, turned back: (dE/dpose) R^T (the envelope theorem:
    Danskin 1966, doi:10.1137/0114053). A search ends near the best pose, where a net force and torque are left; the
    gradient of a best score has none, so they are removed.

    The score has kinks where two poses are equally good, and for a straight molecule, which may bend to either side;
    there it is the gradient at the pose that was found. Types of atoms and rotors are those of the ligand.
    """
    pose = placement.positions.detach().clone().requires_grad_()
    ligands = Ligands([ligand], dtype=pose.dtype, device=pose.device)
    with torch.enable_grad():
        (force,) = torch.autograd.grad(pocket.score(pose[None], ligands).sum(), pose)
    own = positions.to(pose)
    return remove_rigid_motion(own, force @ rotation_between(own, pose.detach()).T)


def rotation_between(first: Float[Tensor, "n 3"], second: Float[Tensor, "n 3"]) -> Float[Tensor, "3 3"]:
    """Return the rotation R, for rows, with which x R of the first comes closest to the second, both centred.

    Kabsch 1976, doi:10.1107/S0567739476001873.
    """
    left, _, right = torch.linalg.svd((first - first.mean(0)).T @ (second - second.mean(0)))
    sign = torch.ones(3, dtype=first.dtype, device=first.device)
    sign[2] = torch.linalg.det(left @ right).sign()
    turn: Tensor = (left * sign) @ right
    return turn


def remove_rigid_motion(positions: Float[Tensor, "n 3"], forces: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Return forces without the part that moves or turns the positions as a whole, by least squares.

    This part is a + w x (r - centre), with a the mean force and I w the torque, I = sum_i |r_i|^2 - r_i r_i^T.
    """
    arms, internal = positions - positions.mean(0), forces - forces.mean(0)
    eye = torch.eye(3, dtype=arms.dtype, device=arms.device)
    inertia = arms.square().sum() * eye - arms.T @ arms
    torque = torch.linalg.cross(arms, internal).sum(0)
    spin = torch.linalg.pinv(inertia, rtol=1e-5, hermitian=True) @ torque
    without: Tensor = internal - torch.linalg.cross(spin.expand_as(arms), arms)
    return without
