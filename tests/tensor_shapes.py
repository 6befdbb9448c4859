"""The run-time check of tensor shapes that pytest's --jaxtyping-packages switches on for molrl.

It more than doubles the time of a small network, and a long run calls the same functions with the same shapes in every
round. So the first calls of each test are checked, and the rest are not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from beartype import beartype
from jaxtyping import config

CHECKED_CALLS = 2000  # of a test, and of the fixtures made for it; a round of the smallest training has about 500

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass
class Budget:
    """The calls that are still to be checked."""

    calls: int

    def spend(self) -> None:
        self.calls -= 1
        if self.calls == 0:
            config.update("jaxtyping_disable", True)

    def renew(self) -> None:
        self.calls = CHECKED_CALLS
        config.update("jaxtyping_disable", False)


BUDGET = Budget(CHECKED_CALLS)


def checked(function: Function) -> Function:
    """Check what jaxtyping describes; mypy has checked the rest, such as protocols, which beartype would refuse.

    jaxtyping asks for two checks of each function: of its parameters before a call, with Any as what it returns, and of
    all after the call. The second knows the sizes that the first found, and is left what is returned.
    """
    hints = function.__annotations__
    before = hints.get("return", Any) is Any
    described = {name: hint for name, hint in hints.items() if "jaxtyping." in repr(hint)}
    function.__annotations__ = {name: hint for name, hint in described.items() if before or name == "return"}
    return counted(beartype(function)) if before else beartype(function)


def counted(check: Function) -> Function:
    """Let each call of a check spend some of the budget."""

    @wraps(check)
    def spending(*args: Any, **named: Any) -> Any:
        BUDGET.spend()
        return check(*args, **named)

    return spending  # type: ignore[return-value]


def pytest_runtest_setup() -> None:
    BUDGET.renew()


def pytest_runtest_call() -> None:
    BUDGET.renew()
