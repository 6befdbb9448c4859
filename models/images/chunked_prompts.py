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


def embed_chunks(pipeline: Any, texts: Sequence[str], negative: str, device: torch.device) -> list[list[Tensor]]:
    """Return the embeddings of prompts and of the negative one, all of them in as many chunks as the longest has.

    Args:
        pipeline: a StableDiffusionPipeline or a StableDiffusionXLPipeline.
        texts: the prompts.
        negative: what classifier-free guidance leads away from.
        device: of the embeddings.

    Returns:
        The token embeddings [p, chunks * tokens, width] and those of the negative prompt, without p; for SDXL also the
        pooled ones [p, breadth], which are those of the first chunk.
    """
    every = [*texts, negative]
    chunks = [[split(tokenizer, text) for text in every] for tokenizer in tokenizers(pipeline)]
    count = max(len(one) for of_tokenizer in chunks for one in of_tokenizer)
    joined, pooled = list[Tensor](), list[Tensor]()
    for tokenizer, encoder, found in zip(tokenizers(pipeline), encoders(pipeline), chunks, strict=True):
        ids = fill(tokenizer, found, count).to(device)
        tokens, whole = read(encoder, ids, penultimate=hasattr(pipeline, "text_encoder_2"))
        joined.append(tokens)
        pooled += [whole] if whole.dim() == 2 else []
    embeddings = [torch.cat(joined, -1), *pooled[:1]]
    if not negative and getattr(pipeline.config, "force_zeros_for_empty_prompt", False):  # as SDXL was trained
        for embedding in embeddings:
            embedding[-1] = 0
    return [[embedding[:-1], embedding[-1]] for embedding in embeddings]


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


def read(
    encoder: Any, ids: Int[Tensor, "p chunks tokens"], *, penultimate: bool
) -> tuple[Float[Tensor, "p length width"], Tensor]:
    """Return the joined embeddings of all chunks, float32, and the encoder's first output for the first chunks.

    Args:
        encoder: of CLIP.
        ids: tokens of all chunks.
        penultimate: take the embeddings of the last layer but one, as SDXL does.
    """
    outputs = [encoder(part, output_hidden_states=True) for part in ids.flatten(0, 1).split(CHUNK_BATCH)]
    tokens = torch.cat([output.hidden_states[-2] if penultimate else output[0] for output in outputs])
    whole = torch.cat([output[0] for output in outputs]).float()
    return tokens.float().reshape(len(ids), -1, tokens.shape[-1]), whole[:: ids.shape[1]]
