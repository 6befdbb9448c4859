"""Bare points as text (.xyz, .txt, .pts): a line for each, with three numbers or more."""

import re
from array import array
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.mesh import MAX_VERTICES, ShapeError
from molrl.data.shapes.text import decode_lines, parse_point

NUMBER = re.compile(r"[+-]?[\d.]\S*$")
DECIMAL = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")


def parse_xyz(data: bytes) -> NDArray[np.float64]:
    """Parse points [n, 3], in columns separated by blanks, commas or semicolons.

    Further columns, such as normals and colours, are ignored, as are what follows a #, lines that begin with // and a
    first line of names that begins with x, y, z. A line of one whole number announces as many points, as in the PTS
    files of laser scanners; after the first of these the line of text of an XYZ file may come. A comma is a decimal
    sign where blanks or semicolons separate the columns.

    Raises ShapeError for another number of points than announced, and for commas that are signs of both kinds.
    """
    points, decimal, announced = array("d"), set[bool | None](), array("q")
    for number, line in enumerate(decode_lines(data)):
        text = line.partition("#")[0].strip()
        if not text or text.startswith("//"):
            continue
        words, sign = split_columns(text)
        decimal |= {sign} - {None}
        if len(words) == 1 and words[0].isdecimal() and sum(announced) == len(points) // 3:
            announced.append(int(words[0][:12]))
        elif not is_caption(words, number, announced, points):
            points.extend(parse_point(words))
        if len(points) > 3 * MAX_VERTICES:
            raise ShapeError(f"more than {MAX_VERTICES} points")
    if len(decimal) == 2:
        raise ShapeError("commas as decimal signs and as separators")
    if announced and sum(announced) != len(points) // 3:
        raise ShapeError(f"{sum(announced)} points announced, {len(points) // 3} there")
    return np.array(points).reshape(-1, 3)


def begins_with_points(data: bytes) -> bool:
    """Return whether the first line of a text that is no comment begins with a number or names x, y and z."""
    for line in decode_lines(data):
        text = line.partition("#")[0].strip()
        if text and not text.startswith("//"):
            words = re.split(r"[\s,;]+", text)
            return bool(NUMBER.match(words[0])) or [word.lower() for word in words[:3]] == ["x", "y", "z"]
    return False


def is_caption(words: list[str], number: int, announced: "array[int]", points: "array[float]") -> bool:
    """Return whether a line has the names of the columns, or the text of an XYZ file."""
    names = [word.lower() for word in words[:3]] == ["x", "y", "z"]
    if points:
        return False
    return names or (number == 1 and len(announced) == 1 and not NUMBER.match(words[0]))


def split_columns(text: str) -> tuple[list[str], bool | None]:
    """Return the words of a line and whether its commas are decimal signs, None if it has none."""
    words = text.replace(";", " ").split()
    if "," not in text:
        return words, None
    if all(first.endswith(",") or second.startswith(",") for first, second in pairwise(words)):
        return text.replace(",", " ").replace(";", " ").split(), False
    signed = [word for word in words if "," in word]
    if not all(DECIMAL.fullmatch(word) for word in signed):
        raise ShapeError(f"commas as decimal signs or as separators: {text[:40]!r}")
    return [word.replace(",", ".") for word in words], True
