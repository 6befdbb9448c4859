"""Whatever a file holds, its reader reads it or says why not: a ValueError, or a skipped record with a reason."""

import ast
import contextlib
import gzip
import io
import json
import math
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import gemmi
import numpy as np
import pytest
import torch
import yaml
from command import QUICK_RUN
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as save_tensors
from test_finetune import ALGORITHMS, finetuning, run
from test_meshes import GOOD
from toy import number_task, unheard

from molrl.composition import compose
from molrl.config import ConfigError
from molrl.data.cache import load_arrays
from molrl.data.files import EXAMPLES, Skipped
from molrl.data.images.captioned_files import read_captioned
from molrl.data.images.prompts import prompt_list
from molrl.data.images.records import image_records, read_image
from molrl.data.molecules.conformers import load_conformers
from molrl.data.molecules.files import stream
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.pdb import group_positions, read_pdb
from molrl.data.molecules.pdbqt import read_ligand, read_receptor
from molrl.data.molecules.records import molecule_of, records
from molrl.data.molecules.sdf_fields import read_field
from molrl.data.molecules.unembedded import read_canonical_smiles
from molrl.data.shapes.files import read_shapes
from molrl.finetune import finetune, freeze_copy
from molrl.models.description import describe
from molrl.models.images.classifier import load_image_classifier
from molrl.models.images.source import read_adapter_description
from molrl.models.molecules.model import load, read_reference
from molrl.models.shapes.classifier import load_classifier
from molrl.models.shapes.model import load_shapes
from molrl.models.shipped import SHIPPED
from molrl.preferences import read_preferences
from molrl.rewards.images.clip import read_head
from molrl.rewards.molecules.docking.site import read_box
from molrl.rewards.scoring.journal import Journal
from molrl.rewards.user_models import load_user_model
from molrl.rewards.workers.external_queue import parse_answer
from molrl.runs import checkpoint
from molrl.runs.checkpoints import CHECKPOINTS, Series
from molrl.runs.folder import describe_finished, refuse_another
from molrl.runs.inputs import INPUTS, check_inputs
from molrl.runs.report.contents import read_contents
from molrl.runs.report.page import render_page
from molrl.runs.report.sheet import read_sheet
from molrl.runs.resume import compose_resumed
from molrl.runs.tracking import read_metrics

ROOT = Path(__file__).parents[1]
DATA = Path(__file__).parent / "data"
Reader = Callable[[Path], object]


def sound(entries: Iterator[Molecule | Skipped]) -> None:
    """Check that every entry is a molecule with finite positions, or has a place and a reason."""
    for entry in entries:
        if isinstance(entry, Skipped):
            assert entry.where
            assert entry.reason
        else:
            assert np.isfinite(entry.positions).all()


def molecules(path: Path) -> None:
    sound(stream(path))


def conformers(path: Path) -> None:
    """Check that a cached block is whole or not there."""
    found = load_conformers(path, 2)
    assert found is None or (isinstance(found[0], Molecule), found[1]) == (True, "no embedding")


def graphs(path: Path) -> None:
    sound(molecule_of(record, embedded=False) for record in records(path))


def shapes(path: Path) -> None:
    clouds, report = read_shapes(path, 16)
    assert all(np.isfinite(cloud.points).all() for cloud in clouds)
    assert all(entry.reason for entry in report.skipped)


def fields(path: Path) -> None:
    """Check that the values of a field are texts of records that are counted from 1."""
    values = read_field(path, "score")
    assert min(values) >= 1
    assert all(values.values())


def preferences(path: Path) -> None:
    """Check that scores are finite and records are counted from 1."""
    table = read_preferences(str(path))
    assert all(math.isfinite(score) for score in table.scores.values())
    assert min([*table.scores, *(record for pair in table.pairs for record in pair)]) >= 1


def arrays(**content: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **content)  # type: ignore[arg-type]
    return file.getvalue()


