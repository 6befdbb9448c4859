"""The site of docking: a receptor, and the box around its pocket that a ligand must be in."""

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from molrl.data.files import BrokenStreamError, Skipped, suffix, text_lines
from molrl.data.molecules.files import stream
from molrl.data.molecules.macromolecules import MMCIF, PDB
from molrl.data.molecules.pdb import group_positions, read_pdb
from molrl.data.molecules.pdbqt import Structure, read_ligand, read_receptor
from molrl.rewards.molecules.docking.atom_types import heavy
from molrl.rewards.molecules.docking.scoring_function import Box

DOCKSTRING = "dockstring:"
PDBQT, GEOMETRY = ".pdbqt", (".sdf", ".mol", ".xyz")  # suffixes
RESIDUE_NAME = re.compile("[A-Za-z0-9]{1,5}")
MAX_BOX_BYTES = 1 << 16  # of a file with a box
BOX_LINE = re.compile(r"(center|size)_([xyz])\s*=\s*(-?[0-9]+\.?[0-9]*)")


@dataclass(frozen=True, kw_only=True)
class Site:
    """A receptor and a box: around a reference ligand, or given by its centre and size.

    A file may be one that comes with the package, `example:1iep_pocket.pdbqt`; see `molrl.data.files.locate`.

    Attributes:
        receptor: a PDBQT file, all of it; or a PDB or mmCIF file, of which chains, metal ions and what `keep` names
            are taken; or dockstring:NAME for a target of that package, where it is installed, with its own box.
        ligand: a file with a molecule in the coordinates of the receptor (.pdbqt, .sdf, .mol or .xyz; of several the
            first); or the name of one in the PDB or mmCIF file of the receptor, such as STI, which is then no part of
            the receptor; or null.
        margin: distance of the box from the ligand's heavy atoms on each side, angstrom.
        centre, size: x, y, z of the box in angstrom in place of a ligand, or null.
        keep: names of residues in the PDB or mmCIF file that belong to the receptor beside chains and metal ions, such
            as HEM or HOH.
    """

    receptor: str
    ligand: str | None = None
    margin: float = 4.0
    centre: Sequence[float] | None = None
    size: Sequence[float] | None = None
    keep: Sequence[str] = ()

    def __post_init__(self) -> None:
        given = (self.ligand is not None, self.centre is not None, self.size is not None)
        default_box = [(False, False, False)] if self.receptor.startswith(DOCKSTRING) else []
        if given not in ((True, False, False), (False, True, True), *default_box):
            settings = ", ".join(
                f"{name}={getattr(self, name)}" for name in ("ligand", "centre", "size") if getattr(self, name)
            )
            raise ValueError(
                f"the box: got {settings or 'nothing'}, need ligand=FILE, a molecule in the binding site, "
                "or both centre=[x,y,z] and size=[x,y,z]"
            )
        if not 0 <= self.margin < np.inf:
            raise ValueError(f"margin: got {self.margin}, need at least 0 angstrom")
        if isinstance(self.keep, str):
            raise ValueError(f"keep: got {self.keep!r}, need a list of residue names, [{self.keep}]")
        if self.keep and not self.is_pdb:
            raise ValueError(
                f"keep={list(self.keep)}: is for PDB and mmCIF files, of others all is kept, got {self.receptor}"
            )

    @property
    def is_pdb(self) -> bool:
        """Return True if the receptor is a PDB or mmCIF file."""
        return not self.receptor.startswith(DOCKSTRING) and suffix(self.receptor) in (*PDB, *MMCIF)

    @property
    def ligand_name(self) -> str | None:
        """Return the ligand if it is the name of a group in the receptor's file."""
        named = self.is_pdb and self.ligand and RESIDUE_NAME.fullmatch(self.ligand) and not Path(self.ligand).exists()
        return self.ligand if named else None

    @property
    def file(self) -> Path:
        """Return the path of the receptor's file.

        Raises:
            ValueError: dockstring is not installed or has no such target.
        """
        if not self.receptor.startswith(DOCKSTRING):
            return Path(self.receptor)
        return dockstring_file(self.receptor.removeprefix(DOCKSTRING), "_target.pdbqt")

    def structure(self) -> Structure:
        """Read the atoms of the receptor.

        Raises:
            ValueError: the file is missing or no receptor.
        """
        if self.is_pdb:
            return read_pdb(self.receptor, self.keep, self.ligand_name)
        if suffix(self.file) != PDBQT:
            raise ValueError(
                f"receptor {self.receptor}: need a {', '.join((*PDB, *MMCIF))} or {PDBQT} file, or {DOCKSTRING}TARGET"
            )
        return read_receptor(self.file)

    def box(self) -> Box:
        """Return the box that a ligand must be in.

        Raises:
            ValueError: there is no such ligand, it has no geometry, or the box is too large.
        """
        if self.centre is not None and self.size is not None:
            return Box(tuple(self.centre), tuple(self.size))
        if self.ligand is None:
            return read_box(dockstring_file(self.receptor.removeprefix(DOCKSTRING), "_conf.txt"))
        if self.ligand_name is not None:
            return box_around(group_positions(self.receptor, self.ligand_name), self.margin)
        return box_around(ligand_positions(self.ligand), self.margin)


