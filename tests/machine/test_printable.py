"""Control characters of files are shown and not obeyed, on a terminal and in tables."""

import csv
import io
import sys
import unicodedata
from pathlib import Path
from typing import TextIO, cast

import pytest
from command import molrl
from hypothesis import given
from hypothesis import strategies as st

from molrl.machine.printable import EscapingStream, escaped_output, printable, unescaped

TITLE = "\x1b]0;pwned\x07"


def obeyed(text: str) -> set[str]:
    """Return the characters that a terminal would obey, by their categories in Unicode."""
    kinds = {letter: unicodedata.category(letter) for letter in text if letter not in "\t\n"}
    turned = {letter for letter in kinds if unicodedata.bidirectional(letter) in {"LRO", "RLO", "LRE", "RLE", "PDF"}}
    return turned | {letter for letter, kind in kinds.items() if kind in {"Cc", "Zl", "Zp", "Cs"}}


@given(st.text(st.characters(), max_size=200))
def test_nothing_is_left_that_a_terminal_obeys(text: str) -> None:
    shown = printable(text)
    assert not obeyed(shown)
    assert shown == text or obeyed(text) or "\\u" in shown
    assert printable(shown) == shown


def test_what_people_write_stays_as_it_is() -> None:
    text = "früh\tβ-lactam − 中文 🧪\n"
    assert printable(text) == text
    assert printable(f"a{TITLE}b\r\x9b") == r"a\x1b]0;pwned\x07b\r\x9b"


@given(st.text(st.characters(), max_size=50))
def test_a_stream_takes_any_text_in_any_encoding(text: str) -> None:
    raw = io.BytesIO()
    narrow = io.TextIOWrapper(raw, "ascii", write_through=True)
    print(text, file=cast(TextIO, EscapingStream(narrow)))
    assert not obeyed(raw.getvalue().decode("ascii"))
    narrow.close()


def test_streams_are_wrapped_once_and_put_back() -> None:
    before = sys.stdout
    with escaped_output(), escaped_output():
        assert unescaped(sys.stdout) is before
    assert sys.stdout is before


def test_names_in_a_file_reach_neither_the_terminal_nor_the_table(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(f"na{TITLE}me,\x1b[31mcol\nx,y\n")
    refused = molrl("score", str(tmp_path / "bad.csv"), "reward=logp", f"out={tmp_path / 'o.csv'}")
    assert refused.code == 5
    assert not obeyed(refused.out + refused.err)
    assert r"\x1b]0;pwned\x07" in refused.err
    (tmp_path / "a.smi").write_text(f"CCO {TITLE}\nC1CC x\u202ey\nnonsense{TITLE} z\n")
    for out in ("p.csv", "p.sdf"):
        done = molrl("score", str(tmp_path / "a.smi"), "reward=logp", "reward.workers=0", f"out={tmp_path / out}")
        assert not obeyed(done.out + done.err + (tmp_path / out).read_text())
    names = [row["name"] for row in csv.DictReader(io.StringIO((tmp_path / "p.csv").read_text()))]
    assert names[:2] == [r"\x1b]0;pwned\x07", r"x\u202ey"]


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\udcffb"])
def test_a_file_name_is_shown_in_one_line(name: str, tmp_path: Path) -> None:
    missing = molrl("score", f"{tmp_path}/{name}.smi", "reward=logp")
    assert missing.err.count("\n") == 1
    assert not obeyed(missing.err)
