"""A run that was stopped goes on to what it would have been, bit for bit."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_finetune import ALGORITHMS, Forgetful, finetuning, run, untimed
from torch import Tensor
from toy import lifted, number_task, quadratic, unheard

from molrl.composition import choices
from molrl.finetune import finetune, freeze_copy
from molrl.oracle.linear_gaussian import Points, Values, make_sampler
from molrl.policy import Policy
from molrl.runs.checkpoints import CHECKPOINTS, COMPLETE, CheckpointPolicy, Series
from molrl.runs.errors import CheckpointError
from molrl.task import Metrics, Task
from molrl.trainable_parameters import trainable_module
from molrl.training_state import TrainingError, read_candidates

ROUNDS = 4


def ask_after(rounds: int) -> Iterator[bool]:
    """Yield the answers of `should_stop`: True after the last of so many rounds."""
    yield from [False] * (rounds - 1)
    yield True


def stopped(task: Task, name: str, folder: Path, rounds: int) -> list[Metrics]:
    """Return the rows of a run that is stopped when no checkpoint is due."""
    seen: list[Metrics] = []
    answers = ask_after(rounds)
    settings = finetuning(iterations=ROUNDS, rollouts=8, epochs=2, save_every=ROUNDS)
    start = number_task().policy
    finetune(settings, task, ALGORITHMS[name], freeze_copy(start), folder, seen.append, lambda: next(answers))
    return seen


def last_files(folder: Path) -> dict[str, bytes]:
    """Read the last checkpoint of a run: weights, modules, moments, generators, flags, the best so far."""
    series = Series(folder / CHECKPOINTS)
    return {path.name: path.read_bytes() for path in series.path(series.steps()[-1]).iterdir()}


def test_every_algorithm_that_can_be_chosen_is_tried() -> None:
    of_the_package = {type(algorithm).__name__ for algorithm in ALGORITHMS.values()}
    presets = {
        text for name in choices("algo") for text in (f"{name}_sd", f"flow_{name}")
    }  # other numbers, the same algorithms
    assert len(of_the_package) == len({*choices("algo")} - presets)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_stopped_after_any_round_it_comes_to_the_same_last_checkpoint(name: str, tmp_path: Path) -> None:
    changes = {"iterations": ROUNDS, "rollouts": 8, "epochs": 2, "save_every": ROUNDS}
    expected = run(number_task(lifted), ALGORITHMS[name], tmp_path / "whole", **changes)
    whole = last_files(tmp_path / "whole")
    for rounds in (1, ROUNDS - 1):
        folder = tmp_path / f"stopped after {rounds}"
        first = stopped(number_task(lifted), name, folder, rounds)
        assert len(first) == rounds
        second = run(number_task(lifted), ALGORITHMS[name], folder, **changes)
        assert untimed([*first, *second]) == untimed(expected)
        halves = last_files(folder)
        for file in whole.keys() - {"progress.json", "manifest.json", COMPLETE}:  # these know of one checkpoint more
            assert halves[file] == whole[file], file


def noisy(samples: Sequence[Any]) -> Tensor:
    """Return a reward that draws from every global generator."""
    noise = torch.rand(len(samples)) + random.random() + float(np.random.rand())  # noqa: NPY002
    return quadratic(samples) + noise


def seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002


def test_a_reward_that_draws_from_the_global_generators_draws_on(tmp_path: Path) -> None:
    seed_all(1)
    expected = run(number_task(noisy), ALGORITHMS["DDPO"], tmp_path / "whole", iterations=4)
    seed_all(1)
    first = run(number_task(noisy), ALGORITHMS["DDPO"], tmp_path / "halves", iterations=2)
    seed_all(2)
    second = run(number_task(noisy), ALGORITHMS["DDPO"], tmp_path / "halves", iterations=4)
    assert untimed([*first, *second]) == untimed(expected)


def test_flags_of_modules_and_parameters_come_back(tmp_path: Path) -> None:
    def task() -> Task:
        return Task("forgetful", Policy(Forgetful(), make_sampler()), Points(), quadratic, value_network=Values)

    one, two = task(), task()
    trainable_module(one.policy).eval()
    trainable_module(one.policy).get_parameter("denoiser.slope").requires_grad_(False)
    trainable_module(one.policy).get_submodule("denoiser").train()
    run(one, ALGORITHMS["RWR"], tmp_path, iterations=1)
    run(two, ALGORITHMS["RWR"], tmp_path, iterations=1)
    module = trainable_module(two.policy)
    assert (module.training, module.get_submodule("denoiser").training) == (False, True)
    assert not module.get_parameter("denoiser.slope").requires_grad
    assert module.get_parameter("denoiser.shift").requires_grad


def test_the_best_checkpoints_by_the_rounds_that_sampled_with_them_stay(tmp_path: Path) -> None:
    """The reward of round i is that of the weights after i rounds; the first has no checkpoint."""
    best_of = CheckpointPolicy(newest=1, best="reward", highest=False)
    seen = run(number_task(), ALGORITHMS["DDPO"], tmp_path, iterations=6, save_every=1, keep=best_of)
    rewards = [row["reward"] for row in seen]
    lowest = sorted(range(1, 6), key=rewards.__getitem__)[:3]
    series = Series(tmp_path / CHECKPOINTS, 1)
    assert series.steps() == sorted({*lowest, 6})
    assert series.read(6).values["progress"]["best"] == [[step, rewards[step]] for step in lowest]


def test_a_checkpoint_of_an_older_version_names_one_candidate_or_none() -> None:
    assert read_candidates({"progress": {"best": [4, 0.5]}}) == [(4, 0.5)]
    assert read_candidates({"progress": {"best": None}}) == read_candidates({"progress": {"best": []}}) == []


def test_a_round_of_the_pretrained_model_s_samples_tells_nothing_of_a_checkpoint(tmp_path: Path) -> None:
    run(number_task(lifted), ALGORITHMS["KL-D"], tmp_path, iterations=3, save_every=1)
    assert Series(tmp_path / CHECKPOINTS).read(3).values["progress"]["best"] == []


def test_a_metric_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(TrainingError, match=r"keep\.best=validity: no such metric; there are .*kl.*reward"):
        run(number_task(), ALGORITHMS["DDPO"], keep=CheckpointPolicy(newest=1, best="validity", highest=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_never_kept(value: float, tmp_path: Path) -> None:
    task = number_task()

    def spoil(_: Metrics) -> None:
        with torch.no_grad():
            trainable_module(task.policy).get_parameter("shift")[0] = value

    run(number_task(), ALGORITHMS["DDPO"], tmp_path, iterations=1)
    with pytest.raises(TrainingError, match=r"NaN or infinity and are not kept: denoiser\.shift"):
        finetune(finetuning(), task, ALGORITHMS["DDPO"], freeze_copy(number_task().policy), tmp_path, spoil)
    assert Series(tmp_path / CHECKPOINTS).steps() == [1]


def test_going_on_with_another_layout_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(number_task(), ALGORITHMS["DDPO"], tmp_path, iterations=1)
    assert run(number_task(), ALGORITHMS["DDPO"], tmp_path, iterations=1) == []
    assert capsys.readouterr().err == ""
    torch.set_num_threads(2)
    try:
        run(number_task(), ALGORITHMS["DDPO"], tmp_path, iterations=1)
    finally:
        torch.set_num_threads(1)
    assert "last digits may differ from an uninterrupted run's: threads 1 -> 2" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["progress", "flags", "layout", "random", "optimizer"])
def test_a_whole_checkpoint_of_something_else_is_one_clear_error(change: str, tmp_path: Path) -> None:
    run(number_task(), ALGORITHMS["DDPO"], tmp_path, iterations=1)
    series = Series(tmp_path / CHECKPOINTS)
    _, tensors, values = series.read(1)
    tensors.pop(change, None)
    values.pop(change, None)
    series.save(2, tensors, values)
    with pytest.raises(CheckpointError, match="holds no checkpoint of this run"):
        finetune(finetuning(), number_task(), ALGORITHMS["DDPO"], freeze_copy(number_task().policy), tmp_path, unheard)
