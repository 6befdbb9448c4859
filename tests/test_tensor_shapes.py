"""Shapes that do not agree with a signature are noticed, in the first calls of every test."""

import jaxtyping
import pytest
import tensor_shapes
import torch
from jaxtyping import Float
from tensor_shapes import checked
from torch import Tensor


@jaxtyping.jaxtyped(typechecker=checked)
def shifted(x: Float[Tensor, "b n"], by: Float[Tensor, " b"], rows: int = 0) -> Float[Tensor, "b n"]:
    """Return the rows with a number added to each, but for the first few of them."""
    return (x + by[:, None])[rows:]


@pytest.mark.parametrize(
    ("x", "by", "rows", "words"),
    [
        (torch.zeros(2), torch.zeros(2), 0, "parameters"),
        (torch.zeros(2, 3), torch.zeros(3), 0, "parameters"),
        (torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), 0, "parameters"),
        (torch.zeros(2, 3), torch.zeros(2), 1, "return value"),
    ],
)
def test_a_shape_that_does_not_agree_is_noticed(x: Tensor, by: Tensor, rows: int, words: str) -> None:
    assert shifted(torch.zeros(2, 3), torch.ones(2)).tolist() == [[1.0] * 3] * 2
    with pytest.raises(jaxtyping.TypeCheckError, match=words):
        shifted(x, by, rows)


@pytest.fixture(scope="module", params=[1, 2])
def spent(request: pytest.FixtureRequest) -> int:
    """Spend all that is checked before a test begins."""
    for _ in range(tensor_shapes.CHECKED_CALLS):
        shifted(torch.zeros(2, 3), torch.zeros(2))
    shifted(torch.zeros(2, 3), torch.zeros(2), 1)
    return int(request.param)


def test_a_long_test_ends_the_check_for_itself_alone(spent: int) -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        shifted(torch.zeros(2, 3), torch.zeros(2), spent)
    for _ in range(tensor_shapes.CHECKED_CALLS):
        shifted(torch.zeros(2, 3), torch.zeros(2))
    assert len(shifted(torch.zeros(2, 3), torch.zeros(2), spent)) == 2 - spent
