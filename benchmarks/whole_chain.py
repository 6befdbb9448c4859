"""The drift of steps that DDPO does not train on: a window of the chain against the whole of it.

`python benchmarks/whole_chain.py [folder] [seeds=0,1,2,3,4] [setting=value ...]` runs `molrl train task=qed algo=ddpo`
with both, toward QED and toward random numbers, each in its own run folder (default runs/chain/REWARD_ARM_SEED;
complete ones are not repeated), and prints a table in Markdown. The random reward is a hash of a molecule's
coordinates: nothing can be learned from it, and all KL is drift. In the last column, "drift" is the share of the KL in
the last quarter of the chain, on 64 fresh samples.
"""

import json
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from molrl.composition import compose
from molrl.diagnostics import probe
from molrl.noise import Key
from molrl.run import prepare
from molrl.task import sample_chains

ARMS = {
    "window": ["algo.first=0.2", "algo.last=0.76", "algo.train_steps=14", "minibatch=672"],
    "whole": ["algo.first=0.0", "algo.last=1.0", "algo.train_steps=20", "minibatch=960"],
}
STEPS = "policy.num_steps=50"  # of the chains that all this was measured on
REWARDS = {"qed": ["reward=qed"], "random": [f"reward={Path(__file__).resolve()}:random_number"]}
COLUMNS = ("reward_mean", "validity", "valence_molecule_stability", "internal_diversity", "kl")
CHAINS = 64  # that the KL of each step is measured on


def random_number(samples: Sequence[Any]) -> torch.Tensor:
    """Return a uniform random number per molecule, a hash of its coordinates."""
    return torch.tensor([zlib.crc32(sample.positions.tobytes()) / 2**32 for sample in samples])


def train(folder: Path, reward: str, arm: str, seed: int, settings: Sequence[str]) -> dict[str, Any]:
    """Run `molrl train`, unless the run is complete, and return its summary."""
    run = folder / f"{reward}_{arm}_{seed}"
    command = ["train", "task=qed", "algo=ddpo", *REWARDS[reward], *ARMS[arm], STEPS]
    command += [f"seed={seed}", f"run={run}", *settings]
    subprocess.run([sys.executable, "-m", "molrl.cli", *command], check=True, stdout=sys.stderr)
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text("utf-8"))
    return {**summary["after"], "drift": drift(run), "minutes": summary["wall_seconds"] / 60}


def drift(run: Path) -> float:
    """Return the share of the KL to the pretrained model that lies in the last quarter of the chain."""
    model, base = (prepare(compose("train", ["task=qed", *given])) for given in ([f"policy={run / 'model'}"], [STEPS]))
    policy, reference = model.task.policy, base.task.policy
    chains = sample_chains(policy, model.task.decoder, range(CHAINS), Key(0, 7), model.task.device)
    steps = policy.sampler.num_steps
    with torch.no_grad():
        table = probe(chains, steps * CHAINS)
        kl = policy.transition(table).kl(reference.transition(table)).view(steps, CHAINS).mean(1)
    return (kl[-(steps // 4) :].sum() / kl.sum()).item()


def row(reward: str, arm: str, runs: Sequence[dict[str, Any]]) -> str:
    """Return the row of one arm: means over the seeds with standard errors."""
    cells = []
    for name in (*COLUMNS, "drift", "minutes"):
        values = [run[name] for run in runs]
        error = f" ± {stdev(values) / len(values) ** 0.5:.3f}" if len(values) > 1 else ""
        cells.append(f"{mean(values):.3f}{error}")
    return f"| {' | '.join([reward, arm, str(len(runs)), *cells])} |"


def main() -> None:
    """Run what is missing and print the table."""
    arguments = sys.argv[1:]
    folder = Path(arguments.pop(0)) if arguments and "=" not in arguments[0] else Path("runs/chain")
    given = dict(item.split("=", 1) for item in arguments)
    seeds = [int(seed) for seed in given.pop("seeds", "0,1,2,3,4").split(",")]
    rewards = [given.pop("reward")] if "reward" in given else list(REWARDS)
    settings = [f"{name}={value}" for name, value in given.items()]
    head = ["reward", "steps", "seeds", *COLUMNS, "drift", "minutes"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for reward in rewards:
        for arm in ARMS:
            print(row(reward, arm, [train(folder, reward, arm, seed, settings) for seed in seeds]), flush=True)


if __name__ == "__main__":
    main()
