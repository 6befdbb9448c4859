"""Migration of model folders from format 1 to format 2: `molrl migrate FOLDER`.

Format 2 names its domain and the version of the format, and its parameters have the field's names. Each domain
says what changes in a description and in the weights (`Domain.upgrade`).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from molrl.domains import domain, names
from molrl.machine.files import read_bounded, refuse_special_files, replace_file
from molrl.models.description import DESCRIPTIONS, FIRST_FORMAT, FORMAT, check_format
from molrl.models.shipped import locate
from molrl.runs import checkpoint
from molrl.runs.checkpoint import MANIFEST
from molrl.runs.errors import CheckpointError

WEIGHTS = "weights"
MAX_OTHER_BYTES = 2**30  # of a file that is kept as it is

Upgrade = Callable[[Mapping[str, Any], Mapping[str, Tensor]], tuple[dict[str, Any], dict[str, Tensor]] | None]
"""Return description and weights of format 2 for those of format 1, or None for a model of another domain."""


def migrate(folder: str) -> int:
    """Rewrite a model's folder of format 1 in format 2, in place, and return the exit code.

    Weights keep their values, and checkpoints of runs stay as they are. The new folder is written beside the old one
    and then takes its place, so that an interruption leaves no mixture of the two.

    Args:
        folder: a model's folder, or that of the run that made it.

    Raises:
        CheckpointError: the folder is missing, damaged, of a newer format, or of no domain that has a migration.
    """
    place = locate(folder).resolve()
    refuse_special_files(place)
    name = next((name for name in DESCRIPTIONS if (place / name).is_file()), None)
    if name is None:
        print(f"{folder}: a pipeline in diffusers' own format, nothing to do")
        return 0
    ours = (place / MANIFEST).is_file()
    tensors, values = checkpoint.load(place) if ours else ({}, {Path(name).stem: read_json(place / name)})
    description = values.get(Path(name).stem)
    if isinstance(description, Mapping) and description.get("format", FIRST_FORMAT) != FIRST_FORMAT:
        check_format(place, description)
        print(f"{folder}: of format {FORMAT} already, nothing to do")
        return 0
    new, weights = upgrade(place, description, tensors.get(WEIGHTS, {}))
    if ours:
        rewrite(place, {**tensors, WEIGHTS: weights}, {**values, Path(name).stem: new})
    else:
        replace_file(place / name, (json.dumps(new, indent=1) + "\n").encode())
    print(f"{folder}: rewritten from format {FIRST_FORMAT} to format {FORMAT}, {len(weights)} tensors")
    return 0


def upgrade(folder: Path, description: Any, weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what the domain of the model makes of its description and its weights.

    Raises:
        CheckpointError: no domain takes the model for its own.
    """
    if isinstance(description, Mapping):
        for hook in upgrades():
            if (found := hook(description, weights)) is not None:
                return found
    raise CheckpointError(f"{folder}: no domain has a migration for the model described there")


def upgrades() -> Iterator[Upgrade]:
    """Yield the migration of every domain."""
    for name in names():
        yield domain(name).upgrade


def rename_parameters(weights: Mapping[str, Tensor], table: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the same tensors under the names that a table of name prefixes gives them.

    Args:
        table: old prefix -> new prefix, in whole components; `*` stands for one component, the first of the old prefix
            for the first of the new one and so on. The first that fits counts.
    """
    renamed = {new_name(name, table): value for name, value in weights.items()}
    if len(renamed) != len(weights):
        raise CheckpointError("parameters of old and new names in one model")
    return renamed


def new_name(name: str, table: Mapping[str, str]) -> str:
    """Return the name of a parameter after a table of `rename_parameters`."""
    parts = name.split(".")
    for old, new in table.items():
        pattern = old.split(".")
        if len(pattern) <= len(parts) and all(a in ("*", b) for a, b in zip(pattern, parts, strict=False)):
            wild = (part for a, part in zip(pattern, parts, strict=False) if a == "*")
            prefix = [next(wild) if component == "*" else component for component in new.split(".")]
            return ".".join([*prefix, *parts[len(pattern) :]])
    return name


def rewrite(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], values: Mapping[str, Any]) -> None:
    """Replace the files that a folder's manifest names, and keep all others, such as a README."""
    files = checkpoint.contents(tensors, values)
    others = [path for path in sorted(folder.iterdir()) if path.name not in files]
    if nested := [path.name for path in others if not path.is_file()]:
        raise CheckpointError(f"{folder}: holds folders of others ({', '.join(nested)}); move them out of it first")
    kept = {path.name: read_bounded(path, MAX_OTHER_BYTES) for path in others}
    checkpoint.replace_folder(folder, kept | files)


def read_json(path: Path) -> Any:
    """Return a JSON file's value; raises CheckpointError where it is none."""
    try:
        return json.loads(read_bounded(path, checkpoint.MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a JSON file ({error})") from error
