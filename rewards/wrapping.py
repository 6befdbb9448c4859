"""Scorers made of scorers: what is inside, what they read bonds with, and the names and values of their parts.

A wrapper has `inner`, the scorers it asks, and may have `parts`, the names of the values it was made of.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from molrl.data.molecules.bonds import BondReader, Reading
from molrl.data.molecules.molecule import Molecule
from molrl.rewards.molecules.graph import GraphReward
from molrl.rewards.scores import Explained, Scored, Scorer


class ReadOnce:
    """A bond reader that remembers the last molecule until it is told to forget, for scorers that share it."""

    def __init__(self, reader: BondReader) -> None:
        self.reader = reader
        self.last: tuple[Molecule, Reading] | None = None

    def __call__(self, molecule: Molecule) -> Reading:
        if self.last is None or self.last[0] is not molecule:
            self.last = molecule, self.reader(molecule)
        return self.last[1]

    def forget(self) -> None:
        """Read anew next time: the arrays of a molecule may have been changed."""
        self.last = None


def unshared(reader: BondReader) -> BondReader:
    """The reader itself where others share what it read."""
    return reader.reader if isinstance(reader, ReadOnce) else reader


def sharing(scorer: Any, shared: dict[BondReader, ReadOnce]) -> Any:
    """A copy of a scorer that reads bonds through one `ReadOnce` for each reader, as all that it wraps does.

    What it wraps are dataclasses, and mappings to these.
    """
    if isinstance(scorer, Mapping) and any(map(is_dataclass, scorer.values())):
        return {name: sharing(value, shared) for name, value in scorer.items()}
    if not is_dataclass(scorer) or isinstance(scorer, type) or not hasattr(scorer, "__dict__"):
        return scorer
    copied = copy.copy(scorer)
    for name, value in vars(scorer).items():  # not its fields: also what it has worked out from them
        if name == "reader":
            reader = unshared(value)
            object.__setattr__(copied, name, shared.setdefault(reader, ReadOnce(reader)))
        else:
            object.__setattr__(copied, name, sharing(value, shared))
    return copied


def innermost(scorer: Scorer[Any]) -> Iterator[Scorer[Any]]:
    """The scorers that do the measuring."""
    inner = getattr(scorer, "inner", ())
    for wrapped in inner:
        yield from innermost(wrapped)
    if not inner:
        yield scorer


def without_geometry(scorer: Scorer[Any]) -> bool:
    """Whether the value depends on the canonical structure alone."""
    return all(isinstance(measuring, GraphReward) for measuring in innermost(scorer))


def part_names(scorers: Mapping[str, Scorer[Any]]) -> tuple[str, ...]:
    """Names of parts and, below them with a dot, of their own parts."""
    return tuple(
        part
        for name, scorer in scorers.items()
        for part in (name, *(f"{name}.{inner}" for inner in getattr(scorer, "parts", ())))
    )


def parts_of(scored: Scored) -> Mapping[str, float]:
    """What a value was made of; nothing for one that does not say."""
    return scored.parts if isinstance(scored, Explained) else {}


def explanation(names: tuple[str, ...], scored: Mapping[str, Scored]) -> dict[str, float]:
    """The values of parts by those names; NaN for a floor and for what is missing."""
    found = dict.fromkeys(names, math.nan)
    for name, (value, reason) in scored.items():
        found[name] = math.nan if reason else float(value)
        found |= {f"{name}.{part}": inner for part, inner in parts_of(scored[name]).items()}
    return found
