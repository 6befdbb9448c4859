"""The search for the best poses of flexible ligands: Monte Carlo with local minimisation, all chains at once.

Iterated local search as in AutoDock Vina (Trott and Olson 2010, J. Comput. Chem. 31, 455): a random change of position,
orientation or one torsion, minimisation, and Metropolis' criterion.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from molrl.rewards.molecules.docking.complexes import Complexes, FlexibleLigand
from molrl.rewards.molecules.docking.kinematics import Coordinates
from molrl.rewards.molecules.docking.maps import Maps
from molrl.rewards.molecules.docking.minimisation import Minimum, minimise
from molrl.rewards.molecules.docking.scoring_function import MAX_REPULSION, ROTOR_WEIGHT

DRAWS_PER_CHAIN = 8  # random poses for each chain; the best of all are the starts
TEMPERATURE = 1.2  # kcal/mol, of Metropolis' criterion, as in Vina
AMPLITUDE = 2.0  # angstrom that a random shift or turn moves atoms at most, as in Vina
SOFT_REPULSION = 10.0  # kcal/mol; the limit of the repulsion of an atom while poses are searched
REFINED = 32  # poses that are minimised exactly
EXACT_EVALUATIONS = 30
MIN_RMSD = 1.0  # angstrom between two poses that are both kept, as in Vina


@dataclass(frozen=True, kw_only=True)
class MonteCarlo:
    """The effort of a search.

    Attributes:
        chains: poses of each ligand that move at once.
        steps: random changes of each.
        evaluations: of the energy after each change.
        poses: that are kept at most.
        seed: of the random numbers.
    """

    chains: int
    steps: int
    evaluations: int
    poses: int
    seed: int

    def __post_init__(self) -> None:
        for name, minimum in (("chains", 1), ("steps", 0), ("evaluations", 1), ("poses", 1)):
            if getattr(self, name) < minimum:
                raise ValueError(f"{name}: got {getattr(self, name)}, need at least {minimum}")


@dataclass(frozen=True, eq=False)
class DockedPose:
    """A pose in the box.

    Attributes:
        score: predicted free energy of binding, kcal/mol, the lower the better.
        internal: energy within the ligand, kcal/mol.
        positions: angstrom, float [n, 3], in the order of the ligand's heavy atoms.
    """

    score: float
    internal: float
    positions: Float[Tensor, "n 3"]


@torch.no_grad()
def dock(maps: Maps, flexible: Sequence[FlexibleLigand], search: MonteCarlo) -> list[list[DockedPose]]:
    """Return the best poses of each ligand, which differ by at least 1 angstrom, best first; none if it does not fit.

    The score of a pose is (inter + intra - intra of the best) / (1 + 0.05846 rotors), as Vina's.
    """
    if not flexible:
        return []
    system, generator = Complexes(maps, flexible), torch.Generator().manual_seed(search.seed)
    found = explore(system, search, generator)
    rows = found.energy.argsort(dim=-1, stable=True)[:, :REFINED]
    hard = minimise(system.soft(MAX_REPULSION), found.at.rows(rows), system.scale, search.evaluations)
    last = minimise(system.exact(), hard.at, system.scale, EXACT_EVALUATIONS)
    poses = system.skeletons.poses(last.at)
    inter, _ = system.from_pairs(poses)
    intra, _ = system.internal.energy(poses)
    beyond = system.pocket.beyond(poses.flatten(0, 1), system.repeated(poses.shape[1])).view(inter.shape)
    total = torch.where(beyond > 0, torch.inf, inter + intra)
    return [
        distinct(one, poses[row, :, : len(one.ligand)], total[row], intra[row], search.poses)
        for row, one in enumerate(flexible)
    ]


def explore(system: Complexes, search: MonteCarlo, generator: torch.Generator) -> Minimum:
    """Return the best pose of each chain, by energies from maps with a soft repulsion."""
    surface = system.soft(SOFT_REPULSION)
    drawn = system.random(DRAWS_PER_CHAIN * search.chains, generator)
    energy, _ = surface(drawn)
    start = drawn.rows(energy.argsort(dim=-1, stable=True)[:, : search.chains])
    now = best = minimise(surface, start, system.scale, search.evaluations)
    for _ in range(search.steps):
        new = minimise(surface, mutated(system, now.at, generator), system.scale, search.evaluations)
        chance = ((now.energy - new.energy) / TEMPERATURE).exp()
        now = new.where(uniform(generator, now.energy, now.energy.shape) < chance, now)
        best = new.where(new.energy < best.energy, best)
    return best


def mutated(system: Complexes, at: Coordinates, generator: torch.Generator) -> Coordinates:
    """Return poses of which each has another position, another orientation, or one torsion with any angle."""
    shape, torsions = at.shift.shape[:2], system.skeletons.torsions
    kinds = 2 + torsions.sum(-1, keepdim=True)
    kind = (uniform(generator, at.shift, shape) * kinds).long().minimum(kinds - 1)[..., None]
    ball = torch.randn(*shape, 3, generator=generator, dtype=torch.float64).to(at.shift)
    ball = ball * (AMPLITUDE * uniform(generator, ball, (*shape, 1)) ** (1 / 3) / ball.norm(dim=-1, keepdim=True))
    turn = ball / system.skeletons.radius
    moved = at.moved(torch.cat([ball * (kind == 0), turn * (kind == 1), torch.zeros_like(at.angles)], dim=-1))
    angles = (2 * uniform(generator, at.angles, at.angles.shape) - 1) * math.pi
    chosen = torch.arange(torsions.shape[1], device=kind.device) == kind - 2
    return moved._replace(angles=torch.where(chosen, angles, at.angles))


def uniform(generator: torch.Generator, like: Tensor, shape: Sequence[int]) -> Tensor:
    """Draw numbers in [0, 1), the same on any device."""
    return torch.rand(*shape, generator=generator, dtype=torch.float64).to(like)


def distinct(
    one: FlexibleLigand,
    poses: Float[Tensor, "s n 3"],
    total: Float[Tensor, " s"],
    intra: Float[Tensor, " s"],
    most: int,
) -> list[DockedPose]:
    """Return poses of finite energy, best first, without those closer than 1 angstrom to a better one."""
    order: Int[Tensor, " s"] = total.argsort(stable=True)
    kept: list[int] = []
    for row in order[total[order].isfinite()].tolist():
        far: Bool[Tensor, " k"] = (poses[kept] - poses[row]).square().sum(-1).mean(-1) >= MIN_RMSD**2
        if len(kept) < most and far.all():
            kept.append(row)
    divisor = 1 + ROTOR_WEIGHT * one.ligand.rotors
    return [
        DockedPose(((total[row] - intra[kept[0]]) / divisor).item(), intra[row].item(), poses[row].clone())
        for row in kept
    ]
