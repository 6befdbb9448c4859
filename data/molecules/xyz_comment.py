"""The comment of an XYZ frame where it is more than a name: columns of extended XYZ, a charge, the mark of QM9."""

import re
from typing import NamedTuple

PROPERTIES = re.compile(r"(?:^|\s)Properties\s*=\s*(\S+)")
CHARGE = re.compile(r"""(?<![a-z])charge["']?\s*[=:]?\s*["']?([+-]?\d+(?:\.\d+)?[+-]?)(?![\w.])""", re.IGNORECASE)

QM9_TRAILER = (
    re.compile(r"[-+*^.\de]+(\s+[-+*^.\de]+)*"),
    re.compile(r"\S+\s+\S+"),
    re.compile(r"InChI=\S+\s+InChI=\S+"),
)
"""The lines after the atoms in the files of QM9: frequencies, SMILES and InChI (Ramakrishnan et al. 2014,
doi:10.1038/sdata.2014.22, Table 2)."""


class Columns(NamedTuple):
    """The columns of a line of an atom.

    Attributes:
        element: of the symbol or atomic number.
        position: the first of three.
    """

    element: int
    position: int


PLAIN = Columns(0, 1)


def columns_of(comment: str) -> Columns | str:
    """Return the columns of the atoms of a frame, or why they cannot be told.

    `Properties=species:S:1:pos:R:3` names them in extended XYZ, as ASE and QUIP write it: name, type and width of each.
    """
    found = PROPERTIES.search(comment)
    if found is None:
        return PLAIN
    words = found[1].strip("\"'{}[]").split(":")
    names, widths = words[::3], words[2::3]
    if len(words) % 3 or not all(width.isascii() and width.isdigit() for width in widths):
        return "Properties: expected name:type:width for each column"
    start, places = 0, dict[tuple[str, int], int]()
    for name, width in zip(names, map(int, widths), strict=True):
        places[name, width] = start
        start += width
    element = places.get(("species", 1), places.get(("Z", 1)))
    position = places.get(("pos", 3))
    if element is None or position is None:
        return "Properties: expected species:S:1 (or Z:I:1) and pos:R:3 among them"
    return Columns(element, position)


def charge_problem(comment: str) -> str:
    """Return that a comment states another charge than 0, which the bonds of a frame would not have; "" otherwise."""
    found = CHARGE.search(comment)
    if found is None or float(found[1].rstrip("+-")) == 0:
        return ""
    return f"charge: {found[1]}, but bonds are perceived of neutral molecules only; an SDF file can hold them"


def trailer_of(comment: str) -> tuple[re.Pattern[str], ...]:
    """Return the patterns of the lines that follow the atoms and belong to the frame."""
    return QM9_TRAILER if comment.startswith("gdb ") else ()
