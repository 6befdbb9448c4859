"""The seconds of a round of fine-tuning, by what they were spent on."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass
class Stopwatch:
    """A sum of the times that the blocks `with stopwatch:` took.

    Attributes:
        seconds: the sum, without a block that is not over.
    """

    seconds: float = 0.0

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds += time.perf_counter() - self._began


def split_seconds(
    rollouts: Mapping[str, float], seconds_reward: float, *, collecting: float, measuring: float, learning: float
) -> dict[str, float]:
    """Return the columns `seconds_*` of a round, which add up to `seconds`.

    Args:
        rollouts: seconds of the rollouts alone: "rollout", "decode" and "reward", see `molrl.task.Rollouts`.
        seconds_reward: of the reward beyond that.
        collecting: seconds of all that the algorithm did before it learned. What is neither of the rollouts nor of the
            reward is the algorithm's own work, `seconds_candidates`.
        measuring: seconds of metrics and checks.
        learning: seconds of the updates.
    """
    reward = rollouts["reward"] + seconds_reward
    return {
        "seconds_rollout": rollouts["rollout"],
        "seconds_decode": rollouts["decode"],
        "seconds_reward": reward,
        "seconds_candidates": collecting - rollouts["rollout"] - rollouts["decode"] - reward,
        "seconds_metrics": measuring,
        "seconds_train": learning,
        "seconds": collecting + measuring + learning,
    }
