"""The settings of molecules that grow from a core, and the policy of the free atoms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.core_file import OpenCore, read_core
from molrl.data.molecules.sizes import AtomsRequest
from molrl.gaussian import MaskedPoints
from molrl.models.molecules.core_fixed import CoreFixed
from molrl.models.molecules.growth_decoder import GrowthDecoder
from molrl.models.molecules.model import Pretrained
from molrl.models.molecules.policy import MoleculePolicy
from molrl.models.molecules.steering import Steering
from molrl.policy import Policy
from molrl.rewards.molecules.docking.site import Site, atoms_near

NEAR = 12.0  # angstrom from the core: protein atoms that new ones may touch
IN_CONTACT = 6.0  # angstrom: a core without any protein atom so close is not in the pocket
OVERLAP = 1.2  # angstrom: closer than any bond of two heavy atoms


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
        refuse_overlap(self.core, closest, self.avoid)
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


def refuse_overlap(path: str, closest: float, receptor: str) -> None:
    """Raise ValueError where a core is closer to an atom of a receptor, in angstrom, than any bond."""
    if closest < OVERLAP:
        raise ValueError(f"core={path}: not in the pocket but in the protein, {closest:.1f} angstrom from {receptor}")


def refuse_outside(core: OpenCore, path: str, reward: Any) -> None:
    """Raise ValueError where a reward scores poses in a box that the core does not lie in, or within its protein."""
    site = getattr(reward, "site", None)
    if isinstance(site, Site):
        box, positions = site.box(), core.molecule.positions
        outside = int(((positions < box.low) | (positions > box.high)).any(1).sum())
        if outside:
            raise ValueError(
                f"core={path} is not in the pocket: {outside} of {len(positions)} atoms lie outside the box around "
                f"{[round(x, 1) for x in box.centre]} of reward.site"
            )
        refuse_overlap(path, atoms_near(site.receptor, positions, 0.0)[1], site.receptor)
    for inner in getattr(reward, "inner", ()):
        refuse_outside(core, path, inner)
