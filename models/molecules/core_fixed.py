"""Denoising of the free atoms of a molecule whose other atoms, the core, are given and stay where they are.

The state of the chain is the free atoms alone, in the frame of the core, whose centroid is the origin. The network sees
whole molecules: the core beside the free atoms, and from its prediction for both the noise in the free atoms follows.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from molrl.gaussian import Context
from molrl.models.molecules.steering import Steering
from molrl.models.precondition import Preconditioned
from molrl.schedule import Schedule, alpha, sigma


class CoreFixed(nn.Module):
    """A predictor of the noise in free atoms, from a denoiser of whole molecules.

    A denoiser that was trained with cores (`molrl.models.molecules.masked`) sees the exact core. Any other sees it with
    noise of the level of the free atoms, alpha x_c + sigma e with the e that the context holds: the replacement method
    (Song et al. 2021, arXiv:2011.13456, App. I.2), with one noise for the whole chain. So the prediction is a function
    of x_t, t and the context, and each step of the chain has an exact density.

    With eps the prediction for the whole molecule, in which positions are relative, that for the free atoms is
    eps_f + mean_c(e - eps_c) in positions: the clean estimate of the molecule is shifted until the centroid of its core
    lies where that of the true core is.

    Context: "mask" [b, m] of the free atoms, "core" [b, n, c] the clean state of the core, its positions centred,
    "core_noise" [b, n, c], "open" [b, n], the new bonds of its atoms; and what the denoiser itself reads.

    Args:
        whole: predicts the noise in states of whole molecules.
        schedule: of the noise.
        steering: corrects the clean estimate of the positions; None: not at all.
    """

    def __init__(self, whole: nn.Module, schedule: Schedule, steering: Steering | None = None) -> None:
        super().__init__()
        self.whole = whole
        self.schedule = schedule
        self.steering = steering

    @property
    def repeated_blocks(self) -> list[nn.Module]:
        """Return the blocks of the network, where it says that they can be compiled one by one."""
        return list(getattr(self.whole, "repeated_blocks", ()))

    def forward(self, x: Float[Tensor, "b m c"], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, "b m c"]:
        """Predict the noise in the free atoms x_t, positions relative to the centroid of the core."""
        log_snr = self.schedule.log_snr(t).view(-1, 1, 1)
        a, s, size = alpha(log_snr), sigma(log_snr), context["core"].shape[1]
        noise = context["core_noise"]
        core = a * context["core"] + s * noise
        if isinstance(self.whole, Preconditioned) and knows_cores(self.whole):
            noise, core = torch.zeros_like(noise), exact_input(a * context["core"], a, s, self.whole.data_std)
        state = torch.cat([core, x], 1)
        inputs = whole_context(context)
        eps = self.whole(centre(state, inputs["mask"]), t, inputs).to(x.dtype)
        offset = torch.zeros_like(x[:, :1])
        offset[..., :3] = (noise - eps[:, :size])[..., :3].mean(1, keepdim=True)
        free = (eps[:, size:] + offset) * context["mask"].unsqueeze(-1)
        return free if self.steering is None else self.steering(free, x, a, s, context)


def knows_cores(denoiser: nn.Module) -> bool:
    """Tell whether a denoiser was made to be told the atoms of a core."""
    return getattr(getattr(denoiser, "network", None), "core_embedding", None) is not None


def exact_input(
    x: Float[Tensor, "b n c"], a: Float[Tensor, "b 1 1"], s: Float[Tensor, "b 1 1"], data_std: Float[Tensor, " c"]
) -> Float[Tensor, "b n c"]:
    """Return alpha x_0 of exact atoms with features that reach the network at unit scale whatever the noise level.

    Preconditioning divides all channels by sqrt(s^2 + d^2), which hides exact types where the noise is high. Positions
    keep the scale of the free atoms, for the sake of distances.
    """
    d = data_std.to(x.dtype)
    scale = ((s / a).square() + d.square()).sqrt() / d  # [b, 1, c]
    return torch.cat([x[..., :3], (x * scale)[..., 3:]], -1)


def whole_context(context: Context) -> dict[str, Tensor]:
    """Return the context of whole molecules, the core before the free atoms."""
    core = torch.ones(context["core"].shape[:2], dtype=torch.bool, device=context["mask"].device)
    other = {name: value for name, value in context.items() if name == "condition"}
    mask, free = torch.cat([core, context["mask"]], 1), torch.zeros_like(context["mask"])
    opened = torch.cat([context["open"], free.to(context["open"].dtype)], 1)
    return {**other, "mask": mask, "fixed": torch.cat([core, free], 1), "open": opened}


def centre(x: Float[Tensor, "b n c"], weights: Bool[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
    """Shift positions so that their mean over some of the atoms is zero; those of padding are shifted as well."""
    some = weights.unsqueeze(-1).to(x.dtype)
    shift = torch.zeros_like(x[:, :1])
    shift[..., :3] = (x[..., :3] * some).sum(1, keepdim=True) / some.sum(1, keepdim=True)
    return x - shift
