"""`molrl export RUN out=FOLDER`: a model as other programs load it, with what was trained merged into its weights."""

import os
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from molrl.config import ConfigError, settings
from molrl.domains import PolicySettings, domain
from molrl.exit_codes import ExitCode
from molrl.machine.files import staged_folder
from molrl.outputs import make_folder
from molrl.progress import stage


@runtime_checkable
class Exporter(Protocol):
    """A domain whose models have a format that other programs load."""

    def export(self, *, policy: Any, folder: Path) -> str:
        """Write the model of a policy into an empty folder, and return the line by which another program loads it."""
        ...


def export(*, policy: PolicySettings, out: str) -> int:
    """Write the model of a policy into a new folder, completely or not at all, and return the exit code.

    Args:
        policy: the model; of how it is sampled nothing is written.
        out: the folder, of which nothing may exist yet.

    Raises:
        ConfigError: something has this name, or models of this domain have no format but ours.
        CheckpointError: the model is missing or damaged.
    """
    about, folder = domain(policy.domain), Path(out)
    if not isinstance(about, Exporter):
        kind = f"a model of {policy.domain}, which have no format but ours"
        raise ConfigError(f"policy={policy.weights}: {kind}; its folder is what policy= takes")
    if os.path.lexists(folder):
        raise ConfigError(f"out={out}: exists; name a new folder")
    make_folder(folder.parent, "out")
    with settings(), stage(f"writing {out}"), staged_folder(folder) as staging:
        load = about.export(policy=policy, folder=staging)
    size = sum(path.stat().st_size for path in folder.rglob("*"))
    print(f"{out}: {size / 1e6:.0f} MB; {load.format(folder=out)}")
    return ExitCode.DONE
