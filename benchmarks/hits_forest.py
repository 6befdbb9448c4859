"""Forests that predict the activity against a target (Diverse Hits: Renz, Luukkonen and Klambauer 2024).

The paper is doi:10.1021/acs.jcim.4c00519, its code ml-jku/diverse-hits. The forest of a target is scikit-learn's with
its own defaults (100 trees) on Morgan fingerprints of radius 2, hashed to 2048 bits; the published one has no seed.
"""

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skops.io
import yaml
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from molrl.data.files import text_lines
from molrl.machine.files import replace_file
from molrl.rewards.molecules.features import Features

PUBLISHED_AUC = {"gsk3": 0.983, "jnk3": 0.965}  # of the test part, by target
SEED = 0
SETTINGS = {"fingerprint": "morgan", "radius": 2, "size": 2048, "counts": False, "stereo": False, "descriptors": []}
FEATURES = Features(**SETTINGS)  # type: ignore[arg-type]
HEADER = "smiles,label,Split"
COMMENT = "The probability of activity by a forest (Renz et al. 2024, doi:10.1021/acs.jcim.4c00519), in [0, 1]."


class Labelled(NamedTuple):
    """The molecules of one part of a target's split.

    Attributes:
        smiles: of each molecule.
        active: whether it is active, [n].
    """

    smiles: list[str]
    active: NDArray[np.bool_]

    @property
    def actives(self) -> list[str]:
        return [smiles for smiles, active in zip(self.smiles, self.active, strict=True) if active]


def read_split(path: Path) -> dict[str, Labelled]:
    """Read the parts "train" and "test" of a table with the columns smiles, label (0 or 1) and Split.

    Raises:
        ValueError: another header, a row with other values, or an empty part.
    """
    lines = text_lines(path)
    if (header := next(lines, "")) != HEADER:
        raise ValueError(f"{path}: got the header {header!r}, need {HEADER}")
    rows: dict[str, list[tuple[str, bool]]] = {"train": [], "test": []}
    for number, line in enumerate(lines, 2):
        smiles, label, part = (*line.split(","), "", "")[:3]
        if line.count(",") != 2 or label not in ("0", "1") or part not in rows:
            raise ValueError(f"{path}, line {number}: got {line!r}, need SMILES,0 or 1,train or test")
        rows[part].append((smiles, label == "1"))
    if empty := [part for part, found in rows.items() if not found]:
        raise ValueError(f"{path}: no molecule of the part {empty[0]}")
    return {
        part: Labelled([one for one, _ in found], np.array([two for _, two in found])) for part, found in rows.items()
    }


def fingerprints(smiles: list[str]) -> NDArray[np.float32]:
    """Return the fingerprints [n, 2048] of molecules, which the forests are trained on."""
    table = np.zeros((len(smiles), FEATURES.width), dtype=np.float32)
    for row, text in enumerate(smiles):
        table[row] = FEATURES(text)
    return table


def train_forest(parts: dict[str, Labelled]) -> tuple[RandomForestClassifier, float]:
    """Train the forest of a target, and return it with its ROC-AUC on the test part."""
    forest = RandomForestClassifier(random_state=SEED)
    forest.fit(fingerprints(parts["train"].smiles), parts["train"].active)
    scores = np.asarray(forest.predict_proba(fingerprints(parts["test"].smiles)))[:, 1]
    return forest, float(roc_auc_score(parts["test"].active, scores))


def write_forest(forest: RandomForestClassifier, folder: Path, target: str) -> Path:
    """Write a forest as FOLDER/TARGET.skops, and the YAML by which `molrl train reward=TARGET` finds it."""
    file, reward = folder / f"{target}.skops", folder / "reward" / "molecules" / f"{target}.yaml"
    reward.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, skops.io.dumps(forest, compression=zipfile.ZIP_DEFLATED))
    settings = {
        "defaults": ["/reward/molecules/predictor@_here_", "_self_"],
        "scorer": {"file": str(file.resolve()), "features": SETTINGS},
    }
    replace_file(reward, f"# {COMMENT}\n{yaml.safe_dump(settings, sort_keys=False)}".encode())
    return file
