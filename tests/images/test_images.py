"""Stable Diffusion pipelines behind the trainers' protocols."""

import json
import zipfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from command import complaint, molrl
from tiny_images import CPU, PROMPTS, brightness, tiny, tiny_task, tiny_xl, write_pipeline
from torch import Tensor, nn

from molrl.advantages import Standardised
from molrl.algos.ddpo import DDPO
from molrl.composition import compose
from molrl.data.images.image import CaptionedImage
from molrl.finetune import FinetuneConfig, finetune, freeze_copy
from molrl.models.images.adapters import add_lora
from molrl.models.images.decoder import ImageDecoder
from molrl.models.images.guided_network import Prompts
from molrl.models.images.guided_unet import GuidedUNet
from molrl.models.images.lora import LORA
from molrl.models.images.pipeline import load_pipeline
from molrl.models.images.prompt_embedding import embed_prompts
from molrl.models.images.source import is_image_model
from molrl.noise import Key
from molrl.policy import Policy
from molrl.run import train
from molrl.runs.checkpoints import CheckpointPolicy
from molrl.runs.errors import CheckpointError
from molrl.task import Task
from molrl.trainable_parameters import trainable_module
from molrl.trajectory import Transitions

DIFFUSERS: Any = pytest.importorskip("diffusers", reason="images need the extra image")
KEY = Key(3)


def decoder_of(task: Task) -> ImageDecoder:
    assert isinstance(task.decoder, ImageDecoder)
    return task.decoder


def steps_of(task: Task, count: int = 6) -> Transitions:
    trajectory = task.rollout(range(count), KEY).trajectory
    return trajectory.transitions(torch.zeros(count))


def moved(task: Task, size: float = 0.3) -> Task:
    """Move the adapter, or the weights, so that they have an effect."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainable_module(task.policy).parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return task


def pipelines_image(pipeline: Any, generator: torch.Generator, steps: int, guidance: float) -> Tensor:
    """Return the image of the diffusers pipeline, [3, height, width] in [0, 1]."""
    made = pipeline(
        PROMPTS[0],
        num_inference_steps=steps,
        eta=1.0,
        guidance_scale=guidance,
        generator=generator,
        output_type="pt",
    )
    return torch.as_tensor(made.images[0])


def own_image(task: Task) -> Tensor:
    """Sample with the policy from the same noise in the same order: that of the prior, then that of each step."""
    generator, shape = torch.Generator().manual_seed(5), task.decoder.state_shape({})
    trajectory = task.policy.rollout(
        {"prompt": torch.tensor([0])}, lambda _: torch.randn(1, *shape, generator=generator)
    )
    with torch.no_grad():
        return decoder_of(task).decode_latents(trajectory.final)[0]


@pytest.mark.parametrize("guidance", [5.0, 1.0])
@pytest.mark.parametrize("to_one", [False, True])
def test_a_rollout_draws_the_pipelines_own_image(guidance: float, to_one: bool, tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "p", scheduler={"set_alpha_to_one": to_one})
    task = tiny_task(folder, guidance_scale=guidance)
    pipeline, _ = load_pipeline(str(folder), None, torch.float32)
    expected = pipelines_image(pipeline, torch.Generator().manual_seed(5), 6, guidance)
    torch.testing.assert_close(own_image(task), expected, atol=2e-5, rtol=0)


@pytest.fixture(scope="module")
def tiny_xl_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small SDXL pipeline."""
    folder = tmp_path_factory.mktemp("xl") / "tiny"
    tiny_xl().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_sdxl_draws_its_own_image_and_learns_an_adapter(
    guidance: float, tiny_xl_pipeline: Path, tmp_path: Path
) -> None:
    """With both text encoders, what the second makes of the whole prompt, and the size; then in plain diffusers."""
    task = tiny_task(tiny_xl_pipeline, guidance_scale=guidance)
    pipeline, _ = load_pipeline(str(tiny_xl_pipeline), None, torch.float32)
    expected = pipelines_image(pipeline, torch.Generator().manual_seed(5), 6, guidance)
    torch.testing.assert_close(own_image(task), expected, atol=2e-5, rtol=0)
    moved(task, 0.1)
    table = steps_of(task)
    log_prob = task.policy.log_prob(table)
    assert (log_prob - table.log_prob).abs().max().item() < 1e-3
    log_prob.sum().backward()
    assert all(parameter.grad is not None for parameter in trainable_module(task.policy).parameters())
    decoder_of(task).save(trainable_module(task.policy), tmp_path / "saved")
    pipeline.load_lora_weights(str(tmp_path / "saved"))
    tuned = pipelines_image(pipeline, torch.Generator().manual_seed(5), 6, guidance)
    assert (tuned - expected).abs().max() > 1e-3
    torch.testing.assert_close(own_image(task), tuned, atol=5e-5, rtol=0)
    again = tiny_task(tiny_xl_pipeline, weights=str(tmp_path / "saved"), guidance_scale=guidance)
    torch.testing.assert_close(own_image(again), tuned, atol=5e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({}, 1e-6),
        ({"guidance_scale": 1.0}, 1e-6),
        ({"tuning": "full"}, 1e-6),
        ({"checkpointing": True}, 1e-6),
        ({"dtype": "bfloat16"}, 1e-6),
        ({"dtype": "float16"}, 1e-6),
    ],
    ids=str,
)
def test_rollout_and_training_agree_before_any_update(
    changes: dict[str, Any], tolerance: float, tiny_pipeline: Path
) -> None:
    """Per number of the latent, in other company than the rollout's, with a gradient."""
    task = moved(tiny_task(tiny_pipeline, **changes), 0.02)
    table = steps_of(task)
    rows = torch.randperm(len(table), generator=torch.Generator().manual_seed(0))[:10]
    log_prob = task.policy.log_prob(table[rows])
    assert log_prob.requires_grad
    assert table.x.dtype == log_prob.dtype == torch.float32
    numbers = table.x[0].numel()
    assert ((log_prob - table[rows].log_prob).abs().max() / numbers).item() < tolerance


