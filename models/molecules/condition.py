"""Properties that a model is told of its molecules, and may then be asked for: one more input of the network.

(Hoogeboom et al. 2022, arXiv:2203.17003, Sec. 5.2.)
"""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from molrl.data.molecules.molecule import Molecule
from molrl.noise import Key
from molrl.rewards.scores import PerSample, category

LEVELS = 21  # quantiles that are kept of a distribution
CHUNK = 500
SILENCE = 15.0  # seconds of labelling between two lines


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A property and its distribution in the training set.

    Attributes:
        name: of the property.
        mean, std: of the training set; the network sees (value - mean) / std.
        quantiles: of the molecules of each number of atoms, from the least to the largest value at even levels. Keys
            are text, as in model.json.
    """

    name: str
    mean: float
    std: float
    quantiles: Mapping[str, Sequence[float]]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise ValueError(f"condition {self.name}: got mean {self.mean} and std {self.std}, need a spread above 0")
        if not all(len(row) > 1 and np.isfinite(row).all() for row in self.quantiles.values()):
            raise ValueError(f"condition {self.name}: each number of atoms needs two or more quantiles")

    @classmethod
    def of(cls, name: str, values: NDArray[np.float64], sizes: NDArray[np.int64]) -> "Condition":
        """The statistics of a training set: a value and a number of atoms for each molecule."""
        levels = np.linspace(0, 1, LEVELS)
        rows = {str(size): np.quantile(values[sizes == size], levels) for size in np.unique(sizes).tolist()}
        return cls(
            name=name,
            mean=round(float(values.mean()), 6),
            std=round(float(values.std()), 6),
            quantiles={size: [round(value, 6) for value in row.tolist()] for size, row in rows.items()},
        )

    @property
    def span(self) -> tuple[float, float]:
        """Least and largest value in the training set."""
        return min(row[0] for row in self.quantiles.values()), max(row[-1] for row in self.quantiles.values())

    def at(self, size: int, share: float) -> float:
        """The value that this share of the training molecules with `size` atoms is below."""
        row = self.quantiles[str(size)]
        return float(np.interp(share, np.linspace(0, 1, len(row)), row))


def draw_conditions(
    conditions: Sequence[Condition], asked: Mapping[str, float], sizes: Sequence[int], samples: Sequence[int], key: Key
) -> NDArray[np.float32]:
    """Standardised values [b, conditions]: as asked, or drawn from the training molecules of the sample's size.

    Several properties are drawn independently of each other. Keyed like the sizes, whose draw takes the first number.
    """
    values = np.empty((len(samples), len(conditions)))
    for row, (sample, size) in enumerate(zip(samples, sizes, strict=True)):
        shares = key.generator(sample, 0).random(1 + len(conditions))[1:]
        values[row] = [condition.at(size, share) for condition, share in zip(conditions, shares, strict=True)]
    for column, condition in enumerate(conditions):
        values[:, column] = asked.get(condition.name, values[:, column])
    return standardised(conditions, values)


def standardised(conditions: Sequence[Condition], values: NDArray[np.float64]) -> NDArray[np.float32]:
    """(value - mean) / std of the training set, [b, conditions]."""
    mean = np.array([condition.mean for condition in conditions])
    std = np.array([condition.std for condition in conditions])
    return np.asarray((values - mean) / std, dtype=np.float32)


def check_asked(conditions: Sequence[Condition], asked: Mapping[str, float]) -> None:
    """Raise ValueError where a model is asked for what it was never told of, or for no number."""
    known = [condition.name for condition in conditions]
    for name, value in asked.items():
        if name not in known:
            allowed = f"this model takes {', '.join(known)}" if known else "this model takes no condition"
            raise ValueError(f"condition.{name}={value}: {allowed}")
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"condition.{name}={value!r}: expected a number")


def labelled(
    molecules: Sequence[Molecule], properties: Mapping[str, PerSample[Molecule]]
) -> tuple[NDArray[np.int64], NDArray[np.float64], list[str]]:
    """Rows of the molecules whose every property is known, the values [rows, properties], and why others are left out.

    A floor is no property of a molecule: what a reward gives the floor, or cannot score, is not trained on.
    """
    values, faults = np.zeros((len(molecules), len(properties))), [""] * len(molecules)
    for column, (name, reward) in enumerate(properties.items()):
        said = time.perf_counter()
        for start in range(0, len(molecules), CHUNK):
            rows = range(start, min(start + CHUNK, len(molecules)))
            for row, (value, reason) in zip(rows, reward.score([molecules[row] for row in rows]).scored, strict=True):
                values[row, column] = value
                faults[row] = faults[row] or category(reason) * bool(reason)
            if time.perf_counter() > said + SILENCE:
                said = time.perf_counter()
                print(f"{name}: {rows.stop} of {len(molecules)} molecules", flush=True)
    lines = [
        f"molecules without {', '.join(properties)}, {fault}: {count}"
        for fault, count in Counter(filter(None, faults)).most_common()
    ]
    kept = np.array([row for row, fault in enumerate(faults) if not fault], dtype=np.int64)
    return kept, values[kept], lines
