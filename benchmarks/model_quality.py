"""The metrics on the model cards: `python benchmarks/model_quality.py qm9_heavy` draws and measures 2,000 molecules.

The same geometries are read twice: by EDM's distance table (comparable with published results), and by RDKit's bond
perception from valences (strict; used by rewards). The time of 64 molecules is measured too. `--n`, `--seed` and
`--steps` are options.
"""

import argparse
import time

import torch

from molrl.building import build
from molrl.composition import compose
from molrl.data.molecules.bonds import BondReader, edm_table, rdkit_bonds
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.quality import measure
from molrl.models.draws import draw_samples
from molrl.models.molecules.decoder import MoleculeDecoder
from molrl.models.molecules.model import Pretrained, load
from molrl.models.molecules.policy import molecule_policy

READERS: dict[str, BondReader] = {"EDM's table": edm_table, "RDKit, strict": rdkit_bonds}
COLUMNS = (
    "validity",
    "validity_connected",
    "uniqueness",
    "novelty",
    "edm_atom_stability",
    "edm_molecule_stability",
    "aromatic",
)


def draw(model: Pretrained, n: int, seed: int, steps: int) -> tuple[list[Molecule], float]:
    """Draw molecules as `molrl sample` does, and return them with the seconds it took."""
    settings = compose("sample", [])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    path = {name: settings["policy"][name] for name in ("grid_power", "eta")}
    policy = molecule_policy(model, num_steps=steps, device=device, **path)
    decoder = MoleculeDecoder(model=model, reader=build(settings["reader"], "reader"))
    start = time.perf_counter()
    molecules = draw_samples(policy, decoder, n, seed=seed, batch=settings["batch"], device=device)
    return molecules, time.perf_counter() - start


def main() -> None:
    """Print one Markdown row per reader."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=50)
    arguments = parser.parse_args()
    model = load(arguments.weights)
    molecules, _ = draw(model, arguments.n, arguments.seed, arguments.steps)
    _, seconds = draw(model, 64, arguments.seed + 1, arguments.steps)
    print("| reader | " + " | ".join(name.replace("_", " ") for name in COLUMNS) + " | validity x uniqueness |")
    print("|" + "---|" * (len(COLUMNS) + 2))
    for name, reader in READERS.items():
        quality = measure(molecules, reader, model.reference)
        cells = [getattr(quality, column) for column in COLUMNS]
        cells.append((quality.validity or 0) * (quality.uniqueness or 0))
        print(f"| {name} | " + " | ".join("-" if cell is None else f"{100 * cell:.1f} %" for cell in cells) + " |")
    print(
        f"\n{arguments.weights}, {arguments.n} molecules, seed {arguments.seed}, {arguments.steps} steps; "
        f"64 molecules in {seconds:.1f} s on {torch.get_num_threads()} threads; novelty is against the reading of the "
        "training set by RDKit"
    )


if __name__ == "__main__":
    main()
