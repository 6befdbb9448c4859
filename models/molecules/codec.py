"""Conversion of molecules to diffusion states and back: centred positions beside scaled atom features."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from molrl.data.molecules.elements import element_numbers, elements_of, symbol
from molrl.data.molecules.molecule import Molecule
from molrl.gaussian import Context


class Codec(Protocol):
    """A conversion of molecules to states [n, 3 + features] and back."""

    @property
    def hydrogens(self) -> Literal["atoms", "counts"]:
        """Return how a molecule must hold its hydrogens."""
        ...

    @property
    def features(self) -> int:
        """Return the number of channels after the position."""
        ...

    @property
    def elements(self) -> tuple[int, ...]:
        """Return the atomic numbers that the model knows."""
        ...

    @property
    def channels(self) -> tuple[str, ...]:
        """Return a name for each channel after the position, equal where channels of two codecs mean the same."""
        ...

    def missing(self, molecule: Molecule) -> str:
        """Return a phrase about what the model does not know of a molecule, or "" if it knows all."""
        ...

    def encode(
        self, molecules: Sequence[Molecule], width: int | None = None
    ) -> tuple[Float[Tensor, "b n c"], Bool[Tensor, "b n"]]:
        """Return states [b, width, 3 + features] and mask, padded to the largest molecule unless a width is given."""
        ...

    def decode(self, x: Float[Tensor, "b n c"], context: Context) -> list[Molecule]:
        """Return the molecules of states, without bonds."""
        ...

    def plain(self) -> dict[str, Any]:
        """Return the fields for model.json."""
        ...


class CodecDesign(Protocol):
    """A codec that has not met its data set yet: what the `codec` node of the settings builds."""

    @property
    def hydrogens(self) -> Literal["atoms", "counts"]:
        """Return how a molecule must hold its hydrogens."""
        ...

    @property
    def remedy(self) -> str:
        """Return a phrase about the setting that has more molecules known to the codec."""
        ...

    def fit(self, molecules: Sequence[Molecule], start: Codec | None = None) -> Codec:
        """Return the codec for these molecules.

        Args:
            start: codec of the model whose weights training starts from; None: it starts from random weights.
        """
        ...


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
        return len(self.channels)

    @property
    def channels(self) -> tuple[str, ...]:
        """Return a name for each channel after the position."""
        names = [symbol(number) for number in self.elements]
        extra = {"atomic number": self.charge_scale, "hydrogens": self.hydrogen_scale}
        return (*names, *(name for name, scale in extra.items() if scale is not None))

    @property
    def hydrogens(self) -> Literal["atoms", "counts"]:
        """Return "counts" where the state has a channel for them, else "atoms"."""
        return "atoms" if self.hydrogen_scale is None else "counts"

    def missing(self, molecule: Molecule) -> str:
        """Return a phrase about the first element that the model does not know, or "" if it knows all."""
        foreign = molecule.numbers[~np.isin(molecule.numbers, self.elements)]
        return f"element {symbol(int(foreign[0]))}" if len(foreign) else ""

    def encode(
        self, molecules: Sequence[Molecule], width: int | None = None
    ) -> tuple[Float[Tensor, "b n c"], Bool[Tensor, "b n"]]:
        """Return states [b, width, 3 + features] and mask, padded to the largest molecule unless a width is given."""
        return pad_states([self.state(molecule) for molecule in molecules], 3 + self.features, width)

    def state(self, molecule: Molecule) -> NDArray[np.float32]:
        """Return the state of one molecule, [n, 3 + features]."""
        if problem := self.missing(molecule):
            known = ", ".join(map(symbol, self.elements))
            raise ValueError(f"molecule {molecule.name!r}: {problem}; this model knows {known}")
        onehot = molecule.numbers[:, None] == np.array(self.elements)
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

    def plain(self) -> dict[str, Any]:
        """Return the fields for model.json."""
        return {**asdict(self), "elements": list(self.elements)}


@dataclass(frozen=True, kw_only=True)
class Elements:
    """A codec of one-hot elements that has not met its data set yet.

    Attributes:
        elements: symbols or atomic numbers; None: those of the data set.
        type_scale, charge_scale, hydrogen_scale: see `MoleculeCodec`.
    """

    elements: Sequence[str | int] | None
    type_scale: float
    charge_scale: float | None
    hydrogen_scale: float | None

    def __post_init__(self) -> None:
        if self.elements is not None:
            element_numbers(self.elements)

    @property
    def hydrogens(self) -> Literal["atoms", "counts"]:
        """Return "counts" where the state has a channel for them, else "atoms"."""
        return "atoms" if self.hydrogen_scale is None else "counts"

    @property
    def remedy(self) -> str:
        """Return a phrase about the setting that has more molecules known to the codec."""
        return "model.codec.elements=null learns all elements of the data"

    def fit(self, molecules: Sequence[Molecule], start: Codec | None = None) -> MoleculeCodec:
        """Return the codec of the elements that were named, or else of those that occur."""
        elements = elements_of(molecules) if self.elements is None else element_numbers(self.elements)
        return MoleculeCodec(
            elements=elements,
            type_scale=self.type_scale,
            charge_scale=self.charge_scale,
            hydrogen_scale=self.hydrogen_scale,
        )


def pad_states(
    states: Sequence[NDArray[np.float32]], channels: int, width: int | None
) -> tuple[Float[Tensor, "b n c"], Bool[Tensor, "b n"]]:
    """Return states [n, channels] as a tensor [b, width, channels] with its mask; by default as wide as the largest."""
    width = max(map(len, states)) if width is None else width
    x = np.zeros((len(states), width, channels), dtype=np.float32)
    mask = np.zeros((len(states), width), dtype=bool)
    for row, state in enumerate(states):
        x[row, : len(state)] = state
        mask[row, : len(state)] = True
    return torch.from_numpy(x), torch.from_numpy(mask)
