"""FLUX.2 (Black Forest Labs 2025): a language model's hidden states, and latents that are patches already."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.models.images.families.family import JOINT_ATTENTION, Conditions, Family, Size, positions


class Flux2Klein(Family):
    """The family of Flux2KleinPipeline: Qwen3, and classifier-free guidance.

    A state is the latent in patches of 2 x 2 as channels, normalised by running statistics of the autoencoder.
    """

    models = "FLUX.2 klein"
    parts: ClassVar[Mapping[str, str]] = {
        "scheduler": r"diffusers\.\w+Scheduler",
        "text_encoder": r"transformers\.Qwen3ForCausalLM",
        "tokenizer": r"transformers\.Qwen2Tokenizer(Fast)?",
        "transformer": r"diffusers\.Flux2Transformer2DModel",
        "vae": r"diffusers\.AutoencoderKLFlux2",
    }
    lora_targets = (*JOINT_ATTENTION, "to_qkv_mlp_proj")

    def embed(self, pipeline: Any, texts: list[str], device: torch.device) -> dict[str, Tensor]:
        """Return three layers' hidden states of the language model, side by side."""
        return {"encoder_hidden_states": pipeline.encode_prompt(texts, device=device)[0]}

    def rendered(self, pipeline: Any, text: str) -> str:
        """Return the prompt as what a user says."""
        rendered: str = pipeline.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return rendered

    def velocity(self, network: Any, x: Tensor, t: Tensor, conditions: Conditions, distilled_guidance: float) -> Tensor:
        """Call the network with patches as tokens, and the places of these and of the prompt's."""
        length = conditions["encoder_hidden_states"].shape[1]
        text = torch.zeros(length, 4, device=x.device)
        text[:, 3] += torch.arange(length, device=x.device)
        places = (text, positions(x.shape[2], x.shape[3], 4, x.device))
        text_ids, image_ids = (place.expand(len(x), -1, -1) for place in places)
        output: Tensor = network(
            hidden_states=x.flatten(2).mT,
            timestep=t,
            guidance=torch.full_like(t, distilled_guidance) if self.distilled(network) else None,
            txt_ids=text_ids,
            img_ids=image_ids,
            return_dict=False,
            **conditions,
        )[0]
        return output.mT.reshape(x.shape)

    def latent_shape(self, pipeline: Any, size: Size | None) -> tuple[int, int, int]:
        """Return [channels, height, width] of a latent in patches."""
        channels, height, width = super().latent_shape(pipeline, size)
        return 4 * channels, height // 2, width // 2

    def tokens(self, shape: Sequence[int]) -> int:
        """Return the number of patches."""
        return shape[1] * shape[2]

    def mu(self, config: Mapping[str, Any], tokens: int, num_steps: int) -> float:
        """Return the logarithm of the shift, which the authors fitted to the numbers of tokens and steps."""
        many = 0.00016927 * tokens + 0.45666666  # 200 steps
        few = 8.73809524e-05 * tokens + 1.89833333  # 10 steps
        return many if tokens > 4300 else many + (few - many) * (200 - num_steps) / 190

    def to_vae(self, vae: Any, x: Float[Tensor, "b c h w"]) -> Tensor:
        """Undo the normalisation and the patches."""
        mean, variance = (each.view(1, -1, 1, 1).to(x) for each in (vae.bn.running_mean, vae.bn.running_var))
        x = x * (variance + vae.config.batch_norm_eps).sqrt() + mean
        b, c, h, w = x.shape
        return x.view(b, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(b, c // 4, 2 * h, 2 * w)


class Flux2(Flux2Klein):
    """The family of Flux2Pipeline: Mistral Small 3, and a distilled guidance as an input."""

    models = "FLUX.2"
    parts: ClassVar[Mapping[str, str]] = {
        **Flux2Klein.parts,
        "text_encoder": r"transformers\.Mistral3ForConditionalGeneration",
        "tokenizer": r"transformers\.(PixtralProcessor|\w+Tokenizer(Fast)?)",
    }

    def rendered(self, pipeline: Any, text: str) -> str:
        """Return the prompt after the system's message."""
        turns = (("system", pipeline.system_message), ("user", text))
        messages = [{"role": role, "content": [{"type": "text", "text": words}]} for role, words in turns]
        rendered: str = pipeline.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
        return rendered
