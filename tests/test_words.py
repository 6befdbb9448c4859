"""The package speaks the field's language: docstrings are sentences, and names are the standard terms."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = sorted(path for folder in ("molrl", "models", "rewards", "data") for path in ROOT.glob(f"{folder}/**/*.py"))
CODE = [path for path in PACKAGE if path != ROOT / "molrl/renamed.py"]  # names the settings of old on purpose
YAML = sorted(ROOT.glob("conf/**/*.yaml"))

MIN_WORDS = 5
FRAGMENT = re.compile(r"(What|Whether|Which|Of|Who|How|Those|That)\b")

# Banned as a part of any identifier: `told`, `domain_asked`, `Pictures`. Left out: `found`, whose list is too long, and
# words with an ordinary meaning elsewhere, such as first, memory, whole, shared, turn and noise.
PARTS = {
    **dict.fromkeys(("told", "heard", "asked", "said"), "the noun that it holds"),
    **dict.fromkeys(("picture", "pictures"), "image"),
    "abreast": "lockstep",
    "answered": "collective_errors",
    "asking": "RewardQueue",
    "behind": "missing_passes",
    "careful": "score_safely",
    "crew": "WorkerPool",
    "density": "likelihood, log_prob",
    "everyone": "world",
    "examiner": "RecordScorer",
    "foresee": "lookahead_x0",
    "hired": "make_pool",
    "inquiry": "RecordRequest",
    "keeping": "CheckpointPolicy",
    "obey": "propagate_interrupt",
    "spelled": "summary_line",
    "spoken": "callable_name",
    "staff": "build_workers",
    "stale": "log_ratio_errors",
    "standing": "pre_update_metrics, stable_fraction",
    "understood": "as_checkpoint_error",
    "untrained": "parameters_to_freeze",
    "verdict": "RecordResult",
}
# Banned as a whole identifier only: within others, or as a word of prose, they are ordinary.
NAMES = {
    **dict.fromkeys(("MOST", "LARGEST", "FEWEST", "SMALLEST"), "MAX_... or MIN_... with a noun"),
    **dict.fromkeys(("GLANCE", "SHOWN", "NOTED", "PATIENCE"), "a noun"),
    **dict.fromkeys(("ask", "tell", "think"), "to_q, to_kv, mlp; submit"),
    "Bench": "WorkerState, Scorers",
    "Judge": "Scorer",
    "numbers_of": "log_prob_scale",
    "silent": "zero_init",
}
# Banned as the name of a function or class of these modules; elsewhere a tensor may be called `noise`, say.
DEFINITIONS = {
    "molrl/policy.py": {"noise": "predict_target"},
    "molrl/samplers.py": {"noise": "predict_target", "noised": "add_noise", "clean": "predict_x0"},
    "molrl/machine/processes.py": {"first": "is_main", "texts": "gather_strings"},
    "": {"judge": "score_one", "noised": "add_noise"},  # of any module
}
SETTINGS = {
    "asked": "classes",
    "density": "likelihood",
    "least": "min_count",
    "memory": "buffer_size",
    "picture": "image_size",
    "trained": "trainable_parameters",
}


def bad_docstrings(source: str) -> Iterator[str]:
    """Yield the line and the opening of each docstring that is too short or opens like a fragment."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None and (len(text.split()) < MIN_WORDS or FRAGMENT.match(text)):
                yield f"{getattr(node, 'lineno', 1)}: {text.partition(chr(10))[0]!r}"


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield every name that the code defines, binds, reads or passes by keyword, with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.alias(name=name, asname=alias):
                yield node.lineno, alias or name
            case ast.ExceptHandler(name=str(name)):
                yield node.lineno, name


def parts_of(name: str) -> list[str]:
    """Split an identifier into its words in lower case: `domain_asked`, `PointCloud` and `VLMJudge` have two each."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def bad_identifiers(source: str, module: str = "") -> Iterator[str]:
    """Yield the line, the identifier and the standard term for each banned name in a module's code."""
    tree = ast.parse(source)
    for line, name in identifiers(tree):
        for term in filter(None, (NAMES.get(name), *map(PARTS.get, parts_of(name)))):
            yield f"{line}: {name}, better {term}"
    banned = DEFINITIONS[""] | DEFINITIONS.get(module, {})
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name in banned:
            yield f"{node.lineno}: {node.name}, better {banned[node.name]}"


def bad_settings(node: object) -> Iterator[str]:
    """Yield the banned keys of a configuration, however deep, with their standard terms."""
    if isinstance(node, dict):
        yield from (f"{key}, better {SETTINGS[key]}" for key in node if key in SETTINGS)
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from bad_settings(value)


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_are_sentences(path: Path) -> None:
    assert list(bad_docstrings(path.read_text("utf-8"))) == []


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_are_the_standard_terms(path: Path) -> None:
    assert list(bad_identifiers(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())) == []


@pytest.mark.parametrize("path", YAML, ids=lambda path: str(path.relative_to(ROOT)))
def test_settings_have_the_standard_names(path: Path) -> None:
    assert list(bad_settings(yaml.safe_load(path.read_text("utf-8")))) == []


@pytest.mark.parametrize(
    ("docstring", "is_bad"),
    [
        ("Of the critic.", True),
        ("Return the noise.", True),
        ("What a finished run came to, in one line.", True),
        ("Whether this process is the one that writes.", True),
        ("Return the noise of a state [b, n, c].", False),
        ("Whatever a file holds, its reader says why.", False),
    ],
)
def test_a_fragment_is_no_sentence(docstring: str, is_bad: bool) -> None:
    sources = (f'"""{docstring}"""', f'class A:\n    """{docstring}"""', f'def f():\n    """{docstring}"""')
    assert [bool(list(bad_docstrings(source))) for source in sources] == [is_bad] * 3


@pytest.mark.parametrize(
    "source",
    [
        "told = 1",
        "domain_asked = 1",
        "world.everyone",
        "def f(density): ...",
        "f(density='joint')",
        "class Crew: ...",
        "class PoolVerdict: ...",
        "def draw_pictures(): ...",
        "from x import y as heard",
        "MOST = 3",
        "GLANCE, LIMIT = 48, 512",
        "numbers_of(x)",
        "class Scorer:\n    def judge(self): ...",
        "async def spoken(): ...",
        "try: ...\nexcept OSError as said: ...",
    ],
)
def test_a_banned_name_is_seen(source: str) -> None:
    assert list(bad_identifiers(source))


@pytest.mark.parametrize(
    "source",
    ["'told'", "# told", "first, memory, whole, shared = range(4)", "noise = clean", "judge: str", "MOST_LIKELY = 1"],
)
def test_an_ordinary_name_is_not_banned(source: str) -> None:
    assert list(bad_identifiers(source)) == []


def test_a_method_is_banned_in_its_module_alone() -> None:
    source = "class DDIM:\n    def clean(self): ..."
    assert list(bad_identifiers(source, "molrl/samplers.py")) == ["2: clean, better predict_x0"]
    assert list(bad_identifiers(source, "molrl/runs/checkpoints.py")) == []


def test_the_modules_of_the_ban_exist() -> None:
    assert {ROOT / module for module in DEFINITIONS if module} <= set(PACKAGE)


def test_a_banned_setting_is_seen() -> None:
    assert list(bad_settings({"a": [{"memory": 3, "b": {"least": 1}}]})) == [
        "memory, better buffer_size",
        "least, better min_count",
    ]
    assert list(bad_settings({"buffer_size": 3, "name": "memory"})) == []
