"""Headers of files of tensors are checked before anything is built or read."""

import io
import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor, nn

from molrl.runs.checkpoint import check_fits
from molrl.runs.errors import CheckpointError
from molrl.runs.headers import DTYPES, Description, Header, check_header, no_larger_than, read_header

SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)
TENSORS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
    st.tuples(SHAPES, st.sampled_from(sorted(DTYPES))),
    max_size=6,
)


def written(data: bytes) -> Header:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        path.write_bytes(data)
        with path.open("rb") as file:
            return read_header(file, path)


def with_header(table: Any, data: bytes = b"") -> bytes:
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + data


@given(TENSORS)
def test_a_header_says_what_the_formats_own_library_has_written(
    described: dict[str, tuple[tuple[int, ...], str]],
) -> None:
    tensors = {name: torch.zeros(shape, dtype=DTYPES[kind]) for name, (shape, kind) in described.items()}
    header = written(save(tensors))
    assert {name: (entry.shape, entry.dtype) for name, entry in header.items()} == {
        name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()
    }


GOOD = save({"a": torch.arange(6.0).view(2, 3), "b": torch.zeros(4, dtype=torch.int64)})


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 10**9))
def test_a_file_of_another_size_than_its_tensors_is_refused(cut: int, extra: int) -> None:
    with pytest.raises(CheckpointError, match=r"not a safetensors file|damaged"):
        written(GOOD[:cut])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        path.write_bytes(GOOD)
        with path.open("r+b") as file:
            file.truncate(len(GOOD) + extra)  # of no cost on the disk, and of any in memory
        with path.open("rb") as file, pytest.raises(CheckpointError, match="damaged, its tensors take 56 bytes"):
            read_header(file, path)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"dtype": "\x1b[31mRED", "shape": [1], "data_offsets": [0, 4]}, r"dtype '\\x1b\[31mRED', allowed are F64"),
        ({"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}, "shape"),
        ({"dtype": "F32", "shape": [2**62, 0], "data_offsets": [0, 0]}, "shape"),
        ({"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}, "shape"),
        ({"dtype": "F32", "shape": ["1"], "data_offsets": [0, 4]}, "shape"),
        ({"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4]}, "its tensors take 4000000000000 bytes"),
        ({"shape": [1]}, "dtype"),
        (7, "not a safetensors file"),
    ],
)
def test_a_header_that_lies_is_refused(entry: Any, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        written(with_header({"x": entry}, b"\0" * 4))


@pytest.mark.parametrize("length", [0, 2**24 + 1, 2**63])
def test_a_header_without_a_sensible_length_is_refused(length: int) -> None:
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        written(struct.pack("<Q", length) + b"{}")


@given(st.integers(1, 20) | st.just(4096), st.integers(1, 3) | st.just(4096))
def test_a_network_is_built_only_if_it_is_no_larger_than_its_weights(width: int, layers: int) -> None:
    """Building stops at the first parameter beyond twice what the file holds, whatever the description asks for."""
    header = {f"w{n}": Description((10, 10), torch.float32) for n in range(2)}
    built: list[nn.Module] = []

    def build() -> None:
        with no_larger_than(header, "x"):
            built.extend(nn.Linear(width, width, device="meta") for _ in range(layers))

    if 2 * layers <= 2 * 2 and layers * (width * width + width) <= 2 * 200:
        build()
        assert len(built) == layers
    else:
        with pytest.raises(CheckpointError, match="x: its description asks for a network of more than the 2 tensors"):
            build()
        assert len(built) <= 2
    nn.Linear(50, 50)  # the limit ends with the block


def test_a_dtype_that_cannot_be_cast_is_named() -> None:
    expected = {"w": torch.zeros(2), "n": torch.zeros(2, dtype=torch.int64)}
    check_header(expected, {"w": torch.zeros(2, dtype=torch.float16), "n": expected["n"]}, "Net")
    with pytest.raises(CheckpointError, match=r"of another dtype \['n is torch.float32 instead of torch.int64'\]"):
        check_header(expected, {"w": torch.zeros(2), "n": torch.zeros(2)}, "Net")
    with pytest.raises(CheckpointError, match=r"w is torch.complex64 instead of torch.float32"):
        check_header(expected, {"w": torch.zeros(2, dtype=torch.complex64), "n": expected["n"]}, "Net")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_must_be_finite_after_the_cast(value: float) -> None:
    expected: dict[str, Tensor] = {"w": torch.zeros(1)}
    got = {"w": torch.tensor([value], dtype=torch.float64)}
    if abs(value) < 3.4e38:
        check_fits(expected, got, "Net")
    elif abs(value) > 3.41e38:
        with pytest.raises(CheckpointError, match="NaN or infinity"):
            check_fits(expected, got, "Net")


def test_many_names_are_listed_in_part() -> None:
    many = {f"\x1b[31mevil{n}": torch.zeros(0) for n in range(1000)}
    with pytest.raises(CheckpointError, match="and 994 more") as caught:
        check_header({}, many, "Net")
    assert len(str(caught.value)) < 500
    assert "\x1b" not in str(caught.value)


def test_a_file_that_is_no_header_at_all_is_refused() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(io.BytesIO(b"\x80\x04pickle").getvalue())
        with path.open("rb") as file, pytest.raises(CheckpointError, match="not a safetensors file"):
            read_header(file, path)
