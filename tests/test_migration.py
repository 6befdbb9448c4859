"""A model folder of an older format is refused with what to do, and `molrl migrate` makes it what ships today."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from molrl.models.description import domain_of
from molrl.models.migration import migrate, new_name
from molrl.models.molecules.model import Architecture, domain_at, load
from molrl.models.shapes.classifier import load_classifier
from molrl.models.shapes.model import load_shapes
from molrl.models.shipped import SHIPPED
from molrl.runs import checkpoint
from molrl.runs.errors import CheckpointError

# Names of today -> names of format 1, and the SHA-256 of the files of weights that shipped in format 1.
OLD_NAMES = (
    (r"^network\.noise_embedding\.", "network.noise."),
    (r"^network\.(node|point)_embedding\.", "network.embed."),
    (r"^network\.edge_embedding\.", "network.embed_pair."),
    (r"^network\.condition_embedding\.", "network.condition."),
    (r"^network\.class_embedding\.", "network.kind."),
    (r"^network\.inducing_points$", "network.inducers"),
    (r"^network\.position_out\.", "network.shift."),
    (r"\.modulation\.", ".modulate."),
    (r"\.edge_mlp\.receiver\.", ".receive."),
    (r"\.edge_mlp\.sender\.", ".send."),
    (r"\.edge_mlp\.distance\.", ".geometry."),
    (r"\.edge_mlp\.edge\.", ".recall."),
    (r"\.edge_mlp\.out\.", ".message."),
    (r"\.att_mlp\.", ".gate."),
    (r"\.coord_mlp\.", ".push."),
    (r"\.node_mlp\.", ".update."),
    (r"\.tensor_product\.", ".product."),
    (r"\.weight_mlp\.distance\.", ".weigh."),
    (r"\.weight_mlp\.receiver\.", ".receive."),
    (r"\.weight_mlp\.sender\.", ".send."),
    (r"\.weight_mlp\.out\.", ".weights.1."),
    (r"\.linear\.", ".mix."),
    (r"\.self_connection\.", ".keep."),
    (r"\.inducer_attention\.", ".gather."),
    (r"\.point_attention\.", ".spread."),
    (r"\.to_q\.", ".ask."),
    (r"\.to_kv\.", ".tell."),
    (r"\.to_out\.", ".out."),
    (r"\.inducer_mlp\.", ".think.0."),
    (r"\.point_mlp\.", ".think.1."),
    (r"^point_mlp\.", "each."),
    (r"^head\.", "all."),
)
SHIPPED_IN_FORMAT_1 = {
    "qm9_heavy": "03e7ce65af34fef0b79ecda1d5460664d96517a1027dcfae9cf58c505447d6d4",
    "qm9_all": "6150bda9ae1d43089ad1d3257ee701599d5ee2c8ee8bd89e8a84bb27c654a005",
    "shapes": "b6be7cd922e5aee0ce4e4c212d53a0c6c723f0f693c76cd61892f269cc7f4d8a",
    "shape_classifier": "d27580e721edda3fcbb0d01e3b026832e7ff43628d76af601a53e2aa0d596eb4",
    "shape_judge": "b2a0abfe4931181daa8d2527bf58613cb3854b60d7066c29b795a919613cc8db",
    "shape_kinds": "450f4c6e8b584a5a219a4aadc5db397770327f3abff6909c14c1b32fb8f9739b",
    "shape_kind_judge": "12c4741ccc61c84af6da7e3e594a25af8ad0bffa6f93b80d77a591e1e83072a4",
}
ADAPTER = {"domain": "images", "base": "images", "revision": None}


def old_name(name: str) -> str:
    for pattern, old in OLD_NAMES:
        name = re.sub(pattern, old, name)
    return name


def old_folder(place: Path, tensors: Mapping[str, Mapping[str, Tensor]], description: Mapping[str, Any]) -> Path:
    """Write a model of today as format 1 had it; molecules did not name their domain."""
    fields = {name: value for name, value in description.items() if name != "format"}
    if fields["domain"] == "molecules":
        del fields["domain"]
    weights = {old_name(name): value for name, value in tensors["weights"].items()}
    checkpoint.save(place, {**tensors, "weights": weights}, {"model": fields})
    return place


def shipped_in_format_1(name: str, place: Path) -> tuple[Path, Path]:
    """Return a shipped folder, and the one that shipped in format 1, with what lies beside the weights."""
    (shipped,) = SHIPPED.glob(f"*/{name}")
    tensors, values = checkpoint.load(shipped)
    old_folder(place, tensors, values["model"])
    for path in shipped.iterdir():
        if not (place / path.name).exists():
            shutil.copy(path, place)
    return shipped, place


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", SHIPPED_IN_FORMAT_1)
def test_migration_makes_what_shipped_before_what_ships_today(name: str, tmp_path: Path) -> None:
    shipped, old = shipped_in_format_1(name, tmp_path / "model")
    assert checkpoint.read_manifest(old)["weights.safetensors"] == SHIPPED_IN_FORMAT_1[name]
    assert migrate(str(old)) == 0
    assert files(old) == files(shipped)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("name", "reader"), [("qm9_heavy", load), ("shapes", load_shapes), ("shape_judge", load_classifier)]
)
def test_an_older_format_is_refused_with_the_remedy(name: str, reader: Callable[[str], object], tmp_path: Path) -> None:
    _, old = shipped_in_format_1(name, tmp_path / "my model")
    for read in (reader, domain_at):
        with pytest.raises(
            CheckpointError, match=r"format 1, .* reads format 2; .* molrl migrate 'folder=\".*/my model\"'$"
        ):
            read(str(old))


@pytest.mark.parametrize("version", [3, 0, "two", None, 1.5])
def test_a_format_that_is_not_known_needs_a_newer_version(version: object, tmp_path: Path) -> None:
    tensors, values = checkpoint.load(SHIPPED / "shapes" / "shape_judge")
    checkpoint.save(tmp_path / "model", tensors, {"model": {**values["model"], "format": version}})
    for read in (load_classifier, migrate):
        with pytest.raises(CheckpointError, match=rf"format {version!r}, .* it needs a newer molrl"):
            read(str(tmp_path / "model"))


def test_a_run_is_migrated_by_its_own_name(tmp_path: Path) -> None:
    shipped, _ = shipped_in_format_1("shapes", tmp_path / "run" / "model")
    assert migrate(str(tmp_path / "run")) == 0
    assert files(tmp_path / "run" / "model") == files(shipped)


@pytest.mark.parametrize("network", ["egnn", "tensor_field"])
def test_other_networks_of_molecules_are_migrated(network: str, tmp_path: Path) -> None:
    """Cover the networks of which none ships: conditional ones and tensor field networks."""
    if network == "tensor_field":
        pytest.importorskip("e3nn")
    shipped = load("qm9_heavy").architecture
    assert shipped is not None
    sizes = (
        {"width": 8, "pair_width": 4, "blocks": 2, "radial": 4}
        if network == "egnn"
        else {"scalars": 4, "vectors": 2, "tensors": 2, "blocks": 2, "radial": 4}
    )
    quantiles = {str(size): [0.0, 1.0] for size in shipped.sizes["atoms"]}
    condition = [{"name": "qed", "mean": 0.5, "std": 0.1, "quantiles": quantiles}] if network == "egnn" else []
    architecture = Architecture(
        network={"kind": network, **sizes},
        noise_min=shipped.noise_min,
        noise_max=shipped.noise_max,
        data_std=shipped.data_std,
        codec=shipped.codec,
        sizes=shipped.sizes,
        conditions=condition,
    )
    state = architecture.build().denoiser.state_dict()
    old = old_folder(tmp_path / "model", {"weights": state}, architecture.plain())
    assert not checkpoint.load(old)[0]["weights"].keys() & {name for name in state if name.startswith("network.noise")}
    migrate(str(old))
    loaded = load(str(old)).denoiser.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_the_name_of_an_adapters_format_is_added(tmp_path: Path) -> None:
    (tmp_path / "adapter.json").write_text(json.dumps(ADAPTER))
    (tmp_path / "pytorch_lora_weights.safetensors").write_bytes(b"as it is")
    with pytest.raises(CheckpointError, match="molrl migrate"):
        domain_of(tmp_path)
    assert migrate(str(tmp_path)) == 0
    assert json.loads((tmp_path / "adapter.json").read_text()) == {"format": 2, **ADAPTER}
    assert (tmp_path / "pytorch_lora_weights.safetensors").read_bytes() == b"as it is"
    assert domain_of(tmp_path) == "images"


@pytest.mark.parametrize(("name", "words"), [("qm9_heavy", "of format 2 already"), ("images", "diffusers' own format")])
def test_what_needs_no_migration_stays_as_it_is(name: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder,) = SHIPPED.glob(f"*/{name}")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert migrate(name) == 0
    assert words in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "no such model"),
        (lambda old: (old / "weights.safetensors").write_bytes(b"cut"), "not a safetensors file"),
        (lambda old: (old / "notes").mkdir(), r"folders of others \(notes\)"),
        (lambda old: checkpoint.save(old, {}, {"model": {"domain": "sounds"}}), "no domain has a migration"),
        (lambda old: checkpoint.save(old, {}, {"model": [1]}), "no domain has a migration"),
        (lambda old: checkpoint.save(old, {}, {"model": {"network": {"kind": ["egnn"]}}}), "no domain has a migration"),
        (
            lambda old: checkpoint.save(
                old,
                {"weights": {"each.0.bias": torch.zeros(1), "point_mlp.0.bias": torch.zeros(1)}},
                {"model": {"domain": "shape classifier"}},
            ),
            "old and new names",
        ),
    ],
)
def test_what_cannot_be_migrated_is_one_error_and_stays(
    damage: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    _, old = shipped_in_format_1("shape_judge", tmp_path / "model")
    damage(old)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=words):
        migrate(str(old))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000])
def test_a_damaged_adapter_is_one_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "adapter.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"adapter\.json: not a JSON file"):
        migrate(str(tmp_path))


def test_an_interrupted_migration_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off after every number of files that are written."""
    shipped, old = shipped_in_format_1("shape_judge", tmp_path / "model")
    before, write = files(old), checkpoint.write_synced
    for count in range(len(before)):
        left = [count]

        def cut_off(path: Path, data: bytes, left: list[int] = left) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            write(path, data)

        monkeypatch.setattr(checkpoint, "write_synced", cut_off)
        with pytest.raises(KeyboardInterrupt):
            migrate(str(old))
        assert files(old) == before
    monkeypatch.undo()
    assert migrate(str(old)) == 0
    assert files(old) == files(shipped)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.3.old.weight", "a.3.b.new.weight"),
        ("a.3.older.weight", "a.3.older.weight"),
        ("a.3", "a.3"),
        ("x.a.3.old.weight", "x.a.3.old.weight"),
    ],
)
def test_names_are_changed_in_whole_components(name: str, expected: str) -> None:
    assert new_name(name, {"a.*.old": "a.*.b.new"}) == expected
