"""The images of a file, a folder or a zip archive one by one, as records that may be damaged.

Worker processes import this module, so it must not import torch.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from molrl.data.files import Skipped, reason_of, suffix
from molrl.data.images.captioned_files import (
    FORMATS,
    IMAGE_SUFFIXES,
    MAX_IMAGE_BYTES,
    MAX_IMAGES,
    TABLES,
    Folder,
    decode_pixels,
    opened,
    read_captions,
)
from molrl.data.images.image import CaptionedImage


class ImageRecord(NamedTuple):
    """An image that is not decoded yet.

    Attributes:
        name: of its file.
        caption: "" where there is none.
        content: of the file.
        problem: why there is no content; "" where there is.
        line: 0, since such a file has no lines.
    """

    name: str
    caption: str
    content: bytes
    problem: str
    line: int = 0


def image_records(path: Path) -> Iterator[ImageRecord]:
    """Yield the records of an image file, or of a folder or zip archive in the order of its table of captions.

    Without a table (`read_captioned`) they are all image files, sorted by name, without captions.

    Raises:
        ValueError: at once: the path or its table cannot be read, or there is no image.
    """
    if suffix(path) in IMAGE_SUFFIXES and path.is_file():
        return read_records(path.parent, {path.name: ""})
    with opened(path) as store:
        captions = read_captions(store)
        if captions is None:
            captions = {name: "" for name in store.names() if suffix(name) in IMAGE_SUFFIXES}
        if not 0 < len(captions) <= MAX_IMAGES:
            raise ValueError(f"{len(captions)} images, need 1 to {MAX_IMAGES} or a table, one of {', '.join(TABLES)}")
    return read_records(path, captions)


def read_records(path: Path, captions: Mapping[str, str]) -> Iterator[ImageRecord]:
    """Yield the records of these files of a folder or archive."""
    with opened(path) as store:
        for name, caption in captions.items():
            try:
                yield ImageRecord(name, caption, store.read(name, MAX_IMAGE_BYTES), "")
            except Exception as error:  # of damaged archives, too: the other records can be read
                yield ImageRecord(name, caption, b"", reason_of(error))


def read_image(record: ImageRecord) -> CaptionedImage | Skipped:
    """Return the image of a record, or the reason why there is none."""
    if record.problem:
        return Skipped(record.name, record.problem)
    try:
        return CaptionedImage(decode_pixels(record.content, None), record.caption)
    except Exception as error:  # Pillow's decoders raise many kinds
        return Skipped(record.name, f"no image of {', '.join(FORMATS)} that can be read: {error}")


def image_files(path: Path) -> list[tuple[Path, str]]:
    """Return the files that a path stands for, each with its name among them."""
    if not path.is_dir():
        return [(path, path.name)]
    store = Folder(path)
    return [(path / name, name) for name in store.names() if suffix(name) in IMAGE_SUFFIXES or name in TABLES]
