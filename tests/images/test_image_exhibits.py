"""Images in a report: small copies and what the samples are made of."""

import io

import numpy as np
from PIL import Image

from molrl.data.images.image import CaptionedImage
from molrl.exhibit import Counts
from molrl.models.images.exhibits import count_makeup, exhibit_image

WHITE = CaptionedImage(np.full((4, 6, 3), 255, np.uint8), "snow")
GREY = CaptionedImage(np.full((4, 6, 3), 51, np.uint8))
BROKEN = CaptionedImage(np.zeros((4, 6, 3), np.uint8), "snow", "not finite")


def test_an_image_is_shown_with_its_prompt_and_brightness() -> None:
    shown = exhibit_image(WHITE)
    assert (shown.title, shown.facts) == ("snow", {"valid": "yes", "brightness": 1.0})
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown.image))), WHITE.pixels)


def test_an_image_with_a_flaw_says_so() -> None:
    shown = exhibit_image(BROKEN)
    assert (shown.title, shown.facts, shown.image) == ("snow: not finite", {"valid": "no"}, b"")


def test_the_makeup_is_counted_over_the_images_without_a_flaw() -> None:
    assert count_makeup([WHITE, GREY, BROKEN]) == {
        "prompts": Counts({"snow": 1, "none": 1}, 2, "images"),
        "brightness": Counts({"0.2": 1, "1.0": 1}, 2, "images"),
    }
