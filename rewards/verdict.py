"""What becomes of one record of a file, in whatever process: it is read, scored by every reward, and written down.

Worker processes import this module, so it must not import torch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from rdkit import Chem
from rdkit.Chem import rdDepictor

from molrl.data.bonds import BondReader, Reading
from molrl.data.files import Skipped
from molrl.data.molecule import Molecule
from molrl.data.records import Record, has_geometry, molecule_of
from molrl.data.sdf import Block, bonded, record_text
from molrl.rewards.scores import Explained, Judge, Scored, careful, category

LOST = ("unreadable", "timeout", "crash", "error", "non-finite", "not scored")
"""Categories of reasons for a value that could not be had; all others are the molecule's own fault."""


class Inquiry(NamedTuple):
    """A record and the rewards that are asked about it."""

    record: Record
    rewards: tuple[str, ...]


class Verdict(NamedTuple):
    """What was found out about a record.

    Attributes:
        name: of the molecule, "" for none.
        smiles: "" where there is none.
        scored: by reward.
        parts: finite numbers that explain good values, by column.
        text: a record of an SDF file without its end mark, if one is wanted and there is a molecule.
        molecule: for rewards of another process, if there are any.
    """

    name: str
    smiles: str
    scored: Mapping[str, Scored]
    parts: Mapping[str, float]
    text: str = ""
    molecule: Molecule | None = None


@dataclass(frozen=True, kw_only=True)
class Examiner:
    """Reads records and scores them.

    Attributes:
        judges: by reward.
        reader: gives the SMILES of molecules that come without bonds.
        embedded: make geometries for those that have none.
        texts: write SDF records.
        molecules: hand the molecules back, for `others`.
        others: rewards that are not asked here but need the record to be readable.
    """

    judges: Mapping[str, Judge[Molecule]]
    reader: BondReader
    embedded: bool
    texts: bool
    others: tuple[str, ...]

    def __call__(self, inquiry: Inquiry) -> Verdict:
        record, rewards = inquiry
        entry = molecule_of(record, embedded=self.embedded)
        if isinstance(entry, Skipped):
            bad = Scored(math.nan, f"unreadable: {entry.reason}")
            smiles = getattr(record.content, "smiles", "")[:LONGEST_SMILES]
            return Verdict(record.name, smiles, dict.fromkeys((*rewards, *self.others), bad), {})
        reading = self.reader(entry)
        smiles = "" if reading.mol is None else Chem.MolToSmiles(reading.mol)
        found = {name: careful(self.judges[name], entry) for name in rewards}
        parts = explained(self.judges, entry, found)
        scored = {name: settled(one) for name, one in found.items()}
        text = written(record, entry, reading) if self.texts else ""
        return Verdict(record.name, smiles, scored, parts, text, entry if self.others else None)


LONGEST_SMILES = 10_000  # that a table shows


def settled(scored: Scored) -> Scored:
    """A score whose reason tells, by its category, whether the value was lost or is the molecule's fault."""
    known = math.isfinite(scored.value) or category(scored.reason) in LOST
    return Scored(scored.value, scored.reason if known else f"not scored: {scored.reason}".rstrip(": "))


def good(scored: Scored) -> bool:
    """Whether the value is a measurement: neither a floor nor missing."""
    return not scored.reason and math.isfinite(scored.value)


def part_columns(name: str, scorer: object) -> tuple[str, ...]:
    """The columns of a reward that says what it is made of."""
    return tuple(f"{name}.{part}" for part in getattr(scorer, "parts", ()))


def explained(scorers: Mapping[str, Any], molecule: Molecule, scored: Mapping[str, Scored]) -> dict[str, float]:
    """What values are made of, by column, as far as it is known and finite."""
    found: dict[str, float] = {}
    for name, one in scored.items():
        columns = part_columns(name, scorers[name])
        if columns:
            parts = {
                f"{name}.{part}": float(value) for part, value in explanation(scorers[name], molecule, one).items()
            }
            found |= {column: parts[column] for column in columns if math.isfinite(parts.get(column, math.nan))}
    return found


def explanation(scorer: Any, molecule: Molecule, scored: Scored) -> Mapping[str, float]:
    """The parts that came with a value, or that the scorer gives for a good one."""
    if isinstance(scored, Explained):
        return scored.parts
    try:
        return dict(scorer.explain(molecule)) if good(scored) else {}
    except Exception:  # the value itself is there
        return {}


def written(record: Record, molecule: Molecule, reading: Reading) -> str:
    """The SDF record of a molecule: the file's own where it is one, else the bonds as read, drawn if nowhere placed."""
    if isinstance(record.content, Block):
        return record.content.text
    if has_geometry(molecule) or molecule.graph is None:
        mol, _ = bonded(molecule, lambda _: reading)
    else:
        mol = Chem.Mol(molecule.graph)
        rdDepictor.Compute2DCoords(mol)
        Chem.Kekulize(mol, clearAromaticFlags=True)
    return record_text(mol, record.name, {}).removesuffix("$$$$\n")
