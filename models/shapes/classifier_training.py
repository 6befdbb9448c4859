"""Training of a point classifier on labelled shapes: `python -m molrl.models.shapes.classifier_training OUT`."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from molrl.data.shapes.cloud import PointCloud
from molrl.models.classifier_fit import fit_classifier
from molrl.models.shapes.classifier import ClassifierDesign, PointClassifier, save_classifier

MAX_NOISE = 0.3  # standard deviation of the noise under which a shape still counts as one
NO_SHAPE_FRACTION = 0.2  # of each batch
MIN_POINTS = 128  # of a cloud in training
BATCH = 32
FAULTY_FRACTION = 0.15  # share of the procedural shapes that are tippy, and of those that are lopsided
LAYOUTS = {"small": ((64, 128, 256), 128), "wide": ((48, 96, 320), 96)}


def train_classifier(
    clouds: Sequence[PointCloud], *, layout: str, steps: int, seed: int, max_points: int = 512
) -> PointClassifier:
    """Train a classifier of the labels of clouds in the unit box, all of one number of points.

    Args:
        layout: one of LAYOUTS, the widths of the network.
        max_points: points taken of a cloud in a step, at most.

    Raises:
        ValueError: the clouds are of fewer than two classes, without a label or of different sizes.
    """
    classes = sorted({cloud.label for cloud in clouds})
    if len(classes) < 2 or "" in classes:
        raise ValueError(f"classes: got {classes}, need at least two, and a label for each shape")
    if len({len(cloud) for cloud in clouds}) > 1 or len(clouds[0]) < MIN_POINTS:
        raise ValueError(f"points: need one number of at least {MIN_POINTS} in all shapes")
    widths, hidden = LAYOUTS[layout]
    torch.manual_seed(seed)
    network = ClassifierDesign(classes=classes, widths=widths, hidden=hidden).build()
    points = np.stack([cloud.points for cloud in clouds])
    labels = np.array([classes.index(cloud.label) for cloud in clouds])
    rng = np.random.default_rng(seed)
    fit_classifier(network, lambda: draw_batch(points, labels, len(classes), max_points, rng), steps)
    return network.eval()


def draw_batch(
    points: NDArray[np.float32], labels: NDArray[np.int64], classes: int, max_points: int, rng: np.random.Generator
) -> tuple[Float[Tensor, "b n 3"], Int[Tensor, " b"]]:
    """Draw shapes with noise of different strength and clouds that are no shapes, each in the unit box."""
    count = int(np.exp(rng.uniform(np.log(MIN_POINTS), np.log(min(max_points, points.shape[1])))))
    rows = rng.integers(len(points), size=BATCH)
    chosen = rng.permutation(points.shape[1])[:count]
    x, targets = points[rows][:, chosen].astype(np.float64), labels[rows].copy()
    strength = MAX_NOISE * rng.random((BATCH, 1, 1)) * (rng.random((BATCH, 1, 1)) < 0.5)
    x += strength * rng.standard_normal(x.shape)
    for row in np.flatnonzero(rng.random(BATCH) < NO_SHAPE_FRACTION):
        x[row], targets[row] = no_shape(x[row], rng), classes
    return torch.from_numpy(to_unit_boxes(x)).float(), torch.from_numpy(targets)


def no_shape(cloud: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return points [n, 3] that are no shape: drowned in noise, or a blob, a ball or a block, stretched or not."""
    shape = cloud.shape
    kind = int(rng.integers(4))
    if kind == 0:
        return np.asarray(cloud + rng.uniform(0.7, 2.0) * rng.standard_normal(shape))
    blob = rng.standard_normal(shape) if kind < 3 else rng.uniform(-1, 1, shape)
    if kind == 2:
        blob *= rng.random((shape[0], 1)) ** (1 / 3) / np.linalg.norm(blob, axis=1, keepdims=True)
    return np.asarray(blob * rng.uniform(0.4, 1, 3))


def to_unit_boxes(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return clouds [b, n, 3], each moved and scaled into the unit box."""
    low, high = x.min(1, keepdims=True), x.max(1, keepdims=True)
    return np.asarray((x - (low + high) / 2) * 2 / (high - low).max(2, keepdims=True))


@torch.no_grad()
def report(network: PointClassifier, clouds: Sequence[PointCloud], points: int, seed: int = 0) -> str:
    """Return the accuracy on shapes with noise of several strengths, and the output for pure noise, one line each."""
    rng = np.random.default_rng(seed)
    x = np.stack([cloud.points[rng.permutation(len(cloud))[:points]] for cloud in clouds]).astype(np.float64)
    targets = torch.tensor([list(network.design.classes).index(cloud.label) for cloud in clouds])
    lines = []
    for strength in (0.0, 0.02, 0.05, 0.1, 0.2, 0.3):
        log_probs = network(torch.from_numpy(to_unit_boxes(x + strength * rng.standard_normal(x.shape))).float())
        accuracy = (log_probs.argmax(1) == targets).float().mean().item()
        lines.append(f"noise {strength:.2f}: accuracy {accuracy:.3f}")
    blobs = network(torch.from_numpy(to_unit_boxes(rng.standard_normal((200, points, 3)))).float()).exp()
    largest = blobs[:, :-1].amax(1).mean().item()
    lines.append(f"pure Gaussian clouds: p(no shape) {blobs[:, -1].mean():.3f}, largest class {largest:.3f}")
    return "\n".join(lines)


def main() -> None:
    """Train on procedural shapes or on a folder of labelled ones, print the accuracy and save."""
    from molrl.data.shapes.files import read_shapes
    from molrl.data.shapes.procedural import Procedural

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the classifier")
    parser.add_argument("--data", help="a file or folder of labelled shapes; without it, procedural ones")
    parser.add_argument("--shapes", type=int, default=2500, help="number of procedural training shapes")
    parser.add_argument("--kinds", action="store_true", help="label them by kind; all of them are symmetric")
    parser.add_argument("--layout", choices=LAYOUTS, default="small")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    if settings.data:
        clouds, summary = read_shapes(settings.data, 1024)
        print(summary)
        held_out = clouds[::5]
        clouds = [cloud for row, cloud in enumerate(clouds) if row % 5]
    else:
        shapes = Procedural(
            kinds=settings.kinds, tippy=FAULTY_FRACTION, asymmetric=0.0 if settings.kinds else FAULTY_FRACTION
        )
        train, test = (replace(shapes, split=split) for split in ("train", "test"))
        clouds = [train.point_cloud(index, 1024) for index in range(settings.shapes)]
        held_out = [test.point_cloud(index, 1024) for index in range(settings.shapes // 5)]
    network = train_classifier(clouds, layout=settings.layout, steps=settings.steps, seed=settings.seed)
    print(report(network, held_out, 512))
    save_classifier(settings.out, network)


if __name__ == "__main__":
    main()
