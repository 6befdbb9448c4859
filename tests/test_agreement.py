"""The check of every round: what methods with and without densities demand of rollout and training."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
import torch
from test_finetune import ALGORITHMS, finetuning
from torch import Tensor
from toy import cloud_task, number_task

from molrl.agreement import check_agreement
from molrl.algos import Learner
from molrl.diagnostics import pre_update_metrics
from molrl.finetune import finetune, freeze_copy
from molrl.gaussian import Context
from molrl.noise import Key
from molrl.policy import Policy
from molrl.samplers import DDIM, Denoiser
from molrl.task import Metrics, Task
from molrl.training_state import TrainingError

DENSITIES = ("DDPO", "DDPO-SF", "GRPO")
NO_DENSITIES = ("NFT", "AWM", "RWR", "KL-D")
SAMPLES = list(range(12))


def with_eta(task: Task, eta: float) -> Task:
    return replace(task, policy=replace(task.policy, sampler=replace(cast(DDIM, task.policy.sampler), eta=eta)))


class Rounding(torch.nn.Module):
    """A denoiser whose answers depend on the number of rows of a call, by a relative `error`."""

    def __init__(self, exact: Denoiser, error: float) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.exact, self.error = exact, error

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        return self.scale * self.exact(x, t, context) * (1 + self.error * (len(x) != len(SAMPLES)))


def rounding_task(error: float, autocast: torch.dtype | None) -> Task:
    task = cloud_task(lambda samples: torch.arange(float(len(samples))))
    return replace(task, policy=replace(task.policy, denoiser=Rounding(task.policy.denoiser, error), autocast=autocast))


def train_once(task: Task, name: str) -> None:
    loop = finetuning(iterations=1, rollouts=len(SAMPLES), minibatch=16)
    finetune(loop, task, ALGORITHMS[name], freeze_copy(task.policy), None, lambda _: None)


@dataclass
class Densities:
    needs_densities: bool


def first_metrics(task: Task, behaviour: Callable[[Policy], Policy]) -> Metrics:
    algorithm = ALGORITHMS["RWR"]
    learner = Learner(task, freeze_copy(task.policy), algorithm.modules(task))
    collected = algorithm.collect(learner, SAMPLES, Key(0, 1))
    return pre_update_metrics(learner, replace(collected, behaviour=behaviour(task.policy)))


def scaled(policy: Policy) -> Policy:
    return replace(policy, denoiser=lambda x, t, context: policy.denoiser(x, t, context) * 1.01)


@pytest.mark.parametrize("task", [number_task(), rounding_task(0.0, None)], ids=["number", "clouds"])
def test_the_error_of_a_prediction_is_relative(task: Task) -> None:
    """Exact for a deterministic chain, whatever its schedule and the size of a sample: 1 - 1 / 1.01."""
    metrics = first_metrics(with_eta(task, 0.0), scaled)
    assert metrics["max_prediction_error_first"] == pytest.approx(0.01 / 1.01, rel=1e-3)


def test_the_error_of_a_prediction_is_estimated_from_log_ratios() -> None:
    """l = d z - d^2 / 2 with d stds between the means; |z| is below 4 here, and some are above 1."""
    metrics = first_metrics(rounding_task(0.0, None), scaled)
    assert 0.01 / 1.01 < metrics["max_prediction_error_first"] < 4 * 0.01


def test_the_same_policy_has_no_error_of_its_predictions() -> None:
    for eta in (0.0, 0.5, 1.0):
        assert first_metrics(with_eta(number_task(), eta), lambda policy: policy)["max_prediction_error_first"] < 1e-5


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_rollout_of_second_order_is_repeated_with_what_it_extrapolated(eta: float) -> None:
    """The steps repeat to rounding, and a policy that predicts 1 % more is noticed."""
    task = with_eta(number_task(), eta)
    task = replace(task, policy=replace(task.policy, order=2))
    assert first_metrics(task, lambda policy: policy)["max_prediction_error_first"] < 1e-5
    assert first_metrics(task, scaled)["max_prediction_error_first"] > 0.005
    assert first_metrics(task, lambda policy: replace(policy, order=1))["max_prediction_error_first"] > 0.005


@pytest.mark.parametrize("name", NO_DENSITIES)
def test_a_method_that_needs_no_steps_learns_from_a_chain_of_second_order(name: str) -> None:
    task = number_task()
    train_once(replace(task, policy=replace(task.policy, order=2)), name)


@pytest.mark.parametrize("name", NO_DENSITIES)
def test_a_method_without_densities_learns_in_bfloat16_whatever_the_shape_of_a_call_changes(name: str) -> None:
    train_once(rounding_task(0.005, torch.bfloat16), name)


@pytest.mark.parametrize("name", DENSITIES)
def test_a_method_with_densities_does_not(name: str) -> None:
    with pytest.raises(TrainingError, match=r"log-ratio .* nats before any update, tolerance 0\.001: rollout and"):
        train_once(rounding_task(0.005, torch.bfloat16), name)


def test_the_complaint_names_the_precision_where_it_is_the_likely_cause() -> None:
    with pytest.raises(TrainingError, match=r"computes in bfloat16, .* take precision=float32"):
        train_once(rounding_task(0.005, torch.bfloat16), "DDPO")
    with pytest.raises(TrainingError, match=r"same policy; a network with dropout") as error:
        train_once(rounding_task(0.005, None), "DDPO")
    assert "precision=" not in str(error.value)


@pytest.mark.parametrize("name", NO_DENSITIES)
def test_float32_is_held_to_its_own_rounding(name: str) -> None:
    with pytest.raises(TrainingError, match=r"of the predicted noise before any update, tolerance 0\.000"):
        train_once(rounding_task(0.005, None), name)


@pytest.mark.parametrize("name", NO_DENSITIES)
def test_another_policy_is_noticed_in_bfloat16(name: str) -> None:
    with pytest.raises(TrainingError, match=r"tolerance 0\.088: rollout and training do not evaluate the same policy"):
        train_once(rounding_task(1.0, torch.bfloat16), name)


@pytest.mark.parametrize("needed", [True, False])
def test_what_is_no_number_is_no_agreement(needed: bool) -> None:
    metrics = {"max_abs_log_ratio_first": math.nan, "max_prediction_error_first": math.nan}
    with pytest.raises(TrainingError, match="nan"):
        check_agreement(metrics, cast(Any, Densities(needed)), 1e9, torch.bfloat16)
