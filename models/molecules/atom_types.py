"""Joint atom types (element, implicit hydrogens, formal charge), each coded by a fixed point on a sphere.

A one-hot code of K types would give every atom K degrees of freedom. Here the codes of up to 4 d types are the signed
vectors of two mutually unbiased bases of R^d, those of the Hadamard matrix and the unit vectors: any two codes are at
least sqrt(2 - 2 / sqrt(d)) radii apart, 1.14 for d = 8, against 1.41 for a one-hot code (Schwinger 1960,
doi:10.1073/pnas.46.4.570). The code of a common type is the same in every model, so that one model's weights can start
the training of another.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from molrl.data.molecules.elements import element_numbers, elements_of, symbol
from molrl.data.molecules.molecule import Molecule, Molecules
from molrl.gaussian import Context
from molrl.models.molecules.codec import Codec, pad_states

AtomType = tuple[int, int, int]
"""Atomic number, number of implicit hydrogens, formal charge."""
CODE_WIDTH = 8  # channels of the code, for data sets whose types are among the common ones
COMMON_TYPES: tuple[AtomType, ...] = (  # about in the order of their frequency in drug-like molecules
    *((6, 1, 0), (6, 0, 0), (6, 2, 0), (8, 0, 0), (7, 0, 0), (6, 3, 0), (7, 1, 0), (16, 0, 0)),
    *((9, 0, 0), (8, 1, 0), (17, 0, 0), (7, 2, 0), (7, 0, 1), (8, 0, -1), (35, 0, 0), (7, 1, 1)),
    *((7, 2, 1), (15, 0, 0), (7, 3, 1), (53, 0, 0), (16, 1, 0), (7, 0, -1), (5, 0, 0), (14, 0, 0)),
    *((16, 0, -1), (16, 0, 1), (15, 0, 1), (34, 0, 0), (6, 0, -1), (5, 0, -1), (8, 0, 1), (7, 1, -1)),
)


@dataclass(frozen=True, kw_only=True)
class AtomTypeCodec:
    """The state of an atom: its position in angstrom, and the code of its type.

    Attributes:
        types: the types that the model knows.
        codes: the code of each type, all of one length.
    """

    types: tuple[AtomType, ...]
    codes: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if not self.types or len(self.types) != len(self.codes) or len({len(code) for code in self.codes}) != 1:
            raise ValueError(f"codec: got {len(self.types)} types and {len(self.codes)} codes, need one code for each")
        if len(set(self.types)) != len(self.types):
            raise ValueError("codec: a type is listed twice")

    @property
    def hydrogens(self) -> Literal["atoms", "counts"]:
        """Return "counts": a type has its number of hydrogens."""
        return "counts"

    @property
    def features(self) -> int:
        """Return the number of channels after the position."""
        return len(self.codes[0])

    @property
    def elements(self) -> tuple[int, ...]:
        """Return the atomic numbers of the known types, ascending."""
        return tuple(sorted({number for number, _, _ in self.types}))

    @property
    def channels(self) -> tuple[str, ...]:
        """Return a name for each channel after the position."""
        return tuple(f"code {column}" for column in range(self.features))

    @cached_property
    def index(self) -> Mapping[AtomType, int]:
        """Return the place of each type in the list."""
        return {kind: row for row, kind in enumerate(self.types)}

    @cached_property
    def table(self) -> NDArray[np.float32]:
        """Return the codes as an array [types, features]."""
        return np.array(self.codes, dtype=np.float32)

    def missing(self, molecule: Molecule) -> str:
        """Return a phrase about the first atom whose type the model does not know, or "" if it knows all."""
        unknown = [kind for kind in atom_types(molecule) if kind not in self.index]
        return f"atom type {type_name(unknown[0])}" if unknown else ""

    def encode(
        self, molecules: Sequence[Molecule], width: int | None = None
    ) -> tuple[Float[Tensor, "b n c"], Bool[Tensor, "b n"]]:
        """Return states [b, width, 3 + features] and mask, padded to the largest molecule unless a width is given."""
        return pad_states([self.state(molecule) for molecule in molecules], 3 + self.features, width)

    def state(self, molecule: Molecule) -> NDArray[np.float32]:
        """Return the state of one molecule, [n, 3 + features].

        Raises:
            ValueError: the model does not know the type of an atom, or the hydrogens are not counted.
        """
        if problem := self.missing(molecule):
            known = ", ".join(map(type_name, self.types))
            raise ValueError(f"molecule {molecule.name!r}: {problem}; this model knows {known}")
        codes = self.table[[self.index[kind] for kind in atom_types(molecule)]]
        centred = molecule.positions - molecule.positions.mean(0)
        return np.concatenate([centred, codes], 1).astype(np.float32)

    def decode(self, x: Float[Tensor, "b n c"], context: Context) -> list[Molecule]:
        """Return molecules, each atom of the type with the nearest code."""
        states, mask = x.detach().cpu().numpy().astype(np.float32), context["mask"].cpu().numpy()
        score = states[..., 3:] @ self.table.T - (self.table**2).sum(1) / 2  # largest for the nearest code
        kinds = np.array(self.types, dtype=np.int64)[score.argmax(-1)]
        return [
            Molecule(
                numbers=kinds[row][real, 0],
                positions=states[row][real, :3],
                hydrogens=kinds[row][real, 1],
                charges=kinds[row][real, 2],
            )
            for row, real in enumerate(mask)
        ]

    def plain(self) -> dict[str, Any]:
        """Return the fields for model.json."""
        return {"types": [list(kind) for kind in self.types], "codes": [list(code) for code in self.codes]}


@dataclass(frozen=True, kw_only=True)
class AtomTypes:
    """A codec of joint atom types that has not met its data set yet.

    Attributes:
        elements: symbols or atomic numbers of the elements to learn; None: those of the data set.
        radius: length of a code, in the state's units; sqrt(2) times it is the distance of most pairs of types.
        min_count: atoms of a type in the data set, below which molecules with it are left out, unless the model that
            training starts from knows the type.
    """

    elements: Sequence[str | int] | None
    radius: float
    min_count: int

    def __post_init__(self) -> None:
        if not self.radius > 0:
            raise ValueError(f"codec.radius: got {self.radius}, need a number above 0")
        if self.min_count < 1:
            raise ValueError(f"codec.min_count: got {self.min_count}, need at least 1")
        if self.elements is not None:
            element_numbers(self.elements)

    @property
    def hydrogens(self) -> Literal["atoms", "counts"]:
        """Return "counts": a type has its number of hydrogens."""
        return "counts"

    @property
    def remedy(self) -> str:
        """Return a phrase about the setting that has more molecules known to the codec."""
        more = "" if self.elements is None else ", model.codec.elements=null all elements"
        return f"a model.codec.min_count below {self.min_count} atoms learns rarer types{more}"

    def fit(self, molecules: Sequence[Molecule], start: Codec | None = None) -> AtomTypeCodec:
        """Return the codec of the types that are frequent enough, or known to the model that training starts from.

        Such a model's types keep their codes.

        Raises:
            ValueError: there is no such type.
        """
        counts = count_types(molecules)
        allowed = elements_of(molecules) if self.elements is None else element_numbers(self.elements)
        known = start.types if isinstance(start, AtomTypeCodec) else ()
        enough = {kind for kind, count in counts.items() if count >= self.min_count or kind in known}
        kept = {kind for kind in enough if kind[0] in allowed}
        if not kept:
            raise ValueError(f"codec.min_count={self.min_count}: no atom type has that many atoms")
        order = list(dict.fromkeys([*COMMON_TYPES, *known, *sorted(kept)]))
        types = tuple(kind for kind in order if kind in kept)
        codes = dict(zip(order, spherical_code(len(order), self.radius), strict=True))
        return AtomTypeCodec(types=types, codes=tuple(codes[kind] for kind in types))


def spherical_code(count: int, radius: float) -> tuple[tuple[float, ...], ...]:
    """Return the first `count` of the 4 d signed vectors of two mutually unbiased bases, d a power of two from 8.

    The Hadamard vectors come first: with them all channels of the most common types have the same variance.
    """
    hadamard = np.ones((1, 1))
    while len(hadamard) < CODE_WIDTH or 4 * len(hadamard) < count:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])  # Sylvester's construction
    bases = np.stack([hadamard / np.sqrt(len(hadamard)), np.eye(len(hadamard))])
    signed = np.stack([bases, -bases], 2).reshape(-1, len(hadamard))
    return tuple(tuple(round(value, 6) for value in row) for row in (radius * signed[:count]).tolist())


def atom_types(molecule: Molecule) -> list[AtomType]:
    """Return the type of each atom; unknown charges count as zero.

    Raises:
        ValueError: the hydrogens are not counted.
    """
    if molecule.hydrogens is None:
        raise ValueError(f"molecule {molecule.name!r}: atom types need the number of hydrogens on each atom")
    charges = np.zeros_like(molecule.numbers) if molecule.charges is None else molecule.charges
    columns = molecule.numbers.tolist(), molecule.hydrogens.tolist(), charges.tolist()
    return list(zip(*columns, strict=True))


def count_types(molecules: Sequence[Molecule]) -> Counter[AtomType]:
    """Return how many atoms there are of each type."""
    if isinstance(molecules, Molecules):  # all atoms at once
        molecules = [Molecule(molecules.numbers, molecules.positions, molecules.hydrogens, charges=molecules.charges)]
    counts: Counter[AtomType] = Counter()
    for molecule in molecules:
        counts.update(atom_types(molecule))
    return counts


def type_name(kind: AtomType) -> str:
    """Return a type as SMILES spells it: [CH3], [NH3+], [O-]."""
    number, hydrogens, charge = kind
    protons = "" if hydrogens == 0 else "H" if hydrogens == 1 else f"H{hydrogens}"
    sign = "" if charge == 0 else ("+" if charge > 0 else "-") + (str(abs(charge)) if abs(charge) > 1 else "")
    return f"[{symbol(number)}{protons}{sign}]"
