"""Where on the chain a reward can be learned from: the share of a gradient that is signal, by the noise level.

    python benchmarks/gradient_signal.py policy=drugs precision=bfloat16 [--n 768] [--points 0,4,7,10,13,17,25]

It draws samples of the pretrained policy, adds noise to each of them in every part of the chain, and computes the
gradient that all methods of the forward process begin with, that of A |eps_theta - eps|^2 / d with the advantages A
(`molrl.algos.matching`), of `CHUNKS` disjoint sets of samples. The inner product of two independent gradients has the
squared norm of their expectation as its mean, so that the share of signal is

    mean over i != j of g_i . g_j  /  mean over i of |g_i|^2,

for a gradient of n / CHUNKS samples, each noised `NOISINGS` times. It has a jackknife error over the chunks and can be
negative by chance. The gradient of each parameter tensor is divided by its root mean square over the chunks, since Adam
divides by such a number as well. Advantages are deviations from the line over the numbers of atoms
(`advantage.kind=linear`): of all samples, and of those with a reward above 0 alone, since an invalid sample earns 0 and
the reward of all is mostly about validity.
"""

import argparse
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from molrl.advantages import Regressed
from molrl.algos.forward import denoising_error, noise_samples
from molrl.composition import compose
from molrl.data.molecules.perception import perceive_bonds
from molrl.gaussian import Context
from molrl.noise import Key, Stream
from molrl.policy import Policy
from molrl.rewards.molecules.qed import QED
from molrl.run import prepare
from molrl.task import Task, sample_chains
from molrl.trainable_parameters import trainable_module

CHUNKS = 12
NOISINGS = 2  # of a sample in each part of the chain
ROWS = 32  # of a backward pass
CLIP = 2.5  # of advantages, as in conf/algo/nft.yaml


class Drawn(NamedTuple):
    """A chunk of finished samples [b, n, c] and their rewards [b]."""

    indices: range
    final: Tensor
    context: Context
    rewards: Tensor


class Signal(NamedTuple):
    """The share of a gradient's square that is signal, and its jackknife error."""

    share: float
    error: float

    def __str__(self) -> str:
        return f"{self.share:.3f} ± {self.error:.3f}"


def signal_of(gradients: Sequence[Tensor]) -> Signal:
    """Estimate the share of signal from independent gradients [p] of one law."""
    stacked = torch.stack(list(gradients))
    products = stacked @ stacked.T
    square, crossed, count = products.diag().mean(), products - products.diag().diag(), len(products)
    left_out = (crossed.sum() - 2 * crossed.sum(1)) / ((count - 1) * (count - 2))
    error = ((count - 1) / count * (left_out - left_out.mean()).square().sum()).sqrt()
    return Signal(float(crossed.sum() / (count * (count - 1)) / square), float(error / square))


def draw(task: Task, indices: range, key: Key) -> Drawn:
    """Draw and score samples."""
    chain = sample_chains(task.policy, task.decoder, indices, key, task.device)
    rewards = torch.as_tensor(task.reward(task.decoder.decode(chain.final, chain.context))).float()
    return Drawn(indices, chain.final, chain.context, rewards)


def advantages(rewards: Tensor, atoms: Sequence[int], counted: Tensor) -> tuple[Tensor, float]:
    """Return clamped advantages, zero for samples that do not count, and the share of variance that sizes explain."""
    found, metrics = Regressed()(rewards.masked_fill(~counted, torch.nan), atoms)
    return found.clamp(-CLIP, CLIP).nan_to_num(0), metrics["reward_explained"]


def gradients(policy: Policy, drawn: Drawn, weights: Tensor, key: Key, part: range) -> list[list[Tensor]]:
    """Return the gradients of a chunk in a part of the chain, for each row of weights [k, b] those of all tensors."""
    parameters = [one for one in trainable_module(policy).parameters() if one.requires_grad]
    rows = torch.arange(len(drawn.rewards))
    table = noise_samples(
        policy.sampler, drawn.final, drawn.context, rows.float(), list(drawn.indices), key, NOISINGS, part
    )
    sums = [[torch.zeros_like(one) for one in parameters] for _ in weights]
    for rows_of_call in torch.arange(len(table)).split(ROWS):
        batch = table[rows_of_call]
        errors = denoising_error(policy, batch)
        for at, weight in enumerate(weights):
            loss = (weight[batch.weight.long()] * errors).sum() / len(table)
            found = torch.autograd.grad(loss, parameters, retain_graph=at + 1 < len(weights))
            sums[at] = [total + one for total, one in zip(sums[at], found, strict=True)]
    return sums


def normalised(chunks: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Return one vector for each chunk, its tensors divided by their root mean square over the chunks."""
    scales = [torch.stack(tensors).square().mean().sqrt().clamp(min=1e-30) for tensors in zip(*chunks, strict=True)]
    return [
        torch.cat([(one / scale).flatten() for one, scale in zip(tensors, scales, strict=True)]) for tensors in chunks
    ]


def main() -> None:
    """Draw the samples and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=768)
    parser.add_argument("--points", default="0,4,7,10,13,17,25", help="grid points at which the parts of a chain begin")
    parser.add_argument("--seed", type=int, default=0)
    options, settings = parser.parse_known_args()
    task = prepare(compose("train", ["task=qed", "algo=nft", "threads=1", *settings]), QED(reader=perceive_bonds)).task
    key, size = Key(options.seed, Stream.SAMPLING), options.n // CHUNKS
    drawn = [draw(task, range(start, start + size), key) for start in range(0, size * CHUNKS, size)]
    rewards = torch.cat([chunk.rewards for chunk in drawn])
    atoms = [count for chunk in drawn for count in chunk.context["mask"].sum(1).tolist()]
    (of_all, by_size), (of_some, by_size_of_some) = (advantages(rewards, atoms, rewards > least) for least in (-1, 0))
    weights = torch.stack([of_all, of_some]).split(size, 1)
    share = (rewards > 0).float().mean()
    print(f"{len(rewards)} samples, mean reward {rewards.mean():.3f}, {share:.3f} with a reward above 0")
    print(f"a line over the numbers of atoms explains {by_size:.3f} of the variance, {by_size_of_some:.3f} above 0\n")
    print("| grid points | signal, all samples | signal, reward above 0 |\n|---|---|---|", flush=True)
    for part in (range(*ends) for ends in pairwise(map(int, options.points.split(",")))):
        found = [gradients(task.policy, chunk, own, key, part) for chunk, own in zip(drawn, weights, strict=True)]
        signals = [signal_of(normalised([of_chunk[at] for of_chunk in found])) for at in range(2)]
        print(f"| {part.start} to {part.stop - 1} | {signals[0]} | {signals[1]} |", flush=True)


if __name__ == "__main__":
    main()
