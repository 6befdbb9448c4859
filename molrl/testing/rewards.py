"""The laws of rewards: one number per sample, whatever the batch, and no change of the samples."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from molrl.task import Reward
from molrl.testing.laws import check_law, random_order, require, require_close


@dataclass(frozen=True, kw_only=True)
class Case:
    """A reward with samples to try it on; the attributes are the arguments of `check_reward`."""

    reward: Reward
    samples: Sequence[Any]
    bad_samples: Sequence[Any] = ()
    floor: float | None = None
    invariances: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    atol: float = 1e-6
    rtol: float = 1e-5

    def values(self, samples: Sequence[Any]) -> Tensor:
        """Return the rewards of some samples as float64."""
        return self.reward(list(samples)).detach().double()

    def require_same(self, got: Tensor, expected: Tensor) -> None:
        """Raise AssertionError unless values agree within the tolerances."""
        require_close(got, expected, self.atol, self.rtol)


def check_reward(
    reward: Reward,
    samples: Sequence[Any],
    *,
    bad_samples: Sequence[Any] = (),
    floor: float | None = None,
    invariances: Mapping[str, Callable[[Any], Any]] | None = None,
    atol: float = 1e-6,
    rtol: float = 1e-5,
) -> None:
    """Raise AssertionError with the name of the first law that the reward breaks.

    Args:
        reward: the callable, samples -> [b].
        samples: at least two good samples; the more they differ, the better.
        bad_samples: samples that are to get the floor.
        floor: what these get; by default the reward's attribute `floor`.
        invariances: name -> a function that changes a sample in a way that must not change its value: for molecules and
            shapes a rotation, a shift, another order of the atoms or points (`molrl.testing.laws.random_rotation`).
        atol: absolute tolerance of values that are to agree.
        rtol: relative tolerance of these.
    """
    floor = getattr(reward, "floor", None) if floor is None else floor
    case = Case(
        reward=reward,
        samples=samples,
        bad_samples=bad_samples,
        floor=floor,
        invariances=invariances or {},
        atol=atol,
        rtol=rtol,
    )
    for law in LAWS:
        check_law(law, case)


def each_sample_has_one_value(case: Case) -> None:
    """Check for a tensor of floats [b]."""
    for samples in (list(case.samples), list(case.samples[:1])):
        values = case.reward(samples)
        require(isinstance(values, Tensor), f"got {type(values).__name__}, need a tensor")
        require(values.shape == (len(samples),), f"got shape {tuple(values.shape)} for {len(samples)} samples")
        require(values.is_floating_point(), f"got {values.dtype}, need floating-point numbers")


def a_value_is_finite_or_nan(case: Case) -> None:
    """Check that no value is infinite; NaN stands for a sample that could not be scored."""
    values = case.values([*case.samples, *case.bad_samples])
    require(not values.isinf().any(), f"got {values.tolist()}")


def some_good_sample_has_a_value(case: Case) -> None:
    """Check that not all values are NaN, for NaN satisfies all other laws."""
    require(not case.values(case.samples).isnan().all(), "got NaN for all samples")


def the_value_is_the_same_the_second_time(case: Case) -> None:
    """Check that the reward is a function."""
    case.require_same(case.values(case.samples), case.values(case.samples))


def permuting_the_batch_permutes_the_values(case: Case) -> None:
    """Check that samples have no order, bad ones among them."""
    samples = [*case.samples, *case.bad_samples]
    order = random_order(len(samples))
    case.require_same(case.values([samples[i] for i in order.tolist()]), case.values(samples)[order])


def a_sample_has_the_same_value_in_any_batch(case: Case) -> None:
    """Check that the rest of the batch, bad samples included, has no influence."""
    together = case.values([*case.bad_samples, *case.samples])[len(case.bad_samples) :]
    case.require_same(torch.cat([case.values([sample]) for sample in case.samples]), together)


def samples_are_not_changed(case: Case) -> None:
    """Check that scoring leaves all numbers of the samples as they are."""
    samples = [*case.samples, *case.bad_samples]
    before = copy.deepcopy(samples)
    case.reward(samples)
    changed = [row for row, pair in enumerate(zip(samples, before, strict=True)) if not equal(*pair)]
    require(not changed, f"got changes of the samples {changed}")


def invariances_do_not_change_the_value(case: Case) -> None:
    """Check the invariances that were passed, one by one."""
    expected = case.values(case.samples)
    for name, change in case.invariances.items():
        try:
            case.require_same(case.values([change(sample) for sample in case.samples]), expected)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


def bad_samples_get_the_floor(case: Case) -> None:
    """Check for exactly the floor; without one, for a value that is not NaN."""
    values = case.values(case.bad_samples) if case.bad_samples else torch.zeros(0)
    require(not values.isnan().any(), f"got {values.tolist()}; NaN is for lost measurements, not for bad samples")
    if case.floor is not None:
        floor = torch.tensor(case.floor, dtype=torch.float32).double()
        require((values == floor).all(), f"got {values.tolist()}, need the floor {case.floor}")


LAWS: tuple[Callable[[Case], None], ...] = (
    each_sample_has_one_value,
    a_value_is_finite_or_nan,
    some_good_sample_has_a_value,
    the_value_is_the_same_the_second_time,
    samples_are_not_changed,
    permuting_the_batch_permutes_the_values,
    a_sample_has_the_same_value_in_any_batch,
    invariances_do_not_change_the_value,
    bad_samples_get_the_floor,
)


def equal(a: Any, b: Any) -> bool:
    """Compare two objects by their contents: numbers, arrays, tensors, containers, and objects as `copy` sees them.

    Objects that cannot be copied count as equal.
    """
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return torch.equal(a.detach().nan_to_num(), b.detach().nan_to_num()) and torch.equal(a.isnan(), b.isnan())
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
    if isinstance(a, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return equal_state(a, b)


def equal_state(a: Any, b: Any) -> bool:
    """Compare two objects of one class by their own equality, or by what `copy` would make them of."""
    if isinstance(a, str | bytes | int | type) or callable(a) or a is None:
        return bool(a == b)
    try:
        return equal(tuple(a.__reduce_ex__(4)[1:3]), tuple(b.__reduce_ex__(4)[1:3]))
    except TypeError:
        return True
