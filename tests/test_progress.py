"""No command is silent for long: whenever it has said nothing for a while, a plain line says what is being done."""

import contextlib
import io
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from molrl import progress
from molrl.notebook import NotebookBar, in_notebook
from molrl.progress import format_clock, note_output, paused, speaking, stage

LINE = re.compile(r"molrl: (.*), (\d+:\d\d)(?:, about (\d+:\d\d) left)?")


@pytest.fixture
def _often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let lines come every tenth of a second."""
    monkeypatch.setattr(progress, "SILENCE", 0.1)
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


@contextlib.contextmanager
def listening() -> Iterator[io.StringIO]:
    """Yield what is written on stderr within the block, where a command speaks."""
    with contextlib.redirect_stderr(io.StringIO()) as told, speaking():
        yield told


def wait_for(lines: int, told: io.StringIO) -> list[str]:
    """Wait until so many lines were written, and return them."""
    end = time.monotonic() + 30
    while told.getvalue().count("\n") < lines:
        assert time.monotonic() < end
        time.sleep(0.01)
    return told.getvalue().splitlines()


@pytest.mark.usefixtures("_often")
def test_the_innermost_stage_speaks_in_plain_lines() -> None:
    with listening() as told, stage("outer"):
        assert LINE.fullmatch(wait_for(1, told)[0]) is not None
        with stage("samples drawn", 4000) as advance:
            advance(500)
            advance(500)
            count = len(told.getvalue().splitlines())
            found = LINE.fullmatch(wait_for(count + 2, told)[-1])
            assert found is not None
            assert found[1] == "samples drawn, 1,000 of 4,000"
            assert found[3] is not None
        count = len(told.getvalue().splitlines())
        assert wait_for(count + 2, told)[-1].startswith("molrl: outer, ")
    assert told.getvalue().isascii()
    assert all(line.isprintable() for line in told.getvalue().split("\n"))


def test_what_was_done_before_does_not_count_for_the_pace() -> None:
    with stage("rounds", 100, 98):
        one = progress.SPEAKER.stages[-1]
        assert "left" not in str(one)
        one.began -= 10
        one.advance(1)
        assert str(one) == "rounds, 99 of 100, 0:10, about 0:10 left"


@pytest.mark.usefixtures("_often")
def test_nothing_is_said_outside_commands_nor_where_a_display_is() -> None:
    with contextlib.redirect_stderr(io.StringIO()) as told, stage("a library call"):
        time.sleep(0.3)
    assert told.getvalue() == ""
    with listening() as told, stage("shown otherwise"), paused():
        time.sleep(0.3)
    assert told.getvalue() == ""


def test_silence_begins_anew_with_whatever_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SILENCE", 2.0)
    with listening() as told, stage("talkative"):
        for _ in range(30):
            time.sleep(0.1)
            note_output()
    assert told.getvalue() == ""


@pytest.mark.parametrize(("age", "silence"), [(0, 5), (100, 5), (200, 10), (1200, 60), (86400, 60)])
def test_lines_become_rarer_as_the_work_goes_on(age: float, silence: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SILENCE", 5.0)
    speaker = progress.Speaker()
    assert speaker.silence() == 5
    speaker.stages.append(progress.Stage("steps", None, 0, began=1000.0))
    monkeypatch.setattr(speaker, "last", 1000.0 + age)
    assert speaker.silence() == silence


def test_a_block_that_fails_ends_its_stage() -> None:
    with pytest.raises(KeyError), stage("fails"):
        raise KeyError
    assert not progress.SPEAKER.stages


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (75, "1:15"), (3599, "59:59"), (3600, "1:00:00"), (36610, "10:10:10")],
)
def test_a_time_is_shown_as_a_clock(seconds: float, text: str) -> None:
    assert format_clock(seconds) == text


SLOW = """
import sys, time
from molrl import progress, cli
progress.SILENCE = 0.5
def start(command, config):
    with progress.stage("slow work", 3) as advance:
        time.sleep(1.5)
        advance(3)
    return 0
cli.start = start
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "command",
    ["train", "pretrain", "sample", "score a.sdf", "evaluate a.sdf", "oracle", "export images out=b", "migrate a"],
)
def test_every_command_speaks(command: str) -> None:
    def run(**environment: str) -> str:
        words = [sys.executable, "-c", SLOW, *command.split()]
        settings = {**os.environ, **environment}
        return subprocess.run(words, capture_output=True, text=True, env=settings, check=True).stderr

    assert "molrl: slow work, 0 of 3, 0:0" in run(RANK="0")
    assert run(RANK="1") == ""  # of several processes one speaks for all


def test_a_notebook_shows_one_bar_that_is_redrawn() -> None:
    shown: list[str] = []

    class Handle:
        def update(self, bar: NotebookBar) -> None:
            shown.append(bar._repr_html_())

    def display(bar: NotebookBar, *, display_id: bool) -> Handle:
        assert display_id
        shown.append(bar._repr_html_())
        return Handle()

    bar = NotebookBar(20, 4, display)
    bar.update(5, "reward <b>0.5</b>")
    assert '<progress value="4" max="20"' in shown[0]
    assert '<progress value="5" max="20"' in shown[1]
    assert shown[1].endswith("5/20 reward &lt;b&gt;0.5&lt;/b&gt;")
    assert repr(bar) == "5/20 reward <b>0.5</b>"
    assert not in_notebook()
