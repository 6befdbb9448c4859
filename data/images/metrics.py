"""What becomes of images when they are optimised: darkness, colours, size as a file, likeness to each other."""

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from molrl.data.images.drawings import Caption, meanings, read_drawing
from molrl.data.images.image import CaptionedImage

DARK = 0.1  # of full brightness
LEVELS = 4  # of each colour in the histogram
THUMB = 8  # pixels of an edge of what images are compared by
QUALITY = 95


def image_metrics(samples: Sequence[CaptionedImage]) -> Mapping[str, float]:
    """Means over the images, all of them cheap.

    validity: share that are images at all; dark: share of dark pixels; colour_entropy: bits of the histogram of 64
    colours; bytes_per_pixel: as JPEG; uniqueness: share of different ones by a perceptual hash; diversity: mean
    distance of the thumbnails of two images of one prompt, in [0, 1]; for drawings also `caption_metrics`.
    """
    good = [sample for sample in samples if not sample.flaw]
    found = {"validity": len(good) / max(1, len(samples))}
    names = ("dark", "colour_entropy", "bytes_per_pixel", "uniqueness", "diversity")
    if not good:
        return found | dict.fromkeys(names, math.nan)
    found |= caption_metrics(good)
    thumbs = [thumbnail(sample) for sample in good]
    return {
        **found,
        "dark": float(np.mean([(sample.unit.max(2) < DARK).mean() for sample in good])),
        "colour_entropy": float(np.mean([colour_entropy(sample) for sample in good])),
        "bytes_per_pixel": float(np.mean([jpeg_bytes(s) / (s.pixels.shape[0] * s.pixels.shape[1]) for s in good])),
        "uniqueness": len({average_hash(thumb) for thumb in thumbs}) / len(good),
        "diversity": diversity(thumbs, [sample.prompt for sample in good]),
    }


def caption_metrics(samples: Sequence[CaptionedImage]) -> dict[str, float]:
    """Shares of the images whose colour, shape and background are what a drawing's caption asks for, and of those
    where all three are; nothing where not all of the prompts are such captions.
    """
    asked = [meanings().get(sample.prompt) for sample in samples]
    if None in asked:
        return {}
    pairs = [(read_drawing(sample), caption) for sample, caption in zip(samples, asked, strict=True)]
    parts = {
        f"right_{part}": float(np.mean([getattr(seen, part) == getattr(caption, part) for seen, caption in pairs]))
        for part in Caption._fields
    }
    return {**parts, "right": float(np.mean([seen == caption for seen, caption in pairs]))}


def jpeg_bytes(image: CaptionedImage, quality: int = QUALITY) -> int:
    """Size as a JPEG file (Pillow, its default chroma sub-sampling)."""
    file = io.BytesIO()
    Image.fromarray(image.pixels).save(file, "JPEG", quality=quality)
    return len(file.getvalue())


def colour_entropy(image: CaptionedImage) -> float:
    """Bits of the histogram over LEVELS^3 colours: 0 for one colour, 6 for all alike."""
    bins = (image.pixels.astype(np.int64) * LEVELS // 256).reshape(-1, 3) @ np.array([1, LEVELS, LEVELS**2])
    share = np.bincount(bins, minlength=LEVELS**3) / len(bins)
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


def thumbnail(image: CaptionedImage) -> NDArray[np.float64]:
    """THUMB x THUMB colours in [0, 1]."""
    small = Image.fromarray(image.pixels).resize((THUMB, THUMB), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64) / 255


def average_hash(thumb: NDArray[np.float64]) -> bytes:
    """Which parts are brighter than the whole, for each colour, with the mean colour to a sixteenth."""
    mean = thumb.mean((0, 1))
    return bytes(np.packbits(thumb > mean)) + bytes((mean * 16).astype(np.uint8))


def diversity(thumbs: Sequence[NDArray[np.float64]], prompts: Sequence[str]) -> float:
    """Mean root mean square distance of two thumbnails of one prompt; of any two where no prompt has two."""
    flat = np.stack([thumb.ravel() for thumb in thumbs])
    square = (flat**2).sum(1)
    distance = np.sqrt(np.maximum(square[:, None] + square - 2 * flat @ flat.T, 0) / flat.shape[1])
    names = np.array(prompts)
    other = ~np.eye(len(flat), dtype=bool)
    pairs = (names[:, None] == names) & other
    pairs = pairs if pairs.any() else other
    return float(distance[pairs].mean()) if pairs.any() else math.nan
