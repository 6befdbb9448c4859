"""The drift of steps that an algorithm does not train on: a window of the chain against the whole of it.

`python benchmarks/whole_chain.py [folder] [algo=ddpo] [seeds=0,1,2,3,4] [setting=value ...]` runs `molrl train` with
each of `ARMS`, toward QED and toward random numbers, each in its own run folder (default
runs/chain/REWARD_ALGORITHM_ARM_SEED; complete ones are not repeated), and prints a table in Markdown. The random reward
is a hash of a molecule's coordinates: nothing can be learned from it, and all KL is drift. The KL of whole chains is
split at the ends of the window, on 64 fresh samples: that of the steps before it, in it and after it, in nats.
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

from molrl.algos.steps import window_of
from molrl.composition import compose
from molrl.diagnostics import probe
from molrl.noise import Key
from molrl.run import prepare
from molrl.task import sample_chains

WINDOWS = {"ddpo": (0.2, 0.76), "nft": (0.2, 0.8)}
ARMS = {
    "ddpo": {
        "window": ["algo.first=0.2", "algo.last=0.76", "algo.train_steps=14", "minibatch=672"],
        "whole": ["algo.first=0.0", "algo.last=1.0", "algo.train_steps=20", "minibatch=960"],
    },
    "nft": {  # all with 24 noised states of each sample
        "window": ["algo.first=0.2", "algo.last=0.8", "algo.held=0"],
        "held": ["algo.first=0.2", "algo.last=0.8", "algo.noisings=18", "algo.held=6"],
        "whole": ["algo.first=0.0", "algo.last=1.0", "algo.held=0"],
    },
}
STEPS = {"ddpo": "policy.num_steps=50", "nft": "policy.num_steps=25"}  # of the chains that this was measured on
REWARDS = {"qed": ["reward=qed"], "random": [f"reward={Path(__file__).resolve()}:random_number"]}
COLUMNS = ("reward_mean", "validity", "valence_molecule_stability", "internal_diversity", "kl")
PARTS = ("kl_before", "kl_within", "kl_after")
CHAINS = 64  # that the KL of each step is measured on


def random_number(samples: Sequence[Any]) -> torch.Tensor:
    """Return a uniform random number per molecule, a hash of its coordinates."""
    return torch.tensor([zlib.crc32(sample.positions.tobytes()) / 2**32 for sample in samples])


def train(folder: Path, reward: str, algo: str, arm: str, seed: int, settings: Sequence[str]) -> dict[str, Any]:
    """Run `molrl train`, unless the run is complete, and return its summary."""
    run = folder / f"{reward}_{algo}_{arm}_{seed}"
    command = ["train", "task=qed", f"algo={algo}", *REWARDS[reward], *ARMS[algo][arm], STEPS[algo]]
    command += [f"seed={seed}", f"run={run}", *settings]
    subprocess.run([sys.executable, "-m", "molrl.cli", *command], check=True, stdout=sys.stderr)
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text("utf-8"))
    return {**summary["after"], **kl_of_parts(run, algo), "minutes": summary["wall_seconds"] / 60}


def kl_of_parts(run: Path, algo: str) -> dict[str, float]:
    """Return the KL to the pretrained model of the steps before the window, in it and after it, in nats."""
    policies = [f"policy={run / 'model'}"], [STEPS[algo]]
    model, base = (prepare(compose("train", ["task=qed", *given])) for given in policies)
    policy, reference = model.task.policy, base.task.policy
    chains = sample_chains(policy, model.task.decoder, range(CHAINS), Key(0, 7), model.task.device)
    steps = policy.sampler.num_steps
    with torch.no_grad():
        table = probe(chains, steps * CHAINS)
        kl = policy.transition(table).kl(reference.transition(table)).view(steps, CHAINS).mean(1)
    window = window_of(steps, *WINDOWS[algo])
    parts = kl[: window.start], kl[window.start : window.stop], kl[window.stop :]
    return {name: part.sum().item() for name, part in zip(PARTS, parts, strict=True)}


def row(reward: str, arm: str, runs: Sequence[dict[str, Any]]) -> str:
    """Return the row of one arm: means over the seeds with standard errors."""
    cells = []
    for name in (*COLUMNS, *PARTS, "minutes"):
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
    algo = given.pop("algo", "ddpo")
    rewards = [given.pop("reward")] if "reward" in given else list(REWARDS)
    settings = [f"{name}={value}" for name, value in given.items()]
    head = ["reward", "steps", "seeds", *COLUMNS, *PARTS, "minutes"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for reward in rewards:
        for arm in ARMS[algo]:
            print(row(reward, arm, [train(folder, reward, algo, arm, seed, settings) for seed in seeds]), flush=True)


if __name__ == "__main__":
    main()
