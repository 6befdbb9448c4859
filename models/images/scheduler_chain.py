"""The chain of a diffusers scheduler as a sampler: its own noise levels, steps and end, as DDIM (Song et al. 2021,
arXiv:2010.02502).

A scheduler's grid decides whether each step has noise. Where the chain's last step has none (sigma = 0: the level stays
or becomes 0), it is no part of the policy: it is done once, deterministically, when an image is finished.
"""

import inspect
import json
import math
from collections.abc import Collection, Mapping
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
MAX_LEVELS = 100_000  # noise levels of a scheduler
SOLVERS = (  # of a variance-preserving diffusion; all walk the noise levels that DDIM walks
    *("DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler", "PNDMScheduler"),
    *("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "LMSDiscreteScheduler", "HeunDiscreteScheduler"),
    *("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DPMSolverMultistepScheduler"),
    *("DPMSolverSinglestepScheduler", "DPMSolverSDEScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler"),
    "SASolverScheduler",
)
SOLVER_OPTIONS = frozenset(  # they say how a solver takes a step, not which levels it visits
    "skip_prk_steps solver_order solver_type solver_p algorithm_type lower_order_final euler_at_final predict_x0 "
    "disable_corrector interpolation_type predictor_order corrector_order tau_func noise_sampler_seed "
    "flow_shift time_shift_type".split()  # the last two act with use_flow_sigmas or use_dynamic_shifting alone
)
NEUTRAL_VALUES: Mapping[str, tuple[Any, ...]] = {  # of options that change the levels or the meaning of an output
    **dict.fromkeys(("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas"), (False,)),
    **dict.fromkeys(("use_flow_sigmas", "use_dynamic_shifting"), (False,)),
    **dict.fromkeys(("sigma_min", "sigma_max", "shift_terminal"), (None,)),
    "lambda_min_clipped": (-math.inf,),
    "final_sigmas_type": ("zero",),
    "timestep_type": ("discrete",),
    "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
}


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


def as_ddim(config: Mapping[str, Any]) -> Any:
    """Return the DDIMScheduler with the noise levels, the grid and the end of a scheduler's configuration.

    Raises:
        ValueError: an option means something that a DDIMScheduler cannot do; none is dropped.
    """
    ddim: Any = diffusers().DDIMScheduler
    check_options(config, frozenset(inspect.signature(ddim).parameters))
    try:
        scheduler: Any = ddim.from_config(dict(config), clip_sample=False, thresholding=False)
        levels: Tensor = torch.as_tensor(scheduler.alphas_cumprod).double()
    except (ArithmeticError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"scheduler: its configuration does not make a DDIMScheduler ({error})") from None
    if not ((levels[1:] <= levels[:-1]).all() and (levels >= 0).all() and (levels < 1).all()):
        raise ValueError("scheduler: its betas do not make noise levels that rise from step to step")
    return scheduler


def check_options(config: Mapping[str, Any], own: Collection[str]) -> None:
    """Raise ValueError for a class or an option that a DDIMScheduler, whose options are `own`, cannot follow."""
    if (name := config.get("_class_name", "DDIMScheduler")) not in SOLVERS:
        raise ValueError(f"scheduler: {name} does not walk the noise levels of DDIM; those do: {', '.join(SOLVERS)}")
    for name in ("clip_sample", "thresholding"):
        if config.get(name, False):
            raise ValueError(f"scheduler: {name} is on, and clipped steps have no density; set {name} to false in it")
    for name, value in config.items():
        if name in NEUTRAL_VALUES and value not in NEUTRAL_VALUES[name]:
            allowed = " or ".join(json.dumps(neutral) for neutral in NEUTRAL_VALUES[name])
            raise ValueError(f"scheduler: {name} is {value!r}, which DDIM's steps cannot follow; allowed is {allowed}")
        if not name.startswith("_") and name not in {*own, *SOLVER_OPTIONS, *NEUTRAL_VALUES}:
            raise ValueError(f"scheduler: {name} is {value!r}, an option that DDIM does not have; remove it")
    if (prediction := config.get("prediction_type", "epsilon")) not in PREDICTION_TYPES:
        raise ValueError(f"scheduler: prediction_type {prediction!r}, allowed {', '.join(PREDICTION_TYPES)}")
    if type(count := config.get("num_train_timesteps", 1000)) is not int or not 1 <= count <= MAX_LEVELS:
        raise ValueError(f"scheduler: num_train_timesteps {count!r}, allowed 1 to {MAX_LEVELS}")


def diffusers_chain(config: Mapping[str, Any], num_steps: int, eta: float) -> Chain:
    """Return the chain of `num_steps` network calls that a diffusers pipeline with this scheduler configuration makes.

    Args:
        config: configuration of the checkpoint's scheduler, one of SOLVERS; read as that of a DDIMScheduler.
        num_steps: network calls for each sample, as the pipeline counts them.
        eta: 1 for ancestral sampling.

    Raises:
        ValueError: the scheduler visits other noise levels than DDIM's, samples are clipped on the way, which has no
            Gaussian density, or the chain cannot be stepped along.
    """
    scheduler = as_ddim(config)
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
    return Chain(sampler, schedule, str(scheduler.config.prediction_type), note)
