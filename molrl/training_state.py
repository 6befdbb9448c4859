"""The state of a fine-tuning run between two rounds, with its checkpoints."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from molrl.advantages import reserve_rows
from molrl.ahead import RecordedWeights
from molrl.algos import Learner
from molrl.diversity.shaped_reward import ShapedReward
from molrl.policy import Policy
from molrl.runs import checkpoint
from molrl.runs.checkpoints import CHECKPOINTS, CheckpointPolicy, Series, as_checkpoint_error
from molrl.runs.snapshot import (
    RANDOM,
    collect_flags,
    describe_platform,
    random_tensors,
    random_values,
    restore_flags,
    restore_random,
    warn_of_another_platform,
)
from molrl.trainable_parameters import trainable_module

CANDIDATES = 3  # checkpoints that are kept because one of them may be the best

Candidates = list[tuple[int, float]]
"""The rounds behind some checkpoints and what the round that sampled with each says of it, the best first."""


def read_candidates(values: Mapping[str, Any]) -> Candidates:
    """Return the candidates that a checkpoint names; an older version of molrl named one, or none."""
    best = values["progress"]["best"] or []
    pairs = best if all(isinstance(pair, list) for pair in best) else [best]
    return [(int(step), float(value)) for step, value in pairs]


class TrainingError(RuntimeError):
    """An error that stops training; its message says why in one line."""


@dataclass
class State:
    """Everything that changes from round to round; random numbers are keyed by the round and need no state.

    Attributes:
        learner: holds the modules in training.
        optimizer: of their parameters.
        keep: which checkpoints stay.
        best: the best checkpoints so far, at most `CANDIDATES`.
        saved: number of rounds behind the last checkpoint.
        rate_factor: of the policy's learning rate, by its KL (`molrl.kl_budget`).
        recorded: weights that rounds ahead were drawn with (`molrl.ahead`); None: no round is drawn ahead.
    """

    learner: Learner
    optimizer: torch.optim.Optimizer
    keep: CheckpointPolicy
    best: Candidates = field(default_factory=list)
    saved: int = 0
    rate_factor: float = 1.0
    recorded: RecordedWeights | None = None

    @property
    def modules(self) -> dict[str, nn.Module]:
        """Return the modules with a state, by the name of their checkpoint file."""
        modules = {"denoiser": trainable_module(self.learner.policy), "algorithm": self.learner.modules}
        if isinstance(reward := self.learner.task.reward, ShapedReward):
            modules["diversity"] = reward.diversity
        if self.recorded is not None:
            modules["ahead"] = self.recorded
        return {name: module for name, module in modules.items() if module.state_dict()}

    @property
    def parameter_names(self) -> dict[Tensor, str]:
        """Return the name of every parameter, as checkpoints spell it."""
        return {p: f"{part}.{name}" for part, module in self.modules.items() for name, p in module.named_parameters()}

    def track_best(self, iteration: int, behaviour: Policy, metrics: Mapping[str, float]) -> None:
        """Compare the checkpoint that a round sampled with, if any, with the best ones so far.

        Args:
            iteration: number of the round, from 0.
            behaviour: the policy that made its rollouts.
            metrics: of the round; they describe the weights before it, those of the last checkpoint.

        Raises:
            TrainingError: there is no such metric as `keep.best`.
        """
        if self.keep.best not in metrics:
            raise TrainingError(f"keep.best={self.keep.best}: no such metric; there are {', '.join(sorted(metrics))}")
        value = metrics[self.keep.best]
        of_weights = behaviour.denoiser is self.learner.policy.denoiser
        from_checkpoint = of_weights and self.saved == iteration > 0
        if from_checkpoint and not math.isnan(value):
            place = sum(not self.keep.improves(value, other) for _, other in self.best)
            self.best = [*self.best[:place], (iteration, value), *self.best[place:]][:CANDIDATES]

    def save(self, folder: Path, iteration: int) -> None:
        """Write the checkpoint after `iteration` rounds.

        Raises:
            TrainingError: a weight is not finite.
        """
        names = self.parameter_names
        broken = [name for parameter, name in names.items() if not parameter.isfinite().all()]
        if broken:
            raise TrainingError(f"weights hold NaN or infinity and are not kept: {', '.join(broken)}")
        tensors = {name: module.state_dict() for name, module in self.modules.items()}
        tensors["optimizer"] = checkpoint.optimizer_tensors(self.optimizer, names)
        tensors[RANDOM] = random_tensors()
        values = {
            "progress": {"iteration": iteration, "best": self.best, "rate_factor": self.rate_factor},
            "flags": collect_flags(self.modules),
            "layout": describe_platform(self.learner.task.device),
            RANDOM: random_values(),
        }
        self.series(folder).save(iteration, tensors, values, [step for step, _ in self.best])
        self.saved = iteration

    def restore(self, folder: Path) -> int:
        """Load the last checkpoint of a folder, if there is one, and return the number of rounds behind it."""
        last = self.series(folder).latest()
        if last is None:
            return 0
        with as_checkpoint_error(folder / CHECKPOINTS):
            for name, module in self.modules.items():
                saved = last.tensors.get(name, {})
                reserve_rows(module, saved)
                checkpoint.check_fits(module.state_dict(), saved, f"the {name} of this run")
                module.load_state_dict(last.tensors[name])
            checkpoint.load_optimizer(self.optimizer, self.parameter_names, last.tensors["optimizer"])
            restore_flags(self.modules, last.values["flags"])
            restore_random(last.tensors[RANDOM], last.values[RANDOM])
            warn_of_another_platform(last.values["layout"], describe_platform(self.learner.task.device))
            self.best = read_candidates(last.values)
            self.rate_factor = float(last.values["progress"].get("rate_factor", 1.0))
        self.saved = last.step
        return last.step

    def series(self, folder: Path) -> Series:
        """Return the checkpoints of a run folder."""
        return Series(folder / CHECKPOINTS, self.keep.newest)
