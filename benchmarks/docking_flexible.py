"""Flexible docking beside AutoDock Vina: `python benchmarks/docking_flexible.py FOLDER`.

The folder, searched through, has pairs of files NAME_ligands.sdf.gz, poses with bonds and hydrogens, and
NAME_pocket10.pdb.gz, their receptor. Ligands of enough rotors are drawn by a seed. Each is embedded anew from its graph
and its chirality, so that no torsion of its pose is known, and the same conformer is docked by the search of
`reward=docking_flexible` and by Vina into the box around the ligands of its file. Prints a row for each: scores, CPU
seconds with the maps of the box, and the deviation of the best pose from the one in the file; then medians, their
errors by resampling, and the rank correlation. Needs the extra docking.
"""

import argparse
import gzip
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from docking import spearman
from numpy.typing import NDArray
from rdkit import Chem, RDLogger
from rdkit.Chem import rdMolAlign

from molrl.data.molecules.pdbqt import receptor_text
from molrl.rewards.molecules.docking.atom_types import count_rotors
from molrl.rewards.molecules.docking.maps import Maps
from molrl.rewards.molecules.docking.monte_carlo import MonteCarlo, dock
from molrl.rewards.molecules.docking.preparation import Preparation, Prepared, place
from molrl.rewards.molecules.docking.scoring_function import Ligands, Pocket, with_types
from molrl.rewards.molecules.docking.site import Site
from molrl.rewards.molecules.docking.vina import pdbqt_text
from molrl.rewards.molecules.docking.vinardo import VINARDO

SUCCESS = 2.0  # angstrom
RESAMPLES = 2000


@dataclass(frozen=True)
class Case:
    """A ligand with its pose and the file of its receptor."""

    name: str
    mol: Chem.Mol
    site: Site


@dataclass(frozen=True)
class Docked:
    """The best pose of a ligand, None if it does not fit, its score in kcal/mol and the CPU seconds."""

    mol: Chem.Mol | None
    score: float
    seconds: float


@dataclass(frozen=True)
class Result:
    """The best pose of a ligand: its score by Vina's function and by Vinardo, deviation in angstrom, CPU seconds."""

    score: float
    vinardo: float
    deviation: float
    seconds: float


def cases(folder: Path, rotors: float, margin: float) -> Iterator[Case]:
    """Yield the ligands with at least so many rotors."""
    for path in sorted(folder.rglob("*_ligands.sdf.gz")):
        receptor = path.with_name(path.name.replace("_ligands.sdf.gz", "_pocket10.pdb.gz"))
        with gzip.open(path) as file:
            mols = [Chem.RemoveAllHs(mol) for mol in Chem.ForwardSDMolSupplier(file) if mol is not None]
        for number, mol in enumerate(mols):
            if count_rotors(mol) >= rotors and len(Chem.GetMolFrags(mol)) == 1:
                site = Site(receptor=str(receptor), ligand=str(path), margin=margin)
                yield Case(f"{path.name.removesuffix('_ligands.sdf.gz')}:{number}", mol, site)


def ours(case: Case, prepared: Prepared, search: MonteCarlo) -> Docked:
    """Dock with the search of this package."""
    began = time.process_time()
    pocket = Pocket(case.site.structure(), case.site.box())
    (poses,) = dock(Maps(pocket), [prepared.flexible], search)
    seconds = time.process_time() - began
    if not poses:
        return Docked(None, np.nan, seconds)
    return Docked(place(prepared.mol, poses[0].positions.double().numpy()), poses[0].score, seconds)


def vinas(case: Case, prepared: Prepared, exhaustiveness: int, seed: int) -> Docked:
    """Dock with AutoDock Vina."""
    complete = Chem.AddHs(place(prepared.mol, prepared.positions), addCoords=True)
    text, meeko = pdbqt_text(complete), import_module("meeko")
    engine = import_module("vina").Vina(sf_name="vina", cpu=1, seed=seed, verbosity=0)
    box = case.site.box()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "receptor.pdbqt")
        file.write_text(receptor_text(case.site.structure()))
        began = time.process_time()
        engine.set_receptor(str(file))
    engine.compute_vina_maps(center=list(box.centre), box_size=list(box.size))
    engine.set_ligand_from_string(text)
    engine.dock(exhaustiveness=exhaustiveness, n_poses=1)
    seconds = time.process_time() - began
    docked = meeko.RDKitMolCreate.from_pdbqt_mol(meeko.PDBQTMolecule(engine.poses(n_poses=1)))[0]
    return Docked(Chem.RemoveAllHs(docked), float(engine.energies(n_poses=1)[0][0]), seconds)


