"""A checkpoint is read as it was written, or refused with the reason."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from molrl.runs import checkpoint, headers
from molrl.runs.checkpoint import check_fits, load, load_optimizer, optimizer_tensors, save
from molrl.runs.errors import CheckpointError

TENSORS: dict[str, dict[str, Tensor]] = {
    "model": {"weight": torch.arange(6.0).view(2, 3), "tiny": torch.tensor([1e-30], dtype=torch.float64)},
    "optimizer": {"weight/step": torch.tensor(3.0), "mask": torch.tensor([True, False])},
}
VALUES = {"progress": {"step": 7, "name": "früh"}}
FILES = ["manifest.json", "model.safetensors", "optimizer.safetensors", "progress.json"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "checkpoint", TENSORS, VALUES)
    return tmp_path / "checkpoint"


def rewrite_manifest(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(change(manifest)))


def names(model: nn.Module) -> dict[Tensor, str]:
    return {parameter: name for name, parameter in model.named_parameters()}


def test_what_is_read_is_what_was_written(folder: Path) -> None:
    tensors, values = load(folder)
    assert_close(tensors, TENSORS, rtol=0, atol=0)
    assert tensors["model"]["tiny"].dtype == torch.float64
    assert values == VALUES
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_a_new_checkpoint_replaces_the_old_one_and_leaves_nothing_else(folder: Path) -> None:
    save(folder, {"other": {"w": torch.zeros(1)}}, {"progress": {"step": 8}})
    tensors, values = load(folder)
    assert list(tensors) == ["other"]
    assert values == {"progress": {"step": 8}}
    assert [path.name for path in folder.parent.iterdir()] == ["checkpoint"]


def test_tensors_that_share_memory_are_written_in_full(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    save(tmp_path / "c", {"m": {"all": base, "part": base[2:4], "turned": base.view(2, 3).T}}, {})
    got = load(tmp_path / "c")[0]["m"]
    assert_close(got, {"all": base, "part": base[2:4], "turned": base.view(2, 3).T}, rtol=0, atol=0)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found(folder: Path, name: str) -> None:
    """In the manifest, the bit is one of a digest; elsewhere, any."""
    data = bytearray((folder / name).read_bytes())
    place = data.rindex(b'"') - 1 if name == "manifest.json" else len(data) // 2
    data[place] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(CheckpointError):
        load(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_that_was_cut_short_is_found(folder: Path, name: str, share: float) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=name):
        load(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name", ["../progress.json", "/etc/progress.json", "sub/progress.json", "..", "weights.pkl", "model.safetensors/.."]
)
def test_files_outside_of_the_folder_or_of_other_kinds_are_refused(folder: Path, name: str) -> None:
    rewrite_manifest(folder, lambda manifest: {**manifest, "files": {name: "0" * 64}})
    (folder.parent / "progress.json").write_text("{}")
    with pytest.raises(CheckpointError, match="refuses"):
        load(folder)


@pytest.mark.parametrize(
    "manifest",
    [
        [],
        {},
        {"files": {}},
        {"format": 1, "files": ["a.json"]},
        {"format": 1, "files": None},
        3,
        {"format": 1, "files": 1},
    ],
)
def test_a_manifest_of_another_shape_is_refused(folder: Path, manifest: object) -> None:
    rewrite_manifest(folder, lambda _: manifest)
    with pytest.raises(CheckpointError, match="manifest"):
        load(folder)


def test_another_format_is_named(folder: Path) -> None:
    rewrite_manifest(folder, lambda manifest: {**manifest, "format": 2})
    with pytest.raises(CheckpointError, match="format 2"):
        load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "progress.json"])
def test_contents_that_match_their_digest_but_not_their_kind_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"{ neither")
    digest = checkpoint.sha256(b"{ neither")
    rewrite_manifest(folder, lambda manifest: {**manifest, "files": {name: digest}})
    with pytest.raises(CheckpointError, match=name):
        load(folder)


def test_files_that_are_too_large_are_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MAX_BYTES", 100)
    with pytest.raises(CheckpointError, match="more than the 100 allowed"):
        load(folder)


@pytest.mark.parametrize(
    ("module", "limit", "words"), [(checkpoint, "MAX_FILES", "names 3 files"), (headers, "MAX_TENSORS", "2 tensors")]
)
def test_too_many_files_or_tensors_are_refused(
    module: ModuleType, limit: str, words: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, limit, 1)
    with pytest.raises(CheckpointError, match=f"{words}, more than the 1 allowed"):
        load(folder)


def test_a_save_that_is_interrupted_leaves_the_old_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off after every number of files that are written; what a dead process left is no obstacle to the next."""
    write = checkpoint.write_synced
    for files in range(4):
        left = [files]

        def cut_off(path: Path, data: bytes, left: list[int] = left) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            write(path, data)

        monkeypatch.setattr(checkpoint, "write_synced", cut_off)
        with pytest.raises(KeyboardInterrupt):
            save(folder, {"model": {}, "optimizer": {}}, {"progress": {"step": 8}})
        assert load(folder)[1] == VALUES
    monkeypatch.undo()
    save(folder, TENSORS, {"progress": {"step": 9}})
    assert load(folder)[1] == {"progress": {"step": 9}}
    assert [path.name for path in folder.parent.iterdir()] == ["checkpoint"]


def test_every_tensor_that_does_not_fit_is_named() -> None:
    expected = {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(1)}
    with pytest.raises(
        CheckpointError, match=r"Net: missing \['a'\], unexpected \['z'\], .*b is \(4,\) instead of \(3,\)"
    ):
        check_fits(expected, {"b": torch.zeros(4), "c": torch.zeros(1), "z": torch.zeros(1)}, "Net")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(CheckpointError, match=r"NaN or infinity: \['w'\]"):
        check_fits({"w": torch.zeros(2)}, {"w": torch.tensor([0.0, value])}, "Net")


def test_weights_that_fit_are_accepted() -> None:
    check_fits({"w": torch.zeros(2), "n": torch.tensor(3)}, {"n": torch.tensor(4), "w": torch.ones(2)}, "Net")


@pytest.mark.parametrize(
    "build",
    [
        lambda p: torch.optim.AdamW(p, lr=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=0.1),
    ],
    ids=["AdamW", "momentum", "SGD"],
)
def test_a_restored_optimiser_makes_the_same_steps(
    build: Callable[[object], torch.optim.Optimizer], tmp_path: Path
) -> None:
    def step(model: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    torch.manual_seed(0)
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    optimizer = build(model.parameters())
    for _ in range(3):
        step(model, optimizer)
    save(tmp_path / "c", {"model": model.state_dict(), "optimizer": optimizer_tensors(optimizer, names(model))}, {})

    saved = load(tmp_path / "c")[0]
    other.load_state_dict(saved["model"])
    again = build(other.parameters())
    load_optimizer(again, names(other), saved["optimizer"])
    for _ in range(3):
        step(model, optimizer)
        step(other, again)
    assert_close(dict(other.state_dict()), dict(model.state_dict()), rtol=0, atol=0)


def test_the_state_of_an_unknown_parameter_is_named() -> None:
    model = nn.Linear(1, 1)
    with pytest.raises(CheckpointError, match="'gone'"):
        load_optimizer(torch.optim.SGD(model.parameters()), names(model), {"gone/step": torch.tensor(1.0)})
