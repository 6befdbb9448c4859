"""The examination of one shape without a reference: soundness, stability and symmetry.

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
    """The measurements of a shape; NaN for those that it does not have.

    Attributes:
        flaw: why it is no sound shape; "" for a sound one.
        margin: of stability, in half lengths.
        tilt: in the drop test, in degrees.
        sdi: Chamfer distance to its mirror image in the middle of its box, both directions added, as published
            (Quartet of Diffusions, ICLR 2026).
        asymmetry: one direction of it in the best mirror plane, less the distance between two samplings of a surface.
    """

    flaw: str
    margin: float = math.nan
    tilt: float = math.nan
    sdi: float = math.nan
    asymmetry: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Exam:
    """A function that examines a shape.

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
        offset = mirrored - body.points[nearest_rows(mirrored, body.points)]
        minus_tilt = math.nan
        if self.seconds is not None:
            minus_tilt = measurement(score_safely(DropTest(seconds=self.seconds), sample))
        return Examined(
            "",
            margin=measurement(score_safely(StabilityMargin(plate=self.plate), sample)),
            tilt=-minus_tilt,
            sdi=2 * float((offset**2).sum(-1).mean()),
            asymmetry=measurement(score_safely(MirrorSymmetry(), sample)) ** 2,
        )


def measurement(scored: Scored) -> float:
    """Return the value of a good sample, NaN in place of a floor."""
    return math.nan if scored.reason else scored.value
