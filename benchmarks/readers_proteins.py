"""The receptor reader against gemmi: `python benchmarks/readers_proteins.py FOLDER`.

Every PDB and mmCIF file of a folder and those below it, also compressed, is read by both. What they do not count alike
in the first model is printed, and every file that is refused as a receptor with its reason. gemmi's own rules say there
which residues are a polymer, waters or ligands, and which alternate locations are removed.
"""

import argparse
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import gemmi

from molrl.data.files import suffix
from molrl.data.molecules.chains import read_groups
from molrl.data.molecules.macromolecules import MMCIF, PDB, read_macromolecule
from molrl.data.molecules.pdb import read_pdb
from molrl.data.molecules.pdbqt import METALS
from molrl.data.molecules.residues import WATERS

Counts = dict[str, object]


def ours(path: Path) -> Counts:
    """Count what molrl's reader finds."""
    groups = read_groups(path)
    heavy = [group for group in groups if group.heavy]
    others = [group for group in heavy if not group.in_chain]
    return {
        "heavy atoms": sum(len(group.heavy) for group in groups),
        "residues": len(heavy),
        "alternates": read_macromolecule(path).model.count_atom_sites() - sum(len(group.atoms) for group in groups),
        "waters": sum(group.name in WATERS for group in others),
        "ligands": names(group.name for group in others if group.name not in WATERS and not group.is_metal),
    }


def theirs(path: Path) -> Counts:
    """Count what gemmi finds."""
    structure = gemmi.read_structure(str(path))
    model = structure[0]
    before = model.count_atom_sites()
    structure.merge_chain_parts()
    structure.remove_alternative_conformations()
    after = model.count_atom_sites()
    structure.remove_hydrogens()
    structure.remove_empty_chains()
    structure.setup_entities()
    residues = [residue for chain in model for residue in chain]
    ligands = [residue for chain in model for residue in chain.get_ligands() if not is_metal(residue)]
    return {
        "heavy atoms": model.count_atom_sites(),
        "residues": len(residues),
        "alternates": before - after,
        "waters": sum(residue.is_water() for residue in residues),
        "ligands": names(residue.name for residue in ligands),
    }


def is_metal(residue: gemmi.Residue) -> bool:
    return len(residue) == 1 and residue[0].element.name in METALS


def names(found: Iterator[str]) -> str:
    """Return the names that are found, with their numbers."""
    return ", ".join(f"{count} {name}" for name, count in sorted(Counter(found).items())) or "none"


def disagreements(path: Path) -> Iterator[tuple[str, object, object]]:
    """Yield what is counted otherwise, by molrl and by gemmi."""
    try:
        mine, other = ours(path), theirs(path)
    except (ValueError, RuntimeError) as error:
        yield "error", error, "-"
        return
    yield from ((what, mine[what], other[what]) for what in mine if mine[what] != other[what])


def refusal(path: Path) -> str:
    """Return why a file is no receptor; "" if it is one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read_pdb(path)
        except ValueError as error:
            return str(error)
    return ""


def compare(folder: Path) -> None:
    """Print what the readers count differently in the files of a folder, and which files are no receptor."""
    paths = sorted(path for path in folder.rglob("*") if suffix(path) in (*PDB, *MMCIF) and path.is_file())
    if not paths:
        raise SystemExit(f"{folder}: no file with {', '.join((*PDB, *MMCIF))}, also with .gz")
    counted: Counter[str] = Counter()
    for path in paths:
        place = path.relative_to(folder)
        for what, mine, other in disagreements(path):
            counted[what] += 1
            print(f"{place}: {what}: molrl {mine}, gemmi {other}")
        if reason := refusal(path):
            counted["refused"] += 1
            print(f"{place}: refused: {reason}")
    summary = ", ".join(f"{count} {what}" for what, count in counted.most_common()) or "none"
    print(f"{len(paths)} files; disagreements: {summary}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    compare(parser.parse_args().folder)


if __name__ == "__main__":
    main()
