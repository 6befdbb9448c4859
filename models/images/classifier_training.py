"""Training of an image classifier on scenes: `python -m molrl.models.images.classifier_training OUT`."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from molrl.data.images.drawings import SHAPES
from molrl.data.images.image import CaptionedImage
from molrl.data.images.scenes import Scenes, scenes_by_text
from molrl.models.images.classifier import ImageClassifier, ImageClassifierDesign, save_image_classifier, stack_images

MAX_NOISE = 0.3  # standard deviation of the noise of pixels, in [0, 1]
NO_SCENE_FRACTION = 0.15  # of each batch: noise or one colour
BATCH, LR = 32, 2e-3
LAYOUTS = {"small": ((16, 32, 48, 64), 3), "judge": ((12, 24, 64), 5)}


@dataclass(frozen=True)
class Examples:
    """Scenes with the number of their class.

    Attributes:
        pixels: in [0, 1].
        classes: the shape of all figures; the number of shapes for scenes of two different ones.
    """

    pixels: Float[Tensor, "n 3 h w"]
    classes: Int[Tensor, " n"]


def class_of(image: CaptionedImage) -> int:
    """Return the number of the shape of all figures of a scene, or of the class for none."""
    shapes = {thing.shape for thing in scenes_by_text()[image.prompt].things}
    return SHAPES.index(shapes.pop()) if len(shapes) == 1 else len(SHAPES)


def draw_examples(n: int, seed: int, *, held_out: bool) -> Examples:
    """Return n scenes with training captions or held-out ones."""
    scenes = Scenes(seed, held_out=held_out)
    images = [scenes[index] for index in range(n)]
    return Examples(stack_images(images), torch.tensor([class_of(image) for image in images]))


def train_classifier(examples: Examples, *, layout: str, steps: int, seed: int) -> ImageClassifier:
    """Train a classifier of shapes.

    Args:
        layout: one of LAYOUTS, the widths and the kernel of the network.
    """
    widths, kernel = LAYOUTS[layout]
    torch.manual_seed(seed)
    network = ImageClassifierDesign(classes=SHAPES, widths=widths, kernel=kernel).build()
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, steps)
    for _ in range(steps):
        pixels, classes = draw_batch(examples, rng)
        loss = nn.functional.nll_loss(network(pixels), classes)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
    return network.eval()


def draw_batch(examples: Examples, rng: np.random.Generator) -> tuple[Float[Tensor, "b 3 h w"], Int[Tensor, " b"]]:
    """Draw scenes with noise of different strength in half of them, and images that are no scenes."""
    rows = torch.from_numpy(rng.integers(len(examples.classes), size=BATCH))
    pixels, classes = examples.pixels[rows].clone(), examples.classes[rows].clone()
    strength = MAX_NOISE * rng.random((BATCH, 1, 1, 1)) * (rng.random((BATCH, 1, 1, 1)) < 0.5)
    pixels += torch.from_numpy((strength * rng.standard_normal(pixels.shape)).astype(np.float32))
    for row in np.flatnonzero(rng.random(BATCH) < NO_SCENE_FRACTION):
        noise = rng.random((3, 1, 1)) + rng.random() * rng.standard_normal(pixels.shape[1:])
        pixels[row], classes[row] = torch.from_numpy(noise.astype(np.float32)), len(SHAPES)
    return pixels.clamp(0, 1), classes


@torch.no_grad()
def accuracy(network: ImageClassifier, examples: Examples, noise: float, seed: int = 0) -> float:
    """Return the fraction of scenes with noise of a strength that are classified correctly."""
    rng = np.random.default_rng(seed)
    added = torch.from_numpy((noise * rng.standard_normal(examples.pixels.shape)).astype(np.float32))
    found = network((examples.pixels + added).clamp(0, 1)).argmax(1)
    return float((found == examples.classes).float().mean())


def main() -> None:
    """Train on scenes, print the accuracy on those with held-out captions, and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the classifier")
    parser.add_argument("--scenes", type=int, default=4000, help="number of training scenes")
    parser.add_argument("--layout", choices=LAYOUTS, default="small")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    examples = draw_examples(settings.scenes, settings.seed, held_out=False)
    network = train_classifier(examples, layout=settings.layout, steps=settings.steps, seed=settings.seed)
    tests = draw_examples(500, 0, held_out=True)
    for noise in (0.0, 0.1, 0.2, 0.3):
        print(f"noise {noise:.1f}: accuracy {accuracy(network, tests, noise):.3f} on 500 scenes of held-out captions")
    save_image_classifier(settings.out, network)


if __name__ == "__main__":
    main()
