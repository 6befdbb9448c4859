"""Every error that ends a command says in one line what failed and where."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molrl.machine.failures import describe_failure
from molrl.machine.files import read_bounded


def failure(work: Callable[[], object]) -> str:
    try:
        work()
    except Exception as error:
        return describe_failure(error)
    raise AssertionError


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert failure(lambda: read_bounded(tmp_path / "x", 9)) == f"{tmp_path / 'x'}: No such file or directory"
    assert failure(lambda: (tmp_path / "x").rename(tmp_path / "y")).startswith(
        f"{tmp_path / 'x'} -> {tmp_path / 'y'}: "
    )


@given(st.sampled_from(sorted(errno.errorcode)))
def test_every_error_of_the_system_has_its_words_and_a_place(number: int) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    assert failure(fail) == f"{os.strerror(number)} (in an unknown place)"
    assert describe_failure(OSError(number, os.strerror(number), "a.csv")) == f"a.csv: {os.strerror(number)}"


def test_a_full_memory_is_named_with_the_function_that_met_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("molrl.machine.files.check_regular", full)
    assert failure(lambda: read_bounded(tmp_path / "x", 9)) == "out of memory in molrl.machine.files.open_regular"
    monkeypatch.undo()
    assert failure(lambda: bytearray(2**62)) == "out of memory in an unknown place"
    torch_error = RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    )
    assert describe_failure(torch_error).startswith("out of memory in an unknown place ([enforce fail]")


def test_an_error_without_words_is_named_by_its_kind() -> None:
    assert describe_failure(ValueError()) == "ValueError in an unknown place"
    assert describe_failure(ValueError("a\n  b")) == "a b"
