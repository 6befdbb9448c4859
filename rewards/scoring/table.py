"""The table of a scoring run: rows that are appended one by one and can be read back, in the format of a suffix."""

import csv
import gzip
import io
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple, TypeAlias

from molrl.config import ConfigError
from molrl.machine.files import open_regular, staged
from molrl.machine.printable import printable

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # first characters of cells that a spreadsheet would evaluate
ROW_GROUP_SIZE = 20_000  # rows of a Parquet file that are written together
MAX_TEXT_LENGTH = 20_000  # characters of a cell; the csv module reads 131,072


class Row(NamedTuple):
    """The row of one record in a table.

    Attributes:
        record: its number, from 1.
        line: where it begins in its file, from 1; 0 where a file has no lines.
        label: identifies the sample, for instance by its class.
        cells: numbers as text by column, "" for none.
        reason: why cells are empty.
        text: the record itself, for tables that need it; "" when it holds no sample.
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
    """A file format: it encodes rows as bytes and decodes them.

    Attributes:
        columns: of the numbers.
        label: the name of the column of labels.
        digits: the format of numbers.
        needs_text: rows need the text of their record.
    """

    columns: tuple[str, ...]
    label: str
    digits: ClassVar[str] = ".6g"
    needs_text: ClassVar[bool] = False

    @property
    @abstractmethod
    def header(self) -> bytes:
        """Return the bytes before the first row."""

    @abstractmethod
    def encode(self, row: Row) -> bytes:
        """Return a row as bytes."""

    @abstractmethod
    def decode(self, file: IO[bytes]) -> Iterator[tuple[Row, int]]:
        """Yield the rows that are complete and in order, without their texts, each with the offset of its end."""

    def cell(self, value: float) -> str:
        """Return a number as text."""
        return format(value, self.digits)


class CSVTable(Table):
    """One line for each record; no cell is a formula for a spreadsheet."""

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
        """Return cells as one line."""
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerow(cells)
        return buffer.getvalue().encode(errors="replace")

    def text(self, text: str) -> str:
        """Return a text from a file on one line, quoted where a spreadsheet would take it for a formula."""
        plain = printable(" ".join(text.split()))[:MAX_TEXT_LENGTH]
        return f"'{plain}" if plain.startswith(FORMULA_STARTS) else plain


class ExactTable(CSVTable):
    """A CSV table with texts unquoted and numbers in full precision, from which other formats are made."""

    digits = ".17g"

    def text(self, text: str) -> str:
        return printable(" ".join(text.split()))[:MAX_TEXT_LENGTH]


TABLES: Mapping[str, type[Table]] = {".csv": CSVTable, ".csv.gz": CSVTable, ".parquet": ExactTable}
"""The tables of any kind of samples by the suffix of their file."""


LastStep: TypeAlias = Callable[[Table, Path, Path], None]
"""A function that writes the complete file from the part: of a table, from a path, to a path."""


class Output(NamedTuple):
    """A table that is appended to, and the step, if there is one, that makes the file of it at the end."""

    table: Table
    last_step: LastStep | None


def output(path: str | Path, columns: tuple[str, ...], label: str, tables: Mapping[str, type[Table]]) -> Output:
    """Return the table and last step for the suffix of a file.

    Args:
        label: the name of the column of labels.
        tables: the allowed formats by suffix.

    Raises:
        ConfigError: a suffix that is not allowed, or that needs a package that is not installed.
    """
    name = Path(path).name.lower()
    suffix = next((suffix for suffix in tables if name.endswith(suffix)), None)
    if suffix is None:
        raise ConfigError(f"out={path}: unknown suffix, allowed are {', '.join(tables)}")
    last_step: LastStep | None = compress if suffix.endswith(".gz") else None
    if suffix == ".parquet":
        if find_spec("pyarrow") is None:
            raise ConfigError(f"out={path}: Parquet needs pyarrow: pip install 'molrl[parquet]'")
        last_step = write_parquet
    return Output(tables[suffix](columns, label), last_step)


def compress(_: Table, part: Path, ready: Path) -> None:
    """Write a table as a gzip file, with the same bytes whenever it is made."""
    with open_regular(part) as source, staged(ready) as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        shutil.copyfileobj(source, packed, 1 << 20)


def write_parquet(table: Table, part: Path, ready: Path) -> None:
    """Write a table as a Parquet file: numbers as doubles, null for what is missing."""
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    texts = {name: arrow.string() for name in ("name", table.label, "reason")}
    numbers = dict.fromkeys(table.columns, arrow.float64())
    order = ["record", "line", "name", table.label, *table.columns, "reason"]
    types = {"record": arrow.int64(), "line": arrow.int64(), **numbers, **texts}
    schema = arrow.schema([(name, types[name]) for name in order])
    with open_regular(part) as source, staged(ready) as file, parquet.ParquetWriter(file, schema) as writer:
        rows = table.decode(source)
        while group := [row_values(row, table.label) for row, _ in islice(rows, ROW_GROUP_SIZE)]:
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))


def row_values(row: Row, label: str) -> dict[str, Any]:
    """Return a row as values by column, None for what is missing."""
    numbers = {column: float(cell) if cell else None for column, cell in row.cells.items()}
    texts = {"name": row.name or None, label: row.label or None, "reason": row.reason or None}
    return {"record": row.record, "line": row.line or None, **texts, **numbers}


def join_reasons(reasons: Mapping[str, str], rewards: Sequence[str]) -> str:
    """Join the reasons for a row's empty cells: one if it holds for all rewards, else each with its reward."""
    plain = {name: " ".join(reason.split()).replace("; ", ", ") for name, reason in reasons.items()}
    if len(plain) == len(rewards) and len(set(plain.values())) == 1:
        return next(iter(plain.values()))
    return "; ".join(f"{name}: {reason}" for name, reason in plain.items())


def split_reasons(joined: str, rewards: Sequence[str]) -> dict[str, str]:
    """Return the reason for each reward that has one, the inverse of `join_reasons`."""
    if not joined:
        return {}
    names = "|".join(map(re.escape, rewards))
    matches = [re.fullmatch(f"({names}): (.*)", piece, re.DOTALL) for piece in re.split(f"; (?=(?:{names}): )", joined)]
    if all(matches):
        return {match[1]: match[2] for match in matches if match}
    return dict.fromkeys(rewards, joined)
