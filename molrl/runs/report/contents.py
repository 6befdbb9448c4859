"""The contents of a report of one run, read from the run's folder, which may be of a run that still goes on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from molrl.config import ConfigError
from molrl.machine.files import read_text
from molrl.runs.folder import MAX_BYTES, SETTINGS, in_use, load_plain_yaml, read_summary
from molrl.runs.report.about import About, read_about
from molrl.runs.report.sheet import FOLDER, Sheet, read_sheet
from molrl.runs.tracking import METRICS_FILE, read_metrics

Found = TypeVar("Found")

LATEST = "in the last round"  # whose samples stand for those after training until it has ended
SHEETS = {"before": "before.json", LATEST: "latest.json", "after": "after.json"}  # by when the samples were drawn


@dataclass(frozen=True)
class Contents:
    """The contents of a report of one run.

    Attributes:
        folder: of the run.
        settings: of its config.yaml, and their text.
        rows: one mapping per round.
        summary: of the finished run; empty for one that has not ended.
        sheets: of its samples, by "before" and "after"; `LATEST` in place of "after" where there are none yet.
        about: commands, versions and hardware.
        state: whether it ended, stopped or goes on.
        problems: parts of the folder that could not be read, with the reason.
    """

    folder: Path
    settings: Mapping[str, Any]
    settings_text: str
    rows: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    sheets: Mapping[str, Sheet]
    about: About
    state: str
    problems: Sequence[str]

    @property
    def facts(self) -> Mapping[str, Any]:
        """Return the summary, or as much of one as is known of a run that has not ended."""
        if self.summary:
            return self.summary
        chosen = self.settings.get("chosen")
        names = chosen if isinstance(chosen, Mapping) else {}
        known = {name: str(names[name]) for name in ("task", "reward", "algo") if name in names}
        return {**known, "seed": self.settings.get("seed")}


def read_contents(folder: Path, summary: Mapping[str, Any] | None = None) -> Contents:
    """Read what a report tells of a run.

    Args:
        folder: of the run.
        summary: in place of that in the folder, of a run that is just ending; None: that in the folder.

    Raises:
        ConfigError: there is no run in the folder.
    """
    try:
        text = read_text(folder / SETTINGS, MAX_BYTES, errors="replace")
        settings = load_plain_yaml(folder / SETTINGS)
    except OSError as error:
        raise ConfigError(f"{folder}: no run is there ({SETTINGS}: {error.strerror})") from None
    except ValueError as error:
        raise ConfigError(f"{folder}: no run is there ({error})") from None
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{folder}: no run is there ({SETTINGS} is no table of settings)")
    problems: list[str] = []
    rows = readable(partial(read_metrics, folder / METRICS_FILE), problems) or []
    running = summary is None and in_use(folder)
    if summary is None and not running:
        summary = readable(partial(read_summary, folder), problems)
    sheets = read_sheets(folder / FOLDER, bool(summary), problems)
    return Contents(
        folder,
        settings,
        text,
        rows,
        summary or {},
        sheets,
        read_about(folder),
        describe_state(settings, rows, summary or {}, running),
        problems,
    )


def read_sheets(folder: Path, ended: bool, problems: list[str]) -> dict[str, Sheet]:
    """Return the sheets of samples before training and after it, or in its last round where it has not ended."""
    read = {when: readable(partial(read_sheet, folder / file), problems) for when, file in SHEETS.items()}
    found = {when: sheet for when, sheet in read.items() if sheet is not None}
    if LATEST in found:
        found.pop(LATEST if ended else "after", None)
    return found


def readable(read: Callable[[], Found], problems: list[str]) -> Found | None:
    """Return what is read; None where the file is missing, or with a note among the problems where it is damaged."""
    try:
        return read()
    except FileNotFoundError:
        return None
    except (OSError, RecursionError, ValueError) as error:
        problems.append(f"A part of this run could not be read: {error}")
        return None


def describe_state(
    settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], running: bool
) -> str:
    """Return in words whether a run ended, goes on or was stopped, and how far it came."""
    if summary:
        return f"ended: {summary.get('ended', 'done')}"
    total = settings.get("iterations")
    count = f"{len(rows):,} of {total:,} iterations" if isinstance(total, int) else f"{len(rows):,} rounds"
    return f"{'running' if running else 'stopped before its end'}: {count} are done"