def test_guidance_of_one_calls_the_network_with_the_prompt_alone(tiny_pipeline: Path) -> None:
    sizes: list[int] = []
    x, t = torch.randn(3, 4, 8, 8), torch.full((3,), 0.5)
    context = {"prompt": torch.tensor([0, 1, 2])}
    outputs = {}
    for scale in (1.0, 0.999999, 3.0):
        task = tiny_task(tiny_pipeline, guidance_scale=scale)
        denoiser = task.policy.denoiser
        assert isinstance(denoiser, GuidedUNet)
        denoiser.unet.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
        with torch.no_grad():
            outputs[scale] = denoiser(x, t, context)
    assert sizes == [3, 6, 6]
    torch.testing.assert_close(outputs[1.0], outputs[0.999999], atol=1e-5, rtol=0)
    assert (outputs[3.0] - outputs[1.0]).abs().max() > 1e-4


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_what_is_predicted_is_turned_into_noise(prediction: str, tmp_path: Path) -> None:
    """As the pipeline's own scheduler reads it: the mean of a step."""
    folder = write_pipeline(tmp_path / "p", prediction)
    task = tiny_task(folder, guidance_scale=1.0)
    pipeline, _ = load_pipeline(str(folder), None, torch.float32)
    scheduler = DIFFUSERS.DDIMScheduler.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(6)
    x, context = torch.randn(1, 4, 8, 8), {"prompt": torch.tensor([1])}
    told = embed_prompts(pipeline, PROMPTS, CPU).conditions["encoder_hidden_states"][1:2]
    for step, level in enumerate(scheduler.timesteps):
        with torch.no_grad():
            output = pipeline.unet(x, level, encoder_hidden_states=told).sample
            mean = task.policy.sampler.transition(task.policy.denoiser, x, torch.tensor([step]), context).mean
        expected = scheduler.step(output, int(level), x, eta=1.0, variance_noise=torch.zeros_like(x)).prev_sample
        torch.testing.assert_close(mean, expected, atol=2e-5, rtol=1e-5)


def test_a_fresh_adapter_changes_nothing_and_the_reference_stays(tiny_pipeline: Path) -> None:
    plain = tiny_task(tiny_pipeline, tuning="full")
    adapted = tiny_task(tiny_pipeline)
    reference = freeze_copy(adapted.policy)
    rows = torch.arange(5)
    table = steps_of(plain)[rows]
    assert torch.equal(plain.policy.log_prob(table), adapted.policy.log_prob(table))
    moved(adapted)
    assert torch.equal(reference.log_prob(table), plain.policy.log_prob(table))
    assert not torch.equal(adapted.policy.log_prob(table), plain.policy.log_prob(table))
    again = adapted.policy.log_prob(table)
    reference.log_prob(table)
    assert torch.equal(adapted.policy.log_prob(table), again)


