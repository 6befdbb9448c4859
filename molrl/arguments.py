"""The arguments of a command: options and settings, and the configuration that they ask for."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from molrl.composition import Composition
from molrl.config import ConfigError
from molrl.domains import domain_of_file
from molrl.override import path_value, unquoted
from molrl.plugins import is_code
from molrl.suggestions import did_you_mean

COMMANDS = {
    "train": "fine-tune a pretrained model toward a reward",
    "pretrain": "train a diffusion model",
    "sample": "draw samples from a model",
    "score": "score the samples in a file",
    "evaluate": "measure a set of samples",
    "report": "write the report of a run, or compare several",
    "oracle": "try every algorithm on problems with known answers",
    "export": "write a model as a folder that other programs load",
    "migrate": "rewrite a model folder of an older version",
}
TOOLS = {  # commands that no YAML describes; `molrl.cli.TOOL_FUNCTIONS` has what carries them out
    "list": "show what rewards, algorithms, tasks, policies and data there are",
    "card": "write the model card of a run",
    "push": "share a model on the Hugging Face Hub",
    "doctor": "check this machine, what is installed, and the models that ship",
}
OPTIONS = ("--cfg", "--multirun", "--config-dir", "--plugin", "--help")
QUOTES = ("'", '"', "[", "{")  # openings of values in which a comma parts nothing
# The setting that the first word of a command stands for.
FILES = {"score": "file", "evaluate": "file", "export": "policy", "migrate": "folder", "report": "runs"}
SEVERAL = ("report",)  # commands that take any number of such words
PATHS = {
    "file",
    "folder",
    "out",
    "run",
    "init",
    "path",
    "root",
    "reference",
    "known",
    "weights",
    "receptor",
    "ligand",
    "prompts",
}
PATHS |= {"head", "target", "model", "source", "config"}  # last parts of the names of settings that take a path


@dataclass
class Options:
    """The arguments of a command line, its settings and its switches.

    Attributes:
        settings: `name=value`, and files as they are written.
        help, cfg, multirun: the options of these names.
        folders: the user's own YAML folders.
        plugins: packages that YAML may build objects of.
    """

    settings: list[str] = field(default_factory=list)
    help: bool = False
    cfg: bool = False
    multirun: bool = False
    folders: list[Path] = field(default_factory=list)
    plugins: list[str] = field(default_factory=list)


def parse(command: str, arguments: Sequence[str]) -> Options:
    """Sort the arguments of a command into options and settings.

    Raises:
        ConfigError: there is no such option, or one lacks its value.
    """
    options, rest = Options(), list(arguments)
    while rest:
        item = rest.pop(0)
        name, equals, value = item.partition("=")
        if name in ("-h", "--help"):
            options.help = True
        elif name in ("-m", "--multirun"):
            options.multirun = True
        elif name in ("-c", "--cfg"):
            options.cfg = True
            kind = value if equals else rest.pop(0) if rest and rest[0] in ("job", "hydra", "all") else "job"
            if kind != "job":
                raise ConfigError(f"--cfg {kind}: only --cfg job is there; it prints all settings of the command")
        elif name in ("-cd", "--config-dir", "--plugin"):
            if not equals and not rest:
                raise ConfigError(f"{name}: needs a {'package' if name == '--plugin' else 'folder'}")
            value = value if equals else rest.pop(0)
            if name == "--plugin":
                options.plugins.append(value)
            else:
                options.folders.append(Path(value).expanduser())
        elif item.startswith("-"):
            hint = did_you_mean(name, OPTIONS) or f"; settings are written name=value, see molrl {command} --help"
            raise ConfigError(f"{item}: no such option{hint}")
        else:
            options.settings.append(item)
    return options


def composed(command: str, settings: Sequence[str], folders: Sequence[Path]) -> dict[str, Any]:
    """Return the configuration; `molrl score reward=qed,sa` is composed for each reward, and `reward` has them by name.

    Settings of the reward, such as reward.workers=4, are those of all of them that have such a setting.
    """
    names = several(command, settings)
    if not names:
        return Composition(command, settings, folders, requested_domain(command, settings, folders)).config
    rest = [item for item in settings if not item.startswith("reward=")]
    domains = domains_of_rewards(names, rest, folders)
    known = {name: set(Composition(command, [f"reward={name}"], folders, domains[name]).settings) for name in names}
    some = set().union(*known.values())
    each = {}
    for name in names:
        own = [item for item in rest if (key := item.partition("=")[0]) in known[name] or key not in some]
        each[name] = Composition(command, [*own, f"reward={name}"], folders, domains[name]).config
    columns = {name: name.rpartition(":")[2] if is_code(name) else name for name in names}
    if len(set(columns.values())) < len(names):
        raise ConfigError(f"reward={','.join(names)}: two of them have the same name, and each is a column")
    first = each[names[0]]
    chosen = {**first["chosen"], "reward": ",".join(names)}
    return {**first, "chosen": chosen, "reward": {columns[name]: each[name]["reward"] for name in names}}


def domains_of_rewards(names: Sequence[str], rest: Sequence[str], folders: Sequence[Path]) -> dict[str, str | None]:
    """Return the domain that each of several rewards is to score: that of the others, or of the file, for user code."""
    own = {name: Composition("score", [f"reward={name}"], folders).choices["reward"].domain for name in names}
    others = [domain for domain in own.values() if domain is not None]
    shared = others[0] if others else requested_domain("score", [*rest, f"reward={names[0]}"], folders)
    return {name: shared if domain is None else None for name, domain in own.items()}


def requested_domain(command: str, settings: Sequence[str], folders: Sequence[Path] = ()) -> str | None:
    """Return the domain of a command whose file alone tells it; None where its groups do."""
    given = {key: value for key, _, value in (item.partition("=") for item in settings)}
    if command == "evaluate" and given.get("domain", "null") != "null":
        return given["domain"]
    if "file" not in given or command not in ("evaluate", "score"):
        return None
    if command == "score" and Composition(command, settings, folders).choices["reward"].domain is not None:
        return None
    return domain_of_file(unquoted(given["file"])).name


def first_values(settings: Sequence[str]) -> list[str]:
    """Return the settings of the first run of a sweep: the first of several values, in `seed=0,1,2` the 0.

    Hydra's own are left out, which are those of the sweep and not of a run.
    """
    pairs = (item.partition("=") for item in settings if not is_hydras(item))
    return [
        f"{name}{equals}{value if value[:1] in QUOTES else value.partition(',')[0]}" for name, equals, value in pairs
    ]


def is_hydras(item: str) -> bool:
    """Tell whether a setting is Hydra's own."""
    return item.lstrip("+").startswith(("hydra.", "hydra/"))


