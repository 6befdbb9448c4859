"""Prompts that come with a pipeline: asked for where none are named."""

import zipfile
from pathlib import Path

import pytest
import torch
from command import complaint, molrl
from test_lora import trained
from tiny_images import PROMPTS, tiny_task, write_pipeline

from molrl.data.images.drawings import captions
from molrl.models.images.decoder import ImageDecoder
from molrl.models.images.domain import IMAGES
from molrl.models.images.own_prompts import PROMPTS as FILE
from molrl.models.images.own_prompts import own_prompts, write_prompts
from molrl.models.images.source import Source
from molrl.models.shipped import SHIPPED
from molrl.task import Decoder

pytest.importorskip("diffusers", reason="images need the extra image")
OWN = ("a purple star", "a blue café")
SETTINGS = {"num_steps": 2, "eta": 1.0, "guidance_scale": 1.0, "batch": 4, "dtype": "float32", "tuning": "lora"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a pipeline with two prompts of its own."""
    path = write_pipeline(tmp_path_factory.mktemp("own") / "tiny")
    write_prompts(OWN, path)
    return path


def texts_of(decoder: Decoder) -> tuple[str, ...]:
    assert isinstance(decoder, ImageDecoder)
    return decoder.texts


def asked(weights: Path, **condition: str) -> tuple[str, ...]:
    """Return the prompts that `molrl sample` asks a pipeline for."""
    settings = {"revision": None, "rank": 2, "checkpointing": False, "shard": False, **SETTINGS}
    policy = IMAGES.policy(weights=str(weights), **settings)
    return texts_of(IMAGES.sampling(policy=policy, condition=condition, device=torch.device("cpu")).decoder)


def test_without_a_name_they_are_the_pipelines_own(folder: Path, tmp_path: Path) -> None:
    """Also from a run that trained it, and from what was exported of that run; a name or a prompt goes first."""
    assert asked(folder) == texts_of(tiny_task(folder, prompts=None).decoder) == OWN
    run = trained(folder, tmp_path / "run" / "model", 1)
    assert asked(run) == OWN
    assert molrl("export", str(run), f"out={tmp_path / 'merged'}").code == 0
    assert asked(tmp_path / "merged") == OWN
    assert asked(trained(folder, tmp_path / "full", 1, tuning="full")) == OWN
    assert asked(folder, prompts="drawings") == tuple(captions(held_out=False))
    assert asked(folder, prompt=PROMPTS[0]) == PROMPTS[:1]


def test_a_pipeline_without_its_own_is_asked_for_drawings(tiny_pipeline: Path) -> None:
    assert asked(tiny_pipeline) == tuple(captions(held_out=False))


def test_pipelines_that_ship_have_their_own() -> None:
    """The shipped pipeline of drawings has the captions that it was trained with."""
    names = [path.parent.name for path in SHIPPED.glob("images/*/model_index.json")]
    assert "images" in names
    for name in names:
        assert (SHIPPED / "images" / name / FILE).is_file()
    assert own_prompts(Source("images")) == tuple(captions(held_out=False))


@pytest.mark.slow
def test_the_command_draws_them(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "four.zip"
    done = molrl("sample", f"policy={folder}", "policy.num_steps=2", "n=4", f"out={out}", "threads=1")
    assert done.code == 0, done
    with zipfile.ZipFile(out) as archive:
        rows = archive.read("index.tsv").decode().splitlines()[1:]
    assert {row.split("\t")[1] for row in rows} <= set(OWN)


def test_a_damaged_file_is_one_error(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "p")
    (folder / FILE).write_bytes(b"a red circle\n\xff\n")
    settings = [f"policy={folder}", "n=2", f"out={tmp_path / 'x.zip'}"]
    assert f"{FILE}:2: byte 0xff in column 1 is not UTF-8" in complaint(["sample", *settings], 2)
