"""Long prompts in chunks: CLIP reads as many tokens at a time as it can, and the network all of the embeddings.

A prompt of more tokens than the text encoder reads (75 between its two ends) is cut into chunks of that many; each is
read as a prompt of its own, and their embeddings are joined along the sequence, as AUTOMATIC1111's web interface and
the library compel do. Fewer chunks than others have are filled up by empty prompts. Chunks do not see each other.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from molrl.models.images.pipeline_parts import encoders, tokenizers

ENDS = 2  # tokens at the two ends of a prompt
CHUNK_BATCH = 64  # chunks that are read at a time
TOKENS, POOLED = "encoder_hidden_states", "text_embeds"  # what diffusers calls these inputs of a UNet
Encoded = tuple[Float[Tensor, "p length width"], Float[Tensor, "p breadth"]]
"""The token embeddings and the pooled embedding of prompts, by one encoder."""


def embed_chunks(pipeline: Any, texts: Sequence[str], negative: str, device: torch.device) -> dict[str, Tensor]:
    """Return what a UNet is told of prompts and, as the last row, of the negative one, all in equally many chunks.

    Args:
        pipeline: a StableDiffusionPipeline or a StableDiffusionXLPipeline.
        texts: the prompts.
        negative: what classifier-free guidance leads away from.
        device: of the embeddings.

    Returns:
        The token embeddings [p + 1, chunks * tokens, width]; for SDXL also the pooled ones [p + 1, breadth].
    """
    xl = hasattr(pipeline, "text_encoder_2")
    ids = token_ids(tokenizers(pipeline), [*texts, negative], chunked=True)
    encoded = [
        read(encoder, rows.to(device), penultimate=xl) for encoder, rows in zip(encoders(pipeline), ids, strict=True)
    ]
    embeddings = {name: rows.float() for name, rows in join(encoded, pooled=xl).items()}
    if not negative and getattr(pipeline.config, "force_zeros_for_empty_prompt", False):  # as SDXL was trained
        for embedding in embeddings.values():
            embedding[-1] = 0
    return embeddings


def join(encoded: Sequence[Encoded], *, pooled: bool) -> dict[str, Tensor]:
    """Return the inputs of a UNet: all encoders' token embeddings side by side, and the last one's pooled embedding."""
    tokens = {TOKENS: torch.cat([tokens for tokens, _ in encoded], -1)}
    return {**tokens, POOLED: encoded[-1][1]} if pooled else tokens


def token_ids(
    tokenizers: Sequence[Any], texts: Sequence[str], *, chunked: bool
) -> list[Int[Tensor, "p chunks tokens"]]:
    """Return the tokens of prompts for each tokenizer: in as many chunks as the longest has, or the first chunk."""
    parts = [[split(tokenizer, text) for text in texts] for tokenizer in tokenizers]
    count = max(len(one) for of_tokenizer in parts for one in of_tokenizer) if chunked else 1
    return [
        fill(tokenizer, [one[:count] for one in found], count)
        for tokenizer, found in zip(tokenizers, parts, strict=True)
    ]


def split(tokenizer: Any, text: str) -> list[list[int]]:
    """Return the tokens of a prompt in chunks, without their ends; one empty chunk of an empty prompt."""
    tokens, length = tokenizer(text, add_special_tokens=False).input_ids, tokenizer.model_max_length - ENDS
    return [tokens[start : start + length] for start in range(0, len(tokens), length)] or [[]]


def fill(tokenizer: Any, prompts: Sequence[Sequence[list[int]]], count: int) -> Int[Tensor, "p chunks tokens"]:
    """Return the same number of chunks for every prompt, each with its two ends and padded."""

    def filled(chunk: list[int]) -> list[int]:
        ends = [tokenizer.bos_token_id, *chunk, tokenizer.eos_token_id]
        return ends + [tokenizer.pad_token_id] * (tokenizer.model_max_length - len(ends))

    return torch.tensor([[filled(chunk) for chunk in [*some, *[[]] * (count - len(some))]] for some in prompts])


def read(encoder: Any, ids: Int[Tensor, "p chunks tokens"], *, penultimate: bool) -> Encoded:
    """Return the joined embeddings of all chunks and the pooled ones of the first.

    Args:
        encoder: of CLIP.
        ids: tokens of all chunks.
        penultimate: take the embeddings of the last layer but one, as SDXL does.
    """
    outputs = [encoder(part, output_hidden_states=True) for part in ids.flatten(0, 1).split(CHUNK_BATCH)]
    tokens = torch.cat([output.hidden_states[-2] if penultimate else output.last_hidden_state for output in outputs])
    projected = "text_embeds" in outputs[0]
    pooled = torch.cat([output.text_embeds if projected else output.pooler_output for output in outputs])
    return tokens.reshape(len(ids), -1, tokens.shape[-1]), pooled[:: ids.shape[1]]
