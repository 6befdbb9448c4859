"""RWR fits the denoiser to weighted samples: right weights, right noise, and the error it minimises."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toy import ExactDenoiser, cloud_task, learner, number_task, randn, scored

from molrl.algos.forward import denoising_error, noise_samples
from molrl.algos.rwr import RWR, RWRSparse, WeightedDenoising
from molrl.gaussian import Context
from molrl.noise import Key
from molrl.oracle.linear_gaussian import BASE_MEAN, BASE_VARIANCE, AffineDenoiser, make_sampler
from molrl.policy import Policy
from molrl.samplers import Denoiser
from molrl.schedule import alpha, sigma
from molrl.trajectory import Noised

F64 = torch.float64
KEY = Key(0, 1)
NAN = float("nan")
POINTS = 11  # of a grid of ten steps
REWARDS = torch.tensor([1.0, 4.0, -2.0, 5.0, 0.5], dtype=F64)


def rwr(temperature: float = 0.5, noisings: int = 4) -> RWR:
    return RWR(temperature=temperature, noisings=noisings)


def normals(count: int) -> Tensor:
    """Return samples of the base [count, 1], one from each of `count` parts of equal probability."""
    quantiles = torch.special.ndtri((torch.arange(count, dtype=F64) + 0.5) / count)
    numbers: Tensor = BASE_MEAN + BASE_VARIANCE**0.5 * quantiles
    return numbers.unsqueeze(1)


def base_table(count: int, noisings: int, weight: Tensor | None = None) -> tuple[Tensor, Noised]:
    """Return samples of the base and the table of their noisy states."""
    x0, weight = normals(count), torch.ones(count, dtype=F64) if weight is None else weight
    return x0, noise_samples(make_sampler(), x0, {}, weight, range(count), KEY, noisings)


def coefficients() -> tuple[Tensor, Tensor]:
    log_snr = make_sampler().log_snr
    return alpha(log_snr), sigma(log_snr)


def blind(x: Tensor, t: Tensor, context: Context) -> Tensor:
    return torch.zeros_like(x)


def test_weights_are_the_softmax_of_rewards_in_stds_times_their_number() -> None:
    """exp(k r) / mean(exp(k r)) with k = 1 / (temperature std)."""
    k = 1 / (0.5 * REWARDS.var(correction=0).sqrt())
    expected = (k * REWARDS).exp() / (k * REWARDS).exp().mean()
    assert_close(rwr(0.5).weights(REWARDS), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("temperature", [0.02, 0.5, 50.0])
def test_weights_average_to_one(temperature: float) -> None:
    weights = rwr(temperature).weights(100 * REWARDS)
    assert weights.mean().item() == pytest.approx(1, rel=1e-12)
    assert (weights >= 0).all()


def test_scale_and_offset_of_the_reward_do_not_matter() -> None:
    for other in (3 * REWARDS - 7, 1e-4 * REWARDS, 1e6 * REWARDS + 1e9):
        assert_close(rwr().weights(other), rwr().weights(REWARDS), rtol=1e-6, atol=1e-9)


def test_a_better_sample_never_weighs_less() -> None:
    weights = rwr().weights(REWARDS)
    assert (weights[REWARDS.argsort()].diff() > 0).all()


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
def test_flat_rewards_weigh_alike(value: float) -> None:
    assert_close(rwr().weights(torch.full((7,), value)), torch.ones(7))
    assert_close(rwr().weights(torch.tensor([value])), torch.ones(1))


def test_unknown_rewards_have_no_weight_and_no_say() -> None:
    with_gap = torch.cat([REWARDS[:2], torch.tensor([NAN], dtype=F64), REWARDS[2:]])
    weights = rwr().weights(with_gap)
    assert weights.isnan().tolist() == [False, False, True, False, False, False]
    assert_close(weights[~weights.isnan()], rwr().weights(REWARDS), rtol=1e-12, atol=0)
    assert rwr().weights(torch.full((3,), NAN)).isnan().all()


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.8, 0.9])
def test_sparse_weights_keep_the_best_share(quantile: float) -> None:
    """Of a hundred different rewards, the best (1 - quantile) 100, all alike; the rest is left out."""
    rewards = torch.randperm(100, generator=torch.Generator().manual_seed(0)).float()
    weights = RWRSparse(quantile=quantile, noisings=1).weights(rewards)
    kept = round(100 * (1 - quantile))
    assert weights.nansum() == kept
    assert_close(weights == 1, rewards >= 100 - kept)
    assert weights[rewards < 100 - kept].isnan().all()


def test_sparse_weights_ignore_unknown_rewards() -> None:
    sparse = RWRSparse(quantile=0.5, noisings=1)
    assert sparse.weights(torch.tensor([3.0, NAN, 1.0, 2.0, 4.0])).nan_to_num(0).tolist() == [1, 0, 0, 0, 1]
    assert sparse.weights(torch.tensor([NAN, NAN])).isnan().all()
    assert sparse.weights(torch.full((4,), 0.1)).tolist() == [1] * 4


@pytest.mark.parametrize("algorithm", [rwr(), RWRSparse(quantile=0.5, noisings=4)], ids=["all", "sparse"])
def test_samples_without_a_reward_are_not_learned_from(algorithm: WeightedDenoising) -> None:
    task = number_task(scored(torch.tensor([2.0, NAN, 2.0, float("-inf")])))
    collected = algorithm.collect(learner(task), list(range(4)), KEY)
    assert sorted(collected.table.sample.tolist()) == [0] * 4 + [2] * 4
    assert collected.table.weight.tolist() == [1] * 8
    assert collected.metrics["weight_ess"] == 0.5  # two of four samples carry all the weight
    assert algorithm.loss(learner(task), collected.table)[0].isfinite()


def test_nothing_scored_leaves_nothing_to_learn() -> None:
    task = number_task(scored(torch.full((3,), NAN)))
    assert len(rwr().collect(learner(task), [0, 1, 2], KEY).table) == 0


def test_each_row_has_the_weight_of_its_sample() -> None:
    task = number_task(scored(REWARDS))
    table = rwr().collect(learner(task), list(range(5)), KEY).table
    expected = rwr().weights(REWARDS.float())
    assert_close(table.weight, expected[table.sample], rtol=0, atol=0)
    assert torch.bincount(table.sample).tolist() == [4] * 5


def test_states_have_the_mean_and_the_noise_of_their_grid_point() -> None:
    """x = a_k x_0 + s_k eps with eps of mean 0 and variance 1, drawn anew for every row."""
    count = 3000
    x0, table = base_table(count, POINTS)
    a, s = coefficients()
    for k in range(POINTS):
        here = table.step == k
        assert sorted(table.sample[here].tolist()) == list(range(count))
        noise = (table.x[here] - a[k] * x0[table.sample[here]]) / s[k]
        assert_close(noise, table.target[here], rtol=0, atol=1e-9)
        assert noise.mean().abs() < 4 / count**0.5
        assert (noise.var() - 1).abs() < 4 * (2 / count) ** 0.5
        assert torch.corrcoef(torch.cat([noise, x0[table.sample[here]]], 1).T)[0, 1].abs() < 4 / count**0.5
    assert len(table.target.unique()) > 0.999 * count * POINTS  # single-precision draws coincide now and then


def test_noise_lies_in_the_space() -> None:
    """Zero on padding, centred positions, and one unit of variance per degree of freedom: 5 m - 3 for m points."""
    task = cloud_task(lambda samples: torch.arange(len(samples)).float())
    table = rwr(noisings=200).collect(learner(task), list(range(6)), KEY).table
    mask = table.context["mask"]
    for states in (table.target, table.x):
        assert (states[~mask] == 0).all()
        assert_close(states[..., :3].sum(1), torch.zeros(len(table), 3), rtol=0, atol=1e-4)
    square = table.target.square().flatten(1).sum(1)
    for size in (2, 3, 4):
        rows = square[mask.sum(1) == size]
        assert rows.mean().item() == pytest.approx(5 * size - 3, abs=4 * (2 * (5 * size - 3) / len(rows)) ** 0.5)


@pytest.mark.parametrize("times", [1, 3])
def test_as_many_noisings_as_grid_points_visit_each_alike(times: int) -> None:
    _, table = base_table(20, times * POINTS)
    for sample in range(20):
        assert torch.bincount(table.step[table.sample == sample]).tolist() == [times] * POINTS


def test_a_few_grid_points_lie_evenly_along_the_chain() -> None:
    """Four of eleven points, around a circle: neighbours differ by two or three."""
    _, table = base_table(50, 4)
    for sample in range(50):
        step = table.step[table.sample == sample].sort().values
        gaps = torch.cat([step.diff(), step[:1] + POINTS - step[-1:]])
        assert set(gaps.tolist()) <= {2, 3}


def test_every_grid_point_is_as_likely_as_any_other() -> None:
    count = 4400
    _, table = base_table(count, 1)
    visits = torch.bincount(table.step, minlength=POINTS)
    assert (visits - count / POINTS).abs().max() < 4 * (count / POINTS) ** 0.5


def test_a_sample_is_noised_alike_in_any_batch() -> None:
    def noised_in(samples: list[int], width: int) -> Noised:
        task = cloud_task(lambda clouds: torch.arange(len(clouds)).float(), width=width)
        return RWRSparse(quantile=0.0, noisings=5).collect(learner(task), samples, KEY).table

    together, alone = noised_in([3, 4, 5], 4), noised_in([4], 7)
    rows = together.sample == 1
    assert_close(together.step[rows], alone.step, rtol=0, atol=0)
    assert_close(together.target[rows], alone.target[:, :4], rtol=0, atol=1e-6)
    assert_close(together.x[rows], alone.x[:, :4], rtol=0, atol=2e-5)
    assert (alone.x[:, 4:] == 0).all()


def test_a_sample_that_is_left_out_does_not_move_the_noise_of_others() -> None:
    sampler, x0 = make_sampler(), randn(4, 1)
    complete = noise_samples(sampler, x0, {}, torch.ones(4, dtype=F64), [7, 8, 9, 10], KEY, 3)
    gap = noise_samples(sampler, x0, {}, torch.tensor([1, NAN, 1, 1], dtype=F64), [7, 8, 9, 10], KEY, 3)
    rows = complete.sample != 1
    assert_close(
        (gap.x, gap.step, gap.sample), (complete.x[rows], complete.step[rows], complete.sample[rows]), rtol=0, atol=0
    )


def test_each_round_has_noise_of_its_own() -> None:
    sampler, x0, weight = make_sampler(), randn(4, 1), torch.ones(4, dtype=F64)
    one, two = (noise_samples(sampler, x0, {}, weight, [0, 1, 2, 3], Key(0, stream), 3) for stream in (1, 2))
    assert (one.target != two.target).all()


def test_the_error_is_per_degree_of_freedom() -> None:
    """Who sees no noise is wrong by one unit per degree of freedom, however many there are."""
    task = cloud_task(lambda samples: torch.zeros(len(samples)))
    task = replace(task, policy=replace(task.policy, denoiser=blind))
    table = rwr(noisings=300).collect(learner(task), list(range(6)), KEY).table
    error = denoising_error(task.policy, table)
    for size in (2, 3, 4):
        rows = error[table.context["mask"].sum(1) == size]
        assert rows.mean().item() == pytest.approx(1, abs=4 * (2 / (5 * size - 3) / len(rows)) ** 0.5)


def test_the_error_ignores_padding() -> None:
    def outside(exact: Denoiser, scale: float) -> Denoiser:
        def denoiser(x: Tensor, t: Tensor, context: Context) -> Tensor:
            return exact(x, t, context) + scale * (~context["mask"]).unsqueeze(-1)

        return denoiser

    def loss_of(width: int, scale: float) -> Tensor:
        task = cloud_task(lambda clouds: torch.arange(len(clouds)).float(), width=width)
        table = rwr(noisings=3).collect(learner(task), list(range(6)), KEY).table
        policy = replace(task.policy, denoiser=outside(task.policy.denoiser, scale))
        return denoising_error(policy, table)

    expected = loss_of(4, 0.0)
    assert_close(loss_of(4, 1e3), expected, rtol=0, atol=0)
    assert_close(loss_of(7, 1e3), expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_is_that_of_the_weighted_squared_error() -> None:
    """By hand, for eps_th = eps_base + u_k (slope_k x + shift_k): 2 / rows sum w u_k mean((eps_th - eps) (x, 1))."""
    sampler, dims = make_sampler(), 3
    denoiser = AffineDenoiser(sampler, F64)
    with torch.no_grad():
        denoiser.slope.copy_(0.2 * randn(10))
        denoiser.shift.copy_(0.2 * randn(10, seed=1))
    policy = Policy(denoiser, sampler)
    weight = rwr().weights(randn(30, seed=2))
    table = noise_samples(sampler, randn(30, dims, seed=3), {}, weight, range(30), KEY, POINTS)
    loss, facts = rwr().loss(learner(policy), table)
    a, s = (values[table.step].unsqueeze(1) for values in coefficients())
    unit = torch.cat([sampler.std / sampler.prediction_coef, torch.zeros(1, dtype=F64)])[table.step].unsqueeze(1)
    base = s * (table.x - a * BASE_MEAN) / (a**2 * BASE_VARIANCE + s**2)
    slope, shift = (torch.cat([p.detach(), torch.zeros(1, dtype=F64)])[table.step] for p in denoiser.parameters())
    miss = base + unit * (slope.unsqueeze(1) * table.x + shift.unsqueeze(1)) - table.target
    row = table.weight.unsqueeze(1) * unit * miss * 2 / (dims * len(table))
    assert loss.item() == pytest.approx((table.weight * miss.square().mean(1)).mean().item(), rel=1e-9)
    assert_close(facts["denoising_error"].detach(), miss.square().mean(1), rtol=1e-9, atol=1e-12)
    for parameter, part in ((denoiser.slope, row * table.x), (denoiser.shift, row)):
        (gradient,) = torch.autograd.grad(loss, parameter, retain_graph=True)
        expected = torch.zeros(POINTS, dtype=F64).index_add(0, table.step, part.sum(1))[:10]
        assert_close(gradient, expected, rtol=1e-8, atol=1e-12)


def bayes_error(variance: float) -> Tensor:
    """Compute Var(eps | x_t) of normal data at each grid point: a^2 v / (a^2 v + s^2)."""
    a, s = coefficients()
    return a**2 * variance / (a**2 * variance + s**2)


def test_an_exact_denoiser_errs_as_little_as_can_be() -> None:
    count = 3000
    _, table = base_table(count, POINTS)
    policy = Policy(ExactDenoiser(make_sampler().schedule), make_sampler())
    loss, facts = rwr().loss(learner(policy), table)
    for k, expected in enumerate(bayes_error(BASE_VARIANCE)):
        error = facts["denoising_error"][table.step == k].mean()
        assert error.item() == pytest.approx(expected.item(), rel=4 * (2 / count) ** 0.5)
    assert loss.item() == pytest.approx(bayes_error(BASE_VARIANCE).mean().item(), rel=4 * (2 / len(table)) ** 0.5)


def test_no_denoiser_beats_the_exact_one() -> None:
    _, table = base_table(2000, POINTS)
    schedule = make_sampler().schedule
    best, *others = (
        rwr().loss(learner(Policy(ExactDenoiser(schedule, means=(m,), variances=(v,)), make_sampler())), table)[0]
        for m, v in ((0.5, 0.49), (0.7, 0.49), (0.3, 0.49), (0.5, 0.7), (0.5, 0.35))
    )
    assert all(best < other for other in others)


def residuals(table: Noised, mean: float) -> Mapping[str, Tensor]:
    """Compute z-scores of the exact denoiser's weighted residuals against 1 and x, for N(mean, base variance)."""
    denoiser = ExactDenoiser(make_sampler().schedule, means=(mean,))
    step = table.step
    with torch.no_grad():
        miss = (table.target - denoiser(table.x, make_sampler().times[step], {})) * table.weight.unsqueeze(1)
    rows = {"1": miss, "x": miss * table.x}
    return {name: row.mean() / (row.std() / len(row) ** 0.5) for name, row in rows.items()}


