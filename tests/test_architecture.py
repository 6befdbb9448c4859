"""The shape of the code base: who may import whom, and what package code never does."""

import ast
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SUBPACKAGES = ("models", "rewards", "data", "conf")
VAGUE_NAMES = {"utils", "common", "base", "core", "helpers", "misc"}
TARGETS = ("molrl.", "torch.optim.")
RUNS_FOREIGN_CODE = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch.load", "yaml.load"}
LONGEST_FILE = 400

CORE = sorted(
    path
    for folder in (".", "algos", "oracle", "runs", "machine", "testing")
    for path in (ROOT / "molrl" / folder).rglob("*.py")
    if not {"models", "rewards", "data", "conf"} & set(path.relative_to(ROOT / "molrl").parts)
)
CORE = sorted(set(CORE))
PLUGINS = sorted(path for folder in SUBPACKAGES for path in ROOT.glob(f"{folder}/**/*.py"))
PACKAGE = CORE + PLUGINS
DOMAINS = ("molecules", "shapes", "images")
SEAM = (
    "domains",
    "composition",
    "api",
    "doctor",
)  # where the core meets what belongs to domains, by name and by entry point
HYDRA = ("apply_override", "composition", "multirun")
YAML = sorted(ROOT.glob("conf/**/*.yaml"))


def module_name(path: Path) -> str:
    """Return the dotted name of a file: models/molecules/egnn.py is molrl.models.molecules.egnn."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in ("molrl", *parts[parts[0] == "molrl" :]) if part != "__init__")


def imported(source: str, package: str) -> set[str]:
    """Return the dotted names that a module of `package` imports anywhere in it, functions and annotations included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            origin = ".".join([*parents, *([node.module] if node.module else [])])
            names |= {f"{origin}.{alias.name}" for alias in node.names}
    return names


def called(source: str) -> set[str]:
    """Return the dotted names of everything a module calls."""
    return {ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)}


def imports_of(path: Path) -> set[str]:
    name = module_name(path)
    return imported(path.read_text("utf-8"), name if path.stem == "__init__" else name.rpartition(".")[0])


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def offenders(paths: list[Path], forbidden: set[str]) -> list[str]:
    """Return the files that import something forbidden, each with the name of the import."""
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in sorted(imports_of(path))
        if any(within(name, package) for package in forbidden)
    ]


def import_graph(paths: Iterable[Path]) -> dict[str, set[str]]:
    """Return the modules that each module imports anywhere in it, functions included, restricted to these files."""
    names = {module_name(path): path for path in paths}
    return {
        name: {
            module for found in imports_of(path) if (module := longest_module(found, names.keys())) and module != name
        }
        for name, path in names.items()
    }


def longest_module(name: str, modules: Set[str]) -> str:
    """Return the longest of the modules that a dotted name lies in, or "" if there is none."""
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in modules), "")


