"""The trainer of the forward process: any sampler, masks, the old policy, anchors and real data."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from test_finetune import ALGORITHMS, finetuning, run
from test_matching import LOSSES
from torch import Tensor
from torch.testing import assert_close
from toy import cloud_task, lifted, number_task, scored, unheard

from molrl.algos import Learner
from molrl.algos.average import MovingAverage
from molrl.algos.forward import denoising_error, predict_table, predict_target
from molrl.algos.matching import AdvantageMatching
from molrl.diagnostics import chain_kl, pre_update_metrics, probe
from molrl.finetune import check_setup, finetune, freeze_copy
from molrl.gaussian import Context
from molrl.noise import Key
from molrl.oracle.chain import Moments
from molrl.oracle.linear_gaussian import QUADRATIC, AffineDenoiser, make_sampler
from molrl.policy import Policy
from molrl.samplers import DDIM
from molrl.task import Metrics, Task
from molrl.trainable_parameters import trainable_module

KEY = Key(0, 1)
SAMPLES = list(range(6))


def start(task: Task, algorithm: AdvantageMatching) -> Learner:
    return Learner(task, freeze_copy(task.policy), algorithm.modules(task))


def deterministic(task: Task) -> Task:
    return replace(task, policy=replace(task.policy, sampler=replace(cast(DDIM, task.policy.sampler), eta=0.0)))


def shifted(policy: Policy, shift: float) -> None:
    with torch.no_grad():
        trainable_module(policy).get_parameter("shift").add_(shift)


def clouds(**changes: Any) -> Task:
    task = cloud_task(lambda samples: torch.arange(float(len(samples))), **changes)
    return replace(task, policy=replace(task.policy, denoiser=Linear()))


class Linear(torch.nn.Module):
    """A denoiser of clouds with one parameter, which answers on padding and with a mean that the space ignores."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        outside = (~context["mask"]).unsqueeze(-1) | (torch.arange(x.shape[-1]) < 3)
        return self.scale * x + 3.0 * outside


@pytest.mark.parametrize("name", LOSSES)
def test_a_deterministic_chain_can_be_trained(name: str) -> None:
    task = deterministic(number_task(lifted))
    algorithm = LOSSES[name](advantage_clip=2.0, old_weight=0.5 if name == "awm" else 0.0)
    rows = list[Metrics]()
    before = QUADRATIC.expected(sampled_moments(task))
    loop = finetuning(iterations=8, rollouts=64, minibatch=300)
    finetune(loop, task, algorithm, freeze_copy(task.policy), None, rows.append)
    assert QUADRATIC.expected(sampled_moments(task)) > before + 0.1
    assert all(0 <= row["max_abs_log_ratio_first"] < 1e-3 for row in rows)
    assert rows[0]["kl"] == 0
    assert 0 < rows[-1]["kl"] < 100
    assert rows[0]["noise_norm"] == 1


def sampled_moments(task: Task) -> Moments:
    final = task.rollout(range(2000), Key(9)).trajectory.final
    return Moments(final.mean().item(), final.var().item())


@pytest.mark.parametrize("name", ["DDPO", "DDPO-SF", "DPOK", "RGDM"])
def test_algorithms_on_reverse_steps_refuse_a_deterministic_chain(name: str) -> None:
    with pytest.raises(ValueError, match="eta: got 0, a deterministic chain, whose steps have no density"):
        check_setup(finetuning(), deterministic(number_task()), ALGORITHMS[name])


def test_the_kl_of_a_deterministic_chain_is_that_of_its_ancestral_form() -> None:
    """1/2 (SNR' / SNR - 1) |eps_theta - eps_ref|^2 per step, at its own states."""
    task, number = deterministic(number_task()), 7
    reference = freeze_copy(task.policy)
    shifted(task.policy, 0.3)
    table = probe(task.rollout(range(number), KEY).trajectory, 10**6)
    sampler = cast(DDIM, task.policy.sampler)
    difference = predicted(task.policy, table) - predicted(reference, table)
    gain = (sampler.log_snr.diff().exp() - 1)[table.step] / 2
    expected = (gain * difference.double().square().squeeze(1)).mean().item() * sampler.num_steps
    assert chain_kl(task.policy, reference, table) == pytest.approx(expected, rel=1e-4)


def predicted(policy: Policy, table: Any) -> Tensor:
    with torch.no_grad():
        return policy.sampler.predict_target(policy.predict_target, table.x, table.step, table.context)


def test_a_deterministic_rollout_of_another_policy_is_noticed() -> None:
    task, algorithm = deterministic(number_task()), LOSSES["nft"]()
    student = start(task, algorithm)
    collected = algorithm.collect(student, SAMPLES, KEY)
    assert pre_update_metrics(student, collected)["max_abs_log_ratio_first"] < 1e-4
    shifted(task.policy, 0.1)
    assert pre_update_metrics(student, collected)["max_abs_log_ratio_first"] > 0.01


