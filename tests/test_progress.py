"""Lines of progress: for people at a terminal, and for nobody else."""

import contextlib
import os
import re
import time

import pytest

from molrl.data import progress
from molrl.data.progress import ProgressLines


def test_a_terminal_is_told_how_much_is_done_how_fast_and_how_long_it_will_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.2)
    reader, writer = os.openpty()
    with os.fdopen(writer, "w") as terminal, contextlib.redirect_stderr(terminal):
        lines = ProgressLines("conformers", 3000)
        lines(500)  # too early for a line
        time.sleep(0.25)
        lines(500)
        time.sleep(0.25)
        lines(0)
        text = os.read(reader, 10_000).decode()
    os.close(reader)
    first, second = text.splitlines()
    found = re.fullmatch(r"conformers: 1,000 of 3,000, ([\d.]+) per second, (\d):(\d\d):(\d\d) left", first)
    assert found is not None
    rate, *clock = map(float, found.groups())
    assert 1000 / 5 < rate <= 1000 / 0.25  # a slow machine sleeps longer
    assert clock[0] * 3600 + clock[1] * 60 + clock[2] == pytest.approx(2000 / rate, abs=1)
    assert second == "conformers: 1,000 of 3,000, 0.0 per second, unknown time left"


def test_a_file_or_a_pipe_is_told_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    lines = ProgressLines("conformers", 3)
    for _ in range(3):
        lines(1)
    assert capsys.readouterr().err == ""
