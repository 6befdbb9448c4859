"""A network of a diffusers pipeline as a denoiser: its calls in parts, what is trained of it, and its guidance.

The guided prediction is what the policy predicts, in the rollout as in training (Ho and Salimans 2022,
arXiv:2207.12598, Eq. 6).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from molrl.gaussian import Context
from molrl.models.images.families.family import Conditions
from molrl.models.images.sharding import is_sharded, max_over_processes
from molrl.models.images.text_encoder import TextEncoder


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts as inputs of a network.

    Attributes:
        texts: the prompts; `context["prompt"]` has the row of each sample.
        conditions: inputs of the network by name, a row for each prompt, and a last one for the negative prompt.
    """

    texts: tuple[str, ...]
    conditions: Conditions


class Parts(nn.ModuleDict):
    """The networks that a denoiser calls, as one module that calls any function of them."""

    def forward(self, function: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """Return what a function makes of its inputs."""
        return function(*inputs)


class GuidedNetwork(nn.Module):
    """A denoiser: latents [b, c, h, w] at times [b] with `context["prompt"]` [b] -> a prediction, float32.

    As a module it has only the trained parameters, which are optimised and kept in checkpoints. The network, which is
    always in evaluation mode, is not registered, and the prompts are not saved.

    Args:
        network: of the pipeline; parameters that require a gradient are trained.
        prompts: all prompts that a context may name, as the frozen text encoders read them.
        guidance_scale: w of classifier-free guidance; 1 is no guidance and costs half as much.
        batch: images per network call; a larger batch is split, and a gradient computes each part again instead of
            keeping all activations. Where processes share the network's weights, all make the same number of calls.
        dtype: the dtype that the network computes in.
        text: text encoders of which an adapter is trained, which read the prompts anew; None: there are none.
    """

    def __init__(
        self,
        network: nn.Module,
        prompts: Prompts,
        *,
        guidance_scale: float,
        batch: int,
        dtype: torch.dtype,
        text: TextEncoder | None = None,
    ) -> None:
        super().__init__()
        if batch < 1:
            raise ValueError(f"batch: got {batch}, need at least 1")
        if guidance_scale < 0:
            raise ValueError(f"guidance_scale: got {guidance_scale}, allowed 0 or more; 1 is no guidance")
        parts = Parts({"network": network.eval(), **(text.encoders if text else {})})
        self.guidance_scale, self.batch, self.dtype = guidance_scale, batch, dtype
        self.texts, self.names, self.text = prompts.texts, tuple(prompts.conditions), text
        for name, rows in prompts.conditions.items():
            self.register_buffer(f"prompt_{name}", rows, persistent=False)
        trained = {name: p for name, p in parts.named_parameters() if p.requires_grad}
        self._parts, self._trained = (parts,), (trained,)  # in tuples: no submodule, no second name of a parameter
        self.trainable_parameters = nn.ParameterDict({registered(name): p for name, p in trained.items()})

    @property
    def network(self) -> Any:
        """Return the network, which is no submodule."""
        return self._parts[0]["network"]

    @property
    def sharded(self) -> bool:
        """Return whether the processes of the run share the network, and must call it together."""
        return is_sharded(self.network)

    def forward(self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], context: Context) -> Tensor:
        """Return the guided prediction at x_t.

        Where other weights than those in training are put in their place for one call, as by an average of them, the
        network computes with these; such a call has no gradient.
        """
        (parts,), (trained,) = self._parts, self._trained
        weights = {name: self.trainable_parameters[registered(name)] for name in trained}
        if all(weights[name] is parameter for name, parameter in trained.items()):
            return self.predict(x, t, context)
        with torch.no_grad():
            prediction: Tensor = functional_call(parts, weights, (self.predict, x, t, context))
        return prediction

    def predict(self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], context: Context) -> Tensor:
        """Return the guided prediction at x_t with the weights that the network has."""
        level, (table, prompt) = self.level(t), self.read_prompts(context["prompt"])
        rows = torch.arange(len(x), device=x.device).split(self.batch) if len(x) else ()
        parts = [(x[some], level[some], prompt[some]) for some in rows]
        if self.sharded:
            filler = x.new_zeros(1, *x.shape[1:]), level.new_zeros(1), prompt.new_zeros(1)
            parts += [filler] * (max_over_processes(len(parts)) - len(parts))
        if torch.is_grad_enabled() and len(parts) > 1:
            outputs = [checkpoint(self.guided_output, *part, table, use_reentrant=False) for part in parts]
        else:
            outputs = [self.guided_output(*part, table) for part in parts]
        output = torch.cat([x[:0], *outputs])
        requested, filled = output.split([len(x), len(output) - len(x)])
        return self.to_prediction(requested + 0 * filled.sum(), x, level)

    def level(self, t: Float[Tensor, " b"]) -> Num[Tensor, " b"]:
        """Return what the network is told of the time."""
        return t

    def read_prompts(self, prompt: Int[Tensor, " b"]) -> tuple[Conditions, Int[Tensor, " b"]]:
        """Return inputs of the network by prompt, the last row for the negative one, and the row of each sample."""
        known = {name: self.get_buffer(f"prompt_{name}") for name in self.names}
        if self.text is None:
            return known, prompt
        rows, index = torch.cat([prompt, prompt.new_tensor([len(self.texts)])]).unique(return_inverse=True)
        frozen = {name: every[rows] for name, every in known.items()}
        encoded = self.text(rows, frozen, tuple(self.trainable_parameters.values()))
        return {name: value.to(known[name].dtype) for name, value in encoded.items()}, index[:-1]

    def guided_output(
        self, x: Float[Tensor, "b c h w"], level: Num[Tensor, " b"], prompt: Int[Tensor, " b"], table: Conditions
    ) -> Float[Tensor, "b c h w"]:
        """Return the guided output of the network in its own parametrisation."""
        if self.guidance_scale == 1:
            return self.call(x, level, {name: rows[prompt] for name, rows in table.items()})
        both = torch.cat([torch.full_like(prompt, -1), prompt])
        conditions = {name: rows[both] for name, rows in table.items()}
        unconditional, conditional = self.call(torch.cat([x, x]), torch.cat([level, level]), conditions).chunk(2)
        return self.guide(unconditional, conditional)

    def call(self, x: Float[Tensor, "b c h w"], level: Num[Tensor, " b"], conditions: Conditions) -> Tensor:
        """Return the output of one network call, in the dtype of x."""
        raise NotImplementedError

    def guide(self, unconditional: Tensor, conditional: Tensor) -> Tensor:
        """Combine the outputs with the negative prompt and with the prompt."""
        return unconditional + self.guidance_scale * (conditional - unconditional)

    def to_prediction(self, output: Float[Tensor, "b c h w"], x: Float[Tensor, "b c h w"], level: Tensor) -> Tensor:
        """Return what the sampler reads, for an output in the network's own parametrisation."""
        return output


