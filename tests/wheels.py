"""A wheel of this checkout, built as a release is: from an sdist, without the network."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUBPACKAGES = ("models", "rewards", "data", "conf")
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def build(command: str, source: Path, target: Path) -> Path:
    """Run one of setuptools' build commands on a source tree, without the network; returns the file made."""
    made = subprocess.run(
        [sys.executable, "-c", BUILD, command, str(target)], cwd=source, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return target / made.stdout.splitlines()[-1]


def copied_checkout(checkout: Path) -> Path:
    for folder in ("molrl", *SUBPACKAGES):
        shutil.copytree(ROOT / folder, checkout / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, checkout)
    return checkout


def build_wheel(folder: Path) -> Path:
    """Return a wheel that is built from the sdist of a copy of this checkout; all files are made in the folder."""
    names = ("checkout", "sdist", "unpacked", "wheel")
    checkout, sdists, unpacked, target = (folder / name for name in names)
    for each in (checkout, sdists, unpacked, target):
        each.mkdir()
    with tarfile.open(build("build_sdist", copied_checkout(checkout), sdists)) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    return build("build_wheel", source, target)
