"""Scores on the disk, for rewards that are slow: what was scored once, by whichever run, is not scored again.

A folder has one SQLite file for any number of rewards and processes. A value is found again by the settings of the
reward and a key of the sample: its canonical SMILES for a reward of the graph, all its atoms at their positions for one
of the geometry. Lost measurements are in a table of their own, for people to read, and are tried again.
"""

import contextlib
import functools
import hashlib
import json
import math
import sqlite3
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from molrl.machine.files import check_plain
from molrl.rewards.scores import Explained, PerSample, Scored, Scorer, gradient_of, has_gradient, is_discrete
from molrl.rewards.wrapping import explanation, innermost, parts_of
from molrl.runs.inputs import digest
from molrl.version import __version__

FILE = "scores.sqlite"
LOCK_TIMEOUT = 60.0  # seconds that a process waits for another one's write
TABLES = """
CREATE TABLE IF NOT EXISTS settings (digest TEXT PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS scores (
    settings TEXT, key TEXT, value REAL NOT NULL, reason TEXT NOT NULL, rest TEXT NOT NULL,
    PRIMARY KEY (settings, key)
);
CREATE TABLE IF NOT EXISTS lost (
    settings TEXT, key TEXT, reason TEXT NOT NULL, times INTEGER NOT NULL, PRIMARY KEY (settings, key)
);
"""


@runtime_checkable
class Keyed(Protocol):
    """A scorer that says by what its values may be found again."""

    def cache_key(self, sample: Any, /) -> str | None:
        """Return a text that is the same for samples with the same value; None: the sample is not worth storing."""
        ...


