"""Flexible docking beside AutoDock Vina: `python benchmarks/docking_flexible.py FOLDER`.

The folder, searched through, has pairs of files NAME_ligands.sdf.gz, poses with bonds and hydrogens, and
NAME_pocket10.pdb.gz, their receptor. Ligands of enough rotors are drawn by a seed. Each is embedded anew from its graph
and its chirality, so that no torsion of its pose is known, and the same conformer is docked by the search of
`reward=docking_flexible` and by Vina into the box around the ligands of its file. A row has scores, CPU seconds with
the maps of the box, and the deviation of the best pose from the one in the file. Rows are lines of JSON in --out, and a
run that was killed goes on there; --minutes 0 prints the table alone. Needs the extra docking.

In the table a ligand that one of the two has no pose for is counted and named, is no success, and is left out of what
compares scores. Errors are by resampling of the ligands.
"""

import argparse
import gzip
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from docking import spearman
from numpy.typing import NDArray
from rdkit import Chem, RDLogger
from rdkit.Chem import rdMolAlign
from rows import Row, Rows, error

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
CLOSE = 0.5  # kcal/mol
METHODS = {"ours": "docking_flexible", "vina": "AutoDock Vina"}


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


def compare(case: Case, arguments: argparse.Namespace) -> Row:
    """Dock a ligand both ways, and return the row; {"failed": reason} where it cannot be docked."""
    row: Row = {"name": case.name, "smiles": Chem.MolToSmiles(case.mol), "rotors": count_rotors(case.mol)}
    prepare = Preparation(ph=None, canonical_tautomer=False, conformers=1, seed=arguments.seed)
    try:
        prepared = prepare(case.mol, case.mol.GetConformer().GetPositions())
        if not prepared:
            return row | {"failed": "cannot be embedded"}
        return row | {method: vars(judged(case, docked)) for method, docked in both(case, prepared[0], arguments)}
    except Exception as problem:  # whatever a ligand does to one of four packages, the run goes on
        return row | {"failed": f"{type(problem).__name__}: {problem}"}


def both(case: Case, prepared: Prepared, arguments: argparse.Namespace) -> Iterator[tuple[str, Docked]]:
    """Yield the best pose of each of the two searches."""
    effort = {name: getattr(arguments, name) for name in ("chains", "steps", "evaluations", "seed")}
    yield "ours", ours(case, prepared, MonteCarlo(**effort, poses=1))
    yield "vina", vinas(case, prepared, arguments.exhaustiveness, arguments.seed + 1)


def report(rows: Sequence[Row]) -> str:
    """Return the comparison of this package's results with Vina's, and the names of what could not be compared."""
    docked, paired = sorted_out(rows)
    lines = [f"{len(rows)} ligands, {len(docked)} docked, {len(paired)} with a pose of both", *remarks(rows)]
    return "\n".join([*lines, *(table(docked, paired) if paired else ())])


def sorted_out(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the rows that were docked, and of these the ones that both methods have a pose for."""
    docked = [row for row in rows if "failed" not in row]
    return docked, [row for row in docked if all(np.isfinite(row[method]["score"]) for method in METHODS)]


def remarks(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the names of ligands that failed, that a method has no pose for, or whose pose has another graph."""
    for row in rows:
        if "failed" in row:
            yield f"  {row['name']}: {row['failed']}"
            continue
        for method, name in METHODS.items():
            if not np.isfinite(row[method]["score"]):
                yield f"  {row['name']}: no pose by {name}"
            elif not np.isfinite(row[method]["deviation"]):
                yield f"  {row['name']}: the pose by {name} has other bonds than the file"


def share(hits: NDArray[np.bool_]) -> str:
    """Return a share with its error, in percent."""
    return f"{100 * hits.mean():.0f} ± {100 * error(lambda some: float(hits[some].mean()), len(hits)):.0f}"


def table(docked: Sequence[Row], paired: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the table: successes of all that were docked, scores of those with a pose of both."""
    yield f"| | score, median | Vinardo, median | within {SUCCESS:g} angstrom, % | CPU seconds, median |"
    yield "|---|---|---|---|---|"
    for method, name in METHODS.items():
        score, vinardo, seconds = (np.median(column(paired, method, key)) for key in ("score", "vinardo", "seconds"))
        hits = column(docked, method, "deviation") < SUCCESS
        yield f"| {name} | {score:.2f} | {vinardo:.2f} | {share(hits)} | {seconds:.1f} |"
    first, second = (column(paired, method, "score") for method in METHODS)
    ratio = column(paired, "vina", "seconds") / column(paired, "ours", "seconds")
    statistics: dict[str, Callable[[NDArray[np.int64]], float]] = {
        "ours - Vina's, median, kcal/mol": lambda some: float(np.median((first - second)[some])),
        "\\|difference\\|, median, kcal/mol": lambda some: float(np.median(np.abs(first - second)[some])),
        f"within {CLOSE:g} kcal/mol": lambda some: float(np.mean(np.abs(first - second)[some] < CLOSE)),
        "Spearman": lambda some: spearman(first[some], second[some]),
        "Vina's CPU seconds / ours, median": lambda some: float(np.median(ratio[some])),
    }
    yield "| of both | |"
    yield "|---|---|"
    for name, statistic in statistics.items():
        yield f"| {name} | {statistic(np.arange(len(paired))):.3f} ± {error(statistic, len(paired)):.3f} |"


def column(rows: Sequence[Row], method: str, key: str) -> NDArray[np.float64]:
    """Return one number of each row."""
    return np.array([row[method][key] for row in rows], dtype=np.float64)


def main() -> None:
    """Dock what is not in the file of rows yet both ways, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("docking_flexible.jsonl"))
    parser.add_argument("--rotors", type=float, default=6.0, help="at least")
    parser.add_argument("--margin", type=float, default=4.0, help="of the box around the ligands of a file, angstrom")
    add_effort(parser)
    arguments = parser.parse_args()
    quiet()
    rows = Rows(arguments.out, settings_of(arguments))
    every = list(cases(arguments.folder, arguments.rotors, arguments.margin))
    order = np.random.default_rng(arguments.seed).permutation(len(every))[: arguments.n]
    began = time.monotonic()
    for case in (every[number] for number in order):
        if case.name not in rows and time.monotonic() - began < 60 * arguments.minutes:
            rows.add(compare(case, arguments))
            print(rows.rows[-1], flush=True)
    print(report(rows.rows))


def add_effort(parser: argparse.ArgumentParser) -> None:
    """Add the settings of both searches, the seed, and how long a run may take."""
    parser.add_argument("--exhaustiveness", type=int, default=8)
    parser.add_argument("--chains", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no ligand begins")
    parser.add_argument("--seed", type=int, default=0)


def settings_of(arguments: argparse.Namespace) -> Row:
    """Return the settings that all rows of a file have in common."""
    return {name: value for name, value in vars(arguments).items() if name not in {"folder", "n", "out", "minutes"}}


def quiet() -> None:
    """Take one thread, and leave warnings out."""
    torch.set_num_threads(1)
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    warnings.simplefilter("ignore")


if __name__ == "__main__":
    main()