def beside(name: str, model: Path, reader: Callable[[str], object]) -> tuple[bytes, str, Reader]:
    """Return a file of a model's folder, its name, and a reader of the folder; the manifest fits any content."""

    def read(path: Path) -> None:
        folder = path.parent / "model"
        shutil.copytree(model, folder, dirs_exist_ok=True)
        (folder / name).write_bytes(path.read_bytes())
        if name != "manifest.json" and name in (listed := json.loads((folder / "manifest.json").read_text())["files"]):
            listed[name] = checkpoint.sha256(path.read_bytes())
            (folder / "manifest.json").write_text(json.dumps({"format": 1, "files": listed}))
        reader(str(folder))

    return (model / name).read_bytes(), Path(name).suffix, read


def captioned(name: str, content: bytes) -> tuple[bytes, str, Reader]:
    """Return a file of a folder of captioned images, its suffix, and a reader of the folder."""

    def read(path: Path) -> None:
        folder = path.parent / f"captioned_{name}"
        folder.mkdir(exist_ok=True)
        (folder / "0.png").write_bytes(PAGE)
        (folder / "captions.csv").write_text("file,caption\n0.png,a page\n")
        (folder / name).write_bytes(path.read_bytes())
        read_captioned(folder, 8)

    return content, Path(name).suffix, read


def encoded_image() -> bytes:
    """Return a small PNG file."""
    file = io.BytesIO()
    Image.new("RGB", (9, 7), "red").save(file, "PNG")
    return file.getvalue()


def archive_of(image: bytes) -> bytes:
    """Return an archive of one captioned image."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("0.png", image)
        archive.writestr("captions.json", '{"0.png": "a page"}')
    return file.getvalue()


def in_run(name: str) -> tuple[bytes, str, Reader]:
    """Return a file of a run's last checkpoint, its name, and a reader of the run; the manifest fits any content."""

    def read(path: Path) -> None:
        folder = path.parent / "run"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(a_run(), folder)
        place = Series(folder / CHECKPOINTS).path(1)
        (place / name).write_bytes(path.read_bytes())
        if name.endswith((".json", ".safetensors")) and name != "manifest.json":
            manifest = json.loads((place / "manifest.json").read_text())
            manifest["files"][name] = checkpoint.sha256(path.read_bytes())
            (place / "manifest.json").write_text(json.dumps(manifest))
            (place / "COMPLETE").write_text(checkpoint.sha256((place / "manifest.json").read_bytes()))
        task = number_task()
        finetune(finetuning(iterations=1), task, ALGORITHMS["DPOK"], freeze_copy(task.policy), folder, unheard)

    return (Series(a_run() / CHECKPOINTS).path(1) / name).read_bytes(), Path(name).suffix, read


def a_run(made: list[Path] = []) -> Path:  # noqa: B006  made once
    if not made:
        made.append(Path(tempfile.mkdtemp(prefix="molrl-fuzz-")))
        run(number_task(), ALGORITHMS["DPOK"], made[0], iterations=1)
    return made[0]


CONFIG = yaml.safe_dump({**compose("train", ["algo=ddpo", *QUICK_RUN]), "run": "run"}, sort_keys=False).encode()


def claimed(path: Path) -> None:
    """Read a run's settings as the same command and as resume= do."""
    folder = path.parent / "claimed"
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_bytes(path.read_bytes())
    config = {**compose("train", ["algo=ddpo", *QUICK_RUN]), "run": str(folder)}
    with contextlib.suppress(ConfigError):
        refuse_another(config)
    compose_resumed("train", [f"resume={folder}"])


def summarised(path: Path) -> None:
    folder = path.parent / "summarised"
    folder.mkdir(exist_ok=True)
    config = {"run": str(folder), "iterations": 3, "chosen": {}, "reward": {}}
    (folder / "config.yaml").write_text(json.dumps(config))
    (folder / "summary.json").write_bytes(path.read_bytes())
    describe_finished(config)


SHEET = {
    **{"n": 2, "rewards": [0.5, 1], "makeup": {"elements": {"counts": {"C": 3}, "total": 3, "of": "atoms"}}},
    "exhibits": [
        {"title": "C", "facts": {"reward": 0.5, "valid": "yes"}, "image": "AAAA", "sdf": "x", "points": "AAAA"}
    ],
}
ABOUT = {"labels": {"validity": "valid"}, "sessions": [{"command": "molrl train"}]}


