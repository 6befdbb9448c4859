"""The search for the best pose of a rigid ligand in a box: many starts, each relaxed along forces and torques."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.rewards.molecules.docking.atom_types import Ligand
from molrl.rewards.molecules.docking.scoring_function import ROTOR_WEIGHT, Ligands, Pocket

DRAWS_PER_START = 8  # random poses for each start; the best of all are the starts
WALL_FORCE = 10.0  # kcal/mol per angstrom of an atom outside the box
FIRST_STEP, LAST_STEP = 0.5, 0.02  # angstrom; steps shrink geometrically
STAGES = 3  # after each but the last the best quarter of the poses is kept
DECAY = (0.7, 0.9)  # of the running mean of the gradient and of its square


@dataclass(frozen=True, eq=False)
class Placement:
    """A pose in the box.

    Attributes:
        score: kcal/mol, the lower the better.
        positions: angstrom, float [n, 3], in the order of the ligand's heavy atoms.
    """

    score: float
    positions: Float[Tensor, "n 3"]


@dataclass(eq=False)
class Descent:
    """The state of the descent of several poses by Adam (Kingma and Ba 2015, arXiv:1412.6980).

    Attributes:
        turn: rotations of the shape, for rows [b, 3, 3].
        shift: positions of its centroid [b, 3].
        mean, square: running means of the gradients, by shift and by angle times the radius of gyration [b, 6].
    """

    turn: Tensor
    shift: Tensor
    mean: Tensor
    square: Tensor

    def keep(self, rows: Tensor) -> "Descent":
        """Return the state of some of the poses."""
        return Descent(self.turn[rows], self.shift[rows], self.mean[rows], self.square[rows])

    def move(self, gradient: Tensor, step: int, length: float, gyration: Tensor) -> None:
        """Take one step of Adam of about `length` angstrom at most."""
        self.mean = DECAY[0] * self.mean + (1 - DECAY[0]) * gradient
        self.square = DECAY[1] * self.square + (1 - DECAY[1]) * gradient.square()
        root = (self.square / (1 - DECAY[1] ** step)).sqrt() + 1e-8
        move = -length * self.mean / (1 - DECAY[0] ** step) / root
        self.shift = self.shift + move[:, :3]
        self.turn = self.turn @ rotation(move[:, 3:] / gyration)


def place(
    pocket: Pocket, ligand: Ligand, positions: Float[Tensor, "n 3"], *, starts: int, steps: int, seed: int
) -> Placement | None:
    """Search for the best pose of a rigid ligand; None when it does not fit in the box.

    The result is the same for the same seed and, up to rounding, for any rotation and translation of the positions.

    Args:
        positions: of the heavy atoms, angstrom, finite.
        starts: poses that are moved, the best of 8 times as many random ones; of these the best quarter after a third
            of the steps, and of these the best quarter after two thirds.
        steps: gradient steps in all.
    """
    shape = in_principal_axes(positions.to(pocket.centre))
    ligands = Ligands([ligand], dtype=shape.dtype, device=shape.device)
    gyration = shape.square().sum(-1).mean().sqrt().clamp(min=0.5)  # makes an angle comparable to a shift
    descent = best_of_random(shape, pocket, ligands, starts, torch.Generator().manual_seed(seed))
    stage_ends = {math.ceil(steps * stage / STAGES) for stage in range(1, STAGES)}
    best = Placement(math.inf, shape)
    for step in range(steps + 1):
        arms = shape @ descent.turn
        poses = arms + descent.shift[:, None]
        energy, forces, inside = energy_and_forces(poses, pocket, ligands)
        best = best_of(best, poses, torch.where(inside, energy, torch.inf))
        gradient = -torch.cat([forces.sum(1), torch.linalg.cross(arms, forces).sum(1) / gyration], dim=-1)
        descent.move(gradient, step + 1, FIRST_STEP * (LAST_STEP / FIRST_STEP) ** (step / max(steps, 1)), gyration)
        if step in stage_ends:
            descent = descent.keep(energy.argsort(stable=True)[: math.ceil(len(energy) / 4)])
    if math.isinf(best.score):
        return None
    return Placement(best.score / (1 + ROTOR_WEIGHT * ligand.rotors), best.positions)


def best_of_random(
    shape: Float[Tensor, "n 3"], pocket: Pocket, ligands: Ligands, starts: int, generator: torch.Generator
) -> Descent:
    """Draw random poses and return the best of them."""
    turn, shift = random_poses(shape, pocket, DRAWS_PER_START * starts, generator)
    with torch.no_grad():
        energy = torch.cat([pocket.energy(part, ligands) for part in (shape @ turn + shift[:, None]).split(starts)])
    kept = energy.argsort(stable=True)[:starts]
    zero = torch.zeros(len(kept), 6, dtype=shape.dtype, device=shape.device)
    return Descent(turn[kept], shift[kept], zero, zero)


def best_of(best: Placement, poses: Float[Tensor, "b n 3"], energy: Float[Tensor, " b"]) -> Placement:
    """Return the best of a placement and some poses by their energy."""
    lowest, row = energy.min(0)
    return Placement(lowest.item(), poses[row]) if lowest < best.score else best


def energy_and_forces(
    poses: Float[Tensor, "b n 3"], pocket: Pocket, ligands: Ligands
) -> tuple[Float[Tensor, " b"], Float[Tensor, "b n 3"], Tensor]:
    """Return energies with the wall of the box, the forces on the atoms, and the mask of poses inside [b]."""
    with torch.enable_grad():
        free = poses.detach().requires_grad_(True)
        beyond = pocket.beyond(free, ligands)
        energy = pocket.energy(free, ligands) + WALL_FORCE * beyond
        (gradient,) = torch.autograd.grad(energy.sum(), free)
    return energy.detach(), -gradient, beyond.detach() == 0


def in_principal_axes(positions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Return positions centred at 0 with their principal axes along x, y, z, longest first; chirality is kept.

    Each axis points to the side to which the positions are skewed.
    """
    centred = positions - positions.mean(0)
    _, axes = torch.linalg.eigh(centred.T @ centred)
    axes = axes.flip(-1)
    sign = (centred @ axes).pow(3).sum(0).sign()
    axes = axes * torch.where(sign == 0, 1.0, sign)
    axes[:, 2] = axes[:, 2] * torch.linalg.det(axes).sign()
    turned: Tensor = centred @ axes
    return turned


