"""FLUX.1 (Black Forest Labs 2024): CLIP's pooled embedding and T5, with a distilled guidance as an input."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from molrl.models.images.families.family import (
    CLIP_TOKENIZER,
    T5_TOKENIZER,
    Conditions,
    Family,
    pack,
    positions,
    unpack,
)


class Flux1(Family):
    """The family of FluxPipeline: FLUX.1-dev takes the guidance as an input, FLUX.1-schnell has none."""

    models = "FLUX.1"
    parts: ClassVar[Mapping[str, str]] = {
        "scheduler": r"diffusers\.\w+Scheduler",
        "text_encoder": r"transformers\.CLIPTextModel",
        "text_encoder_2": r"transformers\.T5EncoderModel",
        "tokenizer": CLIP_TOKENIZER,
        "tokenizer_2": T5_TOKENIZER,
        "transformer": r"diffusers\.FluxTransformer2DModel",
        "vae": r"diffusers\.AutoencoderKL",
    }
    unused: ClassVar[Mapping[str, Any]] = {"image_encoder": None, "feature_extractor": None}
    clip_encoders = ("text_encoder",)

    def embed(self, pipeline: Any, texts: list[str], device: torch.device) -> dict[str, Tensor]:
        """Return T5's token embeddings and CLIP's pooled one."""
        tokens, pooled, _ = pipeline.encode_prompt(prompt=texts, prompt_2=None, device=device)
        return {"encoder_hidden_states": tokens, "pooled_projections": pooled}

    def join_clip(self, encoded: Sequence[tuple[Tensor, Tensor]], frozen: Conditions) -> Conditions:
        """Put in CLIP's pooled embedding."""
        return {**frozen, "pooled_projections": encoded[0][1]}

    def velocity(self, network: Any, x: Tensor, t: Tensor, conditions: Conditions, distilled_guidance: float) -> Tensor:
        """Call the network with packed patches and their places."""
        guidance = torch.full_like(t, distilled_guidance) if self.distilled(network) else None
        output: Tensor = network(
            hidden_states=pack(x),
            timestep=t,
            guidance=guidance,
            txt_ids=x.new_zeros(conditions["encoder_hidden_states"].shape[1], 3),
            img_ids=positions(x.shape[2] // 2, x.shape[3] // 2, 3, x.device),
            return_dict=False,
            **conditions,
        )[0]
        return unpack(output, x)