def reported(*names: str) -> Reader:
    """Return a reader of a run's report, with a file in these places of the run's folder."""

    def read(path: Path) -> None:
        folder = path.parent / "reported"
        (folder / "report").mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_bytes(CONFIG)
        for name in names:
            (folder / name).write_bytes(path.read_bytes())
        with contextlib.suppress(ConfigError):
            render_page([read_contents(folder)], folder)

    return read


def unchanged(path: Path) -> None:
    folder = path.parent / "unchanged"
    folder.mkdir(exist_ok=True)
    (folder / INPUTS).write_bytes(path.read_bytes())
    check_inputs(folder, {"run": str(folder)})


ADAPTER = {"format": 2, "domain": "images", "base": "images", "revision": None, "variant": None}


def adapted(path: Path) -> None:
    folder = path.parent / "adapted"
    folder.mkdir(exist_ok=True)
    (folder / "adapter.json").write_bytes(path.read_bytes())
    read_adapter_description(folder)


def continued(path: Path) -> None:
    out = path.parent / "out.csv"
    path.replace(f"{out}.state")
    Journal(out, {"file": "x"}).begin(overwrite=False)


def overridden(path: Path) -> None:
    compose("train", path.read_text(errors="replace").splitlines()[:3])


SUMMARY = {
    **{when: {"reward_mean": mean} for when, mean in (("before", 0.1), ("after", 0.2))},
    **{"reward_queries": 3, "wall_seconds": 1.0, "iterations": 3},
}
WATER = {
    "index": [1],
    "num_atoms": [3],
    "atomic_numbers": [8, 1, 1],
    "positions": [[0, 0, 0], [0.9, 0, 0], [0, 0.9, 0]],
}
NPZ = arrays(**{name: np.array(value) for name, value in WATER.items()})
PDBQT = (EXAMPLES / "1iep_pocket.pdbqt").read_bytes()
ROW = "ATOM      1  {:4}GLY A   1    {:8.3f}   0.000   0.000  1.00  0.00    {:10}{:>2}\n"
PDB = "".join(ROW.format(*row) for row in (("N", 0, "", "N"), ("CA", 1.4, "", "C"), ("C", 2.8, "", "C"))).encode()
MMCIF = gemmi.read_pdb_string(PDB).make_mmcif_document().as_string().encode()
LIGAND = b"ROOT\n" + PDBQT.splitlines(keepends=True)[3] + b"ENDROOT\nTORSDOF 0\n"
MODEL, SHAPES, CLASSIFIER, IMAGE_CLASSIFIER = (
    SHIPPED / name
    for name in ("molecules/qm9_heavy", "shapes/shapes", "shapes/shape_classifier", "images/scene_classifier")
)

PAGE = encoded_image()
CONFORMERS = arrays(
    found=np.array([True, False]),
    reasons=np.frombuffer(b"no embedding\n", np.uint8),
    sizes=np.array([3], np.uint16),
    numbers=np.array([8, 1, 1], np.uint8),
    positions=np.eye(3, dtype=np.float32),
    charges=np.zeros(3, np.int8),
    bond_counts=np.array([2], np.uint16),
    bonds=np.array([[0, 1, 1], [0, 2, 1]], np.uint16),
)

