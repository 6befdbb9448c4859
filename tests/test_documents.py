"""The documents: links lead somewhere, commands exist and compose, the README fits on a screen or two."""

import re
import shlex
from pathlib import Path

import pytest

from molrl.cli import main

ROOT = Path(__file__).parents[1]
MAX_README_LINES = 120
NOT_OURS = {"molrl", "runs", "build", "dist", "shared"}  # links to the folders beside them, and what runs leave behind


def is_ours(path: Path) -> bool:
    """Return whether a document belongs to the project."""
    parts = path.relative_to(ROOT).parts
    return NOT_OURS.isdisjoint(parts) and not any(part.startswith(".") for part in parts)


DOCUMENTS = sorted(path for path in ROOT.glob("**/*.md") if is_ours(path))
WITH_COMMANDS = [path for path in DOCUMENTS if path.name == "README.md" or "docs" in path.relative_to(ROOT).parts]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CONSOLE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


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


def commands(text: str) -> list[str]:
    """Return the name after `molrl` in each line of the console blocks."""
    lines = "\n".join(CONSOLE.findall(text)).splitlines()
    return [match[1] for line in lines if (match := re.match(r"(?:.* -m )?molrl ([\w-]+)", line.partition("#")[0]))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_and_image_leads_somewhere(path: Path) -> None:
    assert broken_links(path) == []


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A page\n[a](gone.md) [b](#a-page) [c](#no-heading) ![d](gone.png) `[e](code.md)`\n")
    assert broken_links(page) == ["gone.md", "#no-heading", "gone.png"]


@pytest.mark.parametrize("path", WITH_COMMANDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_in_a_console_block_exists(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    existing = set(re.findall(r"^  (\w+)  +", capsys.readouterr().out, re.MULTILINE))
    assert set(commands(path.read_text("utf-8"))) <= existing


def command_lines(text: str) -> list[str]:
    """Return the commands that settings alone decide, on one line each; those on an earlier run need that run."""
    lines = "\n".join(CONSOLE.findall(text)).replace("\\\n", " ").splitlines()
    plain = [" ".join(line.partition("#")[0].split()) for line in lines]
    return [line for line in plain if re.match(r"molrl (train|pretrain|sample) ", line) and "=runs/" not in line]


COMMAND_LINES = [line for path in WITH_COMMANDS for line in command_lines(path.read_text("utf-8"))]


@pytest.mark.parametrize("line", sorted(set(COMMAND_LINES)))
def test_the_settings_of_every_command_compose(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--cfg` composes and checks the names and values of all settings, and builds nothing."""
    assert main([*shlex.split(line)[1:], "--cfg"]) == 0, capsys.readouterr().err


def test_a_command_without_a_needed_setting_is_found() -> None:
    text = "```console\nmolrl train task=aesthetic \\\n  algo=ddpo  # head\nmolrl train resume=runs/mine\n```\n"
    assert command_lines(text) == ["molrl train task=aesthetic algo=ddpo"]
    assert main(["train", "task=aesthetic", "algo=ddpo", "--cfg"]) == 2


def test_commands_are_found_behind_a_launcher_and_not_in_comments() -> None:
    text = "```console\nmolrl train a=b\n# molrl no\ntorchrun -m molrl fly\nmake x  # molrl no\n```\n"
    assert commands(text) == ["train", "fly"]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= MAX_README_LINES