def test_full_fine_tuning_is_compared_with_a_copy(tiny_pipeline: Path) -> None:
    task = tiny_task(tiny_pipeline, tuning="full")
    reference = freeze_copy(task.policy)
    table = steps_of(task)[torch.arange(5)]
    before = task.policy.log_prob(table)
    moved(task, 0.01)
    assert torch.equal(reference.log_prob(table), before)
    assert not torch.equal(task.policy.log_prob(table), before)


@pytest.mark.parametrize(("dtype", "checkpointing"), [("float32", False), ("float32", True), ("bfloat16", False)])
def test_the_gradient_reaches_the_whole_adapter(dtype: str, checkpointing: bool, tiny_pipeline: Path) -> None:
    """B starts at zero, so that A has no gradient at the first step, and both have one at the second; in float32."""
    task = tiny_task(tiny_pipeline, dtype=dtype, checkpointing=checkpointing)
    module = trainable_module(task.policy)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    table = steps_of(task)[torch.arange(0, 30, 3)]
    reference = freeze_copy(task.policy)
    for reached in ({"A": 0.0, "B": 1.0}, {"A": 1.0, "B": 1.0}):
        optimizer.zero_grad()
        kernel = task.policy.transition(table)
        reference.transition(table)  # switches the adapter off and on in between
        (kernel.log_prob(table.y) / 100).sum().backward()
        for part, share in reached.items():
            norms = [p.grad.abs().sum() for name, p in module.named_parameters() if f"lora_{part}" in name]  # type: ignore[union-attr]
            assert len(norms) == 32
            assert sum(norm > 0 for norm in norms) / len(norms) == share, part
        optimizer.step()
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_parts_of_a_batch_give_the_gradient_of_the_whole(tiny_pipeline: Path) -> None:
    gradients = []
    for batch in (2, 16):
        task = moved(tiny_task(tiny_pipeline, batch=batch))
        table = steps_of(moved(tiny_task(tiny_pipeline, batch=16)))[torch.arange(7)]
        task.policy.log_prob(table).sum().backward()
        gradients.append([p.grad for p in trainable_module(task.policy).parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))


def test_nothing_is_left_to_chance_in_the_network() -> None:
    """Dropout is off in the rollout and in training alike, also in layers that an adapter brings."""
    pipeline = tiny()
    for module in pipeline.unet.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    add_lora(pipeline.unet, 2)
    assert not any(module.training for module in pipeline.unet.modules())
    prompts = embed_prompts(pipeline, PROMPTS, CPU)
    task = tiny_task_with(pipeline, prompts)
    x, t, context = torch.randn(2, 4, 8, 8), torch.full((2,), 0.5), {"prompt": torch.tensor([0, 1])}
    assert torch.equal(task(x, t, context), task(x, t, context))


def tiny_task_with(pipeline: Any, prompts: Prompts) -> GuidedUNet:
    from molrl.models.images.scheduler_chain import diffusers_chain

    schedule = diffusers_chain(pipeline.scheduler.config, 4, 1.0).schedule
    return GuidedUNet(
        pipeline.unet, prompts, schedule, prediction="epsilon", guidance_scale=2.0, batch=4, dtype=torch.float32
    )


def test_checkpoints_hold_the_adapter_and_nothing_else(tiny_pipeline: Path) -> None:
    state = trainable_module(tiny_task(tiny_pipeline).policy).state_dict()
    assert state
    assert all("lora_" in name for name in state)
    other = trainable_module(tiny_task(tiny_pipeline).policy)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in state.items())  # always the same start


