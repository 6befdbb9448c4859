"""The pull of RGDM is what its formula says: uphill, inside its ball, and nothing where the reward says nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toy import cloud_task, last_state, learner, number_task, randn

from molrl.algos import Collected
from molrl.algos.candidates import in_ball
from molrl.algos.pulls import CandidatePull, payoff_weights
from molrl.algos.rgdm import RGDM
from molrl.algos.step_sources import Source, step_source
from molrl.finetune import freeze_copy
from molrl.gaussian import Context, MaskedPoints
from molrl.noise import Key
from molrl.oracle.linear_gaussian import BASE_MEAN, BASE_VARIANCE, QUADRATIC, AffineDenoiser, make_sampler
from molrl.schedule import alpha, sigma
from molrl.task import Task
from molrl.trainable_parameters import trainable_module
from molrl.trajectory import Transitions

KEY = Key(0, 1)
NAN = float("nan")


def rgdm(**changes: object) -> RGDM:
    settings = {
        "source": "policy",
        "guidance": "candidates",
        "candidates": 4,
        "radius": 0.5,
        "temperature": 1.0,
        "states": 2,
        "first": 0.0,
        "last": 1.0,
        "lookahead": 0,
        "held": 0,
        "kl_weight": 0.0,
    }
    return RGDM(**{**settings, **changes})  # type: ignore[arg-type]


def pull_of(algorithm: RGDM) -> CandidatePull:
    assert isinstance(algorithm.strategy, CandidatePull)
    return algorithm.strategy


def pulls(task: Task, collected: Collected[Transitions]) -> Tensor:
    """Return the pulls of a table on the means."""
    with torch.no_grad():
        return collected.table.y - task.policy.transition(collected.table).mean


def length(samples: Sequence[Tensor]) -> Tensor:
    return torch.stack([sample.square().mean() for sample in samples])


def test_a_flat_reward_pulls_nowhere() -> None:
    task = number_task(lambda samples: torch.ones(len(samples)))
    collected = rgdm().collect(learner(task), list(range(4)), KEY)
    assert collected.metrics["payoff_flat"] == 1
    assert collected.metrics["payoff_reward"] == 1
    assert collected.metrics["pull"] == 0
    assert_close(pulls(task, collected), torch.zeros_like(collected.table.y), atol=1e-6, rtol=0)


def test_held_steps_are_learned_from_without_a_pull() -> None:
    """They come from the whole chain, those that are scored from the window alone."""
    task = number_task()
    collected = rgdm(states=2, first=0.5, last=0.6, held=3).collect(learner(task), list(range(6)), KEY)
    pull = pulls(task, collected).abs().squeeze(1)
    scored = pull > 1e-6
    assert len(set(collected.table.step[scored].tolist())) == 1
    assert 6 * 2 <= int((~scored).sum()) <= 6 * 3


def test_weights_of_a_flat_reward_balance_each_pair() -> None:
    weights, scored = payoff_weights(torch.full((6, 2), 3.0), 1.0)
    assert_close(weights, torch.full((6, 2), 1 / 6))
    assert scored.all()


def test_weights_are_the_pay_off_distribution() -> None:
    """w ~ exp(r / tau)."""
    weights, known = payoff_weights(torch.tensor([[0.0], [1.0], [3.0], [-1.0]]), 2.0)
    expected = torch.tensor([[0.0], [0.5], [1.5], [-0.5]]).exp()
    assert_close(weights, expected / expected.sum())
    assert known.all()


def test_a_candidate_without_a_reward_takes_its_mirror_image_with_it() -> None:
    weights, known = payoff_weights(torch.tensor([[NAN, NAN], [1.0, NAN], [5.0, NAN], [2.0, NAN]]), 1.0)
    assert weights[[0, 2], 0].tolist() == [0, 0]
    assert weights[:, 0].sum().item() == pytest.approx(1)
    assert (weights[:, 1] == 0).all()
    assert known.tolist() == [True, False]


@pytest.mark.parametrize("dims", [1, 3])
def test_a_linear_reward_pulls_by_the_radius_squared_along_its_gradient(dims: int) -> None:
    """E[pull] = R^2 / (tau (d + 2)) grad r to first order in R |grad r| / tau, R = rho std sqrt(d + 2)."""
    slope = torch.tensor([3.0, -1.0, 2.0])[:dims]
    task = number_task(lambda samples: torch.stack(list(samples)) @ slope, dims)
    algorithm = rgdm(temperature=5.0, radius=0.5, states=1, first=0.5, last=0.6, candidates=8)
    collected = algorithm.collect(learner(task), list(range(800)), KEY)
    assert set(collected.table.step.tolist()) == {5}
    pull = pulls(task, collected).double()
    # The score is read off the clean estimate of the next state, for N(0.5, 0.49): x0_hat = const + gain y.
    sampler = make_sampler()
    a, s = alpha(sampler.log_snr)[6], sigma(sampler.log_snr)[6]
    gain = (1 - s * s / (a**2 * 0.49 + s**2)) / a
    unit = collected.rollouts.rewards.std(correction=0).double()
    expected = (0.5 * sampler.std[5]) ** 2 / 5.0 * gain * slope.double() / unit
    error = pull.std(0) / len(pull) ** 0.5
    assert ((pull.mean(0) - expected).abs() < 4 * error + 0.02 * expected.abs()).all()
    assert (error < 0.1 * expected.abs().max()).all()


def test_pulls_are_centred_and_zero_on_padding() -> None:
    task = cloud_task(length)
    collected = rgdm().collect(learner(task), list(range(6)), KEY)
    assert len(collected.table) == 12
    pull = pulls(task, collected)
    assert (pull[~collected.table.context["mask"]] == 0).all()
    assert_close(pull[..., :3].sum(1), torch.zeros(12, 3), rtol=0, atol=1e-5)
    assert (pull.flatten(1).norm(dim=1) > 0).all()


def test_pulls_stay_inside_of_the_ball() -> None:
    task = cloud_task(lambda samples: 1e6 * length(samples))
    collected = rgdm(temperature=1e-3, radius=0.3).collect(learner(task), list(range(6)), KEY)
    table = collected.table
    with torch.no_grad():
        kernel = task.policy.transition(table)
    radius = 0.3 * kernel.std * (kernel.dof + 2).sqrt()
    assert (pulls(task, collected).flatten(1).norm(dim=1) <= radius * 1.0001).all()


def test_padding_changes_nothing() -> None:
    narrow, wide = (
        rgdm().collect(learner(cloud_task(length, width=width)), list(range(6)), KEY).table for width in (4, 7)
    )
    assert_close(wide.y[:, :4], narrow.y, rtol=0, atol=2e-5)
    assert (wide.y[:, 4:] == 0).all()


def test_a_sample_is_pulled_alike_in_any_batch() -> None:
    sampler = cloud_task(length).policy.sampler
    together = rgdm().collect(learner(cloud_task(length, sizes=(4,))), [3, 4, 5], KEY).table
    alone = rgdm().collect(learner(cloud_task(length, sizes=(4,))), [4], KEY).table
    offsets = [
        pull_of(rgdm()).offsets(sampler, rows, torch.ones(len(rows)), samples, KEY)
        for rows, samples in ((together[together.sample == 1], [3, 4, 5]), (alone, [4]))
    ]
    assert_close(offsets[0], offsets[1], rtol=0, atol=0)


def test_candidates_differ_and_come_in_pairs() -> None:
    task = cloud_task(length)
    table = rgdm().collect(learner(task), list(range(3)), KEY).table
    offsets = pull_of(rgdm(candidates=8)).offsets(task.policy.sampler, table, torch.ones(len(table)), [0, 1, 2], KEY)
    assert_close(offsets[:4], -offsets[4:], rtol=0, atol=0)
    assert len(offsets.flatten(0, 1).flatten(1).unique(dim=0)) == 8 * len(table)


def test_the_ball_is_filled_evenly() -> None:
    """For u uniform in the unit ball of d dimensions, E[u u^T] = I / (d + 2) and |u|^d is uniform."""
    generator, context = torch.Generator().manual_seed(0), {"mask": (torch.arange(3) < 2).expand(8000, 3)}
    gaussian = torch.randn(8000, 3, 4, generator=generator, dtype=torch.float64)
    u = in_ball(gaussian, torch.rand(8000, generator=generator, dtype=torch.float64), MaskedPoints(), context)
    d = 3 + 2
    size = u.flatten(1).norm(dim=1)
    assert size.max() <= 1
    assert (size**d).mean().item() == pytest.approx(0.5, abs=0.015)
    assert u[:, 0, 3].square().mean().item() == pytest.approx(1 / (d + 2), abs=0.007)
    assert u.square().sum((1, 2)).mean().item() == pytest.approx(d / (d + 2), abs=0.01)


def test_candidates_without_a_reward_do_not_pull() -> None:
    """Half of the candidates cannot be scored, at random: no NaN, and the rest still pulls."""

    def flaky(samples: Sequence[Tensor]) -> Tensor:
        lost = torch.rand(len(samples), generator=torch.Generator().manual_seed(0)) < 0.5
        return torch.where(lost & torch.tensor(len(samples) > 8), NAN, length(samples))

    task = cloud_task(flaky)
    collected = rgdm(candidates=8).collect(learner(task), list(range(8)), KEY)
    assert len(collected.table) > 0
    assert collected.table.y.isfinite().all()
    assert 0 < collected.metrics["payoff_lost"] < 1
    assert collected.metrics["payoff_reward"] > 0  # the mean of those that have one


def test_nothing_scored_leaves_nothing_to_learn() -> None:
    collected = rgdm().collect(learner(cloud_task(lambda samples: torch.full((len(samples),), NAN))), [0, 1], KEY)
    assert len(collected.table) == 0
    assert torch.tensor([collected.metrics[name] for name in ("payoff_ess", "payoff_flat", "pull")]).isfinite().all()


def test_at_infinite_temperature_the_policy_stays_where_it_is() -> None:
    task = number_task()
    table = rgdm(temperature=1e12).collect(learner(task), list(range(4)), KEY).table
    with torch.no_grad():
        assert_close(table.y, task.policy.transition(table).mean, rtol=0, atol=1e-6)


def test_the_loss_is_a_regression_of_the_mean() -> None:
    """Gradient of |mu - target|^2 / (2 std^2) in the units of the toy: minus the pull in stds."""
    task = number_task()
    collected = rgdm().collect(learner(task), list(range(6)), KEY)
    table, denoiser = collected.table, task.policy.denoiser
    assert isinstance(denoiser, AffineDenoiser)
    loss, _ = rgdm().loss(learner(task.policy, freeze_copy(task.policy)), table)
    (gradient,) = torch.autograd.grad(loss, denoiser.shift)
    pull = pulls(task, collected).squeeze(1) / make_sampler().std[table.step].float()
    expected = torch.zeros(10).index_add(0, table.step, -pull) / len(table)
    assert_close(gradient, expected, rtol=1e-3, atol=1e-6)


def test_kl_to_the_reference_holds_the_policy_back() -> None:
    task = number_task()
    table = rgdm().collect(learner(task), list(range(4)), KEY).table
    reference = freeze_copy(task.policy)
    with torch.no_grad():
        task.policy.denoiser.shift.add_(0.5)  # type: ignore[attr-defined]
    free, held = (rgdm(kl_weight=w).loss(learner(task.policy, reference), table)[0].item() for w in (0.0, 3.0))
    assert held - free == pytest.approx(3.0 * 0.5**2 / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [(0.0, 1.0, set(range(10))), (0.3, 0.6, {3, 4, 5}), (0.99, 1.0, {9}), (0.5, 0.51, {5})],
)
def test_states_are_chosen_inside_of_the_window(first: float, last: float, expected: set[int]) -> None:
    algorithm = rgdm(first=first, last=last)
    scored, _ = algorithm.choose_steps(10, list(range(40)), KEY)
    assert set(scored.nonzero()[:, 0].tolist()) == expected
    assert (scored.sum(0) == min(2, len(expected))).all()


def test_every_question_to_the_reward_is_counted() -> None:
    sizes: list[int] = []

    def counted(samples: Sequence[Tensor]) -> Tensor:
        sizes.append(len(samples))
        return length(samples)

    collected = rgdm(candidates=6, states=3).collect(learner(cloud_task(counted)), list(range(5)), KEY)
    assert collected.reward_queries == sum(sizes) == 5 + 5 * 3 * 6


def test_the_expected_reward_of_the_oracle_rises() -> None:
    task = number_task()
    denoiser = trainable_module(task.policy)
    assert isinstance(denoiser, AffineDenoiser)
    before = QUADRATIC.expected(last_state(task.policy))
    optimizer = torch.optim.SGD(denoiser.parameters(), lr=2.0)
    algorithm = rgdm(states=10)
    for i in range(10):
        samples = list(range(20 * i, 20 * (i + 1)))
        table = algorithm.collect(learner(task), samples, Key(0, i)).table
        optimizer.zero_grad()
        algorithm.loss(learner(task.policy, task.policy), table)[0].backward()
        optimizer.step()
    assert QUADRATIC.expected(last_state(task.policy)) > before + 0.35


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"candidates": 3}, "candidates"),
        ({"radius": 0.0}, "radius"),
        ({"temperature": NAN}, "temperature"),
        ({"states": 0}, "states"),
        ({"first": 0.6, "last": 0.5}, "first, last"),
        ({"last": 1.1}, "first, last"),
        ({"kl_weight": -1.0}, "kl_weight"),
    ],
)
def test_settings_that_mean_nothing_are_refused_by_name(wrong: dict[str, float], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        replace(rgdm(), **wrong)  # type: ignore[arg-type]


def linear(slope: Tensor) -> Callable[[Sequence[Tensor]], Tensor]:
    """Return the reward slope . x, which is differentiable."""

    def reward(samples: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(samples)) @ slope

    reward.differentiable = True  # type: ignore[attr-defined]
    return reward


def differentiable_length(samples: Sequence[Tensor]) -> Tensor:
    return length(samples)


differentiable_length.differentiable = True  # type: ignore[attr-defined]


def real_numbers(x0: Tensor) -> Callable[[Sequence[int], Key], tuple[Tensor, Context]]:
    """Return a source of real samples: sample i is row i of `x0`."""

    def data(samples: Sequence[int], key: Key) -> tuple[Tensor, Context]:
        return x0[list(samples)], {}

    return data


def exact_gain(lookahead: int, step: int) -> float:
    """Compute d x0_hat / d y of the base's exact denoiser from grid point `step`, after so many deterministic steps.

    x0_hat = (y - s eps) / a with d eps / d y = s / (a^2 v + s^2), and a deterministic step keeps eps.
    """
    log_snr = make_sampler().log_snr
    a, s = alpha(log_snr), sigma(log_snr)
    noise = s / (a**2 * 0.49 + s**2)
    clean = (1 - s * noise) / a
    gain, place = 1.0, step
    for left in range(lookahead, 0, -1):
        nearer = place + (10 - place) // (left + 1)
        gain *= (a[nearer] * clean[place] + s[nearer] * noise[place]).item()
        place = nearer
    return gain * clean[place].item()


@pytest.mark.parametrize("lookahead", [0, 1, 2])
@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("smallest", [1, 2048])
def test_gradient_guidance_pulls_by_the_radius_squared_along_the_gradient(
    dims: int, lookahead: int, smallest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R^2 / (tau (d + 2)) grad_y r(x0_hat(y)) at every step, R = rho std sqrt(d + 2): no candidate is drawn.

    Whether the 500 steps come in parts of 32 or all at once.
    """
    monkeypatch.setattr("molrl.reward_queue.MIN_PART_NUMBERS", smallest)
    slope = torch.tensor([3.0, -1.0, 2.0])[:dims]
    task = number_task(linear(slope), dims)
    algorithm = rgdm(guidance="gradient", temperature=5.0, states=10, lookahead=lookahead)
    collected = algorithm.collect(learner(task), list(range(50)), KEY)
    assert collected.reward_queries == 50 + 50 * 10
    table, unit = collected.table, collected.rollouts.rewards.std(correction=0)
    gain = torch.tensor([exact_gain(lookahead, k + 1) for k in range(10)])[table.step]
    expected = ((0.5 * make_sampler().std[table.step]) ** 2 / 5.0 * gain).float().unsqueeze(1) * slope / unit
    assert_close(pulls(task, collected), expected, rtol=2e-2, atol=2e-6)


