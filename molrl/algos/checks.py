"""Settings that mean nothing are refused when an algorithm is made, by name."""

import math


def positive(**values: float) -> None:
    """Numbers above zero."""
    for name, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name}: got {value}, need a number above 0")


def not_negative(**values: float) -> None:
    """Numbers of zero or more."""
    for name, value in values.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name}: got {value}, allowed 0 or more")


def window(first: float, last: float) -> None:
    """Two shares of a chain, in order."""
    if not 0 <= first < last <= 1:
        raise ValueError(f"first, last: got {first}, {last}; need 0 <= first < last <= 1")
