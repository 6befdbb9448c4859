"""RGDM's radius, temperature and number of candidates, each varied alone, at the same number of reward queries.

`python benchmarks/rgdm_ablation.py oracle` trains on the linear-Gaussian chain with a quadratic reward, where the best
expected reward is known; `python benchmarks/rgdm_ablation.py qed [folder] [setting=value ...]` fine-tunes the shipped
model to QED, one run folder per setting (default runs/ablation). Both print a Markdown table.
"""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from molrl.algos.rgdm import RGDM
from molrl.oracle.chain import Chain
from molrl.oracle.control import best_reward
from molrl.oracle.linear_gaussian import QUADRATIC, ParabolaReward, linear_gaussian_task
from molrl.oracle.trial import path_kl, train

BASE: dict[str, Any] = {"radius": 1.0, "temperature": 0.3, "candidates": 4}
VARIED: dict[str, tuple[float, ...]] = {
    "radius": (0.25, 0.5, 1.0, 2.0),
    "temperature": (0.1, 0.3, 1.0, 3.0),
    "candidates": (2, 4, 8),
}
PULLS: dict[str, Any] = {  # on the oracle
    **{"source": "policy", "guidance": "candidates", "states": 10, "first": 0.0, "last": 1.0},
    **{"lookahead": 0, "held": 0, "kl_weight": 0.05},
}
NUM_QUERIES = 4608  # of a run on QED
STATES, HELD, ROUNDS = 3, 3, 16
SEEDS = (0, 1, 2)


def settings() -> list[dict[str, Any]]:
    """Return the base settings, and every change of one of them."""
    changes = [{name: value} for name, values in VARIED.items() for value in values if value != BASE[name]]
    return [dict(BASE), *({**BASE, **change} for change in changes)]


def on_oracle(changed: dict[str, Any], seed: int) -> dict[str, float]:
    """Train on the oracle for twenty rounds of 12,800 queries; return the progress to the optimum, KL and variance."""
    task = linear_gaussian_task(ParabolaReward(QUADRATIC))
    reference = Chain.from_policy(task.policy, torch.float32)
    algorithm = RGDM(**PULLS, **changed)
    rollouts = 12_800 // (1 + 10 * int(changed["candidates"]))
    loop = {"iterations": 20, "rollouts": rollouts, "optimizer": partial(torch.optim.SGD, lr=5.0)}
    train(task, algorithm, seed, loop)
    reached = Chain.from_policy(task.policy, torch.float32)
    start, value = (QUADRATIC.expected(chain.marginal()) for chain in (reference, reached))
    best = best_reward(reference, QUADRATIC)
    return {
        "of the way to the best reward": (value - start) / (best - start),
        "KL": path_kl(reached, reference),
        "variance (0.318 before)": reached.marginal().variance,
    }


def on_qed(changed: dict[str, Any], seed: int, folder: Path, extra: list[str]) -> dict[str, float]:
    """Run `molrl train`, unless the run is complete, and return its results."""
    name = "_".join(f"{key}{value}" for key, value in changed.items())
    run = folder / f"{name}_{seed}"
    rollouts = NUM_QUERIES // ROUNDS // (1 + STATES * int(changed["candidates"]))
    chosen = [f"algo.{key}={value}" for key, value in changed.items()]
    fixed = [f"algo.states={STATES}", f"algo.held={HELD}", f"iterations={ROUNDS}", f"rollouts={rollouts}"]
    command = [sys.executable, "-m", "molrl.cli", "train", "task=qed", "algo=rgdm", f"seed={seed}", f"run={run}"]
    subprocess.run([*command, "minibatch=96", "evaluate=256", *fixed, *chosen, *extra], check=True)
    summary = json.loads((run / "summary.json").read_text())
    before, after = summary["before"], summary["after"]
    return {
        "gain in mean QED": after["reward_mean"] - before["reward_mean"],
        "valid": after["validity"],
        "unique": after["uniqueness"],
        "KL": after["kl"],
        "queries": summary["reward_queries"],
    }


def main() -> None:
    """Print one row per setting, with means over the seeds."""
    where, arguments = sys.argv[1] if len(sys.argv) > 1 else "oracle", sys.argv[2:]
    if where not in ("oracle", "qed"):
        sys.exit(f"got {where!r}, allowed are oracle and qed")
    folder = Path(arguments.pop(0)) if arguments and "=" not in arguments[0] else Path("runs/ablation")
    seeds = SEEDS if where == "oracle" else SEEDS[:2]
    lines = []
    for changed in settings():
        name = f"| {changed['radius']} | {changed['temperature']} | {changed['candidates']} |"
        try:
            runs = [
                on_oracle(changed, seed) if where == "oracle" else on_qed(changed, seed, folder, arguments)
                for seed in seeds
            ]
        except (RuntimeError, ValueError) as error:
            lines.append(f"{name} stopped: {error} |")
            continue
        if not lines:
            head = f"| radius | temperature | candidates | {' | '.join(runs[0])} |"
            lines += [head, "|" + "---|" * (head.count("|") - 1)]
        cells = [f"{sum(run[name] for run in runs) / len(runs):.3f}" for name in runs[0]]
        lines.append(
            f"| {changed['radius']} | {changed['temperature']} | {changed['candidates']} | {' | '.join(cells)} |"
        )
    print("\n".join(lines))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
