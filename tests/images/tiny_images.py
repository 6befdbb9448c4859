"""A Stable Diffusion pipeline small enough to be run in every test, and tasks with it."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from molrl.data.images.drawings import WORDS
from molrl.data.images.image import CaptionedImage
from molrl.models.images.diffusers_library import diffusers
from molrl.models.images.policy import ImagePolicy
from molrl.models.images.small_pipeline import PipelineDesign, small_pipeline
from molrl.models.images.task import image_task
from molrl.task import Task

PROMPTS = ("a red circle", "a blue square", "a green star")
CPU = torch.device("cpu")


def design(prediction: str = "epsilon") -> PipelineDesign:
    return PipelineDesign(
        words=WORDS, tokens=12, image_size=16, vae=[8, 16], latent=4, unet=[8, 16], text=16, prediction=prediction
    )


def tiny(prediction: str = "epsilon", scheduler: dict[str, Any] | None = None) -> Any:
    """Build the pipeline, with the same weights every time."""
    torch.manual_seed(0)
    return small_pipeline(design(prediction), scheduler)


def write_pipeline(folder: Path, prediction: str = "epsilon", scheduler: dict[str, Any] | None = None) -> Path:
    tiny(prediction, scheduler).save_pretrained(folder)
    return folder


def brightness(samples: Sequence[CaptionedImage]) -> Tensor:
    """Return the mean brightness of each image as its reward."""
    return torch.tensor([float(sample.unit.mean()) for sample in samples])


def tiny_task(folder: Path, **changes: Any) -> Task:
    prompts = folder.parent / "prompts.txt"
    if not prompts.exists():  # another process may be reading it
        prompts.write_text("\n".join(PROMPTS))
    settings: dict[str, Any] = {
        **{"name": "bright", "weights": str(folder), "revision": None, "prompts": str(prompts), "num_steps": 6},
        **{"eta": 1.0, "guidance_scale": 5.0, "tuning": "lora", "rank": 2, "dtype": "float32", "batch": 4},
        **{"checkpointing": False, "shard": False, "reward": brightness, "device": CPU},
    }
    settings |= changes
    own = {name: settings.pop(name) for name in ("name", "prompts", "reward", "device")}
    return image_task(policy=ImagePolicy(**settings), **own)


def tiny_xl(scheduler: dict[str, Any] | None = None) -> Any:
    """Build a StableDiffusionXLPipeline: two text encoders, the second with a pooled output for the whole prompt."""
    library, transformers = diffusers(), import_module("transformers")
    base = tiny("epsilon", scheduler)
    torch.manual_seed(1)
    width, breadth, times = base.unet.config.cross_attention_dim, 8, 8
    config = base.text_encoder.config
    second = transformers.CLIPTextModelWithProjection(type(config)(**{**config.to_dict(), "projection_dim": breadth}))
    unet = library.UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        layers_per_block=1,
        cross_attention_dim=2 * width,
        attention_head_dim=8,
        norm_num_groups=8,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=times,
        projection_class_embeddings_input_dim=breadth + 6 * times,
    )
    pipeline: Any = library.StableDiffusionXLPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        text_encoder_2=second.eval(),
        tokenizer=base.tokenizer,
        tokenizer_2=base.tokenizer,
        unet=unet.eval(),
        scheduler=base.scheduler,
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