def test_gradient_guidance_is_the_mean_over_many_candidates() -> None:
    """The same steps, candidates of little spread: 400 pulls of 64 candidates average to the gradient's one."""
    slope = torch.tensor([1.0, -2.0])
    settings: dict[str, object] = {"temperature": 8.0, "states": 1, "first": 0.7, "last": 0.8}
    task = number_task(linear(slope), 2)
    samples = list(range(400))
    zero_order = rgdm(candidates=64, **settings).collect(learner(task), samples, KEY)
    first_order = rgdm(guidance="gradient", **settings).collect(learner(task), samples, KEY)
    assert_close(zero_order.table.x, first_order.table.x, rtol=0, atol=0)
    drawn, exact = pulls(task, zero_order).double(), pulls(task, first_order).double()
    error = drawn.std(0) / len(drawn) ** 0.5
    assert ((drawn.mean(0) - exact.mean(0)).abs() < 4 * error + 0.02 * exact.mean(0).abs()).all()
    assert (error < 0.05 * exact.mean(0).abs().max()).all()


def test_gradient_pulls_are_no_longer_than_the_radius() -> None:
    """However steep the reward: exactly R, in its direction, inside of the space."""
    task = cloud_task(differentiable_length)
    gentle, steep = (
        rgdm(guidance="gradient", radius=0.3, temperature=t, states=10).collect(learner(task), list(range(6)), KEY)
        for t in (100.0, 1e-6)
    )
    with torch.no_grad():
        kernel = task.policy.transition(steep.table)
    radius = 0.3 * kernel.std * (kernel.dof + 2).sqrt()
    pull, small = pulls(task, steep).flatten(1), pulls(task, gentle).flatten(1)
    assert_close(pull.norm(dim=1), radius, rtol=2e-3, atol=1e-5)
    assert (small.norm(dim=1) < 0.2 * radius).all()
    late = steep.table.step < 9  # the last std is too small for single precision to tell directions
    assert (torch.cosine_similarity(pull, small)[late] > 0.99).all()
    assert steep.metrics["pull"] == pytest.approx(
        (0.3 * ((kernel.dof + 2) / kernel.dof).sqrt()).mean().item(), rel=1e-3
    )


