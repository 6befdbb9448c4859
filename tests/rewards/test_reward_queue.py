"""A reward is worked on while other samples are drawn, and no value depends on it."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_finetune import ALGORITHMS, run, untimed, weights
from torch import Tensor
from torch.testing import assert_close
from toy import lifted, number_task, quadratic

from molrl.algos import Learner
from molrl.building import build
from molrl.composition import compose
from molrl.noise import Key
from molrl.oracle.linear_gaussian import Points
from molrl.reward_queue import MIN_PART_NUMBERS, PART_ROWS, RewardQueue, parts
from molrl.rewards.workers.pooled import Pooled
from molrl.task import Task

KEY = Key(3)
CPU = torch.device("cpu")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split the toy's batches into parts of `PART_ROWS` rows, though its states are a few numbers."""
    monkeypatch.setattr("molrl.reward_queue.MIN_PART_NUMBERS", 0)


@dataclass
class Handed:
    """A reward that is handed samples, and writes down what happens when."""

    reward: Callable[[Sequence[Any]], Tensor]
    events: list[str] = field(default_factory=list)

    def __call__(self, samples: Sequence[Any]) -> Tensor:
        raise AssertionError("asked about everything at once")

    def submit(self, samples: Sequence[Any]) -> Callable[[], Tensor]:
        self.events.append("handed out")

        def values() -> Tensor:
            self.events.append("waited for")
            return self.reward(samples)

        return values


@dataclass(frozen=True)
class Watched(Points):
    """Points whose domain writes down when samples are finished."""

    events: list[str] = field(default_factory=list)

    def decode(self, x0: Tensor, context: Any) -> Sequence[Any]:
        self.events.append(f"{len(x0)} drawn")
        return super().decode(x0, context)


@pytest.mark.usefixtures("small_parts")
def test_each_part_is_handed_out_before_the_next_is_drawn_and_waited_for_at_the_end() -> None:
    reward = Handed(quadratic)
    task = replace(number_task(), reward=reward, decoder=Watched(events=reward.events))
    task.rollout(range(2 * PART_ROWS + 3), KEY)
    drawn = [f"{size} drawn" for size in (PART_ROWS, PART_ROWS, 3)]
    assert reward.events == [event for size in drawn for event in (size, "handed out")] + ["waited for"] * 3


def test_a_plain_reward_is_asked_once_about_everything() -> None:
    asked: list[int] = []

    def reward(samples: Sequence[Any]) -> Tensor:
        asked.append(len(samples))
        return quadratic(samples)

    replace(number_task(), reward=reward).rollout(range(100), KEY)
    assert asked == [100]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("name", sorted(ALGORITHMS.keys() - {"DRaFT", "ReFL", "Adjoint"}))  # these follow its gradient
def test_a_run_is_the_same_whether_its_reward_is_handed_out_or_asked(name: str) -> None:
    plain, handed = number_task(lifted), number_task()
    reward = Handed(lifted)
    reward.differentiable = True  # type: ignore[attr-defined]
    handed = replace(handed, reward=reward)
    assert untimed(run(plain, ALGORITHMS[name], rollouts=80)) == untimed(run(handed, ALGORITHMS[name], rollouts=80))
    assert_close(weights(handed), weights(plain), rtol=0, atol=0)


@pytest.mark.usefixtures("small_parts")
def test_a_rollout_does_not_depend_on_the_parts_it_is_drawn_in(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for size in (PART_ROWS, 7, 1000):
        monkeypatch.setattr("molrl.reward_queue.PART_ROWS", size)
        rollouts = number_task().rollout(range(100), KEY)
        found.append((rollouts.trajectory.states, rollouts.trajectory.log_prob, rollouts.rewards))
    for other in found[1:]:
        assert_close(other, found[0], rtol=0, atol=0)


def test_molecules_and_their_rewards_are_those_of_one_large_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose("train", ["policy.num_steps=4", "reward.workers=1"])
    reward = build(config["reward"], "reward")
    assert isinstance(reward, Pooled)
    policy = build(config["policy"], "policy")
    task: Task = build(config["task"], "task", policy=policy, device=CPU, reward=reward)
    with reward:
        handed = task.rollout(range(2 * PART_ROWS), KEY)
    monkeypatch.setattr("molrl.reward_queue.PART_ROWS", 2 * PART_ROWS)
    whole = replace(task, reward=Pooled(reward.scorer, workers=0)).rollout(range(2 * PART_ROWS), KEY)
    assert_close(handed.trajectory.states, whole.trajectory.states, rtol=0, atol=1e-3)
    assert [len(sample) for sample in handed.samples] == [len(sample) for sample in whole.samples]
    assert_close(handed.rewards, whole.rewards, equal_nan=True)


@pytest.mark.usefixtures("small_parts")
def test_the_candidates_of_reward_guided_training_are_handed_out_in_parts() -> None:
    reward = Handed(quadratic)
    task = replace(number_task(), reward=reward)
    ALGORITHMS["RGDM"].collect(Learner(task, task.policy), list(range(40)), KEY)
    handed, rollout = reward.events.count("handed out"), 2
    assert handed == rollout + 2 * (40 * 4 // PART_ROWS)  # candidates of four states of each sample


def test_seconds_of_a_reward_are_those_that_it_was_waited_for() -> None:
    queue = RewardQueue(Handed(quadratic))
    queue.submit(list(torch.zeros(3, 1)))
    before = queue.seconds
    torch.linspace(0, 1, 10**6).sin()
    assert queue.seconds == before
    assert queue.results().shape == (3,)
    assert queue.seconds > before


def sizes(count: int, numbers: int) -> list[int]:
    return [part.stop - part.start for part in parts(count, numbers, CPU)]


def test_an_accelerator_is_given_everything_at_once() -> None:
    assert list(parts(100, 100, torch.device("cuda"))) == [slice(0, 100)]
    assert sizes(2 * PART_ROWS + 1, MIN_PART_NUMBERS) == [PART_ROWS, PART_ROWS, 1]


def test_states_of_a_few_numbers_come_in_larger_parts() -> None:
    assert sizes(2 * MIN_PART_NUMBERS + 5, 1) == [MIN_PART_NUMBERS, MIN_PART_NUMBERS, 5]
    assert all(size % PART_ROWS == 0 for size in sizes(3840, 7)[:-1])


def test_ctrl_c_while_rewards_are_out_leaves_no_process(tmp_path: Path) -> None:
    script = """
import multiprocessing, os, signal, time
import molrl.reward_queue
from dataclasses import replace
from faulty_scorers import Faulty
from molrl.noise import Key
from molrl.rewards.workers.pooled import Pooled
from molrl.task import open_reward
from toy import number_task
from molrl.oracle.linear_gaussian import Points

class Interrupted(Points):
    def decode(self, x0, context):
        if len(x0) < 32:
            os.kill(os.getpid(), signal.SIGINT)
        return ["hang"] * len(x0)

if __name__ == "__main__":
    molrl.reward_queue.MIN_PART_NUMBERS = 0
    task = replace(number_task(), reward=Pooled(Faulty(), workers=2, timeout=60.0), decoder=Interrupted())
    began = time.monotonic()
    try:
        with open_reward(task.reward):
            began = time.monotonic()
            task.rollout(range(40), Key(0))
    except KeyboardInterrupt:
        print("alive", len(multiprocessing.active_children()), time.monotonic() - began < 30)
"""
    (tmp_path / "script.py").write_text(script, "utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "alive 0 True\n"
