"""From states of free atoms to molecules with the core: contexts, decoding, and what is kept of a core."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from rdkit import Chem
from torch import Tensor, nn

from molrl.data.molecules.core_bonds import ATTACH
from molrl.data.molecules.core_file import OpenCore
from molrl.data.molecules.molecule import Core, Molecule
from molrl.data.molecules.sizes import Sizes, padding_mask
from molrl.gaussian import Context
from molrl.models.molecules.core_fixed import knows_cores
from molrl.models.molecules.decoder import MoleculeDecoder
from molrl.noise import Draw, Key
from molrl.rewards.scores import category


@dataclass(frozen=True, kw_only=True)
class GrowthDecoder(MoleculeDecoder):
    """A decoder of free atoms to molecules with a core, which is copied bit for bit.

    Attributes:
        core: the given atoms, in the frame of their file; `atoms` counts the others.
    """

    core: OpenCore

    def __post_init__(self) -> None:
        if self.model.codec.hydrogens != "counts":
            raise ValueError("core: this model draws hydrogens as atoms; take one with implicit ones: qm9_heavy, drugs")
        if self.model.conditions:
            raise ValueError("core: this model is conditioned on properties, which is not supported with a core")
        self.state  # noqa: B018  # an atom type that the model does not know fails here

    @cached_property
    def sizes(self) -> Sizes:
        """Return the distribution of the numbers of new atoms: that of whole molecules, less the core, or as asked."""
        given, trained = len(self.core.molecule), self.model.sizes
        rest = {size - given: count for size, count in zip(trained.atoms, trained.counts, strict=True) if size > given}
        if isinstance(self.atoms, int | Mapping) or str(self.atoms).isdecimal():
            return trained.choose(self.atoms)
        if not rest:
            raise ValueError(
                f"atoms={self.atoms}: the core has {given} heavy atoms and training molecules up to {trained.atoms[-1]}"
                "; ask for numbers of new atoms, such as atoms=6"
            )
        try:
            return Sizes(tuple(rest), tuple(rest.values())).choose(self.atoms)
        except ValueError as error:
            raise ValueError(f"{error} (new atoms, beside the {given} of the core)") from None

    @property
    def notes(self) -> list[str]:
        """Return what is asked of the model, and how its training compares."""
        given, low, high = len(self.core.molecule), self.sizes.atoms[0], self.sizes.atoms[-1]
        trained = self.model.sizes.atoms
        pieces = f" in {self.core.pieces} pieces" if self.core.pieces > 1 else ""
        how = "was trained with cores" if knows_cores(self.model.denoiser) else "was not trained with cores"
        new = f"{low} to {high} new atoms (training molecules have {trained[0]} to {trained[-1]} in all)"
        return [f"core: {given} heavy atoms{pieces}, new bonds at {self.core.places}; {new}; the model {how}"]

    @cached_property
    def centroid(self) -> Float[Tensor, " 3"]:
        """Return the origin of the states in the frame of the file, angstrom."""
        return torch.from_numpy(self.core.molecule.positions.mean(0))

    @cached_property
    def state(self) -> Float[Tensor, "n c"]:
        """Return the clean state of the core, its positions centred.

        Raises:
            ValueError: the model does not know one of its atoms.
        """
        try:
            return self.model.codec.encode([self.core.molecule])[0][0]
        except ValueError as error:
            raise ValueError(f"core (less a hydrogen for each new bond): {error}") from None

    def draw_context(self, samples: Sequence[int], key: Key) -> Context:
        """Draw the mask [b, m] of each sample's free atoms and the noise of its core."""
        assert self.core.molecule.core is not None
        count, opened = len(samples), torch.from_numpy(self.core.molecule.core.open)
        return {
            "mask": padding_mask(self.sizes.draw(samples, key)),
            "core": self.state.expand(count, -1, -1).clone(),
            "core_noise": key.normal(samples, Draw.CONTEXT, self.state.shape),
            "open": opened.expand(count, -1).clone(),
        }

    def decode(self, x0: Float[Tensor, "b m c"], context: Context) -> list[Molecule]:
        """Decode states to molecules in the frame of the file, the core before the new atoms."""
        shifted = x0.detach().cpu().clone()
        shifted[..., :3] += self.centroid
        return [join(self.core.molecule, free) for free in self.model.codec.decode(shifted, context)]

    def measure(self, samples: Sequence[Molecule]) -> Mapping[str, float]:
        """Compute the usual metrics, and how many samples keep the core and have new bonds at its open atoms only."""
        reasons = [category(self.reader(sample).reason) for sample in samples]
        kept = [self.keeps_core(sample) for sample in samples]
        allowed = [reason != ATTACH for reason in reasons]
        return {
            **super().measure(samples),
            "core_unchanged": float(np.mean(kept)),
            "attach_only": float(np.mean(allowed)),
        }

    def keeps_core(self, sample: Molecule) -> bool:
        """Tell whether a sample has the core's positions to the bit, its atom types, and its bonds where readable."""
        core, size = self.core.molecule, len(self.core.molecule)
        assert core.core is not None
        same = np.array_equal(sample.positions[:size], core.positions)
        for name in ("numbers", "hydrogens", "charges"):
            same = same and np.array_equal(getattr(sample, name)[:size], getattr(core, name))
        mol = self.reader(sample).mol
        return same and (mol is None or has_bonds(mol, core.core))

    def save(self, denoiser: nn.Module, folder: Path) -> None:
        """Write a model folder of the denoiser of whole molecules."""
        super().save(getattr(denoiser, "whole", denoiser), folder)


def has_bonds(mol: Chem.Mol, core: Core) -> bool:
    """Tell whether the first atoms of a read molecule have the bonds of the core; aromatic ones in any Kekule form."""
    bonds = [bond for bond in mol.GetBonds() if max(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) < len(core)]
    found = {frozenset((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())): bond for bond in bonds}
    given = {frozenset((first, second)): order for first, second, order in core.bonds.tolist()}
    return found.keys() == given.keys() and all(
        bond.GetIsAromatic() or bond.GetBondTypeAsDouble() == given[ends] for ends, bond in found.items()
    )


def join(core: Molecule, free: Molecule) -> Molecule:
    """Return one molecule of a core and of free atoms; those without charges are neutral."""
    charges = np.zeros(len(free), dtype=np.int64) if free.charges is None else free.charges
    return Molecule(
        numbers=np.concatenate([core.numbers, free.numbers]),
        positions=np.concatenate([core.positions, free.positions]),
        hydrogens=np.concatenate([part.hydrogens for part in (core, free) if part.hydrogens is not None]),
        charges=np.concatenate([part for part in (core.charges, charges) if part is not None]),
        core=core.core,
    )