READERS: dict[str, tuple[bytes, str, Reader]] = {
    "sdf": ((DATA / "broken.sdf").read_bytes(), ".sdf", molecules),
    "sdf records": ((DATA / "broken.sdf").read_bytes(), ".sdf", graphs),
    "sdf fields": (
        b"a\n\n\nM  END\n>  <score>\n0.5\n\n$$$$\nb\n\n\nM  END\n> <score> (2)\n1\n\n$$$$\n",
        ".sdf",
        fields,
    ),
    "mol": ((DATA / "broken.sdf").read_bytes()[:600], ".mol", molecules),
    "xyz": ((DATA / "frames.xyz").read_bytes(), ".xyz", molecules),
    "xyz records": ((DATA / "frames.xyz").read_bytes(), ".xyz", graphs),
    "smiles": (b"CCO ethanol\nc1ccccc1\n", ".smi", molecules),
    "smiles records": (b"CCO ethanol\nc1ccccc1\n[NH4+].[Cl-]\n", ".smi", graphs),
    "canonical smiles": (b"CCO ethanol\n[Na+].CC(=O)[O-]\n", ".smi", read_canonical_smiles),
    "csv": (b'name,smiles\n"a, b",CCO\nb,N\n', ".csv", graphs),
    "qm9 npz": (NPZ, ".npz", molecules),
    "compressed": (gzip.compress((DATA / "frames.xyz").read_bytes()), ".xyz.gz", molecules),
    "cache": (NPZ, ".npz", load_arrays),
    "conformers": (CONFORMERS, ".npz", conformers),
    **{f"shape {suffix}": (content, suffix, shapes) for suffix, content in GOOD.items()},
    "compressed shape": (gzip.compress(GOOD[".off"]), ".off.gz", shapes),
    "pdb": (PDB, ".pdb", read_pdb),
    "pdb group": (PDB.replace(b"GLY", b"LIG"), ".pdb", lambda path: group_positions(path, "LIG")),
    "mmcif": (MMCIF, ".cif", read_pdb),
    "compressed mmcif": (gzip.compress(MMCIF), ".cif.gz", read_pdb),
    "pdbqt receptor": (PDBQT[:2000], ".pdbqt", read_receptor),
    "pdbqt ligand": (LIGAND, ".pdbqt", read_ligand),
    "onnx model": ((DATA / "sum.onnx").read_bytes(), ".onnx", lambda path: load_user_model(str(path), 2048)),
    "answer": (b'{"value": -7.5, "id": "a"}', ".json", lambda path: parse_answer(path.read_bytes(), "a")),
    "box": (b"center_x = 1\ncenter_y = 2\ncenter_z = 3\nsize_x = 4\nsize_y = 5\nsize_z = 6\n", ".txt", read_box),
    **{
        f"model {name}": beside(name, MODEL, load)
        for name in ("manifest.json", "model.json", "weights.safetensors", "reference.smi.gz")
    },
    "model description": beside("model.json", MODEL, lambda folder: describe(Path(folder))),
    "model reference": beside("reference.smi.gz", MODEL, lambda folder: read_reference(Path(folder))),
    "shape model": beside("model.json", SHAPES, load_shapes),
    "shape weights": beside("weights.safetensors", SHAPES, load_shapes),
    "classifier": beside("model.json", CLASSIFIER, load_classifier),
    "image classifier": beside("model.json", IMAGE_CLASSIFIER, load_image_classifier),
    "published weights": (save_tensors({}), ".safetensors", lambda path: load(str(path))),
    **{
        f"checkpoint {name}": in_run(name)
        for name in ("COMPLETE", "manifest.json", "progress.json", "flags.json", "layout.json", "random.json")
    },
    **{
        f"checkpoint {name}": in_run(name)
        for name in ("denoiser.safetensors", "algorithm.safetensors", "optimizer.safetensors", "random.safetensors")
    },
    "prompts": (b"a cat\na dog on the moon\n", ".txt", lambda path: prompt_list(str(path))),
    "captions json": captioned("captions.json", b'[{"file": "0.png", "caption": "a page"}]'),
    "captions csv": captioned("captions.csv", b"file,caption\n0.png,a page\n"),
    "captioned image": captioned("0.png", PAGE),
    "captioned archive": (archive_of(PAGE), ".zip", read_captioned),
    "image records": (archive_of(PAGE), ".zip", lambda path: [read_image(record) for record in image_records(path)]),
    "aesthetic head": (save_tensors({"weight": torch.ones(4), "bias": torch.ones(1)}), ".safetensors", read_head),
    "image adapter": (json.dumps(ADAPTER).encode(), ".json", adapted),
    "inputs of a run": (b"{\n}\n", ".json", unchanged),
    "settings of a run": (CONFIG, ".yaml", claimed),
    "summary of a run": (json.dumps(SUMMARY).encode(), ".json", summarised),
    "sheet": (json.dumps(SHEET).encode(), ".json", read_sheet),
    "sheets of a report": (json.dumps(SHEET).encode(), ".json", reported("report/before.json", "report/after.json")),
    "about a run": (json.dumps(ABOUT).encode(), ".json", reported("report/about.json")),
    "summary of a report": (json.dumps(SUMMARY).encode(), ".json", reported("summary.json")),
    "metrics of a report": (b'{"iteration": 0, "reward": 0.5, "kl": 1}\n', ".jsonl", reported("metrics.jsonl")),
    "settings of a report": (CONFIG, ".yaml", reported("config.yaml")),
    "preferences": (b"record,name,qed\n1,a,0.5\n2,b,0.25\n", ".csv", preferences),
    "preferred pairs": (b"winner,loser\n1,2\n3,1\n", ".csv", preferences),
    "metrics": (b'{"iteration": 0, "reward": 0.5}\n{"iteration": 1, "reward": null}\n', ".jsonl", read_metrics),
    "state of a job": (b'{"records": 1, "subject": {"file": "x"}, "ready": false, "end": {}}', ".state", continued),
    "overrides": (b"algo=ddpo\npolicy.num_steps=7\nreward.workers=0\n", ".txt", overridden),
}