def judged(case: Case, docked: Docked) -> Result:
    """Return a pose with its score by Vinardo and its deviation from the pose in the file, over all symmetries."""
    found = docked.mol
    if found is None:
        return Result(np.nan, np.nan, np.nan, docked.seconds)
    match = found.GetSubstructMatch(case.mol)
    deviation = rdMolAlign.CalcRMS(Chem.Mol(found), Chem.Mol(case.mol)) if match else np.nan
    pocket = Pocket(case.site.structure(), case.site.box(), function=VINARDO)
    ligand = with_types(Prepared(found, found.GetConformer().GetPositions()).flexible.ligand, VINARDO)
    positions = torch.tensor(found.GetConformer().GetPositions(), dtype=torch.float32)
    vinardo = pocket.score(positions[None], Ligands([ligand])).item()
    return Result(docked.score, vinardo, deviation, docked.seconds)


def error(statistic: Callable[[NDArray[np.int64]], float], n: int) -> float:
    """Return the standard deviation of a statistic of rows over samples drawn with replacement (Efron 1979)."""
    generator = np.random.default_rng(0)
    return float(np.std([statistic(generator.integers(n, size=n)) for _ in range(RESAMPLES)]))


def report(first: list[Result], second: list[Result]) -> str:
    """Return the comparison of this package's results with Vina's."""
    a, b = (np.array([[r.score, r.vinardo, r.deviation, r.seconds] for r in some]) for some in (first, second))
    difference, n = a[:, 0] - b[:, 0], len(a)
    lines = [
        f"{n} ligands",
        "| | score, median | Vinardo, median | within 2 angstrom | CPU seconds, median |",
        "|---|---|---|---|---|",
    ]
    for name, table in (("docking_flexible", a), ("AutoDock Vina", b)):
        middle = np.nanmedian(table, axis=0)
        share = (table[:, 2] < SUCCESS).mean()
        bound = np.sqrt(share * (1 - share) / n)
        lines.append(f"| {name} | {middle[0]:.2f} | {middle[1]:.2f} | {share:.0%} +- {bound:.0%} | {middle[3]:.1f} |")
    median = error(lambda rows: float(np.median(difference[rows])), n)
    rank = error(lambda rows: spearman(a[rows, 0], b[rows, 0]), n)
    lines.append(f"ours - Vina's: median {np.median(difference):+.2f} +- {median:.2f} kcal/mol,")
    lines.append(f"within 0.5 kcal/mol {np.mean(np.abs(difference) < 0.5):.0%},")
    lines.append(f"Spearman {spearman(a[:, 0], b[:, 0]):.3f} +- {rank:.3f}")
    return "\n".join(lines)


def main() -> None:
    """Dock the ligands both ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--rotors", type=float, default=6.0, help="at least")
    parser.add_argument("--margin", type=float, default=4.0, help="of the box around the ligands of a file, angstrom")
    parser.add_argument("--exhaustiveness", type=int, default=8)
    parser.add_argument("--chains", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="of one core, after which no ligand begins")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    warnings.simplefilter("ignore")
    prepare = Preparation(ph=None, canonical_tautomer=False, conformers=1, seed=arguments.seed)
    effort = {name: getattr(arguments, name) for name in ("chains", "steps", "evaluations", "seed")}
    search = MonteCarlo(**effort, poses=1)
    every = list(cases(arguments.folder, arguments.rotors, arguments.margin))
    order = np.random.default_rng(arguments.seed).permutation(len(every))[: arguments.n]
    results: tuple[list[Result], list[Result]] = ([], [])
    for row in order:
        if time.process_time() > 60 * arguments.minutes:
            break
        case = every[row]
        prepared = prepare(case.mol, case.mol.GetConformer().GetPositions())
        if not prepared:
            print(case.name, "cannot be embedded", flush=True)
            continue
        both = ours(case, prepared[0], search), vinas(case, prepared[0], arguments.exhaustiveness, arguments.seed + 1)
        judgements = [judged(case, docked) for docked in both]
        for result, some in zip(judgements, results, strict=True):
            some.append(result)
        print(case.name, count_rotors(case.mol), *judgements, flush=True)
    print(report(*results))


if __name__ == "__main__":
    main()
