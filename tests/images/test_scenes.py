"""Laws of scenes: every scene that is drawn is read back, and what is no scene of its caption is wrong."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from molrl.data.images.drawings import SHAPES
from molrl.data.images.image import CaptionedImage
from molrl.data.images.metrics import image_metrics
from molrl.data.images.prompts import prompt_list
from molrl.data.images.scene_reader import AREA_BY_SHAPE, Found, connected_parts, is_right, match_scene, read_scene
from molrl.data.images.scenes import (
    COUNTS,
    KINDS,
    PAINTS,
    RELATIONS,
    Figure,
    SceneCaption,
    Scenes,
    Thing,
    all_things,
    coverage,
    draw_scene,
    holds,
    is_held_out_scene,
    is_held_out_thing,
    scene_captions,
    scenes_by_text,
)
from molrl.rewards.images.scene_alignment import SceneAlignment
from molrl.rewards.scores import Explained

CAPTIONS = tuple(scenes_by_text().values())
RED_CIRCLE, BLUE_SQUARE = Thing("red", "circle"), Thing("blue", "square")


def scene(text: str, seed: int = 0, edge: int = 64) -> CaptionedImage:
    return draw_scene(scenes_by_text()[text], np.random.default_rng(seed), edge)


def is_drawn_right(pixels: NDArray[Any], text: str) -> bool:
    image = CaptionedImage(np.asarray(pixels).clip(0, 255).astype(np.uint8), text)
    return match_scene(image, scenes_by_text()[text]).right


@given(st.sampled_from(CAPTIONS), st.integers(0, 2**32 - 1), st.sampled_from([64, 96]))
@settings(max_examples=150, deadline=None)
def test_a_drawn_scene_is_read_back(caption: SceneCaption, seed: int, edge: int) -> None:
    image = draw_scene(caption, np.random.default_rng(seed), edge)
    assert match_scene(image, caption) == (1.0, 1.0, True)


@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=50, deadline=None)
def test_a_scene_is_wrong_for_every_caption_of_something_else(kind: str, seed: int, data: st.DataObject) -> None:
    caption = data.draw(st.sampled_from(scene_captions(kind, held_out=False)))
    other = data.draw(st.sampled_from(CAPTIONS))
    image = draw_scene(caption, np.random.default_rng(seed))
    same_things = sorted(other.things) == sorted(caption.things)
    assert match_scene(image, other).right <= same_things


@given(st.integers(0, 2**32 - 1), st.sampled_from(CAPTIONS))
@settings(max_examples=30, deadline=None)
def test_noise_shows_nothing(seed: int, caption: SceneCaption) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3))
    assert not is_drawn_right(pixels, str(caption))


def test_pixels_that_change_at_random_change_nothing_until_they_are_many() -> None:
    rng = np.random.default_rng(0)
    texts = [str(scene_captions(kind, held_out=False)[k]) for kind in KINDS for k in (3, 17, 25)]
    right = {
        spread: np.mean([is_drawn_right(scene(t).pixels + rng.normal(0, spread, (64, 64, 3)), t) for t in texts])
        for spread in (10, 80)
    }
    assert right == {10: 1.0, 80: 0.0}


@pytest.mark.parametrize("kind", ["composition", "count", "position"])
def test_blurred_figures_are_wrong(kind: str) -> None:
    for caption in scene_captions(kind, held_out=False)[::29]:
        image = Image.fromarray(scene(str(caption)).pixels).filter(ImageFilter.GaussianBlur(3))
        assert not is_drawn_right(np.asarray(image), str(caption)), str(caption)


def painted(*figures: tuple[str, Figure], edge: int = 64) -> NDArray[np.float64]:
    canvas = np.full((edge, edge, 3), 255.0)
    for colour, figure in figures:
        canvas += coverage(figure, edge)[..., None] * (np.array(PAINTS[colour]) - canvas)
    return canvas


def test_figures_that_touch_are_one_that_is_unknown() -> None:
    left, right = (Figure("circle", x, 0.5, 0.15, 0) for x in (0.38, 0.62))
    assert not is_drawn_right(painted(("red", left), ("red", right)), "two red circles")
    apart = painted(("red", left), ("red", right._replace(x=0.75)))
    assert is_drawn_right(apart, "two red circles")


def test_a_figure_of_two_colours_has_none() -> None:
    pixels = painted(("red", Figure("circle", 0.5, 0.5, 0.3, 0)))
    pixels[:32][pixels[:32].min(2) < 200] = PAINTS["blue"]
    (found,) = read_scene(CaptionedImage(pixels.astype(np.uint8)))
    assert found.thing.colour == ""


def test_more_figures_than_asked_for_are_wrong() -> None:
    circle = Figure("circle", 0.25, 0.25, 0.15, 0)
    pixels = painted(("red", circle), ("red", circle._replace(x=0.75)), ("red", circle._replace(y=0.75)))
    assert [is_drawn_right(pixels, f"{count} red circles") for count in COUNTS.values()] == [False, True, False]
    assert not is_drawn_right(pixels, "a red circle")


def test_an_empty_page_shows_nothing() -> None:
    assert read_scene(CaptionedImage(np.full((64, 64, 3), 255, np.uint8))) == []


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_relation_is_told_from_its_opposite(relation: str) -> None:
    """y grows downward: what is above has the smaller y."""
    first, second = {
        "left of": ((10, 30), (50, 35)),
        "right of": ((50, 30), (10, 35)),
        "above": ((30, 10), (35, 50)),
        "below": ((30, 50), (35, 10)),
    }[relation]
    found = [Found(RED_CIRCLE, *first), Found(BLUE_SQUARE, *second)]
    told = {name: is_right(found, SceneCaption((RED_CIRCLE, BLUE_SQUARE), name)) for name in RELATIONS}
    assert told == {name: name == relation for name in RELATIONS}
    assert is_right(found, SceneCaption((BLUE_SQUARE, RED_CIRCLE)))
    assert not holds(relation, [(0, 0), (7, 7)])  # neither beside nor above


def test_the_area_of_a_shape_is_that_of_its_drawing() -> None:
    for shape in SHAPES:
        area = coverage(Figure(shape, 0.5, 0.5, 0.4, 0.1), 200).sum() / 200**2
        assert area == pytest.approx(AREA_BY_SHAPE[shape] * 0.4**2, rel=0.02), shape


def test_parts_are_connected_by_edges_and_corners() -> None:
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1]], bool)
    labels = connected_parts(mask)
    assert (labels > 0).tolist() == mask.tolist()
    assert len(set(labels[mask])) == 4
    assert labels[0, 0] == labels[1, 1] != labels[0, 3] == labels[1, 3]


def test_captions_of_every_kind_are_said_as_they_are() -> None:
    things = 7 * 5
    sizes = {kind: sum(c.kind == kind for c in CAPTIONS) for kind in KINDS}
    pairs = things * (things - 1)
    assert sizes == {"colour": things, "composition": pairs, "count": 3 * things, "position": 4 * pairs}
    for text in ("an orange ring", "three green triangles", "a red circle and a blue square"):
        assert text in scenes_by_text()
    assert scenes_by_text()["a red circle left of a blue square"] == ((RED_CIRCLE, BLUE_SQUARE), "left of")


def test_held_out_things_are_in_no_training_caption() -> None:
    held = [thing for thing in all_things() if is_held_out_thing(thing)]
    assert len(held) == len({thing.shape for thing in held}) == len({thing.colour for thing in held}) == len(SHAPES)
    for kind in KINDS:
        trained, tests = (scene_captions(kind, held_out=value) for value in (False, True))
        assert tests
        assert not any(thing in held for caption in trained for thing in caption.things)
        assert all(any(thing in held for thing in caption.things) for caption in tests)


def test_lists_of_prompts_have_every_kind() -> None:
    for name, held_out in (("scenes", False), ("scenes_held_out", True)):
        captions = [scenes_by_text()[prompt] for prompt in prompt_list(name)]
        assert {caption.kind for caption in captions} == set(KINDS)
        assert all(is_held_out_scene(caption) == held_out for caption in captions)
    assert len(prompt_list("scenes_position")) == len(scene_captions("position", held_out=False))
    assert {scenes_by_text()[p].kind for p in prompt_list("scenes_count_held_out")} == {"count"}


def test_a_scene_depends_on_the_seed_and_its_index_alone() -> None:
    np.testing.assert_array_equal(Scenes(3)[5].pixels, Scenes(3)[5].pixels)
    assert not np.array_equal(Scenes(3)[5].pixels, Scenes(4)[5].pixels)
    assert is_held_out_scene(scenes_by_text()[Scenes(3, held_out=True)[5].prompt])


def test_the_metrics_of_scenes_are_told_by_kind() -> None:
    drawn = [scene("a red circle"), scene("two red circles"), scene("a blue square above a red ring")]
    swapped = CaptionedImage(drawn[2].pixels, "a red ring above a blue square")
    found = image_metrics([*drawn, swapped])
    expected = {"right": 0.75, "right_colour": 1, "right_count": 1, "right_position": 0.5, "right_colours": 1}
    assert {name: found[name] for name in expected} == expected
    assert "right_composition" not in found


def test_the_reward_of_a_scene_is_the_mean_of_its_parts() -> None:
    reward = SceneAlignment(colour=1.0, shape=1.0, right=2.0)
    drawn = scene("a red circle and a blue square").pixels
    expected = {
        "a red circle and a blue square": 1.0,
        "a red square and a blue circle": (1 + 1 + 0) / 4,
        "a red circle and a blue circle": (1 + 0.5 + 0) / 4,
        "a red circle": (0.5 + 0.5 + 0) / 4,
    }
    values = reward([CaptionedImage(drawn, text) for text in expected])
    assert values.tolist() == pytest.approx(list(expected.values()))
    scored = reward.score_one(CaptionedImage(drawn, "a red circle"))
    assert isinstance(scored, Explained)
    assert scored.parts == {"colour": 0.5, "shape": 0.5, "right": 0.0}
    assert reward.score_one(CaptionedImage(drawn, "a red circle", flaw="not finite")) == (0.0, "not finite")
    assert "no caption of a scene" in reward.score([CaptionedImage(drawn, "a cat")]).reasons[0]
    with pytest.raises(ValueError, match="colour, shape, right"):
        SceneAlignment(colour=0.0, shape=0.0, right=0.0)
