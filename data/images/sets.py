"""Training sets of images with captions, and their sources."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from molrl.data.images.captioned_files import read_captioned
from molrl.data.images.drawings import WORDS, Drawings, captions
from molrl.data.images.image import CaptionedImage
from molrl.data.images.scenes import RELATION_WORDS, SCENE_WORDS, Scenes, scene_prompts

MIN_WORD_COUNT = 2  # captions that a word must be in to be one token; others are spelt
NUM_HELD_OUT = 256  # scenes


@dataclass(frozen=True)
class ImageSet:
    """A training set.

    Attributes:
        train: images with their captions as prompts.
        texts: the prompts that reports use.
        words: words that are one token each.
        held_out: images to test with.
        progress_metrics: the measured figures of the progress line: label -> name of the metric.
        autoencoded: images that an autoencoder is trained with; empty: `train`.
    """

    train: Sequence[CaptionedImage]
    texts: Sequence[str]
    words: Sequence[str]
    held_out: Sequence[CaptionedImage] = ()
    progress_metrics: Mapping[str, str] = field(default_factory=dict)
    autoencoded: Sequence[CaptionedImage] = ()


def drawing_set(*, n: int, seed: int, edge: int) -> ImageSet:
    """Return the first n drawings with training captions; reports use all of these captions.

    Args:
        n: the number of drawings.
        seed: of the drawings.
        edge: of an image, in pixels.
    """
    check_count(n)
    drawings = Drawings(seed=seed, edge=edge)
    return ImageSet(
        [drawings[index] for index in range(n)],
        captions(held_out=False),
        WORDS,
        progress_metrics={
            "right colour": "right_colour",
            "right shape": "right_shape",
            "right background": "right_background",
            "all": "right",
        },
    )


def scene_set(*, n: int, seed: int, edge: int, path: str | None, repeats: int, held_out: float) -> ImageSet:
    """Return n scenes, and images of a user's own with their captions; reports use captions of scenes of every kind.

    Half of the images for the autoencoder are the user's own, which are harder to encode than scenes.

    Args:
        n: the number of scenes.
        seed: of the scenes.
        edge: of an image, in pixels.
        path: a folder or zip archive of captioned images (`read_captioned`); None: scenes alone.
        repeats: how often each of those images occurs.
        held_out: fraction of those images that is held out to test with.
    """
    check_count(n)
    if repeats < 1:
        raise ValueError(f"repeats: got {repeats}, need at least 1")
    others = None if path is None else captioned_set(path=path, held_out=held_out, edge=edge)
    scenes, tests = Scenes(seed, edge), Scenes(seed, edge, held_out=True)
    drawn = [scenes[index] for index in range(n)]
    own = [] if others is None else [*others.train] * repeats
    return ImageSet(
        [*drawn, *own],
        scene_prompts(held_out=False),
        tuple(dict.fromkeys([*SCENE_WORDS, *RELATION_WORDS, *(() if others is None else others.words)])),
        [*(tests[index] for index in range(NUM_HELD_OUT)), *(() if others is None else others.held_out)],
        {"right colours": "right_colours", "right shapes": "right_shapes", "all": "right"},
        [*drawn[: len(own)], *own],
    )


def captioned_set(*, path: str, held_out: float, edge: int) -> ImageSet:
    """Return the captioned images of a folder or zip archive; reports use their captions.

    Args:
        path: of the folder or archive (`read_captioned`).
        held_out: fraction that is held out to test with, all or none of the images of one caption.
        edge: of an image, in pixels; those of another size are resized.
    """
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out: got {held_out}, allowed 0 to below 1")
    images = read_captioned(path, edge)
    train = [image for image in images if not is_held_out(image.prompt, held_out)]
    if not train:
        raise ValueError(f"held_out: got {held_out}, which holds out all {len(images)} images of {path}")
    texts = tuple(dict.fromkeys(image.prompt for image in train))
    tests = [image for image in images if is_held_out(image.prompt, held_out)]
    return ImageSet(train, texts, frequent_words(texts), tests)


def check_count(n: int) -> None:
    """Raise ValueError for a number of images below 1."""
    if n < 1:
        raise ValueError(f"n: got {n}, need at least 1")


def is_held_out(caption: str, fraction: float) -> bool:
    """Tell whether a caption is held out, by a hash of it alone."""
    digest = hashlib.sha256(caption.encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def frequent_words(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the words of letters a to z that occur in several texts, the most frequent first."""
    counts = Counter(word for text in texts for word in set(re.findall(r"[a-z]+", text.lower())))
    frequent = [word for word, count in counts.items() if count >= MIN_WORD_COUNT]
    return tuple(sorted(frequent, key=lambda word: (-counts[word], word)))
