"""Laws: functions that raise AssertionError where a case breaks them, and whose names say what they state."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


def check_law(law: Callable[[Any], None], case: Any) -> None:
    """Raise AssertionError that begins with the law's name where the case breaks it."""
    try:
        law(case)
    except AssertionError as error:
        raise AssertionError(f"{law.__name__.replace('_', ' ')}: {error}") from error


def require(condition: bool | Tensor, message: str) -> None:
    """Raise AssertionError unless the condition holds; unlike `assert`, also where Python optimises."""
    if not condition:
        raise AssertionError(message)


def require_close(got: Tensor, expected: Tensor, atol: float, rtol: float = 0.0) -> None:
    """Raise AssertionError unless two tensors agree; NaN agrees with NaN."""
    torch.testing.assert_close(got, expected, rtol=rtol, atol=atol, equal_nan=True)


def random_order(n: int) -> Int[Tensor, " n"]:
    """Return a random permutation that leaves no element (of two or more) in its place."""
    cycle = torch.randperm(n, generator=torch.Generator().manual_seed(2))
    return torch.empty_like(cycle).scatter_(0, cycle, cycle.roll(1))


def random_rotation(dtype: torch.dtype = torch.float64, seed: int = 4) -> Float[Tensor, "3 3"]:
    """Return a proper rotation of space, for use as x @ rotation."""
    gaussian = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    matrix: Tensor = torch.linalg.qr(gaussian).Q
    return (matrix * matrix.det()).to(dtype)
