"""The place of the mirror plane: fractions of shapes that count as symmetric for two choices.

`python benchmarks/mirror.py` takes SHAPES procedural shapes of the test split of each family, sound and lopsided ones;
`python benchmarks/mirror.py FILE` those of a file, such as a run's samples/before.npz. "middle" uses the plane
through the middle of their box, "best" the one that `shape_symmetry` finds. A shape passes if the mean squared distance
to its image exceeds chance by less than 5e-4, as in the check of `task=symmetry`.
"""

import sys
from collections.abc import Sequence

from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.files import read_shapes
from molrl.data.shapes.neighbours import tree
from molrl.data.shapes.procedural import FAMILIES, Procedural
from molrl.models.shapes.checks import MAX_ASYMMETRY
from molrl.rewards.shapes.body import UnsoundError, body_of
from molrl.rewards.shapes.symmetry import MIRROR, X, mirror_plane, sampling_distance

SHAPES, POINTS = 200, 256


def is_symmetric(shape: PointCloud) -> list[bool]:
    """Tell whether a shape passes with the plane in the middle of the box, and with the best plane."""
    try:
        points = body_of(shape.points).points
    except UnsoundError:
        return [False, False]
    images = (points * MIRROR + 2 * place * X for place in (0.0, mirror_plane(points)))
    return [
        float((tree(points).query(image)[0] ** 2).mean()) - sampling_distance(points) < MAX_ASYMMETRY
        for image in images
    ]


def row(name: str, shapes: Sequence[PointCloud]) -> str:
    """Return the table row of the fractions that pass."""
    middle, best = zip(*map(is_symmetric, shapes), strict=True)
    return f"| {name} | {sum(middle) / len(shapes):.3f} | {sum(best) / len(shapes):.3f} |"


def main() -> None:
    """Mirror the shapes and print the table."""
    print("| | middle | best |\n|---|---|---|")
    for file in sys.argv[1:]:
        print(row(file, read_shapes(file, POINTS)[0]))
    for family in () if sys.argv[1:] else FAMILIES:
        for kind, fraction in (("sound", 0.0), ("lopsided", 1.0)):
            source = Procedural(families=(family,), split="test", tippy=0.0, asymmetric=fraction)
            print(row(f"{kind} {family}", [source.point_cloud(number, POINTS) for number in range(SHAPES)]), flush=True)


if __name__ == "__main__":
    main()
