"""The SHA-256 of every file of the models that ship: a download that was cut short is seen before it is used."""

import json
from pathlib import Path

from molrl.models.shipped import SHIPPED
from molrl.runs.inputs import digest

DIGESTS = SHIPPED / "digests.json"


def shipped_files() -> dict[str, Path]:
    """Return the files of the shipped models by their names below `weights/`; their cards are text and left out."""
    found = (path for path in SHIPPED.rglob("*") if path.is_file() and path.suffix != ".md" and path != DIGESTS)
    return {path.relative_to(SHIPPED).as_posix(): path for path in sorted(found)}


def write_digests() -> None:
    """Record the SHA-256 of the files as they are, after a model that ships was added or changed."""
    found = {name: digest(path) for name, path in shipped_files().items()}
    DIGESTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def damaged_files() -> list[str]:
    """Return the names of the files that are missing or not as they were when they were recorded."""
    recorded: dict[str, str] = json.loads(DIGESTS.read_text("utf-8"))
    files = shipped_files()
    return [name for name, expected in recorded.items() if name not in files or digest(files[name]) != expected]