def test_gradient_pulls_are_centred_and_zero_on_padding() -> None:
    """Even where the denoiser treats the points unlike each other, so that the plain gradient is not."""
    task = cloud_task(differentiable_length)
    exact = task.policy.denoiser

    def uneven(x: Tensor, t: Tensor, context: Context) -> Tensor:
        return exact(x, t, context) * (1 + 0.3 * torch.arange(x.shape[1]).view(-1, 1))

    task = replace(task, policy=replace(task.policy, denoiser=uneven))
    collected = rgdm(guidance="gradient").collect(learner(task), list(range(6)), KEY)
    pull = pulls(task, collected)
    assert (pull[~collected.table.context["mask"]] == 0).all()
    assert_close(pull[..., :3].sum(1), torch.zeros(12, 3), rtol=0, atol=1e-5)
    assert (pull.flatten(1).norm(dim=1) > 0).all()


def test_a_flat_differentiable_reward_pulls_nowhere() -> None:
    task = number_task(linear(torch.zeros(1)))
    collected = rgdm(guidance="gradient").collect(learner(task), list(range(4)), KEY)
    assert collected.metrics["pull"] == 0
    assert_close(pulls(task, collected), torch.zeros_like(collected.table.y), atol=1e-6, rtol=0)


def test_a_gradient_that_is_no_number_pulls_nobody_else() -> None:
    """Rewards that are NaN for one in two: those steps are left out, and the others pulled as ever."""

    def some(samples: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(samples)) + torch.where(torch.arange(len(samples)) % 2 == 0, 0.0, NAN)

    some.differentiable = True  # type: ignore[attr-defined]
    complete, task = number_task(linear(torch.ones(1))), number_task(some)
    algorithm = rgdm(guidance="gradient", states=1, first=0.5, last=0.6, temperature=5.0)
    collected = algorithm.collect(learner(task), list(range(6)), KEY)
    expected = algorithm.collect(learner(complete), list(range(6)), KEY)
    assert collected.table.sample.tolist() == [0, 2, 4]
    assert collected.metrics["payoff_lost"] == 0.5
    units = [each.rollouts.rewards[~each.rollouts.rewards.isnan()].std(correction=0) for each in (collected, expected)]
    got, wanted = pulls(task, collected) * units[0], pulls(complete, expected)[::2] * units[1]
    assert_close(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("differentiable", [None, False])
def test_gradient_guidance_needs_a_differentiable_reward(differentiable: bool | None) -> None:
    def reward(samples: Sequence[Tensor]) -> Tensor:
        return length(samples)

    if differentiable is not None:
        reward.differentiable = differentiable  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="guidance=gradient: the reward of task 'clouds' has no gradient"):
        rgdm(guidance="gradient").modules(cloud_task(reward))
    assert len(rgdm().modules(cloud_task(reward))) == 0
    assert len(rgdm(guidance="gradient").modules(cloud_task(differentiable_length))) == 0


