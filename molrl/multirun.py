"""`molrl train --multirun`: a run for every combination of settings with several values, with a table and a report.

Hydra's sweepers and launchers do the work, so its plug-ins do as well (`hydra/launcher=joblib`,
`hydra/sweeper=optuna`). A sweeper is given each run's mean reward after training, which is to be large.
"""

import csv
import io
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from molrl.arguments import is_hydras, takes_path
from molrl.composition import CONF
from molrl.config import ConfigError
from molrl.exit_codes import ExitCode
from molrl.machine.files import replace_file
from molrl.machine.interruption import Terminated
from molrl.override import as_value, in_quotes, path_value, shell_line, unquoted
from molrl.runs.folder import dated_folder, read_summary

TABLE, SWEEP = "table.csv", "multirun.yaml"  # in the folder of a sweep; Hydra writes the latter
INTERRUPTIONS: Mapping[int, type[KeyboardInterrupt]] = {  # they end the sweep as well
    ExitCode.INTERRUPTED: KeyboardInterrupt,
    ExitCode.TERMINATED: Terminated,
}


def multirun(
    command: str, settings: Sequence[str], folders: Sequence[Path], main: Callable[[Sequence[str]], int]
) -> int:
    """Make every run, print a table of them, and return the exit code.

    Args:
        command: "train"; runs of others have nothing to compare.
        settings: of the runs, and Hydra's own (`hydra.sweep.dir=FOLDER`, `hydra/launcher=joblib`).
        folders: the user's own YAML folders.
        main: runs one command line and returns its exit code.

    Raises:
        ConfigError: a setting that a sweep cannot have.
    """
    from hydra import initialize_config_dir
    from hydra._internal.hydra import Hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if command != "train":
        raise ConfigError(f"--multirun: for molrl train, got molrl {command}")
    if any(item.partition("=")[0] in ("run", "resume") for item in settings):
        raise ConfigError("run, resume: not with --multirun; hydra.sweep.dir=FOLDER names the folder of all runs")
    sweep = sweep_folder(settings)
    if sweep.exists() and any(sweep.iterdir()) and not (sweep / SWEEP).is_file():
        raise ConfigError(f"hydra.sweep.dir={sweep}: exists and is not the folder of a sweep; name another one")
    jobs = [f"++{item.lstrip('+')}" for item in map(with_quotes, settings) if not is_hydras(item)]
    own = [item for item in settings if is_hydras(item) and not item.startswith("hydra.sweep.dir=")]
    job = Job(main, str(sweep.resolve()), tuple(str(folder.resolve()) for folder in folders))
    try:
        with initialize_config_dir(str((CONF / "sweep").resolve()), version_base="1.3"):
            hydra = Hydra("molrl", GlobalHydra.instance().config_loader())
            overrides = [f"hydra.sweep.dir={in_quotes(str(sweep.resolve()))}", *own, *jobs]
            hydra.multirun("multirun", job, overrides, with_log_configuration=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    if rows := table_rows(sweep):
        print(write_table(sweep, rows))
        write_comparison(sweep)
    failed = sorted(path.name for path in sweep.iterdir() if path.is_dir() and not (path / "summary.json").exists())
    if failed:
        print(f"molrl: {len(failed)} of {len(rows) + len(failed)} runs failed: {', '.join(failed)}", file=sys.stderr)
    return ExitCode.FAILED if failed else ExitCode.DONE


class Job:
    """One run of a sweep; Hydra may send it to another process.

    Attributes:
        main: runs one command line and returns its exit code.
        sweep: folder of all runs.
        folders: the user's own YAML folders.
    """

    def __init__(self, main: Callable[[Sequence[str]], int], sweep: str, folders: tuple[str, ...]) -> None:
        self.main = main
        self.sweep = sweep
        self.folders = folders

    def __call__(self, _config: Any) -> float:
        """Make the run that Hydra's overrides ask for, and return its mean reward after training; NaN: it failed."""
        from hydra.core.hydra_config import HydraConfig

        hydra = HydraConfig.get()
        folder = Path(self.sweep) / hydra.sweep.subdir
        settings = [without_escapes(item.removeprefix("++")) for item in hydra.overrides.task]
        options = [option for one in self.folders for option in ("--config-dir", one)]
        words = ["train", *settings, f"run={as_value(folder)}", *options]
        print(f"run {hydra.job.num}: {shell_line(['molrl', *words])}", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        code = self.main(words)
        if code in INTERRUPTIONS:
            raise INTERRUPTIONS[code]
        if code:
            return math.nan  # the other runs go on
        return float(read_summary(folder)["after"]["reward_mean"])


def write_comparison(sweep: Path) -> None:
    """Write the page that compares the runs into the folder of the sweep, or say why there is none."""
    from molrl.runs.report.command import report

    try:
        report(runs=[str(sweep)], out=None, overwrite=False)
    except (ConfigError, OSError) as error:  # the runs are done
        print(f"molrl: the report of the sweep could not be written: {error}", file=sys.stderr)


def sweep_folder(settings: Sequence[str]) -> Path:
    """Return the folder of all runs of a sweep."""
    given = [item.partition("=")[2] for item in settings if item.startswith("hydra.sweep.dir=")]
    return Path(unquoted(given[-1]) if given else dated_folder("multirun"))


def with_quotes(item: str) -> str:
    """Return a setting with its path in quotes, where it is one path and not several."""
    key, _, value = item.partition("=")
    return f"{key}={path_value(value)}" if takes_path(key, value) and "," not in value else item


def without_escapes(item: str) -> str:
    """Return a setting of Hydra's sweeper as a user writes it: it escapes the colon of `reward=my_rewards.py:rings`."""
    key, _, value = item.partition("=")
    if "\\" not in value or value[0] in "'\"[{":
        return item
    plain = re.sub(r"\\(.)", r"\1", value)
    return f"{key}={as_value(plain)}"


def table_rows(sweep: Path) -> list[dict[str, str]]:
    """Return a row for each finished run: what it chose and its seed, and what it came to."""
    rows = []
    for path in sorted(sweep.glob("*/summary.json"), key=lambda path: (len(path.parent.name), path.parent.name)):
        summary = read_summary(path.parent)
        before, after = summary["before"], summary["after"]
        figures = {
            **{"before": before["reward_mean"], "after": after["reward_mean"], "sem": after["reward_sem"]},
            **{name: after.get(name) for name in ("validity", "uniqueness", "kl")},
        }
        shown = {name: "-" if value is None else f"{value:.4f}" for name, value in figures.items()}
        own = {name: str(summary[name]) for name in ("task", "reward", "algo", "seed")}
        cost = {"queries": str(summary["reward_queries"]), "minutes": f"{summary['wall_seconds'] / 60:.1f}"}
        rows.append({"run": path.parent.name, **own, **shown, **cost})
    return rows


def write_table(sweep: Path, rows: Sequence[dict[str, str]]) -> str:
    """Write the rows as CSV into the folder of the sweep and return them as text in columns."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    replace_file(sweep / TABLE, text.getvalue().encode())
    width = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    lines = ["  ".join(name.ljust(width[name]) for name in width)]
    lines += ["  ".join(row[name].ljust(width[name]) for name in width) for row in rows]
    return "\n".join([*(line.rstrip() for line in lines), f"table: {sweep / TABLE}"])
