"""The documents with an installed wheel: commands and code run outside the checkout, without the network."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from documents import EARLIER, INPUTS, ROOT, WALKS, WITH_COMMANDS, blocks, command_lines, name_of, walk, write_files
from wheels import build_wheel

MINUTES = {"README.md"}  # its code trains for minutes
TEXTS = {name_of(path): path.read_text("utf-8") for path in WITH_COMMANDS}
PAGES = [name for name, text in TEXTS.items() if name in WALKS or (name not in MINUTES and blocks(text, "python"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with molrl as pip installs it, without its dependencies."""
    wheel = build_wheel(tmp_path_factory.mktemp("build"))
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target)]
    done = subprocess.run([*pip, str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def run_page(site: Path, folder: Path, commands: Sequence[Sequence[str]], code: Sequence[str]) -> None:
    """Run commands and blocks of code in a folder, with the installed molrl; fails with what they printed."""
    page = json.dumps({"commands": commands, "blocks": code})
    script = [sys.executable, str(ROOT / "tests/installed_page.py"), str(site)]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(script, cwd=folder, env=environment, input=page, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_outside_the_checkout(page: str, site: Path, tmp_path: Path) -> None:
    text = TEXTS[page]
    write_files(text, tmp_path)
    if page in INPUTS:
        INPUTS[page](tmp_path)
    run_page(site, tmp_path, walk(text) if page in WALKS else [], blocks(text, "python"))


@pytest.mark.timeout(1200)  # some twenty seconds of one core, which may be shared
def test_the_commands_of_all_pages_compose_outside_the_checkout(site: Path, tmp_path: Path) -> None:
    """Commands on files and runs of a page's own are left to the test above and to that of the checkout."""
    texts = [text for text in TEXTS.values() if 'title="' not in text]
    lines = {line for text in texts for line in command_lines(text) if not EARLIER.search(line)}
    composed = [[*shlex.split(line)[1:], "--cfg"] for line in sorted(lines)]
    assert composed
    run_page(site, tmp_path, composed, [])


def test_a_command_that_fails_is_found(site: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="exit code 2: molrl sample n=no"):
        run_page(site, tmp_path, [["sample", "n=no"]], [])
