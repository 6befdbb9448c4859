"""Variety kept while a reward rises: rewards shaped, before any algorithm sees them, by what was found before.

    r' = floor + (r - floor) f(count of the bucket) t / p

`Diversity` has the memory and the factors; `ShapedReward` is the reward that algorithms learn from. Reports show r.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.diversity.buckets import BucketPenalty
from molrl.diversity.frequencies import InverseFrequency

Described = Sequence[Mapping[str, str]]
"""The descriptors of each sample by name; none of a sample that is not sound."""


class Diversity(nn.Module):
    """The factors on rewards and their memory, whose tensors are in the checkpoints.

    Only what a reward has above its floor is scaled: a sample at the floor stays there however often it comes, and of
    two samples with the same descriptors the better one stays ahead. Samples without a reward, without descriptors, or
    at the floor are not remembered.

    Args:
        floor: what a worthless sample earns, in units of the reward; None: zero, or the least reward so far where that
            is lower.
        penalty: on full buckets; None: none.
        frequency: weights against frequency; None: none.
    """

    least: Tensor

    def __init__(self, floor: float | None, penalty: BucketPenalty | None, frequency: InverseFrequency | None) -> None:
        super().__init__()
        if floor is not None and not math.isfinite(floor):
            raise ValueError(f"floor: got {floor}, need a finite number, or null")
        if penalty is None and frequency is None:
            raise ValueError("penalty, frequency: both are null; diversity=none leaves rewards as they are")
        self.floor, self.penalty, self.frequency = floor, penalty, frequency
        self.register_buffer("least", torch.tensor(0.0 if floor is None else floor, dtype=torch.float64))
        self.metrics: dict[str, float] = {}

    @property
    def remedies(self) -> list[BucketPenalty | InverseFrequency]:
        """Return the factors that there are."""
        return [remedy for remedy in (self.penalty, self.frequency) if remedy is not None]

    @property
    def descriptors(self) -> list[str]:
        """Return the names of the descriptors that are read."""
        return list(dict.fromkeys(name for remedy in self.remedies for name in remedy.descriptors))

    @property
    def reference_samples(self) -> int:
        """Return how many samples of the pretrained model wanted shares are measured on; 0 where none are."""
        frequency = self.frequency
        return frequency.reference_samples if frequency is not None and frequency.target == "reference" else 0

    def set_reference(self, described: Described) -> None:
        """Measure the wanted shares on samples of the pretrained model.

        Raises:
            ValueError: none of the samples is sound.
        """
        assert self.frequency is not None
        values = self.columns([sample for sample in described if sample])
        if not values[self.descriptors[0]]:
            raise ValueError(f"reference_samples: none of {len(described)} samples of the model is sound")
        self.frequency.set_reference(values)

    def shape_round(self, described: Described, rewards: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Remember the samples of a round and return their shaped rewards; NaN stays NaN."""
        known = rewards[~rewards.isnan()].double().cpu()
        if self.floor is None and len(known):
            self.least = torch.minimum(self.least, known.min())
        factors, counted = self.factors(described, rewards, remember=True)
        shaped = self.scale(rewards, factors)
        chosen = factors[counted]
        self.metrics = {
            "diversity_factor": chosen.mean().nan_to_num(0).item(),
            "diversity_ess": (chosen.sum() ** 2 / chosen.square().sum() / max(1, len(chosen))).nan_to_num(0).item(),
            "reward_shaped": shaped.nanmean().item(),
        }
        if self.penalty is not None:
            self.metrics["diversity_buckets"] = float(len(self.penalty.counts))
        return shaped

    def shape(self, described: Described, rewards: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return the shaped rewards of samples that are not remembered, such as the candidates of a step."""
        return self.scale(rewards, self.factors(described, rewards.detach(), remember=False)[0])

    def factors(
        self, described: Described, rewards: Float[Tensor, " n"], *, remember: bool
    ) -> tuple[Float[Tensor, " n"], Tensor]:
        """Return the factor of each sample, and the rows of those that count: the others have 1."""
        above = (rewards.double().cpu() > self.least).tolist()
        rows = [row for row, sample in enumerate(described) if sample and above[row]]
        values, factors = self.columns([described[row] for row in rows]), torch.ones(len(rewards), dtype=torch.float64)
        for remedy in self.remedies:
            if remember:
                remedy.add(values)
            factors[rows] *= remedy.factors(values, remembered=remember)
        return factors, torch.tensor(rows, dtype=torch.long)

    def scale(self, rewards: Float[Tensor, " n"], factors: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return floor + (r - floor) times the factor, in the type of the rewards."""
        floor = self.least.to(rewards)
        return floor + (rewards - floor) * factors.to(rewards)

    def columns(self, described: Described) -> dict[str, list[str]]:
        """Return the values of each descriptor that is read."""
        return {name: [sample[name] for sample in described] for name in self.descriptors}
