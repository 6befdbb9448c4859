"""Text encoders of which an adapter is trained, as a part of the network: they read the tokens of prompts.

Prompts are read anew with the adapter as it is: once for all samples of a call that have the same one, with a gradient
in training, and without one only where the adapter has changed or other prompts are asked for. CLIP's encoders are
those that diffusers trains an adapter of; what other encoders make of the prompts (T5) is kept.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from molrl.models.images.chunked_prompts import POOLED, TOKENS, Encoded, join, read, token_ids
from molrl.models.images.families import FAMILIES, family_of
from molrl.models.images.families.family import Conditions

Combine = Callable[[Sequence[Encoded], Conditions], Conditions]
"""A function from the adapted encoders' embeddings and the frozen inputs of prompts to the network's inputs."""


@dataclass(frozen=True, eq=False)
class Reading:
    """Prompts as they were read without a gradient.

    Attributes:
        rows: of the prompts.
        weights: all that are trained, as they were.
        versions: of these weights, as autograd counts their changes.
        encoded: the embeddings by each encoder.
    """

    rows: list[int]
    weights: tuple[Tensor, ...]
    versions: list[int]
    encoded: list[Encoded]

    def holds(self, rows: list[int], weights: tuple[Tensor, ...]) -> bool:
        """Return whether these prompts would be read the same with these weights."""
        unchanged = self.versions == [weight._version for weight in weights]
        return unchanged and self.rows == rows and all(map(operator.is_, self.weights, weights))


class TextEncoder:
    """Adapted text encoders of a pipeline.

    Args:
        encoders: by the names of the pipeline's parts.
        ids: tokens of every prompt, the negative one last, for each encoder.
        combine: makes inputs of the network of embeddings.
        penultimate: the embeddings are those of the last layer but one.
        batch: prompts that are read at a time; a gradient reads each part again where there are several.
        checkpointing: read prompts again for the gradient in any case.
    """

    def __init__(
        self,
        encoders: Mapping[str, Any],
        ids: Sequence[Int[Tensor, "p chunks tokens"]],
        combine: Combine,
        *,
        penultimate: bool,
        batch: int,
        checkpointing: bool,
    ) -> None:
        self.encoders, self.ids, self.combine = dict(encoders), tuple(ids), combine
        self.penultimate, self.batch, self.checkpointing = penultimate, batch, checkpointing
        self.last: Reading | None = None

    def __call__(self, rows: Int[Tensor, " r"], frozen: Conditions, weights: tuple[Tensor, ...]) -> Conditions:
        """Return what the network is told of prompts.

        Args:
            rows: of the prompts.
            frozen: what the frozen encoders made of them, a row each.
            weights: all trained ones; without a gradient, prompts are read again where one of them has changed.
        """
        if torch.is_grad_enabled():
            return self.combine(self.encode(rows), frozen)
        prompts = rows.tolist()
        if self.last is None or not self.last.holds(prompts, weights):
            self.last = Reading(prompts, weights, [weight._version for weight in weights], self.encode(rows))
        return self.combine(self.last.encoded, frozen)

    def encode(self, rows: Int[Tensor, " r"]) -> list[Encoded]:
        """Return the embeddings of prompts by each encoder."""
        parts = rows.split(self.batch)
        if torch.is_grad_enabled() and (len(parts) > 1 or self.checkpointing):
            found = [checkpoint(self.read, part, use_reentrant=False) for part in parts]
        else:
            found = [self.read(part) for part in parts]
        return [
            (torch.cat([tokens for tokens, _ in of_one]), torch.cat([pooled for _, pooled in of_one]))
            for of_one in zip(*found, strict=True)
        ]

    def read(self, rows: Int[Tensor, " r"]) -> list[Encoded]:
        """Return the embeddings of prompts by each encoder, all read at once."""
        return [
            read(encoder, ids[rows], penultimate=self.penultimate)
            for encoder, ids in zip(self.encoders.values(), self.ids, strict=True)
        ]


def adaptable_encoders(pipeline: Any) -> dict[str, Any]:
    """Return the text encoders of a pipeline that an adapter can be trained of, by the names of the parts.

    Raises:
        ValueError: there is none.
    """
    family = family_of(pipeline)
    names = ("text_encoder", "text_encoder_2") if family is None else family.clip_encoders
    found = {name: encoder for name in names if (encoder := getattr(pipeline, name, None)) is not None}
    if not found:
        others = ", ".join(one.models for one in FAMILIES.values() if one.clip_encoders)
        models = type(pipeline).__name__ if family is None else family.models
        raise ValueError(f"text_rank: {models} has no text encoder of CLIP; Stable Diffusion 1.x to XL, {others} have")
    if any(getattr(encoder.config, "use_attention_mask", False) for encoder in found.values()):
        raise ValueError("text_rank: a text encoder with use_attention_mask is not supported; set text_rank=null")
    return found


def text_encoder(
    pipeline: Any,
    texts: Sequence[str],
    device: torch.device,
    *,
    negative: str,
    chunked: bool,
    batch: int,
    checkpointing: bool,
) -> TextEncoder:
    """Return the adapted text encoders of a pipeline as a part of its network.

    Args:
        pipeline: with adapters on its `adaptable_encoders`.
        texts: all prompts that may be asked for.
        device: of the encoders.
        negative: what classifier-free guidance leads away from.
        chunked: prompts are read in chunks; else the first one is.
        batch: prompts that are read at a time.
        checkpointing: read prompts again for the gradient.
    """
    family, encoders = family_of(pipeline), adaptable_encoders(pipeline)
    tokenizers = [getattr(pipeline, name.replace("text_encoder", "tokenizer")) for name in encoders]
    ids = [rows.to(device) for rows in token_ids(tokenizers, [*texts, negative], chunked=chunked)]
    return TextEncoder(
        encoders,
        ids,
        join_unless_blank if family is None else family.join_clip,
        penultimate=hasattr(pipeline, "text_encoder_2") if family is None else family.penultimate,
        batch=batch,
        checkpointing=checkpointing,
    )


def join_unless_blank(encoded: Sequence[Encoded], frozen: Conditions) -> Conditions:
    """Return the inputs of a UNet; a prompt that stands for no prompt stays zero, as SDXL was trained."""
    blank = ~frozen[TOKENS].flatten(1).any(1)
    joined = join(encoded, pooled=POOLED in frozen)
    masks = {name: blank.view(-1, *[1] * (value.dim() - 1)) for name, value in joined.items()}
    return {**frozen, **{name: value.masked_fill(masks[name], 0) for name, value in joined.items()}}
