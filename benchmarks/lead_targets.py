"""Pockets of the same protein, told by their residues, whatever the names of the files."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import gemmi

from molrl.data.files import open_file

RUN = 3  # neighbouring residues
SAME = 2 / 3  # share of the smaller pocket that the other has; JAK1 and TYK2 have 0.55, thrombin and factor Xa 0.60
MIN_COMMON = 8  # residues or runs, of which fewer may be chance
MAX_BYTES = 1 << 26


class Sequence(NamedTuple):
    """The residues of a pocket.

    Attributes:
        residues: by number, such as "LYS 33".
        runs: of three neighbours, such as "LEU VAL LYS": they tell proteins that are numbered otherwise.
    """

    residues: frozenset[str]
    runs: frozenset[str]


def read_sequence(path: Path) -> Sequence:
    """Read the residues of a PDB file."""
    with open_file(path) as file:
        structure = gemmi.read_pdb_string(file.read(MAX_BYTES))
    residues, runs = set[str](), set[str]()
    for chain in structure[0]:
        rows = [(residue.seqid.num, residue.name) for residue in chain if residue.het_flag != "H"]
        residues.update(f"{name} {number}" for number, name in rows)
        for start in range(len(rows) - RUN + 1):
            numbers, names = zip(*rows[start : start + RUN], strict=True)
            if numbers[-1] - numbers[0] == RUN - 1:
                runs.add(" ".join(names))
    return Sequence(frozenset(residues), frozenset(runs))


def same_protein(one: Sequence, other: Sequence) -> bool:
    """Tell whether two pockets have two thirds of the residues, or of the runs, of the smaller one in common."""
    return any(
        len(mine & others) >= max(MIN_COMMON, SAME * min(len(mine), len(others)))
        for mine, others in zip(one, other, strict=True)
    )


def first_of_each(sequences: Mapping[str, Sequence]) -> dict[str, str]:
    """Return for each name the first name before it, or itself, with the same protein."""
    first = dict[str, str]()
    for name, sequence in sequences.items():
        same = (other for other in set(first.values()) if same_protein(sequence, sequences[other]))
        first[name] = min(same, key=list(sequences).index, default=name)
    return first
