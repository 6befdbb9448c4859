"""Stable Diffusion in a single file under the names of its first code, with the configurations of a folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command import complaint, molrl
from original_names import open_clip, single_file
from safetensors.torch import load_file, save_file
from test_lora import trained
from tiny_flows import write_flow
from tiny_images import tiny, tiny_xl
from torch import Tensor

from molrl.models.images.pipeline import load_pipeline
from molrl.models.images.pipeline_parts import encoders
from molrl.runs.errors import CheckpointError

DIFFUSERS: Any = pytest.importorskip("diffusers", reason="images need the extra image")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with the weights of the small pipeline."""
    path = tmp_path_factory.mktemp("single") / "model.safetensors"
    save_file(single_file(tiny()), path)
    return path


def configurations(pipeline: Any, folder: Path) -> Path:
    """Write a pipeline without its weights."""
    pipeline.save_pretrained(folder)
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    return folder


def parts_of(pipeline: Any) -> list[dict[str, Tensor]]:
    return [part.state_dict() for part in (pipeline.unet, pipeline.vae, *encoders(pipeline))]


def test_every_weight_arrives_in_its_place(file: Path, tmp_path: Path) -> None:
    """From a folder without weights, and from one that has others; the file in half precision as well."""
    folder = configurations(tiny(), tmp_path / "plain")
    ours, source = load_pipeline(str(file), None, torch.float32, config=str(folder))
    assert (source.base, source.config) == (str(file.resolve()), str(folder.resolve()))
    for found, expected in zip(parts_of(ours), parts_of(tiny()), strict=True):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert not ours.unet.training
    tiny_with_seed(9).save_pretrained(tmp_path / "other")
    again, _ = load_pipeline(str(file), None, torch.float32, config=str(tmp_path / "other"))
    assert torch.equal(again.unet.conv_in.weight, ours.unet.conv_in.weight)
    half = tmp_path / "half.safetensors"
    save_file({name: value.half() for name, value in load_file(file).items()}, half)
    loaded, _ = load_pipeline(str(half), None, torch.float16, config=str(folder))
    assert torch.equal(loaded.unet.conv_in.weight, ours.unet.conv_in.weight.half())
    assert loaded.vae.dtype == torch.float32


def tiny_with_seed(seed: int) -> Any:
    """Return the small pipeline with other weights in its UNet."""
    pipeline = tiny()
    generator = torch.Generator().manual_seed(seed)
    for parameter in pipeline.unet.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return pipeline


def test_sdxl_is_read_with_both_text_encoders(tmp_path: Path) -> None:
    pipeline = tiny_xl()
    save_file(single_file(pipeline), tmp_path / "xl.safetensors")
    folder = configurations(pipeline, tmp_path / "xl")
    ours, _ = load_pipeline(str(tmp_path / "xl.safetensors"), None, torch.float32, config=str(folder))
    for found, expected in zip(parts_of(ours), parts_of(pipeline), strict=True):
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_the_encoder_of_stable_diffusion_2_is_read(file: Path, tmp_path: Path) -> None:
    """It has the names of OpenCLIP, and a projection that nothing reads."""
    pipeline = tiny()
    width = pipeline.text_encoder.config.hidden_size
    tensors = {name: value for name, value in load_file(file).items() if not name.startswith("cond_stage")}
    tensors |= open_clip(pipeline.text_encoder, "cond_stage_model.model.")
    tensors["cond_stage_model.model.text_projection"] = torch.ones(width, width)
    save_file({name: value.clone().contiguous() for name, value in tensors.items()}, tmp_path / "2.safetensors")
    folder = configurations(pipeline, tmp_path / "2")
    ours, _ = load_pipeline(str(tmp_path / "2.safetensors"), None, torch.float32, config=str(folder))
    for name, value in pipeline.text_encoder.state_dict().items():
        assert torch.equal(ours.text_encoder.state_dict()[name], value)


def test_a_run_on_a_file_remembers_its_configurations(file: Path, tmp_path: Path) -> None:
    """Its model is read by its own name, and exported as a folder that needs neither."""
    folder = configurations(tiny(), tmp_path / "plain")
    run = trained(file, tmp_path / "run", 1, config=str(folder))
    described = json.loads((run / "adapter.json").read_text())
    assert (described["base"], described["config"]) == (str(file.resolve()), str(folder.resolve()))
    expected = tiny()
    expected.load_lora_weights(str(run))
    expected.fuse_lora()
    out = tmp_path / "merged"
    assert molrl("export", str(run), f"out={out}").code == 0
    merged = DIFFUSERS.DiffusionPipeline.from_pretrained(str(out), local_files_only=True)
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    weight = expected.unet.get_submodule(name).base_layer.weight
    torch.testing.assert_close(merged.unet.get_submodule(name).weight, weight, atol=1e-6, rtol=0)
    assert (weight - tiny().unet.get_submodule(name).weight).abs().max() > 1e-3


