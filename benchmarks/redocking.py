"""Redocking of crystal ligands beside AutoDock Vina: `python benchmarks/redocking.py FOLDER`.

The folder has files PDBID_LIGAND.pdb.gz, pockets with their ligand (PoseBusters benchmark: Buttenschoen et al. 2024,
doi:10.1039/D3SC04185A). The first --n files of a seeded permutation of their sorted names are taken, and none in place
of those that fail. Bond orders are perceived from the heavy atoms (`crystal_ligand`), the state is that of a pH, and
the ligand is embedded anew, so that no torsion of the crystal is known. The same conformer is docked by the search of
`reward=docking_flexible` and by Vina, into a box around the crystal's with cofactors and without water.

Success: the heavy atoms of the best pose deviate by less than 2 angstrom, over all symmetries, without a fit. The
tests of PoseBusters are those of docked poses, with the protein. Rows are lines of JSON in --out, and a run that was
killed goes on there. Needs the extras docking and posebusters.
"""

import argparse
import json
import time
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from crystal_ligand import perceive
from docking_flexible import SUCCESS, Case, Docked, judged, ours, vinas
from rdkit import Chem, RDLogger

from molrl.data.files import text_lines
from molrl.data.molecules.chains import Group, read_groups
from molrl.data.molecules.residues import WATERS
from molrl.rewards.molecules.docking.atom_types import count_rotors
from molrl.rewards.molecules.docking.monte_carlo import MonteCarlo
from molrl.rewards.molecules.docking.preparation import Preparation, Prepared, place, with_stereo
from molrl.rewards.molecules.docking.site import Site

METHODS = {"ours": "docking_flexible", "vina": "AutoDock Vina"}
MAX_FILE_BYTES = 1 << 26


class NoCaseError(ValueError):
    """The error of a file whose ligand cannot be redocked."""


def crystal(path: Path) -> tuple[Chem.Mol, list[Group]]:
    """Return the ligand of a file in its pose, with its stereochemistry, and all groups of the file.

    Raises:
        NoCaseError: its bond orders cannot be perceived.
    """
    name, groups = path.name.removesuffix(".pdb.gz").split("_")[1], read_groups(path)
    atoms = next(group for group in groups if name in group.names).heavy
    positions = np.array([atom.position for atom in atoms])
    mol = perceive([atom.element for atom in atoms], positions)
    if mol is None:
        raise NoCaseError("bond orders cannot be perceived")
    return place(with_stereo(mol, positions), positions), groups


def prepare(path: Path, preparation: Preparation, margin: float) -> tuple[Case, Prepared]:
    """Return a ligand with its site, and its new conformer.

    Raises:
        NoCaseError: it cannot be made.
    """
    mol, groups = crystal(path)
    ligand = path.name.removesuffix(".pdb.gz").split("_")[1]
    others = {group.name for group in groups if not (group.in_chain or group.is_metal or ligand in group.names)}
    site = Site(receptor=str(path), ligand=ligand, margin=margin, keep=sorted(others - WATERS))
    positions = mol.GetConformer().GetPositions()
    try:
        site.structure()
        prepared = preparation(mol, positions)
        if prepared:
            prepared[0].flexible  # noqa: B018  # an element without a radius
    except ValueError as error:
        raise NoCaseError(str(error)) from None
    if not prepared:
        raise NoCaseError("cannot be embedded")
    return Case(path.name.removesuffix(".pdb.gz"), place(prepared[0].mol, positions), site), prepared[0]


def protein(path: Path, ligand: str) -> Chem.Mol:
    """Return what PoseBusters compares a pose with: the atoms of a file without the ligand, as they are."""
    lines = [line for line in text_lines(path, MAX_FILE_BYTES) if line[17:20].strip() != ligand[:3]]
    return Chem.MolFromPDBBlock("\n".join(lines), sanitize=False, removeHs=False, proximityBonding=False)


