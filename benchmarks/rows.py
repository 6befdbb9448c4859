"""The rows of a benchmark in a file, one line of JSON each, so that a run that was killed goes on where it was."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molrl.machine.files import read_text

Row = dict[str, Any]
MAX_BYTES = 1 << 26
RESAMPLES = 2000


class Rows:
    """Rows with a name each, read from a file and added to it; the first line has the settings that they are of."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Read the rows of an earlier run, and cut off a line that was not finished.

        Raises:
            ValueError: the file is of other settings.
        """
        self.path = path
        lines = read_text(path, MAX_BYTES).splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith("\n")] or [json.dumps(dict(settings)) + "\n"]
        if (earlier := json.loads(whole[0])) != settings:
            raise ValueError(f"{path}: got rows of {earlier}, need {dict(settings)} or another file")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(whole), "utf-8")
        self.rows: list[Row] = [json.loads(line) for line in whole[1:]]

    def __contains__(self, name: str) -> bool:
        return any(row["name"] == name for row in self.rows)

    def add(self, row: Row) -> None:
        """Add a row, which is in the file at once."""
        with self.path.open("a", encoding="utf-8") as file:
            print(json.dumps(row), file=file, flush=True)
        self.rows.append(row)


def error(statistic: Callable[[NDArray[np.int64]], float], n: int) -> float:
    """Return the standard deviation of a statistic of rows over samples drawn with replacement (Efron 1979).

    Samples that have no such statistic, as a correlation of one row drawn many times, are left out.
    """
    generator = np.random.default_rng(0)
    return float(np.nanstd([statistic(generator.integers(n, size=n)) for _ in range(RESAMPLES)]))
