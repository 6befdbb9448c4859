"""Molecules that grow from a core: contexts, decoding, metrics, and the policy of the free atoms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rdkit import Chem
from torch import Tensor, nn

from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.core_bonds import ATTACH
from molrl.data.molecules.core_file import OpenCore, read_core
from molrl.data.molecules.molecule import Core, Molecule
from molrl.data.molecules.sizes import AtomsRequest, Sizes, padding_mask
from molrl.gaussian import Context, MaskedPoints
from molrl.models.molecules.core_fixed import CoreFixed, centre, knows_cores, whole_context
from molrl.models.molecules.decoder import MoleculeDecoder
from molrl.models.molecules.model import Pretrained
from molrl.models.molecules.policy import MoleculePolicy
from molrl.models.molecules.steering import Steering
from molrl.models.molecules.value import MoleculeValue
from molrl.noise import Draw, Key
from molrl.policy import Policy
from molrl.rewards.molecules.docking.site import Site, atoms_near
from molrl.rewards.scores import category

NEAR = 12.0  # angstrom from the core: protein atoms that new ones may touch
IN_CONTACT = 6.0  # angstrom: a core without any protein atom so close is not in the pocket


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


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The settings of molecules that grow from a core.

    Attributes:
        core: an SDF or mol file; several records are pieces in one frame.
        attach: heavy atoms of it that make a new bond, counted from 1.
        atoms: numbers of new heavy atoms.
        steer: weight of `Steering`; 0: none.
        avoid: a receptor that new atoms keep off while they are drawn; None: the model does not see it.
    """

    core: str
    attach: Sequence[int] | int | None
    atoms: AtomsRequest
    steer: float
    avoid: str | None

    def __post_init__(self) -> None:
        if not 0 <= self.steer < float("inf"):
            raise ValueError(f"steer: got {self.steer}, need 0 or more")
        if self.avoid is not None and self.steer == 0:
            raise ValueError(f"avoid={self.avoid}: needs steer above 0")

    def decoder(self, model: Pretrained, reader: BondReader) -> GrowthDecoder:
        """Return the decoder; ValueError for a core that the model or the settings do not fit."""
        core = read_core(self.core, self.attach)
        decoder = GrowthDecoder(model=model, reader=reader, atoms=self.atoms, core=core)
        decoder.sizes  # noqa: B018  # numbers of atoms out of range fail here
        return decoder

    def policy(self, settings: MoleculePolicy, decoder: GrowthDecoder, device: torch.device) -> Policy:
        """Return the chain of the free atoms."""
        whole, model = settings.build(device), settings.model
        steering = self.steering(model, decoder)
        sampler = replace(whole.sampler, space=MaskedPoints(centred=0))  # type: ignore[type-var]
        return replace(whole, denoiser=CoreFixed(whole.denoiser, model.schedule, steering), sampler=sampler)  # type: ignore[arg-type]

    def steering(self, model: Pretrained, decoder: GrowthDecoder) -> Steering | None:
        """Return what corrects the clean estimates; None where nothing does."""
        if self.steer == 0:
            return None
        spread = model.architecture.data_std[0] if model.architecture else 1.0
        return Steering(self.steer, spread, self.obstacles(decoder))

    def obstacles(self, decoder: GrowthDecoder) -> Float[Tensor, "k 3"] | None:
        """Return the receptor's heavy atoms near the core, in its frame; ValueError where there are none."""
        if self.avoid is None:
            return None
        positions = decoder.core.molecule.positions
        near, closest = atoms_near(self.avoid, positions, NEAR)
        if closest > IN_CONTACT:
            raise ValueError(f"core={self.core}: not in the pocket, {closest:.1f} angstrom from all of {self.avoid}")
        return torch.from_numpy(near.astype(np.float32)) - decoder.centroid


def growth_settings(
    core: str | None, attach: Sequence[int] | int | None, atoms: AtomsRequest, steer: float, avoid: str | None
) -> Growth | None:
    """Return the settings of growth; None where there is no core.

    Raises:
        ValueError: settings of a core without one.
    """
    if core is not None:
        return Growth(core=core, attach=attach, atoms=atoms, steer=steer, avoid=avoid)
    if attach is not None or avoid is not None:
        name, value = ("attach", attach) if attach is not None else ("avoid", avoid)
        raise ValueError(f"{name}={value}: needs core=FILE, the fragment that atoms are added to")
    return None


def refuse_outside(core: OpenCore, path: str, reward: Any) -> None:
    """Raise ValueError where a reward scores poses in a box that the core does not lie in."""
    site = getattr(reward, "site", None)
    if isinstance(site, Site):
        box, positions = site.box(), core.molecule.positions
        outside = int(((positions < box.low) | (positions > box.high)).any(1).sum())
        if outside:
            raise ValueError(
                f"core={path} is not in the pocket: {outside} of {len(positions)} atoms lie outside the box around "
                f"{[round(x, 1) for x in box.centre]} of reward.site"
            )
    for inner in getattr(reward, "inner", ()):
        refuse_outside(core, path, inner)


class GrowthValue(nn.Module):
    """The value V(x_t, t, context) of free atoms beside the core, with the symmetries of the two together."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.value = MoleculeValue(features)

    def forward(self, x: Float[Tensor, "b m c"], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, " b"]:
        """Return the values; t: the share of the chain that is still ahead, 1 at the prior."""
        whole = whole_context(context)
        state = torch.cat([context["core"], x], 1)
        values: Tensor = self.value(centre(state, whole["mask"]), t, whole)
        return values
