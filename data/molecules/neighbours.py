"""Neighbours of points in space, by a grid of cubic cells."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from typing import TypeAlias

Position: TypeAlias = tuple[float, float, float]
MAX_CROWD = 200  # points of a cell of 2.6 angstrom; atoms of a solid are some two


class Grid:
    """Points in cells of one side, among which those near a position are found."""

    def __init__(self, positions: Sequence[Position], side: float) -> None:
        """Sort the points into cells.

        Raises:
            ValueError: a cell has more points than atoms can be, which would make every search long.
        """
        self.positions, self.side = positions, side
        self.cells: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for row, position in enumerate(positions):
            cell = self.cells[self.cell_of(position)]
            cell.append(row)
            if len(cell) > MAX_CROWD:
                raise ValueError(f"more than {MAX_CROWD} atoms within {side:g} angstrom")

    def near(self, position: Position, radius: float) -> Iterator[int]:
        """Yield the rows of the points closer than a radius, which is at most the side of a cell, in their order."""
        cell = self.cell_of(position)
        around = (self.cells.get((cell[0] + i, cell[1] + j, cell[2] + k), ()) for i, j, k in OFFSETS)
        for row in sorted(row for rows in around for row in rows):
            if math.dist(position, self.positions[row]) < radius:
                yield row

    def cell_of(self, position: Position) -> tuple[int, ...]:
        """Return the cell of a position."""
        return tuple(math.floor(x / self.side) for x in position)


OFFSETS = tuple(product((-1, 0, 1), repeat=3))
