"""The quality of samples by the chain that draws them: `python benchmarks/steps.py 50:1.4:1:1 25:1.4:1:1 12:1.4:1:2`.

An argument is a chain, STEPS:GRID_POWER:ETA:ORDER, as `policy.num_steps` and so on; all chains draw molecules of the
same sizes from the same noise of the prior. Validity is strict (RDKit, valences), stability by EDM's table, QED the
mean over all molecules, invalid ones as 0; each with its standard error. Novelty is against the training set. CPU
seconds are of one thread. `--weights`, `--n` and `--seed` are options.
"""

import argparse
import math
import time

import torch

from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.perception import perceive_bonds
from molrl.data.molecules.quality import measure
from molrl.models.draws import draw_samples
from molrl.models.molecules.decoder import MoleculeDecoder
from molrl.models.molecules.model import Pretrained, load
from molrl.models.molecules.policy import molecule_policy
from molrl.rewards.molecules.qed import QED

SHARES = ("validity", "validity_connected", "edm_molecule_stability", "aromatic", "uniqueness", "novelty")
CPU = torch.device("cpu")


def main() -> None:
    """Print one Markdown row per chain."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chains", nargs="+")
    parser.add_argument("--weights", default="qm9_heavy")
    parser.add_argument("--n", type=int, default=600)
    parser.add_argument("--seed", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = load(given.weights)
    columns = ["steps", "grid power", "eta", "order", *(name.replace("_", " ") for name in SHARES), "QED", "CPU s"]
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for chain in given.chains:
        molecules, seconds = draw(model, chain, given.n, given.seed)
        cells = [*chain.split(":"), *quality(molecules, model), f"{seconds:.1f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def draw(model: Pretrained, chain: str, n: int, seed: int) -> tuple[list[Molecule], float]:
    """Draw molecules with a chain, and return them with the CPU seconds that they took."""
    steps, power, eta, order = chain.split(":")
    path = {"grid_power": float(power), "eta": float(eta), "device": CPU, "order": int(order)}
    policy = molecule_policy(model, num_steps=int(steps), **path)  # type: ignore[arg-type]
    decoder, began = MoleculeDecoder(model=model, reader=perceive_bonds), time.process_time()
    drawn = draw_samples(policy, decoder, n, seed=seed, batch=200, device=CPU)
    return list(drawn), time.process_time() - began


def quality(molecules: list[Molecule], model: Pretrained) -> list[str]:
    """Return the shares of the molecules and their mean QED as cells, each with its standard error."""
    found, count = measure(molecules, perceive_bonds, model.reference), len(molecules)
    cells = []
    for name in SHARES:
        share = float(getattr(found, name) or 0.0)
        cells.append(f"{share:.3f} ± {math.sqrt(share * (1 - share) / count):.3f}")
    qed = QED(reader=perceive_bonds)(molecules)
    return [*cells, f"{qed.mean():.3f} ± {qed.std() / math.sqrt(count):.3f}"]


if __name__ == "__main__":
    main()
