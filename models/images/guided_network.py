"""A network of a diffusers pipeline as a denoiser: its calls in parts, what is trained of it, and its adapter."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from molrl.gaussian import Context
from molrl.models.images.sharding import is_sharded, max_over_processes

LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")  # the attention layers that an adapter is added to


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
        texts: all prompts that a context may name; `context["prompt"]` has the row of each sample.
        guidance_scale: w of classifier-free guidance; 1 is no guidance and costs half as much.
        batch: images per network call; a larger batch is split, and a gradient computes each part again instead of
            keeping all activations. Where processes share the network's weights, all make the same number of calls.
        dtype: the dtype that the network computes in.
    """

    def __init__(
        self, network: nn.Module, texts: Sequence[str], *, guidance_scale: float, batch: int, dtype: torch.dtype
    ) -> None:
        super().__init__()
        if batch < 1:
            raise ValueError(f"batch: got {batch}, need at least 1")
        if guidance_scale < 0:
            raise ValueError(f"guidance_scale: got {guidance_scale}, allowed 0 or more; 1 is no guidance")
        parts = Parts({"network": network.eval()})
        self.guidance_scale, self.batch, self.dtype = guidance_scale, batch, dtype
        self.texts = tuple(texts)
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
        level, prompt = self.level(t), context["prompt"]
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
        return self.to_prediction(requested + 0 * filled.sum(), x, level)

    def level(self, t: Float[Tensor, " b"]) -> Num[Tensor, " b"]:
        """Return what the network is told of the time."""
        return t

    def guided_output(self, x: Float[Tensor, "b c h w"], level: Tensor, prompt: Tensor) -> Float[Tensor, "b c h w"]:
        """Return the guided output of the network in its own parametrisation."""
        raise NotImplementedError

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
            with torch.no_grad(), adapter_disabled(self.denoiser.network):
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
        with adapter_disabled(denoiser.network):
            prediction: Tensor = denoiser(x, t, context)
        return prediction

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the product of a gradient with the Jacobian by x; the frozen weights and the adapter have none."""
        (x,) = ctx.saved_tensors
        kind, dtype, enabled = ctx.autocast
        with torch.enable_grad(), adapter_disabled(ctx.denoiser.network), torch.autocast(kind, dtype, enabled=enabled):
            x = x.detach().requires_grad_()
            (before,) = torch.autograd.grad(ctx.denoiser(x, ctx.t, ctx.context), x, grad_outputs[0])
        return before, None, None, None


@contextmanager
def adapter_disabled(network: Any) -> Iterator[None]:
    """Disable a network's adapter, and enable it again afterwards whatever happens."""
    network.disable_adapters()
    try:
        yield
    finally:
        network.enable_adapters()


def add_lora(network: Any, rank: int, *, alpha: float | None = None, targets: Sequence[str] = LORA_TARGETS) -> None:
    """Freeze a network and add a new adapter to some of its layers, float32 and without effect at first.

    Its initial weights depend on nothing but the shapes.

    Args:
        network: a UNet or a transformer.
        rank: of the adapter.
        alpha: the adapter's scale times its rank; None: a scale of 1.
        targets: the last parts of the names of the layers.

    Raises:
        ValueError: a number is out of bounds, or no layer has one of these names.
    """
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    if rank < 1:
        raise ValueError(f"rank: got {rank}, need at least 1")
    if alpha is not None and not 0 < alpha < float("inf"):
        raise ValueError(f"alpha: got {alpha}, need a number above 0, or null for the rank")
    check_targets(network, targets)
    network.requires_grad_(False)
    scale: Any = rank if alpha is None else alpha
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network.add_adapter(
            LoraConfig(r=rank, lora_alpha=scale, init_lora_weights="gaussian", target_modules=list(targets))
        )
    cast_training_params(network, dtype=torch.float32)
    network.eval()  # layers that were added are in training mode


def check_targets(network: nn.Module, targets: Sequence[str]) -> None:
    """Raise ValueError for names that are no linear or convolutional layer's."""
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    unknown = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in layers)]
    if unknown or not targets:
        known = sorted({name.rpartition("transformer_blocks.")[2].partition(".")[2] or name for name in layers})
        raise ValueError(f"lora_targets: got {unknown}, no layer is so called; some are {', '.join(known[:12])}")
