"""The command line: `molrl train | pretrain | sample | score | evaluate | report ...`, each with Hydra overrides.

Every command ends with one of the exit codes of `molrl.exit_codes`.
"""

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from molrl.arguments import COMMANDS, TOOLS, Options, composed, first_values, overrides, parse
from molrl.config import ConfigError
from molrl.exit_codes import ExitCode, exit_code_of
from molrl.suggestions import did_you_mean

COMPLETION = "completion"  # prints the script that has a shell complete commands and settings
TOOL_FUNCTIONS = {
    "list": "molrl.listing:list_choices",
    "doctor": "molrl.doctor:doctor",
    "card": "molrl.models.sharing:card",
    "push": "molrl.models.sharing:push",
}

HELP = """molrl: fine-tune diffusion models toward rewards.

usage: molrl COMMAND [FILE] [setting=value ...] [options]

commands
{commands}

examples
  molrl train task=qed algo=rgdm                  the main job, in minutes on two cores
  molrl train task=qed algo=ddpo seed=1 run=runs/mine iterations=100
  molrl train reward=synthesisability             toward another reward than the task's own
  molrl train task=docking reward.site.receptor=r.pdb reward.site.ligand=l.sdf  into the pocket where a ligand is
  molrl train -m algo=ddpo,rgdm seed=0,1,2        a run for each combination, and a table of them all
  molrl sample n=100 out=new.sdf                  from the shipped model
  molrl sample policy=images n=12 out=grid.png    from another one; or from a folder, or a run
  molrl score new.sdf reward=qed,sa               one CSV row per molecule, failures explained
  molrl score chair.glb reward=shape_stability    a mesh, a file of points, or a folder of them
  molrl evaluate new.sdf reference=qm9_heavy      validity, uniqueness, novelty, stability
  molrl evaluate samples.npz                      of point clouds: 1-NNA, coverage, MMD, which ones stand
  molrl report runs/mine                          its report made anew; of several runs: a comparison
  molrl pretrain model=heavy data=qm9 data.path=qm9.npz
  molrl train task=alignment algo=ddpo            images that show what their prompt says
  molrl list rewards                              what can be asked for, with papers; molrl list rewards qed: settings

options
  --cfg [job]         print the settings as they would be used, and stop
  -m, --multirun      run every combination of settings with several values, as in seed=0,1,2
  --config-dir FOLDER also search this folder for YAML of your own, such as FOLDER/task/mine.yaml
  --plugin PACKAGE    let YAML of yours build objects of this package
  --help, --version

molrl COMMAND --help lists a command's settings. policy= takes a name, a model's folder, a run or hub:OWNER/NAME;
reward= and algo= also take code, as my_rewards.py:name. A run that was interrupted goes on with the same command once
more, or with `molrl train resume=ITS_FOLDER`; with iterations=+20 as well, for 20 more rounds than it has. minutes=30
ends it in time. Files that are there already are replaced only with overwrite=true. eval "$(molrl completion bash)"
completes names in the shell.

exit codes: 0 done, 1 internal error, 2 wrong use, 3 nothing could be scored, 4 some records could not be scored, 5 bad
input, 6 failed while running, 130 interrupted, 143 terminated
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every expected error is one line."""
    from molrl.machine.printable import escaped_output

    with escaped_output():
        return dispatch(list(sys.argv[1:] if arguments is None else arguments))


