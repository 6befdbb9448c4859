"""The help of a command: its settings with their defaults and comments, straight from the YAML of what was chosen."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import indent

from molrl.arguments import FILES, overrides, requested_domain, several
from molrl.composition import Choice, Composition, base_path

HIDDEN = ("_target_:", "_partial_:", "_shared_:", "# @package")  # keys that only the composition needs


def usage(command: str, arguments: Sequence[str], folders: Sequence[Path]) -> str:
    """Return the help of a command, with the settings of what the arguments choose."""
    settings = overrides(command, arguments)
    if names := several(command, settings):
        settings = [item for item in settings if not item.startswith("reward=")] + [f"reward={names[0]}"]
    composition = Composition(command, settings, folders, requested_domain(command, settings, folders))
    title, _, own = text_of(composition, command).partition("\n")
    file = f"{FILES[command].upper()} " if command in FILES else ""
    parts = [f"{title.lstrip('# ')}\n\nusage: molrl {command} {file}[setting=value ...] [--cfg]"]
    chosen = composition.choices
    lines = [
        f"{group}={one.name}   one of: {', '.join(composition.names(one.folder))}" for group, one in chosen.items()
    ]
    parts += ["\n".join(lines), plain(own)]
    if of_domain := composition.domain_option(chosen):
        parts.append(settings_of_domain(composition, of_domain))
    else:
        parts += [settings_of_domain(composition, path) for path in composition.options_of_domains()]
    parts += [described(composition, group, choice) for group, choice in chosen.items()]
    parts.append(f"molrl {command} ... --cfg prints all settings as they would be used.")
    return "\n\n".join(filter(None, parts))


def settings_of_domain(composition: Composition, path: str) -> str:
    """Return the settings of a command for one domain, with those of base files below their own names."""
    name = path.rpartition("/")[2]
    entries = [entry for entry in composition.defaults(path) if isinstance(entry, str) and "@" in entry]
    nested = [
        f"{entry.partition('@')[2]}:\n{indent(plain(text_of(composition, base_path(entry, path))), '  ')}"
        for entry in entries
    ]
    shown = "\n".join(filter(None, [plain(text_of(composition, path)), *nested]))
    return f"for {name}:\n{indent(shown, '  ')}"


def described(composition: Composition, group: str, choice: Choice) -> str:
    """Return the settings that a choice brings, those of its base files first."""
    path = f"{choice.folder}/{choice.option}"
    texts = [text_of(composition, one) for one in (*bases(composition, path), path)]
    shown = "\n".join(filter(None, (plain(text) for text in texts)))
    nested = shown if "@package _global_" in texts[-1] else f"{group}:\n{indent(shown, '  ')}"
    return f"with {group}={choice.name}:\n{indent(nested, '  ')}"


def bases(composition: Composition, path: str) -> list[str]:
    """Return the paths of the base files of a file, the most general first."""
    entries = [entry for entry in composition.defaults(path) if isinstance(entry, str) and entry != "_self_"]
    return [one for entry in entries for base in [base_path(entry, path)] for one in (*bases(composition, base), base)]


def text_of(composition: Composition, path: str) -> str:
    """Return the text of a configuration file."""
    found = composition.find(path)
    return "" if found is None else found.read_text()


def plain(text: str) -> str:
    """Return YAML without what only the composition needs to know."""
    lines, skipping = list[str](), False
    for line in text.rstrip().splitlines():
        skipping = line.startswith("defaults:") or (skipping and line.startswith(" "))
        if not skipping and not line.lstrip().startswith(HIDDEN):
            lines.append(line)
    return "\n".join(lines).strip("\n")
