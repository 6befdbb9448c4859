"""A job that appends to one file and may be killed: what it was about, how far it got, and who is at it."""

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
from molrl.runs.folder import differences

HEAD = 1 << 20  # bytes of a file that identify it


@dataclasses.dataclass(frozen=True)
class Journal:
    """The files beside an output that make its job resumable.

    Attributes:
        out: the output; it appears when it is complete.
        subject: what the job is about, as JSON: another subject may not continue it.
    """

    out: Path
    subject: Mapping[str, Any]

    @property
    def part(self) -> Path:
        """What there is of the output."""
        return Path(f"{self.out}.part")

    @property
    def ready(self) -> Path:
        """The output, complete, if it takes a last step from the part to the output."""
        return Path(f"{self.out}.ready")

    @property
    def state(self) -> Path:
        """Subject and progress."""
        return Path(f"{self.out}.state")

    def begin(self, *, overwrite: bool) -> dict[str, Any] | None:
        """Make ready to append to the part; what was kept at the end if the output is complete already.

        Raises:
            ConfigError: the output is that of another job, or of none that is known.
        """
        old = None if overwrite else self.read()
        if old is None:
            if self.out.exists() and not overwrite:
                raise ConfigError(
                    f"out={self.out} exists, without a {self.state.name} that says what it is; "
                    "name another file, or replace it with overwrite=true"
                )
            for path in (self.part, self.ready):
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
        self.part.unlink(missing_ok=True)
        if self.out.exists():
            return dict(old["end"])
        self.note(0)  # somebody took the output away
        return None

    def read(self) -> dict[str, Any] | None:
        """The state file, if there is one.

        Raises:
            ConfigError: it is something else.
        """
        try:
            found = json.loads(self.state.read_bytes())
        except FileNotFoundError:
            return None
        except (RecursionError, ValueError):
            found = None
        ended = isinstance(found, dict) and "end" in found
        if (
            not isinstance(found, dict)
            or "subject" not in found
            or (ended and not (isinstance(found["end"], dict) and isinstance(found.get("ready"), bool)))
        ):
            raise ConfigError(f"{self.state}: not a state file of molrl score; name another out=")
        return found

    def note(self, records: int) -> None:
        """Write down how far the job got; the part itself is what counts."""
        self.write({"records": records, "subject": self.subject})

    def finish(self, records: int, end: Mapping[str, Any]) -> None:
        """Make the part, or what was made ready of it, the output; killed in between, `begin` does the rest."""
        ready = self.ready.exists()
        self.write({"records": records, "subject": self.subject, "ready": ready, "end": end})
        (self.ready if ready else self.part).replace(self.out)
        self.part.unlink(missing_ok=True)

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the state file such that a reader finds the old one or the new one."""
        staging = Path(f"{self.state}.new")
        with staging.open("wb") as file:
            file.write(json.dumps(state, indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        staging.replace(self.state)


@contextlib.contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """One process per output; the lock goes with the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = Path(f"{out}.lock")
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise ConfigError(f"out={out} is being written by another process") from None
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(handle).st_ino:
                break
        os.close(handle)  # its last owner has just removed it
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def identity(path: str | Path) -> dict[str, Any]:
    """What tells a file from another one, or from itself after a change."""
    with Path(path).open("rb") as file:
        head = hashlib.sha256(file.read(HEAD)).hexdigest()[:16]
        stat = os.fstat(file.fileno())
    changed = datetime.fromtimestamp(stat.st_mtime_ns / 1e9, UTC).isoformat()
    return {"bytes": stat.st_size, "changed": changed, "head": head}


def description(thing: Any) -> Any:
    """An object as JSON that says what it is made of, for telling settings apart.

    Fields of dataclasses that do not count in comparisons do not count here; things unknown are their type.
    """
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        fields = {
            field.name: description(getattr(thing, field.name)) for field in dataclasses.fields(thing) if field.compare
        }
        return {"is": qualified(type(thing)), **fields}
    if isinstance(thing, functools.partial):
        return {"is": description(thing.func), "arguments": description([*thing.args, thing.keywords])}
    if isinstance(thing, Mapping):
        return {str(key): description(value) for key, value in thing.items()}
    if isinstance(thing, Sequence):
        return [description(value) for value in thing]
    if isinstance(thing, Path):
        return str(thing)
    return qualified(thing if hasattr(thing, "__qualname__") else type(thing))


def qualified(thing: Any) -> str:
    """The name by which a class or function can be imported."""
    return f"{thing.__module__}.{thing.__qualname__}"