def random_poses(
    shape: Float[Tensor, "n 3"], pocket: Pocket, number: int, generator: torch.Generator
) -> tuple[Float[Tensor, "b 3 3"], Float[Tensor, "b 3"]]:
    """Draw uniform rotations (for rows, x R) and shifts, uniform over those that keep the ligand in the box."""
    axes = torch.randn(number, 4, generator=generator, dtype=torch.float64)
    turn = quaternion(axes / axes.norm(dim=-1, keepdim=True)).to(shape)
    low, high = (shape @ turn).amin(1), (shape @ turn).amax(1)
    share = torch.rand(number, 3, generator=generator, dtype=torch.float64).to(shape)
    room = 2 * pocket.half - (high - low)
    # Where there is no room the centre of the ligand is placed at the centre of the box.
    return turn, pocket.centre - (low + high) / 2 + (share - 0.5) * room.clamp(min=0.0)


def quaternion(q: Float[Tensor, "b 4"]) -> Float[Tensor, "b 3 3"]:
    """Return the rotation matrix of a unit quaternion w, x, y, z."""
    w, v = q[:, :1], q[:, 1:]
    eye = torch.eye(3, dtype=q.dtype, device=q.device)
    scale = (w.square() - v.square().sum(-1, keepdim=True))[..., None]
    return scale * eye + 2 * v[:, :, None] * v[:, None] + 2 * w[..., None] * skew(v)


def rotation(vector: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3 3"]:
    """Return the matrix that rotates rows, x R, about a vector by its length in radians."""
    angle = vector.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return quaternion(torch.cat([(angle / 2).cos(), -(angle / 2).sin() * vector / angle], dim=-1))


def skew(v: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3 3"]:
    """Return the matrix K with K y = v x y."""
    zero = torch.zeros_like(v[:, 0])
    x, y, z = v.unbind(-1)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(-1, 3, 3)
