"""A diffusers UNet as a denoiser, with classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598, Eq. 6).

The guided noise is what the policy predicts, in the rollout as in training: e = e_null + w (e_prompt - e_null).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from molrl.gaussian import Context
from molrl.models.images.sharding import most, sharded
from molrl.schedule import Tabulated

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")  # where an adapter goes


@dataclass(frozen=True, eq=False)
class Prompts:
    """What a model is asked for, embedded once.

    Attributes:
        texts: by row; `context["prompt"]` has the row of each sample.
        embeddings: of the texts [p, tokens, width].
        null: of the empty prompt [tokens, width].
        pooled: of the texts as a whole [p, breadth], for SDXL (Podell et al. 2023, arXiv:2307.01952, Sec. 2.1 and 2.2).
        null_pooled: of the empty prompt [breadth], for SDXL.
        size: height and width, place of the crop, height and width again [6], in pixels, for SDXL.
    """

    texts: tuple[str, ...]
    embeddings: Float[Tensor, "p tokens width"]
    null: Float[Tensor, "tokens width"]
    pooled: Float[Tensor, "p breadth"] | None = None
    null_pooled: Float[Tensor, " breadth"] | None = None
    size: Float[Tensor, " 6"] | None = None


class GuidedUNet(nn.Module):
    """Latents [b, c, h, w] at times [b] with `context["prompt"]` [b] -> noise, float32.

    As a module it has the trained parameters alone: those are what is optimised and kept in checkpoints. The UNet, in
    evaluation mode always, and the prompts come with it unregistered.

    Args:
        unet: a UNet2DConditionModel; parameters that require a gradient are trained.
        prompts: that may be asked for.
        schedule: noise levels of the model.
        prediction: "epsilon", "sample" or "v_prediction".
        guidance_scale: w; 1 is no guidance, and costs half as much.
        batch: images per network call; a larger batch goes through in parts, and a gradient computes each part again
            instead of keeping all of them. Where processes share the UNet's weights, all go through as many parts.
        dtype: what the network computes in.
    """

    def __init__(
        self,
        unet: nn.Module,
        prompts: Prompts,
        schedule: Tabulated,
        *,
        prediction: str,
        guidance_scale: float,
        batch: int,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.embeddings: Tensor
        self.null: Tensor
        self.pooled: Tensor | None
        self.null_pooled: Tensor | None
        self.size: Tensor | None
        if batch < 1:
            raise ValueError(f"batch: got {batch}, need at least 1")
        if guidance_scale < 0:
            raise ValueError(f"guidance_scale: got {guidance_scale}, allowed 0 or more; 1 is no guidance")
        self._unet = (unet.eval(),)  # in a tuple: not a submodule
        self.schedule, self.prediction = schedule, prediction
        self.guidance_scale, self.batch, self.dtype = guidance_scale, batch, dtype
        self.texts = prompts.texts
        for name in ("embeddings", "null", "pooled", "null_pooled", "size"):
            value: Tensor | None = getattr(prompts, name)
            self.register_buffer(name, None if value is None else value.float(), persistent=False)
        trained = {name: p for name, p in unet.named_parameters() if p.requires_grad}
        self.trainable_parameters = nn.ParameterDict({name.replace(".", "/"): p for name, p in trained.items()})

    @property
    def unet(self) -> Any:
        """The network."""
        return self._unet[0]

    @property
    def sharded(self) -> bool:
        """Whether the processes of the run share the network, and must call it together."""
        return sharded(self.unet)

    def forward(self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], context: Context) -> Tensor:
        """The guided noise in x_t."""
        level, prompt = self.schedule.level(t), context["prompt"]
        rows = torch.arange(len(x), device=x.device).split(self.batch) if len(x) else ()
        parts = [(x[some], level[some], prompt[some]) for some in rows]
        if self.sharded:
            spare = x.new_zeros(1, *x.shape[1:]), level.new_zeros(1), prompt.new_zeros(1)
            parts += [spare] * (most(len(parts)) - len(parts))
        if torch.is_grad_enabled() and len(parts) > 1:
            outputs = [checkpoint(self.predicted, *part, use_reentrant=False) for part in parts]
        else:
            outputs = [self.predicted(*part) for part in parts]
        output = torch.cat([x[:0], *outputs])
        own, spared = output.split([len(x), len(output) - len(x)])
        return self.noise(own + 0 * spared.sum(), x, level)

    def predicted(
        self, x: Float[Tensor, "b c h w"], level: Int[Tensor, " b"], prompt: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """What the network says, guided, in its own parametrisation."""
        told = [rows[prompt] for rows in (self.embeddings, self.pooled) if rows is not None]
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            if self.guidance_scale == 1:
                return self.asked(x, level, *told)
            nothing = [null.expand(len(x), *null.shape) for null in (self.null, self.null_pooled) if null is not None]
            both = [torch.cat(pair) for pair in zip(nothing, told, strict=True)]
            output = self.asked(torch.cat([x, x]), torch.cat([level, level]), *both)
        unconditional, conditional = output.chunk(2)
        return unconditional + self.guidance_scale * (conditional - unconditional)

    def asked(self, x: Tensor, level: Tensor, told: Tensor, pooled: Tensor | None = None) -> Tensor:
        """One network call, float32."""
        size = None if self.size is None else self.size.expand(len(x), -1)
        more = {} if pooled is None else {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": size}}
        output: Tensor = self.unet(x, level, encoder_hidden_states=told, return_dict=False, **more)[0]
        return output.float()

    def noise(self, output: Float[Tensor, "b c h w"], x: Float[Tensor, "b c h w"], level: Int[Tensor, " b"]) -> Tensor:
        """Noise out of noise, of a clean sample, or of a velocity (Salimans and Ho 2022, arXiv:2202.00512, App. D)."""
        if self.prediction == "epsilon":
            return output
        signal = self.schedule.alpha_squared.to(x.device)[level].view(-1, 1, 1, 1)
        alpha, sigma = signal.sqrt().to(x.dtype), (1 - signal).sqrt().to(x.dtype)
        if self.prediction == "sample":
            return (x - alpha * output) / sigma
        return alpha * output + sigma * x


class AdaptedUNet(GuidedUNet):
    """A guided UNet of which an adapter is trained (LoRA: Hu et al. 2021, arXiv:2106.09685)."""

    def without_adapter(self) -> "Unadapted":
        """The pretrained network, at no cost of memory."""
        return Unadapted(self)


@dataclass(frozen=True, eq=False)
class Unadapted:
    """A denoiser with its adapter switched off for the time of a call."""

    denoiser: AdaptedUNet

    def __call__(self, x: Tensor, t: Tensor, context: Context, /) -> Tensor:
        """The noise that the pretrained network sees; no gradient."""
        with torch.no_grad(), switched_off(self.denoiser.unet):
            found: Tensor = self.denoiser(x, t, context)
        return found


@contextmanager
def switched_off(unet: Any) -> Iterator[None]:
    """A UNet without its adapter, which is on again afterwards whatever happens."""
    unet.disable_adapters()
    try:
        yield
    finally:
        unet.enable_adapters()


def add_lora(unet: Any, rank: int) -> None:
    """Freeze a UNet and put a fresh adapter of scale 1 on its attention layers: float32, and without effect as yet.

    Its first weights depend on nothing but the shapes.
    """
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    if rank < 1:
        raise ValueError(f"rank: got {rank}, need at least 1")
    unet.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet.add_adapter(
            LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(ATTENTION))
        )
    cast_training_params(unet, dtype=torch.float32)
    unet.eval()  # layers that were added are in training mode
