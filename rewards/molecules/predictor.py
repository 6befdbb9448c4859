"""Predictions of a user's own model, such as an activity, as a reward."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from rdkit import Chem

from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.molecule import Molecule
from molrl.rewards.molecules.features import Features
from molrl.rewards.molecules.graph import graph_key, read_sound, refused
from molrl.rewards.scores import PerSample, Scored
from molrl.rewards.user_models import UserModel, load_user_model


@dataclass(frozen=True, kw_only=True)
class Predictor(PerSample[Molecule]):
    """The probability of a class by a classifier, or the value of a regression, of the molecular graph.

    A model is asked about molecules unlike those that it was trained on, where it may be wrong, and training looks for
    what it overrates: combine it with a reward for similarity, and check with another model.

    Attributes:
        file: an .onnx file, or a .skops file of scikit-learn; see `molrl.rewards.user_models`.
        features: what the model was trained on.
        target: the class or column; None: the only column, or the second of two classes.
        floor: of a bad sample; should be at most the smallest value of a good one.
    """

    file: str
    features: Features
    target: int | str | None
    floor: float
    reader: BondReader
    kind: ClassVar[str] = "molecules"
    is_discrete: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not np.isfinite(self.floor):
            raise ValueError(f"floor: got {self.floor}, need a finite number")
        self.predict  # noqa: B018  # a bad model fails here, not in a worker

    @cached_property
    def predict(self) -> Callable[[str], float]:
        """Return the function that predicts the target for a SMILES."""
        model: UserModel = load_user_model(self.file, self.features.width)
        column = model.column(None if self.target is None else str(self.target))
        return lambda smiles: float(model.predict(self.features(smiles)[None])[0, column])

    def score_one(self, sample: Molecule, /) -> Scored:
        mol, reason = read_sound(self.reader, sample)
        if mol is None:
            return refused(reason, self.floor)
        return Scored(self.predict(Chem.MolToSmiles(mol)))

    def cache_key(self, sample: Molecule, /) -> str | None:
        """Return the canonical SMILES; None for a bad sample."""
        return graph_key(self.reader, sample)

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings alone for pickling: each worker reads the file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
