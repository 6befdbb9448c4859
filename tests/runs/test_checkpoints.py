"""A series of checkpoints always has a whole one: the old state or the new, wherever a save was cut off."""

import errno
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from molrl.runs import checkpoint, checkpoints
from molrl.runs.checkpoints import COMPLETE, CheckpointPolicy, Series
from molrl.runs.errors import CheckpointError

FILES = [COMPLETE, "manifest.json", "model.safetensors", "progress.json"]


def tensors(step: int) -> dict[str, dict[str, Tensor]]:
    return {"model": {"weight": torch.full((50, 3), float(step))}}


def add(series: Series, step: int, kept: tuple[int, ...] = ()) -> None:
    series.save(step, tensors(step), {"progress": {"step": step}}, kept)


def found(series: Series) -> int:
    """Return the step of the latest checkpoint, whose contents must all be of that step."""
    last = series.latest()
    assert last is not None
    assert last.values == {"progress": {"step": last.step}}
    assert (last.tensors["model"]["weight"] == last.step).all()
    return last.step


@pytest.fixture
def series(tmp_path: Path) -> Series:
    """Return a series with the checkpoints of steps 1 to 3."""
    made = Series(tmp_path / "checkpoint")
    for step in (1, 2, 3):
        add(made, step)
    return made


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "RETRY_SECONDS", 0.0)


def forked(work: Callable[[], object]) -> int:
    """Fork this process, let the child do some work, and return its wait status."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


class Boundaries:
    """A hook that kills this process before its n-th step of work on the files of a folder; or counts them."""

    def __init__(self, folder: Path, deadly: int = -1) -> None:
        self.folder, self.deadly, self.seen = str(folder), deadly, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir") and self.folder in str(arguments[0]):
            self.step()

    def step(self) -> None:
        self.seen += 1
        if self.seen == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def work(self, series: Series, step: int, counted: Path | None = None) -> None:
        """Save under the eyes of this hook; a file may also be cut off in the middle of its bytes."""
        plain = checkpoint.write_synced

        def torn(path: Path, data: bytes) -> None:
            path.write_bytes(data[: len(data) // 2])
            self.step()
            plain(path, data)
            self.step()

        checkpoint.write_synced = torn
        sys.addaudithook(self)
        add(series, step)
        if counted:
            counted.write_text(str(self.seen))


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_killed_at_every_boundary_of_a_save_the_old_or_the_new_state_is_there(series: Series, tmp_path: Path) -> None:
    """As well as in the middle of each file, and while old ones are removed."""
    counted = tmp_path / "counted"
    trial = Series(tmp_path / "trial")
    shutil.copytree(series.folder, trial.folder)
    assert forked(lambda: Boundaries(trial.folder).work(trial, 4, counted)) == 0
    boundaries = int(counted.read_text())
    assert boundaries > 20
    outcomes = []
    for deadly in range(1, boundaries + 1):
        shutil.rmtree(trial.folder)
        shutil.copytree(series.folder, trial.folder)
        assert forked(lambda n=deadly: Boundaries(trial.folder, n).work(trial, 4)) == signal.SIGKILL  # type: ignore[misc]
        outcomes.append(found(trial))
        add(trial, 5)
        assert found(trial) == 5
        assert [path.name for path in trial.folder.iterdir() if not path.name.startswith("step_")] == []
        assert trial.unfinished_folders() == []
    assert set(outcomes) == {3, 4}
    assert outcomes == sorted(outcomes)


def test_everything_is_on_the_disk_before_its_name_and_the_name_before_the_marker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def recorded_fsync(handle: int) -> None:
        events.append(f"sync {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")
        fsync(handle)

    def recorded_rename(path: Path, target: Path) -> Path:
        events.append(f"name {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "rename", recorded_rename)
    add(Series(tmp_path / "checkpoint"), 7)
    folder = "step_00000007"
    assert events == [
        *("sync model.safetensors", "sync progress.json", "sync manifest.json", f"sync .staging-7-{os.getpid()}"),
        *(f"name {folder}", "sync checkpoint", f"sync .{COMPLETE}", f"name {COMPLETE}", f"sync {folder}"),
    ]


def test_the_newest_and_the_kept_ones_stay(tmp_path: Path) -> None:
    series = Series(tmp_path, newest=2)
    for step in range(1, 7):
        add(series, step, kept=(2,))
    assert series.steps() == [2, 5, 6]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step_{step:08d}" for step in (2, 5, 6)]


def test_what_was_marked_is_what_is_found(series: Series) -> None:
    assert (series.steps(), found(series)) == ([1, 2, 3], 3)
    assert sorted(path.name for path in series.path(3).iterdir()) == FILES
    assert Series(series.folder / "none").latest() is None


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    place = data.rindex(b'"') - 1 if path.name == "manifest.json" else len(data) // 2
    data[place] ^= 1
    path.write_bytes(data)


def cut(share: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return damage


def foreign(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 something else")


DAMAGE: dict[str, Callable[[Path], None]] = {
    **{"a flipped bit": flip, "nothing": cut(0), "half": cut(0.5), "99 %": cut(0.99)},
    **{"another format": foreign, "missing": Path.unlink},
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken(
    damage: str, name: str, series: Series, capsys: pytest.CaptureFixture[str]
) -> None:
    DAMAGE[damage](series.path(3) / name)
    assert found(series) == 2
    said = capsys.readouterr().err
    if (damage, name) == ("missing", COMPLETE):
        return  # that is a save which was cut off
    assert "DAMAGED CHECKPOINT" in said
    assert name in said
    assert found(series) == 2
    assert capsys.readouterr().err == ""  # once
    assert (series.folder / "damaged_step_00000003").is_dir()
    add(series, 3)
    assert found(series) == 3


def test_with_no_whole_checkpoint_nothing_starts_afresh_and_nothing_is_touched(series: Series) -> None:
    for step in series.steps():
        flip(series.path(step) / "model.safetensors")
    files = {path: path.read_bytes() for path in series.folder.rglob("*") if path.is_file()}
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"no intact checkpoint is left.*00000003.*00000002.*00000001"):
            series.latest()
    assert {path: path.read_bytes() for path in series.folder.rglob("*") if path.is_file()} == files


def test_a_first_save_that_was_cut_off_is_said_to_be_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(series := Series(tmp_path), 1)
    (series.path(1) / COMPLETE).unlink()
    assert series.latest() is None
    assert "step_00000001" in capsys.readouterr().err
    assert series.latest() is None
    assert capsys.readouterr().err == ""  # once


def test_a_checkpoint_of_an_earlier_version_is_no_fresh_start(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "checkpoint", tensors(1), {"progress": {"step": 1}})
    with pytest.raises(CheckpointError, match="earlier version"):
        Series(tmp_path / "checkpoint").latest()


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_disk_that_fills_up_while_writing_leaves_the_old_state(series: Series, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the same call fails, in the middle of a file."""
    said = tmp_path / "said"

    def full() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
        try:
            add(series, 4)
        except CheckpointError as error:
            said.write_text(str(error))

    assert forked(full) == 0
    assert "step_00000004: cannot be written (File too large)" in said.read_text()
    assert "bytes are free; the checkpoint of step 3 is intact" in said.read_text()
    assert found(series) == 3
    assert series.unfinished_folders() == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_cannot_be_written_is_tried_a_few_times_and_named(
    code: int, series: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Path] = []

    def refuse(path: Path, data: bytes) -> None:
        tries.append(path)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(checkpoint, "write_synced", refuse)
    with pytest.raises(CheckpointError, match=os.strerror(code)):
        add(series, 4)
    assert len(tries) == checkpoints.MAX_ATTEMPTS
    assert found(series) == 3


