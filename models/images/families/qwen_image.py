"""Qwen-Image (Wu et al. 2025, arXiv:2508.02324): Qwen2.5-VL, and guidance that keeps the norm of the prediction."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.models.images.families.family import Conditions, Family, pack, unpack


class QwenImage(Family):
    """The family of QwenImagePipeline: Qwen2.5-VL and a rescaled guidance."""

    models = "Qwen-Image"
    parts: ClassVar[Mapping[str, str]] = {
        "scheduler": r"diffusers\.\w+Scheduler",
        "text_encoder": r"transformers\.Qwen2_5_VLForConditionalGeneration",
        "tokenizer": r"transformers\.Qwen2Tokenizer(Fast)?",
        "transformer": r"diffusers\.QwenImageTransformer2DModel",
        "vae": r"diffusers\.AutoencoderKLQwenImage",
    }
    max_tokens = 1024 + 34  # after those of the instruction

    def embed(self, pipeline: Any, texts: list[str], device: torch.device) -> dict[str, Tensor]:
        """Return the last hidden states of the language model after its instruction, and which are of the prompt."""
        tokens, mask = pipeline.encode_prompt(texts, device=device)
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device) if mask is None else mask.bool()
        return {"encoder_hidden_states": tokens, "encoder_hidden_states_mask": mask}

    def rendered(self, pipeline: Any, text: str) -> str:
        """Return the prompt within the instruction."""
        return str(pipeline.prompt_template_encode.format(text))

    def velocity(self, network: Any, x: Tensor, t: Tensor, conditions: Conditions, distilled_guidance: float) -> Tensor:
        """Call the network with packed patches and the shape that they are of."""
        output: Tensor = network(
            hidden_states=pack(x),
            timestep=t,
            guidance=torch.full_like(t, distilled_guidance) if self.distilled(network) else None,
            img_shapes=[[(1, x.shape[2] // 2, x.shape[3] // 2)]] * len(x),
            return_dict=False,
            **conditions,
        )[0]
        return unpack(output, x)

    def guide(self, unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
        """Combine both predictions, and give each token of the sum the norm of the prompt's own."""
        guided = super().guide(unconditional, conditional, scale)
        norms = [pack(each).norm(dim=-1, keepdim=True) for each in (conditional, guided)]
        return unpack(pack(guided) * (norms[0] / norms[1]), guided)

    def channels(self, pipeline: Any) -> int:
        """Return the channels of a latent."""
        return int(pipeline.vae.config.z_dim)

    def to_vae(self, vae: Any, x: Float[Tensor, "b c h w"]) -> Tensor:
        """Undo the normalisation by the mean and the std of each channel; an image is a film of one frame."""
        mean, std = (x.new_tensor(each).view(1, -1, 1, 1) for each in (vae.config.latents_mean, vae.config.latents_std))
        return (x * std + mean).unsqueeze(2)

    def decode(self, vae: Any, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 height width"]:
        """Return the only frame of the autoencoder's films, in [-1, 1]."""
        films: Tensor = vae.decode(self.to_vae(vae, x), return_dict=False)[0]
        return films[:, :, 0]
