"""The command line as tests call it: in this process, with its output."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from molrl import progress
from molrl.cli import main
from molrl.data.molecules.bonds import BondReader
from molrl.data.shapes.records import DEFAULT_READER, ShapeReader
from molrl.rewards.molecules.files import MoleculeFiles
from molrl.rewards.scoring.command import score_file
from molrl.rewards.scoring.summary import Summary
from molrl.rewards.shapes.files import ShapeFiles

QUICK_RUN = (
    *("iterations=2", "rollouts=8", "minibatch=16", "evaluate=8", "threads=1"),
    *("policy.num_steps=5", "reward.workers=0"),
)
OF_GRADIENTS = ("adjoint", "draft", "refl")  # follow the gradient of a reward; that of task=qed has none
OF_PIPELINES = (
    "flow_awm",
    "flow_grpo",
    "flow_nft",
    "grpo_sd",
)  # numbers for pipelines of images, in groups of a prompt
QUICK_PRETRAINING = (
    *("data.n=40", "data.max_heavy=4", "evaluate=4", "num_steps=3", "threads=1"),
    "model.network={kind: egnn, width: 8, pair_width: 8, blocks: 1, radial: 4}",
    *("training.steps=4", "training.batch=8", "training.save_every=2", "training.warmup=1", "training.cooldown=1"),
)


progress.SILENCE = 1e6  # seconds: what a command says is compared as a whole, on slow machines too


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def molrl(*arguments: str) -> Outcome:
    """Run one command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return Outcome(code, out.getvalue(), err.getvalue())


def complaint(arguments: Sequence[str], code: int) -> str:
    """Return the message of a command that must fail, with this exit code and one line on stderr."""
    got = molrl(*arguments)
    assert got.code == code, got
    assert got.err.startswith("molrl: "), got
    assert got.err.count("\n") == 1, got
    return got.err


def score_molecules(
    path: str | Path,
    rewards: Mapping[str, Any],
    out: str | Path,
    *,
    reader: BondReader,
    embed: bool = False,
    smiles_column: str | None = None,
    **more: Any,
) -> Summary:
    """Score a file of molecules by the command line."""
    source = MoleculeFiles(reader=reader, embed=embed, smiles_column=smiles_column)
    return score_file(path, rewards, out, source, **more)


def score_shapes(
    path: str | Path, rewards: Mapping[str, Any], out: str | Path, *, shapes: ShapeReader = DEFAULT_READER, **more: Any
) -> Summary:
    """Score a file or folder of shapes."""
    return score_file(path, rewards, out, ShapeFiles(shapes), **more)
