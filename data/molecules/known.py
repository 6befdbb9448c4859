"""Novelty where the whole space is known: a model that learned one half of QM9 may draw molecules of the other half.

QM9 lists all molecules that its rules allow, so what is new to a model of all of it breaks the rules. Of a model of one
half, new molecules in the other half are known to be real (`molrl.data.molecules.qm9.in_half`).
"""

from collections.abc import Container, Set
from dataclasses import dataclass

from molrl.data.molecules.quality import fraction


@dataclass(frozen=True)
class KnownShares:
    """Shares of the distinct molecules of a set, which add up to 1; None of an empty set.

    Attributes:
        seen: those in the reference, the training set.
        unseen: those not in the reference that are known.
        outside: all others.
    """

    seen: float | None
    unseen: float | None
    outside: float | None


def share_known(smiles: Set[str], reference: Container[str], known: Container[str]) -> KnownShares:
    """Sort distinct molecules by where they are known from; all SMILES are canonical, read by the same reader."""
    new = [text for text in smiles if text not in reference]
    unseen = sum(text in known for text in new)
    n = len(smiles)
    return KnownShares(fraction(n - len(new), n), fraction(unseen, n), fraction(len(new) - unseen, n))
