"""A rollout and its re-evaluation are one kernel, and the symmetries of the network are those of the policy."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toy import ExactDenoiser

from molrl.gaussian import Context, MaskedPoints
from molrl.models.molecules.egnn import EGNN
from molrl.models.precondition import Preconditioned
from molrl.policy import Policy
from molrl.samplers import DDIM
from molrl.schedule import LogLinear
from molrl.testing.denoisers import perturb_parameters
from molrl.trajectory import Trajectory, Transitions

SIZES, WIDTH, FEATURES, STEPS = (4, 2, 5), 5, 2, 6
F64 = torch.float64


@cache
def policy() -> Policy:
    torch.manual_seed(0)
    schedule = LogLinear(0.05, 20.0)
    network = perturb_parameters(EGNN(features=FEATURES, width=8, pair_width=8, blocks=2, radial=6))
    denoiser = Preconditioned(network, schedule, [1.5] * 3 + [0.5] * FEATURES).double()
    return Policy(denoiser, DDIM(schedule=schedule, num_steps=STEPS, space=MaskedPoints()))


def mask(width: int = WIDTH) -> Tensor:
    return torch.arange(width) < torch.tensor(SIZES)[:, None]


@cache
def draws() -> Tensor:
    """Draw noise of shape [draw, sample, atom, channel]."""
    shape = (STEPS + 1, len(SIZES), WIDTH, 3 + FEATURES)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=F64)


def rollout(noise: Tensor, context: Context) -> Trajectory:
    return policy().rollout(context, lambda i: noise[i])


@cache
def trajectory() -> Trajectory:
    return rollout(draws(), {"mask": mask()})


@cache
def table() -> Transitions:
    return trajectory().transitions(torch.tensor([1.0, 2.0, 3.0], dtype=F64))


def test_the_recomputed_log_prob_is_the_recorded_one() -> None:
    order = torch.randperm(len(table()), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for size in (len(order), 5, 1):
            for rows in order.split(size):
                batch = table()[rows]
                assert_close(policy().log_prob(batch), batch.log_prob, rtol=0, atol=1e-12)


def test_a_row_of_the_table_is_a_step_of_its_sample() -> None:
    run, rows = trajectory(), table()
    assert len(rows) == STEPS * len(SIZES)
    for row in range(len(rows)):
        k, i = int(rows.step[row]), int(rows.sample[row])
        assert (rows.x[row] == run.states[k, i]).all()
        assert (rows.y[row] == run.states[k + 1, i]).all()
        assert rows.log_prob[row] == run.log_prob[k, i]
        assert rows.advantage[row] == i + 1
        assert (rows.context["mask"][row] == mask()[i]).all()


def test_only_the_kept_steps_are_in_the_table() -> None:
    keep = torch.zeros(STEPS, len(SIZES), dtype=torch.bool)
    keep[2, 1] = keep[4, 0] = True
    rows = trajectory().transitions(torch.zeros(3, dtype=F64), keep)
    assert list(zip(rows.step.tolist(), rows.sample.tolist(), strict=True)) == [(2, 1), (4, 0)]
    assert len(rows[torch.tensor([], dtype=torch.long)]) == 0


def test_a_sample_does_not_depend_on_its_batch() -> None:
    for i in range(len(SIZES)):
        alone = rollout(draws()[:, [i]], {"mask": mask()[[i]]})
        assert_close(alone.states, trajectory().states[:, [i]], rtol=0, atol=1e-12)
        assert_close(alone.log_prob, trajectory().log_prob[:, [i]], rtol=0, atol=1e-12)
        assert_close(alone.final, trajectory().final[[i]], rtol=0, atol=1e-12)


def rotated(x: Tensor) -> Tensor:
    q = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=F64)).Q
    return torch.cat([x[..., :3] @ q, x[..., 3:]], -1)


def reordered(x: Tensor) -> Tensor:
    return x[..., [3, 1, 4, 0, 2], :]


@pytest.mark.parametrize("change", [rotated, reordered])
def test_changing_the_noise_changes_the_trajectory_alike_and_no_log_prob(change: Callable[[Tensor], Tensor]) -> None:
    real = mask() if change is rotated else reordered(mask()[..., None])[..., 0]
    changed = rollout(change(draws()), {"mask": real})
    # Reordering moves padding between atoms; the noise of padded atoms is never seen.
    assert_close(changed.states, change(trajectory().states), rtol=0, atol=1e-10)
    assert_close(changed.final, change(trajectory().final), rtol=0, atol=1e-10)
    assert_close(changed.log_prob, trajectory().log_prob, rtol=0, atol=1e-10)


def test_padding_changes_nothing() -> None:
    extra = torch.full((STEPS + 1, len(SIZES), 3, 3 + FEATURES), 7.0, dtype=F64)
    wide = rollout(torch.cat([draws(), extra], 2), {"mask": mask(WIDTH + 3)})
    assert_close(wide.states[:, :, :WIDTH], trajectory().states, rtol=0, atol=1e-12)
    assert_close(wide.log_prob, trajectory().log_prob, rtol=0, atol=1e-12)
    assert (wide.states[:, :, WIDTH:] == 0).all()
    assert (wide.final[:, WIDTH:] == 0).all()


def test_every_state_is_centred_and_zero_on_padding() -> None:
    for x in (*trajectory().states, trajectory().final):
        assert (x[~mask()] == 0).all()
        assert_close(x[..., :3].sum(1), torch.zeros(3, 3, dtype=F64), rtol=0, atol=1e-11)


def test_the_log_prob_of_a_step_is_the_density_of_its_noise() -> None:
    """log p = -|P z|^2 / 2 - d log(std) - d/2 log(2 pi) for y = mean + std P z."""
    space, context = MaskedPoints(), {"mask": mask()}
    dof = space.dof(draws()[0], context)
    for k, log_prob in enumerate(trajectory().log_prob):
        square = space.project(draws()[k + 1], context).square().sum((1, 2))
        std = policy().sampler.std[k]  # type: ignore[attr-defined]
        assert_close(log_prob, -square / 2 - dof * (std * (2 * torch.pi) ** 0.5).log(), rtol=0, atol=1e-9)


def test_the_gradient_of_the_log_prob_is_that_of_finite_differences() -> None:
    shift = torch.zeros((), dtype=F64, requires_grad=True)
    exact = ExactDenoiser(LogLinear(0.05, 20.0))

    def value(by: Tensor) -> Tensor:
        moved = Policy(lambda x, t, c: (exact(x, t, c) + by * x) * c["mask"][..., None], policy().sampler)
        return moved.log_prob(table()).sum()

    (gradient,) = torch.autograd.grad(value(shift), shift)
    step = 1e-5
    with torch.no_grad():
        slope = (value(shift + step) - value(shift - step)) / (2 * step)
    assert_close(gradient, slope, rtol=1e-6, atol=0)
