"""Ctrl-C and SIGTERM end a command in order."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from command import QUICK_PRETRAINING

from molrl.machine.interruption import Terminated, defer_interruption, exit_code, raise_on_sigterm
from molrl.runs.checkpoints import Series


def test_the_exit_codes_are_those_of_the_shell() -> None:
    assert (exit_code(KeyboardInterrupt()), exit_code(Terminated())) == (130, 143)


def test_sigterm_is_an_interruption_that_happens_once_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with raise_on_sigterm():
        with pytest.raises(Terminated):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # somebody is impatient; the end is under way
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(("sent", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_patient_part_notes_the_first_signal_and_lets_the_second_through(
    sent: signal.Signals, error: type[KeyboardInterrupt], capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with raise_on_sigterm():
        with defer_interruption("this round") as request:
            request.raise_if_requested()
            assert not request.is_set()
            os.kill(os.getpid(), sent)
            assert request.is_set()
            assert "stopping after this round is done and saved; once more stops at once" in capfd.readouterr().err
            with pytest.raises(error):
                os.kill(os.getpid(), sent)
        with pytest.raises(error):
            request.raise_if_requested()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_signal_that_the_shell_has_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with defer_interruption("this round") as request:
            os.kill(os.getpid(), signal.SIGINT)
            assert not request.is_set()
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_a_thread_signals_stay_as_they_are() -> None:
    seen: list[object] = []

    def look() -> None:
        with raise_on_sigterm():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


def until(start: str, arguments: Sequence[str]) -> "subprocess.Popen[str]":
    """Start a process and wait until it prints a line with such a start."""
    command = [sys.executable, "-m", "molrl.cli", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while not process.stdout.readline().startswith(start):
        assert process.poll() is None, process.communicate()[1]
    return process


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_pretraining_ends_with_a_checkpoint_and_one_line(sent: signal.Signals, code: int, tmp_path: Path) -> None:
    process = until("step 2/", ["pretrain", f"run={tmp_path / 'run'}", *QUICK_PRETRAINING, "training.steps=100000"])
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    lines = [line for line in err.splitlines() if line]
    assert process.returncode == code
    assert lines == ["molrl: stopping after this step is done and saved; once more stops at once", "molrl: interrupted"]
    assert Series(tmp_path / "run/checkpoint").steps()[-1] >= 2
