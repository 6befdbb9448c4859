"""Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv:2403.03206): two CLIP encoders and T5."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from molrl.models.images.families.family import CLIP_TOKENIZER, T5_TOKENIZER, Conditions, Family


class StableDiffusion3(Family):
    """The family of StableDiffusion3Pipeline: two CLIP encoders and T5."""

    models = "Stable Diffusion 3 and 3.5"
    parts: ClassVar[Mapping[str, str]] = {
        "scheduler": r"diffusers\.\w+Scheduler",
        **dict.fromkeys(("text_encoder", "text_encoder_2"), r"transformers\.CLIPTextModelWithProjection"),
        "text_encoder_3": r"transformers\.T5EncoderModel",
        **dict.fromkeys(("tokenizer", "tokenizer_2"), CLIP_TOKENIZER),
        "tokenizer_3": T5_TOKENIZER,
        "transformer": r"diffusers\.SD3Transformer2DModel",
        "vae": r"diffusers\.AutoencoderKL",
    }
    unused: ClassVar[Mapping[str, Any]] = {"image_encoder": None, "feature_extractor": None}
    max_tokens = 256
    clip_encoders, penultimate = ("text_encoder", "text_encoder_2"), True

    def embed(self, pipeline: Any, texts: list[str], device: torch.device) -> dict[str, Tensor]:
        """Return the joined token embeddings of the three encoders, and the two pooled ones of CLIP."""
        options = {"prompt_2": None, "prompt_3": None, "device": device, "do_classifier_free_guidance": False}
        tokens, _, pooled, _ = pipeline.encode_prompt(texts, **options)
        return {"encoder_hidden_states": tokens, "pooled_projections": pooled}

    def join_clip(self, encoded: Sequence[tuple[Tensor, Tensor]], frozen: Conditions) -> Conditions:
        """Put the tokens of both CLIP encoders, filled up with zeros to T5's width, before those of T5."""
        kept = frozen["encoder_hidden_states"]
        tokens = torch.cat([tokens for tokens, _ in encoded], -1).to(kept.dtype)
        clip = pad(tokens, (0, kept.shape[-1] - tokens.shape[-1]))
        pooled = torch.cat([pooled for _, pooled in encoded], -1)
        return {
            "encoder_hidden_states": torch.cat([clip, kept[:, clip.shape[1] :]], 1),
            "pooled_projections": pooled,
        }

    def velocity(self, network: Any, x: Tensor, t: Tensor, conditions: Conditions, distilled_guidance: float) -> Tensor:
        """Call the network with a latent, which it cuts into patches itself, at times from 0 to 1000."""
        output: Tensor = network(hidden_states=x, timestep=1000 * t, return_dict=False, **conditions)[0]
        return output

    def sigmas(self, num_steps: int) -> None:
        """Return None: the grid is the scheduler's own, with its fixed shift."""
        return