def test_one_round_on_samples_of_the_reference_is_the_tilt() -> None:
    """r = x: the weighted regression is solved by the exact denoiser of p exp(k x) = N(m + k v, v), k = 1 / (T std)."""
    x0 = normals(4000)
    temperature = 2.0
    weight = rwr(temperature).weights(x0.squeeze(1))
    _, table = base_table(4000, POINTS, weight)
    tilted = BASE_MEAN + BASE_VARIANCE / (temperature * BASE_VARIANCE**0.5)
    assert max(value.abs() for value in residuals(table, tilted).values()) < 4
    assert max(value.abs() for value in residuals(table, BASE_MEAN).values()) > 10


def test_the_samples_are_the_policys_own() -> None:
    task = number_task()
    with torch.no_grad():
        task.policy.denoiser.shift.add_(0.5)  # type: ignore[attr-defined]
    collected = rwr().collect(learner(task, number_task().policy), list(range(8)), KEY)
    assert collected.behaviour is task.policy
    assert collected.reward_queries == 8
    own = task.rollout(list(range(8)), KEY)
    assert_close(collected.rollouts.trajectory.final, own.trajectory.final, rtol=0, atol=0)
    assert_close(collected.rollouts.rewards, own.rewards, rtol=0, atol=0)


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"temperature": NAN}, {"noisings": 0}])
def test_settings_that_mean_nothing_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        rwr(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("quantile", [-0.1, 1.0, NAN])
def test_a_share_that_leaves_nobody_is_refused(quantile: float) -> None:
    with pytest.raises(ValueError, match="quantile"):
        RWRSparse(quantile=quantile, noisings=1)