def test_an_adapter_draws_the_same_image_in_plain_diffusers(tiny_pipeline: Path, tmp_path: Path) -> None:
    task = moved(tiny_task(tiny_pipeline))
    task.decoder.save(trainable_module(task.policy), tmp_path / "model")  # type: ignore[attr-defined]
    generator, shape = torch.Generator().manual_seed(5), task.decoder.state_shape({})
    trajectory = task.policy.rollout(
        {"prompt": torch.tensor([0])}, lambda _: torch.randn(1, *shape, generator=generator)
    )
    with torch.no_grad():
        ours = decoder_of(task).decode_latents(trajectory.final)[0]
    plain = DIFFUSERS.StableDiffusionPipeline.from_pretrained(str(tiny_pipeline), local_files_only=True)
    untrained = pipelines_image(plain, torch.Generator().manual_seed(5), 6, 5.0)
    plain.load_lora_weights(str(tmp_path / "model"))
    tuned = pipelines_image(plain, torch.Generator().manual_seed(5), 6, 5.0)
    torch.testing.assert_close(ours, tuned, atol=5e-5, rtol=0)
    assert (ours - untrained).abs().max() > 1e-2
    merged = tiny_task(tmp_path / "model")  # a run's model is loaded with the adapter in its weights
    table = steps_of(task)[torch.arange(4)]
    torch.testing.assert_close(merged.policy.log_prob(table), task.policy.log_prob(table), atol=1e-2, rtol=0)


def test_a_whole_network_is_saved_as_a_pipeline(tiny_pipeline: Path, tmp_path: Path) -> None:
    task = moved(tiny_task(tiny_pipeline, tuning="full"), 0.01)
    task.decoder.save(trainable_module(task.policy), tmp_path / "model")  # type: ignore[attr-defined]
    back = tiny_task(tmp_path / "model", tuning="full")
    for one, other in zip(
        trainable_module(task.policy).parameters(), trainable_module(back.policy).parameters(), strict=True
    ):
        assert torch.equal(one, other)


def test_a_sample_depends_on_its_index_alone(tiny_pipeline: Path) -> None:
    task = tiny_task(tiny_pipeline)
    many, few = task.rollout(range(6), KEY), task.rollout([3, 5], KEY)
    for row, sample in zip((3, 5), few.samples, strict=True):
        assert sample.prompt == many.samples[row].prompt
        difference = sample.pixels.astype(int) - many.samples[row].pixels.astype(int)
        assert abs(difference).max() <= 1
    assert many.samples[0].pixels.shape == (16, 16, 3)
    assert {sample.prompt for sample in many.samples} <= set(PROMPTS)


def test_a_latent_with_a_gradient_is_decoded_with_one(tiny_pipeline: Path) -> None:
    task = tiny_task(tiny_pipeline)
    x0 = torch.randn(2, 4, 8, 8, requires_grad=True)
    shown = task.decoder.decode(x0, {"prompt": torch.tensor([0, 1])})
    assert shown[0].shape == (3, 16, 16)
    torch.stack(list(shown)).mean().backward()
    assert x0.grad is not None
    assert x0.grad.abs().sum() > 0


def test_a_latent_that_is_not_finite_is_no_image(tiny_pipeline: Path) -> None:
    task = tiny_task(tiny_pipeline)
    x0 = torch.zeros(2, 4, 8, 8)
    x0[1] = torch.nan
    good, bad = task.decoder.decode(x0, {"prompt": torch.tensor([0, 1])})
    assert (good.flaw, bad.flaw) == ("", "not finite")
    assert task.decoder.measure([good, bad])["validity"] == 0.5


def settings_of(folder: Path, run: Path, *changes: str) -> dict[str, Any]:
    tiny_task(folder)  # writes the prompts
    own = [f"policy='{folder}'", f"task.prompts='{folder.parent / 'prompts.txt'}'", "policy.num_steps=4"]
    small = ["policy.rank=2", "policy.batch=8", "rollouts=8", "minibatch=16", "iterations=2", "evaluate=6", "threads=1"]
    settings = ["task=compressibility", "device=cpu", f"run='{run}'", *own, *small, *changes]
    return compose("train", settings)


