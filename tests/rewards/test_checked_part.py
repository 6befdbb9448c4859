"""However a part is torn, the rows that are taken up again are those that were written, from the first on."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molrl.machine.files import SpecialFileError
from molrl.rewards.scoring.checked_part import ENTRY, CheckedPart

ROWS = st.lists(st.binary(max_size=30), min_size=1, max_size=8)
DAMAGE = st.sampled_from(["cut", "zeros", "noise", "lost middle", "flipped", "doubled"])


def written(folder: Path, rows: list[bytes]) -> tuple[Path, Path]:
    paths = folder / "x.part", folder / "x.sums"
    with CheckedPart(*paths) as part:
        for row in rows:
            part.append(row)
    return paths


def damaged(content: bytes, kind: str, data: st.DataObject) -> bytes:
    place = data.draw(st.integers(0, len(content)))
    rest = content[place:]
    noise = data.draw(st.binary(min_size=1, max_size=40))
    return {
        "cut": content[:place],
        "zeros": content[:place] + bytes(len(noise)),
        "noise": content[:place] + noise,
        "lost middle": content[:place] + rest[len(noise) :],
        "flipped": content[:place] + bytes([byte ^ 64 for byte in rest[:1]]) + rest[1:],
        "doubled": content + rest,
    }[kind]


@given(rows=ROWS, kind=DAMAGE, which=st.integers(0, 1), more=ROWS, data=st.data())
def test_rows_are_taken_up_as_far_as_they_are_intact(
    rows: list[bytes], kind: str, which: int, more: list[bytes], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = written(Path(folder), rows)
        paths[which].write_bytes(damaged(paths[which].read_bytes(), kind, data))
        with CheckedPart(*paths) as part:
            kept = part.keep_intact()
            for row in more:
                part.append(row)
        assert paths[0].read_bytes() == b"".join([*rows[:kept], *more])
        with CheckedPart(*paths) as part:
            assert part.keep_intact() == kept + len(more)


@given(rows=ROWS, cut=st.integers(0, 300))
def test_a_row_that_was_written_completely_is_not_lost(rows: list[bytes], cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        part, sums = written(Path(folder), rows)
        part.write_bytes(part.read_bytes()[:cut])
        complete = sum(sum(map(len, rows[:count])) <= cut for count in range(1, len(rows) + 1))
        with CheckedPart(part, sums) as again:
            assert again.keep_intact() == complete
        assert sums.stat().st_size == complete * ENTRY.size


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_bytes(b"my thesis")
    for name in ("x.part", "x.sums"):
        (tmp_path / name).symlink_to("thesis.txt")
        with pytest.raises(SpecialFileError, match=f"{name}: a link"):
            CheckedPart(tmp_path / "x.part", tmp_path / "x.sums")
        (tmp_path / name).unlink()
    assert (tmp_path / "thesis.txt").read_bytes() == b"my thesis"
