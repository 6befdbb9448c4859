"""Captioned images of a folder or a zip archive: image files, and a table that names each one with its caption.

Files are read as data only, within bounds, never through a link, and never outside the folder or archive.
"""

import csv
import io
import json
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from molrl.data.files import reason_of
from molrl.data.images.image import CaptionedImage
from molrl.machine.files import open_regular, read_bounded

TABLES = ("captions.json", "captions.csv", "metadata.csv", "index.tsv")  # the first that is there is read
CAPTION_KEYS = ("caption", "text", "prompt")  # the first that a row has
FILE_KEYS = ("file", "file_name")
FORMATS = ("PNG", "JPEG", "WEBP")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MAX_IMAGES = 200_000
MAX_TABLE_BYTES = 1 << 28
MAX_IMAGE_BYTES = 1 << 25  # of one file, after decompression of the archive
MAX_PIXELS = 1 << 25  # of one image
MAX_CAPTION = 2000  # letters


class Store(Protocol):
    """The files of a folder or of an archive."""

    def has(self, name: str) -> bool:
        """Tell whether there is a file of this name."""
        ...

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return the content of a file."""
        ...

    def names(self) -> list[str]:
        """Return the names of all files, sorted."""
        ...


@dataclass(frozen=True)
class Folder:
    """The files below a folder."""

    path: Path

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def read(self, name: str, max_bytes: int) -> bytes:
        place = self.path / name
        if not place.resolve().is_relative_to(self.path.resolve()):
            raise ValueError(f"{name}: leads out of the folder")
        return read_bounded(place, max_bytes)

    def names(self) -> list[str]:
        return sorted(place.relative_to(self.path).as_posix() for place in self.path.rglob("*") if place.is_file())


@dataclass(frozen=True)
class Archive:
    """The members of a zip archive."""

    members: zipfile.ZipFile

    def has(self, name: str) -> bool:
        return name in self.members.NameToInfo

    def read(self, name: str, max_bytes: int) -> bytes:
        with self.members.open(name) as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise ValueError(f"{name}: unpacks to more than {max_bytes} bytes")
        return content

    def names(self) -> list[str]:
        return sorted(name for name, info in self.members.NameToInfo.items() if not info.is_dir())


def read_captioned(path: str | Path, edge: int | None = None) -> list[CaptionedImage]:
    """Read the images of a folder or zip archive with their captions, in the order of its table.

    The table is captions.json, a list of objects or an object of file names and captions; or captions.csv,
    metadata.csv or index.tsv with a header. A row has "file" or "file_name", and "caption", "text" or "prompt".

    Args:
        path: the folder or archive.
        edge: resize to edge x edge pixels, after filling up the shorter sides with white; None: as they are.

    Raises:
        ValueError: the path, its table or an image cannot be read, or a caption is missing; nothing is skipped.
    """
    with opened(Path(path)) as store:
        if (captions := read_captions(store)) is None:
            raise ValueError(f"no table of captions, need one of {', '.join(TABLES)}")
        return [CaptionedImage(read_pixels(store, file, edge), caption) for file, caption in captions.items()]


@contextmanager
def opened(path: Path) -> Iterator[Store]:
    """Open a folder or a zip archive, and name it in every error of what is in it."""
    try:
        if path.is_dir():
            yield Folder(path)
            return
        with open_regular(path, follow=True) as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("neither a folder nor a zip archive")
            with zipfile.ZipFile(file) as members:
                yield Archive(members)
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: {reason_of(error)}") from None


def read_captions(store: Store) -> dict[str, str] | None:
    """Return the captions of a folder's or archive's table by file, in its order; None where there is no table."""
    table = next((name for name in TABLES if store.has(name)), None)
    return None if table is None else read_table(store.read(table, MAX_TABLE_BYTES), table)


def read_table(content: bytes, name: str) -> dict[str, str]:
    """Return the captions of a table by file, in order.

    Raises:
        ValueError: it is no such table, or one of its rows has no file, no caption, or a file that came before.
    """
    text = content.decode("utf-8-sig")
    rows = json_rows(text, name) if name.endswith(".json") else separated_rows(text, "\t" if ".tsv" in name else ",")
    if not 0 < len(rows) <= MAX_IMAGES:
        raise ValueError(f"{name}: {len(rows)} rows, need 1 to {MAX_IMAGES}")
    pairs = [read_row(row, f"{name}, row {number}") for number, row in enumerate(rows, 1)]
    twice = [file for file, count in Counter(file for file, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"{name}: {twice[0]} has more than one row")
    return dict(pairs)


def json_rows(text: str, name: str) -> Sequence[Any]:
    """Return the rows of a JSON list, or of an object that has a caption for each file."""
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{name}: no JSON: {error}") from None
    if isinstance(content, dict):
        return [{"file": file, "caption": caption} for file, caption in content.items()]
    if not isinstance(content, list):
        raise ValueError(f"{name}: need a list of rows, or an object of files and captions")
    return content


def separated_rows(text: str, delimiter: str) -> Sequence[Any]:
    """Return the rows of a table with a header."""
    try:
        return list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
    except csv.Error as error:
        raise ValueError(f"no table: {error}") from None


def read_row(row: Any, where: str) -> tuple[str, str]:
    """Return the file and the caption of a row."""
    if not isinstance(row, Mapping):
        raise ValueError(f"{where}: need an object with a file and a caption")
    values = [next((row[key] for key in keys if row.get(key)), None) for keys in (FILE_KEYS, CAPTION_KEYS)]
    for value, keys in zip(values, (FILE_KEYS, CAPTION_KEYS), strict=True):
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{where}: no {keys[0]}; need text under one of {', '.join(keys)}")
    file, caption = str(values[0]), " ".join(str(values[1]).split())
    if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts or "\\" in file or "\0" in file:
        raise ValueError(f"{where}: file {file!r} leads elsewhere, need a name within the folder or archive")
    if len(caption) > MAX_CAPTION:
        raise ValueError(f"{where}: a caption of {len(caption)} letters, at most {MAX_CAPTION}")
    return file, caption


def read_pixels(store: Store, file: str, edge: int | None) -> NDArray[np.uint8]:
    """Return the pixels of an image file [height, width, 3], on white where it is transparent."""
    if not store.has(file):
        raise ValueError(f"{file}: there is no such file")
    try:
        return decode_pixels(store.read(file, MAX_IMAGE_BYTES), edge)
    except Exception as error:  # of the archive, too
        raise ValueError(f"{file}: no image of {', '.join(FORMATS)} that can be read: {error}") from None


def decode_pixels(content: bytes, edge: int | None) -> NDArray[np.uint8]:
    """Return the pixels of an image [height, width, 3], on white where it is transparent.

    Raises:
        Exception: of many kinds, as Pillow's decoders raise them for damaged files.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the bound below is lower
        with open_image(content) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, at most {MAX_PIXELS} in all")
            opaque = on_white(image)
    return np.array(opaque if edge is None else fit_square(opaque, edge), dtype=np.uint8)


def open_image(content: bytes) -> Image.Image:
    """Open an image of an allowed format, without reading its pixels."""
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:  # its message has the address of an object
        raise ValueError("another format") from None


def on_white(image: Image.Image) -> Image.Image:
    """Return an image in RGB, on white where it is transparent."""
    layer = image.convert("RGBA")
    page = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(page, layer).convert("RGB")


def fit_square(image: Image.Image, edge: int) -> Image.Image:
    """Return an image in the middle of a white square of its longer side, resized to edge x edge."""
    if image.size == (edge, edge):
        return image
    side = max(image.size)
    page = Image.new("RGB", (side, side), "white")
    page.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return page.resize((edge, edge), Image.Resampling.LANCZOS)
