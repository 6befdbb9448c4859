"""The command line: `molrl train | pretrain | sample | score | evaluate | oracle`, each with Hydra overrides.

Exit codes: 0 done; 1 failed while running; 2 wrong use; 3 nothing could be done; 4 some records of a file could not be
scored; 130 after Ctrl-C; 143 after SIGTERM.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent
from typing import Any

COMMANDS = {
    "train": "fine-tune a pretrained model toward a reward",
    "pretrain": "train a diffusion model of molecules, shapes or images",
    "sample": "draw molecules, shapes or images from a model",
    "score": "score a file of molecules or shapes",
    "evaluate": "measure a set of molecules or shapes",
    "oracle": "try every algorithm on problems with known answers",
}

FILES = ("score", "evaluate")  # commands that take a file's name as it is
RUNS = ("train", "pretrain")  # commands with a folder in which they go on
PATHS = (
    *("file", "out", "run", "task.weights", "weights", "init", "data.path", "data.root", "reference"),
    *("reward.site.receptor", "reward.site.ligand", "task.prompts", "reward.head", "reward.model"),
)
MOST_THREADS, MOST_BY_DEFAULT = 1024, 16

HELP = """molrl: fine-tune diffusion models toward rewards.

usage: molrl COMMAND [FILE] [setting=value ...] [--cfg] [--help] [--version]

commands
{commands}

examples
  molrl train task=qed algo=rgdm                  the main job, in minutes on two cores
  molrl train task=qed algo=ddpo seed=1 run=runs/mine iterations=100
  molrl train reward=synthesisability             toward another reward than the task's own
  molrl train task=docking reward.site.receptor=r.pdb reward.site.ligand=l.sdf  into the pocket where a ligand is
  molrl sample n=100 out=new.sdf                  from the shipped model
  molrl sample weights=runs/mine/model n=100      from the model a run made
  molrl score new.sdf reward=qed,sa               one CSV row per molecule, failures explained
  molrl score chair.glb reward=shape_stability    a mesh, a file of points, or a folder of them
  molrl evaluate new.sdf reference=qm9_heavy      validity, uniqueness, novelty, stability
  molrl evaluate samples.npz                      of shapes: 1-NNA, coverage, MMD, what stands
  molrl pretrain model=heavy data=qm9 data.path=qm9.npz
  molrl pretrain model=shapes                     point clouds, from procedural shapes
  molrl train task=alignment algo=ddpo            images that show what their prompt says

molrl COMMAND --help lists a command's settings; --cfg prints what a run would use and stops.
A run that was interrupted goes on with the same command once more, or with `molrl train resume=ITS_FOLDER`.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every expected error is one line."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP.format(commands="\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items())))
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        from molrl import __version__

        print(__version__)
        return 0
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads that spin starve the reward workers
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from molrl.machine.interruption import exit_code, terminable

    try:
        with terminable():
            return run(arguments[0], arguments[1:])
    except KeyboardInterrupt as stop:
        return complain("interrupted", exit_code(stop))


def run(command: str, arguments: Sequence[str]) -> int:
    """Compose, check, build, go."""
    from molrl.config import ConfigError

    try:
        if command not in COMMANDS:
            raise ConfigError(f"{command}: no such command; known are {', '.join(COMMANDS)}")
        if "--help" in arguments or "-h" in arguments:
            print(usage(command, arguments))
            return 0
        settings = [item for item in arguments if item != "--cfg"]
        if command in RUNS and any(item.startswith("resume=") for item in settings):
            from molrl.runs.resume import resumed

            config = resumed(command, settings)
        else:
            config = composed(command, overrides(command, settings))
        if "--cfg" in arguments:
            print(as_yaml(config))
            return 0
        return start(command, config)
    except (ConfigError, ImportError) as error:  # the latter: an extra that is not installed
        return complain(error, 2)
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        if os.environ.get("MOLRL_TRACEBACK"):
            raise
        return complain(error, 1)


def composed(command: str, settings: Sequence[str]) -> dict[str, Any]:
    """The configuration; `molrl score reward=qed,sa` is composed for each reward, and `reward` then has them by name.

    Settings of the reward, such as reward.workers=4, are those of all of them that have such a setting.
    """
    from molrl.config import compose, known_settings

    names = several(command, settings)
    if not names:
        return compose(command, settings)
    rest = [item for item in settings if not item.startswith("reward=")]
    known = {name: set(known_settings(command, [f"reward={name}"])) for name in names}
    some = set().union(*known.values())
    each = {
        name: compose(command, [*(item for item in rest if meant(item, known[name], some)), f"reward={name}"])
        for name in names
    }
    first = each[names[0]]
    chosen = {**first["chosen"], "reward": ",".join(each)}
    return {**first, "chosen": chosen, "reward": {name: config["reward"] for name, config in each.items()}}


def meant(setting: str, known: set[str], some: set[str]) -> bool:
    """Whether a setting is for this reward: known to it, or to none of them, which then is an error."""
    name = setting.partition("=")[0]
    return name in known or name not in some