def busted(docked: Docked, receptor: Chem.Mol) -> list[str] | None:
    """Return the tests of PoseBusters that a pose fails; None where there is no pose."""
    if docked.mol is None:
        return None
    pose = Chem.AddHs(docked.mol, addCoords=True)
    table = import_module("posebusters").PoseBusters(config="dock").bust(pose, None, receptor)
    (row,) = table.to_dict("records")
    return sorted(name for name, passed in row.items() if passed is not True and bool(passed) is not True)


def redock(path: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Dock the ligand of a file both ways, and return the row; {"failed": reason} where it cannot be docked."""
    name = path.name.removesuffix(".pdb.gz")
    preparation = Preparation(ph=arguments.ph, canonical_tautomer=False, conformers=1, seed=arguments.seed)
    effort = {name: getattr(arguments, name) for name in ("chains", "steps", "evaluations", "seed")}
    try:
        case, prepared = prepare(path, preparation, arguments.margin)
    except NoCaseError as error:
        return {"name": name, "failed": str(error)}
    row: dict[str, Any] = {"name": name, "smiles": Chem.MolToSmiles(prepared.mol), "rotors": count_rotors(prepared.mol)}
    receptor = protein(path, name.split("_")[1])
    found = {"ours": ours(case, prepared, MonteCarlo(**effort, poses=1))}
    found["vina"] = vinas(case, prepared, arguments.exhaustiveness, arguments.seed + 1)
    for method, docked in found.items():
        row[method] = {**vars(judged(case, docked)), "failed_tests": busted(docked, receptor)}
    return row


def kept(path: Path) -> list[dict[str, Any]]:
    """Return the rows of an earlier run, and cut off a line that was not finished."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    path.write_text("".join(whole))
    return [json.loads(line) for line in whole]


def share(hits: Sequence[bool]) -> str:
    """Return a share with its binomial standard error, in percent."""
    value = float(np.mean(hits))
    return f"{100 * value:.0f} +- {100 * np.sqrt(value * (1 - value) / len(hits)):.0f}"


def report(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of the rows that were docked, and the names of those that were not."""
    done = [row for row in rows if "failed" not in row]
    lines = [
        f"{len(done)} redocked, {len(rows) - len(done)} failed",
        *(f"  {row['name']}: {row['failed']}" for row in rows if "failed" in row),
        "| | within 2 angstrom, % | PoseBusters-valid, % | both, % | score, median | CPU seconds, median |",
        "|---|---|---|---|---|---|",
    ]
    for key, name in METHODS.items() if done else ():
        some = [row[key] for row in done]
        near, valid = [one["deviation"] < SUCCESS for one in some], [one["failed_tests"] == [] for one in some]
        both = [one and other for one, other in zip(near, valid, strict=True)]
        middle = [float(np.nanmedian([one[column] for one in some])) for column in ("score", "seconds")]
        lines.append(f"| {name} | {share(near)} | {share(valid)} | {share(both)} | {middle[0]:.2f} | {middle[1]:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Redock what is not in the file of rows yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("redocking.jsonl"))
    parser.add_argument("--ph", type=float, default=7.4)
    parser.add_argument("--margin", type=float, default=4.0, help="of the box around the crystal's pose, angstrom")
    parser.add_argument("--exhaustiveness", type=int, default=8)
    parser.add_argument("--chains", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no ligand begins")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    warnings.simplefilter("ignore")
    files = sorted(arguments.folder.glob("*.pdb.gz"))
    order = np.random.default_rng(arguments.seed).permutation(len(files))[: arguments.n]
    rows, began = kept(arguments.out), time.monotonic()
    names = {row["name"] for row in rows}
    for file in (files[number] for number in order):
        if file.name.removesuffix(".pdb.gz") in names or time.monotonic() - began > 60 * arguments.minutes:
            continue
        rows.append(redock(file, arguments))
        with arguments.out.open("a") as out:
            print(json.dumps(rows[-1]), file=out, flush=True)
        print(rows[-1], flush=True)
    print(report(rows))


if __name__ == "__main__":
    main()
