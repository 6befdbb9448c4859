"""The description in a model's folder: the version of its format, its domain, and the fields that the domain reads."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molrl.machine.files import SpecialFileError, read_bounded
from molrl.override import command_line
from molrl.runs.errors import CheckpointError

MAX_BYTES = 2**22
FORMAT = 2
FIRST_FORMAT = 1  # of descriptions that name no format
DESCRIPTIONS = ("model.json", "adapter.json")  # of a network of ours, of a LoRA


def description_file(folder: Path) -> Path | None:
    """Return the file with a model's description; None where a folder has none."""
    return next((folder / name for name in DESCRIPTIONS if os.path.lexists(folder / name)), None)


def describe(folder: Path) -> Any:
    """Return a folder's description as it stands, or None where there is none.

    Raises:
        CheckpointError: it is no regular file, too large, or no JSON.
    """
    if (path := description_file(folder)) is None:
        return None
    try:
        return json.loads(read_bounded(path, MAX_BYTES))
    except SpecialFileError as error:
        raise CheckpointError(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from None


def domain_of(folder: Path) -> str:
    """Return the domain that a model's folder names, or "" where it has no description that names one.

    Raises:
        CheckpointError: the description cannot be read, or is of another format.
    """
    description = describe(folder)
    if not isinstance(description, Mapping):
        return ""
    check_format(folder, description)
    return str(description.get("domain", ""))


def check_format(folder: Path, description: Any) -> None:
    """Raise CheckpointError where a description is missing or of another format, with what to do about it."""
    if not isinstance(description, Mapping):
        raise CheckpointError(f"{folder}: the description of its model is missing or no table of fields")
    version = description.get("format", FIRST_FORMAT)
    if version == FORMAT:
        return
    older = type(version) is int and FIRST_FORMAT <= version < FORMAT
    migrate = f"bring it up to date by: {command_line('migrate', {'folder': folder})}"
    remedy = migrate if older else "it needs a newer molrl"
    raise CheckpointError(f"{folder}: a model of format {version!r}, this version reads format {FORMAT}; {remedy}")


def read_fields(folder: Path, description: Any, domain: str) -> dict[str, Any]:
    """Return the fields of a description, without those that every domain has.

    Raises:
        CheckpointError: it is of another format or another domain.
    """
    check_format(folder, description)
    if (other := description.get("domain")) != domain:
        raise CheckpointError(f"{folder}: a model of {other}, here one of {domain} is needed")
    return {name: value for name, value in description.items() if name not in ("format", "domain")}


def with_header(domain: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a model: its format and domain, then its own fields."""
    return {"format": FORMAT, "domain": domain, **fields}
