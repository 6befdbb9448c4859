"""Downhill on a potential energy surface by L-BFGS (Nocedal 1980, doi:10.1090/S0025-5718-1980-0572855-7)."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Surface: TypeAlias = Callable[[Floats], tuple[float, Floats]]
"""Energy in eV and its gradient in eV/angstrom [n, 3] at positions in angstrom [n, 3]."""

FARTHEST = 0.2  # angstrom that an atom moves in one step
STIFFNESS = 50.0  # eV/square angstrom: the first guess of the curvature, that of a bond
REMEMBERED = 20  # steps


class Point(NamedTuple):
    """A place on the surface.

    Attributes:
        positions: angstrom [n, 3].
        energy: eV.
        gradient: eV/angstrom [n, 3], of all atoms.
    """

    positions: Floats
    energy: float
    gradient: Floats


def relaxed(surface: Surface, positions: Floats, free: NDArray[np.bool_], steps: int, tolerance: float) -> Point:
    """The lowest point met on the way down, in so many steps at most.

    Args:
        positions: of the atoms at the start, angstrom [n, 3].
        free: which atoms move, bool [n].
        tolerance: the largest force on a free atom at the end, eV/angstrom.
    """
    point = best = Point(positions, *surface(positions))
    pairs: deque[tuple[Floats, Floats]] = deque(maxlen=REMEMBERED)
    for _ in range(steps):
        if lengths(point.gradient[free]).max(initial=0.0) <= tolerance:
            break
        step = np.zeros_like(positions)
        step[free] = -newton(point.gradient[free].ravel(), pairs).reshape(-1, 3)
        step *= min(1.0, FARTHEST / lengths(step).max())
        there = point.positions + step
        following = Point(there, *surface(there))
        bend = (following.gradient - point.gradient)[free].ravel()
        if step[free].ravel() @ bend > 0:
            pairs.append((step[free].ravel(), bend))
        point = following
        best = point if point.energy < best.energy else best
    return best


def newton(gradient: Floats, pairs: deque[tuple[Floats, Floats]]) -> Floats:
    """The inverse Hessian, as the last steps and the bends of the gradient along them tell it, times a gradient."""
    direction, shares = gradient.copy(), []
    for step, bend in reversed(pairs):
        shares.append((step @ direction) / (step @ bend))
        direction -= shares[-1] * bend
    direction *= (pairs[-1][0] @ pairs[-1][1]) / (pairs[-1][1] @ pairs[-1][1]) if pairs else 1.0 / STIFFNESS
    for (step, bend), share in zip(pairs, reversed(shares), strict=True):
        direction += step * (share - (bend @ direction) / (step @ bend))
    return direction


def lengths(vectors: Floats) -> Floats:
    """Of the vectors [n, 3]."""
    found: Floats = np.linalg.norm(vectors, axis=-1)
    return found
