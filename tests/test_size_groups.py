"""Calls by size: nothing changes but rounding, and the work on padding is left out."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from molrl.gaussian import Context, MaskedPoints
from molrl.models.molecules.pair_network import PairNetwork
from molrl.models.precondition import Preconditioned
from molrl.models.size_groups import MAX_PAIRS, predict_by_size, size_groups
from molrl.schedule import LogLinear

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=40)


def masked(sizes: list[int], width: int | None = None) -> Tensor:
    return torch.arange(max(sizes) if width is None else width) < torch.tensor(sizes).unsqueeze(1)


def network(width: int = 24) -> Preconditioned:
    torch.manual_seed(0)
    raw = PairNetwork(features=4, width=width, pair_width=8, blocks=2, radial=6, passes=2)
    for parameter in raw.parameters():  # what is zero-initialised would hide differences
        nn.init.normal_(parameter, std=0.1)
    return Preconditioned(raw, LogLinear(0.02, 15.0), [2.0] * 3 + [0.1] * 4)


@given(sizes=SIZES)
@settings(deadline=None)
def test_every_row_is_in_one_group_that_its_width_fits(sizes: list[int]) -> None:
    groups = list(size_groups(masked(sizes)))
    assert sorted(row for rows, _ in groups for row in rows.tolist()) == list(range(len(sizes)))
    for rows, width in groups:
        assert width == max(sizes[row] for row in rows.tolist())
        assert len(rows) * width**2 <= max(MAX_PAIRS, width**2)


@given(sizes=SIZES)
@settings(deadline=None)
def test_no_two_groups_could_have_been_one(sizes: list[int]) -> None:
    groups = list(size_groups(masked(sizes)))
    for rows, width in groups[:-1]:
        assert (len(rows) + 1) * width**2 > MAX_PAIRS


def test_the_prediction_and_its_gradient_are_those_of_the_whole_batch() -> None:
    model, sizes = network(), [3, 40, 7, 7, 21, 1, 12, 39]
    context: Context = {"mask": masked(sizes, width=44).flip(1), "condition": torch.arange(8.0)}
    x = MaskedPoints().project(torch.randn(8, 44, 7, generator=torch.Generator().manual_seed(1)), context)
    t = torch.linspace(0.1, 0.9, 8)
    weights = list(model.parameters())
    whole = model.predict(x, t, context)
    assert len(list(size_groups(context["mask"]))) > 1
    grouped = model(x, t, context)
    assert_close(grouped, whole, rtol=1e-4, atol=1e-5)
    gradients = [torch.autograd.grad(out.square().sum(), weights, allow_unused=True) for out in (grouped, whole)]
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_each_set_keeps_its_time_and_its_context() -> None:
    sizes = [2, 90, 5, 80]
    context: Context = {"mask": masked(sizes), "condition": torch.tensor([10.0, 20.0, 30.0, 40.0])}
    x, t = torch.rand(4, 90, 2), torch.tensor([0.1, 0.2, 0.3, 0.4])
    seen: list[Any] = []

    def predict(x: Tensor, t: Tensor, context: Context) -> Tensor:
        seen.append(tuple(x.shape))
        return context["mask"].unsqueeze(-1) * (x + (t + context["condition"]).view(-1, 1, 1))

    found = predict_by_size(predict, x, t, context)
    expected = context["mask"].unsqueeze(-1) * (x + torch.tensor([10.1, 20.2, 30.3, 40.4]).view(-1, 1, 1))
    assert_close(found, expected)
    assert seen == [(1, 90, 2), (1, 80, 2), (2, 5, 2)]


@pytest.mark.parametrize("count", [0, 1])
def test_an_empty_batch_stays_empty(count: int) -> None:
    x = torch.zeros(count, 3, 2)
    context = {"mask": torch.ones(count, 3, dtype=torch.bool)}
    assert predict_by_size(lambda x, *_: x, x, torch.zeros(count), context).shape == x.shape
