"""Windows of stochastic steps: DDIM's own kernels inside and outside, whatever else is in the batch."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toy import always, cloud_task, number_task

from molrl.algos.windows import START, WINDOW, WindowedDecoder, windowed
from molrl.gaussian import Context
from molrl.noise import ChainNoise, Draw, Key
from molrl.oracle.chain import Chain
from molrl.oracle.control import optimal_control
from molrl.oracle.linear_gaussian import QUADRATIC
from molrl.oracle.trial import objective, path_kl
from molrl.policy import Policy
from molrl.samplers import DDIM
from molrl.trajectory import Trajectory

KEY = Key(4, 1)
POLICY = number_task().policy
STEPS = POLICY.sampler.num_steps


def with_eta(policy: Policy, eta: float) -> Policy:
    assert isinstance(policy.sampler, DDIM)
    return replace(policy, sampler=replace(policy.sampler, eta=eta))


def windows(*pairs: tuple[int, int]) -> Context:
    return {WINDOW: torch.tensor(pairs)}


def rollout(policy: Policy, context: Context, samples: range = range(3)) -> Trajectory:
    return policy.rollout(context, ChainNoise(KEY, samples, (1,), torch.device("cpu")))


def test_a_window_of_all_steps_is_the_stochastic_chain_and_none_the_deterministic_one() -> None:
    every, none = windows(*[(0, STEPS)] * 3), windows(*[(4, 4)] * 3)
    assert torch.equal(rollout(windowed(POLICY), every).states, rollout(POLICY, {}).states)
    assert torch.equal(rollout(windowed(POLICY), every).log_prob, rollout(POLICY, {}).log_prob)
    assert torch.equal(rollout(windowed(POLICY), none).states, rollout(with_eta(POLICY, 0.0), {}).states)


def test_each_sample_has_its_own_window() -> None:
    """Inside, a step is that of the stochastic chain from the same state; outside, that of the deterministic one."""
    pairs = [(0, 3), (2, 7), (9, 10)]
    trajectory = rollout(windowed(POLICY), windows(*pairs))
    for k in range(STEPS):
        x, step = trajectory.states[k], POLICY.at(k, trajectory.states[k])
        kernels = [with_eta(POLICY, eta).sampler.transition(POLICY.denoiser, x, step, {}) for eta in (1.0, 0.0)]
        noise = KEY.normal(range(3), Draw.STEP.at(k), (1,))
        for row, (first, end) in enumerate(pairs):
            inside = first <= k < end
            expected = kernels[0].sample(noise) if inside else kernels[1].mean
            assert torch.equal(trajectory.states[k + 1][row], expected[row])
            density = kernels[0].log_prob(trajectory.states[k + 1])[row] if inside else torch.tensor(0.0)
            assert torch.equal(trajectory.log_prob[k, row], density)


def test_a_sample_is_the_same_beside_others_with_other_windows() -> None:
    together = rollout(windowed(POLICY), windows((0, 3), (2, 7), (9, 10)))
    alone = rollout(windowed(POLICY), windows((2, 7)), range(1, 2))
    assert_close(alone.states[:, 0], together.states[:, 1])


def test_a_window_in_padded_clouds_keeps_to_their_space() -> None:
    task = cloud_task(lambda samples: torch.zeros(len(samples)))
    decoder = WindowedDecoder(task.decoder, lambda *_: range(3, 6), shared_start=False)
    states = replace(task, policy=windowed(task.policy), decoder=decoder).rollout(range(3), KEY).trajectory.states
    mask = decoder.draw_context(range(3), KEY)["mask"]
    assert not states[:, ~mask].any()
    assert_close(states[..., :3].sum(2), torch.zeros(STEPS + 1, 3, 3), atol=1e-5, rtol=0)


def test_a_decoder_draws_one_window_and_one_start_for_a_group() -> None:
    task = cloud_task(lambda samples: torch.zeros(len(samples)))
    decoder = WindowedDecoder(task.decoder, lambda group, _: range(group, group + 2), shared_start=True)
    context = decoder.draw_context([0, 0, 3, 3], KEY)
    assert context[WINDOW].tolist() == [[0, 2], [0, 2], [3, 5], [3, 5]]
    assert torch.equal(context[START][0], context[START][1])
    assert not torch.equal(context[START][0], context[START][2])
    states = windowed(task.policy).sampler.prior(torch.zeros(4, 4, 5), context)
    assert torch.equal(states, task.policy.sampler.prior(context[START], context))


def test_other_chains_than_ddim_are_refused() -> None:
    with pytest.raises(ValueError, match="sampler: got Windowed, need DDIM"):
        windowed(windowed(Policy(always(torch.zeros(1)), POLICY.sampler)))


def in_window(first: int, end: int) -> Chain:
    return Chain.from_policy(windowed(number_task().policy), torch.float32, windows(*[(first, end)] * 3))


def test_the_optimum_of_a_window_keeps_the_other_steps_and_cannot_be_improved() -> None:
    """J falls in every direction in which a mean inside the window can move."""
    reference = in_window(3, 7)
    assert [std > 0 for std in reference.std] == [3 <= k < 7 for k in range(STEPS)]
    best = optimal_control(reference, QUADRATIC, 0.8)
    top = objective(best, reference, QUADRATIC, 0.8)
    for k in range(STEPS):
        if 3 <= k < 7:
            for move in (-0.03, 0.03):
                slope, offset = (tuple(v + move * (i == k) for i, v in enumerate(b)) for b in (best.slope, best.offset))
                assert objective(replace(best, slope=slope), reference, QUADRATIC, 0.8) < top
                assert objective(replace(best, offset=offset), reference, QUADRATIC, 0.8) < top
        else:
            assert best.steps[k] == pytest.approx(reference.steps[k], abs=1e-12)


def test_a_step_without_noise_that_moves_has_an_infinite_divergence() -> None:
    reference = in_window(3, 7)
    offset: list[float] = list(reference.offset)
    assert path_kl(reference, reference) == 0
    inside, outside = ([v + 0.1 * (i == k) for i, v in enumerate(offset)] for k in (4, 8))
    kl = path_kl(replace(reference, offset=tuple(inside)), reference)
    assert kl == pytest.approx(0.01 / (2 * reference.std[4] ** 2))
    assert path_kl(replace(reference, offset=tuple(outside)), reference) == float("inf")


def test_noise_outside_the_window_changes_nothing() -> None:
    def noise(draw: int) -> Tensor:
        usual = KEY.normal(range(1), draw, (1,))
        return usual if draw == 0 or 3 <= draw - 1 < 6 else usual + 100.0

    policy, context = windowed(POLICY), windows((3, 6))
    changed = policy.rollout(context, noise)
    assert torch.equal(changed.final, policy.rollout(context, lambda draw: KEY.normal(range(1), draw, (1,))).final)
