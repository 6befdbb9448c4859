"""Molecules as a domain: what the commands need to know of them. Heavy packages are imported when they are used."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molrl.domains import Sampling
from molrl.models.molecules.glossary import METRICS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from molrl.data.molecules.bonds import BondReader
    from molrl.data.molecules.sizes import AtomsRequest
    from molrl.data.molecules.standardise import Fragments
    from molrl.models.molecules.policy import MoleculePolicy
    from molrl.rewards.molecules.files import MoleculeFiles
    from molrl.task import Reward, Task

POINTS = ("points.npy", "coords.npy")  # arrays that make an .npz file one of point clouds

HEADLINE = (
    "validity",
    "validity_connected",
    "core_unchanged",
    "attach_only",
    "uniqueness",
    "novelty",
    "valence_molecule_stability",
    "edm_molecule_stability",
)  # metrics that a line on the screen tells, the first one first


class MoleculeDomain:
    """The domain of molecules in three dimensions."""

    name = "molecules"
    suffixes = (".sdf", ".mol", ".xyz", ".smi", ".txt", ".csv", ".npz")
    glossary = METRICS
    headline: Mapping[str, str] = {name: METRICS[name].label for name in HEADLINE}

    def claims(self, path: Path) -> bool:
        """Tell whether a file is one of molecules; an .npz file is, unless it holds points."""
        kind = Path(path.name.lower().removesuffix(".gz")).suffix
        if kind != ".npz" or not zipfile.is_zipfile(path):
            return kind in self.suffixes
        with zipfile.ZipFile(path) as archive:
            return not set(POINTS) & set(archive.namelist())

    def recognises(self, source: str) -> bool:
        """Tell whether a model without our description is one of molecules: EDM's published weights are."""
        return source.endswith(".safetensors")

    def policy(self, **settings: Any) -> "MoleculePolicy":
        """Return the settings of a policy."""
        from molrl.models.molecules.policy import MoleculePolicy

        return MoleculePolicy(**settings)

    def task(
        self,
        *,
        name: str,
        policy: "MoleculePolicy",
        reward: "Reward",
        device: "torch.device",
        data: str | None = None,
        records: str | None = None,
        fragments: "Fragments" = "keep",
        atoms: "AtomsRequest" = None,
        **growth: Any,
    ) -> "Task":
        """Return the task of fine-tuning a policy toward a reward, with bonds read by `perceive_bonds`."""
        from molrl.data.molecules.perception import perceive_bonds
        from molrl.models.molecules.task import molecule_task

        return molecule_task(
            name=name,
            policy=policy,
            reader=perceive_bonds,
            data=data,
            records=records,
            fragments=fragments,
            atoms=atoms,
            reward=reward,
            device=device,
            **growth,
        )

    def sampling(
        self,
        *,
        policy: "MoleculePolicy",
        condition: Mapping[str, Any],
        device: "torch.device",
        reader: "BondReader",
        atoms: "AtomsRequest" = None,
        core: str | None = None,
        attach: Sequence[int] | int | None = None,
        steer: float = 0.0,
        avoid: str | None = None,
    ) -> Sampling:
        """Return what to draw molecules from, asked for the values of some properties, numbers of atoms or a core."""
        from molrl.models.molecules.decoder import MoleculeDecoder
        from molrl.models.molecules.growth import growth_settings

        growth = growth_settings(core, attach, atoms, steer, avoid)
        if growth is not None:
            grown = growth.decoder(policy.model, reader)
            return Sampling(growth.policy(policy, grown, device), grown, grown.notes)
        decoder = MoleculeDecoder(model=policy.model, reader=reader, condition=condition, atoms=atoms)
        notes = decoder.notes
        for property_ in policy.model.conditions:
            low, high = property_.span
            wanted = condition.get(property_.name, "drawn as the training set has it")
            notes.append(f"{property_.name}: {wanted} (training set {low:.3g} to {high:.3g})")
        return Sampling(policy.build(device), decoder, notes)

    def source(
        self, *, reader: "BondReader", embed: bool, smiles_column: str | None, fragments: "Fragments"
    ) -> "MoleculeFiles":
        """Return the reader of records for `molrl score`."""
        from molrl.rewards.molecules.files import MoleculeFiles

        return MoleculeFiles(reader=reader, embed=embed, smiles_column=smiles_column, fragments=fragments)

    def evaluate(self, *, file: str, reference: str | None, out: str | None, **settings: Any) -> int:
        """Print the metrics of a file of molecules and return the exit code."""
        from molrl.config import check_arguments
        from molrl.models.molecules.evaluation import evaluate_molecules

        own = {"file": file, "reference": reference, "out": out, **settings}
        check_arguments(evaluate_molecules, own, "", partial=False)
        return evaluate_molecules(**own)

    def upgrade(
        self, description: Mapping[str, Any], weights: Mapping[str, "Tensor"]
    ) -> "tuple[dict[str, Any], dict[str, Tensor]] | None":
        """Return description and weights of format 2 for those of format 1; None for a model of another domain."""
        from molrl.models.molecules.migration import upgrade

        return upgrade(description, weights)


MOLECULES = MoleculeDomain()