COVERED: dict[str, tuple[str, ...] | str] = {
    "data/files.py: open_file open_unchecked text_lines": ("sdf", "xyz", "compressed"),
    "data/cache.py: load_arrays": ("cache",),
    "data/shapes/glb.py: scene_mesh": ("shape .glb", "shape .gltf"),
    "data/shapes/folders.py: is_shape_file": ("shape .txt",),
    "data/shapes/files.py: read_content": ("shape .off", "compressed shape"),
    "data/molecules/macromolecules.py: cif_text": ("mmcif", "compressed mmcif"),
    "data/molecules/pdbqt.py: records": ("pdb", "pdbqt receptor", "pdbqt ligand"),
    "data/shapes/point_arrays.py: parse_npz": ("shape .npz",),
    "data/images/prompts.py: prompt_list": ("prompts",),
    "data/images/captioned_files.py: opened read": ("captioned archive", "captions json"),
    "data/images/captioned_files.py: json_rows": ("captions json",),
    "data/images/captioned_files.py: read_captions": ("captioned archive", "captions csv", "image records"),
    "data/images/captioned_files.py: open_image": ("captioned image", "image records"),
    "data/molecules/qm9.py: read_arrays": ("qm9 npz",),
    "data/molecules/records.py: records": ("sdf records", "xyz records", "smiles records", "csv"),
    "data/molecules/sdf.py: stream_sdf blocks": ("sdf", "mol"),
    "data/molecules/sdf_fields.py: read_field": ("sdf fields",),
    "data/molecules/smiles.py: smiles_lines": ("smiles", "csv"),
    "data/molecules/xyz.py: stream_xyz frames": ("xyz",),
    "models/molecules/edm.py: from_safetensors": ("published weights",),
    "models/shapes/classifier.py: load_classifier": ("classifier",),
    "models/images/classifier.py: load_image_classifier": ("image classifier",),
    "models/molecules/model.py: load": ("model model.json", "model weights.safetensors"),
    "models/description.py: describe": ("model description",),
    "models/migration.py: migrate rewrite": "by load, in test_migration.py",
    "models/migration.py: read_json": "damaged ones in test_migration.py",
    "models/molecules/model.py: read_reference read_hashes": ("model reference", "model weights.safetensors"),
    "models/shapes/model.py: load_shapes read_held_out": ("shape model", "shape weights"),
    "molrl/runs/checkpoint.py: load read_manifest read_bounded": ("model manifest.json", "checkpoint manifest.json"),
    "molrl/runs/checkpoint.py: inspect load_group read_verified": ("checkpoint progress.json", "shape weights"),
    "molrl/runs/checkpoints.py: read": ("checkpoint COMPLETE",),
    "molrl/runs/folder.py: read_summary": ("summary of a run",),
    "molrl/runs/folder.py: load_plain_yaml": ("settings of a run",),
    "molrl/runs/folder.py: in_use": "a lock, whose content is not read",
    "molrl/runs/report/sheet.py: read_sheet": ("sheet", "sheets of a report"),
    "molrl/runs/card.py: training_data": "text that is quoted as text",
    "molrl/runs/report/about.py: read_about": ("about a run",),
    "molrl/runs/report/about.py: processor_name": "the system's own file",
    "molrl/runs/report/page.py: asset": "our own scripts and style sheets",
    "molrl/runs/report/contents.py: read_contents": ("settings of a report",),
    "molrl/runs/inputs.py: check_inputs": ("inputs of a run",),
    "molrl/runs/inputs.py: digest": "hashed",
    "molrl/algos/differentiable.py: differentiable_rewards": "our own YAML",
    "molrl/preferences.py: read_preferences": ("preferences", "preferred pairs"),
    "molrl/runs/tracking.py: read_metrics": ("metrics",),
    "rewards/images/clip.py: read_head": ("aesthetic head",),
    "rewards/scoring/journal.py: read": ("state of a job",),
    "rewards/molecules/docking/site.py: read_box": ("box",),
    "rewards/workers/external_queue.py: answer parse_answer": ("answer",),
    "rewards/stored.py: find": "what it has kept itself",
    "rewards/workers/isolated.py: query": "answers that are nonsense in test_isolated.py",
    "rewards/workers/model_server.py: main": "requests of the process that started it",
    "rewards/user_models.py: load_user_model skops_model": ("onnx model",),
    "data/molecules/filters.py: molsets_patterns": "tables of an installed package",
    "data/molecules/drawing.py: draw_molecule": "an image that was just drawn",
    "data/shapes/drawing.py: draw_views": "an image that was just drawn",
    "data/images/prompts.py: published_lists": "our own YAML",
    "models/molecules/domain.py: claims": "names in an archive; test_shape_evaluation.py",
    "models/molecules/policy.py: model": "by load",
    "models/shapes/domain.py: claims": "names in an archive; test_shape_evaluation.py",
    "models/images/pipeline.py: pipeline_class": "damaged ones in test_images.py",
    "models/images/source.py: read_adapter_description": ("image adapter",),
    "models/images/foreign_folder.py: check_file read_config": "damaged ones in test_foreign_folder.py",
    "models/images/lora.py: check_finite merge_lora": "damaged ones in test_lora.py",
    "models/loading.py: load_network": ("model model.json", "model weights.safetensors", "classifier"),
    "molrl/runs/headers.py: read_header": ("model weights.safetensors", "checkpoint denoiser.safetensors"),
    "models/molecules/pretraining.py: load load_data warm_start": "by load",
    "models/pretraining.py: measure": "by load",
    "models/pretraining.py: refuse_other_model": "compared as text",
    "molrl/composition.py: defaults": "YAML of the package, or of the user's own folder, by a safe loader",
    "molrl/plugins.py: load_registered": "an entry point of an installed package",
    "molrl/usage.py: text_of": "our own YAML",
    "molrl/catalogue.py: described_file": "YAML of the package or of the user's own folder: a comment is shown",
    "models/sharing.py: check_files": "a folder that is sent; damaged ones in test_sharing.py",
    "models/digests.py: damaged_files": "our own file, and hashed ones",
    "molrl/machine/inspection.py: system_memory container_memory": "the kernel's files",
    "molrl/machine/device.py: usable_cores": "the kernel's file",
    "molrl/runs/folder.py: claim": "compared as bytes",
    "molrl/best.py: choose save measure": "by read of a checkpoint",
    "rewards/scoring/journal.py: begin": "what it has just written",
    "rewards/scoring/journal.py: identity": "hashed",
    "rewards/images/vlm.py: rate": "answers that are nonsense in test_http_rewards.py",
    "rewards/workers/http.py: send read": "answers that are nonsense in test_http_rewards.py",
    "rewards/scoring/table.py: compress write_parquet": "what it has just written",
    "molrl/machine/workers/process.py: work run_chunk sendable": "between a process and those it started",
    "molrl/machine/workers/pool.py: answer": "between a process and those it started",
    "molrl/machine/workers/process.py: limit_memory children": "the kernel's files",
    "molrl/machine/files.py: open_regular read_bounded read_text": "bytes; test_files.py",
    "molrl/runs/checkpoint.py: open_file": "bytes; test_received_models.py",
    "models/images/single_file.py: single_file_header read_parts": "cut and misshaped ones in test_single_file.py",
}
WRITERS = (
    *(
        "data/cache.py: save_arrays",
        "data/molecules/sdf.py: write_sdf",
        "models/shapes/decoder.py: write",
        "molrl/runs/folder.py: lock",
    ),
    *(
        "molrl/runs/checkpoint.py: write_synced",
        "molrl/runs/checkpoint.py: sync_folder",
        "molrl/runs/tracking.py: __enter__",
        "molrl/machine/files.py: open_in_place",
        "molrl/machine/files.py: staged",
        "molrl/machine/files.py: staged_folder",
        "molrl/machine/files.py: replace_file",
    ),
    *("models/images/decoder.py: write", "molrl/machine/printable.py: muted"),
    *(
        "rewards/scoring/journal.py: output_lock",
        "rewards/scoring/checked_part.py: __init__",
    ),
)
OPENING = {
    *("open", "read_text", "read_bytes", "safe_load", "loads", "load", "load_file", "safe_open", "ZipFile"),
    *(
        "open_file",
        "open_unchecked",
        "open_regular",
        "open_in_place",
        "read_bounded",
        "read_config",
        "read_verified",
        "load_group",
        "load_network",
        "staged",
        "text_lines",
        "read_table",
        "ParquetFile",
        "imread",
        "fromfile",
        "memmap",
        "genfromtxt",
    ),
}


