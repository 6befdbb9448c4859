"""Prompts as inputs of a pipeline's network, embedded once for all samples of a run."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from molrl.models.images.families import family_of
from molrl.models.images.families.family import Family, Size
from molrl.models.images.guided_flow import FlowPrompts
from molrl.models.images.guided_unet import Prompts
from molrl.models.images.pipeline_parts import encoders, image_size, tokenizers

PROMPT_BATCH = 64  # prompts that are embedded at a time
LongPrompts = Literal["refuse", "truncate"]


def check_prompts(pipeline: Any, texts: Sequence[str], long_prompts: LongPrompts = "refuse") -> None:
    """Check that there are prompts, and that each text encoder reads all of them, unless they may be truncated.

    Raises:
        ValueError: there are none, or one is longer than a text encoder reads.
    """
    if not texts:
        raise ValueError("prompts: got none, need at least one")
    if long_prompts not in ("refuse", "truncate"):
        raise ValueError(f"long_prompts: got {long_prompts!r}, allowed refuse and truncate")
    if long_prompts == "truncate":
        return
    family = family_of(pipeline)
    for tokenizer in tokenizers(pipeline):
        limit = int(tokenizer.model_max_length) if family is None else family.token_limit(tokenizer)
        for text in texts:
            rendered = text if family is None else family.rendered(pipeline, text)
            if (tokens := len(tokenizer(rendered).input_ids)) > limit:
                raise ValueError(
                    f"prompt {text!r:.80}: {tokens} tokens with its two ends, this text encoder reads {limit}; "
                    "policy.long_prompts=truncate lets each encoder read the beginning, as diffusers does"
                )


@torch.no_grad()
def embed_prompts(
    pipeline: Any,
    texts: Sequence[str],
    device: torch.device,
    *,
    negative: str = "",
    long_prompts: LongPrompts = "refuse",
    size: Size | None = None,
) -> Prompts:
    """Return the embeddings of every prompt of a Stable Diffusion, and of the negative one, float32 on the device.

    Args:
        pipeline: a StableDiffusionPipeline or a StableDiffusionXLPipeline.
        texts: the prompts.
        device: of the embeddings.
        negative: what classifier-free guidance leads away from.
        long_prompts: whether prompts may be truncated.
        size: height and width in pixels, which SDXL is told; None: the pipeline's own.

    Raises:
        ValueError: there are no prompts, or one is longer than a text encoder reads.
    """
    check_prompts(pipeline, [*texts, negative] if texts else texts, long_prompts)
    for encoder in encoders(pipeline):
        encoder.to(device)
    options = {"device": device, "num_images_per_prompt": 1, "do_classifier_free_guidance": True}
    options |= {"negative_prompt": negative} if negative else {}  # without one, SDXL's is all zeros
    batches = [list(texts[start : start + PROMPT_BATCH]) for start in range(0, len(texts), PROMPT_BATCH)]
    encoded = [[part.float() for part in pipeline.encode_prompt(batch, **as_many(options, batch))] for batch in batches]
    embeddings = [torch.cat(rows) for rows in zip(*encoded, strict=True)][::2]
    nulls = [null[0] for null in encoded[0][1::2]]
    if len(embeddings) == 1:
        return Prompts(tuple(texts), embeddings[0], nulls[0])
    height, width = image_size(pipeline, size)
    sizes = torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32, device=device)
    return Prompts(tuple(texts), embeddings[0], nulls[0], embeddings[1], nulls[1], sizes)


def as_many(options: dict[str, Any], batch: Sequence[str]) -> dict[str, Any]:
    """Return options with as many negative prompts as a batch has prompts."""
    if "negative_prompt" not in options:
        return options
    return {**options, "negative_prompt": [options["negative_prompt"]] * len(batch)}


@torch.no_grad()
def embed_flow_prompts(
    family: Family,
    pipeline: Any,
    texts: Sequence[str],
    device: torch.device,
    *,
    negative: str = "",
    long_prompts: LongPrompts = "refuse",
) -> FlowPrompts:
    """Return the inputs of a flow's network for all prompts and, as the last row, the negative one.

    Raises:
        ValueError: there are no prompts, or one is longer than a text encoder reads.
    """
    check_prompts(pipeline, [*texts, negative] if texts else texts, long_prompts)
    for encoder in encoders(pipeline):
        encoder.to(device)
    every = [*texts, negative]
    batches = [every[start : start + PROMPT_BATCH] for start in range(0, len(every), PROMPT_BATCH)]
    parts = [family.embed(pipeline, batch, device) for batch in batches]
    return FlowPrompts(tuple(texts), {name: stack([part[name] for part in parts]) for name in parts[0]})


def stack(rows: Sequence[Tensor]) -> Tensor:
    """Concatenate batches of rows [b, tokens, ...], the shorter ones with zeros at the end of their tokens."""
    length = max(row.shape[1] for row in rows)
    return torch.cat([pad(row, (0, 0) * (row.dim() - 2) + (0, length - row.shape[1])) for row in rows])
