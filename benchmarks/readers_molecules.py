"""Molecule files read by molrl and by others: every record that the two do not read alike.

`python benchmarks/readers_molecules.py FOLDER` reads all .sdf, .mol and .xyz files below a folder, also with .gz, by
molrl's readers, by RDKit (of an .xyz the first frame) and, where it is installed, .xyz by ASE. It prints a line for
each disagreement (reader, file, record, molrl's reading, the other's) and a table of counts. A record of an SDF file is
its canonical SMILES, stereo marks included, and its dimension; one of an XYZ file is its elements and positions. Two
refusals agree whatever their reasons.
"""

import gzip
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from molrl.data.files import Skipped, suffix
from molrl.data.molecules.entries import Entry
from molrl.data.molecules.perception import perceive_bonds
from molrl.data.molecules.records import has_geometry, molecule_of, records

RECORD_END = re.compile(r"^\$\$\$\$.*\n?", re.MULTILINE)
TOLERANCE = 1e-3  # angstrom
SHOWN = 100  # characters of a reading


class View(NamedTuple):
    """A record as a reader has it.

    Attributes:
        text: the whole of it for a graph, the formula for a geometry; "" where it is refused.
        positions: of a geometry without bonds, angstrom [n, 3].
        reason: why it is refused.
    """

    text: str = ""
    positions: NDArray[np.floating] | None = None
    reason: str = ""

    def __str__(self) -> str:
        place = "" if self.positions is None else f" at {self.positions[0].astype(float).round(3).tolist()}"
        return f"{self.text}{place}"[:SHOWN] if self.text else f"refused: {self.reason}"


Reader = Callable[[Path], Iterator[View]]
NO_RECORD = View(reason="no such record")


def same(first: View, second: View) -> bool:
    """Tell whether two readers agree."""
    if first.text != second.text or first.positions is None or second.positions is None:
        return first.text == second.text
    return bool(np.allclose(first.positions, second.positions, atol=TOLERANCE))


def graph_view(mol: Chem.Mol, *, flat: bool) -> View:
    """Return a molecule with bonds, without atom maps."""
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
    Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    return View(f"{Chem.MolToSmiles(mol)} {2 if flat else 3}D")


def atoms_view(numbers: NDArray[np.int64], positions: NDArray[np.floating]) -> View:
    """Return a geometry without bonds; its text is the formula in the order of the atoms."""
    return View(" ".join(map(Chem.GetPeriodicTable().GetElementSymbol, numbers.tolist())), positions)


def read_molrl(path: Path) -> Iterator[View]:
    """Yield the records as molrl reads them."""
    for record in records(path):
        yield view_entry(molecule_of(record, embedded=False))


def view_entry(entry: Entry) -> View:
    """Return a molecule of molrl."""
    if isinstance(entry, Skipped):
        return View(reason=entry.reason)
    if entry.graph is None:
        return atoms_view(entry.numbers, entry.positions)
    mol, reason = perceive_bonds(entry)
    return View(reason=reason) if mol is None else graph_view(Chem.Mol(mol), flat=not has_geometry(entry))


def read_rdkit(path: Path) -> Iterator[View]:
    """Yield the records as RDKit reads them."""
    with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as file:
        if suffix(path) == ".xyz":
            mol = Chem.MolFromXYZBlock(file.read().decode(errors="replace"))
            yield View(reason="no molecule") if mol is None else view_atoms(mol)
            return
        texts = RECORD_END.split(file.read().decode(errors="replace"))
    yield from (view_rdkit(Chem.MolFromMolBlock(text)) for text in texts[: None if texts[-1].strip() else -1])


def view_rdkit(mol: Chem.Mol | None) -> View:
    """Return a molecule of RDKit."""
    if mol is None or mol.GetNumAtoms() == 0:
        return View(reason="no molecule")
    conformer = mol.GetConformer()
    if mol.GetNumBonds() == 0 and mol.GetNumAtoms() > 1 and conformer.Is3D():
        return view_atoms(mol)
    apart = np.ptp(conformer.GetPositions(), axis=0).any()
    return graph_view(mol, flat=mol.GetNumAtoms() > 1 and not (apart and conformer.Is3D()))


def view_atoms(mol: Chem.Mol) -> View:
    """Return the atoms of a molecule of RDKit."""
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    return atoms_view(numbers, mol.GetConformer().GetPositions())


def read_ase(path: Path) -> Iterator[View]:
    """Yield the frames as ASE reads them."""
    from ase.io import iread

    for atoms in iread(str(path), index=":", format="extxyz"):
        yield atoms_view(atoms.numbers, atoms.positions)


def until_it_fails(reader: Reader, path: Path) -> Iterator[View]:
    """Yield the records of a file; the last one may be the error at which its reader stopped."""
    try:
        yield from reader(path)
    except Exception as error:  # whatever another reader raises
        yield View(reason=f"{type(error).__name__}: {' '.join(str(error).split())}")


def compare(path: Path, name: str, reader: Reader, counts: Counter[tuple[str, str]]) -> None:
    """Print the records of a file that molrl and another reader do not read alike, and count all."""
    pairs = zip_longest(until_it_fails(read_molrl, path), until_it_fails(reader, path), fillvalue=NO_RECORD)
    for number, (ours, theirs) in enumerate(pairs, 1):
        if name == "RDKit" and suffix(path) == ".xyz" and number > 1:
            return  # it reads one frame
        kind = "alike"
        if not same(ours, theirs):
            kind = "differ" if ours.text and theirs.text else f"only {'molrl' if ours.text else name} reads"
            print(f"{name}\t{path}\t{number}\t{ours}\t{theirs}")
        counts[name, kind] += 1


def main() -> None:
    """Compare all files of a folder and print the counts."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python benchmarks/readers_molecules.py FOLDER")
    counts = Counter[tuple[str, str]]()
    with rdBase.BlockLogs():
        for path in sorted(Path(sys.argv[1]).rglob("*")):
            if path.is_file() and suffix(path) in (".sdf", ".mol", ".xyz"):
                compare(path, "RDKit", read_rdkit, counts)
                if suffix(path) == ".xyz" and find_spec("ase"):
                    compare(path, "ASE", read_ase, counts)
    print("\n| other reader | records | |\n|---|---|---|")
    for (name, kind), count in sorted(counts.items()):
        print(f"| {name} | {count} | {kind} |")


if __name__ == "__main__":
    main()
