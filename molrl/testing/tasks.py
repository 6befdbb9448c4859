"""The laws of tasks: what a decoder of one's own domain must do for rollouts, groups and resumed runs to be right."""

from collections.abc import Callable

import torch

from molrl.noise import Key
from molrl.task import Task
from molrl.testing.laws import check_law, require, require_close

SAMPLES = [5, 2, 9, 3]
KEY = Key(0, 1)
ATOL, RTOL = 1e-4, 1e-3


def check_task(task: Task) -> None:
    """Raise AssertionError with the name of the first law that a task, its decoder or its reward breaks."""
    for law in LAWS:
        check_law(law, task)


def contexts_are_batch_first(task: Task) -> None:
    """Check that every tensor of the context has a row per sample."""
    context = task.decoder.draw_context(SAMPLES, KEY)
    shapes = {name: tuple(value.shape) for name, value in context.items()}
    require(all(shape[:1] == (len(SAMPLES),) for shape in shapes.values()), f"got {shapes} for {len(SAMPLES)} samples")
    groups = task.decoder.groups(context)
    require(len(groups) == len(SAMPLES), f"groups: got {len(groups)} for {len(SAMPLES)} samples")


def each_state_becomes_one_sample(task: Task) -> None:
    """Check the number of finished samples and of their rewards."""
    rollouts = task.rollout(SAMPLES, KEY)
    require(len(rollouts.samples) == len(SAMPLES), f"got {len(rollouts.samples)} of {len(SAMPLES)} samples")
    require(rollouts.rewards.shape == (len(SAMPLES),), f"got rewards of shape {tuple(rollouts.rewards.shape)}")
    require(not rollouts.rewards.isinf().any(), "got an infinite reward")


def a_sample_is_the_same_in_any_batch(task: Task) -> None:
    """Check that a sample depends on its index and the key alone, by its condition and its reward."""
    together, order = task.rollout(SAMPLES, KEY), torch.tensor([2, 0, 3, 1])
    permuted = task.rollout([SAMPLES[i] for i in order.tolist()], KEY)
    require_close(permuted.rewards, together.rewards[order], ATOL, RTOL)
    for row, sample in enumerate(SAMPLES):
        require_close(task.rollout([sample], KEY).rewards, together.rewards[row : row + 1], ATOL, RTOL)


def another_key_draws_other_samples(task: Task) -> None:
    """Check that the rounds of a run differ."""
    one, other = (task.rollout(SAMPLES, KEY.child(stream)).trajectory.states for stream in (1, 2))
    require(one.shape != other.shape or not torch.equal(one, other), "got the same states from two keys")


def metrics_are_numbers(task: Task) -> None:
    """Check that the decoder's held-out metrics are floats."""
    metrics = task.decoder.measure(task.rollout(SAMPLES, KEY).samples)
    wrong = [name for name, value in metrics.items() if not isinstance(value, int | float)]
    require(not wrong, f"got no number for {wrong}")


LAWS: tuple[Callable[[Task], None], ...] = (
    contexts_are_batch_first,
    each_state_becomes_one_sample,
    a_sample_is_the_same_in_any_batch,
    another_key_draws_other_samples,
    metrics_are_numbers,
)