def test_the_command_takes_a_file_as_a_policy(file: Path, tmp_path: Path) -> None:
    folder = configurations(tiny(), tmp_path / "plain folder")
    settings = ["n=1", "condition.prompt=a red circle", "policy.num_steps=2", f"out={tmp_path / 'x.png'}", "threads=1"]
    done = molrl("sample", f"policy={file}", f"policy.config={folder}", *settings)
    assert done.code == 0, done
    assert (tmp_path / "x.png").stat().st_size > 0


def test_a_folder_does_not_need_what_a_preset_says_of_files(tiny_pipeline: Path) -> None:
    pipeline, source = load_pipeline(str(tiny_pipeline), None, torch.float32, config="hub:owner/name")
    assert source.config is None
    assert len(encoders(pipeline)) == 1


def damaged(file: Path, change: Any, path: Path) -> Path:
    save_file({name: value.contiguous() for name, value in change(load_file(file)).items()}, path)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda all_: without(all_, "model.diffusion_model."), r"has no UNet \(model\.diffusion_model\.\*\)"),
        (lambda all_: without(all_, "first_stage_model."), "has no autoencoder"),
        (lambda all_: without(all_, "cond_stage_model."), "has no text_encoder"),
        (lambda all_: without(all_, "model.diffusion_model.out.2.bias"), r"missing \['conv_out\.bias'\]"),
        (lambda all_: {**all_, "model.diffusion_model.middle_block.0.x": torch.ones(1)}, "unexpected"),
        (
            lambda all_: {**all_, "model.diffusion_model.out.2.bias": torch.ones(9)},
            r"conv_out\.bias is \(9,\) instead of \(4,\)",
        ),
        (lambda all_: {name: value * torch.nan for name, value in all_.items()}, "NaN or infinity"),
        (lambda _: {"unet.x.lora_A.weight": torch.ones(2)}, r"it may be a LoRA, which policy\.lora takes"),
    ],
)
def test_a_file_that_does_not_fit_is_one_error(change: Any, words: str, file: Path, tmp_path: Path) -> None:
    folder = configurations(tiny(), tmp_path / "plain")
    with pytest.raises(CheckpointError, match=words):
        load_pipeline(str(damaged(file, change, tmp_path / "x.safetensors")), None, torch.float32, config=str(folder))


def without(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if not name.startswith(prefix)}


def test_what_a_file_needs_beside_it_is_said(file: Path, tmp_path: Path) -> None:
    assert "policy.config names a pipeline of the same kind" in complaint(["sample", f"policy={file}", "n=1"], 5)
    for settings, words in (
        ({"config": "nowhere"}, r"policy\.config=nowhere: no such pipeline"),
        ({"config": "images", "variant": "fp16"}, "a single file has no variant fp16"),
    ):
        with pytest.raises(CheckpointError, match=words):
            load_pipeline(str(file), None, torch.float32, **settings)
    with pytest.raises(CheckpointError, match="no such pipeline"):
        load_pipeline(str(tmp_path / "gone.safetensors"), None, torch.float32, config="images")
    flow = write_flow("stable_diffusion_3", tmp_path / "flow")
    with pytest.raises(CheckpointError, match="a StableDiffusion3Pipeline is not read from a single file"):
        load_pipeline(str(file), None, torch.float32, config=str(flow))


@pytest.mark.parametrize("keep", [4, 400, 40_000])
def test_a_damaged_file_is_one_error(keep: int, file: Path, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"not a safetensors file|damaged"):
        load_pipeline(str(tmp_path / "x.safetensors"), None, torch.float32, config="images")


def test_nothing_is_fetched_that_a_file_names(file: Path, tmp_path: Path) -> None:
    """An adapter names a single file, and configurations on the Hub."""
    run = trained(file, tmp_path / "run", 1, config=str(configurations(tiny(), tmp_path / "plain")))
    described = json.loads((run / "adapter.json").read_text())
    (run / "adapter.json").write_text(json.dumps({**described, "config": "attacker/model"}))
    with pytest.raises(CheckpointError, match=r"attacker/model: cannot be had .*an adapter names it"):
        load_pipeline(str(run), None, torch.float32)


def test_configurations_cannot_ask_for_more_than_the_file_has(file: Path, tmp_path: Path) -> None:
    folder = configurations(tiny(), tmp_path / "plain")
    config = json.loads((folder / "unet/config.json").read_text())
    (folder / "unet/config.json").write_text(json.dumps({**config, "block_out_channels": [2**19, 2**19]}))
    with pytest.raises(CheckpointError, match="asks for a network of more than"):
        load_pipeline(str(file), None, torch.float32, config=str(folder))
