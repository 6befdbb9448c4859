"""The image classifier and the reward made of it: what it knows, what it does not depend on, and refusals."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from molrl.data.images.image import CaptionedImage
from molrl.data.images.scenes import SceneCaption, Thing, draw_scene
from molrl.models.images.classifier import (
    ImageClassifierDesign,
    load_image_classifier,
    save_image_classifier,
)
from molrl.models.images.classifier_training import (
    draw_batch,
    nothing,
    report,
    scene_examples,
    shuffle_pieces,
    train_image_classifier,
)
from molrl.rewards.images.class_probability import ImageClass
from molrl.runs.errors import CheckpointError

SHIPPED = ("scene_classifier", "scene_judge")
CIRCLE, STAR = Thing("red", "circle"), Thing("blue", "star")


def scene(*things: Thing, seed: int = 0, edge: int = 64) -> CaptionedImage:
    return draw_scene(SceneCaption(things), np.random.default_rng(seed), edge)


def dark_or_light(count: int) -> list[CaptionedImage]:
    """Return images of 16 pixels that are darker or lighter than grey."""
    rng = np.random.default_rng(0)
    low = rng.integers(0, 100, (count, 16, 16, 3), dtype=np.uint8)
    return [CaptionedImage(pixels, "dark") for pixels in low] + [
        CaptionedImage(255 - pixels, "light") for pixels in low
    ]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Train a classifier of dark and light images for a few steps."""
    network = train_image_classifier(dark_or_light(20), [], layout="small", steps=60, seed=0, edge=16)
    folder = tmp_path_factory.mktemp("classifier") / "weights"
    save_image_classifier(folder, network)
    return str(folder)


def reward(weights: str, wanted: str | dict[str, str] | None = None) -> ImageClass:
    return ImageClass(wanted=wanted, weights=weights)


def test_a_moment_of_training_tells_dark_from_light(weights: str) -> None:
    lines = report(load_image_classifier(weights), dark_or_light(8), []).splitlines()
    assert lines[0] == "noise 0.0: accuracy 1.000"


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_ones_know_every_thing_and_what_is_none(name: str) -> None:
    alone, several = scene_examples(70, 12345, 64)
    found = reward(name)(alone).exp()
    assert (found > 0.5).float().mean() > 0.95
    network = load_image_classifier(name)
    assert network(network.stack(several)).exp()[:, -1].mean() > 0.9
    noise = [CaptionedImage(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)) for seed in range(20)]
    blank = [CaptionedImage(np.full((64, 64, 3), value, np.uint8)) for value in (0, 128, 255)]
    assert network(network.stack([*noise, *blank])).exp()[:, -1].min() > 0.5


@pytest.mark.parametrize("name", SHIPPED)
def test_another_colour_and_another_shape_are_another_class(name: str) -> None:
    image = scene(CIRCLE)
    assert reward(name).score_one(image).value > math.log(0.5)
    for other in ("a blue circle", "a red square"):
        assert reward(name, other).score_one(image).value < math.log(0.1)


def test_the_shipped_judge_is_another_network() -> None:
    first, second = map(load_image_classifier, SHIPPED)
    assert first.design.classes == second.design.classes
    assert first.design.widths != second.design.widths


def test_probabilities_sum_to_one_and_do_not_depend_on_the_batch(weights: str) -> None:
    network = load_image_classifier(weights)
    images = network.stack(dark_or_light(3))
    found = network(images)
    assert_close(found.exp().sum(1), torch.ones(6))
    assert_close(network(images[1:2]), found[1:2])


def test_an_image_of_another_size_is_resized() -> None:
    small, large = (reward("scene_classifier").score_one(scene(CIRCLE, edge=edge)) for edge in (64, 256))
    assert small.value == pytest.approx(large.value, abs=0.3)


def test_the_class_is_that_of_the_prompt_or_the_one_that_is_named(weights: str) -> None:
    dark, *_, light = dark_or_light(1)
    assert (reward(weights)([dark, light]) > math.log(0.5)).all()
    named = reward(weights, "dark")([dark, light])
    assert named[0] > math.log(0.5)
    assert named[1] < math.log(0.5)
    crossed = reward(weights, {"dark": "light", "light": "dark"})
    assert_close(crossed([dark])[0], reward(weights, "light")([dark])[0])


def test_bad_images_get_the_floor_and_unknown_prompts_no_value(weights: str) -> None:
    dark = dark_or_light(1)[0]
    found = reward(weights).score([dark, replace(dark, flaw="not finite"), replace(dark, prompt="a cat")])
    assert found.scored[1] == (-20, "not finite")
    assert math.isnan(found.values[2])
    assert "class: got 'a cat'" in found.reasons[2]
    lifted = replace(reward(weights, "light"), floor=-1e-6)
    assert lifted.score_one(dark).value == -1e-6


def test_images_of_no_class_are_drawn_in_all_their_kinds() -> None:
    rng, image = np.random.default_rng(0), torch.rand(3, 16, 16) * 2 - 1
    drawn = torch.stack([nothing(image, torch.zeros(1, 3, 16, 16), rng) for _ in range(40)])
    assert drawn.isfinite().all()
    assert drawn.abs().max() <= 1
    kinds = {int((one == 0).all()) + 2 * int(one.flatten(1).std(1).max() < 1e-6) for one in drawn}
    assert kinds == {0, 2, 3}


def test_mixed_pieces_are_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.arange(3 * 16 * 16).float().view(3, 16, 16)
    mixed = shuffle_pieces(image, np.random.default_rng(0))
    assert not mixed.equal(image)
    assert_close(mixed.flatten().sort().values, image.flatten())


def test_about_a_quarter_of_a_batch_shows_no_class() -> None:
    x = torch.zeros(4, 3, 8, 8)
    rng = np.random.default_rng(0)
    labels = torch.cat([draw_batch(x, torch.tensor([0, 1, 0, 1]), x, 2, rng)[1] for _ in range(20)])
    assert (labels == 2).float().mean() == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda weights: reward(weights, "a cat"), "class: got 'a cat', .* has dark, light"),
        (lambda _: reward("none", "dark"), "no such model"),
        (lambda weights: replace(reward(weights), floor=0.0), "floor: got 0.0, need a finite number below 0"),
        (lambda _: reward("shape_judge", "chair"), "one of image classifier"),
        (lambda _: train_image_classifier([scene(STAR)], [], layout="small", steps=1, seed=0), "need at least two"),
        (lambda _: ImageClassifierDesign(classes=["a"], edge=8, widths=[12]), "need multiples of 8"),
        (lambda _: ImageClassifierDesign(classes=["a"], edge=2, widths=[8, 8]), "pixels left"),
        (lambda _: ImageClassifierDesign(classes=["a"], edge=8, widths=[0]), r"widths \[0\]"),
    ],
)
def test_what_cannot_be_is_one_clear_error(weights: str, wrong: Callable[[str], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong(weights)


def test_a_damaged_classifier_is_refused(weights: str, tmp_path: Path) -> None:
    save_image_classifier(tmp_path / "x", load_image_classifier(weights))
    text = (tmp_path / "x/model.json").read_text()
    (tmp_path / "x/model.json").write_text(text.replace('"edge": 16', '"edge": 32'))
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_image_classifier(str(tmp_path / "x"))
