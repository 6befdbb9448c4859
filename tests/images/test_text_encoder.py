"""Adapters of text encoders: exact ratios, gradients, what is saved, and what is refused."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_flows import flow_task, own_image
from test_images import moved, settings_of, steps_of
from tiny_flows import tiny_flow, write_flow
from tiny_images import PROMPTS, brightness, tiny_task, tiny_xl
from torch import Tensor
from torch.testing import assert_close

from molrl.finetune import freeze_copy
from molrl.models.images.adapters import add_lora
from molrl.models.images.guided_network import GuidedNetwork
from molrl.models.images.lora import LORA
from molrl.models.images.memory import count_text_activations, describe_memory
from molrl.models.images.pipeline import load_pipeline
from molrl.run import train
from molrl.task import Task
from molrl.trainable_parameters import trainable_module

DIFFUSERS: Any = pytest.importorskip("diffusers", reason="images need the extra image")
KINDS = ("stable_diffusion", "xl", "stable_diffusion_3", "flux_1")
SLOW_KINDS = [KINDS[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])]
CHANGE = 1e-3  # by which an adapter must move an image for a comparison to mean something
LONG = "red circle on a blue background red circle red blue green star"  # two chunks
OWN_GUIDANCE = {"flux_1": {"true_cfg_scale": 2.0, "negative_prompt": "blue", "guidance_scale": 3.5}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_pipeline: Path) -> Callable[[str], Path]:
    """Return what gives the folder of a small pipeline of each kind."""

    @cache
    def folder_of(kind: str) -> Path:
        if kind == "stable_diffusion":
            return tiny_pipeline
        folder = tmp_path_factory.mktemp(kind) / "tiny"
        (tiny_xl() if kind == "xl" else tiny_flow(kind)).save_pretrained(folder)
        return folder

    return folder_of


def text_task(kind: str, folder: Path, **changes: Any) -> Task:
    given = {"text_rank": 2, "num_steps": 4, "guidance_scale": 2.0, "negative_prompt": "blue", **changes}
    return tiny_task(folder, **given) if kind in KINDS[:2] else flow_task(kind, folder, **given)


def network_of(task: Task) -> GuidedNetwork:
    assert isinstance(task.policy.denoiser, GuidedNetwork)
    return task.policy.denoiser


def text_parameters(task: Task) -> dict[str, Tensor]:
    return {name: p for name, p in trainable_module(task.policy).named_parameters() if "text_encoder" in name}


def image_of(kind: str, pipeline: Any) -> Tensor:
    """Return the pipeline's own image from the noise of `own_image`."""
    pipeline.set_progress_bar_config(disable=True)
    guidance = OWN_GUIDANCE.get(kind, {"guidance_scale": 2.0, "negative_prompt": "blue"})
    generator = torch.Generator().manual_seed(5)
    made = pipeline(
        PROMPTS[0], height=16, width=16, num_inference_steps=4, generator=generator, output_type="pt", **guidance
    )
    return torch.as_tensor(made.images[0])