def posterior_mean(eta: float, x: Tensor, x0: Tensor, step: Tensor) -> Tensor:
    """Compute a' x_0 + sqrt(1 - a'^2 - std^2) eps with the true eps = (x - a x_0) / s (Song et al. 2021, Eq. 7)."""
    sampler = make_sampler(eta=eta)
    shape = (-1, *[1] * (x.dim() - 1))
    a, s = (values.view(shape) for values in (alpha(sampler.log_snr)[step], sigma(sampler.log_snr)[step]))
    a_next, s_next = (f(sampler.log_snr)[step + 1].view(shape) for f in (alpha, sigma))
    left = (s_next**2 - sampler.std[step].view(shape) ** 2).clamp(min=0).sqrt()
    return a_next * x0 + left * (x - a * x0) / s


def test_the_posterior_of_an_ancestral_chain_is_that_of_ddpm() -> None:
    """Ho et al. 2020 (arXiv:2006.11239), Eq. 7: a' (1 - q^2) / s^2 x_0 + q s'^2 / s^2 x with q = a / a'."""
    a, s = alpha(make_sampler().log_snr), sigma(make_sampler().log_snr)
    step, x, x0 = torch.arange(10), randn(10, 1), randn(10, 1, seed=1)
    q = a[:-1] / a[1:]
    expected = (a[1:] * (1 - q**2) / s[:-1] ** 2) * x0[:, 0] + q * s[1:] ** 2 / s[:-1] ** 2 * x[:, 0]
    assert_close(posterior_mean(1.0, x, x0, step)[:, 0], expected, rtol=1e-8, atol=1e-10)


