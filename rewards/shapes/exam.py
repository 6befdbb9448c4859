"""What can be measured of one shape without a reference: whether it is one, whether it stands, how symmetric it is.

Worker processes import this module, so it must not import torch.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.neighbours import nearest_rows
from molrl.rewards.scores import Scored, score_safely
from molrl.rewards.shapes.body import UnsoundError, body_of
from molrl.rewards.shapes.drop_simulation import DropTest
from molrl.rewards.shapes.stability import StabilityMargin
from molrl.rewards.shapes.symmetry import MIRROR, MirrorSymmetry


class Examined(NamedTuple):
    """What was measured of a shape; NaN for what it does not have.

    Attributes:
        flaw: why it is no sound shape; "" for one that is.
        margin: of stability, in half lengths.
        tilt: in the drop test, in degrees.
        sdi: Chamfer distance to its mirror image in the middle of its box, both directions added, as it is published
            (Quartet of Diffusions, ICLR 2026).
        asymmetry: one direction of that in the plane that suits it best, less what chance explains.
    """

    flaw: str
    margin: float = math.nan
    tilt: float = math.nan
    sdi: float = math.nan
    asymmetry: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Exam:
    """Measures a shape.

    Attributes:
        plate: of the stability margin.
        seconds: of the drop test; None leaves it out.
    """

    plate: float
    seconds: float | None

    def __call__(self, sample: PointCloud) -> Examined:
        try:
            body = body_of(sample.points)
        except UnsoundError as flaw:
            return Examined(str(flaw))
        mirrored = body.points * MIRROR
        away = mirrored - body.points[nearest_rows(mirrored, body.points)]
        dropped = math.nan
        if self.seconds is not None:
            dropped = value_of(score_safely(DropTest(seconds=self.seconds), sample))
        return Examined(
            "",
            margin=value_of(score_safely(StabilityMargin(plate=self.plate), sample)),
            tilt=-dropped,
            sdi=2 * float((away**2).sum(-1).mean()),
            asymmetry=value_of(score_safely(MirrorSymmetry(), sample)) ** 2,
        )


def value_of(scored: Scored) -> float:
    """A measurement, but no floor."""
    return math.nan if scored.reason else scored.value
