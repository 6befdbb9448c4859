"""Files of others: regular ones are read within bounds, and nothing is written through a link."""

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molrl.config import ConfigError
from molrl.data.files import open_file
from molrl.machine.files import (
    SpecialFileError,
    naming,
    open_in_place,
    open_regular,
    read_bounded,
    refuse_special_files,
    replace_file,
)

VICTIM = b"very important notes"


def link(path: Path) -> None:
    victim = path.parent / "victim"
    victim.write_bytes(VICTIM)
    path.symlink_to(victim)


def hard_link(path: Path) -> None:
    victim = path.parent / "victim"
    victim.write_bytes(VICTIM)
    path.hardlink_to(victim)


SPECIAL: dict[str, Callable[[Path], object]] = {
    "a link": link,
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", SPECIAL)
def test_only_a_regular_file_is_read(kind: str, tmp_path: Path) -> None:
    SPECIAL[kind](tmp_path / "x")
    with pytest.raises(SpecialFileError, match=rf"{tmp_path / 'x'}: a (link|pipe|folder), expected a regular file"):
        read_bounded(tmp_path / "x", 1000)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("kind", "follow"), [("a pipe", "a pipe"), ("a device", "a device"), ("a folder", "a folder")])
def test_a_name_that_the_user_gave_may_be_a_link_but_not_to_a_device(kind: str, follow: str, tmp_path: Path) -> None:
    SPECIAL[kind](tmp_path / "x.csv")
    with pytest.raises(ValueError, match=f"{follow}, expected a regular file"):
        open_file(tmp_path / "x.csv")
    link(tmp_path / "y.csv")
    with open_regular(tmp_path / "y.csv", follow=True) as file:
        assert file.read() == VICTIM


def test_a_file_larger_than_its_bound_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match=f"{2**40} bytes, more than the 1000 allowed"):
        read_bounded(tmp_path / "sparse", 1000)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [link, hard_link, os.mkfifo])
def test_nothing_is_written_in_place_through_another_name(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / ".lock")
    with pytest.raises(SpecialFileError, match="expected a"), open_in_place(tmp_path / ".lock"):
        pass
    if make is not os.mkfifo:
        assert (tmp_path / "victim").read_bytes() == VICTIM


@pytest.mark.parametrize("make", [link, hard_link, os.mkfifo])
def test_a_replaced_file_is_a_new_one_and_what_its_name_led_to_stays(
    make: Callable[[Path], object], tmp_path: Path
) -> None:
    make(tmp_path / "report.html")
    replace_file(tmp_path / "report.html", b"new")
    assert stat.S_ISREG((tmp_path / "report.html").lstat().st_mode)
    assert (tmp_path / "report.html").read_bytes() == b"new"
    assert make is os.mkfifo or (tmp_path / "victim").read_bytes() == VICTIM
    assert {path.name for path in tmp_path.iterdir()} <= {"report.html", "victim"}


NAMES = st.lists(st.sampled_from(["a", "b", "model", ".lock", "x.json"]), min_size=1, max_size=4)


@given(
    plain=st.lists(NAMES, max_size=8), odd=st.none() | st.tuples(NAMES, st.sampled_from([link, hard_link, os.mkfifo]))
)
def test_a_folder_is_refused_just_where_one_of_its_entries_is_special(
    plain: list[list[str]], odd: tuple[list[str], Callable[[Path], object]] | None
) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "run"
        folder.mkdir()
        for parts in plain:
            path = folder.joinpath(*(f"d_{part}" for part in parts[:-1]), parts[-1])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("plain")
        if odd is None:
            refuse_special_files(folder)
            return
        parts, make = odd
        path = folder.joinpath(*(f"d_{part}" for part in parts[:-1]), f"odd_{parts[-1]}")
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
        with pytest.raises(ConfigError, match="nothing is written through it"):
            refuse_special_files(folder)


def test_a_folder_that_is_a_link_itself_is_the_users_own_choice(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "latest").symlink_to("real")
    refuse_special_files(tmp_path / "latest")
    refuse_special_files(tmp_path / "missing")
    (tmp_path / "real" / "samples").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="samples: a link"):
        refuse_special_files(tmp_path / "latest")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_an_error_of_the_system_names_the_file(tmp_path: Path) -> None:
    full = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    with full, pytest.raises(OSError, match="No space left on device") as caught, naming(tmp_path / "out.csv"):
        os.write(full.fileno(), b"x")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "out.csv"))
    with pytest.raises(OSError, match="Cannot allocate memory") as caught, naming(tmp_path / "big"):
        bytearray(2**60)
    assert caught.value.filename == str(tmp_path / "big")
