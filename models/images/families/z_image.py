"""Z-Image (Z-Image Team 2025, arXiv:2511.22699): Qwen3, and a network that predicts x_0 - eps at times 1 - t."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from molrl.models.images.families.family import ATTENTION, Conditions, Family, Size


class ZImage(Family):
    """The family of ZImagePipeline: Qwen3 and times that run backwards."""

    models = "Z-Image"
    parts: ClassVar[Mapping[str, str]] = {
        "scheduler": r"diffusers\.\w+Scheduler",
        "text_encoder": r"transformers\.Qwen3(Model|ForCausalLM)",
        "tokenizer": r"transformers\.Qwen2Tokenizer(Fast)?",
        "transformer": r"diffusers\.ZImageTransformer2DModel",
        "vae": r"diffusers\.AutoencoderKL",
    }
    lora_targets = ATTENTION

    def embed(self, pipeline: Any, texts: list[str], device: torch.device) -> dict[str, Tensor]:
        """Return the hidden states of the language model, filled up with zeros, and which are of the prompt."""
        found, _ = pipeline.encode_prompt(list(texts), device=device, do_classifier_free_guidance=False)
        tokens = torch.nn.utils.rnn.pad_sequence(found, batch_first=True)
        lengths = torch.tensor([len(each) for each in found], device=tokens.device)
        return {"tokens": tokens, "mask": torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]}

    def rendered(self, pipeline: Any, text: str) -> str:
        """Return the prompt as what a user says."""
        rendered: str = pipeline.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True, enable_thinking=True
        )
        return rendered

    def velocity(self, network: Any, x: Tensor, t: Tensor, conditions: Conditions, distilled_guidance: float) -> Tensor:
        """Call the network with lists of films of one frame and of prompts, and turn its prediction around."""
        prompts = [row[real] for row, real in zip(conditions["tokens"], conditions["mask"], strict=True)]
        output: list[Tensor] = network(list(x.unsqueeze(2).unbind(0)), 1 - t, prompts, return_dict=False)[0]
        return -torch.stack(output).squeeze(2)

    def default_size(self, pipeline: Any) -> Size:
        """Return 1024 x 1024 pixels."""
        return 1024, 1024
