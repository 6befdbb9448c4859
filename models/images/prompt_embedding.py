"""Prompts as inputs of a pipeline's network, embedded once for all samples of a run."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from molrl.models.images.chunked_prompts import POOLED, TOKENS, embed_chunks
from molrl.models.images.families import family_of
from molrl.models.images.families.family import Family, Size
from molrl.models.images.guided_network import Prompts
from molrl.models.images.pipeline_parts import encoders, image_size, tokenizers

PROMPT_BATCH = 64  # prompts that are embedded at a time
LongPrompts = Literal["refuse", "truncate", "chunk"]


def check_prompts(pipeline: Any, texts: Sequence[str], long_prompts: LongPrompts = "refuse") -> None:
    """Check that there are prompts, and that each text encoder reads all of them, unless the rule is another.

    Raises:
        ValueError: there are none, one is longer than a text encoder reads, or there is no such rule for the pipeline.
    """
    if not texts:
        raise ValueError("prompts: got none, need at least one")
    family = family_of(pipeline)
    if long_prompts == "chunk" and family is not None:
        reason = f"the encoders of {family.models} read one sequence; chunks are for Stable Diffusion 1.x to XL"
        raise ValueError(f"long_prompts: got 'chunk', allowed refuse and truncate: {reason}")
    if long_prompts != "refuse":
        return
    for tokenizer in tokenizers(pipeline):
        limit = int(tokenizer.model_max_length) if family is None else family.token_limit(tokenizer)
        for text in texts:
            rendered = text if family is None else family.rendered(pipeline, text)
            if (tokens := len(tokenizer(rendered).input_ids)) > limit:
                raise ValueError(
                    f"prompt {text!r:.80}: {tokens} tokens with its two ends, this text encoder reads {limit}; "
                    "policy.long_prompts=truncate lets each encoder read the beginning, as diffusers does"
                    + ("" if family else ", and chunk has it read in parts")
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
    """Return what a UNet is told of every prompt and, as the last row, of the negative one, float32 on the device.

    Of SDXL that is also a pooled embedding and the sizes of the image (Podell et al. 2023, arXiv:2307.01952, Sec. 2.1
    and 2.2).

    Args:
        pipeline: a StableDiffusionPipeline or a StableDiffusionXLPipeline.
        texts: the prompts.
        device: of the embeddings.
        negative: what classifier-free guidance leads away from.
        long_prompts: what is done with prompts that are longer than a text encoder reads.
        size: height and width in pixels, which SDXL is told; None: the pipeline's own.

    Raises:
        ValueError: there are no prompts, or one is longer than a text encoder reads.
    """
    check_prompts(pipeline, [*texts, negative] if texts else texts, long_prompts)
    for encoder in encoders(pipeline):
        encoder.to(device)
    embed = embed_chunks if long_prompts == "chunk" else embed_whole
    conditions = embed(pipeline, texts, negative, device)
    if POOLED in conditions:  # SDXL: height and width, corner of the crop, height and width again, in pixels
        height, width = image_size(pipeline, size)
        sizes = torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32, device=device)
        conditions["time_ids"] = sizes.repeat(len(texts) + 1, 1)
    return Prompts(tuple(texts), conditions)


def embed_whole(pipeline: Any, texts: Sequence[str], negative: str, device: torch.device) -> dict[str, Tensor]:
    """Return what `embed_chunks` does, by the pipeline's own method."""
    options = {"device": device, "num_images_per_prompt": 1, "do_classifier_free_guidance": True}
    options |= {"negative_prompt": negative} if negative else {}  # without one, SDXL's is all zeros
    batches = [list(texts[start : start + PROMPT_BATCH]) for start in range(0, len(texts), PROMPT_BATCH)]
    encoded = [[part.float() for part in pipeline.encode_prompt(batch, **as_many(options, batch))] for batch in batches]
    embeddings = [torch.cat(rows) for rows in zip(*encoded, strict=True)][::2]
    nulls = [null[:1] for null in encoded[0][1::2]]
    return dict(zip((TOKENS, POOLED), map(torch.cat, zip(embeddings, nulls, strict=True)), strict=False))


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
    dtype: torch.dtype = torch.float32,
) -> Prompts:
    """Return the inputs of a flow's network for all prompts and, as the last row, the negative one.

    Args:
        family: of the pipeline.
        pipeline: with its text encoders.
        texts: the prompts.
        device: of the embeddings.
        negative: what classifier-free guidance leads away from.
        long_prompts: what is done with prompts that are longer than a text encoder reads.
        dtype: that embeddings are kept in.

    Raises:
        ValueError: there are no prompts, or one is longer than a text encoder reads.
    """
    check_prompts(pipeline, [*texts, negative] if texts else texts, long_prompts)
    for encoder in encoders(pipeline):
        encoder.to(device)
    every = [*texts, negative]
    batches = [every[start : start + PROMPT_BATCH] for start in range(0, len(every), PROMPT_BATCH)]
    parts = [family.embed(pipeline, batch, device) for batch in batches]
    rows = {name: stack([part[name] for part in parts]) for name in parts[0]}
    return Prompts(
        tuple(texts), {name: row.to(dtype) if row.is_floating_point() else row for name, row in rows.items()}
    )


def stack(rows: Sequence[Tensor]) -> Tensor:
    """Concatenate batches of rows [b, tokens, ...], the shorter ones with zeros at the end of their tokens."""
    length = max(row.shape[1] for row in rows)
    return torch.cat([pad(row, (0, 0) * (row.dim() - 2) + (0, length - row.shape[1])) for row in rows])
