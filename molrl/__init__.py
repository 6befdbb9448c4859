"""Fine-tune diffusion models of molecules, shapes and images toward rewards.

    import molrl

    policy = molrl.load_policy("qm9_heavy")
    molecules = molrl.sample(policy, 100)
    values = molrl.score(molecules, "qed")

The functions of this module are what the commands do: `choices` (what there is), `load_policy`, `sample`, `score`,
`evaluate`, `train`, `pretrain` and `report`; `load_run` opens a run of before.
"""

import sys
from typing import TYPE_CHECKING, Any

from molrl.machine.threads import let_waiting_threads_sleep, use_default_threads
from molrl.version import __version__

let_waiting_threads_sleep()

if TYPE_CHECKING:
    from molrl.api import (
        choices,
        evaluate,
        load_policy,
        load_run,
        pretrain,
        report,
        sample,
        score,
        train,
    )
    from molrl.runs.result import RunResult

__all__ = [
    "RunResult",
    "__version__",
    "choices",
    "evaluate",
    "load_policy",
    "load_run",
    "pretrain",
    "report",
    "sample",
    "score",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import the public functions when they are first used: torch takes seconds."""
    if name in __all__:
        is_first = "torch" not in sys.modules  # so nobody has set the number of its threads
        from molrl import api

        if is_first:
            use_default_threads()
        return getattr(api, name)
    raise AttributeError(f"module 'molrl' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    """Return the public names, and nothing else."""
    return list(__all__)
