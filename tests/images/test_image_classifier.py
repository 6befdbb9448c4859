"""A classifier of scenes learns shapes, and its reward is its own log-probability."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from molrl.data.images.drawings import SHAPES
from molrl.data.images.image import CaptionedImage
from molrl.data.images.scenes import Scenes, scenes_by_text
from molrl.models.images.classifier import ImageClassifierDesign, load_image_classifier, save_image_classifier
from molrl.models.images.classifier_training import accuracy, class_of, draw_batch, draw_examples, train_classifier
from molrl.rewards.images.shape_probability import ShapeProbability
from molrl.runs.errors import CheckpointError


def test_a_scene_of_one_shape_has_its_class_and_others_have_none() -> None:
    page = np.zeros((4, 4, 3), np.uint8)
    texts = {"a red star": 3, "three blue rings": 4, "a red star above a blue star": 3, "a red star and a red ring": 5}
    assert {text: class_of(CaptionedImage(page, text)) for text in texts} == texts


def test_shapes_of_new_scenes_are_learned() -> None:
    """A classifier that always says the most frequent class, scenes of two shapes, is right in four of ten."""
    network = train_classifier(draw_examples(400, 0, held_out=False), layout="small", steps=120, seed=0)
    assert accuracy(network, draw_examples(150, 1, held_out=False), 0.0) > 0.6


def test_a_batch_is_of_scenes_and_of_images_that_are_none() -> None:
    examples = draw_examples(30, 0, held_out=False)
    pixels, classes = draw_batch(examples, np.random.default_rng(0))
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert set(classes.tolist()) <= set(range(len(SHAPES) + 1))
    clean = (pixels[:, None] == examples.pixels).flatten(2).all(2)
    assert 0 < clean.any(1).float().mean() < 0.8


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("classifier") / "model"
    save_image_classifier(folder, ImageClassifierDesign(classes=SHAPES, widths=[4, 8], kernel=3).build())
    return folder


def test_the_reward_is_the_log_probability_of_the_class(classifier: Path) -> None:
    reward = ShapeProbability(wanted="star", weights=str(classifier), floor=-20.0)
    images = [Scenes(0)[index] for index in range(3)]
    bad = CaptionedImage(images[0].pixels, images[0].prompt, flaw="not finite")
    values = reward([images[0], bad, *images[1:]])
    pixels = torch.stack([torch.from_numpy(image.unit).permute(2, 0, 1) for image in images])
    expected = load_image_classifier(str(classifier))(pixels).exp()
    torch.testing.assert_close(values[[0, 2, 3]].exp(), expected[:, SHAPES.index("star")])
    assert values[1] == -20
    torch.testing.assert_close(expected.sum(1), torch.ones(3))
    assert scenes_by_text()[images[0].prompt]


def test_what_cannot_be_scored_is_refused(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"wanted: got 'heart', .* has circle, square"):
        ShapeProbability(wanted="heart", weights=str(classifier), floor=-20.0)
    with pytest.raises(ValueError, match="floor: got 0"):
        ShapeProbability(wanted="star", weights=str(classifier), floor=0.0)
    with pytest.raises(ValueError, match="floor: got -inf"):
        ShapeProbability(wanted="star", weights=str(classifier), floor=-math.inf)
    with pytest.raises(CheckpointError):
        ShapeProbability(wanted="star", weights=str(tmp_path), floor=-20.0)
    with pytest.raises(ValueError, match="kernel 4, need 3, 5 or 7"):
        ImageClassifierDesign(classes=SHAPES, widths=[4], kernel=4)