@pytest.mark.parametrize(
    ("kind", "negative"),
    [
        ("stable_diffusion", "blue"),
        ("xl", ""),
        *(pytest.param(kind, "blue", marks=pytest.mark.slow) for kind in KINDS[1:]),
    ],
)
def test_before_training_prompts_are_read_as_the_pipeline_reads_them(
    kind: str, negative: str, folders: Callable[[str], Path]
) -> None:
    """The negative prompt too, which is zeros in SDXL where there is none."""
    denoiser = network_of(text_task(kind, folders(kind), negative_prompt=negative))
    with torch.no_grad():
        read, rows = denoiser.read_prompts(torch.tensor([2, 0, 2]))
    assert rows.tolist() == [1, 0, 1]
    for name in denoiser.names:
        assert_close(read[name], denoiser.get_buffer(f"prompt_{name}")[[0, 2, 3]], atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_rollout_and_training_agree_and_the_text_encoders_learn(kind: str, folders: Callable[[str], Path]) -> None:
    """Ratio one in another batch than the rollout's, of a moved adapter; the reference reads prompts without it.

    The last layer of an encoder that is read before it, or at its end only, may learn nothing.
    """
    task = moved(text_task(kind, folders(kind), checkpointing=True), 0.1)
    table = steps_of(task)
    log_prob = task.policy.log_prob(table)
    assert ((log_prob - table.log_prob).abs().max() / table.x[0].numel()).item() < 1e-6
    log_prob.sum().backward()
    learning = [bool(p.grad is not None and p.grad.any()) for p in text_parameters(task).values()]
    assert sum(learning) >= len(learning) / 2
    plain = text_task(kind, folders(kind), text_rank=None)
    found, expected = freeze_copy(task.policy).log_prob(table), plain.policy.log_prob(table)
    assert_close(found, expected, atol=1e-3, rtol=0)
    with torch.no_grad():
        for parameter in text_parameters(task).values():
            parameter.zero_()
    assert (task.policy.log_prob(table) - log_prob).abs().max() > CHANGE


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_an_adapter_draws_the_same_image_in_plain_diffusers(
    kind: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    """With ranks and scales of its own for the text encoders; the model of the run is read again, merged."""
    task = text_task(kind, folders(kind), eta=0.0, rank=2, alpha=3.0, text_rank=3, text_alpha=5.0)
    with torch.no_grad():
        bare = own_image(moved(task, 0.2))
        for parameter in text_parameters(task).values():
            parameter.mul_(2)
    assert (own_image(task) - bare).abs().max() > CHANGE
    task.decoder.save(trainable_module(task.policy), tmp_path / "model")  # type: ignore[attr-defined]
    names = load_file(tmp_path / "model" / LORA)
    assert any(name.startswith("text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A") for name in names)
    plain = DIFFUSERS.DiffusionPipeline.from_pretrained(str(folders(kind)), local_files_only=True)
    plain.load_lora_weights(str(tmp_path / "model"))
    assert_close(image_of(kind, plain), own_image(task), atol=5e-5, rtol=0)
    again = text_task(kind, tmp_path / "model", eta=0.0, text_rank=None)
    assert_close(own_image(again), own_image(task), atol=5e-5, rtol=0)


@pytest.mark.parametrize(
    ("batch", "checkpointing"),
    [(1, False), *(pytest.param(8, again, marks=pytest.mark.slow) for again in (False, True))],
)
def test_the_gradient_is_that_of_finite_differences(
    batch: int, checkpointing: bool, tiny_pipeline: Path, tmp_path: Path
) -> None:
    """In double precision, along one direction of all the text encoder's parameters, with prompts in chunks."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(f"{LONG}\n{PROMPTS[0]}")
    settings: dict[str, Any] = {"prompts": str(prompts), "long_prompts": "chunk", "checkpointing": checkpointing}
    task = moved(text_task("stable_diffusion", tiny_pipeline, batch=batch, **settings))
    denoiser, generator = network_of(task).double(), torch.Generator().manual_seed(2)
    denoiser.network.double()
    assert denoiser.text is not None
    denoiser.text.encoders["text_encoder"].double()
    x, signal = (torch.randn(3, 4, 8, 8, generator=generator).double() for _ in range(2))
    parameters = list(text_parameters(task).values())
    directions = [torch.randn(p.shape, generator=generator).double() for p in parameters]

    def loss() -> Tensor:
        context = {"prompt": torch.tensor([0, 1, 0])}
        output: Tensor = denoiser(x, torch.tensor([0.2, 0.5, 0.8]).double(), context)
        return (signal * output).sum()

    def shifted(step: float) -> Tensor:
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(direction, alpha=step)
            return loss()

    gradients = torch.autograd.grad(loss(), parameters)
    slope = torch.stack([(g * d).sum() for g, d in zip(gradients, directions, strict=True)]).sum()
    ahead, behind = shifted(1e-5), shifted(-2e-5)
    assert abs(slope) > CHANGE
    assert_close(slope, (ahead - behind) / 2e-5, rtol=1e-6, atol=0)


def test_a_rollout_reads_each_prompt_once(tiny_pipeline: Path) -> None:
    """And again after an optimiser has changed the adapter."""
    task, seen = text_task("stable_diffusion", tiny_pipeline), list[int]()
    denoiser = network_of(task)
    assert denoiser.text is not None
    encoder = denoiser.text.encoders["text_encoder"]
    encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    context = {"prompt": torch.tensor([0, 2, 0, 2, 2])}

    def sample() -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return task.policy.rollout(context, lambda _: torch.randn(5, 4, 8, 8, generator=generator)).final

    first = sample()
    assert seen == [3]  # two prompts and the negative one
    assert_close(sample(), first, rtol=0, atol=0)
    assert seen == [3]
    optimizer: Callable[..., Any] = torch.optim.AdamW
    for parameter in text_parameters(task).values():
        parameter.grad = torch.ones_like(parameter)
    optimizer(text_parameters(task).values(), lr=0.1).step()
    assert (sample() - first).abs().max() > CHANGE
    assert seen == [3, 3]


@pytest.mark.slow
def test_a_run_of_the_text_encoder_alone_goes_on_to_what_it_would_have_been(
    tiny_pipeline: Path, tmp_path: Path
) -> None:
    """Killed and continued, bit for bit; its adapter has moved, and that of the network has not."""
    learning = ["algo=ddpo", "algo.train_steps=2", "ratio_tolerance=0.1", "optimizer.lr=0.05", "policy.text_rank=2"]
    changes = [*learning, "trainable_parameters=['*text_encoder*']"]
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    assert train(settings_of(tiny_pipeline, whole, *changes), brightness) == 0
    calls = 0

    def interrupted(samples: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return brightness(samples)

    interrupted.__name__ = "brightness"
    assert train(settings_of(tiny_pipeline, parted, *changes), interrupted) == 130
    assert train(settings_of(tiny_pipeline, parted, *changes), brightness) == 0
    assert (whole / "model" / LORA).read_bytes() == (parted / "model" / LORA).read_bytes()
    found = load_file(whole / "model" / LORA)
    text = [bool(value.any()) for name, value in found.items() if name.startswith("text_encoder") and "lora_B" in name]
    assert text
    assert all(text)
    assert not any(value.any() for name, value in found.items() if name.startswith("unet") and "lora_B" in name)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text_rank": 0}, "text_rank: got 0, need at least 1"),
        ({"text_alpha": -1.0}, "text_alpha: got -1.0, need a number above 0"),
        (
            {"text_lora_targets": ["to_q"]},
            r"text_lora_targets: got \['to_q'\], no layer is so called; some are mlp.fc1",
        ),
        ({"tuning": "full"}, "text_rank: got 2, and tuning=full trains the network alone"),
    ],
)
def test_a_setting_that_cannot_be_is_one_error(changes: dict[str, Any], words: str, tiny_pipeline: Path) -> None:
    with pytest.raises(ValueError, match=words):
        text_task("stable_diffusion", tiny_pipeline, **changes)


def test_a_pipeline_without_clip_is_refused(tmp_path: Path) -> None:
    folder = write_flow("z_image", tmp_path / "z" / "tiny")
    words = (
        "text_rank: Z-Image.* has no text encoder of CLIP; Stable Diffusion 1.x to XL, Stable Diffusion 3 and 3.5, FLUX"
    )
    with pytest.raises(ValueError, match=words):
        flow_task("z_image", folder, text_rank=2, guidance_scale=1.0)


def test_the_memory_of_the_text_encoder_counts(tiny_pipeline: Path) -> None:
    """Numbers that the gradient of one prompt keeps beside the weights, and the line that is printed."""
    pipeline, _ = load_pipeline(str(tiny_pipeline), None, torch.float32)
    encoder, kept = pipeline.text_encoder, dict[int, int]()
    add_lora(encoder, 2, targets=["q_proj", "v_proj"])
    weights = {parameter.untyped_storage().data_ptr() for parameter in encoder.parameters()}
    alive: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            alive.append(tensor)
            kept[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        encoder(torch.zeros(2, 12, dtype=torch.long))
    assert 0.75 < count_text_activations(encoder) / (sum(kept.values()) / 2) < 1.3
    add_lora(pipeline.unet, 2)
    line = describe_memory(pipeline.unet, (4, 8, 8), batch=2, guided=True, size=4, text_encoders=[encoder])
    trained = sum(p.numel() for part in (encoder, pipeline.unet) for p in part.parameters() if p.requires_grad)
    assert line.startswith("UNet and CLIP: ")
    assert f" {trained:,} of them trained" in line
    assert "the autoencoder beside it" in line
