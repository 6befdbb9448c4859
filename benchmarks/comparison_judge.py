"""The judge of a comparison (`compare.py`): the same chain, noise and reader of bonds for every policy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from molrl.data.molecules.graphs import constitution
from molrl.data.molecules.perception import perceive_bonds
from molrl.noise import Key, Stream
from molrl.policy import Policy
from molrl.rewards.molecules.graph import read_sound
from molrl.task import Reward, Task, sample_chains
from molrl.trajectory import Trajectory

NUM_JUDGED, NUM_CHAINS = 512, 64  # samples of a policy; and of these, the chains that its KL is measured on
BATCH = 64


@dataclass(frozen=True)
class Outcome:
    """The samples of a method, and what they took.

    Attributes:
        rewards: of each sample.
        smiles: of each sample, canonical and without stereo marks; "" for one that is no sound, connected molecule.
        kl: of each chain to the pretrained model, in nats; of best-of-n its exact value for rewards without ties.
        queries: reward queries before these samples, or for them.
        seconds: of CPU time for training, or for sampling.
        stopped: rounds after which training ended with an error; None: it did not.
    """

    rewards: Sequence[float]
    smiles: Sequence[str]
    kl: Sequence[float]
    queries: int
    seconds: float
    stopped: int | None = None


def judging(seed: int) -> Key:
    """Return the key of the noise that the policies of a seed are judged with."""
    return Key(seed, Stream.MEASUREMENT)


def judge(policy: Policy, pretrained: Task, reward: Reward, key: Key) -> Outcome:
    """Draw samples of a policy, and compare its chains with those of the pretrained model."""
    samples, kl = list[Any](), list[float]()
    for start in range(0, NUM_JUDGED, BATCH):
        rows = range(start, min(start + BATCH, NUM_JUDGED))
        chains = sample_chains(policy, pretrained.decoder, rows, key, pretrained.device)
        samples += pretrained.decoder.decode(chains.final, chains.context)
        if start < NUM_CHAINS:
            kl += kl_of_chains(policy, pretrained.policy, chains)
    return outcome_of(samples, reward, kl)


@torch.no_grad()
def kl_of_chains(policy: Policy, reference: Policy, chains: Trajectory) -> list[float]:
    """Compute the KL of each chain to the reference, in nats: the sum of the exact Gaussian KL of its steps."""
    table = chains.transitions(torch.zeros_like(chains.log_prob[0]))
    kl = policy.transition(table).kl(reference.transition(table))
    return kl.view(chains.log_prob.shape).double().sum(0).tolist()


def outcome_of(samples: Sequence[Any], reward: Reward, kl: Sequence[float]) -> Outcome:
    """Score finished samples and read their bonds."""
    readings = [read_sound(perceive_bonds, sample) for sample in samples]
    smiles = ["" if reading.mol is None else constitution(reading.mol) for reading in readings]
    return Outcome(reward(samples).tolist(), smiles, kl, 0, 0.0)