def with_eta(task: Task, eta: float) -> Task:
    sampler = replace(task.policy.sampler, eta=eta)  # type: ignore[type-var]
    return replace(task, policy=replace(task.policy, sampler=sampler))


@pytest.mark.parametrize("eta", [1.0, 0.5])
@pytest.mark.parametrize("held", [0, 3])
def test_replayed_steps_aim_at_the_posterior_of_their_own_sample(eta: float, held: int) -> None:
    """A flat reward: x is the finished sample, noised; the target is the mean of q(y | x, x_0), the held steps' too."""
    task = with_eta(number_task(lambda samples: torch.ones(len(samples)), dims=2), eta)
    algorithm = rgdm(source="replay", states=4, first=0.0, last=0.7, held=held)
    collected = algorithm.collect(learner(task), list(range(30)), KEY)
    table = collected.table
    x0 = collected.rollouts.trajectory.final.double()[table.sample]
    assert_close(table.y.double(), posterior_mean(eta, table.x.double(), x0, table.step), rtol=0, atol=2e-5)
    assert set(table.step.tolist()) == set(range(10 if held else 7))
    pairs = set(zip(table.sample.tolist(), table.step.tolist(), strict=True))
    assert len(pairs) == len(table)  # a step is scored or held, not both


def test_replayed_states_are_standard_noise_on_their_sample() -> None:
    task = number_task(lambda samples: torch.ones(len(samples)))
    collected = rgdm(source="replay", states=10).collect(learner(task), list(range(300)), KEY)
    table, log_snr = collected.table, make_sampler().log_snr
    x0 = collected.rollouts.trajectory.final.double()[table.sample]
    a, s = alpha(log_snr)[table.step].unsqueeze(1), sigma(log_snr)[table.step].unsqueeze(1)
    eps = (table.x.double() - a * x0) / s
    assert eps.mean().abs() < 4 / len(eps) ** 0.5
    assert (eps.var() - 1).abs() < 4 * (2 / len(eps)) ** 0.5
    assert torch.corrcoef(torch.cat([eps, x0], 1).T)[0, 1].abs() < 4 / len(eps) ** 0.5
    assert len(eps.unique()) == len(eps)


