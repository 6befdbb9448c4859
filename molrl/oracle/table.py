"""The command `molrl oracle`, which prints the suite as a table."""

import json
import sys
from dataclasses import asdict

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from molrl.config import ConfigError
from molrl.machine.files import replace_file
from molrl.machine.printable import unescaped
from molrl.oracle.suite import cases
from molrl.oracle.trial import Outcome
from molrl.outputs import output_file
from molrl.progress import stage
from molrl.suggestions import did_you_mean

HEADINGS = ("algorithm", "problem", "fixed point", "reached", "J start", "J best", "J", "fraction", "step error", "s")
WIDTH = 170  # columns of the table, where the terminal has fewer


def print_table(*, algo: str | None, out: str | None, overwrite: bool, seed: int) -> int:
    """Run the cases of one algorithm, or all, print them and write them as JSON; return the exit code.

    Raises:
        ConfigError: there is no such algorithm, or `out` is there already and not to be overwritten.
    """
    names = sorted({case.name.partition(",")[0] for case in cases()})
    if algo is not None and algo not in names:
        raise ConfigError(f"algo={algo}: no oracle for it; known are {', '.join(names)}{did_you_mean(algo, names)}")
    path = None if out is None else output_file(out, overwrite=overwrite)
    console, outcomes = Console(file=unescaped(sys.stdout), width=max(WIDTH, Console().width)), list[Outcome]()
    for case in cases():
        if algo in (None, case.name.partition(",")[0]):
            with stage(case.name):
                outcomes.append(case.run(seed))
    console.print(render_table(outcomes))
    if path is not None:
        replace_file(path, (json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n").encode())
    return 0


def render_table(outcomes: list[Outcome]) -> Table:
    """Return a table with one line per case."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=True)
    for outcome in outcomes:
        values = (f"{value:.3f}" for value in (outcome.start, outcome.best, outcome.value))
        texts = (outcome.algorithm, outcome.problem, outcome.fixed_point, outcome.reached)
        error = "" if outcome.error is None else f"{outcome.error:.3f}"
        table.add_row(*texts, *values, f"{outcome.fraction:.1%}", error, f"{outcome.seconds:.1f}")
    return table
