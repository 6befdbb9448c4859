"""The reward of points: how near they are to a radius of one and a half."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def radius(samples: Sequence[NDArray[np.float64]]) -> list[float]:
    """Return minus the squared distance to the circle of radius 1.5, one number for each point."""
    return [-((float((sample**2).sum()) ** 0.5 - 1.5) ** 2) for sample in samples]


radius.kind = "circle"  # type: ignore[attr-defined]
