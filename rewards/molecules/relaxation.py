"""Relaxation on a potential energy surface by L-BFGS (Nocedal 1980, doi:10.1090/S0025-5718-1980-0572855-7)."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Surface: TypeAlias = Callable[[Floats], tuple[float, Floats]]
"""Energy in eV and its gradient in eV/angstrom [n, 3] at positions in angstrom [n, 3]."""

MAX_STEP = 0.2  # angstrom that an atom moves in one step
STIFFNESS = 50.0  # eV/square angstrom: the first guess of the curvature, that of a bond
MEMORY = 20  # steps that approximate the Hessian


class Point(NamedTuple):
    """A point on the energy surface.

    Attributes:
        positions: angstrom [n, 3].
        energy: eV.
        gradient: eV/angstrom [n, 3], of all atoms.
    """

    positions: Floats
    energy: float
    gradient: Floats


def relax(surface: Surface, positions: Floats, free: NDArray[np.bool_], steps: int, tolerance: float) -> Point:
    """Minimise the energy and return the lowest point on the path.

    Args:
        positions: of the atoms at the start, angstrom [n, 3].
        free: the mask of the atoms that move, bool [n].
        steps: at most.
        tolerance: the largest force on a free atom at the end, eV/angstrom.
    """
    point = best = Point(positions, *surface(positions))
    pairs: deque[tuple[Floats, Floats]] = deque(maxlen=MEMORY)
    for _ in range(steps):
        if lengths(point.gradient[free]).max(initial=0.0) <= tolerance:
            break
        step = np.zeros_like(positions)
        step[free] = -newton_direction(point.gradient[free].ravel(), pairs).reshape(-1, 3)
        step *= min(1.0, MAX_STEP / lengths(step).max())
        new_positions = point.positions + step
        new_point = Point(new_positions, *surface(new_positions))
        change = (new_point.gradient - point.gradient)[free].ravel()
        if step[free].ravel() @ change > 0:
            pairs.append((step[free].ravel(), change))
        point = new_point
        best = point if point.energy < best.energy else best
    return best


def newton_direction(gradient: Floats, pairs: deque[tuple[Floats, Floats]]) -> Floats:
    """Return the approximate inverse Hessian times a gradient (the two-loop recursion).

    Args:
        pairs: the last steps and the changes of the gradient along them, which approximate the Hessian.
    """
    direction, alphas = gradient.copy(), []
    for step, change in reversed(pairs):
        alphas.append((step @ direction) / (step @ change))
        direction -= alphas[-1] * change
    direction *= (pairs[-1][0] @ pairs[-1][1]) / (pairs[-1][1] @ pairs[-1][1]) if pairs else 1.0 / STIFFNESS
    for (step, change), alpha in zip(pairs, reversed(alphas), strict=True):
        direction += step * (alpha - (change @ direction) / (step @ change))
    return direction


def lengths(vectors: Floats) -> Floats:
    """Return the lengths [n] of vectors [n, 3]."""
    norms: Floats = np.linalg.norm(vectors, axis=-1)
    return norms
