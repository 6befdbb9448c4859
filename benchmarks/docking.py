"""Comparison of the docking reward with docking itself: `python benchmarks/docking.py`.

Scores molecules of a model, or of a file, with the proxy that rewards use (`reward=docking`, the rigid molecule)
and with AutoDock Vina (`reward=vina`, mode=dock), in the pocket of the tests or another. Prints the scores beside
QED, the rank correlation of the proxy with docking, which is compared with that of the number of heavy atoms alone, and
the seconds per molecule on one core. Needs the extra docking.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from molrl.building import build
from molrl.composition import compose
from molrl.data.files import EXAMPLES
from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.files import read
from molrl.data.molecules.molecule import Molecule
from molrl.models.draws import draw_samples
from molrl.models.molecules.decoder import MoleculeDecoder
from molrl.models.molecules.model import load
from molrl.models.molecules.policy import molecule_policy
from molrl.rewards.molecules.qed import QED
from molrl.rewards.workers.pooled import Pooled


@dataclass(frozen=True)
class Column:
    """The scores of one scorer in kcal/mol, the lower the better, NaN for none, and its seconds per molecule."""

    scores: NDArray[np.float64]
    seconds: float


def draw(weights: str, n: int, seed: int) -> list[Molecule]:
    """Draw molecules of a model as `molrl sample` does by default."""
    model, device = load(weights), torch.device("cpu")
    decoder = MoleculeDecoder(model=model, reader=rdkit_bonds)
    policy = molecule_policy(model, num_steps=50, grid_power=1.4, eta=1.0, device=device)
    with torch.no_grad():
        return draw_samples(policy, decoder, n, seed=seed, batch=256, device=device)


def score(name: str, molecules: Sequence[Molecule], settings: Sequence[str]) -> Column:
    """Score molecules by a configured reward, with one worker that has loaded its pocket."""
    config = compose("score", [f"reward={name}", "file=none", "reward.workers=1", *settings])
    pooled = build(config["reward"], "reward")
    assert isinstance(pooled, Pooled)
    with pooled:
        pooled.score(molecules[:1])
        began = time.perf_counter()
        scores = pooled.score(molecules)
        seconds = (time.perf_counter() - began) / len(molecules)
    if lost := [reason for value, reason in scores.scored if math.isnan(value)]:
        raise SystemExit(f"{name}: {len(lost)} of {len(molecules)} without a value, the first: {lost[0]}")
    values = [math.nan if reason else -value for value, reason in scores.scored]
    print(f"{name}: {scores.counts()}")
    return Column(np.array(values), seconds)


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 1, those of equal values averaged."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    places: NDArray[np.float64] = middle[inverse]
    return places


def spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Compute the rank correlation (Spearman 1904); NaN if one of them is constant."""
    with np.errstate(invalid="ignore"):
        return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def report(proxy: Column, real: Column, heavy: NDArray[np.float64], qed: NDArray[np.float64]) -> str:
    """Return the table, over the molecules that both have a score for."""
    both = np.isfinite(proxy.scores) & np.isfinite(real.scores)
    lines = ["kcal/mol               mean   median   per heavy atom     best   s/molecule"]
    for name, column in (("proxy (docking)", proxy), ("Vina, docked (vina)", real)):
        scores = column.scores[both]
        per_atom = float((scores / heavy[both]).mean())
        statistics = f"{scores.mean():8.2f}{np.median(scores):9.2f}{per_atom:17.3f}{scores.min():9.2f}"
        lines.append(f"{name:19}{statistics}{column.seconds:13.3f}")
    rows: list[tuple[str, Callable[[], float]]] = [
        ("proxy", lambda: spearman(proxy.scores[both], real.scores[both])),
        ("minus heavy atoms", lambda: spearman(-heavy[both], real.scores[both])),
        ("proxy, per heavy atom", lambda: spearman((proxy.scores / heavy)[both], (real.scores / heavy)[both])),
    ]
    lines.append("Spearman's rank correlation with the docked score (the last with the docked score per heavy atom):")
    lines += [f"  {name}: {measure():.3f}" for name, measure in rows]
    for n in np.unique(heavy[both]):
        if (same := both & (heavy == n)).sum() >= 20:
            value = spearman(proxy.scores[same], real.scores[same])
            lines.append(f"  proxy, among the {same.sum()} molecules of {n:.0f} heavy atoms: {value:.3f}")
    lines.append(
        f"{both.sum()} molecules of {len(both)}, QED {qed[both].mean():.3f}, heavy atoms {heavy[both].mean():.2f}, "
        f"{np.mean(np.abs(proxy.scores - real.scores)[both] < 0.5):.0%} within 0.5 kcal/mol"
    )
    return "\n".join(lines)


def main() -> None:
    """Score the molecules both ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--weights", default="qm9_heavy")
    parser.add_argument("--file", help="molecules with a geometry, instead of the model's")
    parser.add_argument("--receptor", default=str(EXAMPLES / "1iep_pocket.pdbqt"), help="as reward.site.receptor")
    parser.add_argument("--ligand", default=str(EXAMPLES / "1iep_ligand.pdbqt"), help="as reward.site.ligand, or null")
    parser.add_argument("--exhaustiveness", type=int, default=4)
    parser.add_argument("--starts", type=int, default=64)
    parser.add_argument("--steps", type=int, default=45)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.file:
        molecules = read(arguments.file)[0][: arguments.n]
    else:
        molecules = draw(arguments.weights, arguments.n, arguments.seed)
    site = [f"reward.site.receptor='{arguments.receptor}'", f"reward.site.ligand='{arguments.ligand}'"]
    if arguments.ligand == "null":
        site = site[:1]
    search = [f"reward.scorer.starts={arguments.starts}", f"reward.scorer.steps={arguments.steps}"]
    proxy = score("docking", molecules, [*site, *search])
    real = score("vina", molecules, [*site, f"reward.scorer.exhaustiveness={arguments.exhaustiveness}"])
    heavy = np.array([(molecule.numbers > 1).sum() for molecule in molecules], dtype=np.float64)
    qed = np.array(QED(reader=rdkit_bonds).score(molecules).values)
    print(report(proxy, real, heavy, qed))


if __name__ == "__main__":
    main()
