"""Rounds drawn ahead of learning: whose samples they are, that nothing is lost, and that they are learned from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_finetune import ALGORITHMS, MATCHING, finetuning, run, untimed, weights
from torch import Tensor
from torch.testing import assert_close
from toy import last_state, lifted, number_task, unheard

from molrl.ahead import round_of
from molrl.algos.nft import NFT
from molrl.finetune import finetune, freeze_copy
from molrl.oracle.chain import Moments
from molrl.oracle.linear_gaussian import QUADRATIC
from molrl.task import Metrics, Rollouts

LATE = {name: ALGORITHMS[name] for name in ("DDPO", "GRPO", "RWR", "EPG")} | {"NFT": NFT(mixing=1.0, **MATCHING)}


@dataclass
class Late:
    """A reward that gives values only of samples that it was asked about before, and remembers the order."""

    asked: list[float] = field(default_factory=list)
    before_each_value: list[int] = field(default_factory=list)

    def request(self, samples: Sequence[Any]) -> None:
        self.asked += torch.stack(list(samples)).flatten().tolist()

    def __call__(self, samples: Sequence[Any]) -> Tensor:
        known = set(self.asked)
        self.before_each_value.append(len(self.asked))
        points = torch.stack(list(samples))
        late = torch.tensor([point not in known for point in points.flatten().tolist()])
        return torch.where(late, torch.nan, lifted(list(points)))


def drawn_rounds(ahead: int, **changes: Any) -> tuple[list[Rollouts], list[dict[str, Tensor]]]:
    """Return the rollouts of each round, and the weights before each round."""
    task, seen = number_task(Late()), list[Rollouts]()
    before = [{name: value.clone() for name, value in weights(task).items()}]

    def observe(iteration: int, rollouts: Rollouts) -> None:
        seen.append(rollouts)
        before.append({name: value.clone() for name, value in weights(task).items()})

    settings = finetuning(ahead=ahead, lost_limit=0.0, **changes)
    finetune(settings, task, ALGORITHMS["DDPO"], freeze_copy(task.policy), None, unheard, observe=observe)
    return seen, before


@pytest.mark.parametrize("ahead", [1, 3])
def test_a_round_is_drawn_by_the_policy_of_so_many_rounds_before(ahead: int) -> None:
    seen, before = drawn_rounds(ahead, iterations=5)
    for number, rollouts in enumerate(seen):
        task = number_task()
        task.policy.denoiser.load_state_dict(before[max(number - ahead, 0)])  # type: ignore[attr-defined]
        expected = task.rollout(*round_of(number, 16, 0))
        assert_close(rollouts.trajectory.states, expected.trajectory.states, rtol=0, atol=0)
        assert_close(rollouts.trajectory.log_prob, expected.trajectory.log_prob, rtol=0, atol=0)


def test_values_are_wanted_when_the_next_rounds_are_asked_about() -> None:
    """In six rounds of 16 samples, two ahead, three are asked about before the first value, none after the sixth."""
    reward = Late()
    run(number_task(reward), ALGORITHMS["DDPO"], ahead=2, iterations=6, lost_limit=0.0)
    assert reward.before_each_value == [48, 64, 80, 96, 96, 96]
    assert len(set(reward.asked)) == 96


def test_importance_ratios_are_those_to_the_policy_that_drew_the_samples() -> None:
    """Before its only update, a round has ratios of one, unless the policy has moved since the round was drawn."""
    once: dict[str, Any] = {"iterations": 4, "minibatch": 10_000, "lost_limit": 0.0}
    at_once = run(number_task(lifted), ALGORITHMS["DDPO"], **once)
    ahead = run(number_task(Late()), ALGORITHMS["DDPO"], ahead=2, **once)
    assert [row["mean_abs_log_ratio"] for row in at_once] == pytest.approx([0] * 4, abs=1e-5)
    assert ahead[0]["mean_abs_log_ratio"] == pytest.approx(0, abs=1e-5)
    assert min(row["mean_abs_log_ratio"] for row in ahead[1:]) > 0.01
    assert max(row["max_abs_log_ratio_first"] for row in ahead) < 1e-3  # to the policy that is recorded


@pytest.mark.parametrize("name", LATE)
def test_the_reward_rises_by_late_values(name: str) -> None:
    task = number_task(Late())
    run(task, LATE[name], ahead=2, iterations=14, rollouts=40, lost_limit=0.0)
    gain = QUADRATIC.expected(last_state(task.policy)) - QUADRATIC.expected(Moments(0.5, 0.318))
    assert gain > 0.2


def test_a_run_with_rounds_under_way_goes_on_bit_for_bit(tmp_path: Path) -> None:
    class Broke(Exception):
        pass

    def breaking(metrics: Metrics) -> None:
        if metrics["iteration"] == 3:
            raise Broke

    whole, broken = number_task(Late()), number_task(Late())
    resumed = replace(number_task(), reward=broken.reward)  # what was answered stays answered
    expected = run(whole, ALGORITHMS["DDPO"], ahead=2, iterations=6, lost_limit=0.0)
    settings = finetuning(iterations=6, ahead=2, lost_limit=0.0)
    with pytest.raises(Broke):
        finetune(settings, broken, ALGORITHMS["DDPO"], freeze_copy(broken.policy), tmp_path, breaking)
    seen = run(resumed, ALGORITHMS["DDPO"], tmp_path, ahead=2, iterations=6, lost_limit=0.0)
    assert untimed(seen) == untimed(expected[2:])
    assert_close(weights(resumed), weights(whole), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("reward", "name", "changes", "message"),
    [
        (lifted, "DDPO", {"ahead": 1}, "the reward cannot be asked without waiting"),
        (Late(), "NFT", {"ahead": 1}, r"need algo\.decay=0"),
        (Late(), "DDPO", {"ahead": -1}, "ahead: got -1"),
    ],
)
def test_what_cannot_be_drawn_ahead_is_refused(
    reward: Callable[[Sequence[Any]], Tensor], name: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(number_task(reward), ALGORITHMS[name], **changes)
