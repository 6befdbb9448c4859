"""Where should the mirror stand? Shares of sound and of lopsided shapes that pass for symmetric, by both answers.

`python benchmarks/mirror.py [points]` takes SHAPES procedural shapes of the test split of each family and kind, 256
points each. "middle" mirrors them in the middle of their box, "best" in the plane that `shape_symmetry` finds. A shape
passes if the mean squared distance to its image is less than 5e-4 beyond chance, as in the check of `task=symmetry`.
"""

import sys

from molrl.data.neighbours import tree
from molrl.data.procedural import FAMILIES, Procedural
from molrl.data.shape import PointCloud
from molrl.models.shape_checks import LOPSIDED
from molrl.rewards.cloud import UnsoundError, body_of
from molrl.rewards.symmetry import MIRROR, X, chance, mirror_plane

SHAPES = 200


def passes(shape: PointCloud) -> list[bool]:
    """With the mirror in the middle of the box and in the best plane."""
    try:
        points = body_of(shape.points).points
    except UnsoundError:
        return [False, False]
    images = (points * MIRROR + 2 * place * X for place in (0.0, mirror_plane(points)))
    return [float((tree(points).query(image)[0] ** 2).mean()) - chance(points) < LOPSIDED for image in images]


def main() -> None:
    """Mirror, count, print."""
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    print("| | sound, middle | sound, best | lopsided, middle | lopsided, best |\n|---|---|---|---|---|")
    for family in FAMILIES:
        cells = []
        for share in (0.0, 1.0):
            shapes = Procedural(families=(family,), split="test", tippy=0.0, asymmetric=share)
            passed = [passes(shapes.cloud(number, points)) for number in range(SHAPES)]
            cells += [f"{sum(column) / SHAPES:.3f}" for column in zip(*passed, strict=True)]
        print(f"| {family} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