def opening(path: Path) -> set[str]:
    """Return the functions of a module that open files, or parse text or bytes from elsewhere."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in OPENING
    }


def linked(path: Path) -> bool:
    """Return whether a module is reached through one of the links in molrl/, which name it a second time."""
    return any(parent.is_symlink() for parent in path.parents)


def test_every_function_that_opens_a_file_is_fuzzed_or_says_why_not() -> None:
    folders = ("molrl", "data", "models", "rewards")
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")) if not linked(path)]
    found = {f"{path.relative_to(ROOT)}: {name}" for path in files for name in opening(path)}
    listed = {
        f"{where}: {name}" for where, _, names in (key.partition(": ") for key in COVERED) for name in names.split()
    }
    assert found - listed - set(WRITERS) == set(), "a reader without a fuzz test"
    assert (listed | set(WRITERS)) - found == set(), "listed, but it opens nothing any more"
    assert {name for names in COVERED.values() if isinstance(names, tuple) for name in names} <= READERS.keys()


PIECES = [
    b"\0",
    b"\xff",
    b"-1",
    b"9" * 30,
    b"nan",
    b"1e999",
    b"{",
    b"[" * 200,
    b'"',
    b"\n",
    b"$$$$\n",
    b"M  END\n",
    b" ",
]


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """Draw a good file with bytes changed, pieces put in and its end cut off; or random bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    content = bytearray(good)
    for place, byte in draw(st.lists(st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255)), max_size=6)):
        content[place] = byte
    for place, piece in draw(st.lists(st.tuples(st.integers(0, len(good)), st.sampled_from(PIECES)), max_size=3)):
        content[place:place] = piece
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)