@pytest.mark.parametrize(
    "changes",
    [
        ["algo=ddpo", "algo.advantage.kind=tracker", "algo.train_steps=2", "ratio_tolerance=0.01"],
        ["algo=dpok", "algo.train_steps=2", "ratio_tolerance=0.01", "policy.tuning=full"],
        ["algo=rwr", "ratio_tolerance=0.01"],
        ["algo=rgdm", "algo.states=2", "algo.lookahead=1", "ratio_tolerance=0.01"],
    ],
    ids=lambda changes: changes[0].removeprefix("algo="),
)
def test_the_trainers_take_images_as_they_take_molecules(
    changes: list[str], tiny_pipeline: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert train(settings_of(tiny_pipeline, run, *changes)) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    with zipfile.ZipFile(run / "samples" / "after.zip") as archive:
        assert archive.read("index.tsv").decode().splitlines()[0] == "file\tprompt\treward"
        assert len(archive.namelist()) == 7
    assert (run / "report.html").stat().st_size > 10_000
    load_pipeline(str(run / "model"), None, torch.float32)


class Window:
    """An autoencoder that shows the first three channels of a latent."""

    config = SimpleNamespace(scaling_factor=1.0)

    def decode(self, z: Tensor, *, return_dict: bool) -> tuple[Tensor]:
        return (z[:, :3] * 0.2,)


def test_images_become_what_is_rewarded(tiny_pipeline: Path) -> None:
    """Brighter on the same noise by a third of a standard deviation; the quiet last steps would only add variance."""
    task = tiny_task(tiny_pipeline, num_steps=4, batch=64, guidance_scale=2.0, tuning="full")
    decoder_of(task).pipeline.vae = Window()
    algorithm = DDPO(
        advantage=Standardised(),
        advantage_clip=5.0,
        train_steps=2,
        first=0.0,
        last=0.5,
        clip=0.01,
        kl_weight=0.0,
        likelihood="per_dim",
    )
    loop = FinetuneConfig(
        iterations=5,
        rollouts=64,
        minibatch=64,
        epochs=1,
        optimizer=partial(torch.optim.AdamW, lr=1e-3),
        clip_norm=1.0,
        ratio_tolerance=1e-2,
        lost_limit=0.5,
        seed=0,
        save_every=9,
        fresh_optimizer=False,
        keep=CheckpointPolicy(newest=1, best="reward", highest=True),
    )
    before = task.rollout(range(64), Key(9)).rewards
    finetune(loop, task, algorithm, freeze_copy(task.policy), None, lambda _: None)
    after = task.rollout(range(64), Key(9)).rewards
    assert ((after - before).mean() / before.std()).item() > 1 / 3


def test_a_run_goes_on_to_what_it_would_have_been(tiny_pipeline: Path, tmp_path: Path) -> None:
    changes = ["algo=ddpo", "algo.train_steps=2", "ratio_tolerance=0.01"]
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    train(settings_of(tiny_pipeline, whole, *changes), brightness)
    stopped = tiny_task(tiny_pipeline, num_steps=4, batch=8)
    assert stopped.policy.sampler.num_steps == 4
    first = settings_of(tiny_pipeline, parted, *changes)

    def interrupted(samples: Any) -> Tensor:
        interrupted.calls += 1  # type: ignore[attr-defined]
        if interrupted.calls == 3:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return brightness(samples)

    interrupted.calls = 0  # type: ignore[attr-defined]
    interrupted.__name__ = "brightness"
    assert train(first, interrupted) == 130
    assert train(first, brightness) == 0
    one, other = ((run / "model" / LORA).read_bytes() for run in (whole, parted))
    assert one == other


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("nothing_like_that", "no such pipeline; shipped are"),
        ("./no/such/folder", "no such pipeline; shipped are"),
    ],
)
def test_weights_that_are_not_there_are_named(weights: str, words: str, tiny_pipeline: Path) -> None:
    with pytest.raises(CheckpointError, match=words):
        load_pipeline(weights, None, torch.float32)


def test_a_wrong_hub_id_is_one_error(tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="nobody/nothing: cannot be had from the Hugging Face Hub"):
        load_pipeline("nobody/nothing", None, torch.float32)


@pytest.mark.parametrize("broken", ["unet/diffusion_pytorch_model.safetensors", "vae/config.json", "model_index.json"])
def test_a_broken_folder_is_one_error(broken: str, tmp_path: Path, tiny_pipeline: Path) -> None:
    folder = write_pipeline(tmp_path / "p")
    (folder / broken).write_bytes(b"{")
    with pytest.raises(CheckpointError, match=rf"{broken}: not a (safetensors|JSON) file"):
        load_pipeline(str(folder), None, torch.float32)
    (folder / broken).unlink()
    with pytest.raises(CheckpointError, match=r"not a complete pipeline in diffusers' format|no such pipeline"):
        load_pipeline(str(folder), None, torch.float32)


def test_a_pipeline_of_another_class_is_named(tmp_path: Path, tiny_pipeline: Path) -> None:
    folder = write_pipeline(tmp_path / "p")
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusionPipeline", "KolorsPipeline"))
    with pytest.raises(CheckpointError, match="a KolorsPipeline, supported are StableDiffusionPipeline"):
        load_pipeline(str(folder), None, torch.float32)


