"""The admissible distance of RGDM's candidates from a step, to choose `algo.radius` and `algo.lookahead`.

`python benchmarks/candidates.py task=symmetry algo=rgdm [setting=value ...]`, the settings being those of `molrl
train`, draws CHAINS chains of the pretrained policy and scores candidates around their states as a round of RGDM does,
at several radii. A candidate has sqrt(1 + radius^2 (step's std / noise)^2) times the noise of the time given to the
network. Where the mean reward of the estimates, or their spread, departs from that of the chains (first row), the
input of the network is out of distribution, and the pull no longer follows the reward. The standard error of a mean is
a tenth of the spread.
"""

import sys
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from molrl.algos.pulls import CandidatePull
from molrl.algos.rgdm import RGDM
from molrl.algos.steps import window_of
from molrl.composition import compose
from molrl.noise import Key
from molrl.run import prepare
from molrl.task import Rollouts, Task, open_reward

CHAINS, NUM_PLACES = 96, 4
RADII = (0.25, 0.5, 1.0, 1.5)


def summarise(rewards: Tensor) -> str:
    """Return mean and spread of the rewards that are not NaN."""
    finite = rewards[~rewards.isnan()]
    return f"{finite.mean():.2f} +- {finite.std():.2f}"


@torch.no_grad()
def score_candidates(task: Task, algo: RGDM, rollouts: Rollouts, place: int) -> list[str]:
    """Summarise rewards of the estimates from states after step `place`, and from candidates around them, by radius."""
    trajectory, samples = rollouts.trajectory, list(range(CHAINS))
    keep = torch.zeros_like(trajectory.log_prob, dtype=torch.bool)
    keep[place] = True
    table = trajectory.transitions(torch.zeros_like(rollouts.rewards), keep)
    std = task.policy.transition(table).std
    zeros, strategy = torch.zeros_like(table.y)[None], cast(CandidatePull, algo.strategy)
    wider = [replace(strategy, radius=radius) for radius in RADII]
    offsets = [zeros, *(each.offsets(task.policy.sampler, table, std, samples, Key(0)) for each in wider)]
    return [summarise(strategy.score(task, table, each)[0]) for each in offsets]


def main() -> None:
    """Draw chains, score candidates and print the table."""
    run = prepare(compose("train", ["threads=1", *sys.argv[1:]]))
    task, algo = run.task, run.algorithm
    if not isinstance(algo, RGDM) or algo.guidance != "candidates":
        raise SystemExit("got an algorithm without candidates, need algo=rgdm algo.guidance=candidates")
    torch.set_num_threads(1)
    steps = task.policy.sampler.num_steps
    window = window_of(steps, algo.first, algo.last)
    places = [window[len(window) * i // NUM_PLACES] for i in range(NUM_PLACES)]
    with open_reward(task.reward):
        rollouts = task.rollout(list(range(CHAINS)), Key(0))
        columns = [[summarise(rollouts.rewards), *score_candidates(task, algo, rollouts, place)] for place in places]
    print(f"| radius | {' | '.join(f'step {place} of {steps}' for place in places)} |\n|{'---|' * (NUM_PLACES + 1)}")
    for name, *cells in zip(("chains", "0", *map(str, RADII)), *columns, strict=True):
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
