"""`molrl doctor`: what this machine can do, which extras are there, what is wrong. It never uses the network."""

import os
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from molrl.arguments import Options
from molrl.config import ConfigError
from molrl.exit_codes import ExitCode
from molrl.listing import terminal_width
from molrl.machine.inspection import Finding
from molrl.version import __version__

USAGE = """molrl doctor

  Says what this machine computes with, which extras are installed and what they are for, and draws a few samples.
  The exit code is 0 where all is well, else 6, and each problem is one line at the end."""
USES = {  # of extras that no choice needs; the others are explained by the comments of what needs them
    "ase": "molecules to and from ASE",
    "hub": "policy=hub:OWNER/NAME and molrl push",
    "fcd": "the Frechet ChemNet distance of molrl evaluate",
    "pandas": "the metrics of a run as a data frame",
    "parquet": "tables of molrl score as .parquet",
    "posebusters": "the tests of molrl evaluate",
    "prolif": "the check of contacts in the tests",
    "ray": "reward.workers=ray",
}
MAX_NEEDING = 3  # choices that are named for one extra
LINKED = ("models", "rewards", "data", "conf")  # folders beside the package in a checkout
ADVICE = "pip install --editable ., or git config core.symlinks true && git checkout -- molrl"
SAMPLES, STEPS = 4, 20


def doctor(options: Options) -> int:
    """Print what is found, and what is wrong at the end; return the exit code.

    Raises:
        ConfigError: it was given settings, and takes none.
    """
    if options.settings:
        raise ConfigError(f"doctor: takes no settings, got {' '.join(options.settings)}")
    findings: list[Finding] = []
    for topic, check in CHECKS.items():
        new = carefully(topic, check)
        print(*map(describe, new), sep="\n", flush=True)
        findings += new
    problems = [finding for finding in findings if finding.problem]
    for finding in problems:
        print(f"molrl: {finding.topic}: {' '.join(finding.problem.split())}", file=sys.stderr)
    print(f"\n{len(problems)} {'problem' if len(problems) == 1 else 'problems'}" if problems else "\nall is well")
    return ExitCode.FAILED if problems else ExitCode.DONE


def describe(finding: Finding) -> str:
    """Return a finding in two columns that fit the terminal; ! marks a problem."""
    title = f"{'!' if finding.problem else ' '} {finding.topic:<14}"
    wrapper = textwrap.TextWrapper(terminal_width(), break_long_words=False, break_on_hyphens=False)
    wrapper.subsequent_indent = " " * len(title)
    return wrapper.fill(f"{title}{finding.text}")


def carefully(topic: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """Return what a check finds; what it raises is a problem."""
    try:
        return check()
    except Exception as error:  # whatever is broken here, the other checks go on
        return [Finding(topic, "could not be checked", f"{type(error).__name__}: {error}")]


def check_installation() -> list[Finding]:
    """Return the version, whether the folders of the package are there, and requirements that are not met."""
    from molrl.requirements import installed, is_met, requirements

    place = Path(__file__).parent
    found = [Finding("molrl", f"{__version__} in {place}")]
    for name in LINKED:
        if (file := place / name).is_file():  # a checkout where links are not to be had has their text instead
            lost = find_spec(f"molrl.{name}") is None
            problem = f"{file} is a text file in place of a link, and no installation leads past it: {ADVICE}"
            found.append(Finding("links", f"{file} is a text file in place of a link", problem if lost else ""))
    if __version__ == "0":
        return [*found, Finding("metadata", "missing", "molrl was never installed: pip install --editable .")]
    for one in requirements()[""]:
        if not is_met(one):
            have = installed(one) or "none"
            found.append(Finding(one.name, have, f"{one.name}{one.specifier} is required, got {have}"))
    return found


def check_machine() -> list[Finding]:
    """Return what is found of this machine, and whether torch can compile for it."""
    import torch

    from molrl.compilation import compiler_problem
    from molrl.machine.inspection import inspect_machine

    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    compilers = [f"{name}: {compiler_problem(torch.device(name)) or 'torch can compile'}" for name in devices]
    return [*inspect_machine(os.environ), Finding("compile", "; ".join(compilers))]


def check_extras() -> list[Finding]:
    """Return what is installed of each extra, and what the extra is for; one that is too old is a problem."""
    from molrl.requirements import installed, is_met, requirements

    found, uses = [], uses_of_extras()
    for extra, required in sorted((name, lines) for name, lines in requirements().items() if name):
        missing = [one.name for one in required if installed(one) is None]
        old = [f"{one.name} {installed(one)}, needs {one.specifier}" for one in required if not is_met(one)]
        old = [] if missing else old
        have = ", ".join(f"{one.name} {installed(one)}" for one in required if one.name not in missing)
        remedy = f"pip install 'molrl[{extra}]'"
        state = have if not missing else f"not installed: {remedy}" if not have else f"{have}; the rest: {remedy}"
        problem = f"{', '.join(old)}: {remedy} --upgrade" if old else ""
        found.append(Finding(f"[{extra}]", f"{state} (for {uses[extra]})", problem))
    return found


def uses_of_extras() -> dict[str, str]:
    """Return what each extra is for: the choices that say that they need it, or what is not a choice."""
    from molrl.catalogue import GROUPS, catalogue

    needing: dict[str, list[str]] = {}
    for entry in (entry for kind in GROUPS for entry in catalogue(kind)):
        if entry.extra is not None:
            needing.setdefault(entry.extra, []).append(f"{GROUPS[entry.kind]}={entry.name}")
    shortened = {
        extra: ", ".join(names[:MAX_NEEDING]) + (f" and {more} more" if (more := len(names) - MAX_NEEDING) > 0 else "")
        for extra, names in needing.items()
    }
    return USES | shortened


def check_models() -> list[Finding]:
    """Return whether every file of the models that ship is as it was recorded."""
    from molrl.models.digests import damaged_files, shipped_files

    damaged = damaged_files()
    text = f"{len(shipped_files())} files of the models that ship, {len(damaged)} of them damaged"
    advice = "fetch the package or the checkout again"
    return [Finding("models", text, f"{', '.join(damaged[:5])}: not as recorded; {advice}" if damaged else "")]


def check_folder() -> list[Finding]:
    """Return whether runs can be written where runs go by default."""
    from molrl.machine.inspection import inspect_folder

    return [inspect_folder(Path("runs"))]


def check_sampling() -> list[Finding]:
    """Draw a few samples of the default model, write them, and have the reader of their domain read them."""
    from molrl.api import load_policy, sampling_of
    from molrl.composition import Composition
    from molrl.machine.device import choose_device
    from molrl.models.draws import draw_samples

    name, device = Composition("sample").chosen["policy"], choose_device("cpu")
    sampling = sampling_of(load_policy(name, num_steps=STEPS), {}, "cpu", {})
    start = time.perf_counter()
    samples = draw_samples(sampling.policy, sampling.decoder, SAMPLES, seed=0, batch=SAMPLES, device=device)
    seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        readable = sampling.decoder.write(samples, Path(folder) / f"samples{sampling.decoder.suffixes[0]}", {})
    text = f"policy={name}: {SAMPLES} samples in {seconds:.1f} s, {readable} of them readable"
    broken = "not one sample can be read: the weights or a toolkit are not those that molrl was tested with"
    return [Finding("sampling", text, "" if readable else broken)]


CHECKS: dict[str, Callable[[], list[Finding]]] = {
    "molrl": check_installation,
    "machine": check_machine,
    "extras": check_extras,
    "models": check_models,
    "runs": check_folder,
    "sampling": check_sampling,
}
