"""The best model is the one that is best on fresh samples, whatever a lucky round said of another."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from test_finetune import ALGORITHMS, finetuning
from torch import Tensor, nn
from toy import number_task

from molrl.best import BEST, BestModel
from molrl.finetune import build_state, freeze_copy
from molrl.measurement import Measurement, measure
from molrl.noise import Key, Stream
from molrl.oracle.linear_gaussian import Points
from molrl.runs.checkpoints import CHECKPOINTS, CheckpointPolicy, Series
from molrl.task import Task
from molrl.trainable_parameters import trainable_module
from molrl.training_state import Candidates

WORTH = {1: 0.0, 2: 1.0, 3: 0.3}  # shift of all means of the chain, in stds, after so many rounds
COUNT, SEED = 64, 5


class Kept(Points):
    """Numbers whose mean is their own metric, and whose models are kept."""

    suffixes = (".txt",)

    def assess(self, samples: Sequence[Tensor]) -> dict[str, float]:
        return {"mean": torch.cat(list(samples)).mean().item()}

    def save(self, denoiser: nn.Module, folder: Path) -> None:
        folder.mkdir()
        torch.save(denoiser.state_dict(), folder / "model.pt")


def identity(samples: Sequence[Any]) -> Tensor:
    return torch.cat(list(samples))


def trained(folder: Path, said: Candidates, best: str, *, highest: bool = True) -> tuple[BestModel, Measurement]:
    """Return a run of three rounds with the weights of `WORTH`, of which the rounds said what they said."""
    base = number_task(identity)
    task = Task("numbers", base.policy, Kept(), identity)
    reference, keep = freeze_copy(task.policy), CheckpointPolicy(newest=1, best=best, highest=highest)
    state = build_state(finetuning(keep=keep), task, ALGORITHMS["RWR"], reference)
    state.best = said
    for step, shift in WORTH.items():
        with torch.no_grad():
            trainable_module(task.policy).get_parameter("shift").fill_(shift)
        state.save(folder, step)
    after = measure(task, reference, None, "after", count=COUNT, key=Key(SEED, Stream.MEASUREMENT))
    return BestModel(task, reference, Series(folder / CHECKPOINTS, 1), keep, COUNT, SEED), after


def worth(model: BestModel, step: int, stream: Stream) -> float:
    """Return the mean of fresh samples after so many rounds."""
    model.load(step)
    return model.task.rollout(range(COUNT), Key(SEED, stream)).rewards.mean().item()


@pytest.mark.parametrize("metric", ["reward", "mean"])
def test_a_lucky_round_is_not_believed(metric: str, tmp_path: Path) -> None:
    """Chosen on noise of its own, and reported on that of before and after, which chose nothing."""
    model, after = trained(tmp_path, [(1, 9.0), (2, 0.7)], metric)
    found = model.save(after)
    assert found is not None
    assert (found["iteration"], found["metric"]) == (2, metric)
    reported, chosen_by = (worth(model, 2, stream) for stream in (Stream.MEASUREMENT, Stream.SELECTION))
    assert found["value"] == pytest.approx(reported, abs=1e-6)
    assert abs(reported - chosen_by) > 1e-3
    saved = torch.load(tmp_path / BEST / "model.pt", weights_only=True)
    assert saved["shift"].unique().tolist() == [WORTH[2]]


def test_where_lower_is_better_the_lowest_is_chosen(tmp_path: Path) -> None:
    model, after = trained(tmp_path, [(2, -9.0), (1, 0.1)], "reward", highest=False)
    found = model.save(after)
    assert found is not None
    assert found["iteration"] == 1


def test_the_last_weights_are_a_candidate_and_keep_their_measurement(tmp_path: Path) -> None:
    model, after = trained(tmp_path, [(1, 9.0)], "reward")
    assert model.save(after) == {"iteration": 3, "metric": "reward", "value": after.reward_mean}


def test_a_metric_of_rounds_alone_is_taken_from_them(tmp_path: Path) -> None:
    model, after = trained(tmp_path, [(1, 9.0), (2, 0.7)], "payoff_reward")
    assert model.save(after) == {"iteration": 1, "metric": "payoff_reward", "value": 9.0}


@pytest.mark.parametrize(("said", "expected"), [([(2, 0.7)], 2), ([], None)])
def test_an_interrupted_run_keeps_what_its_rounds_praise(
    said: Candidates, expected: int | None, tmp_path: Path
) -> None:
    model, _ = trained(tmp_path, said, "reward")
    found = model.save(None)
    assert (found["iteration"] if found else None) == expected


def test_a_lost_candidate_is_told_of_and_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, after = trained(tmp_path, [(2, 0.7), (1, 0.1)], "reward")
    (model.series.path(2) / "denoiser.safetensors").write_bytes(b"")
    found = model.save(after)
    assert found is not None
    assert found["iteration"] == 3
    assert not math.isnan(found["value"])
    assert "a checkpoint that may be the best is lost" in capsys.readouterr().err
