"""A scorer in a pool of worker processes, as a reward: a sample that hangs or crashes costs its own value only."""

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self

from molrl.machine.workers.local import Workers
from molrl.machine.workers.protocol import Lost, WorkerPool
from molrl.rewards.scores import (
    Scored,
    Scorer,
    Scores,
    Values,
    has_gradient,
    held_out_reward,
    isolated,
    score_safely,
    scores,
    values_of,
)
from molrl.rewards.stored import Stored


@dataclass(frozen=True)
class ScoreTask:
    """The task of scoring one sample, as workers hold it."""

    scorer: Scorer[Any]

    def __call__(self, sample: Any) -> Scored:
        return score_safely(self.scorer, sample)


@dataclass(eq=False)
class Pooled:
    """A reward computed by worker processes; see `Workers` for the settings.

    Attributes:
        scorer: scores one sample (`score_one`), for instance `QED(reader=rdkit_bonds)`.
        workers: a number, or "ray" for those of a Ray cluster (`molrl.rewards.workers.ray`).
        cache: a folder in which values are kept for this run and others (`molrl.rewards.stored`); None: nowhere.
    """

    scorer: Scorer[Any]
    _: KW_ONLY
    workers: int | Literal["ray"]
    timeout: float = 10.0
    chunk: int = 8
    memory: int = 4096
    recycle: int = 20_000
    cache: str | None = None

    def __post_init__(self) -> None:
        if self.cache is not None:
            self.scorer = Stored(self.scorer, self.cache)
        self._pool = make_pool(
            ScoreTask(self.scorer),
            workers=self.workers,
            timeout=self.timeout,
            chunk=self.chunk,
            memory=self.memory,
            recycle=self.recycle,
        )
        self._lock = threading.Lock()
        if self.workers == 0 and (dangerous := isolated(self.scorer)):
            raise ValueError(f"workers: got 0, {dangerous} may end the process that it is in and needs at least 1")

    @property
    def inner(self) -> tuple[Scorer[Any], ...]:
        """Return the scorer that is wrapped."""
        return (self.scorer,)

    @property
    def differentiable(self) -> bool:
        """Tell whether the values of traced samples have a gradient, which the workers compute as well."""
        return has_gradient(self.scorer)

    @cached_property
    def held_out_reward(self) -> Self | None:
        """Return the judge that the scorer brings along, computed by worker processes of its own; None: it has none."""
        judge = held_out_reward(self.scorer)
        return None if judge is None else replace(self, scorer=judge)

    def __call__(self, samples: Sequence[Any]) -> Values:
        """Return one float32 for each sample, with a gradient if these are traced; NaN where one cannot be scored."""
        return values_of(self.scorer, self.score, samples)

    def score(self, samples: Sequence[Any]) -> Scores:
        """Return values and reasons in the order of the samples.

        Raises:
            RuntimeError: a worker could not start, for instance because the scorer cannot be imported there.
        """
        with self._lock:
            return scores_of(self._pool.stream(samples))

    def submit(self, samples: Sequence[Any]) -> Callable[[], Values]:
        """Let the workers begin with a batch, and return a function that waits for the values.

        Several batches may be in progress. Without workers the batch is scored when that function is called.
        """
        with self._lock:
            answers = self._pool.submit(samples)

        def values() -> Values:
            with self._lock:
                return scores_of(answers).tensor()

        return values

    def start(self) -> None:
        """Start the workers and wait until one has imported the scorer, so that a broken set-up fails early."""
        with self._lock:
            self._pool.start()

    def close(self) -> None:
        """End the workers, those of the judge as well; the next batch starts new ones."""
        self._pool.close()
        if (judge := self.__dict__.get("held_out_reward")) is not None:
            judge.close()

    def __enter__(self) -> "Pooled":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def make_pool(task: Callable[[Any], Any], *, workers: int | Literal["ray"], **settings: Any) -> WorkerPool:
    """Make processes for a task, on this machine or on a Ray cluster; see `Workers` for the settings."""
    if workers == "ray":
        from molrl.rewards.workers.ray import RayWorkers

        return RayWorkers(task, **settings)
    return Workers(task, workers=workers, **settings)


def scores_of(answers: Iterable[Any]) -> Scores:
    """Gather the answers of `ScoreTask`; a lost one is NaN with the reason for the loss."""
    return scores(Scored(math.nan, answer.reason) if isinstance(answer, Lost) else answer for answer in answers)