def several(command: str, settings: Sequence[str]) -> list[str]:
    """The rewards of `molrl score reward=qed,sa`; none where one or none is given."""
    given = [item.removeprefix("reward=").strip("[]") for item in settings if item.startswith("reward=")]
    found = [name.strip() for name in given[-1].split(",") if name.strip()] if command == "score" and given else []
    return list(dict.fromkeys(found)) if len(found) > 1 else []


def overrides(command: str, arguments: Sequence[str]) -> list[str]:
    """`molrl score FILE` is short for `file=FILE`; everything else is key=value."""
    from molrl.config import ConfigError

    found: list[str] = []
    for item in arguments:
        key, equals, value = item.partition("=")
        if item.startswith("-"):
            raise ConfigError(f"{item}: no such option; settings are written name=value, see molrl {command} --help")
        if command in FILES and (not equals or os.path.exists(item)):
            found.append(f"file={quoted(item)}")
        elif not equals or not key:
            raise ConfigError(f"{item}: settings are written name=value, see molrl {command} --help")
        else:
            found.append(f"{key}={quoted(value)}" if key in PATHS and value != "null" else item)
    if (files := sum(item.startswith("file=") for item in found)) > 1:
        raise ConfigError(f"got {files} files, molrl {command} takes one at a time")
    return found


def quoted(path: str) -> str:
    """A path as one value of Hydra's grammar; ~ is the home folder."""
    if path[:1] in "'\"":
        return path
    return "'" + os.path.expanduser(path).replace("\\", "\\\\").replace("'", "\\'") + "'"


def start(command: str, config: dict[str, Any]) -> int:
    """Hand over to what the command is about."""
    from molrl.config import build
    from molrl.runs.folder import finished

    if command == "train" and (said := finished(config)):  # before torch is loaded
        print(said)
        return 0
    set_threads(config["threads"])
    if command == "train":
        from molrl.run import train

        return train(config)
    settings = {name: value for name, value in config.items() if name not in ("chosen", "threads")}
    if command == "score" and "_target_" in config["reward"]:
        settings["reward"] = {config["chosen"]["reward"]: config["reward"]}  # its name is that of a column
    kept = {"config": config} if command == "pretrain" else {}  # in the folder of the run
    return int(build({**settings, "_partial_": True}, "", **kept)())


def set_threads(threads: Any) -> None:
    """Torch threads: as asked, or as OMP_NUM_THREADS says, or one for each usable core."""
    from molrl.config import ConfigError

    if threads is not None and (type(threads) is not int or not 1 <= threads <= MOST_THREADS):
        raise ConfigError(f"threads={threads!r}: expected 1 to {MOST_THREADS}, or null for the usable cores")
    import torch

    from molrl.machine.device import usable_cores

    if threads is not None:
        torch.set_num_threads(threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(usable_cores(), MOST_BY_DEFAULT))


def usage(command: str, arguments: Sequence[str]) -> str:
    """The settings of a command with their defaults and comments, straight from the YAML of what was chosen."""
    from molrl.config import CONF, choices, groups

    if names := several(command, arguments):
        arguments = [f"reward={names[0]}"]
    title, _, own = (CONF / f"{command}.yaml").read_text().partition("\n")
    chosen = groups(command, arguments)
    file = "FILE " if command in FILES else ""
    parts = [f"{title.lstrip('# ')}\n\nusage: molrl {command} {file}[setting=value ...] [--cfg]"]
    lines = [f"{group}={name}   one of: {', '.join(choices(folder))}" for group, (folder, name) in chosen.items()]
    parts += ["\n".join(lines), plain(own)]
    for group, (folder, name) in chosen.items():
        text = read_with_parts(CONF / folder / f"{name}.yaml")
        nested = plain(text) if "@package _global_" in text else f"{group}:\n{indent(plain(text), '  ')}"
        parts.append(f"with {group}={name}:\n{indent(nested, '  ')}")
    parts.append(f"molrl {command} ... --cfg prints all settings as they would be used.")
    return "\n\n".join(filter(None, parts))


def read_with_parts(path: Path) -> str:
    """Return the YAML of a choice, after that of the files beside it or below that it builds on."""
    import yaml

    text = path.read_text()
    parts = [
        item for item in (yaml.safe_load(text) or {}).get("defaults", []) if type(item) is str and item != "_self_"
    ]
    return "\n".join([*(read_with_parts(path.parent / f"{part}.yaml") for part in parts), text])


def plain(text: str) -> str:
    """YAML without what only Hydra needs to know."""
    lines, skipping = list[str](), False
    for line in text.rstrip().splitlines():
        skipping = line.startswith("defaults:") or (skipping and line.startswith(" "))
        if not skipping and not line.lstrip().startswith(("_target_:", "_partial_:", "_shared_:", "# @package")):
            lines.append(line)
    return "\n".join(lines).strip("\n")


def as_yaml(config: dict[str, Any]) -> str:
    """The resolved configuration."""
    import yaml

    return str(yaml.safe_dump(config, sort_keys=False)).rstrip()


def complain(error: object, code: int) -> int:
    """One line on stderr, written at once: processes of one run that say the same do not mix theirs."""
    known = isinstance(error, OSError) and error.filename is not None
    text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and known else str(error)
    sys.stderr.write(f"molrl: {' '.join(text.split())}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
