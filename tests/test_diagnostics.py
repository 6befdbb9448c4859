"""Diagnostics of a round: parts of the chain, extremes, shares, and whether the policy is still the same."""

from dataclasses import replace

import pytest
import torch
from toy import number_task, randn

from molrl.diagnostics import CHAIN_PARTS, RowFacts, chain_kl, effective_share, log_ratio_errors, probe
from molrl.finetune import freeze_copy
from molrl.oracle.linear_gaussian import AffineDenoiser, make_sampler
from molrl.policy import Policy
from molrl.trainable_parameters import trainable_module
from molrl.trajectory import Trajectory

F64 = torch.float64


def rolled_out(batch: int = 6, num_steps: int = 10) -> tuple[Policy, Trajectory]:
    sampler = make_sampler(num_steps)
    policy = Policy(AffineDenoiser(sampler, F64), sampler)
    noise = randn(num_steps + 1, batch, 1)
    return policy, policy.rollout({}, lambda i: noise[i])


def gathered(step: list[int], **facts: list[float]) -> RowFacts:
    found = RowFacts()
    found.add(torch.tensor(step), {name: torch.tensor(values) for name, values in facts.items()})
    return found


def parts_of(num_steps: int) -> list[int]:
    """Return the part of the chain that each reverse step is counted in; the log-ratio of a step is its index."""
    summary = gathered(list(range(num_steps)), log_ratio=[float(k) for k in range(num_steps)]).summary(num_steps)
    parts = []
    for number in range(1, CHAIN_PARTS + 1):
        if f"log_ratio_min_{number}" in summary:
            first, last = (round(summary[f"log_ratio_{end}_{number}"]) for end in ("min", "max"))
            parts += [number] * (last - first + 1)
    return parts


@pytest.mark.parametrize("num_steps", [5, 10, 50, 1000])
def test_parts_of_the_chain_are_equal(num_steps: int) -> None:
    """The first begins at the prior, the last ends with the last reverse step, num_steps - 1."""
    expected = [1 + k * CHAIN_PARTS // num_steps for k in range(num_steps)]
    assert parts_of(num_steps) == expected


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 11, 12, 99])
def test_parts_of_any_chain_go_from_the_prior_to_the_data(num_steps: int) -> None:
    parts = parts_of(num_steps)
    assert len(parts) == num_steps
    assert parts == sorted(parts)
    assert parts[0] == 1
    sizes = [parts.count(number) for number in range(1, CHAIN_PARTS + 1)]
    assert max(sizes) - min(sizes) <= 1


def test_the_last_grid_point_belongs_to_the_last_part() -> None:
    """States that were noised again may be at the end of the chain, too: no sixth part for them."""
    summary = gathered(list(range(11)), log_ratio=[0.0] * 10 + [7.0]).summary(10)
    assert summary[f"log_ratio_max_{CHAIN_PARTS}"] == 7
    assert f"log_ratio_max_{CHAIN_PARTS + 1}" not in summary


def test_each_part_has_its_least_mean_and_largest_log_ratio() -> None:
    summary = gathered([0, 1, 8, 9], log_ratio=[-3.0, 1.0, 0.5, 0.25], clipped=[1.0, 0.0, 0.0, 0.0]).summary(10)
    assert [summary[f"log_ratio_{kind}_1"] for kind in ("min", "mean", "max")] == [-3, -1, 1]
    assert [summary[f"log_ratio_{kind}_{CHAIN_PARTS}"] for kind in ("min", "mean", "max")] == [0.25, 0.375, 0.5]
    assert summary["clip_fraction_1"] == 0.5
    assert summary[f"clip_fraction_{CHAIN_PARTS}"] == 0
    assert summary["clip_fraction"] == 0.25
    assert summary["mean_abs_log_ratio"] == pytest.approx((3 + 1 + 0.5 + 0.25) / 4)
    assert not any(name.endswith("_3") for name in summary)  # no row is from the middle of the chain


def test_minibatches_count_by_their_rows() -> None:
    one, other = RowFacts(), gathered([0, 0, 0, 9], missed=[1.0, 2.0, 3.0, 6.0], clipped=[1.0, 0.0, 0.0, 0.0])
    one.add(
        torch.tensor([0, 0, 0]), {"missed": torch.tensor([1.0, 2.0, 3.0]), "clipped": torch.tensor([1.0, 0.0, 0.0])}
    )
    one.add(torch.tensor([9]), {"missed": torch.tensor([6.0]), "clipped": torch.tensor([0.0])})
    assert one.summary(10) == other.summary(10)
    assert one.summary(10)["missed"] == 3.0