def test_the_norm_of_the_prediction_is_compared_with_the_reference() -> None:
    task, algorithm = clouds(), LOSSES["nft"]()
    student = start(task, algorithm)
    collected = algorithm.collect(student, SAMPLES, KEY)
    assert pre_update_metrics(student, collected)["noise_norm"] == 1
    with torch.no_grad():
        for parameter in trainable_module(task.policy).parameters():
            parameter.mul_(1.5)
    assert pre_update_metrics(student, collected)["noise_norm"] == pytest.approx(1.5)


def test_each_row_has_what_old_policy_and_reference_predict() -> None:
    task, algorithm = number_task(), LOSSES["ram"]()
    student = start(task, algorithm)
    shifted(task.policy, 0.4)
    table = algorithm.collect(student, SAMPLES, KEY).table
    assert_close(table.old, predict_target(task.policy, table).detach(), rtol=0, atol=1e-6)
    assert_close(table.reference, predict_target(student.reference, table).detach(), rtol=0, atol=1e-6)
    rows = torch.tensor([3, 0])
    assert_close(table[rows].old, cast(Tensor, table.old)[rows], rtol=0, atol=0)
    assert_close(predict_table(task.policy, table, task.processes), table.old, rtol=0, atol=0)


def test_advantages_are_clamped_and_lost_samples_left_out() -> None:
    rewards = torch.tensor([9.0, 0.0, float("nan"), 0.0, 0.0, -9.0])
    algorithm = LOSSES["nft"](advantage_clip=2.0)
    collected = algorithm.collect(start(number_task(scored(rewards)), algorithm), SAMPLES, KEY)
    weight = dict(zip(collected.table.sample.tolist(), collected.table.weight.tolist(), strict=True))
    assert weight == {0: 2.0, 1: 0.0, 3: 0.0, 4: 0.0, 5: -2.0}
    assert collected.metrics["advantage_saturated"] == pytest.approx(2 / 6)


@pytest.mark.parametrize(
    ("first", "last", "points"), [(0.0, 1.0, range(11)), (0.2, 0.7, range(2, 7)), (0.7, 1.0, range(7, 11))]
)
def test_noised_states_lie_in_the_window(first: float, last: float, points: range) -> None:
    algorithm = LOSSES["nft"](first=first, last=last, noisings=2 * len(points))
    table = algorithm.collect(start(number_task(), algorithm), SAMPLES, KEY).table
    assert torch.bincount(table.step, minlength=11).tolist() == [12 * (k in points) for k in range(11)]


def test_states_outside_of_the_window_are_held_and_change_nothing_within_it() -> None:
    """The window has 3 to 6 of the grid points 0 to 10: each sample has 8 states there, and 7 at the others."""
    whole, plain = (LOSSES["nft"](first=0.3, last=0.7, noisings=8, held=held) for held in (7, 0))
    table, within = (one.collect(start(number_task(), one), SAMPLES, KEY).table for one in (whole, plain))
    assert torch.bincount(table.step, minlength=11).tolist() == [6, 6, 6, 12, 12, 12, 12, 6, 6, 6, 6]
    assert_close((table.x[:48], table.step[:48], table.weight[:48]), (within.x, within.step, within.weight))
    assert whole.is_held(table, 10).tolist() == [False] * 48 + [True] * 42
    assert (table.weight[48:] == 0).all()
    noise = torch.cat([table.target[:48].view(8, 6), table.target[48:].view(7, 6)])
    assert len(noise.unique()) == 90
    complete = LOSSES["nft"](held=7)
    assert len(complete.collect(start(number_task(), complete), SAMPLES, KEY).table) == 4 * 6


@pytest.mark.parametrize("name", LOSSES)
def test_a_held_state_costs_its_distance_from_the_reference_alone(name: str) -> None:
    algorithm = LOSSES[name](first=0.3, last=0.7, noisings=8, held=7, reference_weight=0.3, old_weight=0.2)
    task = number_task()
    student = start(task, algorithm)
    shifted(task.policy, 0.4)
    table = algorithm.collect(student, SAMPLES, KEY).table
    shifted(task.policy, -0.1)
    held = table[algorithm.is_held(table, 10).nonzero().squeeze(1)]
    distance = (predict_target(task.policy, held) - predict_target(student.reference, held)).square().mean()
    assert distance > 0.01
    assert_close(algorithm.loss(student, held)[0], distance)


def test_held_states_move_less_toward_random_rewards() -> None:
    """All grid points share two parameters, which a window of the last ones moves; held ones bring them back."""

    def moved(held: int, seed: int) -> float:
        task = number_task(lambda samples: torch.tensor([hash(float(one)) % 97 / 97 for one in samples]))
        task = replace(task, policy=replace(task.policy, denoiser=Shared()))
        algorithm, reference = LOSSES["nft"](first=0.5, noisings=4, held=held), freeze_copy(task.policy)
        loop = finetuning(seed=seed, iterations=6, rollouts=32, minibatch=32, epochs=2)
        finetune(loop, task, algorithm, reference, None, unheard)
        table = probe(task.rollout(range(200), Key(9)).trajectory, 10**6)
        return chain_kl(task.policy, reference, table[(table.step < 5).nonzero().squeeze(1)])

    assert sum(moved(8, seed) for seed in range(3)) < 0.3 * sum(moved(0, seed) for seed in range(3))


