"""Where should the mirror stand? Shares of shapes that pass for symmetric, by both answers.

`python benchmarks/mirror.py` takes SHAPES procedural shapes of the test split of each family, sound and lopsided ones;
`python benchmarks/mirror.py FILE` those of a file, such as a run's samples/before.npz. "middle" mirrors them in the
middle of their box, "best" in the plane that `shape_symmetry` finds. A shape passes if the mean squared distance to its
image is less than 5e-4 beyond sampling_distance, as in the check of `task=symmetry`.
"""

import sys
from collections.abc import Sequence

from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.files import read_shapes
from molrl.data.shapes.neighbours import tree
from molrl.data.shapes.procedural import FAMILIES, Procedural
from molrl.models.shapes.checks import LOPSIDED
from molrl.rewards.shapes.body import UnsoundError, body_of
from molrl.rewards.shapes.symmetry import MIRROR, X, mirror_plane, sampling_distance

SHAPES, POINTS = 200, 256


def passes(shape: PointCloud) -> list[bool]:
    """With the mirror in the middle of the box and in the best plane."""
    try:
        points = body_of(shape.points).points
    except UnsoundError:
        return [False, False]
    images = (points * MIRROR + 2 * place * X for place in (0.0, mirror_plane(points)))
    return [
        float((tree(points).query(image)[0] ** 2).mean()) - sampling_distance(points) < LOPSIDED for image in images
    ]


def row(name: str, shapes: Sequence[PointCloud]) -> str:
    """The shares that pass."""
    middle, best = zip(*map(passes, shapes), strict=True)
    return f"| {name} | {sum(middle) / len(shapes):.3f} | {sum(best) / len(shapes):.3f} |"


def main() -> None:
    """Mirror, count, print."""
    print("| | middle | best |\n|---|---|---|")
    for file in sys.argv[1:]:
        print(row(file, read_shapes(file, POINTS)[0]))
    for family in () if sys.argv[1:] else FAMILIES:
        for kind, share in (("sound", 0.0), ("lopsided", 1.0)):
            source = Procedural(families=(family,), split="test", tippy=0.0, asymmetric=share)
            print(row(f"{kind} {family}", [source.cloud(number, POINTS) for number in range(SHAPES)]), flush=True)


if __name__ == "__main__":
    main()
