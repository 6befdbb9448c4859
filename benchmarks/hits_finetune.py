"""Fine-tuning of `drugs` toward a forest within the budget of a ledger, with and without a penalty on near ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hits_ledger import Ledger
from rdkit import Chem

from molrl.composition import compose
from molrl.data.molecules.circles import THRESHOLD
from molrl.data.molecules.perception import perceive_bonds
from molrl.finetune import finetune, freeze_copy
from molrl.rewards.molecules.graph import read_sound
from molrl.run import prepare
from molrl.task import Metrics

ARMS = {
    "nft": (),
    # buckets of the radius that #Circles counts: the benchmark's own filter, but soft
    "nft, diversity": ("diversity=similarity", f"diversity.penalty.clusters.distance={THRESHOLD}"),
}
MAX_ROUNDS = 4  # times those that the budget takes if all samples are valid and new


def fine_tune(ledger: Ledger, file: Path, folder: Path, arm: str, seed: int, settings: Sequence[str]) -> Ledger:
    """Train until the budget is spent, and return the ledger; killed, the same call goes on.

    Args:
        ledger: without answers.
        file: in which the ledger is kept after each round, as the checkpoints are.
        folder: of the checkpoints.
        settings: of `molrl train`, beside those of the arm.
    """
    config = compose(
        "train", ["task=qed", "policy=drugs", "algo=nft", "threads=1", *ARMS[arm], f"seed={seed}", *settings]
    )
    config["iterations"] = MAX_ROUNDS * -(-ledger.budget // config["rollouts"])
    ledger = Ledger.load(file, ledger.oracle, ledger.budget)

    def reward(samples: Sequence[Any]) -> torch.Tensor:
        return torch.tensor(ledger([smiles_of(sample) for sample in samples]), dtype=torch.float32)

    def log(row: Metrics) -> None:
        ledger.save(file)
        print(f"round {row['iteration']:.0f}: reward {row['reward']:.3f}, {len(ledger.answers)} scores", flush=True)

    run = prepare(config, reward)
    reference = freeze_copy(run.task.policy)
    finetune(run.finetuning, run.task, run.algorithm, reference, folder, log, lambda: ledger.is_spent, run.diversity)
    return ledger


def smiles_of(sample: Any) -> str:
    """Return the canonical SMILES of a sample, or "" where it is no sound, connected molecule."""
    mol, _ = read_sound(perceive_bonds, sample)
    return "" if mol is None else Chem.MolToSmiles(mol)
