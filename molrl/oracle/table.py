"""`molrl oracle`: the suite as a table."""

import difflib
import json
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from molrl.config import ConfigError
from molrl.oracle.suite import Outcome, cases, rows
from molrl.runs.checkpoint import write_synced

WIDTH = 140  # columns of the table, where the terminal has fewer


def print_table(*, algo: str | None, out: str | None, seed: int) -> int:
    """Run the cases of one algorithm, or all; print them and write them as JSON; returns the exit code."""
    known = sorted({case.name.partition(",")[0] for case in cases()})
    if algo is not None and algo not in known:
        near = difflib.get_close_matches(algo, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"algo={algo}: no oracle for it; known are {', '.join(known)}{hint}")
    if out is not None and not Path(out).parent.is_dir():
        raise ConfigError(f"out={out}: there is no folder {Path(out).parent}")
    console, outcomes = Console(width=max(WIDTH, Console().width)), list[Outcome]()
    for case in cases():
        if algo in (None, case.name.partition(",")[0]):
            with console.status(f"{case.name} ..."):
                outcomes.append(case.run(seed))
    console.print(drawn(outcomes))
    if out is not None:
        write_synced(Path(out), (json.dumps(rows(outcomes), indent=1) + "\n").encode())
    return 0


def drawn(outcomes: list[Outcome]) -> Table:
    """One line per case."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("algorithm", "problem", "own point", "reached", "J start", "J best", "J", "fraction", "s"):
        table.add_column(heading, no_wrap=True)
    for found in outcomes:
        values = (f"{value:.3f}" for value in (found.start, found.best, found.value))
        words = (found.algorithm, found.problem, found.fixed_point, found.reached)
        table.add_row(*words, *values, f"{found.fraction:.1%}", f"{found.seconds:.1f}")
    return table
