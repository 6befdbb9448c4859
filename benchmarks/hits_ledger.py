"""The molecules that a search has asked about: each distinct one is scored once and counts once (Diverse Hits)."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from hits_filter import PropertyFilter
from hits_forest import FEATURES, fingerprints
from rdkit import Chem, rdBase

from molrl.machine.files import read_text, replace_file
from molrl.rewards.user_models import load_user_model

BUDGET = 10_000
MAX_BYTES = 1 << 28


class Answer(NamedTuple):
    """The score of a molecule, 0 with a problem where it fails the property filter."""

    score: float
    problem: str = ""


Oracle: TypeAlias = Callable[[Sequence[str]], Sequence[Answer]]
"""A function of canonical SMILES that answers for each."""


@dataclass
class Ledger:
    """The answers that a search has had so far, in their order.

    As in the benchmark a molecule is a canonical SMILES with its stereo marks, one that fails the property filter uses
    up a score, and one that cannot be read does not.

    Attributes:
        oracle: answers for molecules that were not asked about before.
        budget: answers that there are.
        answers: of each molecule, by its canonical SMILES.
        requests: molecules that were asked about, repeated and invalid ones included.
        invalid: those among them that no molecule could be read from.
    """

    oracle: Oracle
    budget: int
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: int = 0
    invalid: int = 0

    @property
    def is_spent(self) -> bool:
        """Tell whether there are no more answers."""
        return len(self.answers) >= self.budget

    def __call__(self, smiles: Sequence[str]) -> list[float]:
        """Return the score of each molecule; 0 for an invalid one, and for a new one beyond the budget."""
        texts = [canonical(text) for text in smiles]
        new = dict.fromkeys(text for text in texts if text and text not in self.answers)
        queries = list(new)[: self.budget - len(self.answers)]
        if queries:
            self.answers.update(zip(queries, self.oracle(queries), strict=True))
        self.requests += len(texts)
        self.invalid += texts.count("")
        return [self.answers[text].score if text in self.answers else 0.0 for text in texts]

    def problems(self) -> Counter[str]:
        """Count the molecules that fail the property filter, by what they fail."""
        return Counter(answer.problem for answer in self.answers.values() if answer.problem)

    def save(self, path: Path) -> None:
        """Write all that is known but the oracle and the budget."""
        rows = [[text, *answer] for text, answer in self.answers.items()]
        content = {"requests": self.requests, "invalid": self.invalid, "answers": rows}
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(content).encode())

    @classmethod
    def load(cls, path: Path, oracle: Oracle, budget: int) -> "Ledger":
        """Return the ledger that `save` wrote, or an empty one where there is no file."""
        if not path.exists():
            return cls(oracle, budget)
        content = json.loads(read_text(path, MAX_BYTES))
        answers = {text: Answer(score, problem) for text, score, problem in content["answers"]}
        return cls(oracle, budget, answers, content["requests"], content["invalid"])


def canonical(smiles: str) -> str:
    """Return the canonical SMILES of a molecule, or "" if none can be read."""
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
    return Chem.MolToSmiles(mol) if mol is not None and mol.GetNumAtoms() else ""


def activity_oracle(file: Path, accepted: PropertyFilter) -> Oracle:
    """Return the oracle of a target: the forest's probability of activity, times whether the filter is passed."""
    model = load_user_model(str(file), FEATURES.width)
    column = model.column(None)

    def answer(smiles: Sequence[str]) -> list[Answer]:
        problems = [accepted.problem(Chem.MolFromSmiles(text)) for text in smiles]
        scores = model.predict(fingerprints(list(smiles)).astype(np.float64))[:, column]
        return [Answer(0.0, why) if why else Answer(float(one)) for one, why in zip(scores, problems, strict=True)]

    return answer
