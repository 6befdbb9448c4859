"""AutoDock Vina as a reward and as a check of the scoring function in this package; in worker processes only.

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
from molrl.rewards.molecules.docking.ligand_efficiency import check_size_power, sized
from molrl.rewards.molecules.docking.proxy import MIN_DISTANCE, min_distance
from molrl.rewards.molecules.docking.scoring_function import Box
from molrl.rewards.molecules.docking.site import Site
from molrl.rewards.molecules.geometry import GeometryReward
from molrl.rewards.molecules.strain import add_hydrogens
from molrl.rewards.scores import Explained, Scored

Mode: TypeAlias = Literal["score", "minimise", "dock"]
MODES = ("score", "minimise", "dock")
PACKAGES = ("vina", "meeko")  # that it needs


@dataclass(frozen=True, kw_only=True)
class VinaDocking(GeometryReward):
    """Minus the score of AutoDock Vina in kcal/mol, larger is better; 0 for a bad sample and for one that only clashes.

    Hydrogens without positions are added. Rings are rigid. Vina ends its process at a molecule that it cannot handle
    and ignores signals, so this runs in worker processes only; its exits are then a "crash" of that sample.

    Attributes:
        site: its box is that of the search; with "score" and "minimise" the sample must lie in it.
        mode: "score" the sample where it lies, "minimise" its energy over position, orientation and rotors to the
            nearest minimum, or "dock" it by a search that does not depend on these.
        exhaustiveness: of the search: the number of independent runs.
        seed: of the search.
        size_power: of the number of heavy atoms that the value is divided by (`ligand_efficiency`).
    """

    site: Site
    mode: Mode
    exhaustiveness: int
    seed: int
    size_power: float = 0.0
    isolated: ClassVar[bool] = True
    floor: ClassVar[float] = 0.0
    parts: ClassVar[tuple[str, ...]] = ("score", "heavy_atoms", "per_heavy_atom")

    def __post_init__(self) -> None:
        check_size_power(self.size_power)
        if self.mode not in MODES:
            raise ValueError(f"mode: got {self.mode!r}, allowed are {', '.join(MODES)}")
        if self.exhaustiveness < 1:
            raise ValueError(f"exhaustiveness: got {self.exhaustiveness}, need at least 1")
        if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
            raise ValueError(f"{', '.join(missing)} not installed: pip install 'molrl[docking]'")
        self.pocket  # noqa: B018  # a bad receptor fails here, not in a worker

    @cached_property
    def pocket(self) -> tuple[Structure, Box]:
        """Return the receptor and the box."""
        return self.site.structure(), self.site.box()

    @cached_property
    def engine(self) -> Any:
        """Return Vina with its maps of the box, whose computation takes seconds."""
        if parent_process() is None:
            raise RuntimeError("Vina can end the process it is in, so it runs in worker processes only: use Pooled")
        receptor, box = self.pocket
        engine = import_module("vina").Vina(sf_name="vina", cpu=1, seed=self.seed, verbosity=0)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "receptor.pdbqt")
            file.write_text(receptor_text(receptor))
            engine.set_receptor(str(file))
        engine.compute_vina_maps(center=list(box.centre), box_size=list(box.size))
        return engine

    def measure(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        positions = sample.positions[sample.numbers > 1]
        if min_distance(positions) < MIN_DISTANCE:
            return Scored(self.floor, f"no geometry: atoms closer than {MIN_DISTANCE} angstrom")
        try:
            n = len(graph_ligand(mol))
        except ValueError as error:  # an element without a radius, at which Vina would end the process
            return Scored(self.floor, str(error))
        _, box = self.pocket
        if self.mode != "dock" and not ((np.array(box.low) < positions) & (positions < np.array(box.high))).all():
            return Scored(self.floor, f"box: the molecule lies outside, which mode={self.mode} does not move")
        complete, _ = add_hydrogens(mol, sample)
        if len(Chem.GetMolFrags(complete)) > 1:
            return Scored(self.floor, "stray hydrogen")
        self.engine.set_ligand_from_string(pdbqt_text(complete))
        score = max(-SCORE_FUNCTIONS[self.mode](self.engine, self.exhaustiveness), self.floor)
        value, parts = sized(score, n, self.size_power)
        return Explained(value, "", parts)


def pdbqt_text(mol: Chem.Mol) -> str:
    """Return the PDBQT text of a molecule whose hydrogens are atoms with positions."""
    meeko = import_module("meeko")
    (setup,) = meeko.MoleculePreparation(rigid_macrocycles=True).prepare(mol)
    text, success, error = meeko.PDBQTWriterLegacy.write_string(setup)
    if not success:
        raise ValueError(f"Meeko cannot prepare it: {error}")
    return str(text)


def dock(engine: Any, exhaustiveness: int) -> float:
    """Search and return the score of the best pose."""
    engine.dock(exhaustiveness=exhaustiveness, n_poses=1)
    return float(engine.energies(n_poses=1)[0][0])


SCORE_FUNCTIONS: dict[Mode, Callable[[Any, int], float]] = {
    "score": lambda engine, _: float(engine.score()[0]),
    "minimise": lambda engine, _: float(engine.optimize()[0]),
    "dock": dock,
}
