"""A plug-in for tests that change torch for good: those marked `own_process` run in a process of their own.

The first of them in a file starts one process for all that were selected there; each then passes, fails or skips as it
did in that process.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

MARK = "own_process"
Cases = dict[str, ElementTree.Element]  # what became of each test, by its name
FILES = pytest.StashKey[dict[Path, tuple[Cases, str]]]()  # with what the process printed


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Let a marked test end here as it ended in the process of its file."""
    if pyfuncitem.get_closest_marker(MARK) is None:
        return None
    files, path = pyfuncitem.session.stash.setdefault(FILES, {}), pyfuncitem.path
    if path not in files:
        files[path] = {}, "its process was stopped"  # holds where a time limit ends the next line
        files[path] = run_marked(pyfuncitem.session, path)
    cases, printed = files[path]
    if pyfuncitem.name not in cases:
        pytest.fail(f"did not run:\n{printed}", pytrace=False)
    for outcome in cases[pyfuncitem.name]:
        if outcome.tag == "skipped":
            pytest.skip(outcome.get("message", ""))
        if outcome.tag in {"failure", "error"}:
            pytest.fail("".join(outcome.itertext()), pytrace=False)
    return True


def run_marked(session: pytest.Session, path: Path) -> tuple[Cases, str]:
    """Run the selected and marked tests of a file in a new process."""
    ids = [item.nodeid for item in session.items if item.path == path and item.get_closest_marker(MARK)]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        done = run_pytest(
            *("-p", f"no:{MARK}", "-p", "no:cacheprovider", "-m", MARK),
            *(f"--rootdir={session.config.rootpath}", f"--basetemp={folder}/tests", f"--junitxml={report}", *ids),
            cwd=session.config.rootpath,
        )
        cases = ElementTree.parse(report).iter("testcase") if report.exists() else ()
        return {case.attrib["name"]: case for case in cases}, done.stdout


def run_pytest(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run pytest in a new process, with no options from the environment."""
    command = (sys.executable, "-m", "pytest", *arguments)
    env = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    output, errors = subprocess.PIPE, subprocess.STDOUT
    return subprocess.run(command, cwd=cwd, env=env, stdout=output, stderr=errors, text=True, check=False)
