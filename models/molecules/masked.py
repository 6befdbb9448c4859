"""Pretraining with random cores: some atoms of a molecule are exact, and the loss is that of the others.

So a model learns what it is asked for when molecules grow from a core (`molrl.models.molecules.core_fixed`). A core is
what remains of a molecule when single bonds outside rings are cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int8
from numpy.typing import NDArray
from rdkit import Chem
from torch import Tensor

from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.molecule import Molecule
from molrl.gaussian import Context, Space, sum_per_sample
from molrl.models.molecules.core_fixed import centre, exact_input
from molrl.models.precondition import Preconditioned
from molrl.models.recycling import HalfRecycled
from molrl.pretraining import Preconditioner
from molrl.schedule import alpha, sigma

CUTS = 4  # cores of each molecule
MIN_CORE = 3  # atoms
TWO_BONDS = 0.4  # probability of cutting two bonds instead of one
FREE = -1  # of an atom that no core has
LEVELS = 2**16  # of the times; what is below is random


@dataclass(frozen=True)
class CoreLoss:
    """The denoising loss of molecules with a random core, or without one.

    Attributes:
        probability: of a core, for molecules that have any: `context["cores"]`, int8 [b, CUTS, n], the new bonds of
            each atom of a core, and -1 for free atoms.
    """

    probability: float

    def __call__(
        self,
        model: Preconditioned,
        space: Space,
        x0: Float[Tensor, "b n c"],
        t: Float[Tensor, " b"],
        noise: Float[Tensor, "b n c"],
        context: Context,
    ) -> Float[Tensor, " b"]:
        """Compute the loss of each molecule; `space` is that of whole molecules and not needed."""
        core = choose_cores(t, context["cores"], self.probability)
        other = {name: value for name, value in context.items() if name != "cores"}
        inputs = {**other, "fixed": core >= 0, "open": core.clamp(min=0)}
        trained: Preconditioner = HalfRecycled(model) if model.passes > 1 else model
        return masked_loss(trained, model.data_std, x0, t, noise, inputs)


def masked_loss(
    model: Preconditioner,
    data_std: Float[Tensor, " c"],
    x0: Float[Tensor, "b n c"],
    t: Float[Tensor, " b"],
    noise: Float[Tensor, "b n c"],
    context: Context,
) -> Float[Tensor, " b"]:
    """Compute |F - target|^2 per degree of freedom of the free atoms; rows without fixed atoms have the usual loss.

    The anchor of a row is its core, or the whole molecule where there is none: positions are relative to its centroid.
    Core atoms are exact. F enters as `CoreFixed` uses it, less its mean over the anchor.

    Args:
        data_std: of the model's preconditioning.
        context: "mask" of the atoms and "fixed" of those of the core, bool [b, n]; "open", their new bonds [b, n].
    """
    mask, fixed = context["mask"], context["fixed"]
    free, anchor = mask & ~fixed, torch.where(fixed.any(1, keepdim=True), fixed, mask)
    real, moving = mask.unsqueeze(-1), free.unsqueeze(-1)
    x0 = centre(x0, anchor) * real
    eps = torch.where(fixed.any(1).view(-1, 1, 1), noise, centre(noise * real, mask)) * moving
    log_snr = model.schedule.log_snr(t).view(-1, 1, 1)
    a, s = alpha(log_snr), sigma(log_snr)
    x_t = torch.where(fixed.unsqueeze(-1), exact_input(a * x0, a, s, data_std), a * x0 + s * eps)
    raw = model.raw(centre(x_t, mask) * real, t, context).float()
    error = (centre(raw, anchor) - model.target(x0, eps, t)) * moving
    dof = free.sum(1) * x0.shape[-1] - 3 * ~fixed.any(1)
    return sum_per_sample(error.square()) / dof


def choose_cores(t: Float[Tensor, " b"], cores: Int8[Tensor, "b k n"], probability: float) -> Int8[Tensor, "b n"]:
    """Return one of the k cores of each molecule with some probability, else none: all atoms are free (-1) then.

    The choice is made by the remainder of the random times, so that a batch is a function of its times and noise.
    """
    uniform = (t.double() * LEVELS) % 1
    row = (uniform / max(probability, 1e-9) * cores.shape[1]).long().clamp(max=cores.shape[1] - 1)
    chosen = cores[torch.arange(len(t), device=t.device), row]
    return torch.where((uniform < probability).unsqueeze(1), chosen, FREE)


def check_cores(probability: float, hydrogens: str, *, knows_cores: bool) -> None:
    """Raise ValueError where a model cannot be trained with cores.

    Args:
        probability: of a core.
        hydrogens: of the codec.
        knows_cores: the network reads the atoms of a core.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"core_probability: got {probability}, allowed 0 to 1")
    if hydrogens != "counts":
        raise ValueError(f"core_probability: got {probability}, but cores need implicit hydrogens")
    if not knows_cores:
        raise ValueError(f"core_probability: got {probability}, but this network knows no cores; egnn, pair_network do")


def draw_cores(
    molecules: Sequence[Molecule], rows: NDArray[np.int64], reader: BondReader, width: int
) -> Int8[Tensor, "b k n"]:
    """Return random cores of molecules as `CoreLoss` reads them, each seeded by its row in the data set."""
    found = [cores_of(one, reader, width, int(row)) for one, row in zip(molecules, rows, strict=True)]
    return torch.from_numpy(np.stack(found))


def cores_of(molecule: Molecule, reader: BondReader, width: int, seed: int) -> NDArray[np.int8]:
    """Return `CUTS` random cores, int8 [CUTS, width]; none of a molecule whose bonds cannot be read."""
    cores = np.full((CUTS, width), FREE, dtype=np.int8)
    mol = reader(molecule).mol
    if mol is not None and mol.GetNumAtoms() == len(molecule):
        cores[:, : len(molecule)] = random_cores(mol, np.random.default_rng(seed))
    return cores


def random_cores(mol: Chem.Mol, generator: np.random.Generator) -> NDArray[np.int8]:
    """Return `CUTS` random cores of a molecule, int8 [CUTS, n]: new bonds, -1 for free atoms; a core may be missing.

    One or two bonds are cut. Of the pieces a random choice is the core: one end, the middle (a core with two open
    atoms), or both ends (two pieces to be linked).

    Args:
        mol: of heavy atoms alone.
    """
    cores = np.full((CUTS, mol.GetNumAtoms()), FREE, dtype=np.int8)
    bonds = [bond.GetIdx() for bond in mol.GetBonds() if not bond.IsInRing() and bond.GetBondTypeAsDouble() == 1]
    for core in cores if bonds else ():
        count = min(len(bonds), 1 + int(generator.random() < TWO_BONDS))
        cut = generator.choice(bonds, count, replace=False).tolist()
        pieces = pieces_without(mol, cut)
        chosen = generator.permutation(len(pieces))[: generator.integers(1, len(pieces))]
        atoms = [atom for piece in chosen for atom in pieces[piece]]
        if len(atoms) >= MIN_CORE:
            core[atoms] = 0
            for bond in map(mol.GetBondWithIdx, cut):
                ends = [bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()]
                if (core[ends] == FREE).any():  # else both ends are in the core, and so is their bond
                    core[ends] += core[ends] != FREE
    return cores


def pieces_without(mol: Chem.Mol, bonds: list[int]) -> list[tuple[int, ...]]:
    """Return the atoms of each piece that a molecule falls into without some of its bonds."""
    return list(Chem.GetMolFrags(Chem.FragmentOnBonds(mol, bonds, addDummies=False)))
