"""Which part of the network should learn? For `trained`.

`python benchmarks/network_parts.py task=symmetry algo=ddpo [setting=value ...]`, the settings being those of `molrl
train`, draws CHAINS chains of the untouched policy. From the gradients of their log-densities, over the steps between
`algo.first` and `algo.last`, it works out for each part of the network the step that a policy gradient with Adam's
scaling would take on all but one of FOLDS parts of the chains, and prints how the change that it makes to the
log-densities of the others correlates with their rewards. To first order a step with a correlation rho raises the
reward by rho sqrt(2 KL) standard deviations: twice the correlation, a quarter of the KL. The standard error is about
1 / sqrt(CHAINS) = 0.04. Last, all parts together.
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

CHAINS, FOLDS, AT_A_TIME = 576, 6, 96
DEPTH = 4  # components of a parameter's name that tell its part


def part_of(name: str) -> str:
    """A pattern of names: "network.layers.0.point_mlp.2.weight" -> "network.layers.*.point_mlp.*", for all layers."""
    *path, own = name.split(".")
    layers = [place for place, component in enumerate(path) if component.isdigit()][:1]
    kept = ["*" if place in layers else component for place, component in enumerate(path)][:DEPTH]
    return ".".join([*kept, own if len(path) < 2 else "*"])


def drawn(task: Task, window: range) -> tuple[Tensor, NDArray[np.float16]]:
    """Rewards [n], standardised within what each sample is asked for, and gradients of log-densities [n, p]."""
    parameters = [p for p in trainable_module(task.policy).parameters() if p.requires_grad]
    gradients = np.zeros((CHAINS, sum(p.numel() for p in parameters)), np.float16)
    rewards, groups = [], list[int]()
    for first in range(0, CHAINS, AT_A_TIME):
        with torch.no_grad():
            rollouts = task.rollout(list(range(first, first + AT_A_TIME)), Key(0))
        trajectory = rollouts.trajectory
        keep = torch.zeros(task.policy.sampler.num_steps, AT_A_TIME, dtype=torch.bool)
        keep[window] = True
        table = trajectory.transitions(rollouts.rewards, keep)
        rewards.append(rollouts.rewards)
        groups += task.decoder.groups(trajectory.context)
        for row in range(AT_A_TIME):
            chain = table[(table.sample == row).nonzero().squeeze(1)]
            density = task.policy.transition(chain).log_prob(chain.y).mean()
            found = torch.autograd.grad(density, parameters, materialize_grads=True)
            gradients[first + row] = torch.cat([g.flatten() for g in found]).half().numpy()
    return standardised(torch.cat(rewards), torch.tensor(groups)), gradients


def standardised(rewards: Tensor, groups: Tensor) -> Tensor:
    """Rewards without the mean and spread of their group; 0 for what has none."""
    found = torch.zeros_like(rewards)
    for group in groups.unique():
        rows = (groups == group) & ~rewards.isnan()
        own = rewards[rows]
        found[rows] = (own - own.mean()) / own.std(correction=0).clamp(min=1e-6)
    return found


def change(gradients: NDArray[np.float16], rewards: NDArray[np.float32]) -> NDArray[np.float32]:
    """By how much the step that all other folds ask for changes each chain's log-density, up to a factor [n]."""
    fold, size, width = np.arange(len(rewards)) % FOLDS, gradients.shape[1], 20_000
    found = np.zeros(len(rewards), np.float32)
    for start in range(0, size, width):
        some = gradients[:, start : start + width].astype(np.float32)
        scale = np.sqrt((some**2).mean(0)) + 1e-12
        for out in range(FOLDS):
            step = rewards[fold != out] @ some[fold != out] / scale
            found[fold == out] += some[fold == out] @ step
    return found


def columns(task: Task) -> Mapping[str, Sequence[range]]:
    """Where the parameters of each part lie."""
    found, start = dict[str, list[range]](), 0
    for name, parameter in trainable_module(task.policy).named_parameters():
        if parameter.requires_grad:
            found.setdefault(part_of(name), []).append(range(start, start + parameter.numel()))
            start += parameter.numel()
    return found


def main() -> None:
    """Draw, compare, print."""
    run = prepare(compose("train", ["threads=1", *sys.argv[1:]]))
    task, algorithm = run.task, run.algorithm
    torch.set_num_threads(1)
    window = window_of(task.policy.sampler.num_steps, getattr(algorithm, "first", 0.0), getattr(algorithm, "last", 1.0))
    with open_reward(task.reward):
        rewards, gradients = drawn(task, window)
    target, total = rewards.numpy(), np.zeros(CHAINS, np.float32)
    print(f"steps {window.start} to {window.stop}, {CHAINS} chains\n")
    print("| part | parameters | correlation |\n|---|---|---|")
    for name, places in columns(task).items():
        moved = sum(change(gradients[:, place.start : place.stop], target) for place in places)
        total += moved
        print(f"| `{name}` | {sum(map(len, places))} | {np.corrcoef(moved, target)[0, 1]:.2f} |", flush=True)
    print(f"| all | {gradients.shape[1]} | {np.corrcoef(total, target)[0, 1]:.2f} |")


if __name__ == "__main__":
    main()
