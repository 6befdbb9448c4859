"""The command line: `molrl train | pretrain | sample | score | evaluate`, each with Hydra overrides.

Exit codes: 0 done; 1 failed while running; 2 wrong use; 3 nothing could be done; 130 interrupted.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

COMMANDS = {
    "train": "fine-tune a pretrained model toward a reward",
    "pretrain": "train a molecule diffusion model",
    "sample": "draw molecules from a model",
    "score": "score a file of molecules",
    "evaluate": "measure a file of molecules by EDM's protocol",
}

PATHS = ("file", "out", "run", "task.weights", "weights", "data.path", "data.root", "reference")

HELP = """molrl: fine-tune diffusion models toward rewards.

usage: molrl COMMAND [FILE] [setting=value ...] [--cfg] [--help]

commands
{commands}

examples
  molrl train task=qed algo=rgdm                  the main job, in minutes on two cores
  molrl train task=qed algo=ddpo seed=1 run=runs/mine iterations=100
  molrl sample n=100 out=new.sdf                  from the shipped model
  molrl sample weights=runs/mine/model n=100      from the model a run made
  molrl score new.sdf reward=qed                  one CSV row per molecule, failures explained
  molrl evaluate new.sdf reference=qm9_heavy      validity, uniqueness, novelty, stability
  molrl pretrain model=heavy data=qm9 data.path=qm9.npz

molrl COMMAND --help lists a command's settings; --cfg prints what a run would use and stops.
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
    return run(arguments[0], arguments[1:])


def run(command: str, arguments: Sequence[str]) -> int:
    """Compose, check, build, go."""
    from molrl.config import ConfigError, compose

    try:
        if command not in COMMANDS:
            raise ConfigError(f"{command}: no such command; known are {', '.join(COMMANDS)}")
        if "--help" in arguments or "-h" in arguments:
            print(usage(command))
            return 0
        config = compose(command, overrides(command, [item for item in arguments if item != "--cfg"]))
        if "--cfg" in arguments:
            print(as_yaml(config))
            return 0
        return start(command, config)
    except ConfigError as error:
        return complain(error, 2)
    except KeyboardInterrupt:
        return complain("interrupted", 130)
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("MOLRL_TRACEBACK"):
            raise
        return complain(error, 1)


def overrides(command: str, arguments: Sequence[str]) -> list[str]:
    """`molrl score FILE` is short for `file=FILE`; everything else is key=value."""
    from molrl.config import ConfigError

    found: list[str] = []
    for item in arguments:
        if item.startswith("-"):
            raise ConfigError(f"{item}: no such option; settings are written name=value, see molrl {command} --help")
        if command in ("score", "evaluate") and ("=" not in item or os.path.exists(item)):
            found.append(f"file={quoted(item)}")
        elif "=" not in item:
            raise ConfigError(f"{item}: settings are written name=value, see molrl {command} --help")
        else:
            key, _, value = item.partition("=")
            found.append(f"{key}={quoted(value)}" if key in PATHS and value != "null" else item)
    return found


def quoted(text: str) -> str:
    """A path as one value of Hydra's grammar."""
    if text[:1] in "'\"":
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def start(command: str, config: dict[str, Any]) -> int:
    """Hand over to what the command is about."""
    from molrl.config import build

    set_threads(config.pop("threads"))
    if command == "train":
        from molrl.run import train

        return train(config)
    return int(build({**config, "_partial_": True}, command)())


def set_threads(threads: Any) -> None:
    """Torch threads: as asked, or the usable cores; idle ones sleep (OMP_WAIT_POLICY) while reward workers work."""
    from molrl.config import ConfigError

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads is not None and (not isinstance(threads, int) or isinstance(threads, bool) or threads < 1):
        raise ConfigError(f"threads={threads!r}: expected a whole number above 0, or null for the usable cores")
    count = min(usable, 16) if threads is None else threads
    os.environ["OMP_NUM_THREADS"] = str(count)
    import torch

    torch.set_num_threads(count)


def usage(command: str) -> str:
    """The settings of a command with their defaults and comments, straight from its YAML."""
    from molrl.config import CONF, choices

    lines = [f"usage: molrl {command} {'FILE ' if command in ('score', 'evaluate') else ''}[setting=value ...]", ""]
    lines.append((CONF / f"{command}.yaml").read_text().rstrip())
    for group in sorted(path.name for path in CONF.iterdir() if path.is_dir() and any(path.glob("*.yaml"))):
        if f"- {group}:" in lines[-1] or any(f"- {group}:" in line for line in lines):
            lines.append(f"\n{group}= one of: {', '.join(choices(group))}")
    return "\n".join(lines)


def as_yaml(config: dict[str, Any]) -> str:
    """The resolved configuration."""
    import yaml

    return str(yaml.safe_dump(config, sort_keys=False)).rstrip()


def complain(error: object, code: int) -> int:
    """One line on stderr."""
    print(f"molrl: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
