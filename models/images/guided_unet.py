"""A diffusers UNet as a denoiser with classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598, Eq. 6).

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
from molrl.models.images.sharding import is_sharded, max_over_processes
from molrl.samplers import per_row
from molrl.schedule import Tabulated

LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")  # the attention layers that an adapter is added to


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


class GuidedUNet(nn.Module):
    """A denoiser: latents [b, c, h, w] at times [b] with `context["prompt"]` [b] -> noise, float32.

    As a module it has only the trained parameters, which are optimised and kept in checkpoints. The UNet, which is
    always in evaluation mode, is not registered, and the prompts are not saved.

    Args:
        unet: a UNet2DConditionModel; parameters that require a gradient are trained.
        prompts: all prompts that a context may name.
        schedule: noise levels of the model.
        prediction: "epsilon", "sample" or "v_prediction".
        guidance_scale: w; 1 is no guidance and costs half as much.
        batch: images per network call; a larger batch is split, and a gradient computes each part again instead of
            keeping all activations. Where processes share the UNet's weights, all make the same number of calls.
        dtype: the dtype that the network computes in.
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
        trainable = {name: p for name, p in unet.named_parameters() if p.requires_grad}
        self.trainable_parameters = nn.ParameterDict({name.replace(".", "/"): p for name, p in trainable.items()})

    @property
    def unet(self) -> Any:
        """Return the UNet, which is no submodule."""
        return self._unet[0]

    @property
    def sharded(self) -> bool:
        """Return whether the processes of the run share the network, and must call it together."""
        return is_sharded(self.unet)

    def forward(self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], context: Context) -> Tensor:
        """Return the guided noise in x_t."""
        level, prompt = self.schedule.level(t), context["prompt"]
        rows = torch.arange(len(x), device=x.device).split(self.batch) if len(x) else ()
        parts = [(x[some], level[some], prompt[some]) for some in rows]
        if self.sharded:
            filler = x.new_zeros(1, *x.shape[1:]), level.new_zeros(1), prompt.new_zeros(1)
            parts += [filler] * (max_over_processes(len(parts)) - len(parts))
        if torch.is_grad_enabled() and len(parts) > 1:
            outputs = [checkpoint(self.guided_output, *part, use_reentrant=False) for part in parts]
        else:
            outputs = [self.guided_output(*part) for part in parts]
        output = torch.cat([x[:0], *outputs])
        requested, filled = output.split([len(x), len(output) - len(x)])
        return self.to_noise(requested + 0 * filled.sum(), x, level)

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
        output: Tensor = self.unet(x, level, encoder_hidden_states=embeddings, return_dict=False, **added)[0]
        return output.float()

    def to_noise(
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


class AdaptedUNet(GuidedUNet):
    """A guided UNet of which an adapter is trained (LoRA: Hu et al. 2021, arXiv:2106.09685)."""

    def without_adapter(self) -> "Unadapted":
        """Return the pretrained network, which takes no memory of its own."""
        return Unadapted(self)


@dataclass(frozen=True, eq=False)
class Unadapted:
    """A denoiser whose adapter is disabled during every call."""

    denoiser: AdaptedUNet

    def __call__(self, x: Tensor, t: Tensor, context: Context, /) -> Tensor:
        """Return the noise that the pretrained network predicts, with a gradient by x where that requires one."""
        noise: Tensor
        if torch.is_grad_enabled() and x.requires_grad:
            noise = UnadaptedCall.apply(x, t, context, self.denoiser)  # type: ignore[no-untyped-call]
        else:
            with torch.no_grad(), adapter_disabled(self.denoiser.unet):
                noise = self.denoiser(x, t, context)
        return noise


class UnadaptedCall(torch.autograd.Function):
    """A call without the adapter, which is made again for the gradient by x.

    Activations that are computed again, as they are for parts of a batch and for `checkpointing`, are computed while
    the gradient passes back. By then the adapter of the first call would be enabled again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor, context: Context, denoiser: AdaptedUNet) -> Tensor:
        """Return the predicted noise, and keep the input."""
        kind = x.device.type
        ctx.autocast = kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
        ctx.save_for_backward(x)
        ctx.t, ctx.context, ctx.denoiser = t, context, denoiser
        with adapter_disabled(denoiser.unet):
            noise: Tensor = denoiser(x, t, context)
        return noise

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the product of a gradient with the Jacobian by x; the frozen weights and the adapter have none."""
        (x,) = ctx.saved_tensors
        kind, dtype, enabled = ctx.autocast
        with torch.enable_grad(), adapter_disabled(ctx.denoiser.unet), torch.autocast(kind, dtype, enabled=enabled):
            x = x.detach().requires_grad_()
            (before,) = torch.autograd.grad(ctx.denoiser(x, ctx.t, ctx.context), x, gradient)
        return before, None, None, None


@contextmanager
def adapter_disabled(unet: Any) -> Iterator[None]:
    """Disable a UNet's adapter, and enable it again afterwards whatever happens."""
    unet.disable_adapters()
    try:
        yield
    finally:
        unet.enable_adapters()


def add_lora(unet: Any, rank: int) -> None:
    """Freeze a UNet and add a new adapter of scale 1 to its attention layers, float32 and without effect at first.

    Its initial weights depend on nothing but the shapes.
    """
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    if rank < 1:
        raise ValueError(f"rank: got {rank}, need at least 1")
    unet.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet.add_adapter(
            LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(LORA_TARGETS))
        )
    cast_training_params(unet, dtype=torch.float32)
    unet.eval()  # layers that were added are in training mode
