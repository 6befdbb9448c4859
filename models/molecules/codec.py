"""Conversion of molecules to diffusion states and back: centred positions beside scaled atom features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from molrl.data.molecules.molecule import Molecule
from molrl.gaussian import Context


@dataclass(frozen=True, kw_only=True)
class MoleculeCodec:
    """The state of an atom: position in angstrom, one-hot element, and integer channels, each on its own scale.

    EDM's all-atom state (Hoogeboom et al. 2022, arXiv:2203.17003, Sec. 3.2) has the atomic number as such a channel
    (`charge_scale`); the heavy-atom state has the number of implicit hydrogens (`hydrogen_scale`), from which a
    bond reader can tell an aromatic ring from a saturated one.

    Attributes:
        elements: atomic numbers of the one-hot channels, in order.
        type_scale: value of a one-hot channel that is on.
        charge_scale: state per unit of atomic number, or None for no such channel.
        hydrogen_scale: state per implicit hydrogen, or None where hydrogens are atoms.
    """

    elements: tuple[int, ...]
    type_scale: float
    charge_scale: float | None = None
    hydrogen_scale: float | None = None

    @property
    def features(self) -> int:
        """Return the number of channels after the position."""
        return len(self.elements) + (self.charge_scale is not None) + (self.hydrogen_scale is not None)

    def encode(
        self, molecules: Sequence[Molecule], width: int | None = None
    ) -> tuple[Float[Tensor, "b n c"], Bool[Tensor, "b n"]]:
        """Return states [b, width, 3 + features] and mask, padded to the largest molecule unless a width is given."""
        width = max(map(len, molecules)) if width is None else width
        x = np.zeros((len(molecules), width, 3 + self.features), dtype=np.float32)
        mask = np.zeros((len(molecules), width), dtype=bool)
        for row, molecule in enumerate(molecules):
            x[row, : len(molecule)] = self.state(molecule)
            mask[row, : len(molecule)] = True
        return torch.from_numpy(x), torch.from_numpy(mask)

    def state(self, molecule: Molecule) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
        """Return the state of one molecule, [n, 3 + features]."""
        onehot = molecule.numbers[:, None] == np.array(self.elements)
        if not onehot.any(1).all():
            unknown = sorted(set(molecule.numbers[~onehot.any(1)].tolist()))
            raise ValueError(f"molecule {molecule.name!r}: atomic numbers {unknown}; this model knows {self.elements}")
        columns = [molecule.positions - molecule.positions.mean(0), onehot * self.type_scale]
        if self.charge_scale is not None:
            columns.append(molecule.numbers[:, None] * self.charge_scale)
        if self.hydrogen_scale is not None:
            if molecule.hydrogens is None:
                raise ValueError(
                    f"molecule {molecule.name!r}: a heavy-atom model needs the number of hydrogens on each atom"
                )
            columns.append(molecule.hydrogens[:, None] * self.hydrogen_scale)
        return np.concatenate(columns, 1).astype(np.float32)

    def decode(self, x: Float[Tensor, "b n c"], context: Context) -> list[Molecule]:
        """Return molecules: elements by the largest one-hot channel, hydrogens rounded, charges unread (as in EDM)."""
        states, mask = x.detach().cpu().numpy().astype(np.float32), context["mask"].cpu().numpy()
        elements = np.array(self.elements)[states[..., 3 : 3 + len(self.elements)].argmax(-1)]
        counts = None
        if self.hydrogen_scale is not None:
            counts = np.rint(np.nan_to_num(states[..., -1]) / self.hydrogen_scale).clip(0, 4).astype(np.int64)
        return [
            Molecule(
                numbers=elements[row][real],
                positions=states[row][real, :3],
                hydrogens=None if counts is None else counts[row][real],
            )
            for row, real in enumerate(mask)
        ]
