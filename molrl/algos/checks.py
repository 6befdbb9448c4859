"""Checks of an algorithm's settings when it is made; each error names the setting."""

import math


def require_positive(**values: float) -> None:
    """Raise ValueError unless all numbers are finite and above zero."""
    for name, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name}: got {value}, need a number above 0")


def require_non_negative(**values: float) -> None:
    """Raise ValueError unless all numbers are finite and zero or more."""
    for name, value in values.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name}: got {value}, allowed 0 or more")


def require_window(first: float, last: float) -> None:
    """Raise ValueError unless the two fractions of a chain are in order."""
    if not 0 <= first < last <= 1:
        raise ValueError(f"first, last: got {first}, {last}; need 0 <= first < last <= 1")
