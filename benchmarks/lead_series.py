"""Series for the hit-to-lead arena: ligands with one core and measured binding energies, chosen by a fixed rule.

The rule, which was fixed before the first run:

- Each set of ligands of a folder DATA (schrodinger/NAME_ligands.sdf.gz with NAME_pocket10.pdb.gz) is read with its
  poses and binding energies (`FIELDS`). A ligand without one, and one of more than `MAX_HEAVY` heavy atoms, the largest
  that `drugs` knows, belongs to no series.
- Every cut of one or two single bonds outside rings gives a core, `LOW` to `HIGH` of the atoms of the ligand
  (`lead_cuts.py`). Ligands with the same core and the same attachment points, where a heavy atom is bonded, are a
  series: it has `MIN_LIGANDS` or more different molecules, by their neutral SMILES without stereo marks. Of
  stereoisomers, protomers and several poses of a molecule the one with the lowest energy counts.
- Of a set, the core that covers most atoms is taken: ligands times its heavy atoms; of equal ones the last by SMILES.
- Of sets of the same protein (`lead_targets.py`), and of those with the same core, the one with
  most ligands is taken; of equal ones the first by name.
- The order is a permutation of the sorted names with seed `ORDER_SEED`.

The crystal core is that of the ligand whose core is nearest, by mean RMSD in the frame of the receptor, to those of the
others: poses of these sets were modelled from crystal structures by their authors. Charges are those of the pose; where
a substituent was, there is a hydrogen.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from lead_cuts import Cut, cuts, molecule_key, substituents_of
from lead_targets import first_of_each, read_sequence
from numpy.typing import NDArray
from rdkit import Chem

from molrl.data.files import Skipped
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.sdf import stream_sdf
from molrl.data.molecules.sdf_fields import read_field

SOURCES = ("schrodinger", "openff")
FIELDS = ("r_exp_dg", "r_fepplus_exp_dg")  # measured binding energy, kcal/mol
LOW, HIGH = 0.35, 0.85
MIN_LIGANDS = 8
MAX_HEAVY = 40
ORDER_SEED = 0
MAX_MATCHES = 1000  # of a symmetric core with itself


@dataclass(frozen=True, eq=False)
class Ligand:
    """A ligand of a series.

    Attributes:
        molecule: its pose, heavy atoms with their graph.
        key: canonical SMILES, neutral and without stereo marks.
        energy: measured binding energy, kcal/mol.
        cut: its core.
    """

    molecule: Molecule
    key: str
    energy: float
    cut: Cut

    @property
    def graph(self) -> Chem.Mol:
        """Return the bonds of its pose, whose conformer has the positions."""
        return graph_of(self.molecule)

    @property
    def substituents(self) -> tuple[str, ...]:
        """Return SMILES of the substituents with * for the core, in the order of the attachment points."""
        return substituents_of(self.graph, self.cut.atoms)

    @property
    def new_atoms(self) -> int:
        """Return the heavy atoms of the substituents."""
        return len(self.molecule) - len(self.cut.atoms)


@dataclass(frozen=True, eq=False)
class Series:
    """Ligands of one set with the same core.

    Attributes:
        name: source and set.
        receptor: file of the pocket.
        ligands: different molecules, in the order of the file.
        poses: records of the file that these molecules have.
    """

    name: str
    receptor: Path
    ligands: Sequence[Ligand]
    poses: int

    @property
    def core(self) -> str:
        """Return the SMILES of the core with * for each substituent."""
        return self.ligands[0].cut.core

    @property
    def covered(self) -> tuple[int, str]:
        """Return the atoms that the core covers, and the core, by which the cores of a set are ordered."""
        return len(self.ligands) * len(self.ligands[0].cut.atoms), self.core

    @property
    def share(self) -> tuple[float, float]:
        """Return the least and the largest share of the atoms of a ligand that are the core."""
        shares = [len(ligand.cut.atoms) / len(ligand.molecule) for ligand in self.ligands]
        return min(shares), max(shares)

    @property
    def sizes(self) -> Mapping[int, int]:
        """Return how many ligands have each number of heavy atoms outside the core."""
        return dict(sorted(Counter(ligand.new_atoms for ligand in self.ligands).items()))

    @property
    def attach(self) -> list[int]:
        """Return the attachment points of the core of the reference ligand, counted from 1."""
        return [site + 1 for site in sites_of(self.ligands[self.reference])]

    @cached_property
    def distances(self) -> NDArray[np.float64]:
        """Return the RMSD of the cores of each two ligands in the frame of the receptor [n, n], angstrom."""
        return np.array([[core_rmsd(one, other) for other in self.ligands] for one in self.ligands])

    @cached_property
    def reference(self) -> int:
        """Return the number of the ligand whose core is nearest to those of the others."""
        return int(self.distances.mean(1).argmin())


def graph_of(molecule: Molecule) -> Chem.Mol:
    """Return the graph of a molecule of a file with bonds; ValueError where there is none."""
    if molecule.graph is None:
        raise ValueError(f"{molecule.name}: no bonds in its file")
    return molecule.graph


def core_piece(ligand: Ligand) -> Chem.Mol:
    """Return the core of a ligand with a hydrogen for each substituent and its positions; atoms keep their order."""
    graph = Chem.RWMol(ligand.graph)
    kept = set(ligand.cut.atoms)
    for site in ligand.cut.sites:
        atom = graph.GetAtomWithIdx(site)
        outside = [other.GetIdx() for other in atom.GetNeighbors() if other.GetIdx() not in kept]
        for other in outside:
            graph.RemoveBond(site, other)
            atom.SetNumExplicitHs(atom.GetNumExplicitHs() + 1)
    for index in sorted(set(range(graph.GetNumAtoms())) - kept, reverse=True):
        graph.RemoveAtom(index)
    core = graph.GetMol()
    Chem.SanitizeMol(core)
    return core


def sites_of(ligand: Ligand) -> list[int]:
    """Return the attachment points as atoms of the core, counted from 0."""
    return [ligand.cut.atoms.index(site) for site in ligand.cut.sites]


def write_core(ligand: Ligand, path: Path) -> None:
    """Write the core of a ligand as an SDF file, with its hydrogens."""
    core = Chem.AddHs(core_piece(ligand), addCoords=True)
    core.SetProp("_Name", f"core of {ligand.molecule.name}")
    with Chem.SDWriter(str(path)) as writer:
        writer.write(core)


def core_rmsd(one: Ligand, other: Ligand) -> float:
    """Return the RMSD of the cores of two ligands where they lie, by the best of the symmetries of the core, angstrom.

    Atoms match by element, ring and neighbours within the core; charges and bond orders, in which protomers differ, do
    not count.
    """
    patterns = [bare_core(ligand) for ligand in (one, other)]
    x, y = (ligand.molecule.positions[list(ligand.cut.atoms)].astype(float) for ligand in (one, other))
    matches = patterns[1].GetSubstructMatches(patterns[0], uniquify=False, maxMatches=MAX_MATCHES)
    rows = np.array(matches)
    return float(np.sqrt(((x - y[rows]) ** 2).sum(-1).mean(-1)).min())


def bare_core(ligand: Ligand) -> Chem.Mol:
    """Return the elements and single bonds of a core, its attachment points as isotopes."""
    graph, atoms = ligand.graph, ligand.cut.atoms
    bare, row = Chem.RWMol(), {atom: number for number, atom in enumerate(atoms)}
    for index in atoms:
        atom = Chem.Atom(graph.GetAtomWithIdx(index).GetAtomicNum())
        atom.SetIsotope(int(index in ligand.cut.sites))
        atom.SetNoImplicit(True)
        bare.AddAtom(atom)
    for bond in graph.GetBonds():
        ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if ends[0] in row and ends[1] in row:
            bare.AddBond(row[ends[0]], row[ends[1]], Chem.BondType.SINGLE)
    return bare.GetMol()


def best_series(name: str, data: Path, left_out: Counter[str]) -> Series | str:
    """Return the series of a set with the core that covers most atoms, or why there is none.

    Args:
        left_out: counts the records that belong to no series, by the reason.
    """
    groups = defaultdict[str, dict[str, Ligand]](dict)
    poses = Counter[str]()
    for molecule, energy in measured_poses(data / f"{name}_ligands.sdf.gz", left_out):
        graph, seen = graph_of(molecule), set[str]()
        key = molecule_key(graph)
        for cut in cuts(graph, LOW, HIGH):
            if cut.core not in seen:
                seen.add(cut.core)
                poses[cut.core] += 1
                keep_better(groups[cut.core], Ligand(molecule, key, energy, cut))
    receptor = data / f"{name}_pocket10.pdb.gz"
    found = [Series(name, receptor, list(group.values()), poses[core]) for core, group in groups.items()]
    large = [series for series in found if len(series.ligands) >= MIN_LIGANDS]
    if large:
        return max(large, key=lambda series: series.covered)
    return f"no core of {MIN_LIGANDS} ligands" if found else "no measured binding energies"


def keep_better(group: dict[str, Ligand], ligand: Ligand) -> None:
    """Add a ligand to those of a core, unless the molecule is there with as low an energy."""
    known = group.get(ligand.key)
    if known is None or ligand.energy < known.energy:
        group[ligand.key] = ligand


def measured_poses(file: Path, left_out: Counter[str]) -> Iterator[tuple[Molecule, float]]:
    """Yield the ligands of a file that are measured and not too large, with their energies, and count the others.

    Raises:
        ValueError: a record cannot be read.
    """
    energies = measured(file)
    for number, entry in enumerate(stream_sdf(file, "counts"), 1):
        if isinstance(entry, Skipped):
            raise ValueError(f"{file}: {entry}")
        if number not in energies:
            left_out["no measured binding energy"] += 1
        elif len(entry) > MAX_HEAVY:
            left_out[f"more than {MAX_HEAVY} heavy atoms"] += 1
        else:
            yield entry, float(energies[number])


def measured(file: Path) -> Mapping[int, str]:
    """Return the binding energies of the records of a file, by number; none where it has no such field."""
    for field in FIELDS:
        try:
            return read_field(file, field)
        except ValueError as error:
            if "no field" not in str(error):
                raise
    return {}


@dataclass(frozen=True)
class Choice:
    """The series that the rule chooses.

    Attributes:
        series: in the order of the arena.
        dropped: why the other sets have none, by name.
        left_out: number of records that belong to no series, by the reason.
    """

    series: Sequence[Series]
    dropped: Mapping[str, str]
    left_out: Mapping[str, int]


def choose_series(data: Path) -> Choice:
    """Apply the rule to a folder of pockets.

    Raises:
        ValueError: the folder has no set, or a file of it cannot be read.
    """
    names = set_names(data)
    if not names:
        raise ValueError(f"{data}: no {SOURCES[0]}/NAME_ligands.sdf.gz with its NAME_pocket10.pdb.gz")
    left_out = Counter[str]()
    results = {name: best_series(name, data, left_out) for name in names}
    dropped = {name: result for name, result in results.items() if isinstance(result, str)}
    found = [result for result in results.values() if isinstance(result, Series)]
    found.sort(key=lambda series: (-len(series.ligands), series.name))
    sequences = {series.name: read_sequence(series.receptor) for series in found}
    first, cores, kept = first_of_each(sequences), dict[str, str](), dict[str, Series]()
    for series in found:
        if first[series.name] != series.name:
            dropped[series.name] = f"the protein of {first[series.name]}"
        elif series.core in cores:
            dropped[series.name] = f"the core of {cores[series.core]}"
        else:
            cores[series.core] = series.name
            kept[series.name] = series
    order = np.random.default_rng(ORDER_SEED).permutation(len(kept))
    return Choice([kept[name] for name in np.array(sorted(kept), dtype=object)[order]], dropped, left_out)


def set_names(data: Path) -> list[str]:
    """Return the sets of a folder with both files, by source and name."""
    ending = "_ligands.sdf.gz"
    files = [file for source in SOURCES for file in sorted((data / source).glob(f"*{ending}"))]
    names = [f"{file.parent.name}/{file.name.removesuffix(ending)}" for file in files]
    return [name for name in names if (data / f"{name}_pocket10.pdb.gz").exists()]
