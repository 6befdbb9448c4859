"""Folders of shapes: which of their files are shapes, and the class of each."""

import zlib
from collections.abc import Sequence
from pathlib import Path

from molrl.data.files import open_unchecked, suffix
from molrl.data.shapes.mesh import ShapeError
from molrl.data.shapes.point_text import begins_with_points

SHAPE_SUFFIXES = (
    *(".off", ".obj", ".stl", ".ply", ".glb", ".gltf"),
    *(".xyz", ".txt", ".pts", ".pcd", ".npy", ".npz"),
)
ALSO_OTHER_TEXT = ".txt"  # in a folder, a file of this kind may be a list or a note
MAX_FILES = 200_000
SPLITS = ("train", "val", "valid", "validation", "test")  # names of folders that are not classes
SYNSETS = {  # classes of ShapeNet
    **{"02691156": "airplane", "02828884": "bench", "02933112": "cabinet", "02958343": "car", "03001627": "chair"},
    **{"03211117": "display", "03636649": "lamp", "03691459": "speaker", "04090263": "rifle", "04256520": "sofa"},
    **{"04379243": "table", "04401088": "telephone", "04530566": "vessel"},
}

Parts = tuple[str, ...]


def list_files(source: Path, classes: Sequence[str] | None, split: str | None) -> list[tuple[Path, str, str]]:
    """List the files of a source, each with its class and its name below the source.

    Raises ValueError for a source that is missing or holds no shape file, and for unknown classes and splits.
    """
    if not source.is_dir():
        if suffix(source) not in SHAPE_SUFFIXES:
            raise ValueError(
                f"{source}: unknown suffix {suffix(source)!r}, allowed: {', '.join(SHAPE_SUFFIXES)} and folders"
            )
        if not source.is_file():
            raise ValueError(f"{source}: no such file")
        return [(source, "", source.name)]
    paths = []
    for path in sorted(source.rglob("*")):
        if is_shape_file(path):
            paths.append(path)
            if len(paths) > MAX_FILES:
                raise ValueError(f"{source}: more than {MAX_FILES} files")
    if not paths:
        raise ValueError(f"{source}: no shape files, allowed: {', '.join(SHAPE_SUFFIXES)}")
    inner = [path.relative_to(source).parts for path in paths]
    labels = classes_of(inner, source.resolve().name)
    if unknown := sorted(set(classes or ()) - set(labels)):
        raise ValueError(f"classes: got {unknown[0]!r}, {source} has {', '.join(map(repr, sorted(set(labels))))}")
    if split is not None and not any(split in parts[:-1] for parts in inner):
        raise ValueError(f"split: got {split!r}, {source} has no folder of that name")
    return [
        (path, label, "/".join(parts))
        for path, label, parts in zip(paths, labels, inner, strict=True)
        if (classes is None or label in classes) and (split is None or split in parts[:-1])
    ]


def is_shape_file(path: Path) -> bool:
    """Return whether a file in a folder is one of shapes: not so the notes of macOS and text that holds no points."""
    if suffix(path) not in SHAPE_SUFFIXES or path.name.startswith("._") or not path.is_file():
        return False
    if suffix(path) != ALSO_OTHER_TEXT:
        return True
    try:
        with open_unchecked(path) as file:
            return begins_with_points(file.read(4096))
    except (OSError, EOFError, zlib.error, ShapeError):
        return False


def classes_of(files: Sequence[Parts], source: str) -> list[str]:
    """Return the class of each file, the name of a folder above it, "" if there is none.

    A number of ShapeNet, also that of the source, is the class by its name. Folders of splits do not count. Where all
    files have one name, as in CLASS/NUMBER/models/model.obj, the folder that tells them apart does not count, nor do
    those in it. Of what is left, a first folder that holds everything is passed over; the next one is the class.
    """
    folders = [tuple(part for part in parts[:-1] if part.lower() not in SPLITS) for parts in files]
    if len({parts[-1] for parts in files}) == 1:
        while all(len(parts) > 1 for parts in folders) and len({parts[-1] for parts in folders}) == 1 < len(folders):
            folders = [parts[:-1] for parts in folders]
        if all(len(parts) > 1 for parts in folders):
            folders = [parts[:-1] for parts in folders]
    while all(len(parts) > 1 for parts in folders) and len({parts[0] for parts in folders}) == 1:
        folders = [parts[1:] for parts in folders]
    named = [next((part for part in parts[:-1] if part in SYNSETS), source) for parts in files]
    return [SYNSETS.get(number, parts[0] if parts else "") for number, parts in zip(named, folders, strict=True)]