def dispatch(arguments: list[str]) -> int:
    """Print the help or the version, or run a command until its end or an interruption; return the exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP.format(commands="\n".join(f"  {name:<10}{text}" for name, text in (COMMANDS | TOOLS).items())))
        return ExitCode.DONE if arguments else ExitCode.USAGE
    if arguments[0] in ("-V", "--version"):
        from molrl.version import __version__

        print(__version__)
        return ExitCode.DONE
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from molrl.machine.interruption import exit_code, raise_on_sigterm
    from molrl.progress import speaking, stage

    one_of_many = os.environ.get("RANK", "0") != "0"  # of several processes the first one speaks
    progress = contextlib.nullcontext() if one_of_many else speaking()
    try:
        with raise_on_sigterm(), progress, stage(f"{arguments[0]}: working"):
            return run(arguments[0], arguments[1:])
    except KeyboardInterrupt as stop:
        return complain("interrupted", exit_code(stop))


def run(command: str, arguments: Sequence[str]) -> int:
    """Run a command, with one line for each expected error and a traceback before it for any other."""
    try:
        if command == COMPLETION:
            from molrl.completion import completion

            print(completion(list(arguments)))
            return ExitCode.DONE
        if command in TOOLS:
            return use_tool(command, parse(command, arguments))
        if command not in COMMANDS:
            known = (*COMMANDS, *TOOLS, COMPLETION)
            raise ConfigError(f"{command}: no such command; known are {', '.join(known)}{did_you_mean(command, known)}")
        return carry_out(command, parse(command, arguments))
    except Exception as error:
        code = exit_code_of(error)
        if code is ExitCode.INTERNAL or os.environ.get("MOLRL_TRACEBACK"):
            traceback.print_exc()
        return complain(error, code)


def use_tool(command: str, options: Options) -> int:
    """Run a command that no YAML describes, or print its help."""
    module, _, name = TOOL_FUNCTIONS[command].partition(":")
    found = importlib.import_module(module)
    if options.help:
        print(f"molrl {command}: {TOOLS[command]}\n\nusage: {found.USAGE}")
        return ExitCode.DONE
    return int(getattr(found, name)(options))


def carry_out(command: str, options: Options) -> int:
    """Compose the settings of a command, check them, build its objects and run it."""
    from molrl.building import NAMED_PACKAGES

    NAMED_PACKAGES.update(options.plugins)
    if options.help:
        from molrl.usage import usage

        print(usage(command, options.settings, options.folders))
        return ExitCode.DONE
    if options.multirun and options.cfg:
        options.settings = first_values(options.settings)
    elif options.multirun:
        from molrl.multirun import multirun

        return multirun(command, options.settings, options.folders, main)
    config = configured(command, options)
    if options.cfg:
        print(as_yaml(config))
        return ExitCode.DONE
    return start(command, config)


def configured(command: str, options: Options) -> dict[str, Any]:
    """Return the configuration that the settings ask for."""
    if command in ("train", "pretrain"):
        from molrl.runs.resume import RESUME_PREFIX, compose_resumed, refuse_added_length

        if any(item.startswith(RESUME_PREFIX) for item in options.settings):
            return compose_resumed(command, options.settings, options.folders)
        refuse_added_length(command, options.settings)
    return composed(command, overrides(command, options.settings), options.folders)


def start(command: str, config: dict[str, Any]) -> int:
    """Hand over to what the command is about."""
    from molrl.building import call_command
    from molrl.runs.folder import describe_finished

    if command == "train" and (state := describe_finished(config)):  # before torch is loaded
        print(state)
        return ExitCode.DONE
    if "threads" in config:  # it computes
        from molrl.machine.memory import keep_freed_memory
        from molrl.machine.threads import use_default_threads

        use_default_threads()
        keep_freed_memory()
    if command == "train":
        from molrl.run import train

        return train(config)
    if command == "score" and "_target_" in config["reward"]:
        column = config["chosen"]["reward"].rpartition(":")[2]
        config["reward"] = {column: config["reward"]}  # its name is that of a column
    kept = {"config": config} if command == "pretrain" else {}  # in the folder of the run
    return call_command(config, **kept)


def as_yaml(config: dict[str, Any]) -> str:
    """Return a configuration as YAML."""
    import yaml

    return str(yaml.safe_dump(config, sort_keys=False)).rstrip()


def complain(error: object, code: int) -> int:
    """Write one line on stderr, at once, so that those of several processes do not mix; return the exit code."""
    from molrl.machine.failures import describe_failure

    text = describe_failure(error) if isinstance(error, BaseException) else str(error)
    if code == ExitCode.INTERNAL:
        text = f"internal error, please report it: {type(error).__name__}: {text}"
    sys.stderr.write(f"molrl: {' '.join(text.splitlines())}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