@pytest.mark.parametrize("name", READERS)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_whatever_a_file_holds_a_reader_reads_it_or_says_why_not(
    name: str, data: st.DataObject, tmp_path: Path
) -> None:
    good, suffix, reader = READERS[name]
    path = tmp_path / f"x{suffix}"
    path.write_bytes(data.draw(damaged(good)))
    with warnings.catch_warnings(), contextlib.suppress(ValueError):
        warnings.simplefilter("ignore")
        reader(path)


@pytest.mark.parametrize(("place", "byte"), [(8, 1), (10, 99)])
def test_an_archive_that_says_encrypted_or_otherwise_compressed_cannot_be_read(
    place: int, byte: int, tmp_path: Path
) -> None:
    content = bytearray(NPZ)
    content[NPZ.index(b"PK\x01\x02") + place] = byte
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    assert load_arrays(path) is None
    with pytest.raises(ValueError, match="cannot be read"):
        molecules(path)


@pytest.mark.parametrize("name", READERS)
def test_what_was_not_damaged_is_read(name: str, tmp_path: Path) -> None:
    """Else the test above would only try how a reader refuses."""
    good, suffix, reader = READERS[name]
    path = tmp_path / f"x{suffix}"
    path.write_bytes(good)
    if name == "published weights":
        pytest.skip("they do not come with the package")
    reader(path)
