"""The steps of the chain that decide a reward, to choose the steps to train on: `algo.first` and `algo.last`.

`python benchmarks/decided.py task=stability [setting=value ...]`, the settings being those of `molrl train`, draws
CHAINS chains, continues each from some steps BRANCHES times with fresh noise, and prints the fraction of the variance
of the rewards that is determined at that step: 1 - E[Var(r | x_k)] / Var(r). At step 0 it is that of the condition
(size, class, prompt) and the prior. With so few chains the standard error is about 0.1.
"""

import sys

import torch
from torch import Tensor

from molrl.composition import compose
from molrl.noise import ChainNoise, Key
from molrl.run import prepare
from molrl.task import Task, open_reward
from molrl.trajectory import select

CHAINS, BRANCHES, ROWS = 48, 4, 10
BATCH_SIZE = 32
BRANCH_STREAM = 77


@torch.no_grad()
def continue_chains(task: Task, states: Tensor, step: int, chains: Tensor, samples: list[int]) -> Tensor:
    """Finish states at a step with fresh noise, and return their rewards.

    Args:
        chains: the row of the chain of each state.
    """
    key, rewards = Key(0, stream=BRANCH_STREAM + step), []
    policy, context = task.policy, task.decoder.draw_context(samples, Key(0))
    for rows in torch.arange(len(states)).split(BATCH_SIZE):
        x, batch = states[rows], {k: v.to(task.device) for k, v in select(context, chains[rows]).items()}
        for at in range(step, policy.sampler.num_steps):
            kernel = policy.sampler.transition(policy.predict_target, x, policy.at(at, x), batch)
            x = kernel.sample(ChainNoise(key, rows.tolist(), x.shape[1:], task.device)(at + 1))
        final = policy.sampler.predict_x0(policy.predict_target, x, policy.at(policy.sampler.num_steps, x), batch)
        rewards.append(task.reward(task.decoder.decode(final, batch)))
    return torch.cat(rewards)


def main() -> None:
    """Draw chains, branch them and print the table."""
    task = prepare(compose("train", ["threads=1", *sys.argv[1:]])).task
    torch.set_num_threads(1)
    samples, chains = list(range(CHAINS)), torch.arange(CHAINS).repeat_interleave(BRANCHES)
    with open_reward(task.reward):
        states = task.rollout(samples, Key(0)).trajectory.states
        steps = len(states) - 1
        print("| step | determined |\n|---|---|")
        for step in range(0, steps, max(1, steps // ROWS)):
            rewards = continue_chains(task, states[step][chains.to(task.device)], step, chains, samples)
            rewards = rewards.view(CHAINS, BRANCHES)
            finite = rewards[~rewards.isnan().any(1)]
            print(f"| {step} of {steps} | {1 - finite.var(1).mean() / finite.var():.2f} |", flush=True)


if __name__ == "__main__":
    main()