def import_circles(modules: Mapping[str, Set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or not, each sorted by name."""

    def reachable(name: str) -> set[str]:
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            fresh = modules.get(waiting.pop(), set()) - seen
            seen |= fresh
            waiting += fresh
        return seen

    reached = {name: reachable(name) for name in modules}
    circles = {tuple(sorted(other for other in reached[name] if name in reached[other])) for name in modules}
    return sorted(list(circle) for circle in circles if circle)


def targets(node: object) -> Iterator[str]:
    """Yield every `_target_` in a configuration, however deep."""
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "_target_")
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import molrl.models.molecules.egnn", {"molrl.models.molecules.egnn"}),
        ("from molrl import models", {"molrl.models"}),
        ("from molrl.models.molecules.egnn import EGNN as Net", {"molrl.models.molecules.egnn.EGNN"}),
        ("from . import models", {"molrl.models"}),
        ("from .models import egnn", {"molrl.models.egnn"}),
        ("def f():\n    import rdkit.Chem as Chem", {"rdkit.Chem"}),
    ],
)
def test_every_spelling_of_an_import_is_seen(source: str, expected: set[str]) -> None:
    assert imported(source, "molrl") == expected


@pytest.mark.parametrize(
    ("modules", "circles"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}, [["b", "c"]]),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"e"}, "e": {"d"}}, [["a", "b", "c"], ["d", "e"]]),
    ],
)
def test_every_circle_of_imports_is_found(modules: Mapping[str, Set[str]], circles: list[list[str]]) -> None:
    assert import_circles(modules) == circles


def test_a_name_belongs_to_the_innermost_module() -> None:
    modules = {"molrl.data", "molrl.data.files"}
    assert longest_module("molrl.data.files.Skipped", modules) == "molrl.data.files"
    assert longest_module("molrl.data.cache", modules) == "molrl.data"
    assert longest_module("rdkit.Chem", modules) == ""


def test_data_has_no_circle_of_imports() -> None:
    graph = import_graph(ROOT.glob("data/**/*.py"))
    assert graph["molrl.data.molecules.files"] >= {"molrl.data.molecules.sdf", "molrl.data.molecules.qm9"}
    assert import_circles(graph) == []


@pytest.mark.parametrize("domain", ["molecules", "shapes", "images"])
def test_a_domain_of_data_knows_no_other(domain: str) -> None:
    others = {f"molrl.data.{other}" for other in ("molecules", "shapes", "images") if other != domain}
    assert not offenders(sorted(ROOT.glob(f"data/{domain}/**/*.py")), others)


def test_the_code_is_where_these_tests_look() -> None:
    assert {module_name(path) for path in PACKAGE} >= {
        "molrl.gaussian",
        "molrl.models.molecules.egnn",
        "molrl.data.molecules.molecule",
    }
    assert YAML


def test_the_core_knows_no_models_rewards_or_data() -> None:
    below = [path for path in CORE if path.parent.name != "molrl" or path.stem not in SEAM]
    assert not offenders(below, {"molrl.models", "molrl.rewards", "molrl.data", "rdkit"})


def test_only_the_command_line_and_the_configuration_know_hydra() -> None:
    below = [path for path in PACKAGE if path.parent.name != "molrl" or path.stem not in HYDRA]
    assert not offenders(below, {"hydra", "omegaconf"})


def test_nothing_outside_the_domains_folders_imports_or_names_a_domain() -> None:
    """Entry points alone name them (pyproject.toml); settings of old are answered by name."""
    outside = [
        path
        for path in PACKAGE
        if path.stem != "renamed" and not set(DOMAINS) & set(path.relative_to(ROOT).parts[1:2]) - {"molrl"}
    ]
    found = [
        f"{path.relative_to(ROOT)} imports {name}" for path in outside for name in imports_of(path) if of_domain(name)
    ]
    found += [
        f"{path.relative_to(ROOT)}:{node.lineno} names {node.value}"
        for path in outside
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and node.value in DOMAINS
    ]
    assert not found
    assert of_domain("molrl.models.shapes.model.load")
    assert not of_domain("molrl.models.shipped")


def of_domain(name: str) -> bool:
    """Tell whether a dotted name lies in the folder of a domain."""
    return bool(set(DOMAINS) & set(name.split(".")[2:3])) and name.startswith("molrl.")


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_knows_no_other(domain: str) -> None:
    own = [path for path in PLUGINS if path.relative_to(ROOT).parts[1] == domain]
    others = {f"molrl.{folder}.{other}" for folder in SUBPACKAGES for other in DOMAINS if other != domain}
    assert own
    assert not offenders(own, others)


def test_there_is_no_circle_of_imports() -> None:
    """Not even by imports inside functions."""
    assert import_circles(import_graph(PACKAGE)) == []


def test_models_rewards_and_data_know_no_algorithm() -> None:
    assert not offenders(PLUGINS, {"molrl.algos"})


def test_every_module_has_one_import_name() -> None:
    assert not offenders(
        PACKAGE + [path for folder in ("tests", "benchmarks") for path in ROOT.glob(f"{folder}/**/*.py")],
        set(SUBPACKAGES),
    )


def test_every_file_is_named_after_a_concept() -> None:
    folders = ("molrl", *SUBPACKAGES, "tests", "benchmarks")
    named = [path for name in folders for path in (ROOT / name).rglob("*") if path.stem.strip("_") in VAGUE_NAMES]
    assert not named


def test_every_file_can_be_read_in_one_sitting() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in PACKAGE}
    assert not {path: lines for path, lines in lengths.items() if lines >= LONGEST_FILE}


def test_nothing_that_is_read_from_a_file_is_run() -> None:
    sent = [
        ROOT / "molrl/machine/workers" / name for name in ("local.py", "pool.py", "process.py")
    ]  # between a process and its own
    others = [path for path in PACKAGE if path not in sent]
    found = offenders(others, RUNS_FOREIGN_CODE)
    for path in others:
        source = path.read_text("utf-8")
        calls = called(source) & (RUNS_FOREIGN_CODE | {"eval", "exec"})
        found += [f"{path.relative_to(ROOT)} calls {name}" for name in sorted(calls)]
        if "allow_pickle=True" in source:
            found.append(f"{path.relative_to(ROOT)} lets numpy unpickle")
    assert not found


@pytest.mark.parametrize("path", YAML, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_configuration_builds_only_what_is_ours_or_an_optimizer(path: Path) -> None:
    assert [name for name in targets(yaml.safe_load(path.read_text("utf-8"))) if not name.startswith(TARGETS)] == []
