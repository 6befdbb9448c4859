"""Training of an image classifier on captioned images: `python -m molrl.models.images.classifier_training OUT`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from molrl.data.images.captioned_files import read_captioned
from molrl.data.images.image import CaptionedImage
from molrl.data.images.scenes import SceneCaption, Scenes, all_things, draw_scene
from molrl.models.classifier_fit import fit_classifier
from molrl.models.images.classifier import ImageClassifier, ImageClassifierDesign, save_image_classifier, to_edge

MAX_NOISE = 0.5  # standard deviation of the noise under which an image still shows its class; white minus black is 2
NOTHING_FRACTION = 0.25  # of each batch
BATCH = 64
LAYOUTS = {"small": (24, 48, 96, 96), "wide": (32, 40, 56, 128)}
EDGE = 64
HELD_OUT = 0.2  # fraction of the images that test


def train_image_classifier(
    images: Sequence[CaptionedImage],
    others: Sequence[CaptionedImage],
    *,
    layout: str,
    steps: int,
    seed: int,
    edge: int = EDGE,
) -> ImageClassifier:
    """Train a classifier whose classes are the prompts of images.

    Args:
        images: of the classes.
        others: images of none of them, which join noise and blank images as what shows no class.
        layout: one of LAYOUTS, the widths of the network.
        edge: of the network's input, in pixels.

    Raises:
        ValueError: images of fewer than two classes, or without a prompt.
    """
    classes = sorted({image.prompt for image in images})
    if len(classes) < 2 or "" in classes:
        raise ValueError(f"classes: got {classes}, need at least two, and a prompt for each image")
    torch.manual_seed(seed)
    network = ImageClassifierDesign(classes=classes, edge=edge, widths=LAYOUTS[layout]).build()
    pixels = torch.cat([to_edge(image, edge) for image in images])
    labels = torch.tensor([classes.index(image.prompt) for image in images])
    negatives = torch.cat([to_edge(image, edge) for image in others]) if others else pixels[:0]
    rng = np.random.default_rng(seed)
    fit_classifier(network, lambda: draw_batch(pixels, labels, negatives, len(classes), rng), steps)
    return network.eval()


def draw_batch(
    pixels: Float[Tensor, "n 3 h w"],
    labels: Int[Tensor, " n"],
    negatives: Float[Tensor, "m 3 h w"],
    classes: int,
    rng: np.random.Generator,
) -> tuple[Float[Tensor, "b 3 h w"], Int[Tensor, " b"]]:
    """Draw images of the classes and others, half of all with noise of different strength, a third blurred."""
    rows = torch.from_numpy(rng.integers(len(pixels), size=BATCH))
    x, targets = pixels[rows].clone(), labels[rows].clone()
    for row in np.flatnonzero(rng.random(BATCH) < NOTHING_FRACTION):
        x[row], targets[row] = nothing(x[row], negatives, rng), classes
    blurred = torch.from_numpy(rng.random(BATCH) < 1 / 3)
    x[blurred] = nn.functional.avg_pool2d(x[blurred], 3, stride=1, padding=1, count_include_pad=False)
    return degrade(x, MAX_NOISE * rng.random(BATCH) * (rng.random(BATCH) < 0.5), rng), targets


def nothing(
    image: Float[Tensor, "3 h w"], negatives: Float[Tensor, "m 3 h w"], rng: np.random.Generator
) -> Float[Tensor, "3 h w"]:
    """Return an image of no class: a negative, drowned in noise, of one colour, or with its pieces mixed up."""
    kind = int(rng.integers(6))
    if kind < 3 and len(negatives):
        return negatives[int(rng.integers(len(negatives)))]
    if kind == 3:
        return torch.from_numpy(rng.uniform(-1, 1, (3, 1, 1))).float().expand_as(image)
    if kind == 4:
        return shuffle_pieces(image, rng)
    return degrade(image[None], np.array([rng.uniform(1.0, 3.0)]), rng)[0]


def shuffle_pieces(image: Float[Tensor, "3 h w"], rng: np.random.Generator, pieces: int = 4) -> Float[Tensor, "3 h w"]:
    """Return an image with its pieces x pieces tiles in another order; a rest at the borders stays."""
    height, width = image.shape[1] // pieces, image.shape[2] // pieces
    mixed = image.clone()
    for place, source in enumerate(rng.permutation(pieces * pieces)):
        (y, x), (v, u) = divmod(place, pieces), divmod(int(source), pieces)
        tile = image[:, v * height : (v + 1) * height, u * width : (u + 1) * width]
        mixed[:, y * height : (y + 1) * height, x * width : (x + 1) * width] = tile
    return mixed


def degrade(
    images: Float[Tensor, "b 3 h w"], strength: "np.ndarray[tuple[int], np.dtype[np.float64]]", rng: np.random.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Add white noise of these standard deviations to images, and clip them to what pixels can be."""
    noise = torch.from_numpy(rng.standard_normal(tuple(images.shape), dtype=np.float32))
    return (images + torch.from_numpy(strength).float().view(-1, 1, 1, 1) * noise).clamp(-1, 1)


