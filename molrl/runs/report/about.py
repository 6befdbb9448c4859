"""The facts of a run beside its figures in a report: commands, versions, hardware and dates, in report/about.json."""

import json
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from molrl.glossary import TRAINING, Term, find_term
from molrl.machine.files import read_bounded, replace_file
from molrl.override import shell_line
from molrl.requirements import installed, requirements
from molrl.runs.report.sheet import FOLDER
from molrl.version import __version__

ABOUT = "about.json"
MAX_BYTES = 1 << 20
MAX_LAUNCHES = 50  # of a run, which are kept
PROGRAMS = ("molrl", "__main__.py")  # names of the command line's program


class About(NamedTuple):
    """The facts of a run that a report states besides its figures.

    Attributes:
        labels: metric -> label of the domain's metrics, the most important first.
        terms: what the metrics of the domain mean.
        launches: facts by name of each time that the run was begun or continued, the last one at the end.
    """

    labels: Mapping[str, str]
    terms: Mapping[str, Term]
    launches: Sequence[Mapping[str, str]]

    @property
    def glossary(self) -> Mapping[str, Term]:
        """Return what all metrics of the run mean, the labelled ones first."""
        known = {**self.terms, **TRAINING}
        labelled = {name: find_term(name, known)._replace(label=label) for name, label in self.labels.items()}
        return {**labelled, **{name: term for name, term in known.items() if name not in labelled}}


NOTHING = About({}, {}, [])


def write_about(folder: Path, labels: Mapping[str, str], terms: Mapping[str, Term], device: str) -> None:
    """Record this launch of a run, with the labels and the meaning of its metrics, in the folder of the run."""
    path = folder / FOLDER / ABOUT
    earlier = read_about(folder).launches
    path.parent.mkdir(exist_ok=True)
    launches = [*earlier, describe_launch(device)][-MAX_LAUNCHES:]
    about = {"labels": dict(labels), "terms": dict(terms), "launches": launches}
    replace_file(path, json.dumps(about, indent=1).encode())


def read_about(folder: Path) -> About:
    """Return what a run's folder says of the run; nothing where the file is missing or damaged."""
    try:
        found = json.loads(read_bounded(folder / FOLDER / ABOUT, MAX_BYTES))
        labels = {str(name): str(label) for name, label in found["labels"].items()}
        terms = {str(name): read_term(*term) for name, term in found.get("terms", {}).items()}
        launches = [{str(name): str(value) for name, value in one.items()} for one in found["launches"]]
        return About(labels, terms, launches[-MAX_LAUNCHES:])
    except (ArithmeticError, OSError, AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return NOTHING


def read_term(label: object, meaning: object, of: Sequence[object], most: float | None) -> Term:
    """Return what a metric means, from the list that JSON makes of it."""
    return Term(str(label), str(meaning), tuple(map(str, of)), None if most is None else int(most))


def describe_launch(device: str) -> dict[str, str]:
    """Return the command, the date, the hardware and the versions of this process."""
    from molrl.machine.device import usable_cores

    return {
        "command": command_of_process(),
        "started": datetime.now().astimezone().isoformat(" ", "seconds"),
        "device": device,
        "processor": f"{processor_name()}, {usable_cores()} usable cores",
        "system": platform.platform(),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }


def command_of_process() -> str:
    """Return the command line of this process as a shell takes it, or "from Python" where it is another program."""
    return shell_line(["molrl", *sys.argv[1:]]) if Path(sys.argv[0]).name in PROGRAMS else "from Python"


def processor_name() -> str:
    """Return the model of the processor, as far as the system tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of Python, of molrl and of the packages that it requires."""
    known = requirements()[""] if __version__ != "0" else []  # a checkout that was never installed has no metadata
    required = {one.name: installed(one) or "not installed" for one in known}
    return {"Python": platform.python_version(), "molrl": __version__, **required}