def several(command: str, settings: Sequence[str]) -> list[str]:
    """Return the rewards of `molrl score reward=qed,sa`; none where one or none is given."""
    given = [item.removeprefix("reward=").strip("[]") for item in settings if item.startswith("reward=")]
    names = [name.strip() for name in given[-1].split(",") if name.strip()] if command == "score" and given else []
    return list(dict.fromkeys(names)) if len(names) > 1 else []


def overrides(command: str, arguments: Sequence[str]) -> list[str]:
    """Return the settings as Hydra takes them: `molrl score FILE` is short for `file=FILE`, and paths are quoted.

    Raises:
        ConfigError: something is no setting, or there are several files.
    """
    found: list[str] = []
    for item in arguments:
        key, equals, value = item.partition("=")
        if command in FILES and (not equals or os.path.exists(item)):
            found.append(f"{FILES[command]}={path_value(item)}")
        elif not equals or not key:
            raise ConfigError(f"{item}: settings are written name=value, see molrl {command} --help")
        else:
            found.append(f"{key}={path_value(value)}" if takes_path(key, value) else item)
    if command in SEVERAL:
        found = gathered(FILES[command], found)
    if (files := sum(item.startswith("file=") for item in found)) > 1:
        raise ConfigError(f"got {files} files, molrl {command} takes one at a time")
    return found


def gathered(name: str, settings: Sequence[str]) -> list[str]:
    """Return settings with those of one name, each with one value, as a single list of values."""
    values = [item.partition("=")[2] for item in settings if item.startswith(f"{name}=")]
    others = [item for item in settings if not item.startswith(f"{name}=")]
    whole = values[0] if len(values) == 1 and values[0].startswith("[") else f"[{','.join(values)}]"
    return [*others, f"{name}={whole}"] if values else others


def takes_path(key: str, value: str) -> bool:
    """Tell whether a setting takes a path, and was not given null or a list."""
    last = key.rpartition(".")[2]
    return (last in PATHS and key != "model") and value != "null" and not value.startswith("[")
