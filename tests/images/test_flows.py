"""Flow-matching pipelines behind the trainers' protocols: every family, as small pipelines with random weights."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from test_images import moved, steps_of
from tiny_flows import BUILDERS, tiny_flow, write_flow
from tiny_images import CPU, PROMPTS, tiny_task
from torch import Tensor

from molrl.composition import compose
from molrl.finetune import freeze_copy
from molrl.models.images.adapters import add_lora
from molrl.models.images.decoder import ImageDecoder
from molrl.models.images.families import FAMILIES, family_of
from molrl.models.images.flow_chain import flow_chain
from molrl.models.images.memory import count_token_activations
from molrl.models.images.pipeline import load_pipeline
from molrl.models.images.prompt_embedding import embed_flow_prompts
from molrl.noise import Key
from molrl.run import train
from molrl.runs.errors import CheckpointError
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
    """The LoRA has a rank and a scale of its own, and the model of the run is read again, merged."""
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


@pytest.mark.parametrize("discretisation", ["euler", "ancestral"])
def test_log_probabilities_are_those_of_the_printed_formulas(discretisation: str, folders: dict[str, Path]) -> None:
    """In double precision, from the velocity that the pipeline's transformer gives, step by step."""
    name, eta = "stable_diffusion_3", 0.6
    task = flow_task(name, folders[name], guidance_scale=1.0, discretisation=discretisation, eta=eta)
    pipeline, _ = load_pipeline(str(folders[name]), None, torch.float32)
    pipeline.scheduler.set_timesteps(STEPS)
    rollouts = task.rollout(range(2), Key(3)).trajectory
    tokens, _, pooled, _ = pipeline.encode_prompt(list(PROMPTS), None, None)
    row = rollouts.context["prompt"]
    for k, time in enumerate(pipeline.scheduler.timesteps[:-1]):
        t, s = (float(pipeline.scheduler.sigmas[point]) for point in (k, k + 1))
        with torch.no_grad():
            v = pipeline.transformer(rollouts.states[k], tokens[row], pooled[row], time.expand(2)).sample.double()
        x, y = rollouts.states[k].double(), rollouts.states[k + 1].double()
        if discretisation == "euler":
            g = eta * math.sqrt(t / (1 - (t if t < 1 else float(pipeline.scheduler.sigmas[1]))))
            mean, std = x + (v + g**2 / (2 * t) * (x + (1 - t) * v)) * (s - t), g * math.sqrt(t - s)
        else:
            std = eta * s * math.sqrt(1 - ((1 - t) * s / (t * (1 - s))) ** 2)
            mean = (1 - s) * (x - t * v) + math.sqrt(s**2 - std**2) * (x + (1 - t) * v)
        expected = torch.distributions.Normal(mean, std).log_prob(y).flatten(1).sum(1)
        numbers = x[0].numel()
        torch.testing.assert_close(rollouts.log_prob[k].double() / numbers, expected / numbers, atol=2e-6, rtol=0)


def test_a_flow_is_trained_from_the_command_line(folders: dict[str, Path], tmp_path: Path) -> None:
    """GRPO with the preset's groups cut down: the run ends, and its model is a LoRA for the base."""
    folder, prompts = folders["stable_diffusion_3"], tmp_path / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS))
    small = ["rollouts=4", "minibatch=8", "iterations=1", "evaluate=2", "algo.group_size=2", "threads=1", "device=cpu"]
    policy = [
        f"policy.weights='{folder}'",
        "policy.size=[16,16]",
        "policy.rank=2",
        "policy.alpha=4",
        "policy.num_steps=4",
    ]
    settings = ["task=compressibility", "policy=stable_diffusion_3_5", "algo=flow_grpo", f"task.prompts='{prompts}'"]
    run = tmp_path / "run"
    own = ["policy.dtype=float32", "algo.window=3", f"run='{run}'"]
    assert train(compose("train", [*settings, *policy, *small, *own])) == 0
    (row,) = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert row["max_abs_log_ratio_first"] < 1e-2
    load_pipeline(str(run / "model"), None, torch.float32)


def test_a_negative_prompt_is_the_pipelines(folders: dict[str, Path]) -> None:
    name = "stable_diffusion_3"
    pipeline, _ = load_pipeline(str(folders[name]), None, torch.float32)
    task = flow_task(name, folders[name], eta=0.0, negative_prompt="blue")
    made = pipeline(
        PROMPTS[0],
        negative_prompt="blue",
        height=16,
        width=16,
        num_inference_steps=STEPS,
        guidance_scale=2.0,
        generator=torch.Generator().manual_seed(5),
        output_type="pt",
    )
    torch.testing.assert_close(own_image(task), torch.as_tensor(made.images[0]), atol=3e-5, rtol=0)
    plain = own_image(flow_task(name, folders[name], eta=0.0))
    assert (own_image(task) - plain).abs().max() > 1e-3


