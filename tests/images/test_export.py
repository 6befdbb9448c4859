"""`molrl export`: a run's model as a plain pipeline of diffusers, which draws what the policy draws."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from command import complaint, molrl
from safetensors.torch import load_file
from test_flows import flow_task, own_image, pipelines_image
from test_lora import output_of, trained
from tiny_flows import write_flow
from tiny_images import PROMPTS, tiny_task, tiny_xl
from torch import Tensor

from molrl.machine.files import staged_folder
from molrl.models.images.lora import LORA
from molrl.models.images.pipeline import load_pipeline
from molrl.trainable_parameters import trainable_module

DIFFUSERS: Any = pytest.importorskip("diffusers", reason="images need the extra image")
CHANGE = 1e-3  # by which an adapter must move an image for a comparison to mean something


def plain(folder: Path) -> Any:
    """Return what diffusers itself makes of a folder."""
    pipeline = DIFFUSERS.DiffusionPipeline.from_pretrained(str(folder), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def move(task: Any) -> None:
    """Move an adapter at random."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trainable_module(task.policy).parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


def ddim_image(pipeline: Any) -> Tensor:
    """Return the image of a pipeline's own DDIM chain from the noise of `own_image`."""
    made = pipeline(
        PROMPTS[0],
        num_inference_steps=6,
        eta=0.0,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(5),
        output_type="pt",
    )
    return torch.as_tensor(made.images[0])


def test_a_run_becomes_a_pipeline_that_draws_the_policys_image(tiny_pipeline: Path, tmp_path: Path) -> None:
    """In safetensors alone, without a LoRA and without the name of its base; the run is left as it was."""
    task = tiny_task(tiny_pipeline, eta=0.0)
    before = own_image(task)
    move(task)
    task.decoder.save(trainable_module(task.policy), tmp_path / "run/model")  # type: ignore[attr-defined]
    kept = contents(tmp_path / "run")
    out = tmp_path / "new/merged"
    done = molrl("export", str(tmp_path / "run"), f"out={out}")
    assert done.code == 0, done
    assert f"DiffusionPipeline.from_pretrained('{out}')" in done.out
    torch.testing.assert_close(ddim_image(plain(out)), own_image(task), atol=5e-5, rtol=0)
    assert (own_image(task) - before).abs().max() > CHANGE
    written = contents(out)
    assert {Path(name).suffix for name in written} <= {".safetensors", ".json", ".txt"}
    assert not {"adapter.json", LORA} & written.keys()
    weights = load_file(out / "unet/diffusion_pytorch_model.safetensors")
    assert not [name for name in weights if "lora" in name]
    assert [path.name for path in out.parent.iterdir()] == ["merged"]
    assert stat.S_IMODE(out.stat().st_mode) == stat.S_IMODE(out.parent.stat().st_mode)
    assert contents(tmp_path / "run") == kept
    again, source = load_pipeline(str(out), None, torch.float32)
    assert (source.base, source.adapter) == (str(out.resolve()), {})
    assert torch.equal(ddim_image(again), ddim_image(plain(out)))


def test_a_flow_is_exported_as_well(tmp_path: Path) -> None:
    base = write_flow("stable_diffusion_3", tmp_path / "base/tiny")
    task = flow_task("stable_diffusion_3", base, eta=0.0)
    before = own_image(task)
    move(task)
    task.decoder.save(trainable_module(task.policy), tmp_path / "model")  # type: ignore[attr-defined]
    assert molrl("export", str(tmp_path / "model"), f"out={tmp_path / 'merged'}").code == 0
    made = pipelines_image("stable_diffusion_3", plain(tmp_path / "merged"))
    torch.testing.assert_close(made, own_image(task), atol=5e-5, rtol=0)
    assert (made - before).abs().max() > CHANGE


def test_another_loras_file_is_merged_on_the_way(tmp_path: Path) -> None:
    """A base by its folder, a LoRA by its file, in half precision: the autoencoder stays float32."""
    tiny_xl().save_pretrained(tmp_path / "xl")
    lora = trained(tmp_path / "xl", tmp_path / "style", 1) / LORA
    out = tmp_path / "merged"
    settings = [f"policy.lora={lora}", "policy.dtype=float16", f"out={out}"]
    assert molrl("export", str(tmp_path / "xl"), *settings).code == 0
    dtypes = {
        part: {value.dtype for value in load_file(next((out / part).glob("*.safetensors"))).values()}
        for part in ("unet", "text_encoder_2", "vae")
    }
    assert dtypes == {"unet": {torch.float16}, "text_encoder_2": {torch.float16}, "vae": {torch.float32}}
    added = {"text_embeds": torch.ones(2, 8), "time_ids": torch.ones(2, 6)}
    found, base = (output_of(plain(folder).unet, added) for folder in (out, tmp_path / "xl"))
    expected, _ = load_pipeline(str(tmp_path / "xl"), None, torch.float32, lora=str(lora))
    torch.testing.assert_close(found, output_of(expected.unet, added), atol=5e-3, rtol=0)
    assert (found - base).abs().max() > 20e-3


def test_what_exists_is_left_as_it_is(tiny_pipeline: Path, tmp_path: Path) -> None:
    """A folder, a file, and a link, which may lead nowhere."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("folder", "file", "link"):
        assert f"out={tmp_path / name}: exists; name a new folder" in complaint(
            ["export", str(tiny_pipeline), f"out={tmp_path / name}"], 2
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "link"]
    assert (tmp_path / "file").read_text() == "mine"
    assert not list((tmp_path / "folder").iterdir())


def test_a_model_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/adapter.json").write_text(json.dumps({"format": 2, "domain": "images", "base": 1}))
    assert "does not say whose adapter it is" in complaint(["export", str(tmp_path / "model"), f"out={tmp_path}/x"], 5)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert "out: missing" in complaint(["export", "images"], 2)


def test_a_domain_without_another_programs_format_says_so(tmp_path: Path) -> None:
    said = complaint(["export", "qm9_heavy", f"out={tmp_path / 'x'}"], 2)
    assert "policy=qm9_heavy: a model of molecules, which have no format but ours" in said


def test_a_folder_is_there_completely_or_not_at_all(tmp_path: Path) -> None:
    def write(*, fail: bool) -> None:
        with staged_folder(tmp_path / "new") as staging:
            (staging / "one").write_text("1")
            if fail:
                assert not (tmp_path / "new").exists()
                raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        write(fail=True)
    assert not list(tmp_path.iterdir())
    write(fail=False)
    assert contents(tmp_path / "new") == {"one": b"1"}
    with pytest.raises(FileExistsError):
        write(fail=False)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