@pytest.mark.parametrize("source", ["policy", "replay"])
def test_ordinary_steps_are_draws_of_their_own_kernel(source: Source) -> None:
    """Candidates lie around y ~ N(mean, std^2), not around its mean."""
    task = number_task()
    samples = list(range(300))
    rollouts = task.rollout(samples, KEY)
    steps, ordinary = step_source(source, task, rollouts, samples, KEY).steps(torch.ones(10, 300, dtype=torch.bool))
    z = (steps.y - ordinary.mean) / ordinary.std.unsqueeze(1)
    z, x = z[steps.step < 9], steps.x[steps.step < 9]  # the last std is lost in single precision
    assert z.mean().abs() < 4 / len(z) ** 0.5
    assert (z.var() - 1).abs() < 4 * (2 / len(z)) ** 0.5
    assert torch.corrcoef(torch.cat([z, x], 1).T)[0, 1].abs() < 4 / len(z) ** 0.5


@pytest.mark.parametrize("source", ["replay", "data"])
def test_steps_of_clean_samples_are_pulled_as_those_of_rollouts(source: str) -> None:
    """Posterior mean plus R^2 / (tau (d + 2)) grad r."""
    slope = torch.tensor([2.0, -1.0])
    task = replace(number_task(linear(slope), 2), data=real_numbers(torch.ones(30, 2)))
    algorithm = rgdm(source=source, guidance="gradient", temperature=5.0, states=10)
    collected = algorithm.collect(learner(task), list(range(30)), KEY)
    table, unit = collected.table, collected.rollouts.rewards.std(correction=0)
    x0 = collected.rollouts.trajectory.final if source == "replay" else torch.ones(30, 2)
    mean = posterior_mean(1.0, table.x.double(), x0.double()[table.sample], table.step)
    gain = torch.tensor([exact_gain(0, k + 1) for k in range(10)])[table.step]
    expected = ((0.5 * make_sampler().std[table.step]) ** 2 / 5.0 * gain).unsqueeze(1) * slope.double() / unit.double()
    assert_close(table.y.double() - mean, expected, rtol=2e-2, atol=1e-5)