def test_long_prompts_are_refused_or_truncated(folders: dict[str, Path]) -> None:
    """The small CLIP reads 12 tokens with its two ends."""
    family, long = FAMILIES["StableDiffusion3Pipeline"], "red " * 11
    pipeline, _ = load_pipeline(str(folders["stable_diffusion_3"]), None, torch.float32)
    with pytest.raises(ValueError, match="13 tokens with its two ends, this text encoder reads 12"):
        embed_flow_prompts(family, pipeline, [long], CPU)
    with pytest.raises(ValueError, match="long_prompts: got 'chunk', allowed refuse and truncate"):
        embed_flow_prompts(family, pipeline, [long], CPU, long_prompts="chunk")
    rows = embed_flow_prompts(family, pipeline, [long, "red " * 10], CPU, long_prompts="truncate").conditions
    pooled = rows["pooled_projections"]
    torch.testing.assert_close(pooled[0], pooled[1])
    assert not torch.allclose(rows["encoder_hidden_states"][0], rows["encoder_hidden_states"][1])  # T5 reads all


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": [16, 17]}, "size: got 16 x 17 pixels, need multiples of 4"),
        ({"size": [16]}, r"size: got \[16\], need height and width"),
        ({"lora_targets": ["to_z"]}, r"lora_targets: got \['to_z'\], no layer is so called"),
        ({"alpha": 0.0}, "alpha: got 0.0, need a number above 0"),
        ({"num_steps": 1}, "num_steps: got 1, and the last step of a flow has no noise; need at least 2"),
        ({"discretisation": "ancestral", "eta": 1.5}, "eta: got 1.5, allowed 0 to 1 for ancestral steps"),
    ],
)
def test_a_setting_that_cannot_be_is_one_error(changes: dict[str, Any], words: str, folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=words):
        flow_task("stable_diffusion_3", folders["stable_diffusion_3"], **changes)


def test_an_adapter_is_on_the_layers_that_are_named(folders: dict[str, Path]) -> None:
    task = flow_task("flux_1", folders["flux_1"], lora_targets=["to_q", "proj_out"])
    names = {
        name.split("/lora_")[0].replace("/", ".").split(".")[-1]
        for name, _ in trainable_module(task.policy).named_parameters()
    }
    assert names == {"to_q", "proj_out"}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"_class_name": "DPMSolverMultistepScheduler"},
            "DPMSolverMultistepScheduler is not supported for flow matching",
        ),
        ({"invert_sigmas": True}, "invert_sigmas is on"),
        ({"stochastic_sampling": True}, "stochastic_sampling is on"),
        ({"warp": 2}, "warp is 2, an option"),
        ({"time_shift_type": "square"}, "does not make a FlowMatchEulerDiscreteScheduler"),
    ],
)
def test_a_scheduler_that_cannot_be_followed_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        flow_chain(config, FAMILIES["FluxPipeline"], (16, 8, 8), num_steps=4, eta=0.7, discretisation="euler")


@pytest.mark.parametrize("options", [{"use_karras_sigmas": True}, {"shift_terminal": 0.02}, {"shift": 6.0}], ids=str)
def test_the_times_are_the_schedulers(options: dict[str, Any]) -> None:
    """Also with options that move them, and the two numbers known for Stable Diffusion 3 with 10 steps."""
    scheduler = DIFFUSERS.FlowMatchEulerDiscreteScheduler(**options)
    scheduler.set_timesteps(10)
    family = FAMILIES["StableDiffusion3Pipeline"]
    chain = flow_chain(scheduler.config, family, (16, 64, 64), num_steps=10, eta=0.7, discretisation="euler")
    assert torch.equal(chain.times, scheduler.sigmas[:-1].double())
    known = flow_chain({"shift": 3.0}, family, (16, 64, 64), num_steps=10, eta=0.7, discretisation="euler")
    assert known.times[[1, 8, 9]].tolist() == pytest.approx([0.96, 0.28, 0.009], abs=5e-3)
    assert known.std[8].item() == pytest.approx(0.23, abs=5e-3)


@pytest.mark.parametrize("name", BUILDERS)
def test_the_estimate_of_the_memory_is_near_what_is_kept(name: str) -> None:
    """Numbers that the gradient of one call keeps beside the weights."""
    pipeline = tiny_flow(name)
    family, network = family_of(pipeline), pipeline.transformer
    assert family is not None
    add_lora(network, 2, targets=family.lora_targets)
    rows = family.embed(pipeline, ["a red circle"] * 2, CPU)
    shape, kept = family.latent_shape(pipeline, (32, 32)), dict[int, int]()
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            alive.append(tensor)
            kept[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    alive: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        family.velocity(network, torch.randn(2, *shape), torch.full((2,), 0.5), rows, 3.5)
    tokens = family.tokens(shape) + next(iter(rows.values())).shape[1]
    assert 0.75 < count_token_activations(network, tokens) / (sum(kept.values()) / 2) < 1.3


def test_a_pipeline_for_editing_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    """Its transformer takes more channels than a latent has."""
    pipeline = tiny_flow("stable_diffusion_3")
    pipeline.transformer = DIFFUSERS.SD3Transformer2DModel(**{**pipeline.transformer.config, "in_channels": 9})
    pipeline.save_pretrained(tmp_path / "edit")
    with pytest.raises(CheckpointError, match="takes 9 channels, latents have 4"):
        load_pipeline(str(tmp_path / "edit"), None, torch.float32)
