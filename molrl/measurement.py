"""The measurement of a policy on fresh samples: what a run is judged by, before and after training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from molrl.diagnostics import chain_kl, probe_rollouts
from molrl.noise import Key
from molrl.policy import Policy
from molrl.progress import stage
from molrl.runs.report.sheet import FOLDER, write_sheet
from molrl.task import SampleDecoder, Task

BATCH = 256
PREVIEW_COUNT = 12  # samples that are shown in the report


@dataclass(frozen=True)
class Measurement:
    """A policy, measured on fresh samples.

    Attributes:
        n: number of samples.
        reward_mean: of those that could be scored; NaN where none could.
        reward_sem: standard error of that mean.
        metrics: held-out metrics of the domain.
        kl: of whole chains to the reference, nats.
        lost: number of samples without a reward.
        preview: the first samples, not the best ones, with their rewards.
    """

    n: int
    reward_mean: float
    reward_sem: float
    metrics: Mapping[str, float]
    kl: float
    lost: int
    preview: Sequence[tuple[Any, float]]

    def numbers(self) -> dict[str, float | None]:
        """Return the figures for a summary; what is not a number is None."""
        mean = {"n": self.n, "lost": self.lost, "reward_mean": self.reward_mean, "reward_sem": self.reward_sem}
        return {name: none_if_nan(value) for name, value in {**mean, **self.metrics, "kl": self.kl}.items()}

    def line(self, labels: Mapping[str, str], since: "Measurement | None" = None) -> str:
        """Return the reward and the metrics that have a label, as one line.

        Args:
            labels: metric -> label.
            since: an earlier measurement; the change of each figure since then is added in brackets.
        """
        shown = [f"reward {self.reward_mean:.4f} +- {self.reward_sem:.4f}{self.change(since, 'reward', 4)}"]
        shown += [
            f"{label} {self.metrics[name]:.3f}{self.change(since, name, 3)}"
            for name, label in labels.items()
            if name in self.metrics
        ]
        scored = f"{self.n - self.lost} scored of " if self.lost else ""
        return f"{', '.join(shown)} ({scored}n = {self.n})"

    def change(self, since: "Measurement | None", name: str, digits: int) -> str:
        """Return the change of a figure in brackets; nothing without an earlier measurement of it."""
        difference = math.nan if since is None else self.metric(name) - since.metric(name)
        return "" if math.isnan(difference) else f" ({difference:+.{digits}f})"

    def metric(self, name: str) -> float:
        """Return a figure by the name that it has in the metrics of a round; NaN where it is not measured."""
        return self.reward_mean if name == "reward" else {**self.metrics, "kl": self.kl}.get(name, math.nan)

    def captioned(self) -> tuple[Sequence[Any], list[str]]:
        """Return the samples of the preview and their rewards as captions."""
        return [sample for sample, _ in self.preview], [f"{reward:.3g}" for _, reward in self.preview]


def measure(task: Task, reference: Policy, folder: Path | None, when: str, *, count: int, key: Key) -> Measurement:
    """Draw fresh samples, write them, and measure what they are worth and how far from the reference.

    Args:
        task: with the policy to measure, and a decoder that also writes.
        reference: the policy before training.
        folder: of the run, in whose `samples` the main process writes; None: they are not written.
        when: "before" or "after", or what else the progress lines call it.
        count: number of samples.
        key: of their noise: before and after are measured on the same.
    """
    decoder = cast(SampleDecoder, task.decoder)
    samples: list[Any] = []
    rewards, kls = list[float](), list[float]()
    with stage(f"{when}: samples measured", count) as advance:
        for start in range(0, count, BATCH):
            rollouts = task.rollout(list(range(start, min(start + BATCH, count))), key)
            samples.extend(rollouts.samples)
            rewards.extend(rollouts.rewards.tolist())
            kls.append(chain_kl(task.policy, reference, probe_rollouts(rollouts), task.processes))
            advance(len(rollouts.rewards))
    if folder is not None and task.processes.is_main:
        path = folder / "samples" / f"{when}{decoder.suffixes[0]}"
        path.parent.mkdir(exist_ok=True)
        decoder.write(samples, path, {"reward": rewards})
        write_sheet(folder / FOLDER / f"{when}.json", samples, rewards, decoder, task.reward)
    scored = np.array([reward for reward in rewards if not math.isnan(reward)])
    with stage(f"{when}: metrics of the samples"):
        metrics = decoder.assess(samples)
    return Measurement(
        n=count,
        reward_mean=float(scored.mean()) if len(scored) else math.nan,
        reward_sem=float(scored.std(ddof=1)) / math.sqrt(len(scored)) if len(scored) > 1 else math.nan,
        metrics=metrics,
        kl=sum(kls) / len(kls),
        lost=count - len(scored),
        preview=list(zip(samples[:PREVIEW_COUNT], rewards[:PREVIEW_COUNT], strict=True)),
    )


def none_if_nan(value: float) -> float | None:
    """Return a number, or None for what is not one."""
    return None if isinstance(value, float) and math.isnan(value) else value
