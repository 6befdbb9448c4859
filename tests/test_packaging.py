"""The files of a wheel and of an editable install are where they belong."""

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

LOWEST = {"transformers": (5, 5), "hydra-core": (1, 3, 8)}  # releases without a known hole; see pyproject.toml
ROOT = Path(__file__).parents[1]
SUBPACKAGES = ("models", "rewards", "data", "conf")
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def shipped_files() -> set[str]:
    """List every file of the five folders, by its path in the installed package; links are not followed."""
    files = [path for name in ("molrl", *SUBPACKAGES) for path in (ROOT / name).rglob("*") if path.is_file()]
    relative = [path.relative_to(ROOT) for path in files if "__pycache__" not in path.parts]
    return {path.as_posix() if path.parts[0] == "molrl" else f"molrl/{path.as_posix()}" for path in relative}


def build(command: str, source: Path, target: Path) -> Path:
    """Run one of setuptools' build commands on a source tree, without the network; returns the file made."""
    made = subprocess.run(
        [sys.executable, "-c", BUILD, command, str(target)], cwd=source, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return target / made.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkout, target = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("sdist")
    for folder in ("molrl", *SUBPACKAGES):
        shutil.copytree(ROOT / folder, checkout / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, checkout)
    return build("build_sdist", checkout, target)


@pytest.fixture(scope="module")
def wheel_files(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the files of the wheel that is built from the sdist, so that both are tested."""
    unpacked, target = tmp_path_factory.mktemp("unpacked"), tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    with zipfile.ZipFile(build("build_wheel", source, target)) as archive:
        return archive.namelist()


def test_the_wheel_holds_every_file_of_the_package_once(wheel_files: list[str]) -> None:
    assert sorted(name for name in wheel_files if ".dist-info/" not in name) == sorted(shipped_files())


def test_the_wheel_adds_one_name_to_site_packages(wheel_files: list[str]) -> None:
    version = importlib.metadata.version("molrl")
    assert {name.split("/")[0] for name in wheel_files} == {"molrl", f"molrl-{version}.dist-info"}


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_the_links_in_the_package_lead_to_the_folders_beside_it(name: str) -> None:
    assert (ROOT / "molrl" / name).readlink() == Path("..", name)


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_the_folders_beside_the_package_are_its_subpackages(name: str) -> None:
    spec = importlib.util.find_spec(f"molrl.{name}")
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).resolve() == ROOT / name / "__init__.py"


def test_the_command_line_is_installed() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="molrl")
    assert callable(script.load())


def test_no_release_with_a_known_hole_is_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    found = [match for line in lines if (match := re.match(r"([\w.-]+)>=([\d.]+)", line))]
    bounds: dict[str, str] = {match[1]: match[2] for match in found}
    for name, lowest in LOWEST.items():
        assert tuple(map(int, bounds[name].split("."))) >= lowest


def test_the_tested_versions_are_within_the_bounds() -> None:
    """And so is what is installed; each dependency has a lower bound and no upper one."""
    tested = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    known = {name.lower().replace("_", "-"): version for name, version in tested.items()}
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]:
        name, bound = line.split(">=")
        version = known[name.replace("_", "-")].split("+")[0]
        assert numbers(version) >= numbers(bound), line


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]
