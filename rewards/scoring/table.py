"""The table of a scoring run: rows that are appended as they come and can be read back, in the format of a suffix."""

import csv
import gzip
import io
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, Any, NamedTuple

from molrl.config import ConfigError
from molrl.data.molecules.sdf import replace_properties

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run
SUFFIXES = (".csv", ".csv.gz", ".sdf", ".sdf.gz", ".parquet")
BLANK = "\n\n\n  0  0  0  0  0  0  0  0  0  0999 V2000\nM  END"
ROWS_AT_ONCE = 20_000
LONGEST = 20_000  # characters of a text; the csv module reads 131,072


class Row(NamedTuple):
    """What a table says of one record.

    Attributes:
        record: its number, from 1.
        line: where it begins in its file, from 1; 0 where a file has no lines.
        label: what it is: the SMILES of a molecule, the class of a shape.
        cells: numbers as text by column, "" for none.
        reason: why cells are empty.
        text: the record for an SDF file; "" when there is no molecule.
    """

    record: int
    line: int
    name: str
    label: str
    cells: Mapping[str, str]
    reason: str
    text: str = ""


@dataclass(frozen=True)
class Table(ABC):
    """Rows as bytes and back.

    Attributes:
        columns: of the numbers.
        label: the column of what a sample is.
    """

    columns: tuple[str, ...]
    label: str = "smiles"
    digits = ".6g"

    @property
    @abstractmethod
    def header(self) -> bytes:
        """What comes before the first row."""

    @abstractmethod
    def encode(self, row: Row) -> bytes:
        """A row."""

    @abstractmethod
    def decode(self, file: IO[bytes]) -> Iterator[tuple[Row, int]]:
        """The rows, as far as they are whole and in order, each with the place where it ends; without their texts."""

    def cell(self, value: float) -> str:
        """A number as text."""
        return format(value, self.digits)


class CSVTable(Table):
    """One line for each record; nothing in it is a formula for a spreadsheet."""

    @property
    def header(self) -> bytes:
        return self.line(["record", "line", "name", self.label, *self.columns, "reason"])

    def encode(self, row: Row) -> bytes:
        texts = [self.text(row.name), self.text(row.label)]
        numbers = [row.cells[column] for column in self.columns]
        return self.line([str(row.record), str(row.line or ""), *texts, *numbers, self.text(row.reason)])

    def decode(self, file: IO[bytes]) -> Iterator[tuple[Row, int]]:
        if (start := file.readline()) != self.header:
            return
        end = len(start)
        for number, line in enumerate(file, 1):
            end += len(line)
            cells = next(csv.reader([line.decode(errors="replace")]), [])
            if not line.endswith(b"\n") or len(cells) != len(self.columns) + 5 or cells[0] != str(number):
                return
            record, place, name, label, *numbers, reason = cells
            cells_by_name = dict(zip(self.columns, numbers, strict=True))
            yield Row(int(record), int(place or 0), name, label, cells_by_name, reason), end

    def line(self, cells: Sequence[str]) -> bytes:
        """Cells as one line."""
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerow(cells)
        return buffer.getvalue().encode(errors="replace")

    def text(self, text: str) -> str:
        """A text that came from a file, on one line, as a cell that no spreadsheet takes for a formula."""
        plain = " ".join(text.split())[:LONGEST]
        return f"'{plain}" if plain.startswith(FORMULA_STARTS) else plain


class ExactTable(CSVTable):
    """The same with nothing changed or rounded, to be made into something else."""

    digits = ".17g"

    def text(self, text: str) -> str:
        return " ".join(text.split())[:LONGEST]


class SDFTable(Table):
    """The molecules with numbers and reasons as properties; a record without a molecule has no atoms."""

    @property
    def header(self) -> bytes:
        return b""

    def encode(self, row: Row) -> bytes:
        fields = {"molrl_record": str(row.record), "molrl_line": str(row.line or ""), "molrl_reason": row.reason}
        text = row.text or " ".join(row.name.split())[:80] + BLANK
        return replace_properties(text, {**row.cells, **fields}).encode(errors="replace")

    def decode(self, file: IO[bytes]) -> Iterator[tuple[Row, int]]:
        end, number, lines = 0, 1, list[str]()
        for line in file:
            end += len(line)
            if line != b"$$$$\n":
                lines.append(line.decode(errors="replace").rstrip("\n"))
                continue
            found = data_of(lines)
            if found.get("molrl_record") != str(number):
                return
            cells = {column: found.get(column, "") for column in self.columns}
            place, reason = int(found.get("molrl_line", "0")), found.get("molrl_reason", "")
            yield Row(number, place, lines[0], "", cells, reason), end
            number, lines = number + 1, []


