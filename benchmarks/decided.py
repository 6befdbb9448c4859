"""In which steps of the chain is a reward decided? Those are the steps to train on: `algo.first` and `algo.last`.

`python benchmarks/decided.py task=stability [setting=value ...]`, the settings being those of `molrl train`, draws
CHAINS chains, goes on from some steps of each BRANCHES times with fresh noise, and prints which share of the variance
of the finished samples' rewards was settled at that step: 1 - E[Var(r | x_k)] / Var(r). At step 0 the condition (size,
class, prompt) and the prior have settled theirs. With so few chains the standard error is about 0.1.
"""

import sys

import torch
from torch import Tensor

from molrl.composition import compose
from molrl.noise import ChainNoise, Key
from molrl.run import prepare
from molrl.task import Task, open_reward
from molrl.trajectory import select

CHAINS, BRANCHES, PLACES = 48, 4, 10
AT_A_TIME = 32  # samples
BRANCH_STREAM = 77


@torch.no_grad()
def continued(task: Task, states: Tensor, step: int, own: Tensor, samples: list[int]) -> Tensor:
    """Rewards of states at a step, finished with noise of their own; `own` is the row of each one's chain."""
    key, rewards = Key(0, stream=BRANCH_STREAM + step), []
    policy, context = task.policy, task.decoder.draw_context(samples, Key(0))
    for rows in torch.arange(len(states)).split(AT_A_TIME):
        x, mine = states[rows], {k: v.to(task.device) for k, v in select(context, own[rows]).items()}
        for at in range(step, policy.sampler.num_steps):
            kernel = policy.sampler.transition(policy.predict_noise, x, policy.at(at, x), mine)
            x = kernel.sample(ChainNoise(key, rows.tolist(), x.shape[1:], task.device)(at + 1))
        final = policy.sampler.predict_x0(policy.predict_noise, x, policy.at(policy.sampler.num_steps, x), mine)
        rewards.append(task.reward(task.decoder.decode(final, mine)))
    return torch.cat(rewards)


def main() -> None:
    """Draw, branch, print."""
    task = prepare(compose("train", ["threads=1", *sys.argv[1:]])).task
    torch.set_num_threads(1)
    samples, own = list(range(CHAINS)), torch.arange(CHAINS).repeat_interleave(BRANCHES)
    with open_reward(task.reward):
        states = task.rollout(samples, Key(0)).trajectory.states
        steps = len(states) - 1
        print("| step | settled |\n|---|---|")
        for step in range(0, steps, max(1, steps // PLACES)):
            rewards = continued(task, states[step][own.to(task.device)], step, own, samples).view(CHAINS, BRANCHES)
            known = rewards[~rewards.isnan().any(1)]
            print(f"| {step} of {steps} | {1 - known.var(1).mean() / known.var():.2f} |", flush=True)


if __name__ == "__main__":
    main()
