"""The files of a wheel and of an editable install are where they belong."""

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from wheels import ROOT, SUBPACKAGES, build, build_wheel, copied_checkout

LOWEST = {"transformers": (5, 5), "hydra-core": (1, 3, 8)}  # releases without a known hole; see pyproject.toml
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def shipped_files() -> set[str]:
    """List every file of the five folders, by its path in the installed package; links are not followed."""
    files = [path for name in ("molrl", *SUBPACKAGES) for path in (ROOT / name).rglob("*") if path.is_file()]
    relative = [path.relative_to(ROOT) for path in files if "__pycache__" not in path.parts]
    return {path.as_posix() if path.parts[0] == "molrl" else f"molrl/{path.as_posix()}" for path in relative}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel that is built from the sdist, so that both are tested."""
    return build_wheel(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def wheel_files(wheel: Path) -> list[str]:
    return list(contents(wheel))


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in sorted(archive.namelist())}


def test_the_wheel_holds_every_file_of_the_package_once(wheel_files: list[str]) -> None:
    assert sorted(name for name in wheel_files if ".dist-info/" not in name) == sorted(shipped_files())


def test_the_wheel_adds_one_name_to_site_packages(wheel_files: list[str]) -> None:
    assert {name.split("/")[0] for name in wheel_files} == {"molrl", f"molrl-{PROJECT['version']}.dist-info"}


@pytest.fixture(scope="module")
def without_links(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkout as git makes it where links are not to be had: each is a text file with its target."""
    checkout = copied_checkout(tmp_path_factory.mktemp("without_links"))
    for name in SUBPACKAGES:
        (checkout / "molrl" / name).unlink()
        (checkout / "molrl" / name).write_text(f"../{name}")
    return checkout


def test_a_wheel_from_a_checkout_without_links_is_that_of_the_sdist(
    wheel: Path, without_links: Path, tmp_path: Path
) -> None:
    """And both hold the bytes of this checkout."""
    found = contents(build("build_wheel", without_links, tmp_path))
    assert found == contents(wheel)
    for name, data in found.items():
        if ".dist-info/" not in name:
            assert data == (ROOT / name).read_bytes(), name


EDITABLE = """
import site, sys
site.addsitedir(sys.argv[1])  # first: the packages beside may have another molrl
sys.path.append(sys.argv[2])
from molrl.cli import main
import molrl.composition
assert molrl.composition.CONF.samefile(sys.argv[3]), molrl.composition.CONF
sys.exit(main(["list", "rewards"]) or main(["sample", "--cfg"]))
"""


def test_an_editable_installation_without_links_works(without_links: Path, tmp_path: Path) -> None:
    """In a process that reads the .pth files of this installation alone (-S)."""
    with zipfile.ZipFile(build("build_editable", without_links, tmp_path)) as archive:
        archive.extractall(tmp_path / "site")
    places = [str(tmp_path / "site"), sysconfig.get_path("purelib"), str(without_links / "conf")]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-S", "-c", EDITABLE, *places]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "qed" in done.stdout
    assert "weights: qm9_heavy" in done.stdout


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


def test_the_conda_recipe_asks_for_what_the_project_asks_for() -> None:
    recipe = yaml.safe_load((ROOT / "recipe/recipe.yaml").read_text())
    python = f"python {PROJECT['requires-python']}"
    pairs = [line.split(">=") for line in PROJECT["dependencies"]]
    expected = {f"{CONDA_NAMES.get(name, name)} >={bound}" for name, bound in pairs}
    assert set(recipe["requirements"]["run"]) == {python, *expected}
    build_system = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert set(recipe["requirements"]["host"]) == {python, "pip", *(line.replace(">=", " >=") for line in build_system)}
    assert recipe["context"]["version"] == PROJECT["version"]
    assert recipe["build"]["python"]["entry_points"] == [f"molrl = {PROJECT['scripts']['molrl']}"]
    assert (recipe["about"]["license"], recipe["about"]["summary"]) == (PROJECT["license"], PROJECT["description"])


def test_the_conda_environment_installs_this_checkout_with_the_tested_versions() -> None:
    packages = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = (entry["pip"] for entry in packages if isinstance(entry, dict))
    assert pip == ["--constraint constraints.txt", "--editable .[dev,all]"]
    (python,) = (entry for entry in packages if str(entry).startswith("python="))
    assert numbers(python.partition("=")[2]) >= numbers(PROJECT["requires-python"])


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation.keys() >= {"cff-version", "message", "title", "authors"}  # those that the format requires
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation.get("repository-code") == PROJECT.get("urls", {}).get("Repository")  # neither, or both the same
    released = f"## [{PROJECT['version']}] - {citation['date-released']}"
    assert released in (ROOT / "CHANGELOG.md").read_text("utf-8")


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem)
def test_an_issue_form_has_what_forms_need(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    if path.stem == "config":
        assert form == {"blank_issues_enabled": True}
        return
    assert form.keys() >= {"name", "description", "body"}
    assert len({field["id"] for field in form["body"]}) == len(form["body"])
    for field in form["body"]:
        assert field["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
        assert field["attributes"]["label"]
    assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_all_extras_are_in_all_but_those_that_ask_for_older_releases_or_serve_tests_alone() -> None:
    extras = PROJECT["optional-dependencies"]
    (line,) = extras["all"]
    assert set(line.removeprefix("molrl[").rstrip("]").split(",")) == extras.keys() - {
        "all",
        "dev",
        "docs",
        "mlflow",
        "trackio",
        "prolif",
    }