@pytest.mark.parametrize("source", ["replay", "data"])
def test_steps_of_clean_samples_lie_in_the_space(source: str) -> None:
    task = replace(cloud_task(length), data=real_clouds)
    collected = rgdm(source=source, held=2).collect(learner(task), list(range(6)), KEY)
    table = collected.table
    for states in (table.x, table.y):
        assert (states[~table.context["mask"]] == 0).all()
        assert_close(states[..., :3].sum(1), torch.zeros(len(table), 3), rtol=0, atol=1e-4)


def real_clouds(samples: Sequence[int], key: Key) -> tuple[Tensor, Context]:
    """Return points of sizes 5 and 1 padded to six, with large features that name the sample, unlike any rollout."""
    mask = torch.arange(6) < torch.tensor([5 if i % 2 else 1 for i in samples])[:, None]
    x0 = torch.zeros(len(samples), 6, 5)
    x0[..., 3] = 100 + torch.tensor(list(samples))[:, None]
    x0[..., 4] = float(key.stream % 1000)
    return x0 * mask.unsqueeze(-1), {"mask": mask}


def test_real_samples_take_the_place_of_rollouts_with_their_own_context() -> None:
    """They are asked for by the numbers of the round's samples; rewards and their scale are those of the rollouts."""
    task = replace(cloud_task(lambda clouds: torch.arange(len(clouds)) % 2 * 1.0), data=real_clouds)
    samples = [40, 41, 42, 43]
    flat = rgdm(source="data", states=10, temperature=1e12).collect(learner(task), samples, KEY)
    table = flat.table
    assert table.context["mask"].sum(1).tolist() == [[1, 5, 1, 5][i] for i in table.sample.tolist()]
    x0 = real_clouds(samples, KEY)[0][table.sample].double()
    x0[..., 4] = table.x.new_tensor(0)
    late = (table.step == 9).nonzero().squeeze(1)
    assert_close(table.x[late][:, 0, 3].double(), x0[late][:, 0, 3], rtol=0.2, atol=0)
    expected = posterior_mean(1.0, table.x.double(), x0, table.step)
    assert_close(table.y[..., :4].double(), expected[..., :4], rtol=1e-4, atol=1e-3)
    own = task.rollout(samples, KEY)
    assert_close(flat.rollouts.rewards, own.rewards, rtol=0, atol=0)
    assert_close(flat.rollouts.trajectory.final, own.trajectory.final, rtol=0, atol=0)


