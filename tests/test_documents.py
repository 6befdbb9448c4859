"""The documents: links lead somewhere, commands compose, code runs, tables say what the settings say."""

import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equations
import pytest
import tables
from documents import (
    DOCUMENTS,
    INPUTS,
    ROOT,
    WALKS,
    WITH_COMMANDS,
    blocks,
    command_lines,
    commands,
    name_of,
    tool_lines,
    walk,
    write_earlier,
    write_files,
)

from molrl.arguments import parse
from molrl.cli import main
from molrl.models import hub
from molrl.models.sharing import split_words

MAX_README_LINES = 120
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def prose(path: Path) -> str:
    """Return a document without its code blocks and code spans."""
    return re.sub(r"`[^`]*`", "", re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL))


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path) -> list[str]:
    """Return the relative links of a document that lead to no file or to no heading."""
    broken = []
    for link in LINK.findall(prose(path)):
        if "://" in link or link.startswith("mailto:"):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_relative_link_and_image_leads_somewhere(path: Path) -> None:
    assert broken_links(path) == []


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A page\n[a](gone.md) [b](#a-page) [c](#no-heading) ![d](gone.png) `[e](code.md)`\n")
    assert broken_links(page) == ["gone.md", "#no-heading", "gone.png"]


@pytest.mark.parametrize("path", WITH_COMMANDS, ids=name_of)
def test_every_command_in_a_console_block_exists(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    existing = set(re.findall(r"^  (\w+)  +", capsys.readouterr().out, re.MULTILINE))
    assert set(commands(path.read_text("utf-8"))) <= existing


TEXTS = [path.read_text("utf-8") for path in WITH_COMMANDS]
COMMANDS: Mapping[str, str] = {  # each command once, with a document that has the files it needs, if one does
    line: text for text in sorted(TEXTS, key=lambda text: 'title="' in text) for line in command_lines(text)
}


def command_cases() -> list[Any]:
    """Return all commands; those of the pages of single rewards, which differ by little, are for the slow tests."""
    rewards = {line for path in ROOT.glob("docs/rewards/*/*.md") for line in command_lines(path.read_text("utf-8"))}
    others = {
        line for path in WITH_COMMANDS if path.parts[-3] != "rewards" for line in command_lines(path.read_text("utf-8"))
    }
    slow = rewards - others
    return [pytest.param(line, marks=[pytest.mark.slow] if line in slow else []) for line in sorted(COMMANDS)]


@pytest.mark.parametrize("line", command_cases())
def test_the_settings_of_every_command_compose(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--cfg` composes and checks the names and values of all settings, and builds nothing."""
    write_files(COMMANDS[line], tmp_path)
    write_earlier(line, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main([*shlex.split(line)[1:], "--cfg"]) == 0, capsys.readouterr().err


def test_a_command_without_a_needed_setting_is_found() -> None:
    text = "```console\nmolrl train task=aesthetic \\\n  algo=ddpo  # head\ntorchrun -m molrl train a=b ... c=d\n```\n"
    assert command_lines(text) == ["molrl train task=aesthetic algo=ddpo"]
    assert main(["train", "task=aesthetic", "algo=ddpo", "--cfg"]) == 2


TOOL_LINES = sorted({line for text in TEXTS for line in tool_lines(text)})


@pytest.mark.parametrize("line", TOOL_LINES)
def test_the_words_of_every_command_without_settings_are_known(line: str, tmp_path: Path) -> None:
    """Pushes and cards need a finished run, so that their words and the names of their settings are checked alone."""
    _, command, *words = shlex.split(line.replace("my_yaml", str(tmp_path)))
    settings = parse(command, words).settings
    if command == "list":
        assert main([command, *words]) == 0
    elif command == "doctor":
        assert settings == []
    else:
        (_, *places), _ = split_words(command, settings)
        assert [hub.parse(place).pinned for place in places] == ([] if command == "card" else [words[1]])


def test_commands_are_found_behind_a_launcher_and_not_in_comments() -> None:
    text = "```console\nmolrl train a=b\n# molrl no\ntorchrun -m molrl fly\nmake x  # molrl no\n```\n"
    assert commands(text) == ["train", "fly"]


SLOW = {"README.md", "docs/howto/own_algorithm.md", "docs/howto/own_reward.md"}  # they train
WITH_CODE = [
    pytest.param(path, id=name_of(path), marks=[pytest.mark.slow] if name_of(path) in SLOW else [])
    for path in WITH_COMMANDS
    if blocks(path.read_text("utf-8"), "python")
]


@pytest.mark.parametrize("path", WITH_CODE)
def test_the_code_of_a_page_runs_from_top_to_bottom(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = path.read_text("utf-8")
    names = write_files(text, tmp_path)
    if name_of(path) in INPUTS:
        INPUTS[name_of(path)](tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in names:
        monkeypatch.delitem(sys.modules, Path(name).stem, raising=False)
    state: dict[str, object] = {"__name__": "page"}
    for block in blocks(text, "python"):
        exec(compile(block, name_of(path), "exec"), state)


@pytest.mark.parametrize(("path", "up"), list(tables.pages()), ids=lambda value: str(value).removeprefix(f"{ROOT}/"))
def test_tables_of_settings_are_those_of_the_settings(path: Path, up: str) -> None:
    """Where this fails, `python docs/hooks/tables.py` writes the tables anew."""
    text = path.read_text("utf-8")
    assert tables.filled(text, up) == text


def test_a_changed_default_is_found() -> None:
    page = (ROOT / "docs/algorithms/ddpo.md").read_text("utf-8")
    assert tables.filled(page.replace("| `algo.clip` | `0.2` |", "| `algo.clip` | `0.3` |"), "../") == page


def test_every_setting_of_a_table_has_a_meaning() -> None:
    filled = "\n".join(match[0] for text in TEXTS for match in tables.MARKED.finditer(text))
    assert len(re.findall(r"^\| `", filled, re.MULTILINE)) > 100
    assert re.findall(r"^\| `.*\| *\|$", filled, re.MULTILINE) == []


def test_every_algorithm_states_its_objective() -> None:
    pages = {path.stem: path.read_text("utf-8") for path in ROOT.glob("docs/algorithms/*.md")}
    methods = {name for name, text in pages.items() if "<!-- settings algo/" in text}
    assert methods
    assert methods == {name for name in methods if "\n## Objective\n" in pages[name]}


@pytest.mark.parametrize("group", ["algo", "reward"])
def test_every_algorithm_and_reward_has_a_table_of_its_settings(group: str) -> None:
    described = {name for text in TEXTS for name in re.findall(r"<!-- settings ([\w/]+) -->", text)}
    existing = {str(path.relative_to(ROOT / "conf").with_suffix("")) for path in ROOT.glob(f"conf/{group}/**/*.yaml")}
    assert existing - described == {f"{group}/code"}


RESULTS = sorted(path for path in ROOT.glob("docs/results/*.md") if path.stem not in ("README", "reproduce"))


@pytest.mark.parametrize("index", ["README.md", "reproduce.md"])
def test_every_page_of_results_is_in_its_indices(index: str) -> None:
    linked = {link.partition("#")[0] for link in LINK.findall((ROOT / "docs/results" / index).read_text("utf-8"))}
    assert {path.name for path in RESULTS} <= linked


def test_the_scripts_that_make_the_numbers_exist() -> None:
    named = {name for text in TEXTS for name in re.findall(r"\bbenchmarks/(\w+\.py)\b", text)}
    reproduce = (ROOT / "docs/results/reproduce.md").read_text("utf-8")
    listed = set(re.findall(r"(?<![\w/])(\w+\.py)\b", reproduce))  # a row names its folder once
    assert named
    assert listed
    assert {name for name in named | listed if not (ROOT / "benchmarks" / name).is_file()} == set()


@pytest.mark.parametrize("latex", [r"\sum_{t=1}^{T} x_t", r"\mathbb{E}\left[\sum_{t=1}^{T} x_t\right]"])
def test_a_displayed_sum_has_its_limits_above_and_below(latex: str) -> None:
    drawn = equations.on_page_content(f'<div class="arithmatex">\\[{latex}\\]</div>')
    assert re.search("<munderover><mo>&#x02211;</mo>", drawn)
    beside = equations.on_page_content(f'<span class="arithmatex">\\({latex}\\)</span>')
    assert "munderover" not in beside


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= MAX_README_LINES


@pytest.mark.slow
@pytest.mark.parametrize("page", WALKS)
def test_the_commands_of_a_page_run_one_after_another(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an empty folder, as a reader types them."""
    text = (ROOT / page).read_text("utf-8")
    write_files(text, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for arguments in walk(text):
        assert main(arguments) in (0, 4), arguments