def test_room_is_asked_for_before_anything_is_written(series: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(series.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    monkeypatch.setattr(checkpoint, "write", lambda *_: pytest.fail("written"))
    with pytest.raises(CheckpointError, match=r"bytes are needed\); 100 bytes are free"):
        add(series, 4)
    assert found(series) == 3


def test_a_disk_that_is_full_for_a_moment_costs_nothing(series: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    write, left = checkpoint.write_synced, [1]

    def hesitant(path: Path, data: bytes) -> None:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    monkeypatch.setattr(checkpoint, "write_synced", hesitant)
    add(series, 4)
    assert found(series) == 4


@pytest.mark.parametrize(
    ("highest", "new", "old", "better"),
    [
        *((True, 2.0, 1.0, True), (True, 1.0, 1.0, False), (False, 2.0, 1.0, False), (False, 0.5, 1.0, True)),
        *((True, 0.0, float("nan"), True), (False, float("nan"), 1.0, False), (True, float("nan"), 1.0, False)),
    ],
)
def test_the_better_value_is_the_higher_or_the_lower_one_and_never_none(
    highest: bool, new: float, old: float, better: bool
) -> None:
    assert CheckpointPolicy(newest=1, best="reward", highest=highest).improves(new, old) is better


def test_at_least_one_checkpoint_is_kept() -> None:
    with pytest.raises(ValueError, match="newest: got 0"):
        CheckpointPolicy(newest=0, best="reward", highest=True)