@dataclass(frozen=True)
class Stored(PerSample[Any]):
    """A scorer whose values are kept in a folder.

    Attributes:
        scorer: a dataclass, so that its settings are known, as are those that it wraps; the innermost are `Keyed`.
        folder: of `scores.sqlite`; it is made where it is missing.
    """

    scorer: Scorer[Any]
    folder: str

    def __post_init__(self) -> None:
        for one in innermost(self.scorer):
            if not isinstance(one, Keyed):
                raise ValueError(f"cache: {type(one).__name__} has no cache_key(sample), so its values cannot be kept")
        settings = self.settings
        Path(self.folder).expanduser().mkdir(parents=True, exist_ok=True)
        with self.transaction() as database:
            database.executescript(TABLES)
            database.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", (self.settings_digest, settings))

    @functools.cached_property
    def settings(self) -> str:
        """Return the settings of the scorer as JSON: those of every part, the files that they name, our version."""
        about = {"molrl": __version__, "reward": settings_of(self.scorer, "reward")}
        return json.dumps(about, sort_keys=True)

    @functools.cached_property
    def settings_digest(self) -> str:
        """Return what stands for the settings in the tables."""
        return hashlib.sha256(self.settings.encode()).hexdigest()

    @property
    def inner(self) -> tuple[Scorer[Any], ...]:
        """Return the scorer that is wrapped."""
        return (self.scorer,)

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of the scorer's parts."""
        return tuple(getattr(self.scorer, "parts", ()))

    @property
    def limits(self) -> Mapping[str, tuple[float, str]]:
        """Return the limits of the scorer's parts."""
        return dict(getattr(self.scorer, "limits", {}))

    @property
    def has_gradient(self) -> bool:
        """Tell whether values come with their gradient, which is kept as well."""
        return has_gradient(self.scorer)

    @property
    def is_discrete(self) -> bool:
        """Tell whether values depend on nothing continuous."""
        return is_discrete(self.scorer)

    def score_one(self, sample: Any, /) -> Scored:
        key = sample_key(self.scorer, sample)
        if key is None:
            return self.scorer.score_one(sample)
        if (found := self.find(key)) is not None:
            return found
        try:
            scored = self.scorer.score_one(sample)
        except Exception as error:
            self.note_loss(key, f"{type(error).__name__}: {error}")
            raise
        if math.isfinite(scored.value):
            self.keep(key, scored)
        else:
            self.note_loss(key, scored.reason)
        return scored

    def explain(self, sample: Any, /) -> dict[str, float]:
        """Return the parts of the scorer's value."""
        return explanation(self.parts, {}) | dict(parts_of(self.score_one(sample)))

    def find(self, key: str) -> Scored | None:
        """Return the value that is kept under a key, if there is one."""
        with self.transaction() as database:
            query = "SELECT value, reason, rest FROM scores WHERE settings = ? AND key = ?"
            row = database.execute(query, (self.settings_digest, key)).fetchone()
        if row is None:
            return None
        rest = json.loads(row[2])
        gradient = None if rest["gradient"] is None else np.array(rest["gradient"], dtype=np.float64)
        parts = {name: math.nan if part is None else part for name, part in rest["parts"].items()}
        return Explained(row[0], row[1], parts, gradient) if parts or gradient is not None else Scored(row[0], row[1])

    def keep(self, key: str, scored: Scored) -> None:
        """Keep a value under a key."""
        gradient = gradient_of(scored)
        rest = {
            "parts": {name: None if math.isnan(part) else float(part) for name, part in parts_of(scored).items()},
            "gradient": None if gradient is None else gradient.tolist(),
        }
        row = (self.settings_digest, key, float(scored.value), scored.reason, json.dumps(rest))
        with self.transaction() as database:
            database.execute("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?)", row)

    def note_loss(self, key: str, reason: str) -> None:
        """Count a measurement that was lost."""
        with self.transaction() as database:
            database.execute(
                "INSERT INTO lost VALUES (?, ?, ?, 1) "
                "ON CONFLICT (settings, key) DO UPDATE SET times = times + 1, reason = excluded.reason",
                (self.settings_digest, key, reason),
            )

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction; a connection is not shared between processes.

        Raises:
            ValueError: it is a link or no database.
        """
        path = Path(self.folder).expanduser() / FILE
        with contextlib.suppress(FileNotFoundError):
            check_plain(path, path.lstat())
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=LOCK_TIMEOUT)) as database, database:
                database.execute("PRAGMA trusted_schema = OFF")
                yield database
        except sqlite3.DatabaseError as error:
            raise ValueError(f"cache: {path} cannot be used ({error})") from error


def sample_key(scorer: Scorer[Any], sample: Any) -> str | None:
    """Return the key of a sample for a scorer: its own, or those of the scorers that it wraps; None: do not store."""
    if isinstance(scorer, Keyed):
        return scorer.cache_key(sample)
    keys = [sample_key(one, sample) for one in getattr(scorer, "inner", ())]
    return None if None in keys else " ".join(dict.fromkeys(filter(None, keys)))


def settings_of(value: Any, where: str) -> Any:
    """Return settings as JSON; a file that one names is told by its content.

    Raises:
        ValueError: a value whose own settings are not known: an array, a lambda, an object that is no dataclass.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str | Path):
        return with_content(value)
    if isinstance(value, Mapping):
        return {str(name): settings_of(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, Sequence):
        return [settings_of(item, f"{where}.{index}") for index, item in enumerate(value)]
    if isinstance(value, functools.partial):
        arguments = [settings_of(value.args, where), settings_of(value.keywords, where)]
        return [settings_of(value.func, where), *arguments]
    if is_dataclass(value) and not isinstance(value, type):
        own = {
            one.name: settings_of(getattr(value, one.name), f"{where}.{one.name}") for one in fields(value) if one.init
        }
        return {"is": f"{type(value).__module__}.{type(value).__qualname__}", **own}
    if "<" not in (name := getattr(value, "__qualname__", "<")):
        return f"{value.__module__}.{name}"
    raise ValueError(f"cache: {where} is a {type(value).__name__}, whose settings are not known; make it a dataclass")


def with_content(text: str | Path) -> Any:
    """Return a text, with the SHA-256 of the file that it names, if it names one."""
    try:
        path = Path(text).expanduser()
        named = stat.S_ISREG(path.stat().st_mode)
    except (OSError, RuntimeError, ValueError):  # no file, too long for a name, no such user, a zero byte
        return str(text)
    return [str(text), digest(path)] if named else str(text)
