"""A bad model folder is refused in one line, at once, and at no cost in memory, whatever its description asks for."""

import gzip
import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from molrl.data.molecules.sizes import MAX_ATOMS, Sizes
from molrl.models.molecules.model import load
from molrl.models.shipped import SHIPPED
from molrl.runs import checkpoint
from molrl.runs.errors import CheckpointError

MODEL = SHIPPED / "molecules/qm9_heavy"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODEL, tmp_path / "received"))


def described(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change the description, as whoever can write a folder can, its manifest included."""
    description = json.loads((folder / "model.json").read_text())
    change(description)
    (folder / "model.json").write_text(json.dumps(description))
    return manifested(folder)


def manifested(folder: Path) -> Path:
    names = [path.name for path in folder.iterdir() if path.suffix in (".json", ".safetensors")]
    files = {name: checkpoint.sha256((folder / name).read_bytes()) for name in names if name != "manifest.json"}
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "files": files}))
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["network"].update(width=4096, pair_width=4096, blocks=4096, radial=4096), "asks for a network of"),
        (lambda m: m["network"].update(blocks=4096), "asks for a network of"),
        (lambda m: m["network"].update(width=127), "do not fit"),
        (lambda m: m["network"].update(width=True), "sizes are whole numbers"),
        (lambda m: m["network"].update(width=1.5), "sizes are whole numbers"),
        (lambda m: m.update(sizes={"atoms": [200_000], "counts": [1]}), "sizes: need ascending"),
        (lambda m: m.update(sizes={"atoms": [-5], "counts": [1]}), "sizes: need ascending"),
        (lambda m: m.update(sizes={"atoms": ["5"], "counts": [1]}), "sizes: need ascending"),
        (lambda m: m.update(sizes={"atoms": [5], "counts": [0]}), "a count above 0"),
        (lambda m: m.update(sizes={"atoms": [5, 6], "counts": [1]}), "a count above 0"),
        (lambda m: m.update(sizes={"atoms": [], "counts": []}), "sizes: need ascending"),
        (lambda m: m.update(data_std=[float("nan")] * len(m["data_std"])), "finite value above 0"),
        (lambda m: m.update(data_std=[1e300] * len(m["data_std"])), "finite value above 0"),
        (lambda m: m.update(noise_max=float("inf")), "need 0 < min < max"),
    ],
)
def test_a_description_that_asks_for_too_much_or_for_nonsense_is_refused(
    change: Callable[[dict[str, Any]], object], words: str, folder: Path
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=words) as caught:
        load(str(described(folder, change)))
    assert str(folder) in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # KiB


def test_weights_that_are_infinite_in_float32_are_refused(folder: Path) -> None:
    tensors, values = checkpoint.load(folder)
    huge = {name: tensor.double().clamp(min=1) * 1e300 for name, tensor in tensors["weights"].items()}
    checkpoint.save(folder, {**tensors, "weights": huge}, values)
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        load(str(folder))


def test_weights_in_half_precision_are_cast(folder: Path) -> None:
    tensors, values = checkpoint.load(folder)
    half = {name: tensor.half() for name, tensor in tensors["weights"].items()}
    checkpoint.save(folder, {**tensors, "weights": half}, values)
    assert {value.dtype for value in load(str(folder)).denoiser.state_dict().values()} == {torch.float32}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["model.json", "manifest.json", "weights.safetensors", "reference.smi.gz"])
@pytest.mark.parametrize("kind", ["pipe", "device", "link"])
def test_special_files_are_named(name: str, kind: str, folder: Path, tmp_path: Path) -> None:
    (folder / name).rename(tmp_path / "old")
    if kind == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to("/dev/zero" if kind == "device" else tmp_path / "old")
    with pytest.raises(CheckpointError, match=f"{name}: .*a (pipe|link), expected a regular file"):
        load(str(folder))


def test_a_runs_model_may_not_be_a_link_but_the_folder_that_is_named_may(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/model").symlink_to(MODEL)
    with pytest.raises(CheckpointError, match="run/model: a link, expected a folder"):
        load(str(tmp_path / "run"))
    load(str(tmp_path / "run/model"))


@pytest.mark.timeout(120)
def test_files_that_unpack_to_too_much_are_refused(folder: Path) -> None:
    with (folder / "weights.safetensors").open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(CheckpointError, match="damaged, its tensors take"):
        load(str(folder))
    shutil.copy(MODEL / "weights.safetensors", folder)
    (folder / "extra.json").write_bytes(b"[" + b"{}," * 2_000_000 + b"{}]")
    with pytest.raises(CheckpointError, match=r"extra\.json: 6000004 bytes, more than"):
        load(str(manifested(folder)))
    (folder / "extra.json").unlink()
    manifested(folder)
    with gzip.open(folder / "reference.smi.gz", "wb", 1) as packed:
        for _ in range(257):
            packed.write(bytes(2**20))
    with pytest.raises(CheckpointError, match="unpacks to more than"):
        load(str(folder))


ATOMS = st.lists(st.integers(-2, MAX_ATOMS + 2) | st.booleans() | st.floats(0, 9) | st.text(max_size=1), max_size=4)
COUNTS = st.lists(st.integers(-1, 9) | st.floats() | st.booleans() | st.none(), max_size=4)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(ATOMS, COUNTS)
def test_sizes_that_are_accepted_can_be_drawn(atoms: list[Any], counts: list[Any]) -> None:
    try:
        sizes = Sizes(tuple(atoms), tuple(counts))
    except ValueError:
        return
    from molrl.noise import Key

    assert set(sizes.draw(range(20), Key(0))) <= set(atoms)
    assert all(type(size) is int and 1 <= size <= MAX_ATOMS for size in atoms)
