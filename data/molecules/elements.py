"""Chemical elements by symbol or atomic number."""

from collections.abc import Iterable, Sequence

import numpy as np
from rdkit import Chem

from molrl.data.molecules.molecule import Molecule, Molecules

MAX_ATOMIC_NUMBER = 118


def symbol(number: int) -> str:
    """Return the symbol of an atomic number, C for 6."""
    return str(Chem.GetPeriodicTable().GetElementSymbol(number))


def element_number(element: str | int) -> int:
    """Return the atomic number of a symbol or a number.

    Raises:
        ValueError: there is no such element.
    """
    if isinstance(element, str):
        found = next((number for number in range(1, MAX_ATOMIC_NUMBER + 1) if symbol(number) == element), 0)
    else:
        found = element if type(element) is int and 0 < element <= MAX_ATOMIC_NUMBER else 0
    if not found:
        raise ValueError(f"elements: got {element!r}, need symbols such as C or Cl, or atomic numbers")
    return found


def element_numbers(elements: Iterable[str | int]) -> tuple[int, ...]:
    """Return the atomic numbers of symbols or numbers, in their order.

    Raises:
        ValueError: there is no such element, one is named twice, or none is named.
    """
    numbers = tuple(map(element_number, elements))
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"elements: got {list(elements)}, need at least one element, each once")
    return numbers


def elements_of(molecules: Sequence[Molecule]) -> tuple[int, ...]:
    """Return the atomic numbers that occur in molecules, ascending."""
    if isinstance(molecules, Molecules):
        return tuple(np.unique(molecules.numbers).tolist())
    return tuple(sorted({number for molecule in molecules for number in molecule.numbers.tolist()}))
