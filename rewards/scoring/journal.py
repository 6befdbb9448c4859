"""The journal of a job that appends to one file and may be killed: its subject, its progress and its lock."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from molrl.config import ConfigError
from molrl.machine.files import open_in_place, open_regular, read_bounded, replace_file
from molrl.runs.folder import differences

HEAD_BYTES = 1 << 20  # at the beginning of a file, which identify it
MAX_STATE_BYTES = 1 << 22


@dataclasses.dataclass(frozen=True)
class Journal:
    """The files beside an output that make its job resumable.

    Attributes:
        out: the output; it appears when it is complete.
        subject: input and settings of the job, as JSON: a job with another subject may not continue it.
    """

    out: Path
    subject: Mapping[str, Any]

    @property
    def part(self) -> Path:
        """Return the path of the part of the output that is written."""
        return Path(f"{self.out}.part")

    @property
    def sums(self) -> Path:
        """Return the path of the checksums of the part's rows."""
        return Path(f"{self.out}.sums")

    @property
    def ready(self) -> Path:
        """Return the path of the complete output, for formats with a last step from the part to the output."""
        return Path(f"{self.out}.ready")

    @property
    def state(self) -> Path:
        """Return the path of the file with subject and progress."""
        return Path(f"{self.out}.state")

    def begin(self, *, overwrite: bool) -> dict[str, Any] | None:
        """Prepare to append to the part; return what `finish` recorded if the output is complete already, or None.

        Raises:
            ConfigError: the output is that of another job, or has no state file.
        """
        old = None if overwrite else self.read()
        if old is None:
            there = [path for path in (self.out, self.part, self.ready) if os.path.lexists(path)]
            if there and not overwrite:
                raise ConfigError(
                    f"out={self.out}: {there[0]} exists, without a {self.state.name} that says what it is; "
                    "name another file, or replace it with overwrite=true"
                )
            for path in (self.part, self.sums, self.ready):
                path.unlink(missing_ok=True)
            self.note(0)
            return None
        if differing := differences(old.get("subject"), json.loads(json.dumps(self.subject))):
            raise ConfigError(
                f"out={self.out} was begun with something else ({'; '.join(differing)}); "
                "name another file, or start again with overwrite=true"
            )
        if "end" not in old:
            return None
        if (last := self.ready if old["ready"] else self.part).exists():
            last.replace(self.out)
        for path in (self.part, self.sums):
            path.unlink(missing_ok=True)
        if self.out.exists():
            return dict(old["end"])
        self.note(0)  # the output has been removed since
        return None

    def read(self) -> dict[str, Any] | None:
        """Return the contents of the state file, None if there is none.

        Raises:
            ConfigError: it is something else.
        """
        try:
            state = json.loads(read_bounded(self.state, MAX_STATE_BYTES))
        except FileNotFoundError:
            return None
        except (RecursionError, ValueError):
            state = None
        ended = isinstance(state, dict) and "end" in state
        if (
            not isinstance(state, dict)
            or "subject" not in state
            or (ended and not (isinstance(state["end"], dict) and isinstance(state.get("ready"), bool)))
        ):
            raise ConfigError(f"{self.state}: not a state file of molrl score; name another out=")
        return state

    def note(self, records: int) -> None:
        """Record the progress, for information: a job is continued from the part itself."""
        self.write({"records": records, "subject": self.subject})

    def finish(self, records: int, end: Mapping[str, Any]) -> None:
        """Rename the part, or the file made of it, to the output; after a kill in between, `begin` completes it."""
        ready = self.ready.exists()
        self.write({"records": records, "subject": self.subject, "ready": ready, "end": end})
        (self.ready if ready else self.part).replace(self.out)
        for path in (self.part, self.sums):
            path.unlink(missing_ok=True)

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the state file atomically: a reader finds the old one or the new one."""
        replace_file(self.state, json.dumps(state, indent=1).encode())


@contextlib.contextmanager
def output_lock(out: Path) -> Iterator[None]:
    """Hold the lock of an output, which ends with the process; raise ConfigError if another process holds it."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = Path(f"{out}.lock")
    while True:
        file = open_in_place(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise ConfigError(f"out={out} is being written by another process") from None
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                break
        file.close()  # its last owner has just removed it
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def identity(path: str | Path) -> dict[str, Any]:
    """Return JSON that tells a file from another one, or from itself after a change."""
    with open_regular(path, follow=True) as file:
        head = hashlib.sha256(file.read(HEAD_BYTES)).hexdigest()[:16]
        stat = os.fstat(file.fileno())
    changed = datetime.fromtimestamp(stat.st_mtime_ns / 1e9, UTC).isoformat()
    return {"bytes": stat.st_size, "changed": changed, "head": head}


def description(value: Any) -> Any:
    """Return an object as JSON that shows its settings, to tell two jobs apart.

    Fields of dataclasses that are left out of comparisons are left out here; any other object is named by its type.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: description(getattr(value, field.name)) for field in dataclasses.fields(value) if field.compare
        }
        return {"is": qualified_name(type(value)), **fields}
    if isinstance(value, functools.partial):
        return {"is": description(value.func), "arguments": description([*value.args, value.keywords])}
    if isinstance(value, Mapping):
        return {str(key): description(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [description(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return qualified_name(value if hasattr(value, "__qualname__") else type(value))


def qualified_name(target: Any) -> str:
    """Return the name by which a class or function can be imported."""
    return f"{target.__module__}.{target.__qualname__}"
