"""A diffusers UNet as a denoiser with classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598, Eq. 6).

The guided noise is what the policy predicts, in the rollout as in training: e = e_null + w (e_prompt - e_null).
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from molrl.models.images.guided_network import GuidedNetwork, WithAdapter
from molrl.samplers import per_row
from molrl.schedule import Tabulated


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts and their embeddings.

    Attributes:
        texts: the prompts; `context["prompt"]` has the row of each sample.
        embeddings: embeddings of the prompts [p, tokens, width].
        null: embedding of the empty prompt [tokens, width].
        pooled: pooled embeddings of the prompts [p, breadth], for SDXL (Podell et al. 2023,
            arXiv:2307.01952, Sec. 2.1 and 2.2).
        null_pooled: pooled embedding of the empty prompt [breadth], for SDXL.
        size: height and width, corner of the crop, height and width again [6], in pixels, for SDXL.
    """

    texts: tuple[str, ...]
    embeddings: Float[Tensor, "p tokens width"]
    null: Float[Tensor, "tokens width"]
    pooled: Float[Tensor, "p breadth"] | None = None
    null_pooled: Float[Tensor, " breadth"] | None = None
    size: Float[Tensor, " 6"] | None = None


class GuidedUNet(GuidedNetwork):
    """A UNet2DConditionModel with classifier-free guidance, which predicts the noise.

    Args:
        unet: a UNet2DConditionModel.
        prompts: all prompts that a context may name.
        schedule: noise levels of the model.
        prediction: "epsilon", "sample" or "v_prediction".
        settings: the others of `GuidedNetwork`.
    """

    def __init__(
        self, unet: nn.Module, prompts: Prompts, schedule: Tabulated, *, prediction: str, **settings: Any
    ) -> None:
        super().__init__(unet, prompts.texts, **settings)
        self.embeddings: Tensor
        self.null: Tensor
        self.pooled: Tensor | None
        self.null_pooled: Tensor | None
        self.size: Tensor | None
        self.schedule, self.prediction = schedule, prediction
        for name in ("embeddings", "null", "pooled", "null_pooled", "size"):
            value: Tensor | None = getattr(prompts, name)
            self.register_buffer(name, None if value is None else value.float(), persistent=False)

    @property
    def unet(self) -> Any:
        """Return the UNet, which is no submodule."""
        return self.network

    def level(self, t: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
        """Return the number of the noise level."""
        return self.schedule.level(t)

    def guided_output(
        self, x: Float[Tensor, "b c h w"], level: Int[Tensor, " b"], prompt: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """Return the guided output of the network in its own parametrisation."""
        conditions = [rows[prompt] for rows in (self.embeddings, self.pooled) if rows is not None]
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            if self.guidance_scale == 1:
                return self.call_unet(x, level, *conditions)
            nulls = [null.expand(len(x), *null.shape) for null in (self.null, self.null_pooled) if null is not None]
            both = [torch.cat(pair) for pair in zip(nulls, conditions, strict=True)]
            output = self.call_unet(torch.cat([x, x]), torch.cat([level, level]), *both)
        unconditional, conditional = output.chunk(2)
        return unconditional + self.guidance_scale * (conditional - unconditional)

    def call_unet(self, x: Tensor, level: Tensor, embeddings: Tensor, pooled: Tensor | None = None) -> Tensor:
        """Return the output of one network call, float32."""
        size = None if self.size is None else self.size.expand(len(x), -1)
        added = {} if pooled is None else {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": size}}
        output: Tensor = self.network(x, level, encoder_hidden_states=embeddings, return_dict=False, **added)[0]
        return output.float()

    def to_prediction(
        self, output: Float[Tensor, "b c h w"], x: Float[Tensor, "b c h w"], level: Int[Tensor, " b"]
    ) -> Tensor:
        """Return the noise that an output of noise, of a clean sample or of a velocity stands for.

        (Salimans and Ho 2022, arXiv:2202.00512, App. D.)
        """
        if self.prediction == "epsilon":
            return output
        signal = self.schedule.alpha_squared
        alpha, sigma = (per_row(table, level, x) for table in (signal.sqrt(), (1 - signal).sqrt()))
        if self.prediction == "sample":
            return (x - alpha * output) / sigma
        return alpha * output + sigma * x


class AdaptedUNet(WithAdapter, GuidedUNet):
    """A guided UNet of which an adapter is trained."""
