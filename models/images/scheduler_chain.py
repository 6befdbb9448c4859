"""The chain of a diffusers scheduler as a sampler: its own noise levels, steps and end, as DDIM (Song et al. 2021,
arXiv:2010.02502).

A scheduler's grid decides whether each step has noise. Where the chain's last step has none (sigma = 0: the level stays
or becomes 0), it is no part of the policy: it is done once, deterministically, when an image is finished.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.gaussian import Euclidean
from molrl.models.images.diffusers_library import diffusers
from molrl.samplers import DDIM
from molrl.schedule import Tabulated

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")


@dataclass(frozen=True, eq=False)
class GivenTimes:
    """A grid of given times, whatever the number of steps."""

    times: Tensor

    def __call__(self, num_steps: int) -> Float[Tensor, " points"]:
        """Return the K + 1 times, float64."""
        return self.times


@dataclass(frozen=True)
class Chain:
    """The chain of a scheduler, as a sampler of ours.

    Attributes:
        sampler: the stochastic steps.
        schedule: the noise levels.
        prediction: what the model predicts, one of PREDICTION_TYPES.
        note: a remark on the chain to print once; "" for none.
    """

    sampler: DDIM
    schedule: Tabulated
    prediction: str
    note: str = ""


def diffusers_chain(config: Mapping[str, Any], num_steps: int, eta: float) -> Chain:
    """Return the chain of `num_steps` network calls that a diffusers pipeline with this scheduler configuration makes.

    Args:
        config: configuration of the checkpoint's scheduler, of any class; read as that of a DDIMScheduler.
        num_steps: network calls for each sample, as the pipeline counts them.
        eta: 1 for ancestral sampling.

    Raises:
        ValueError: samples are clipped on the way, which has no Gaussian density, or the chain cannot be stepped along.
    """
    for name in ("clip_sample", "thresholding"):
        if config.get(name, False):
            raise ValueError(f"scheduler: {name} is on, and clipped steps have no density; set {name} to false in it")
    scheduler: Any = diffusers().DDIMScheduler.from_config(dict(config), clip_sample=False, thresholding=False)
    prediction = str(scheduler.config.prediction_type)
    if prediction not in PREDICTION_TYPES:
        raise ValueError(f"scheduler: prediction_type {prediction!r}, allowed {', '.join(PREDICTION_TYPES)}")
    scheduler.set_timesteps(num_steps)
    levels = scheduler.alphas_cumprod.double()
    points: Tensor = scheduler.timesteps.long().cpu()
    end = float(scheduler.final_alpha_cumprod)
    if not levels[points[0]] > 0:
        raise ValueError(
            "scheduler: no signal at the first step (zero terminal SNR), where predicted noise says nothing of the "
            "sample; set timestep_spacing to leading or rescale_betas_zero_snr to false in it"
        )
    schedule, last = Tabulated(levels), float(levels[points[-1]])
    note = ""
    if end >= 1:
        finish, kept = "clean", points
    elif end <= last:
        finish, kept = "state", points
    else:
        finish, kept = "state", torch.cat([points, torch.zeros(1, dtype=torch.long)])
    if len(kept) == num_steps:
        note = (
            f"the last of {num_steps} steps has no noise: it is no part of the policy, "
            f"which has {num_steps - 1}, and is done when an image is finished"
        )
    if len(kept) < 2:
        raise ValueError(f"num_steps: got {num_steps}, and this scheduler's last step has no noise; need at least 2")
    grid = GivenTimes(kept.double() / len(levels))
    sampler = DDIM(
        schedule=schedule,
        num_steps=len(kept) - 1,
        space=Euclidean(),
        eta=eta,
        grid=grid,
        finish="clean" if finish == "clean" else "state",
    )
    return Chain(sampler, schedule, prediction, note)
