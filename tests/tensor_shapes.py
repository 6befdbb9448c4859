"""The run-time check of tensor shapes that pytest's --jaxtyping-packages switches on for molrl."""

from collections.abc import Callable
from typing import Any, TypeVar

from beartype import beartype

Function = TypeVar("Function", bound=Callable[..., Any])


def checked(function: Function) -> Function:
    """Check what jaxtyping describes; mypy has checked the rest, such as protocols, which beartype would refuse."""
    hints = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in hints.items() if "jaxtyping." in repr(hint)}
    return beartype(function)
