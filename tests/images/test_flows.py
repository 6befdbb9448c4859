"""Flow-matching pipelines behind the trainers' protocols: every family, as small pipelines with random weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_images import moved, steps_of
from tiny_flows import BUILDERS, write_flow
from tiny_images import PROMPTS, tiny_task
from torch import Tensor

from molrl.finetune import freeze_copy
from molrl.models.images.decoder import ImageDecoder
from molrl.models.images.pipeline import load_pipeline
from molrl.task import Task
from molrl.trainable_parameters import trainable_module

DIFFUSERS: Any = pytest.importorskip("diffusers", reason="images need the extra image")
STEPS = 4
GUIDANCE: dict[
    str, dict[str, Any]
] = {  # what guidance 2 of ours is called by each pipeline; those with a distilled one have no other
    "stable_diffusion_3": {"guidance_scale": 2.0},
    "flux_1": {"true_cfg_scale": 2.0, "negative_prompt": "", "guidance_scale": 3.5},
    "flux_2": {"guidance_scale": 3.5},
    "flux_2_klein": {"guidance_scale": 2.0},
    "qwen_image": {"true_cfg_scale": 2.0, "negative_prompt": ""},
    "z_image": {"guidance_scale": 1.0},
}
SCALE = {name: 1.0 if name == "flux_2" else 2.0 for name in GUIDANCE}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a folder with a small pipeline of each family."""
    root = tmp_path_factory.mktemp("flows")
    return {name: write_flow(name, root / name / "tiny") for name in BUILDERS}


def flow_task(name: str, folder: Path, **changes: Any) -> Task:
    given: dict[str, Any] = {"num_steps": STEPS, "eta": 0.7, "guidance_scale": SCALE[name], "size": [16, 16]}
    return tiny_task(folder, **{**given, **changes})


def pipelines_image(name: str, pipeline: Any, prompt: str = PROMPTS[0], size: tuple[int, int] = (16, 16)) -> Tensor:
    made = pipeline(
        prompt=prompt,
        height=size[0],
        width=size[1],
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(5),
        output_type="pt",
        **GUIDANCE[name],
    )
    return torch.as_tensor(made.images[0])


def own_image(task: Task, prompt: int = 0) -> Tensor:
    """Sample with the policy from the noise that the pipeline starts from."""
    generator, shape = torch.Generator().manual_seed(5), task.decoder.state_shape({})
    trajectory = task.policy.rollout(
        {"prompt": torch.tensor([prompt])}, lambda _: torch.randn(1, *shape, generator=generator)
    )
    assert isinstance(task.decoder, ImageDecoder)
    with torch.no_grad():
        return task.decoder.decode_latents(trajectory.final)[0]


@pytest.mark.parametrize("name", BUILDERS)
def test_without_noise_the_pipelines_own_image_is_drawn(name: str, folders: dict[str, Path]) -> None:
    """With guidance, for prompts of different lengths, and of an image that is no square."""
    pipeline, _ = load_pipeline(str(folders[name]), None, torch.float32)
    task = flow_task(name, folders[name], eta=0.0, size=[16, 24])
    for row in (0, 1):
        expected = pipelines_image(name, pipeline, PROMPTS[row], (16, 24))
        assert expected.std() > 0.05
        torch.testing.assert_close(own_image(task, row), expected, atol=3e-5, rtol=0)


@pytest.mark.parametrize("name", BUILDERS)
def test_rollout_and_training_agree_and_every_weight_learns(name: str, folders: dict[str, Path]) -> None:
    """Ratio one before any update, per number of the latent; in another batch than the rollout's, with a gradient.

    Nothing reads what the last block makes of a prompt, so that its queries and its output have no gradient.
    """
    task = moved(flow_task(name, folders[name], checkpointing=True), 0.05)
    table = steps_of(task)
    log_prob = task.policy.log_prob(table)
    assert ((log_prob - table.log_prob).abs().max() / table.x[0].numel()).item() < 1e-6
    log_prob.sum().backward()
    learning = {
        key: p.grad is not None and bool(p.grad.any()) for key, p in trainable_module(task.policy).named_parameters()
    }
    assert all(moves or "add_q_proj" in key or "to_add_out" in key for key, moves in learning.items())
    assert sum(learning.values()) > len(learning) / 2
    reference = freeze_copy(task.policy)
    plain = flow_task(name, folders[name])
    torch.testing.assert_close(reference.log_prob(table), plain.policy.log_prob(table), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", BUILDERS)
def test_an_adapter_draws_the_same_image_in_plain_diffusers(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """Of a rank and a scale of its own; and the run's model is read again, merged."""
    task = moved(flow_task(name, folders[name], eta=0.0, rank=2, alpha=3.0), 0.3)
    task.decoder.save(trainable_module(task.policy), tmp_path / "model")  # type: ignore[attr-defined]
    plain = DIFFUSERS.DiffusionPipeline.from_pretrained(str(folders[name]), local_files_only=True)
    plain.set_progress_bar_config(disable=True)
    untrained = pipelines_image(name, plain)
    plain.load_lora_weights(str(tmp_path / "model"))
    tuned = pipelines_image(name, plain)
    assert (tuned - untrained).abs().max() > 1e-2
    torch.testing.assert_close(own_image(task), tuned, atol=5e-5, rtol=0)
    again = flow_task(name, tmp_path / "model", eta=0.0)
    torch.testing.assert_close(own_image(again), tuned, atol=5e-5, rtol=0)
