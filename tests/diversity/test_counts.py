"""The memory counts like a dictionary, fades, and forgets what was seen longest ago."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from molrl.advantages import reserve_rows
from molrl.diversity.counts import Counts, hash_texts

ROUNDS = st.lists(st.lists(st.sampled_from("abcdefg"), max_size=12), max_size=6)


@given(ROUNDS, st.sampled_from([1.0, 0.5]))
def test_counts_are_those_of_a_dictionary_that_fades(rounds: list[list[str]], decay: float) -> None:
    counts, expected = Counts(decay), Counter[str]()
    for texts in rounds:
        counts.add(texts)
        expected = Counter({text: decay * n for text, n in expected.items()})
        for text in texts:
            expected[text] += 1
    assert counts.of("abcdefg").tolist() == [expected[text] for text in "abcdefg"]
    assert counts.total == pytest.approx(sum(expected.values()))
    assert len(counts) == len(expected)


def test_what_was_seen_longest_ago_is_forgotten_first() -> None:
    counts = Counts(capacity=3)
    for texts in (["a", "b"], ["c"], ["a"], ["d"]):
        counts.add(texts)
    assert counts.of("abcd").tolist() == [2, 0, 1, 1]


def test_the_order_within_a_round_does_not_matter() -> None:
    one, two = Counts(), Counts()
    one.add(["a", "b", "a"])
    two.add(["b", "a", "a"])
    assert torch.equal(one.keys, two.keys)
    assert torch.equal(one.counts, two.counts)


def test_a_hash_is_the_same_on_every_machine() -> None:
    """The digest of the empty text and of abc by RFC 7693's BLAKE2b with 8 bytes, from the tool b2sum -l 64."""
    digests = [int(text, 16).to_bytes(8, "big") for text in ("e4a6a0577479b2b4", "d8bb14d833d59559")]
    expected = [int.from_bytes(digest, "little", signed=True) for digest in digests]
    assert hash_texts(["", "abc"]).tolist() == expected


def test_a_saved_memory_of_another_length_is_loaded() -> None:
    whole, fresh = nn.ModuleDict({"part": Counts(0.5)}), nn.ModuleDict({"part": Counts(0.5)})
    whole["part"].add(["a", "b", "a"])  # type: ignore[operator]
    reserve_rows(fresh, whole.state_dict())
    fresh.load_state_dict(whole.state_dict())
    assert fresh["part"].of("ab").tolist() == [2, 1]  # type: ignore[operator]


def test_counts_stay_doubles_on_the_cpu() -> None:
    counts = Counts()
    counts.add(["a"])
    assert nn.ModuleList([counts]).to("meta", torch.float16)[0].counts.dtype == torch.float64


@pytest.mark.parametrize("decay", [0.0, 1.1, float("nan")])
def test_a_decay_that_is_none_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay: got"):
        Counts(decay)


def test_a_memory_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity: got 0"):
        Counts(capacity=0)
