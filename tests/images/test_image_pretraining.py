"""`molrl pretrain model=images` leaves a pipeline that diffusers and the other commands take."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from command import complaint, molrl
from safetensors.torch import load_file
from tiny_images import PROMPTS, design, tiny, tiny_task

from molrl.config import ConfigError
from molrl.data.images.drawings import WORDS, all_captions, captions
from molrl.data.images.image import CaptionedImage
from molrl.data.images.sets import drawing_set
from molrl.gaussian import Euclidean
from molrl.models.images.guided_unet import GuidedUNet
from molrl.models.images.pipeline import load_pipeline
from molrl.models.images.pretraining import (
    ImageDesign,
    TextDenoiser,
    caption_ids,
    mean_psnr,
    reconstruction_loss,
    scale_pixels,
    stack_pixels,
)
from molrl.models.images.prompt_embedding import embed_prompts
from molrl.models.images.scheduler_chain import diffusers_chain
from molrl.models.images.small_pipeline import PipelineDesign, small_pipeline, word_tokenizer
from molrl.noise import Key

pytest.importorskip("diffusers", reason="images need the extra image")

QUICK = (
    *("model=images", "model.image_size=16", "model.vae=[8,16]", "model.unet=[8,16]", "model.text=16"),
    *("model.vae_steps=4", "data.n=20", "evaluate=3", "num_steps=3", "threads=1"),
    *("training.steps=4", "training.batch=4", "training.save_every=2", "training.warmup=1", "training.cooldown=1"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain") / "run"
    done = molrl("pretrain", f"run={folder}", *QUICK)
    assert done.code == 0, done.err
    assert "20 images" in done.out
    assert "autoencoder: step 4/4" in done.out
    return folder


def test_pretraining_makes_a_pipeline_that_can_be_fine_tuned(trained: Path) -> None:
    pipeline, _ = load_pipeline(str(trained / "model"), None, torch.float32)
    assert pipeline.vae.config.scaling_factor not in (0.18215, 1.0)
    rows = [json.loads(line) for line in (trained / "pretrain.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert all(0 <= row["right"] <= row["right_colour"] <= 1 for row in rows)
    task = tiny_task(trained / "model", prompts=None, num_steps=2)
    assert task.decoder.texts == tuple(captions(held_out=False))  # type: ignore[attr-defined]
    assert task.rollout([0, 1], Key(0)).samples[0].prompt in {str(caption) for caption in all_captions()}


def test_nothing_but_numbers_and_text_is_written(trained: Path) -> None:
    files = {path.suffix for path in (trained / "model").rglob("*") if path.is_file()}
    assert files == {".json", ".safetensors", ".txt"}


def test_latents_have_scale_one(trained: Path) -> None:
    pipeline, _ = load_pipeline(str(trained / "model"), None, torch.float32)
    images = drawing_set(n=20, seed=0, edge=16).train
    with torch.no_grad():
        latents = (
            pipeline.vae.encode(scale_pixels(stack_pixels(images))).latent_dist.mean
            * pipeline.vae.config.scaling_factor
        )
    assert latents.std().item() == pytest.approx(1, abs=1e-3)


def test_pretraining_goes_on_to_what_it_would_have_been(trained: Path, tmp_path: Path) -> None:
    rest = [item for item in QUICK if not item.startswith(("training.steps", "training.cooldown"))]
    for steps in (2, 4):
        settings = [f"training.steps={steps}", "training.cooldown=1" if steps == 4 else "training.cooldown=0"]
        assert molrl("pretrain", f"run={tmp_path / 'run'}", *rest, *settings).code == 0
    for part in ("unet", "vae", "text_encoder"):
        one, other = (
            getattr(load_pipeline(str(run / "model"), None, torch.float32)[0], part).state_dict()
            for run in (trained, tmp_path / "run")
        )
        assert all(torch.equal(one[name], other[name]) for name in one), part


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["data=enumerated"], "data=enumerated is for molecules"),
        (["model.image_size=15"], "image_size 15 multiple of 2"),
        (["model.vae_steps=0"], "vae_steps 0"),
        (["model.dropped=1.0"], "dropped 1.0"),
        (["data.n=0"], "n: got 0"),
        (["grid_power=1.4"], "grid_power 1.4 null"),
        (["model.prediction=flow"], "prediction flow"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_is_said_and_leaves_no_folder(changes: list[str], words: str, tmp_path: Path) -> None:
    quick = [item for item in QUICK if changes != ["data=enumerated"] or not item.startswith("data.")]
    message = complaint(["pretrain", f"run={tmp_path / 'run'}", *quick, *changes], 2)
    assert not [word for word in words.split() if word not in message], message
    assert not (tmp_path / "run").exists()


def test_every_word_of_a_caption_is_one_token() -> None:
    tokenizer = word_tokenizer(WORDS, 12)
    ends = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    single = {word: tokenizer(word).input_ids for word in WORDS}
    assert all(ids[::2] == ends and len(ids) == 3 for ids in single.values())
    assert len({ids[1] for ids in single.values()}) == len(WORDS)
    for caption in map(str, all_captions()):
        assert tokenizer(caption).input_ids[1:-1] == [single[word][1] for word in caption.split()]
    assert len(tokenizer("cat").input_ids) == 5  # spelt


def test_some_captions_are_dropped_and_all_are_padded() -> None:
    tokenizer = word_tokenizer(WORDS, 12)
    images = drawing_set(n=400, seed=0, edge=8).train
    ids = caption_ids(tokenizer, images, 0.1, 0)
    assert ids.shape == (400, 12)
    empty = (ids == torch.tensor(tokenizer("", padding="max_length", max_length=12).input_ids)).all(1)
    assert 0.05 < empty.float().mean().item() < 0.15
    assert not (caption_ids(tokenizer, images, 0.0, 0)[:, 1] == tokenizer.eos_token_id).any()


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_what_is_learned_is_what_is_read_as_noise(prediction: str) -> None:
    """A network that says the target is a denoiser that says the noise."""
    pipeline = tiny(prediction)
    chain = diffusers_chain(pipeline.scheduler.config, 5, 1.0)
    model = TextDenoiser(pipeline.unet, pipeline.text_encoder, chain.schedule, prediction)
    x0, eps = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    t = torch.tensor([0.2, 0.5, 0.9])
    level = chain.schedule.level(t)
    signal = chain.schedule.alpha_squared[level].view(-1, 1, 1, 1).float()
    x = signal.sqrt() * x0 + (1 - signal).sqrt() * eps
    denoiser = GuidedUNet(
        pipeline.unet,
        embed_prompts(pipeline, PROMPTS, torch.device("cpu")),
        chain.schedule,
        prediction=prediction,
        guidance_scale=1.0,
        batch=4,
        dtype=torch.float32,
    )
    torch.testing.assert_close(denoiser.to_prediction(model.target(x0, eps, t), x, level), eps, atol=1e-4, rtol=0)


def test_training_and_sampling_ask_the_network_the_same() -> None:
    pipeline = tiny()
    chain = diffusers_chain(pipeline.scheduler.config, 5, 1.0)
    model = TextDenoiser(pipeline.unet, pipeline.text_encoder, chain.schedule, "epsilon")
    caption = "a red circle on a blue background"
    ids = pipeline.tokenizer(caption, padding="max_length", max_length=12, return_tensors="pt").input_ids
    denoiser = GuidedUNet(
        pipeline.unet,
        embed_prompts(pipeline, [caption], torch.device("cpu")),
        chain.schedule,
        prediction="epsilon",
        guidance_scale=1.0,
        batch=4,
        dtype=torch.float32,
    )
    x, t = torch.randn(1, 4, 8, 8), torch.tensor([0.7])
    with torch.no_grad():
        torch.testing.assert_close(model.raw(x, t, {"ids": ids}), denoiser(x, t, {"prompt": torch.tensor([0])}))


def test_an_autoencoder_is_charged_for_each_image_by_itself() -> None:
    vae = small_pipeline(design()).vae
    x0 = stack_pixels(drawing_set(n=3, seed=0, edge=16).train)
    noise = torch.randn(3, 3, 16, 16)
    together = reconstruction_loss(vae, Euclidean(), x0, torch.zeros(3), noise, {})
    alone = torch.cat(
        [reconstruction_loss(vae, Euclidean(), x0[k : k + 1], torch.zeros(1), noise[k : k + 1], {}) for k in range(3)]
    )
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(reconstruction_loss(vae, Euclidean(), x0, torch.zeros(3), noise * 0, {}), together)


def test_the_psnr_is_that_of_its_definition() -> None:
    """An autoencoder that returns grey: the mean squared error of black and of white pixels is 127.5^2, rounded."""

    class Grey:
        def encode(self, x: torch.Tensor) -> Any:
            return SimpleNamespace(latent_dist=SimpleNamespace(mean=x))

        def decode(self, z: torch.Tensor) -> Any:
            return SimpleNamespace(sample=torch.zeros_like(z))

    images = [CaptionedImage(np.full((4, 4, 3), value, np.uint8)) for value in (0, 255)]
    expected = (20 * math.log10(255 / 128) + 20 * math.log10(255 / 127)) / 2
    assert mean_psnr(Grey(), images, torch.device("cpu")) == pytest.approx(expected, abs=1e-4)


def test_every_script_is_spelt_byte_by_byte() -> None:
    tokenizer = word_tokenizer(["cat"], 30)
    ids = tokenizer("piñata ’ 猫").input_ids[1:-1]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == "piñata ’ 猫"
    assert len(ids) == len("piñata’猫".encode())


def test_a_caption_that_is_too_long_is_refused_before_anything_is_trained() -> None:
    images = [CaptionedImage(np.zeros((4, 4, 3), np.uint8), "a long caption of many letters")]
    with pytest.raises(ConfigError, match=r"model.tokens: got 12, need \d+ for the caption 'a long"):
        caption_ids(word_tokenizer(WORDS, 12), images, 0.0, 0)


def test_weights_are_written_in_the_dtype_of_the_design_and_trained_in_float32(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "image_size": 16,
        "tokens": 12,
        "vae": [8, 16],
        "latent": 4,
        "unet": [8, 16],
        "text": 16,
    }
    settings |= {"prediction": "epsilon", "vae_steps": 1, "vae_lr": 1e-3, "dropped": 0.1, "guidance_scale": 1.0}
    trainee = ImageDesign(**settings, dtype="bfloat16").fit(drawing_set(n=2, seed=0, edge=16))
    before = {name: value.clone() for name, value in trainee.denoiser.state_dict().items()}
    trainee.save(tmp_path / "model", before)
    stored = load_file(tmp_path / "model/unet/diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    assert all(torch.equal(value, before[name]) for name, value in trainee.denoiser.state_dict().items())


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="unet: got"):
        PipelineDesign(**{**vars(design()), "unet": [12]})
    with pytest.raises(ValueError, match="text, tokens, latent"):
        PipelineDesign(**{**vars(design()), "tokens": 2})
