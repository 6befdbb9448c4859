"""Metrics of images under optimisation: darkness, colours, file size, uniqueness and diversity."""

import io
import math
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from molrl.data.images.drawings import Caption, captions_by_text, read_drawing
from molrl.data.images.image import CaptionedImage
from molrl.data.images.scene_reader import match_scene
from molrl.data.images.scenes import is_held_out_scene, scenes_by_text

DARK_THRESHOLD = 0.1  # of full brightness
COLOUR_LEVELS = 4  # of each channel in the histogram
THUMBNAIL_EDGE = 8  # pixels of an edge of the thumbnails that images are compared by
JPEG_QUALITY = 95


def image_metrics(samples: Sequence[CaptionedImage]) -> Mapping[str, float]:
    """Compute means over the images, all of them cheap.

    validity: fraction of images without a flaw; dark: fraction of dark pixels; colour_entropy: bits of the histogram of
    64 colours; bytes_per_pixel: size as JPEG; uniqueness: fraction of distinct ones by a perceptual hash; diversity:
    mean distance of the thumbnails of two images of one prompt, in [0, 1]; for drawings also `caption_metrics`.
    """
    good = [sample for sample in samples if not sample.flaw]
    metrics = {"validity": len(good) / max(1, len(samples))}
    names = ("dark", "colour_entropy", "bytes_per_pixel", "uniqueness", "diversity")
    if not good:
        return metrics | dict.fromkeys(names, math.nan)
    metrics |= caption_metrics(good)
    thumbs = [thumbnail(sample) for sample in good]
    return {
        **metrics,
        "dark": float(np.mean([(sample.unit.max(2) < DARK_THRESHOLD).mean() for sample in good])),
        "colour_entropy": float(np.mean([colour_entropy(sample) for sample in good])),
        "bytes_per_pixel": float(np.mean([jpeg_bytes(s) / (s.pixels.shape[0] * s.pixels.shape[1]) for s in good])),
        "uniqueness": len({average_hash(thumb) for thumb in thumbs}) / len(good),
        "diversity": diversity(thumbs, [sample.prompt for sample in good]),
    }


def caption_metrics(samples: Sequence[CaptionedImage]) -> dict[str, float]:
    """Compute the fractions of drawings with the colour, shape and background of the caption, and with all three.

    Of scenes see `scene_metrics`. Returns nothing unless all prompts are captions of drawings, or all of scenes.
    """
    if all(sample.prompt in scenes_by_text() for sample in samples):
        return scene_metrics(samples)
    captions = [captions_by_text().get(sample.prompt) for sample in samples]
    if None in captions:
        return {}
    pairs = [(read_drawing(sample), caption) for sample, caption in zip(samples, captions, strict=True)]
    parts = {
        f"right_{part}": float(np.mean([getattr(seen, part) == getattr(caption, part) for seen, caption in pairs]))
        for part in Caption._fields
    }
    return {**parts, "right": float(np.mean([seen == caption for seen, caption in pairs]))}


def scene_metrics(samples: Sequence[CaptionedImage]) -> dict[str, float]:
    """Compute the mean fractions of right colours and shapes, and the fraction of scenes where all is right.

    The last one also for each kind of caption that there is: right_count and so on; right_held_out is that of captions
    with a thing that no training image shows.
    """
    captions = [scenes_by_text()[sample.prompt] for sample in samples]
    matches = [match_scene(sample, caption) for sample, caption in zip(samples, captions, strict=True)]
    names = [[f"right_{caption.kind}", *(["right_held_out"] * is_held_out_scene(caption))] for caption in captions]
    right_by_name: dict[str, list[bool]] = {name: [] for name in ("right", *sorted({*chain.from_iterable(names)}))}
    for match, own in zip(matches, names, strict=True):
        for name in ("right", *own):
            right_by_name[name].append(match.right)
    return {
        "right_colours": float(np.mean([match.colour for match in matches])),
        "right_shapes": float(np.mean([match.shape for match in matches])),
        **{name: float(np.mean(right)) for name, right in right_by_name.items()},
    }


def jpeg_bytes(image: CaptionedImage, quality: int = JPEG_QUALITY) -> int:
    """Return the size as a JPEG file in bytes (Pillow, its default chroma subsampling)."""
    file = io.BytesIO()
    Image.fromarray(image.pixels).save(file, "JPEG", quality=quality)
    return len(file.getvalue())


def colour_entropy(image: CaptionedImage) -> float:
    """Return the entropy in bits of the histogram over COLOUR_LEVELS^3 colours: 0 for one colour, 6 if uniform."""
    bins = (image.pixels.astype(np.int64) * COLOUR_LEVELS // 256).reshape(-1, 3) @ np.array(
        [1, COLOUR_LEVELS, COLOUR_LEVELS**2]
    )
    fractions = np.bincount(bins, minlength=COLOUR_LEVELS**3) / len(bins)
    fractions = fractions[fractions > 0]
    return float(-(fractions * np.log2(fractions)).sum())


def thumbnail(image: CaptionedImage) -> NDArray[np.float64]:
    """Return THUMBNAIL_EDGE x THUMBNAIL_EDGE colours in [0, 1], [edge, edge, 3]."""
    small = Image.fromarray(image.pixels).resize((THUMBNAIL_EDGE, THUMBNAIL_EDGE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64) / 255


def average_hash(thumb: NDArray[np.float64]) -> bytes:
    """Return a perceptual hash: where each channel is above its mean, and the mean colour in sixteenths."""
    mean = thumb.mean((0, 1))
    return bytes(np.packbits(thumb > mean)) + bytes((mean * 16).astype(np.uint8))


def diversity(thumbs: Sequence[NDArray[np.float64]], prompts: Sequence[str]) -> float:
    """Return the mean RMS distance of two thumbnails of one prompt, or of any two if no prompt has two."""
    flat = np.stack([thumb.ravel() for thumb in thumbs])
    square = (flat**2).sum(1)
    distance = np.sqrt(np.maximum(square[:, None] + square - 2 * flat @ flat.T, 0) / flat.shape[1])
    names = np.array(prompts)
    other = ~np.eye(len(flat), dtype=bool)
    pairs = (names[:, None] == names) & other
    pairs = pairs if pairs.any() else other
    return float(distance[pairs].mean()) if pairs.any() else math.nan
