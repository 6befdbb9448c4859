"""The chain of a flow-matching scheduler as a sampler: its own times, as the SDE of `molrl.flow.FlowSDE`.

The pipeline's last step, from the smallest time of the grid to 0, has no noise: it is no part of the policy and is done
when an image is finished. With eta = 0 the chain draws the pipeline's own images.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from molrl.flow import FlowSDE
from molrl.gaussian import Euclidean
from molrl.models.images.diffusers_library import diffusers
from molrl.models.images.families.family import Family
from molrl.models.images.scheduler_chain import GivenTimes

SCHEDULER = "FlowMatchEulerDiscreteScheduler"
REFUSED = {
    "invert_sigmas": "times that rise are not those of a reverse process",
    "stochastic_sampling": "its steps draw a new noise for all of the state, which is no Gaussian with this mean",
}
Discretisation = Literal["euler", "ancestral"]


def flow_scheduler(config: Mapping[str, Any]) -> Any:
    """Return the scheduler of a configuration.

    Raises:
        ValueError: it is of another class, or has an option that the SDE cannot follow; none is dropped.
    """
    scheduler: Any = getattr(diffusers(), SCHEDULER)
    if (name := config.get("_class_name", SCHEDULER)) != SCHEDULER:
        raise ValueError(f"scheduler: {name} is not supported for flow matching; {SCHEDULER} is")
    own = inspect.signature(scheduler).parameters
    for option, value in config.items():
        if option in REFUSED and value:
            raise ValueError(f"scheduler: {option} is on, and {REFUSED[option]}; set {option} to false in it")
        if not option.startswith("_") and option not in own:
            raise ValueError(f"scheduler: {option} is {value!r}, an option that {SCHEDULER} does not have; remove it")
    try:
        return scheduler.from_config(dict(config))
    except (ArithmeticError, AttributeError, ImportError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"scheduler: its configuration does not make a {SCHEDULER} ({error})") from None


def flow_chain(
    config: Mapping[str, Any],
    family: Family,
    shape: Sequence[int],
    *,
    num_steps: int,
    eta: float,
    discretisation: Discretisation,
) -> FlowSDE:
    """Return the chain of `num_steps` network calls that a pipeline of a family makes for latents of this shape.

    Raises:
        ValueError: the scheduler cannot be followed, or there are fewer than two steps.
    """
    if num_steps < 2:
        raise ValueError(f"num_steps: got {num_steps}, and the last step of a flow has no noise; need at least 2")
    scheduler = flow_scheduler(config)
    shift = {"mu": family.mu(config, family.tokens(shape), num_steps)} if config.get("use_dynamic_shifting") else {}
    sigmas = family.sigmas(num_steps)
    scheduler.set_timesteps(**({"num_inference_steps": num_steps} if sigmas is None else {"sigmas": sigmas}), **shift)
    times = torch.as_tensor(scheduler.sigmas)[:-1].double().cpu()
    return FlowSDE(
        num_steps=num_steps - 1, space=Euclidean(), eta=eta, discretisation=discretisation, grid=GivenTimes(times)
    )
