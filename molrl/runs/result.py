"""The result of a run as a Python object: its figures, its metrics as a data frame, its report and its model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molrl.config import ConfigError
from molrl.runs.folder import SETTINGS, SUMMARY, read_summary
from molrl.runs.report import REPORT
from molrl.runs.report.wording import headline
from molrl.runs.tracking import METRICS_FILE, PRETRAINING_FILE, read_metrics

MAX_FIGURES = 5  # of the last row, which `repr` shows


@dataclass(frozen=True, repr=False)
class RunResult:
    """A run of fine-tuning or of pretraining, as far as it has come.

    Attributes:
        folder: of the run: `model/`, `best/`, `samples/`, `report.html` and the rest.
        summary: what summary.json says: task, reward, algo, seed, and the figures `before` and `after` training; empty
            for a run that has not ended, and for pretraining.
        rows: one for each round, as in metrics.jsonl; of pretraining one for each report, as in pretrain.jsonl.
        metrics: the same as a data frame of pandas.
        report: the page about the run, report.html; pretraining has none.
        policy: what `load_policy`, `sample` and the command line take as this run's model.
    """

    folder: Path
    summary: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]

    @property
    def metrics(self) -> Any:
        """Return a pandas.DataFrame with a row for each round and a column for each metric.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise ImportError("run.metrics needs pandas: pip install 'molrl[pandas]'; run.rows does not") from error
        return pd.DataFrame([dict(row) for row in self.rows])

    @property
    def report(self) -> Path:
        """Return the path of the run's report.html."""
        return self.folder / REPORT

    @property
    def policy(self) -> str:
        """Return the name of this run's model."""
        return str(self.folder)

    def __repr__(self) -> str:
        state = f"{headline(self.summary)}; {self.summary.get('ended', 'ended')}" if self.summary else "no summary"
        figures = self.rows[-1].items() if self.rows else ()
        shown = [f"{name} {value:.4g}" for name, value in figures if isinstance(value, int | float)][:MAX_FIGURES]
        last = f", the last one: {', '.join(shown)} ..." if shown else ""
        return f"{type(self).__name__} in {self.folder}\n  {state}\n  {len(self.rows)} rows of metrics{last}"

    def _repr_html_(self) -> str | None:
        from molrl.runs.report.page import render_summary

        return render_summary(self.folder, self.summary) if self.summary else None


def read_result(folder: Path) -> RunResult:
    """Return the run in a folder, which may still go on.

    Raises:
        ConfigError: there is no run, or one of its files is damaged.
    """
    if not (folder / SETTINGS).is_file():
        raise ConfigError(f"{folder}: no run is there ({SETTINGS} is missing)")
    try:
        summary = read_summary(folder) if (folder / SUMMARY).exists() else {}
        files = [folder / name for name in (METRICS_FILE, PRETRAINING_FILE) if (folder / name).exists()]
        return RunResult(folder, summary, read_metrics(files[0]) if files else [])
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{folder}: damaged ({error!s:.200})") from None
