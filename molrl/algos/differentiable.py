"""Differentiable rewards: what the methods share that follow the gradient of a reward into the policy.

The samples of a round are decoded from states with a gradient. What a decoder makes discrete is held fixed, as is which
points are nearest; the gradient is that of the reward with these choices.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from molrl.algos.held_out import HeldOut, HeldOutRecord
from molrl.building import target
from molrl.composition import Composition
from molrl.config import ConfigError
from molrl.diversity.shaped_reward import ShapedReward
from molrl.gaussian import Context
from molrl.reward_queue import check_rewards
from molrl.task import Metrics, Rollouts, Task
from molrl.trajectory import select


@dataclass(frozen=True)
class Tails:
    """A table of m chains, each from one of its states on.

    Attributes:
        x: the states [m, ...].
        noise: of the K steps behind each state, standard normal [m, K, ...]; K is 0 where none is replayed.
        step: grid point of x.
        sample: row of `contexts` that the chain belongs to.
        contexts: context of every sample, stored once.
    """

    x: Float[Tensor, "m ..."]
    noise: Float[Tensor, "m steps ..."]
    step: Int[Tensor, " m"]
    sample: Int[Tensor, " m"]
    contexts: Context

    def __len__(self) -> int:
        return len(self.step)

    def __getitem__(self, rows: Tensor) -> "Tails":
        """Return some of the chains."""
        return replace(self, x=self.x[rows], noise=self.noise[rows], step=self.step[rows], sample=self.sample[rows])

    @property
    def context(self) -> Context:
        """Return the context of each row of the table."""
        return select(self.contexts, self.sample)


@dataclass(frozen=True, kw_only=True)
class RewardGradient:
    """A method that differentiates the reward of the task.

    Attributes:
        held_out: a second reward that is measured and never trained on.
    """

    held_out: HeldOut

    def modules(self, task: Task) -> nn.ModuleDict:
        """Return the record of the held-out reward; refuse a task whose reward has no gradient."""
        require_gradient(task)
        return nn.ModuleDict({"held_out": HeldOutRecord()})

    def learning_rate(self, name: str) -> float:
        """Return zero, for there is nothing to learn but the policy."""
        return 0.0

    def held_out_metrics(self, task: Task, modules: nn.ModuleDict, rollouts: Rollouts) -> Metrics:
        """Return the metrics of the held-out reward in this round."""
        trained = task.reward.reward if isinstance(task.reward, ShapedReward) else task.reward
        return self.held_out.metrics(trained, cast(HeldOutRecord, modules["held_out"]), rollouts, task.processes)


def require_gradient(task: Task) -> None:
    """Raise ValueError, which names the rewards that have a gradient, where the task's reward has none."""
    if not getattr(task.reward, "differentiable", False):
        raise ValueError(
            f"reward: that of task {task.name!r} has no gradient, which this algorithm follows; those that have one: "
            f"{', '.join(differentiable_rewards())}; or one of your own with differentiable = True"
        )


def differentiable_rewards() -> list[str]:
    """Return the names of the configured rewards that have a gradient, sorted."""
    import yaml

    command, names = Composition("train"), list[str]()
    for name, option in command.options("reward").items():
        path = command.find(f"reward/{option}")
        settings = {} if path is None else yaml.safe_load(path.read_text("utf-8"))
        classes = list(settings_classes(settings, f"reward={name}"))
        if classes and (
            getattr(classes[0], "differentiable", None) is True
            or any(getattr(one, "has_gradient", None) is True for one in classes)  # of a scorer inside
        ):
            names.append(name)
    return names


def settings_classes(settings: Any, place: str) -> Iterator[Any]:
    """Yield the classes of settings, the outermost first; none of those in a package that is missing."""
    if not isinstance(settings, Mapping):
        return
    if "_target_" in settings:
        try:
            yield target(settings["_target_"], place)
        except ConfigError:
            return
    for inner in settings.values():
        yield from settings_classes(inner, place)


def reward_gradient(
    task: Task, x0: Float[Tensor, "b ..."], context: Context
) -> tuple[Float[Tensor, " b"], Float[Tensor, "b ..."], Bool[Tensor, " b"]]:
    """Return the rewards of clean states, their gradients, and which rows have both; others have zeros.

    Raises:
        ValueError: the reward gives values without a gradient, or not one for each sample.
    """
    with torch.enable_grad():
        leaf = x0.detach().clone().requires_grad_()
        samples: Sequence[Any] = task.decoder.decode(leaf, context)
        values = task.reward(samples)
        rewards = check_rewards(values, len(leaf)).to(leaf)
        if values.requires_grad:
            (gradient,) = torch.autograd.grad(values.sum(), leaf)
        elif rewards.isnan().all():
            gradient = torch.zeros_like(leaf)
        else:
            raise ValueError(f"reward: that of task {task.name!r} gave values without a gradient")
    known = rewards.isfinite() & gradient.flatten(1).isfinite().all(1)
    shape = (-1, *[1] * (leaf.dim() - 1))
    return rewards.where(known, 0), gradient.where(known.view(shape), 0), known


def linearised_reward(
    task: Task, x0: Float[Tensor, "b ..."], context: Context
) -> tuple[Float[Tensor, " b"], Bool[Tensor, " b"]]:
    """Return r + g . (x_0 - sg(x_0)), which has the value and the gradient of the reward, and which rows are known.

    The reward is differentiated by itself. So a row whose reward or gradient is not finite, which has the value zero
    here, does not reach the gradient of the others.
    """
    rewards, gradient, known = reward_gradient(task, x0, context)
    return rewards + ((x0 - x0.detach()) * gradient).flatten(1).sum(1), known


def known_rows(rollouts: Rollouts) -> Int[Tensor, " m"]:
    """Return the rows of this process's samples that have a reward."""
    return (~rollouts.rewards[rollouts.own].isnan()).nonzero().squeeze(1)
