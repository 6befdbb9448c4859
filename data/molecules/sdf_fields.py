"""The data fields of the records of an SDF file, such as scores that another program wrote."""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from molrl.data.files import MAX_BYTES, open_file, suffix
from molrl.data.molecules.entries import MAX_RECORDS
from molrl.data.molecules.sdf import blocks

HEADER = re.compile(r">[^<]*<([^<>]+)>")  # such as ">  <logP>  (12)"


def read_field(path: str | Path, name: str) -> Mapping[int, str]:
    """Return the first line of a field of each record, by its number from 1; empty ones and records without are absent.

    Raises:
        ValueError: the file is no SDF, is missing, empty or binary, has more than one such field in a record, or has
            none in any.
    """
    if suffix(path) != ".sdf":
        raise ValueError(f"{path}: got the suffix {suffix(path)!r}, need .sdf or .sdf.gz, whose records have fields")
    open_file(path).close()
    values, known = dict[int, str](), set[str]()
    for block in blocks(path, MAX_RECORDS, MAX_BYTES):
        for field, value in fields_of(block.text):
            known.add(field)
            if field == name and value:
                if block.record in values:
                    raise ValueError(f"{path}: {block.where}: field {name!r} twice")
                values[block.record] = value
    if not values:
        raise ValueError(f"{path}: no field {name!r} with a value; it has {', '.join(sorted(known)[:20]) or 'none'}")
    return values


def fields_of(text: str) -> Iterator[tuple[str, str]]:
    """Yield the names of the fields of a record, with the first line of each."""
    for line, following in pairwise([*text.splitlines(), ""]):
        if found := HEADER.match(line):
            yield found[1], following.strip()
