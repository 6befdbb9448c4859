"""The table of a scoring run as an SDF file: the molecules, with values and reasons as properties."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import IO, ClassVar

from molrl.data.molecules.sdf import replace_properties
from molrl.machine.printable import printable
from molrl.rewards.scoring.table import CSVTable, ExactTable, Row, Table

EMPTY_BLOCK = "\n\n\n  0  0  0  0  0  0  0  0  0  0999 V2000\nM  END"
MAX_TITLE_LENGTH = 80  # characters


class SDFTable(Table):
    """The molecules with numbers and reasons as properties; a record without a molecule has no atoms."""

    needs_text: ClassVar[bool] = True

    @property
    def header(self) -> bytes:
        return b""

    def encode(self, row: Row) -> bytes:
        fields = {"molrl_record": str(row.record), "molrl_line": str(row.line or ""), "molrl_reason": row.reason}
        text = row.text or " ".join(row.name.split())[:MAX_TITLE_LENGTH] + EMPTY_BLOCK
        return printable(replace_properties(text, {**row.cells, **fields})).encode(errors="replace")

    def decode(self, file: IO[bytes]) -> Iterator[tuple[Row, int]]:
        end, number, lines = 0, 1, list[str]()
        for line in file:
            end += len(line)
            if line != b"$$$$\n":
                lines.append(line.decode(errors="replace").rstrip("\n"))
                continue
            fields = properties(lines)
            if fields.get("molrl_record") != str(number):
                return
            cells = {column: fields.get(column, "") for column in self.columns}
            start, reason = int(fields.get("molrl_line", "0")), fields.get("molrl_reason", "")
            yield Row(number, start, lines[0], "", cells, reason), end
            number, lines = number + 1, []


TABLES: Mapping[str, type[Table]] = {
    ".csv": CSVTable,
    ".csv.gz": CSVTable,
    ".sdf": SDFTable,
    ".sdf.gz": SDFTable,
    ".parquet": ExactTable,
}
"""The tables of molecules by the suffix of their file."""


def properties(lines: Sequence[str]) -> dict[str, str]:
    """Return the properties of an SDF record by name, of each the first line."""
    start = next((row for row, line in enumerate(lines) if line.startswith("M  END")), len(lines))
    return {key[4:-1]: value for key, value in pairwise(lines[start:]) if key.startswith(">  <")}
