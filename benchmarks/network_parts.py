"""The part of the network that should learn, to choose `trainable_parameters`.

`python benchmarks/network_parts.py task=symmetry algo=ddpo [setting=value ...]`, the settings being those of `molrl
train`, draws CHAINS chains of the pretrained policy. From the gradients of their log-densities, over the steps between
`algo.first` and `algo.last`, it computes for each part of the network the step of a policy gradient with Adam's scaling
on all but one of FOLDS folds of the chains, and prints the correlation of the resulting change of log-densities in that
fold with the rewards. To first order a step with a correlation rho raises the
reward by rho sqrt(2 KL) standard deviations: twice the correlation, a quarter of the KL. The standard error is about
1 / sqrt(CHAINS) = 0.04. The last row is for all parts together.
"""

import sys
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from molrl.algos.steps import window_of
from molrl.composition import compose
from molrl.noise import Key
from molrl.run import prepare
from molrl.task import Task, open_reward
from molrl.trainable_parameters import trainable_module

CHAINS, FOLDS, BATCH_SIZE = 576, 6, 96
DEPTH = 5  # components of a parameter's name that define its part


def part_of(name: str) -> str:
    """Return the pattern of a part in all layers: "net.layers.0.mlp.1.weight" -> "net.layers.*.mlp.1.*"."""
    *path, leaf = name.split(".")
    layers = [place for place, component in enumerate(path) if component.isdigit()][:1]
    kept = ["*" if place in layers else component for place, component in enumerate(path)][:DEPTH]
    return ".".join([*kept, leaf if len(path) < 2 else "*"])


def draw(task: Task, window: range) -> tuple[Tensor, NDArray[np.float16]]:
    """Draw chains: their rewards [n], standardised within groups, and gradients of log-densities [n, p]."""
    parameters = [p for p in trainable_module(task.policy).parameters() if p.requires_grad]
    gradients = np.zeros((CHAINS, sum(p.numel() for p in parameters)), np.float16)
    rewards, groups = [], list[int]()
    for first in range(0, CHAINS, BATCH_SIZE):
        with torch.no_grad():
            rollouts = task.rollout(list(range(first, first + BATCH_SIZE)), Key(0))
        trajectory = rollouts.trajectory
        keep = torch.zeros(task.policy.sampler.num_steps, BATCH_SIZE, dtype=torch.bool)
        keep[window] = True
        table = trajectory.transitions(rollouts.rewards, keep)
        rewards.append(rollouts.rewards)
        groups += task.decoder.groups(trajectory.context)
        for row in range(BATCH_SIZE):
            chain = table[(table.sample == row).nonzero().squeeze(1)]
            density = task.policy.transition(chain).log_prob(chain.y).mean()
            pieces = torch.autograd.grad(density, parameters, materialize_grads=True)
            gradients[first + row] = torch.cat([g.flatten() for g in pieces]).half().numpy()
    return standardise(torch.cat(rewards), torch.tensor(groups)), gradients


def standardise(rewards: Tensor, groups: Tensor) -> Tensor:
    """Standardise rewards [n] within their groups [n]; NaN becomes 0."""
    standard = torch.zeros_like(rewards)
    for group in groups.unique():
        rows = (groups == group) & ~rewards.isnan()
        group_rewards = rewards[rows]
        spread = group_rewards.std(correction=0).clamp(min=1e-6)
        standard[rows] = (group_rewards - group_rewards.mean()) / spread
    return standard


def predict_change(gradients: NDArray[np.float16], rewards: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the change [n] of each chain's log-density by the step of all other folds, up to a factor."""
    fold, size, width = np.arange(len(rewards)) % FOLDS, gradients.shape[1], 20_000
    changes = np.zeros(len(rewards), np.float32)
    for start in range(0, size, width):
        block = gradients[:, start : start + width].astype(np.float32)
        scale = np.sqrt((block**2).mean(0)) + 1e-12
        for out in range(FOLDS):
            step = rewards[fold != out] @ block[fold != out] / scale
            changes[fold == out] += block[fold == out] @ step
    return changes


def part_columns(task: Task) -> Mapping[str, Sequence[range]]:
    """Return the columns of the gradients that belong to each part."""
    columns, start = dict[str, list[range]](), 0
    for name, parameter in trainable_module(task.policy).named_parameters():
        if parameter.requires_grad:
            columns.setdefault(part_of(name), []).append(range(start, start + parameter.numel()))
            start += parameter.numel()
    return columns


def main() -> None:
    """Draw chains, compute the correlations and print the table."""
    run = prepare(compose("train", ["threads=1", *sys.argv[1:]]))
    task, algorithm = run.task, run.algorithm
    torch.set_num_threads(1)
    window = window_of(task.policy.sampler.num_steps, getattr(algorithm, "first", 0.0), getattr(algorithm, "last", 1.0))
    with open_reward(task.reward):
        rewards, gradients = draw(task, window)
    target, total = rewards.numpy(), np.zeros(CHAINS, np.float32)
    print(f"steps {window.start} to {window.stop}, {CHAINS} chains\n")
    print("| part | parameters | correlation |\n|---|---|---|")
    for name, places in part_columns(task).items():
        moved = sum(predict_change(gradients[:, place.start : place.stop], target) for place in places)
        total += moved
        print(f"| `{name}` | {sum(map(len, places))} | {np.corrcoef(moved, target)[0, 1]:.2f} |", flush=True)
    print(f"| all | {gradients.shape[1]} | {np.corrcoef(total, target)[0, 1]:.2f} |")


if __name__ == "__main__":
    main()