def test_each_round_asks_for_other_real_samples_than_any_other_draw() -> None:
    seen: list[tuple[tuple[int, ...], Key]] = []

    def data(samples: Sequence[int], key: Key) -> tuple[Tensor, Context]:
        seen.append((tuple(samples), key))
        return torch.zeros(len(samples), 1), {}

    task = replace(number_task(), data=data)
    for stream in range(1, 6):
        rgdm(source="data").collect(learner(task), [3, 4], Key(7, stream))
    assert [samples for samples, _ in seen] == [(3, 4)] * 5
    assert len({key for _, key in seen}) == 5
    assert {key.seed for _, key in seen} == {7}
    assert not {key.stream for _, key in seen} & set(range(1, 1000))  # the rounds' own


def test_only_learning_from_data_needs_data() -> None:
    task = replace(number_task(), data=None)
    with pytest.raises(ValueError, match="source=data: task 'numbers' has no data set"):
        rgdm(source="data").modules(task)
    for source in ("policy", "replay"):
        assert len(rgdm(source=source).modules(task)) == 0
    ready = replace(task, data=real_numbers(torch.zeros(1, 1)))
    assert len(rgdm(source="data").modules(ready)) == 0


def test_data_anchors_the_policy_it_describes() -> None:
    """With x_0 of the base's law the mean target of a step from x is the base's own mean plus the pull."""
    quantiles = torch.special.ndtri((torch.randperm(800, generator=torch.Generator().manual_seed(0)) + 0.5) / 800)
    x0 = (BASE_MEAN + BASE_VARIANCE**0.5 * quantiles).unsqueeze(1)
    task = replace(number_task(linear(torch.ones(1))), data=real_numbers(x0))
    algorithm = rgdm(source="data", guidance="gradient", states=10, temperature=2.0)
    collected = algorithm.collect(learner(task), list(range(800)), KEY)
    table, unit = collected.table, collected.rollouts.rewards.std(correction=0).item()
    miss = pulls(task, collected).double().squeeze(1) / make_sampler().std[table.step]
    for k in range(9):  # the last std is lost in single precision
        here = miss[table.step == k]
        pull = 0.5**2 * make_sampler().std[k].item() / 2.0 * exact_gain(0, k + 1) / unit
        assert here.mean().item() == pytest.approx(pull, abs=4 * here.std().item() / len(here) ** 0.5)
        slope = torch.corrcoef(torch.stack([here, table.x[table.step == k].squeeze(1).double()]))[0, 1]
        assert slope.abs() < 4 / len(here) ** 0.5


@pytest.mark.parametrize("source", ["replay", "data"])
def test_a_replayed_step_is_the_same_in_any_batch(source: str) -> None:
    def collect(samples: list[int]) -> Transitions:
        task = replace(cloud_task(length, sizes=(4,)), data=real_clouds)
        return rgdm(source=source, temperature=1e12, held=2).collect(learner(task), samples, KEY).table

    together, alone = collect([3, 4, 5]), collect([4])
    rows = together.sample == 1
    assert_close(together.step[rows], alone.step, rtol=0, atol=0)
    assert_close(together.x[rows], alone.x, rtol=1e-5, atol=1e-5)
    assert_close(together.y[rows], alone.y, rtol=1e-5, atol=1e-5)
