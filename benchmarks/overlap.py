"""What it saves that rewards are worked on while samples are drawn: `python benchmarks/overlap.py`.

Rollouts of the task `qed`, with a reward that takes some milliseconds for each molecule without using the processor, as
one on another machine does, or with a configured one (`--reward docking`, or any other, with `--set`). Each way is
timed in turn, `--rounds` times: handed out in parts, and asked once everything is drawn. The best round counts. Both
must give the same rewards. The saving can be no more than the smaller of the two, rollout and reward.
"""

import argparse
import time
from dataclasses import dataclass, replace

import torch

from molrl.config import build, compose
from molrl.data.molecules.molecule import Molecule
from molrl.noise import Key
from molrl.rewards.scores import Scored
from molrl.rewards.workers.pooled import Pooled
from molrl.task import Rollouts, Task, opened


@dataclass(frozen=True)
class Slow:
    """The number of heavy atoms, after a while.

    Attributes:
        seconds: how long.
    """

    seconds: float

    def score_one(self, sample: Molecule, /) -> Scored:
        time.sleep(self.seconds)
        return Scored(float((sample.numbers > 1).sum()))


def timed(task: Task, count: int) -> tuple[float, Rollouts]:
    """Seconds of a rollout with its rewards."""
    start = time.perf_counter()
    rollouts = task.rollout(range(count), Key(0))
    return time.perf_counter() - start, rollouts


def main() -> None:
    """Time both ways in turn, and print what they take."""
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
    handed: Task = build(config["task"], "task", device=torch.device("cpu"), reward=reward)
    asked = replace(handed, reward=reward.__call__)  # a function, to which nothing can be handed out
    found: dict[str, list[tuple[float, Rollouts]]] = {"asked at the end": [], "handed out": []}
    with opened(reward):
        for _ in range(options.rounds):
            for task, times in zip((asked, handed), found.values(), strict=True):
                times.append(timed(task, options.rollouts))
    best = {way: min(times, key=lambda one: one[0]) for way, times in found.items()}
    for way, (seconds, rollouts) in best.items():
        spent = ", ".join(f"{name} {value:.2f} s" for name, value in rollouts.seconds.items())
        print(f"{way:<17}{seconds:6.2f} s ({spent})")
    before, after = best.values()
    same = torch.equal(before[1].rewards.nan_to_num(-1e9), after[1].rewards.nan_to_num(-1e9))
    print(f"ratio {before[0] / after[0]:.2f}, the same rewards: {same}")


if __name__ == "__main__":
    main()
