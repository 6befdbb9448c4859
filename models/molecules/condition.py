"""Properties of molecules that a model is conditioned on: one more input of its network for each.

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

NUM_QUANTILES = 21  # kept of each distribution
LABEL_BATCH = 500  # molecules that are labelled at a time
PROGRESS_SECONDS = 15.0  # between two lines about labelling


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A property and its distribution in the training set.

    Attributes:
        name: name of the property.
        mean, std: mean and standard deviation over the training set; the network's input is (value - mean) / std.
        quantiles: number of atoms -> quantiles over the molecules of that size at evenly spaced levels, from the
            minimum to the maximum. Keys are text, as in model.json.
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
    def fit(cls, name: str, values: NDArray[np.float64], sizes: NDArray[np.int64]) -> "Condition":
        """Take the statistics of a training set.

        Args:
            values: the property of each molecule.
            sizes: the number of atoms of each molecule.
        """
        levels = np.linspace(0, 1, NUM_QUANTILES)
        rows = {str(size): np.quantile(values[sizes == size], levels) for size in np.unique(sizes).tolist()}
        return cls(
            name=name,
            mean=round(float(values.mean()), 6),
            std=round(float(values.std()), 6),
            quantiles={size: [round(value, 6) for value in row.tolist()] for size, row in rows.items()},
        )

    @property
    def span(self) -> tuple[float, float]:
        """Return the minimum and the maximum over the training set."""
        return min(row[0] for row in self.quantiles.values()), max(row[-1] for row in self.quantiles.values())

    def quantile(self, size: int, level: float) -> float:
        """Return the quantile at a level in [0, 1] of the training molecules with `size` atoms."""
        row = self.quantiles[str(size)]
        return float(np.interp(level, np.linspace(0, 1, len(row)), row))


def draw_conditions(
    conditions: Sequence[Condition],
    requested: Mapping[str, float],
    sizes: Sequence[int],
    samples: Sequence[int],
    key: Key,
) -> NDArray[np.float32]:
    """Return standardised values [b, conditions]: as requested, or drawn from training molecules of the sample's size.

    Several properties are drawn independently of each other. Draws are keyed like those of the sizes, which take the
    first random number of each sample.
    """
    values = np.empty((len(samples), len(conditions)))
    for row, (sample, size) in enumerate(zip(samples, sizes, strict=True)):
        levels = key.generator(sample, 0).random(1 + len(conditions))[1:]
        values[row] = [
            requested[condition.name] if condition.name in requested else condition.quantile(size, level)
            for condition, level in zip(conditions, levels, strict=True)
        ]
    return standardise(conditions, values)


def standardise(conditions: Sequence[Condition], values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return (value - mean) / std with the statistics of the training set, [b, conditions]."""
    mean = np.array([condition.mean for condition in conditions])
    std = np.array([condition.std for condition in conditions])
    return np.asarray((values - mean) / std, dtype=np.float32)


def check_request(conditions: Sequence[Condition], requested: Mapping[str, float]) -> None:
    """Raise ValueError for a requested property that the model is not conditioned on, or for no finite number."""
    names = [condition.name for condition in conditions]
    for name, value in requested.items():
        if name not in names:
            allowed = f"this model takes {', '.join(names)}" if names else "this model takes no condition"
            raise ValueError(f"condition.{name}={value}: {allowed}")
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"condition.{name}={value!r}: expected a number")


def check_sizes(conditions: Sequence[Condition], requested: Mapping[str, float], sizes: Sequence[int]) -> None:
    """Raise ValueError for a size of which no training molecule tells the values of a property that is to be drawn."""
    for condition in conditions:
        missing = [size for size in sizes if str(size) not in condition.quantiles]
        if missing and condition.name not in requested:
            raise ValueError(
                f"atoms: no training molecule of {missing[0]} atoms tells values of {condition.name}; ask for one, "
                f"condition.{condition.name}=NUMBER"
            )


def label_molecules(
    molecules: Sequence[Molecule], properties: Mapping[str, PerSample[Molecule]]
) -> tuple[NDArray[np.int64], NDArray[np.float64], list[str]]:
    """Return the rows of the molecules with all properties, the values [rows, properties], and a line per other reason.

    The floor of a reward is no property of a molecule: one that gets the floor, or no score, is left out.
    """
    values, faults = np.zeros((len(molecules), len(properties))), [""] * len(molecules)
    for column, (name, reward) in enumerate(properties.items()):
        last_line = time.perf_counter()
        for start in range(0, len(molecules), LABEL_BATCH):
            rows = range(start, min(start + LABEL_BATCH, len(molecules)))
            for row, (value, reason) in zip(rows, reward.score([molecules[row] for row in rows]).scored, strict=True):
                values[row, column] = value
                faults[row] = faults[row] or category(reason) * bool(reason)
            if time.perf_counter() > last_line + PROGRESS_SECONDS:
                last_line = time.perf_counter()
                print(f"{name}: {rows.stop} of {len(molecules)} molecules", flush=True)
    lines = [
        f"molecules without {', '.join(properties)}, {fault}: {count}"
        for fault, count in Counter(filter(None, faults)).most_common()
    ]
    kept = np.array([row for row, fault in enumerate(faults) if not fault], dtype=np.int64)
    return kept, values[kept], lines
