"""What the docking reward is worth beside docking itself: `python benchmarks/docking.py`.

Scores molecules of a model, or of a file, with the stand-in that rewards use (`reward=docking`, the rigid molecule)
and with AutoDock Vina (`reward=vina`, mode=dock), in the pocket of the tests or another. Prints the scores side by side
with QED, how well the stand-in ranks the molecules, which is compared with what their number of heavy atoms alone does,
and the seconds each takes on one core. Needs the extra docking.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from molrl.config import build, compose
from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.files import read
from molrl.data.molecules.molecule import Molecule
from molrl.models.draws import draw_samples
from molrl.models.molecules.decoder import MoleculeDecoder, molecule_policy
from molrl.models.molecules.model import load
from molrl.rewards.molecules.qed import QED
from molrl.rewards.workers.pooled import Pooled

DATA = Path(__file__).parents[1] / "tests/data/docking"


@dataclass(frozen=True)
class Column:
    """What one scorer said: kcal/mol, the lower the better, NaN where it has no value; and what it took."""

    scores: NDArray[np.float64]
    seconds: float


def drawn(weights: str, n: int, seed: int) -> list[Molecule]:
    """Molecules of a model, drawn as `molrl sample` does by default."""
    model, device = load(weights), torch.device("cpu")
    decoder = MoleculeDecoder(model=model, reader=rdkit_bonds)
    policy = molecule_policy(model, num_steps=50, grid_power=1.4, eta=1.0, device=device)
    with torch.no_grad():
        return draw_samples(policy, decoder, n, seed=seed, batch=256, device=device)


def scored(name: str, molecules: Sequence[Molecule], settings: Sequence[str]) -> Column:
    """What a reward of the configuration says, with one worker that has its pocket ready."""
    config = compose("score", [f"reward={name}", "file=none", "reward.workers=1", *settings])
    pooled = build(config["reward"], "reward")
    assert isinstance(pooled, Pooled)
    with pooled:
        pooled.score(molecules[:1])
        began = time.perf_counter()
        found = pooled.score(molecules)
        seconds = (time.perf_counter() - began) / len(molecules)
    if lost := [reason for value, reason in found.scored if math.isnan(value)]:
        raise SystemExit(f"{name}: {len(lost)} of {len(molecules)} without a value, the first: {lost[0]}")
    values = [math.nan if reason else -value for value, reason in found.scored]
    print(f"{name}: {found.counts()}")
    return Column(np.array(values), seconds)


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places from 1, those of equal values averaged."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    places: NDArray[np.float64] = middle[inverse]
    return places


def spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Rank correlation (Spearman 1904); NaN where one of them does not vary."""
    with np.errstate(invalid="ignore"):
        return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def report(proxy: Column, real: Column, heavy: NDArray[np.float64], qed: NDArray[np.float64]) -> str:
    """The table, over the molecules that both have a score for."""
    both = np.isfinite(proxy.scores) & np.isfinite(real.scores)
    lines = ["kcal/mol               mean   median   per heavy atom     best   s/molecule"]
    for name, column in (("stand-in (docking)", proxy), ("Vina, docked (vina)", real)):
        score = column.scores[both]
        each = float((score / heavy[both]).mean())
        middle = f"{score.mean():8.2f}{np.median(score):9.2f}{each:17.3f}{score.min():9.2f}"
        lines.append(f"{name:19}{middle}{column.seconds:13.3f}")
    rows: list[tuple[str, Callable[[], float]]] = [
        ("stand-in", lambda: spearman(proxy.scores[both], real.scores[both])),
        ("minus heavy atoms", lambda: spearman(-heavy[both], real.scores[both])),
        ("stand-in, per heavy atom", lambda: spearman((proxy.scores / heavy)[both], (real.scores / heavy)[both])),
    ]
    lines.append("Spearman's rank correlation with the docked score (the last with the docked score per heavy atom):")
    lines += [f"  {name}: {measure():.3f}" for name, measure in rows]
    for n in np.unique(heavy[both]):
        if (same := both & (heavy == n)).sum() >= 20:
            value = spearman(proxy.scores[same], real.scores[same])
            lines.append(f"  stand-in, among the {same.sum()} molecules of {n:.0f} heavy atoms: {value:.3f}")
    lines.append(
        f"{both.sum()} molecules of {len(both)}, QED {qed[both].mean():.3f}, heavy atoms {heavy[both].mean():.2f}, "
        f"{np.mean(np.abs(proxy.scores - real.scores)[both] < 0.5):.0%} within 0.5 kcal/mol"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--weights", default="qm9_heavy")
    parser.add_argument("--file", help="molecules with a geometry, in place of the model's")
    parser.add_argument("--receptor", default=str(DATA / "1iep_pocket.pdbqt"), help="as reward.site.receptor")
    parser.add_argument("--ligand", default=str(DATA / "1iep_ligand.pdbqt"), help="as reward.site.ligand, or null")
    parser.add_argument("--exhaustiveness", type=int, default=4)
    parser.add_argument("--starts", type=int, default=64)
    parser.add_argument("--steps", type=int, default=45)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.file:
        molecules = read(arguments.file)[0][: arguments.n]
    else:
        molecules = drawn(arguments.weights, arguments.n, arguments.seed)
    site = [f"reward.site.receptor='{arguments.receptor}'", f"reward.site.ligand='{arguments.ligand}'"]
    if arguments.ligand == "null":
        site = site[:1]
    search = [f"reward.scorer.starts={arguments.starts}", f"reward.scorer.steps={arguments.steps}"]
    proxy = scored("docking", molecules, [*site, *search])
    real = scored("vina", molecules, [*site, f"reward.scorer.exhaustiveness={arguments.exhaustiveness}"])
    heavy = np.array([(molecule.numbers > 1).sum() for molecule in molecules], dtype=np.float64)
    qed = np.array(QED(reader=rdkit_bonds).score(molecules).values)
    print(report(proxy, real, heavy, qed))


if __name__ == "__main__":
    main()
