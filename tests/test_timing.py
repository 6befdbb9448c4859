"""The seconds of a round are split without a gap, and what is slow is found in its own column."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_finetune import ALGORITHMS, finetuning
from toy import number_task, quadratic

from molrl.algos import Algorithm
from molrl.finetune import finetune, freeze_copy
from molrl.oracle.linear_gaussian import Points
from molrl.task import Metrics, Task
from molrl.timing import Stopwatch, split_seconds

PARTS = ("rollout", "decode", "reward", "candidates", "metrics", "train")


class Clock:
    """A clock that stands still but in the functions that it slows."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def slow(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, which now takes a second."""

        def slowed(*args: Any) -> Any:
            self.now += 1.0
            return function(*args)

        return slowed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that all times of the test are read from."""
    still = Clock()
    monkeypatch.setattr(time, "perf_counter", still)
    return still


def first_round(task: Task, algorithm: Algorithm) -> Metrics:
    """Return the metrics of one round."""
    seen: list[Metrics] = []
    finetune(finetuning(iterations=1), task, algorithm, freeze_copy(task.policy), None, seen.append)
    return seen[0]


def shares(row: Metrics) -> dict[str, float]:
    """Return the seconds of the parts that took some."""
    return {part: seconds for part in PARTS if (seconds := row[f"seconds_{part}"])}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_parts_of_a_round_add_up_to_the_whole(name: str) -> None:
    began = time.perf_counter()
    row = first_round(number_task(), ALGORITHMS[name])
    parts = [row[f"seconds_{part}"] for part in PARTS]
    assert all(seconds >= 0 for seconds in parts)
    assert math.fsum(parts) == pytest.approx(row["seconds"], rel=1e-9)
    assert 0 < row["seconds"] < time.perf_counter() - began


@pytest.mark.parametrize(
    ("part", "method"), [("rollout", "draw_context"), ("decode", "decode"), ("metrics", "measure")]
)
def test_what_a_decoder_does_slowly_is_found_in_its_own_column(part: str, method: str, clock: Clock) -> None:
    decoder = Points()
    object.__setattr__(decoder, method, clock.slow(getattr(decoder, method)))
    row = first_round(replace(number_task(), decoder=decoder), ALGORITHMS["DDPO"])
    assert shares(row) == {part: 1.0}
    assert row["seconds"] == 1.0


def test_rewards_count_as_such_in_rollouts_and_among_candidates(clock: Clock) -> None:
    slow = replace(number_task(), reward=clock.slow(quadratic))
    assert shares(first_round(slow, ALGORITHMS["DDPO"])) == {"reward": 1.0}
    assert shares(first_round(slow, ALGORITHMS["RGDM"])) == {"reward": 2.0}


def test_what_an_algorithm_does_before_it_learns_and_its_loss_have_columns(clock: Clock) -> None:
    slow = replace(ALGORITHMS["DDPO"])  # type: ignore[type-var]
    object.__setattr__(slow, "collect", clock.slow(slow.collect))
    assert shares(first_round(number_task(), slow)) == {"candidates": 1.0}
    object.__setattr__(slow, "loss", clock.slow(slow.loss))
    row = first_round(number_task(), slow)
    assert shares(row) == {"candidates": 1.0, "train": row["updates"]}


def test_the_columns_follow_from_what_was_measured() -> None:
    """`collect` took 10 s: 3 of sampling, 1 of decoding, 2 + 1.5 of rewards, and so 2.5 of the algorithm itself."""
    rollouts = {"rollout": 3.0, "decode": 1.0, "reward": 2.0}
    assert split_seconds(rollouts, 1.5, collecting=10.0, measuring=0.25, learning=4.0) == {
        "seconds_rollout": 3.0,
        "seconds_decode": 1.0,
        "seconds_reward": 3.5,
        "seconds_candidates": 2.5,
        "seconds_metrics": 0.25,
        "seconds_train": 4.0,
        "seconds": 14.25,
    }


def test_a_stopwatch_counts_its_blocks_also_those_that_fail(clock: Clock) -> None:
    watch, wait = Stopwatch(), clock.slow(torch.zeros)
    with watch:
        wait(1)
    wait(1)
    assert watch.seconds == 1.0
    with pytest.raises(RuntimeError, match="negative"), watch:
        wait(-1)
    assert watch.seconds == 2.0
