"""The time saved by computing rewards while samples are drawn: `python benchmarks/overlap.py`.

Rollouts of the task `qed`, with a reward that takes some milliseconds per molecule without using the processor, like
one on another machine, or with a configured one (`--reward docking`, or any other, with `--set`). Two ways are timed in
turn, `--rounds` times: rewards submitted in parts, and computed once everything is drawn. The best round counts. Both
must give the same rewards. The saving is at most the smaller of the times of rollout and reward.
"""

import argparse
import time
from dataclasses import dataclass, replace

import torch

from molrl.building import build
from molrl.composition import compose
from molrl.data.molecules.molecule import Molecule
from molrl.noise import Key
from molrl.rewards.scores import Scored
from molrl.rewards.workers.pooled import Pooled
from molrl.run import prepare
from molrl.task import Rollouts, Task, open_reward


@dataclass(frozen=True)
class Slow:
    """The number of heavy atoms, after a delay.

    Attributes:
        seconds: the delay.
    """

    seconds: float

    def score_one(self, sample: Molecule, /) -> Scored:
        time.sleep(self.seconds)
        return Scored(float((sample.numbers > 1).sum()))


def time_rollout(task: Task, count: int) -> tuple[float, Rollouts]:
    """Return the seconds of a rollout with its rewards, and the rollout."""
    start = time.perf_counter()
    rollouts = task.rollout(range(count), Key(0))
    return time.perf_counter() - start, rollouts


def main() -> None:
    """Time both ways in turn and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=192)
    parser.add_argument("--milliseconds", type=float, default=50.0, help="of the slow reward for each molecule")
    parser.add_argument("--reward", help="a configured reward instead of the slow one")
    parser.add_argument("--set", nargs="*", default=[], help="settings as for molrl train, such as reward.receptor=...")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = compose("train", [*([f"reward={options.reward}"] if options.reward else []), *options.set])
    slow = Pooled(Slow(options.milliseconds / 1e3), workers=2, timeout=60.0)
    reward = build(config["reward"], "reward") if options.reward else slow
    overlapped = prepare(config, reward).task
    sequential = replace(overlapped, reward=reward.__call__)  # a function, to which nothing can be submitted
    results: dict[str, list[tuple[float, Rollouts]]] = {"sequential": [], "overlapped": []}
    with open_reward(reward):
        for _ in range(options.rounds):
            for task, times in zip((sequential, overlapped), results.values(), strict=True):
                times.append(time_rollout(task, options.rollouts))
    best = {way: min(times, key=lambda one: one[0]) for way, times in results.items()}
    for way, (seconds, rollouts) in best.items():
        spent = ", ".join(f"{name} {value:.2f} s" for name, value in rollouts.seconds.items())
        print(f"{way:<17}{seconds:6.2f} s ({spent})")
    before, after = best.values()
    same = torch.equal(before[1].rewards.nan_to_num(-1e9), after[1].rewards.nan_to_num(-1e9))
    print(f"ratio {before[0] / after[0]:.2f}, the same rewards: {same}")


if __name__ == "__main__":
    main()