def test_what_is_not_told_is_not_made_up() -> None:
    summary = gathered([0, 9], denoising_error=[0.5, 1.5]).summary(10)
    assert summary == {"denoising_error": 1.0, "clip_fraction": 0.0}


def test_facts_are_kept_without_their_gradients() -> None:
    found = RowFacts()
    found.add(torch.tensor([0]), {"missed": torch.ones(1, requires_grad=True)})
    assert not found.facts["missed"][0].requires_grad


def test_the_effective_share_is_one_for_equal_weights_and_one_over_n_for_a_single_one() -> None:
    assert effective_share(torch.full((8,), 3.0)) == pytest.approx(1)
    assert effective_share(torch.tensor([0.0, 0.0, 5.0, 0.0])) == pytest.approx(1 / 4)
    assert effective_share(torch.tensor([1.0, 1.0, 0.0, 0.0])) == pytest.approx(1 / 2)
    assert effective_share(torch.zeros(4)) == 0


def test_the_effective_share_lies_between_and_has_no_scale() -> None:
    weights = randn(50).exp()
    share = effective_share(weights)
    assert share == pytest.approx((weights.mean() ** 2 / weights.square().mean()).item())
    assert 1 / 50 < share < 1
    assert effective_share(1e3 * weights) == pytest.approx(share)


@pytest.mark.parametrize("rows", [10, 20, 30])
def test_a_probe_is_spread_evenly_over_steps_and_samples(rows: int) -> None:
    _, run = rolled_out(batch=6)
    table = probe(run, rows)
    assert len(table) == rows
    visits = torch.bincount(table.step, minlength=10)
    assert visits.max() - visits.min() <= 1
    assert len(table.sample.unique()) == 6
    assert (
        len({(step, sample) for step, sample in zip(table.step.tolist(), table.sample.tolist(), strict=True)}) == rows
    )


def test_a_probe_of_more_rows_than_there_are_is_all_of_them() -> None:
    _, run = rolled_out(batch=6)
    table, whole = probe(run, 1000), run.transitions(torch.zeros(6, dtype=F64))
    assert (table.x == whole.x).all()
    assert (table.step == whole.step).all()
    assert len(probe(run, 1)) == 1


def test_an_unmoved_policy_is_not_stale() -> None:
    policy, run = rolled_out()
    table = probe(run, 24)
    assert log_ratio_errors(policy.transition(table), table).max() == 0


def test_the_largest_change_of_a_log_probability_tells_that_a_policy_moved() -> None:
    """l = z delta - delta^2 / 2 for a mean moved by delta stds; z is what was drawn."""
    policy, run = rolled_out()
    table = probe(run, 60)
    kernel = policy.transition(table)
    z = ((table.y - kernel.mean) / kernel.std.unsqueeze(1)).squeeze(1).detach()
    with torch.no_grad():
        trainable_module(policy).get_parameter("shift").add_(0.01)
    expected = (z * 0.01 - 0.01**2 / 2).abs().max().item()
    assert log_ratio_errors(policy.transition(table), table).max().item() == pytest.approx(expected, rel=1e-6)


def test_a_single_row_that_differs_is_found_and_so_is_one_that_is_no_number() -> None:
    policy, run = rolled_out()
    table = probe(run, 24)
    for change in (-0.5, 0.25):
        log_prob = table.log_prob.clone()
        log_prob[7] += change
        assert log_ratio_errors(
            policy.transition(table), replace(table, log_prob=log_prob)
        ).max().item() == pytest.approx(abs(change))
    log_prob[7] = float("nan")
    assert not log_ratio_errors(policy.transition(table), replace(table, log_prob=log_prob)).max() <= 1e-3


def test_the_kl_of_a_chain_is_that_of_its_mean_step_times_their_number() -> None:
    """Means moved by delta_k stds: sum delta_k^2 / 2, from any rows that visit each step alike."""
    policy, run = rolled_out()
    reference = freeze_copy(policy)
    delta = randn(10, seed=3)
    with torch.no_grad():
        trainable_module(policy).get_parameter("shift").copy_(delta)
    expected = (delta**2 / 2).sum().item()
    for rows in (10, 60):
        assert chain_kl(policy, reference, probe(run, rows)) == pytest.approx(expected, rel=1e-9)


def test_diagnostics_leave_no_gradients() -> None:
    task = number_task()
    run = task.policy.rollout({}, lambda _: torch.zeros(3, 1))
    table = probe(run, 5)
    assert isinstance(chain_kl(task.policy, freeze_copy(task.policy), table), float)
    assert all(parameter.grad is None for parameter in trainable_module(task.policy).parameters())
