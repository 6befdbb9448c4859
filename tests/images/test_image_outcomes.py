"""The descriptors of images by which a run keeps variety."""

from typing import Any

import numpy as np
import pytest
import torch

from molrl.data.images.image import CaptionedImage
from molrl.models.images.outcomes import describe_image


def halves(left: int, right: int, prompt: str = "a cat", flaw: str = "") -> CaptionedImage:
    """Return an image of two grey halves."""
    pixels = np.full((16, 16, 3), left, np.uint8)
    pixels[:, 8:] = right
    return CaptionedImage(pixels, prompt, flaw)


def test_the_thumbnail_by_hand() -> None:
    """Each row of 4 pixels in 3 channels is dark, dark, bright, bright: 000000111111; the mean is 2 quarters."""
    assert describe_image(halves(0, 255)) == {"bucket": f"{'03f' * 4}222 a cat", "prompt": "a cat"}


def test_images_that_look_alike_share_a_bucket_and_others_do_not() -> None:
    one = describe_image(halves(2, 250))["bucket"]
    assert one == describe_image(halves(5, 252))["bucket"]
    assert one != describe_image(halves(250, 2))["bucket"]
    assert one != describe_image(halves(2, 250, "a dog"))["bucket"]


def test_an_image_with_a_flaw_has_no_descriptors() -> None:
    assert describe_image(halves(0, 0, flaw="not finite")) == {}


def test_an_image_under_a_gradient_is_refused() -> None:
    traced: Any = torch.zeros(3, 16, 16, requires_grad=True)
    with pytest.raises(ValueError, match="images that carry a gradient"):
        describe_image(traced)
