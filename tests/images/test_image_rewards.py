"""Rewards of images that need no network: JPEG size, and alignment read off drawings."""

import numpy as np
import pytest

from molrl.building import build
from molrl.composition import compose
from molrl.data.images.drawings import Caption, all_captions, draw
from molrl.data.images.image import CaptionedImage
from molrl.rewards.images.drawing_alignment import DrawingAlignment
from molrl.rewards.images.jpeg import JPEGSize
from molrl.rewards.scores import Explained


def noise(edge: int) -> CaptionedImage:
    return CaptionedImage(np.random.default_rng(0).integers(0, 256, (edge, edge, 3), dtype=np.uint8))


def flat(edge: int, value: int = 128) -> CaptionedImage:
    return CaptionedImage(np.full((edge, edge, 3), value, np.uint8))


def size(sign: float = 1.0, *, above_flat: bool = False, quality: int = 95) -> JPEGSize:
    return JPEGSize(sign=sign, quality=quality, above_flat=above_flat)


def test_the_size_is_that_of_the_paper() -> None:
    """kB of 1000 bytes at 512 pixels and quality 95, as measured: flat 4.7, noise 308."""
    assert size()([flat(512), noise(512)]).tolist() == pytest.approx([4.7, 308], rel=0.01)
    assert size(-1.0)([noise(64)]).item() == pytest.approx(-5.4, rel=0.02)


def test_headers_may_be_left_out() -> None:
    values = size(above_flat=True)([flat(32), flat(32, 30), noise(32)])
    assert values[0] == 0
    assert abs(values[1]) < 0.02
    assert values[2].item() == pytest.approx(size()([noise(32)]).item() - size()([flat(32)]).item(), abs=1e-6)


def test_a_better_quality_is_larger() -> None:
    low, high = (size(quality=quality)([noise(64)]).item() for quality in (50, 95))
    assert low < high


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_what_is_no_image_is_worse_than_any_image(sign: float) -> None:
    bad = CaptionedImage(flat(32).pixels, flaw="not finite")
    scores = size(sign, above_flat=True).score([bad, flat(32), noise(32)])
    assert scores.reasons == ["not finite", "", ""]
    assert scores.values[0] < min(scores.values[1:])


@pytest.mark.parametrize(("changes", "words"), [({"sign": 0.5}, "sign: got 0.5"), ({"quality": 0}, "quality: got 0")])
def test_what_means_nothing_is_refused(changes: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        JPEGSize(**{"sign": 1.0, "quality": 95, "above_flat": True, **changes})  # type: ignore[arg-type]


def test_the_tasks_of_size_have_opposite_signs() -> None:
    rewards = [build(compose("train", [f"task={name}"])["reward"], "reward") for name in TASKS]
    small, large = (reward([noise(32)]).item() for reward in rewards)
    assert small == -large < 0


TASKS = ("compressibility", "incompressibility")


def alignment(**weights: float) -> DrawingAlignment:
    return DrawingAlignment(**{"colour": 1.0, "shape": 1.0, "background": 1.0, **weights})


def test_a_drawing_is_as_good_as_it_shows_its_caption() -> None:
    rng = np.random.default_rng(0)
    drawn = draw(Caption("red", "circle", "blue"), rng).pixels
    expected = {
        "a red circle on a blue background": 1.0,
        "a red square on a blue background": 2 / 3,
        "a green square on a blue background": 1 / 3,
        "a green star on a white background": 0.0,
    }
    values = alignment()([CaptionedImage(drawn, prompt) for prompt in expected])
    assert values.tolist() == pytest.approx(list(expected.values()))
    blob = alignment(shape=0.0)([CaptionedImage(drawn, "a red square on a blue background")])
    assert blob.item() == 1.0


def test_every_real_drawing_is_wholly_right() -> None:
    rng = np.random.default_rng(2)
    assert (alignment()([draw(caption, rng) for caption in all_captions()]) == 1).all()


def test_the_parts_come_with_the_value() -> None:
    drawn = draw(Caption("red", "ring", "blue"), np.random.default_rng(0))
    scored = alignment().score_one(CaptionedImage(drawn.pixels, "a red star on a blue background"))
    assert isinstance(scored, Explained)
    assert scored.parts == {"colour": 1.0, "shape": 0.0, "background": 1.0}


def test_a_prompt_that_is_no_caption_cannot_be_scored() -> None:
    scores = alignment().score(
        [CaptionedImage(flat(32).pixels, "a cat"), CaptionedImage(flat(32).pixels, flaw="not finite")]
    )
    assert scores.values[0] != scores.values[0]
    assert "no caption of a drawing" in scores.reasons[0]
    assert scores.scored[1] == (0.0, "not finite")


def test_weights_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="colour, shape, background"):
        alignment(colour=0.0, shape=0.0, background=0.0)
    with pytest.raises(ValueError, match="colour, shape, background"):
        alignment(shape=-1.0)
