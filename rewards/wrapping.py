"""Scorers that wrap others: the readers that these share, and the names and values of the parts of a value.

A wrapper has `inner`, the scorers that it calls, and may have `parts`, the names of the values it was made of.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, TypeAlias

from molrl.rewards.scores import Explained, Scored, Scorer

Reader: TypeAlias = Callable[[Any], Any]
"""A function that reads off a sample what several scorers need; they have it in an attribute `reader`."""


class ReadOnce:
    """A reader that remembers its last sample and result until `forget`, for the scorers that share it."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.last: tuple[Any, Any] | None = None

    def __call__(self, sample: Any) -> Any:
        if self.last is None or self.last[0] is not sample:
            self.last = sample, self.reader(sample)
        return self.last[1]

    def forget(self) -> None:
        """Forget the last result, since the arrays of a sample may be changed."""
        self.last = None


def plain_reader(reader: Reader) -> Reader:
    """Return the reader itself, without the `ReadOnce` around it if there is one."""
    return reader.reader if isinstance(reader, ReadOnce) else reader


def share_readers(scorer: Any, shared: dict[Reader, ReadOnce]) -> Any:
    """Return a copy of a scorer that reads samples through one `ReadOnce` for each reader, as do those it wraps.

    It finds those in dataclasses and in mappings to dataclasses.
    """
    if isinstance(scorer, Mapping) and any(map(is_dataclass, scorer.values())):
        return {name: share_readers(value, shared) for name, value in scorer.items()}
    if not is_dataclass(scorer) or isinstance(scorer, type) or not hasattr(scorer, "__dict__"):
        return scorer
    copied = copy.copy(scorer)
    for name, value in vars(scorer).items():  # beside its fields also its cached properties
        if name == "reader":
            reader = plain_reader(value)
            object.__setattr__(copied, name, shared.setdefault(reader, ReadOnce(reader)))
        else:
            object.__setattr__(copied, name, share_readers(value, shared))
    return copied


def innermost(scorer: Scorer[Any]) -> Iterator[Scorer[Any]]:
    """Yield the scorers inside that wrap no others, or the scorer itself."""
    inner = getattr(scorer, "inner", ())
    for wrapped in inner:
        yield from innermost(wrapped)
    if not inner:
        yield scorer


def part_names(scorers: Mapping[str, Scorer[Any]]) -> tuple[str, ...]:
    """Return the names of parts, each followed by those of its own parts with a dot between."""
    return tuple(
        part
        for name, scorer in scorers.items()
        for part in (name, *(f"{name}.{inner}" for inner in getattr(scorer, "parts", ())))
    )


def parts_of(scored: Scored) -> Mapping[str, float]:
    """Return the parts of a value by name; empty for a value without parts."""
    return scored.parts if isinstance(scored, Explained) else {}


def explanation(names: tuple[str, ...], scored: Mapping[str, Scored]) -> dict[str, float]:
    """Return the values of the parts with these names; NaN for a floor and for what is missing."""
    values = dict.fromkeys(names, math.nan)
    for name, (value, reason) in scored.items():
        values[name] = math.nan if reason else float(value)
        values |= {f"{name}.{part}": inner for part, inner in parts_of(scored[name]).items()}
    return values