@torch.no_grad()
def report(
    network: ImageClassifier, images: Sequence[CaptionedImage], others: Sequence[CaptionedImage], seed: int = 0
) -> str:
    """Return the accuracy on images with noise of several strengths and on those of no class, one line each."""
    rng = np.random.default_rng(seed)
    x = network.stack(images)
    targets = torch.tensor([list(network.design.classes).index(image.prompt) for image in images])
    lines = []
    for strength in (0.0, 0.1, 0.2, 0.4):
        found = network(degrade(x, np.full(len(x), strength), rng)).argmax(1)
        lines.append(f"noise {strength:.1f}: accuracy {(found == targets).float().mean():.3f}")
    if others:
        lines.append(f"images of no class: p(none) {network(network.stack(others)).exp()[:, -1].mean():.3f}")
    noise = degrade(torch.zeros(100, 3, network.design.edge, network.design.edge), np.full(100, 1.0), rng)
    lines.append(f"pure noise: p(none) {network(noise).exp()[:, -1].mean():.3f}")
    return "\n".join(lines)


def scene_examples(count: int, seed: int, edge: int) -> tuple[list[CaptionedImage], list[CaptionedImage]]:
    """Return scenes of one figure, of every shape in every colour, and half as many of several figures."""
    things, rng = all_things(), np.random.default_rng(seed)
    alone = [draw_scene(SceneCaption((things[index % len(things)],)), rng, edge) for index in range(count)]
    scenes = (Scenes(seed, edge, held_out=bool(index % 2))[index] for index in range(2 * count))
    prompts = {image.prompt for image in alone}
    several = [scene for scene in scenes if scene.prompt not in prompts]
    return alone, several[: count // 2]


def split(images: Sequence[CaptionedImage], seed: int) -> tuple[list[CaptionedImage], list[CaptionedImage]]:
    """Return the images to train with and those to test with, at random."""
    order = np.random.default_rng(seed).permutation(len(images))
    count = round(HELD_OUT * len(images))
    return [images[index] for index in order[count:]], [images[index] for index in order[:count]]


def main() -> None:
    """Train on scenes of one figure or on the captioned images of a folder or archive, print the accuracy and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the classifier")
    parser.add_argument("--data", help="folder or zip archive of images, whose captions are the classes; else scenes")
    parser.add_argument("--images", type=int, default=7000, help="number of scenes")
    parser.add_argument("--layout", choices=LAYOUTS, default="small")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    if settings.data:
        images, others = list(read_captioned(settings.data, EDGE)), list[CaptionedImage]()
    else:
        images, others = scene_examples(settings.images, settings.seed, EDGE)
    (train, tests), (negatives, unused) = (split(each, settings.seed) for each in (images, others))
    network = train_image_classifier(train, negatives, layout=settings.layout, steps=settings.steps, seed=settings.seed)
    print(report(network, tests, unused))
    save_image_classifier(settings.out, network)


if __name__ == "__main__":
    main()
