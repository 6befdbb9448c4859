"""Weights against frequency: a reward divided by how often its outcome comes up.

A policy that maximises E[r] = sum_k p_k r_k ends at the best outcome k alone, as p_k multiplies what is learned of k.
Divided by it, r_k / p_k, the gain is sum_k r_k d log p_k, and the rest is p_k ~ r_k (Sinha et al. 2026,
arXiv:2601.21669). The numerator may be any wanted share t_k: then the rest is p_k ~ t_k r_k.
"""

from collections.abc import Sequence
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.diversity.counts import Counts

Target = Literal["uniform", "reference"]


class InverseFrequency(nn.Module):
    """The weight prod_j (t_j / p_j)^strength of a reward, over some descriptors j of its sample.

    p_j is the share of the sample's value of descriptor j in recent rounds, t_j the share that is wanted. Weights are
    divided by their mean over the round and capped. Where all of an algorithm's forces balance, log r + strength sum_j
    log(t_j / p_j) is the same for all outcomes: the point of largest E[log r] - strength sum_j KL(p_j || t_j).

    Args:
        names: descriptors whose shares are held.
        target: "uniform": all values that were seen are wanted equally often, as published; "reference": as often as
            the pretrained model draws them.
        reference_samples: samples of the pretrained model that its shares are measured on.
        strength: nats of log reward that one nat of the KL is worth; 1 in the paper.
        decay: factor of the counts with each round: shares are of the last 1 / (1 - decay) rounds or so.
        cap: largest weight.
    """

    def __init__(
        self, names: Sequence[str], target: Target, reference_samples: int, strength: float, decay: float, cap: float
    ) -> None:
        super().__init__()
        if isinstance(names, str) or not names or len(set(names)) < len(names):
            raise ValueError(f"names: got {names!r}, need a list of different descriptors")
        if reference_samples < 1:
            raise ValueError(f"reference_samples: got {reference_samples}, need at least 1")
        if not strength > 0:
            raise ValueError(f"strength: got {strength}, need a number above 0")
        if not cap > 1:
            raise ValueError(f"cap: got {cap}, need a number above 1, the mean of the weights")
        self.descriptors, self.target, self.reference_samples = tuple(names), target, reference_samples
        self.strength, self.cap = strength, cap
        self.seen = nn.ModuleList(Counts(decay) for _ in names)
        self.wanted = nn.ModuleList(Counts() for _ in names if target == "reference")
        self.mean_weight = 1.0  # of the last round

    def set_reference(self, values: dict[str, list[str]]) -> None:
        """Take the wanted shares from samples of the pretrained model, which also stand for the rounds before."""
        for name, wanted in zip(self.descriptors, self.wanted, strict=True):
            as_counts(wanted).add(values[name])
        self.add(values)

    def add(self, values: dict[str, list[str]]) -> None:
        """Remember the samples of a round, by the values of each descriptor."""
        for name, seen in zip(self.descriptors, self.seen, strict=True):
            as_counts(seen).add(values[name])

    def factors(self, values: dict[str, list[str]], *, remembered: bool) -> Float[Tensor, " n"]:
        """Return the weight of each sample; the mean weight is that of the round that was `remembered` last."""
        weights = (self.strength * self.log_ratios(values)).exp()
        if remembered:
            self.mean_weight = weights.mean().item() if len(weights) else 1.0
        return (weights / self.mean_weight).clamp(max=self.cap)

    def log_ratios(self, values: dict[str, list[str]]) -> Float[Tensor, " n"]:
        """Compute sum_j log(t_j / p_j) of each sample, up to a constant; a value never seen counts as seen once."""
        total = torch.zeros(len(values[self.descriptors[0]]), dtype=torch.float64)
        for j, (name, seen) in enumerate(zip(self.descriptors, self.seen, strict=True)):
            total -= log_shares(as_counts(seen), values[name])
            if self.target == "reference":
                total += log_shares(as_counts(self.wanted[j]), values[name])
        return total


def as_counts(part: nn.Module) -> Counts:
    """Return a part of a ModuleList, which forgets the types of its parts, as the memory that it is."""
    return cast(Counts, part)


def log_shares(counts: Counts, texts: list[str]) -> Float[Tensor, " n"]:
    """Return the logarithm of the share that each text has in the counts; one never seen counts as seen once."""
    return (counts.of(texts).clamp(min=1) / max(counts.total, 1.0)).log()
