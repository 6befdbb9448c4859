"""Neighbours of points in space, by a grid of cubic cells."""

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from typing import TypeAlias

Position: TypeAlias = tuple[float, float, float]
MAX_CROWD = 32  # points of a cell, of at most 2.6 angstrom; in a solid they are some two


class Grid:
    """Points in cells of one side, among which those near a position are found."""

    def __init__(self, positions: Sequence[Position], side: float) -> None:
        """Sort the points into cells.

        Raises:
            ValueError: a cell has more points than atoms can be, which would make every search long.
        """
        self.positions, self.side = positions, side
        self.cells: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for row, position in enumerate(positions):
            cell = self.cells[self.cell_of(position)]
            cell.append(row)
            if len(cell) > MAX_CROWD:
                raise ValueError(f"more than {MAX_CROWD} atoms within {side:g} angstrom")

    def near(self, position: Position, radius: float) -> list[int]:
        """Return the rows of the points closer than a radius, which is at most the side of a cell, in their order."""
        x, y, z = self.cell_of(position)
        cells = (self.cells.get((x + i, y + j, z + k), ()) for i, j, k in OFFSETS)
        return sorted(row for rows in cells for row in rows if math.dist(position, self.positions[row]) < radius)

    def cell_of(self, position: Position) -> tuple[int, int, int]:
        """Return the cell of a position."""
        x, y, z = position
        return math.floor(x / self.side), math.floor(y / self.side), math.floor(z / self.side)


OFFSETS = tuple(product((-1, 0, 1), repeat=3))
