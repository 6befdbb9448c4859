"""The network may compute in bfloat16; what is drawn, its log-probabilities and its weights stay float32."""

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from test_finetune import ALGORITHMS, finetuning
from torch import Tensor, nn
from toy import quadratic

from molrl.composition import compose
from molrl.config import ConfigError
from molrl.finetune import finetune, freeze_copy
from molrl.gaussian import Context
from molrl.noise import Key
from molrl.oracle.linear_gaussian import Points, Values, make_sampler
from molrl.policy import Policy
from molrl.run import prepare
from molrl.task import Metrics, Task
from molrl.trainable_parameters import trainable_module

HALF = torch.bfloat16


class Network(nn.Module):
    """A small network that keeps what its last layer computed in."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.outer = nn.Linear(2, 32), nn.Linear(32, 1)
        self.seen: set[torch.dtype] = set()

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        out: Tensor = self.outer(torch.tanh(self.inner(torch.cat([x, t.unsqueeze(1)], 1))))
        self.seen.add(out.dtype)
        return out


def halved() -> tuple[Task, Network]:
    network = Network()
    policy = Policy(network, make_sampler(), autocast=HALF)
    return Task("numbers", policy, Points(), quadratic, value_network=Values), network


def test_states_and_log_probabilities_are_float32_whatever_the_network_computes_in() -> None:
    task, network = halved()
    run = task.rollout(range(6), Key(0)).trajectory
    assert network.seen == {HALF}
    assert {run.states.dtype, run.log_prob.dtype, run.final.dtype} == {torch.float32}
    full = replace(task, policy=replace(task.policy, autocast=None)).rollout(range(6), Key(0)).trajectory
    assert 0 < (full.states - run.states).abs().max() < 0.1


@pytest.mark.parametrize("name", ALGORITHMS)
def test_training_in_bfloat16_evaluates_the_policy_that_rolled_out(name: str) -> None:
    """The check of every round, in other batches than the rollout's; the reference computes as the policy does."""
    task, network = halved()
    before = [parameter.clone() for parameter in network.parameters()]
    reference, seen = freeze_copy(task.policy), list[Metrics]()
    finetune(finetuning(microbatch=7), task, ALGORITHMS[name], reference, None, seen.append)
    assert all(row["max_abs_log_ratio_first"] <= 1e-3 for row in seen)
    assert seen[0]["kl"] == 0 < seen[-1]["kl"]
    assert network.seen == cast(Network, trainable_module(reference)).seen == {HALF}
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    assert any((parameter != old).any() for parameter, old in zip(network.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("setting", "told", "expected"),
    [
        ("null", None, None),
        ("null", "no", None),
        ("null", "bf16", HALF),
        ("float32", "bf16", None),
        ("bfloat16", None, HALF),
    ],
)
def test_the_precision_is_that_of_the_setting_or_else_of_the_launcher(
    setting: str, told: str | None, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    if told is not None:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", told)
    task = prepare(compose("train", ["algo=ddpo", f"precision={setting}"])).task
    assert task.policy.autocast is expected


def test_a_precision_without_a_loss_scale_to_go_with_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(ConfigError, match="mixed_precision=fp16: molrl knows no and bf16"):
        prepare(compose("train", ["algo=ddpo"]))
