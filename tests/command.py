"""The command line as tests call it: in this process, with what it printed."""

import contextlib
import io
from collections.abc import Sequence
from typing import NamedTuple

from molrl.cli import main

QUICK_RUN = (
    *("iterations=2", "rollouts=8", "minibatch=16", "evaluate=8", "threads=1"),
    *("task.num_steps=5", "reward.workers=0"),
)
QUICK_PRETRAINING = (
    *("data.n=40", "data.max_heavy=4", "evaluate=4", "num_steps=3", "threads=1"),
    "model.network={kind: egnn, width: 8, pair_width: 8, blocks: 1, radial: 4}",
    *("training.steps=4", "training.batch=8", "training.save_every=2", "training.warmup=1", "training.cooldown=1"),
)


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
    """What a command that must fail says, after a look at its manners: that exit code and one line on stderr."""
    got = molrl(*arguments)
    assert got.code == code, got
    assert got.err.startswith("molrl: "), got
    assert got.err.count("\n") == 1, got
    return got.err
