"""The class that a classifier's reward wants of a sample."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

JUDGES = {"shape_classifier": "shape_judge", "shape_kinds": "shape_kind_judge", "scene_classifier": "scene_judge"}


@dataclass(frozen=True, kw_only=True)
class WantedClass:
    """A reward that asks a classifier for log p(class | sample).

    Attributes:
        wanted: the class; None: what each sample was conditioned on, such as its label or prompt; or the class for each
            of these, such as {"chair": "armchair"}.
        weights: a classifier, shipped or a folder.
        floor: the value of a bad sample, and the minimum of all.
    """

    wanted: str | Mapping[str, str] | None
    weights: str
    floor: float = -20.0

    def __post_init__(self) -> None:
        if not -math.inf < self.floor < 0:
            raise ValueError(f"floor: got {self.floor}, need a finite number below 0, the logarithm of a probability")
        for name in [self.wanted] if isinstance(self.wanted, str) else (self.wanted or {}).values():
            self.class_index(name)

    @cached_property
    def held_out_reward(self) -> Self | None:
        """Return this reward by the second classifier that ships for the same classes; None where none does."""
        return replace(self, weights=JUDGES[self.weights]) if self.weights in JUDGES else None

    @property
    @abstractmethod
    def classes(self) -> Sequence[str]:
        """Return the classes of the classifier, in the order of its outputs."""

    def wanted_class(self, condition: str) -> str:
        """Return the class that is wanted of a sample of this condition; ValueError if there is none."""
        if isinstance(self.wanted, str):
            return self.wanted
        if self.wanted is None:
            return condition
        if condition not in self.wanted:
            raise ValueError(f"class: got {condition!r}, wanted has only {', '.join(self.wanted)}")
        return self.wanted[condition]

    def class_index(self, name: str) -> int:
        """Return the index of a class in the output; ValueError for one that the classifier does not have."""
        classes = list(self.classes)
        if name not in classes:
            raise ValueError(f"class: got {name!r}, {self.weights} has {', '.join(classes)}")
        return classes.index(name)