def data_of(lines: Sequence[str]) -> dict[str, str]:
    """The first lines of the properties of an SDF record."""
    start = next((row for row, line in enumerate(lines) if line.startswith("M  END")), len(lines))
    return {key[4:-1]: value for key, value in pairwise(lines[start:]) if key.startswith(">  <")}


class Output(NamedTuple):
    """How a file is written: as a table that grows, and perhaps with a last step from there to the file."""

    table: Table
    last_step: Callable[[Table, Path, Path], None] | None


def output(path: str | Path, columns: tuple[str, ...], label: str, allowed: Sequence[str]) -> Output:
    """What the suffix of a file asks for.

    Args:
        label: the column of what a sample is.
        allowed: suffixes.

    Raises:
        ConfigError: a suffix that is not allowed, or that needs a package that is not installed.
    """
    name = Path(path).name.lower()
    if not name.endswith(tuple(allowed)):
        raise ConfigError(f"out={path}: unknown suffix, allowed are {', '.join(allowed)}")
    if name.endswith(".parquet"):
        if find_spec("pyarrow") is None:
            raise ConfigError(f"out={path}: Parquet needs pyarrow: pip install 'molrl[parquet]'")
        return Output(ExactTable(columns, label), to_parquet)
    last_step = compress if name.endswith(".gz") else None
    table = SDFTable if Path(name.removesuffix(".gz")).suffix == ".sdf" else CSVTable
    return Output(table(columns, label), last_step)


def compress(_: Table, part: Path, ready: Path) -> None:
    """A table as a gzip file, the same bytes whenever it is made."""
    with part.open("rb") as source, ready.open("wb") as file:
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            shutil.copyfileobj(source, packed, 1 << 20)
        os.fsync(file.fileno())


def to_parquet(table: Table, part: Path, ready: Path) -> None:
    """A table as a Parquet file: numbers as doubles, null for what is missing."""
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    texts = {name: arrow.string() for name in ("name", table.label, "reason")}
    numbers = dict.fromkeys(table.columns, arrow.float64())
    order = ["record", "line", "name", table.label, *table.columns, "reason"]
    types = {"record": arrow.int64(), "line": arrow.int64(), **numbers, **texts}
    schema = arrow.schema([(name, types[name]) for name in order])
    with part.open("rb") as source, parquet.ParquetWriter(str(ready), schema) as writer:
        rows = table.decode(source)
        while some := [flat(row, table.label) for row, _ in islice(rows, ROWS_AT_ONCE)]:
            writer.write_table(arrow.Table.from_pylist(some, schema=schema))


def flat(row: Row, label: str) -> dict[str, Any]:
    """A row with None for what is missing."""
    numbers = {column: float(cell) if cell else None for column, cell in row.cells.items()}
    texts = {"name": row.name, label: row.label, "reason": row.reason}
    given = {name: text or None for name, text in texts.items()}
    return {"record": row.record, "line": row.line or None, **given, **numbers}


def joint_reason(reasons: Mapping[str, str], rewards: Sequence[str]) -> str:
    """Why cells of a row are empty: one reason if it holds for all rewards, else each with its reward."""
    plain = {name: " ".join(reason.split()).replace("; ", ", ") for name, reason in reasons.items()}
    if len(plain) == len(rewards) and len(set(plain.values())) == 1:
        return next(iter(plain.values()))
    return "; ".join(f"{name}: {reason}" for name, reason in plain.items())


def single_reasons(joint: str, rewards: Sequence[str]) -> dict[str, str]:
    """The reason for each reward that has one: what `joint_reason` joined."""
    if not joint:
        return {}
    names = "|".join(map(re.escape, rewards))
    found = [re.fullmatch(f"({names}): (.*)", piece, re.DOTALL) for piece in re.split(f"; (?=(?:{names}): )", joint)]
    if all(found):
        return {match[1]: match[2] for match in found if match}
    return dict.fromkeys(rewards, joint)