def registered(name: str) -> str:
    """Return the name that a parameter of the parts is optimised and kept under."""
    return name.removeprefix("network.").replace(".", "/")


class WithAdapter:
    """The part of a denoiser of which an adapter is trained (LoRA: Hu et al. 2021, arXiv:2106.09685)."""

    def without_adapter(self: Any) -> "Unadapted":
        """Return the pretrained network, which takes no memory of its own."""
        return Unadapted(self)


@dataclass(frozen=True, eq=False)
class Unadapted:
    """A denoiser whose adapter is disabled during every call."""

    denoiser: GuidedNetwork

    def __call__(self, x: Tensor, t: Tensor, context: Context, /) -> Tensor:
        """Return what the pretrained network predicts, with a gradient by x where that requires one."""
        prediction: Tensor
        if torch.is_grad_enabled() and x.requires_grad:
            prediction = UnadaptedCall.apply(x, t, context, self.denoiser)  # type: ignore[no-untyped-call]
        else:
            with torch.no_grad(), adapter_disabled(self.denoiser):
                prediction = self.denoiser(x, t, context)
        return prediction


class UnadaptedCall(torch.autograd.Function):
    """A call without the adapter, which is made again for the gradient by x.

    Activations that are computed again, as they are for parts of a batch and for `checkpointing`, are computed while
    the gradient passes back. By then the adapter of the first call would be enabled again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor, context: Context, denoiser: GuidedNetwork) -> Tensor:
        """Return the prediction, and keep the input."""
        kind = x.device.type
        ctx.autocast = kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
        ctx.save_for_backward(x)
        ctx.t, ctx.context, ctx.denoiser = t, context, denoiser
        with adapter_disabled(denoiser):
            prediction: Tensor = denoiser(x, t, context)
        return prediction

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the product of a gradient with the Jacobian by x; the frozen weights and the adapter have none."""
        (x,) = ctx.saved_tensors
        kind, dtype, enabled = ctx.autocast
        with torch.enable_grad(), adapter_disabled(ctx.denoiser), torch.autocast(kind, dtype, enabled=enabled):
            x = x.detach().requires_grad_()
            (before,) = torch.autograd.grad(ctx.denoiser(x, ctx.t, ctx.context), x, grad_outputs[0])
        return before, None, None, None


@contextmanager
def adapter_disabled(denoiser: GuidedNetwork) -> Iterator[None]:
    """Disable a denoiser's adapters, those of text encoders included, and enable them afterwards whatever happens."""
    text, denoiser.text = denoiser.text, None  # the prompts as the frozen text encoders read them
    trained = [(parameter, parameter.requires_grad) for parameter in denoiser.trainable_parameters.values()]
    denoiser.network.disable_adapters()
    try:
        yield
    finally:
        denoiser.network.enable_adapters()
        denoiser.text = text
        for parameter, learns in trained:  # enabling would train also those that `trainable_parameters` leaves out
            parameter.requires_grad_(learns)
