"""The outcomes of Diverse Hits, and their table beside the published one."""

import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean, stdev

from graph_ga import HIT
from hits_ledger import Ledger
from rdkit import Chem, DataStructs

from molrl.data.molecules.circles import THRESHOLD, count_circles, morgan_generator
from molrl.data.molecules.unembedded import Graphs

PUBLISHED = {  # diverse hits after 10,000 unique scores (Renz et al. 2024): all and novel ones; five seeds
    "gsk3": {
        "AugmentedHC": (674, 533),
        "AugMemory": (636, 507),
        "LSTM-HC": (456, 231),
        "Reinvent": (198, 135),
        "GraphGA": (115, 78),
        "LSTM-PPO": (108, 16),
        "random screening of ChEMBL": (93, 7),
        "GFlowNet, filtered": (77, 73),
    },
    "jnk3": {
        "AugMemory": (176, 104),
        "AugmentedHC": (111, 63),
        "LSTM-HC": (103, 36),
        "Reinvent": (35, 6),
        "GraphGA": (24, 10),
        "random screening of ChEMBL": (15, 0),
        "LSTM-PPO": (13, 1),
        "GFlowNet, filtered": (0, 0),
    },
}


@dataclass(frozen=True)
class Outcome:
    """The figures of one search.

    Attributes:
        target, method, seed: of the search.
        scores: unique molecules that were scored.
        hits: those with a score of at least 0.5.
        circles: #Circles of the hits, the diverse hits.
        novel_circles: #Circles of the hits that are as far from all active molecules of the training part.
        mass, logp, patterns: unique molecules that failed the property filter by these.
        requests, invalid: molecules that were asked about, and those that are none.
        seconds: of wall time, of a search that was killed since it went on.
    """

    target: str
    method: str
    seed: int
    scores: int
    hits: int
    circles: int
    novel_circles: int
    mass: int
    logp: int
    patterns: int
    requests: int
    invalid: int
    seconds: float


def outcome_of(ledger: Ledger, actives: Sequence[str], target: str, method: str, seed: int, seconds: float) -> Outcome:
    """Count the hits of a ledger and the diverse ones among them."""
    hits = [text for text, answer in ledger.answers.items() if answer.score >= HIT]
    novel, problems = far_from(hits, actives), ledger.problems()
    return Outcome(
        target=target,
        method=method,
        seed=seed,
        scores=len(ledger.answers),
        hits=len(hits),
        circles=count_circles(Graphs.parse(hits)),
        novel_circles=count_circles(Graphs.parse(novel)),
        mass=problems["mass"],
        logp=problems["logP"],
        patterns=problems["patterns"],
        requests=ledger.requests,
        invalid=ledger.invalid,
        seconds=round(seconds, 1),
    )


def far_from(smiles: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the molecules whose Tanimoto distance to all known ones exceeds the radius of #Circles."""
    generator = morgan_generator()
    others = [generator.GetFingerprint(Chem.MolFromSmiles(text)) for text in known]
    found = []
    for text in smiles:
        similarities = DataStructs.BulkTanimotoSimilarity(generator.GetFingerprint(Chem.MolFromSmiles(text)), others)
        if 1 - max(similarities, default=0.0) > THRESHOLD:
            found.append(text)
    return found


def read_outcomes(folder: Path) -> list[Outcome]:
    """Read the outcomes of a folder, by target, method and seed."""
    found = [Outcome(**json.loads(path.read_text("utf-8"))) for path in folder.glob("outcomes/*.json")]
    return sorted(found, key=lambda one: (one.target, one.method, one.seed))


def write_csv(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write one row per search."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Outcome)], lineterminator="\n")
        table.writeheader()
        table.writerows(map(asdict, outcomes))


def with_error(values: Sequence[float]) -> str:
    """Return the mean of seeds, with its standard error where there are several."""
    error = f" ± {stdev(values) / len(values) ** 0.5:.1f}" if len(values) > 1 else ""
    return f"{fmean(values):.1f}{error}"


def markdown(outcomes: Sequence[Outcome]) -> str:
    """Return the table of the outcomes, a row for each target and method, and the published rows."""
    columns = ("hits", "circles", "novel_circles", "scores", "patterns", "mass", "logp", "invalid", "seconds")
    names = (
        "hits",
        "diverse hits",
        "novel ones",
        "unique scores",
        "filter: patterns",
        "mass",
        "logP",
        "invalid",
    )
    lines = [f"| target | method | seeds | {' | '.join(names)} | s |", "|---" * (len(columns) + 3) + "|"]
    grouped = defaultdict[tuple[str, str], list[Outcome]](list)
    for one in outcomes:
        grouped[one.target, one.method].append(one)
    for target in sorted({target for target, _ in grouped}):
        ours = {method: found for (name, method), found in grouped.items() if name == target}
        for method, found in sorted(ours.items(), key=lambda item: -fmean(one.circles for one in item[1])):
            cells = [with_error([getattr(one, name) for one in found]) for name in columns]
            lines.append(f"| {target} | {method} | {len(found)} | {' | '.join(cells)} |")
        for method, (circles, novel) in PUBLISHED.get(target, {}).items():
            row = f"| {target} | *{method}, published* | 5 | | {circles} | {novel} | 10,000 |"
            lines.append(row + " |" * (len(columns) - 4))
    return "\n".join(lines)