def test_weights_that_would_be_unpickled_are_refused(tmp_path: Path, tiny_pipeline: Path) -> None:
    folder = write_pipeline(tmp_path / "p")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(CheckpointError, match="not a complete pipeline"):
        load_pipeline(str(folder), None, torch.float32)


def test_an_adapter_without_a_base_is_named(tmp_path: Path, tiny_pipeline: Path) -> None:
    (tmp_path / "adapter.json").write_text('{"format": 2, "domain": "images", "base": "gone"}')
    with pytest.raises(CheckpointError, match="does not say whose adapter it is"):
        load_pipeline(str(tmp_path), None, torch.float32)
    (tmp_path / "adapter.json").write_text('{"format": 2, "domain": "images", "base": "gone", "revision": null}')
    with pytest.raises(CheckpointError, match="gone: no such pipeline"):
        load_pipeline(str(tmp_path), None, torch.float32)


def test_a_prompt_that_is_too_long_is_named(tiny_pipeline: Path) -> None:
    pipeline, _ = load_pipeline(str(tiny_pipeline), None, torch.float32)
    embed_prompts(pipeline, ["a red circle on a blue background"], CPU)
    with pytest.raises(ValueError, match=r"prompt 'an armadillo here': 16 tokens .* reads 12"):
        embed_prompts(pipeline, ["a red circle", "an armadillo here"], CPU)


def test_a_missing_extra_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "peft" else object())
    with pytest.raises(ImportError, match=r"images need peft: pip install 'molrl\[image\]'"):
        load_pipeline("anything", None, torch.float32)


def test_images_are_written_in_an_archive(tiny_pipeline: Path, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3), dtype=np.uint8)
    samples = [CaptionedImage(one, "a\tcat") for one in pixels]
    decoder = decoder_of(tiny_task(tiny_pipeline))
    decoder.write(samples, tmp_path / "a.zip", {"reward": [1.0, float("nan")]})
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        np.testing.assert_array_equal(np.asarray(Image.open(archive.open("1.png"))), pixels[1])
        assert archive.read("index.tsv").decode() == "file\tprompt\treward\n0.png\ta cat\t1\n1.png\ta cat\tnan\n"
    decoder.write(samples, tmp_path / "a.png", {})
    assert Image.open(tmp_path / "a.png").width > 100


def test_the_command_draws_from_the_pipeline_it_is_given(tiny_pipeline: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.zip"
    done = molrl(
        "sample", f"policy={tiny_pipeline}", "n=3", f"out={out}", "policy.num_steps=3", "condition.prompt=a red circle"
    )
    assert done.code == 0, done.err
    assert "3 images" in done.out
    with zipfile.ZipFile(out) as archive:
        assert archive.read("index.tsv").decode().count("a red circle") == 3


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("condition.qed=0.5", "condition.qed condition.prompt"),
        ("out=a.sdf", "a.sdf images .zip .png"),
        ("policy.points=9", "policy.points"),
        ("policy.guidance_scale=-1", "guidance_scale -1"),
    ],
)
def test_what_a_pipeline_cannot_do_is_said(setting: str, words: str, tiny_pipeline: Path) -> None:
    said = complaint(["sample", f"policy={tiny_pipeline}", "n=2", setting], 2)
    assert not [word for word in words.split() if word not in said], said


def test_molecules_have_no_guidance_scale() -> None:
    assert "no setting 'policy.guidance_scale'" in complaint(["sample", "n=2", "policy.guidance_scale=3.0"], 2)


def test_folders_of_other_models_are_not_taken_for_pipelines(
    tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_image_model(str(tiny_pipeline))
    assert is_image_model("owner/name")
    assert not is_image_model("qm9_heavy")
    monkeypatch.chdir(tiny_pipeline.parent)
    (tiny_pipeline.parent / "runs" / "model").mkdir(parents=True)
    assert not is_image_model("runs/model")


def test_a_policy_is_what_it_says(tiny_pipeline: Path) -> None:
    policy = tiny_task(tiny_pipeline).policy
    assert isinstance(policy, Policy)
    context = {"prompt": torch.tensor([0])}
    x = torch.randn(1, 4, 8, 8)
    assert policy.sampler.space.dof(x, context).item() == 4 * 8 * 8
