"""Settings and command lines that molrl prints are read back as they were meant, by Hydra and by bash."""

import shlex
import subprocess
from pathlib import Path

import pytest
from command import QUICK_RUN, molrl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from molrl.arguments import overrides
from molrl.composition import Composition
from molrl.override import as_value, command_line, in_quotes, shell_line, unquoted

TRICKY = st.text("\\'\"${}[](),=:;&|<>*?!#~ \t\nab1", max_size=12)
TEXTS = TRICKY | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
FOLDERS = (
    "it's {a}, b=c",
    'say "x" [1] ${d}\\',
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("my run", "null", "~")),  # in a path these are plain
)


def read_back(value: str) -> object:
    """Return what Hydra and OmegaConf make of a value."""
    config = OmegaConf.create({"run": None})
    OmegaConf.update(config, "run", OverridesParser.create().parse_override(f"run={value}").value())
    return OmegaConf.to_container(config, resolve=True)["run"]  # type: ignore[call-overload, index]


@settings(max_examples=300, deadline=None)
@given(TEXTS)
@example("a\\'${b}\\")
@example("null")
@example("1e3")
def test_any_text_comes_back_from_hydra_as_it_was(text: str) -> None:
    for value in (as_value(text), in_quotes(text)):
        assert read_back(value) == text
        assert unquoted(value) == text


@settings(deadline=None)
@given(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False))
def test_any_plain_value_comes_back_from_hydra_as_it_was(value: float | None) -> None:
    assert read_back(as_value(value)) == value


@settings(max_examples=30, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=20))
def test_any_words_come_back_from_bash_as_they_were(words: list[str]) -> None:
    script = f"printf '%s\\0' {shell_line(words)}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == words


def from_bash(line: str) -> list[str]:
    """Return the words of a command line without its first one, as bash makes them."""
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[1:-1]


@settings(max_examples=30, deadline=None)
@given(TEXTS.filter(bool))
@example("null")
@example("it's = [a], {b}")
def test_a_path_in_a_printed_command_is_the_path_that_the_command_gets(path: str) -> None:
    command, setting = from_bash(command_line("sample", {"out": path}))
    assert Composition("sample", overrides(command, [setting])).config["out"] == path


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", FOLDERS)
def test_the_command_that_goes_on_with_a_run_can_be_pasted(name: str, tmp_path: Path) -> None:
    run = tmp_path / name
    done = molrl("train", "algo=ddpo", *QUICK_RUN, f"run={in_quotes(str(run))}", "minutes=1e-5")
    assert done.code == 0, done
    assert (run / "summary.json").is_file()
    line = next(line for line in done.out.splitlines() if line.startswith("ended:")).partition("to go on: ")[2]
    again = molrl(*from_bash(line), "minutes=null")
    assert again.code == 0, again
    assert again.out.startswith(f"{run}: ")
    assert "going on after 1 iterations" in again.out
    complete = molrl(*from_bash(line)).out
    assert complete.startswith(f"{run} is complete")
    assert shlex.split(complete.partition("to go on: ")[2])[-1] == "iterations=+2"