class Shared(torch.nn.Module):
    """A denoiser with one slope and one shift for all noise levels."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(0.8))
        self.shift = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        return (self.slope * x + self.shift).to(x)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_ignore_padding(name: str) -> None:
    """The same molecules padded to another width have the same loss, per degree of freedom."""
    algorithm = LOSSES[name](reference_weight=0.3, old_weight=0.2)

    def loss_of(width: int) -> Tensor:
        student = start(clouds(width=width), algorithm)
        table = algorithm.collect(student, SAMPLES, KEY).table
        with torch.no_grad():
            trainable_module(student.policy).get_parameter("scale").add_(0.1)
        return algorithm.loss(student, table)[0]

    assert_close(loss_of(7), loss_of(4), rtol=1e-4, atol=1e-5)


def test_the_old_policy_is_the_moving_average_of_the_rounds() -> None:
    task, algorithm = number_task(), LOSSES["nft"](decay=0.75)
    student = start(task, algorithm)
    expected = 0.0
    for shift in (1.0, 3.0):
        with torch.no_grad():
            trainable_module(task.policy).get_parameter("shift").fill_(shift)
        collected = algorithm.collect(student, SAMPLES, KEY)
        expected = 0.75 * expected + 0.25 * shift
        slow = replace(task, policy=Policy(AffineDenoiser(make_sampler()), make_sampler()))
        shifted(slow.policy, expected)
        assert_close(collected.rollouts.rewards, slow.rollout(SAMPLES, KEY).rewards)
        assert_close(collected.table.old, predict_target(slow.policy, collected.table).detach())
        assert pre_update_metrics(student, collected)["max_abs_log_ratio_first"] < 1e-4
    assert (trainable_module(task.policy).get_parameter("shift") == 3).all()


def test_averages_are_no_parameters_and_follow_only_what_is_trained() -> None:
    network = AffineDenoiser(make_sampler())
    network.slope.requires_grad_(False)
    average = MovingAverage(network, 0.5)
    assert not list(average.parameters())
    assert list(average.state_dict()) == ["shift"]


def test_the_old_policy_is_in_the_checkpoints(tmp_path: Path) -> None:
    """A run that goes on from a checkpoint has the averages of the whole run: its rewards are the same."""
    algorithm = LOSSES["nft"](decay=0.9)
    whole = run(number_task(), algorithm, tmp_path / "whole", iterations=4, save_every=1)
    run(number_task(), algorithm, tmp_path / "parts", iterations=2, save_every=1)
    rest = run(number_task(), algorithm, tmp_path / "parts", iterations=4, save_every=1)
    assert [row["reward"] for row in rest] == [row["reward"] for row in whole[2:]]


def test_processes_that_share_a_network_keep_no_average() -> None:
    task = number_task()
    with pytest.raises(ValueError, match="decay: processes that share a network"):
        LOSSES["nft"](decay=0.5).modules(replace(task, processes=replace(task.processes, lockstep=True)))


def with_data(task: Task, mean: float = 3.0) -> Task:
    def data(samples: Sequence[int], key: Key) -> tuple[Tensor, Context]:
        return mean + 0.1 * key.normal(samples, 3, (1,)), {"sample": torch.tensor(list(samples))}

    return replace(task, data=data)


def test_real_samples_pull_the_model_to_themselves() -> None:
    """With equal rewards nothing else does: the mean moves toward that of the data, 3."""
    task = with_data(number_task(lambda samples: torch.zeros(len(samples))))
    loop = finetuning(iterations=15, rollouts=64, minibatch=300, optimizer=partial(torch.optim.AdamW, lr=0.1))
    finetune(loop, task, LOSSES["nft"](data_weight=1.0, noisings=11), freeze_copy(task.policy), None, unheard)
    assert sampled_moments(task).mean > 1.5


def test_a_real_sample_stands_beside_each_row_and_its_error_is_added() -> None:
    rewards = torch.tensor([1.0, 0.0, float("nan"), 2.0, 3.0, 1.0])
    task, algorithm = with_data(number_task(scored(rewards))), LOSSES["nft"](data_weight=0.6)
    student = start(task, algorithm)
    table = algorithm.collect(student, SAMPLES, KEY).table
    assert table.real is not None
    assert table.real.sample.tolist() == table.sample.tolist()
    clean = (table.real.x - torch.sqrt(1 - alphas(table.real.step) ** 2) * table.real.target) / alphas(table.real.step)
    assert (clean[table.real.step > 0] - 3).abs().max() < 0.6
    with_real, without = (one.loss(student, table)[0] for one in (algorithm, LOSSES["nft"]()))
    assert_close(with_real - without, 0.6 * denoising_error(task.policy, table.real).mean())


def alphas(step: Tensor) -> Tensor:
    return make_sampler().log_snr.sigmoid().sqrt()[step].float().unsqueeze(1)


def test_real_data_without_data_is_refused() -> None:
    with pytest.raises(ValueError, match="data_weight: task 'numbers' has no data set"):
        check_setup(finetuning(), replace(number_task(), data=None), LOSSES["nft"](data_weight=0.1))
