"""Completion in the shell: `eval "$(molrl completion bash)"` (or zsh, fish) completes commands, choices and settings.

The shell asks `molrl completion words CURRENT COMMAND ...` for what the word under the cursor may become.
"""

from collections.abc import Sequence

from molrl.arguments import COMMANDS, OPTIONS, TOOLS, parse
from molrl.catalogue import GROUPS
from molrl.composition import Composition
from molrl.config import ConfigError
from molrl.domains import names as domains

SCRIPTS = {
    "bash": """_molrl() {
  local current=${COMP_LINE:0:$COMP_POINT}; current=${current##* }
  local prefix=${current%"${COMP_WORDS[COMP_CWORD]}"}
  [[ ${COMP_WORDS[COMP_CWORD]} == "=" ]] && prefix=$current
  mapfile -t COMPREPLY < <(molrl completion words "$current" "${COMP_LINE%"$current"}" 2>/dev/null)
  COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
  [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace
  return 0
}
complete -o bashdefault -o default -F _molrl molrl""",
    "zsh": """_molrl() {
  local current="${words[CURRENT]}" found
  found=("${(@f)$(molrl completion words "$current" "${words[1,CURRENT-1]}" 2>/dev/null)}")
  compadd -Q -S '' -- "${found[@]}"
}
compdef _molrl molrl""",
    "fish": """complete -c molrl -a '(molrl completion words (commandline -ct) (commandline -cp | string collect))'""",
}


def completion(arguments: Sequence[str]) -> str:
    """Return the script for a shell, or the words that the shell asks for, one in each line.

    Raises:
        ConfigError: no such shell.
    """
    if arguments[:1] == ["words"]:
        current, line = (*arguments[1:3], "", "")[:2]
        return "\n".join(candidates(current, line.removesuffix(current).split()[1:]))
    if len(arguments) != 1 or arguments[0] not in SCRIPTS:
        raise ConfigError(f'completion: needs one of {", ".join(SCRIPTS)}, as in: eval "$(molrl completion bash)"')
    return SCRIPTS[arguments[0]]


def candidates(current: str, before: Sequence[str]) -> list[str]:
    """Return what the current word may become, after the words before it."""
    if not before:
        return [name for name in (*COMMANDS, *TOOLS) if name.startswith(current)]
    if before[0] == "list":
        return [name for name in listed(before[1:]) if name.startswith(current)]
    if before[0] not in COMMANDS:
        return []
    if current.startswith("-"):
        return [option for option in OPTIONS if option.startswith(current)]
    try:
        options = parse(before[0], before[1:])
        groups = [item for item in options.settings if "=" in item]
        composition = Composition(before[0], groups, options.folders)
        name, equals, _ = current.partition("=")
        if equals:
            choice = composition.choices.get(name)
            found = [] if choice is None else [f"{name}={option}" for option in composition.names(choice.folder)]
        else:
            found = [*(f"{group}=" for group in composition.choices), *settings_below(current, composition.settings)]
    except ValueError:  # what is written so far is no command yet
        return []
    return list(dict.fromkeys(one for one in found if one.startswith(current)))


def listed(before: Sequence[str]) -> list[str]:
    """Return what `molrl list` takes after these words: its kinds, then the domains and the names of one."""
    if not before:
        return list(GROUPS)
    if len(before) > 1 or before[0] not in GROUPS:
        return []
    return [*Composition("train").names(GROUPS[before[0]]), *(f"domain={name}" for name in domains())]


def settings_below(current: str, names: Sequence[str]) -> list[str]:
    """Return the settings one level below what is written: `name=`, or `name.` where there are more below."""
    depth = current.count(".") + 1
    shown = [name for name in names if not any(part.startswith("_") for part in name.split("."))]
    nodes = {name.rpartition(".")[0] for name in shown}
    return [f"{name}." if name in nodes else f"{name}=" for name in shown if name.count(".") + 1 == depth]
