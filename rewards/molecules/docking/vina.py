"""AutoDock Vina itself as a reward and as the check of our own scoring function; in worker processes only.

Eberhardt et al. 2021, J. Chem. Inf. Model. 61, 3891 (the package, Apache-2.0), with ligands prepared by Meeko.
"""

import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from rdkit import Chem

from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.pdbqt import Structure, receptor_text
from molrl.rewards.molecules.docking.atom_types import graph_ligand
from molrl.rewards.molecules.docking.proxy import CLOSEST, closest
from molrl.rewards.molecules.docking.scoring_function import Box
from molrl.rewards.molecules.docking.site import Site
from molrl.rewards.molecules.geometry import GeometryReward
from molrl.rewards.molecules.strain import all_atoms
from molrl.rewards.scores import Explained, Scored

Mode: TypeAlias = Literal["score", "minimise", "dock"]
MODES = ("score", "minimise", "dock")
NEEDED = ("vina", "meeko", "gemmi")


@dataclass(frozen=True, kw_only=True)
class VinaDocking(GeometryReward):
    """Minus the score of AutoDock Vina in kcal/mol, larger is better; 0 for a bad sample and for one that only clashes.

    Hydrogens without positions are added. Rings are rigid. Vina ends its process where it does not like a molecule and
    heeds no signal, so this works in worker processes only; its exits are then a "crash" of that sample.

    Attributes:
        site: its box is that of the search; "score" and "minimise" want the sample to lie in it.
        mode: what is scored: "score" the sample where it lies, "minimise" the nearest minimum of the energy of its
            place and rotors, "dock" the best that a search finds, from whatever place and rotors it has.
        exhaustiveness: of the search: independent runs.
        seed: of the search.
    """

    site: Site
    mode: Mode
    exhaustiveness: int
    seed: int
    isolated: ClassVar[bool] = True
    floor: ClassVar[float] = 0.0
    parts: ClassVar[tuple[str, ...]] = ("heavy_atoms", "per_heavy_atom")

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode: got {self.mode!r}, allowed are {', '.join(MODES)}")
        if self.exhaustiveness < 1:
            raise ValueError(f"exhaustiveness: got {self.exhaustiveness}, need at least 1")
        if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
            raise ValueError(f"{', '.join(missing)} not installed: pip install 'molrl[docking]'")
        self.pocket  # noqa: B018  # a bad receptor fails here, not in a worker

    @cached_property
    def pocket(self) -> tuple[Structure, Box]:
        """Receptor and box."""
        return self.site.structure(), self.site.box()

    @cached_property
    def engine(self) -> Any:
        """Vina with its maps of the box, which take seconds."""
        if parent_process() is None:
            raise RuntimeError("Vina can end the process it is in, so it is run in worker processes only: use Pooled")
        receptor, box = self.pocket
        engine = import_module("vina").Vina(sf_name="vina", cpu=1, seed=self.seed, verbosity=0)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "receptor.pdbqt")
            file.write_text(receptor_text(receptor))
            engine.set_receptor(str(file))
        engine.compute_vina_maps(center=list(box.centre), box_size=list(box.size))
        return engine

    def measured(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        positions = sample.positions[sample.numbers > 1]
        if closest(positions) < CLOSEST:
            return Scored(self.floor, f"no geometry: atoms closer than {CLOSEST} angstrom")
        try:
            n = len(graph_ligand(mol))
        except ValueError as error:  # an element without a radius, at which Vina would end the process
            return Scored(self.floor, str(error))
        _, box = self.pocket
        if self.mode != "dock" and not ((np.array(box.low) < positions) & (positions < np.array(box.high))).all():
            return Scored(self.floor, f"box: the molecule lies outside, which mode={self.mode} does not move")
        whole, _ = all_atoms(mol, sample)
        if len(Chem.GetMolFrags(whole)) > 1:
            return Scored(self.floor, "stray hydrogen")
        self.engine.set_ligand_from_string(prepared(whole))
        value = max(-SCORED[self.mode](self.engine, self.exhaustiveness), self.floor)
        return Explained(value, "", {"heavy_atoms": n, "per_heavy_atom": value / n})


def prepared(mol: Chem.Mol) -> str:
    """The PDBQT text of a molecule with all its hydrogens at positions."""
    meeko = import_module("meeko")
    (setup,) = meeko.MoleculePreparation(rigid_macrocycles=True).prepare(mol)
    text, made, trouble = meeko.PDBQTWriterLegacy.write_string(setup)
    if not made:
        raise ValueError(f"Meeko cannot prepare it: {trouble}")
    return str(text)


def docked(engine: Any, exhaustiveness: int) -> float:
    """The score of the best pose of a search."""
    engine.dock(exhaustiveness=exhaustiveness, n_poses=1)
    return float(engine.energies(n_poses=1)[0][0])


SCORED: dict[Mode, Callable[[Any, int], float]] = {
    "score": lambda engine, _: float(engine.score()[0]),
    "minimise": lambda engine, _: float(engine.optimize()[0]),
    "dock": docked,
}