def box_around(positions: NDArray[np.floating], margin: float) -> Box:
    """Return the bounding box of positions [n, 3] with a margin on each side, angstrom."""
    low, high = positions.min(0).astype(float) - margin, positions.max(0).astype(float) + margin
    return Box(((low + high) / 2).tolist(), (high - low).tolist())


def atoms_near(receptor: str, positions: NDArray[np.floating], reach: float) -> tuple[NDArray[np.floating], float]:
    """Return the heavy atoms of a receptor [k, 3] within reach of positions [n, 3], and the least distance, angstrom.

    Raises:
        ValueError: the file is missing or no receptor.
    """
    site = Site(receptor=receptor, centre=[float(x) for x in positions.mean(0)], size=[1.0, 1.0, 1.0])
    structure = site.structure()
    atoms = structure.positions[heavy(structure)]
    distance = np.linalg.norm(atoms[:, None] - positions[None], axis=-1).min(1)
    return atoms[distance <= reach], float(distance.min(initial=np.inf))


def ligand_positions(path: str) -> NDArray[np.floating]:
    """Return the positions of the heavy atoms of the first molecule of a file, angstrom [n, 3]."""
    if suffix(path) == PDBQT:
        structure = read_ligand(path)
        return structure.positions[heavy(structure)]
    if suffix(path) not in GEOMETRY:
        raise ValueError(
            f"ligand {path}: need a file with a geometry, {PDBQT}, {', '.join(GEOMETRY)}, "
            "or the name of a molecule in a PDB or mmCIF file that is the receptor"
        )
    entry = next(iter(stream(path)), Skipped(path, "no molecule"))
    if isinstance(entry, Skipped):
        raise ValueError(f"ligand {path}: {entry.reason}")
    return entry.positions[entry.numbers > 1]


def dockstring_file(target: str, ending: str) -> Path:
    """Return the path of a file of a target of dockstring (Garcia-Ortegon et al. 2022, doi:10.1021/acs.jcim.1c01334).

    The package itself, which needs OpenBabel, is not imported.
    """
    spec = importlib.util.find_spec("dockstring")
    if spec is None or spec.origin is None:
        raise ValueError(f"{DOCKSTRING}{target}: dockstring is not installed: pip install 'molrl[docking]'")
    folder = Path(spec.origin).parent / "resources" / "targets"
    targets = sorted(path.name.removesuffix(ending) for path in folder.glob(f"*{ending}"))
    if target not in targets:
        raise ValueError(f"{DOCKSTRING}{target}: no such target, known are {', '.join(targets)}")
    return folder / f"{target}{ending}"


def read_box(path: str | Path) -> Box:
    """Read the box of a configuration file of Vina, lines such as `center_x = 9.25`.

    Raises:
        ValueError: it is missing or not all six numbers are there.
    """
    try:
        lines = [match.groups() for line in text_lines(path, MAX_BOX_BYTES) if (match := BOX_LINE.match(line.strip()))]
    except BrokenStreamError as error:
        raise ValueError(f"{path}: {error}") from None
    numbers = {(name, axis): float(value) for name, axis, value in lines}
    if len(numbers) < 6:
        raise ValueError(f"{path}: got {len(numbers)} of center_x, ... size_z, need all six")
    return Box(*([numbers[name, axis] for axis in "xyz"] for name in ("center", "size")))
