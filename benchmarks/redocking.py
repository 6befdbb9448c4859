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
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
from crystal_ligand import perceive
from docking_flexible import (
    METHODS,
    SUCCESS,
    Case,
    Docked,
    add_effort,
    both,
    column,
    judged,
    quiet,
    remarks,
    settings_of,
    share,
    sorted_out,
)
from rdkit import Chem
from rows import Row, Rows

from molrl.data.files import text_lines
from molrl.data.molecules.chains import Group, read_groups
from molrl.data.molecules.residues import WATERS
from molrl.rewards.molecules.docking.atom_types import count_rotors
from molrl.rewards.molecules.docking.preparation import Preparation, Prepared, place, with_stereo
from molrl.rewards.molecules.docking.site import Site

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


def redock(path: Path, arguments: argparse.Namespace) -> Row:
    """Dock the ligand of a file both ways, and return the row; {"failed": reason} where it cannot be docked."""
    row: Row = {"name": path.name.removesuffix(".pdb.gz")}
    preparation = Preparation(ph=arguments.ph, canonical_tautomer=False, conformers=1, seed=arguments.seed)
    try:
        case, prepared = prepare(path, preparation, arguments.margin)
        row |= {"smiles": Chem.MolToSmiles(prepared.mol), "rotors": count_rotors(prepared.mol)}
        receptor, found = protein(path, row["name"].split("_")[1]), both(case, prepared, arguments)
        return row | {
            method: {**vars(judged(case, docked)), "failed_tests": busted(docked, receptor)} for method, docked in found
        }
    except NoCaseError as problem:
        return row | {"failed": str(problem)}
    except Exception as problem:  # whatever a ligand does to one of five packages, the run goes on
        return row | {"failed": f"{type(problem).__name__}: {problem}"}


def report(rows: Sequence[Row]) -> str:
    """Return the table of the rows that were docked, and the names of what was not docked or has no pose."""
    docked, paired = sorted_out(rows)
    lines = [f"{len(docked)} redocked, {len(rows) - len(docked)} failed", *remarks(rows)]
    lines.append("| | within 2 angstrom, % | PoseBusters-valid, % | both, % | score, median | CPU seconds, median |")
    lines.append("|---|---|---|---|---|---|")
    for method, name in METHODS.items() if paired else ():
        near = column(docked, method, "deviation") < SUCCESS
        valid = np.array([row[method]["failed_tests"] == [] for row in docked])
        shares = " | ".join(share(hits) for hits in (near, valid, near & valid))
        score, seconds = (np.median(column(paired, method, key)) for key in ("score", "seconds"))
        lines.append(f"| {name} | {shares} | {score:.2f} | {seconds:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Redock what is not in the file of rows yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("redocking.jsonl"))
    parser.add_argument("--ph", type=float, default=7.4)
    parser.add_argument("--margin", type=float, default=4.0, help="of the box around the crystal's pose, angstrom")
    add_effort(parser)
    arguments = parser.parse_args()
    quiet()
    rows, began = Rows(arguments.out, settings_of(arguments)), time.monotonic()
    files = sorted(arguments.folder.glob("*.pdb.gz"))
    for number in np.random.default_rng(arguments.seed).permutation(len(files))[: arguments.n]:
        name = files[number].name.removesuffix(".pdb.gz")
        if name not in rows and time.monotonic() - began < 60 * arguments.minutes:
            rows.add(redock(files[number], arguments))
            print(rows.rows[-1], flush=True)
    print(report(rows.rows))


if __name__ == "__main__":
    main()
