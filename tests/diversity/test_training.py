"""Runs that keep variety: algorithms learn from shaped rewards, report plain ones, and go on bit for bit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_finetune import ALGORITHMS, finetuning, untimed, weights
from test_resume import ask_after, last_files
from torch import Tensor
from torch.testing import assert_close
from toy import lifted, number_task

from molrl.algos.rgdm import RGDM
from molrl.diversity import Diversity
from molrl.diversity.buckets import BucketPenalty
from molrl.diversity.fitting import fit_to_task, measure_reference
from molrl.diversity.frequencies import InverseFrequency
from molrl.diversity.shaped_reward import ShapedReward
from molrl.finetune import finetune, freeze_copy
from molrl.noise import Key
from molrl.oracle.linear_gaussian import Points
from molrl.runs.checkpoints import COMPLETE
from molrl.task import Metrics, Task

ROUNDS, STOPPED = 3, 1
LOOP: dict[str, Any] = {"iterations": ROUNDS, "rollouts": 8, "epochs": 2, "save_every": ROUNDS}


@dataclass(frozen=True)
class Halves(Points):
    """A decoder of numbers whose bucket is the half that each lies in, to one digit."""

    descriptors = ("bucket",)

    def describe(self, samples: Sequence[Tensor]) -> list[Mapping[str, str]]:
        return [{"bucket": f"{float(sample.detach()[0]):.0f}"} for sample in samples]


def diversity() -> Diversity:
    frequency = InverseFrequency(["bucket"], "reference", reference_samples=32, strength=1.0, decay=0.5, cap=3.0)
    return Diversity(None, BucketPenalty("bucket", 20.0, 0.5), frequency)


def task() -> Task:
    return replace(number_task(lifted), decoder=Halves())


def run(
    name: str, folder: Path | None = None, should_stop: Any = lambda: False, kept: Diversity | None = None
) -> tuple[list[Metrics], dict[str, Tensor]]:
    seen, mine = list[Metrics](), task()
    reference = freeze_copy(number_task().policy)
    kept = kept or diversity()
    finetune(finetuning(**LOOP), mine, ALGORITHMS[name], reference, folder, seen.append, should_stop, diversity=kept)
    return untimed(seen), weights(mine)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_run_that_was_stopped_comes_to_the_same_memory_and_weights(name: str, tmp_path: Path) -> None:
    expected, _ = run(name, tmp_path / "whole")
    answers = ask_after(STOPPED)
    first, _ = run(name, tmp_path / "halves", lambda: next(answers))
    second, _ = run(name, tmp_path / "halves")
    assert [*first, *second] == expected
    whole, halves = last_files(tmp_path / "whole"), last_files(tmp_path / "halves")
    assert any("diversity" in file for file in whole)
    for file in whole.keys() - {"progress.json", "manifest.json", COMPLETE}:
        assert halves[file] == whole[file], file


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_learns_from_shaped_rewards_and_reports_plain_ones(name: str) -> None:
    """The first round has the same samples; only what is learned from them differs."""
    shaped, learned = run(name)
    plain, mine = list[Metrics](), task()
    finetune(finetuning(**LOOP), mine, ALGORITHMS[name], freeze_copy(number_task().policy), None, plain.append)
    assert shaped[0]["reward"] == plain[0]["reward"]
    assert shaped[0]["reward_shaped"] != shaped[0]["reward"]
    assert any(not torch.equal(learned[key], value) for key, value in weights(mine).items())


def test_candidates_and_gradients_see_the_shaped_reward() -> None:
    """With a bucket for everything that is all but full, what a pull sees is all but flat."""
    full = Diversity(0.0, BucketPenalty("all", 1.0, 1.0), None)

    class Same(Halves):
        descriptors = ("all",)

        def describe(self, samples: Sequence[Tensor]) -> list[Mapping[str, str]]:
            return [{"all": "one"}] * len(samples)

    algorithm = ALGORITHMS["RGDM"]
    assert isinstance(algorithm, RGDM)
    for guidance in ("candidates", "gradient"):
        seen = list[Metrics]()
        mine = replace(number_task(lifted), decoder=Same())
        one = replace(algorithm, guidance=guidance)
        finetune(finetuning(**LOOP), mine, one, freeze_copy(mine.policy), None, seen.append, diversity=full)
        assert all(row["reward_shaped"] < 1e-6 for row in seen)
        assert all(row["reward"] > 1 for row in seen)
        if guidance == "candidates":
            assert all(row["payoff_reward"] < 1e-6 for row in seen)


def test_the_memory_of_a_run_is_its_own() -> None:
    kept = diversity()
    run("DDPO", kept=kept)
    assert kept.penalty is not None
    assert len(kept.penalty.counts) == 0


def test_the_shares_of_the_reference_are_those_of_its_samples() -> None:
    mine = fit_to_task(task(), diversity())
    assert isinstance(mine.reward, ShapedReward)
    measure_reference(mine, mine.policy, Key(0, -1))
    frequency = mine.reward.diversity.frequency
    assert frequency is not None
    drawn = task().rollout(range(32), Key(0, -1)).samples
    texts = [sample["bucket"] for sample in Halves().describe(drawn)]
    wanted = frequency.wanted[0]
    assert wanted.of(["0", "1", "2"]).tolist() == [texts.count(text) for text in "012"]  # type: ignore[operator]


def test_a_domain_without_the_descriptor_is_refused() -> None:
    with pytest.raises(ValueError, match="'numbers' has no descriptor bucket; known are none"):
        fit_to_task(number_task(), diversity())


def test_rollouts_for_a_measurement_are_plain() -> None:
    drawn = task().rollout(range(4), Key(0))
    assert drawn.unshaped is None
    assert_close(drawn.scores, drawn.rewards)
