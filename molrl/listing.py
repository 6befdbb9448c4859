"""`molrl list`: the catalogue as a table that fits a terminal."""

import shutil
import textwrap
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from molrl.arguments import Options
from molrl.catalogue import GROUPS, Entry, catalogue, details
from molrl.config import ConfigError
from molrl.exit_codes import ExitCode
from molrl.suggestions import did_you_mean

USAGE = f"""molrl list [{"|".join(GROUPS)}] [NAME] [domain=DOMAIN]

  molrl list                   how many there are of each
  molrl list rewards           one paragraph each: what it is, its paper, the extra that it needs
  molrl list rewards domain=shapes     those for shapes, and those for samples of any domain
  molrl list rewards qed       all of one, with its settings
  --config-dir FOLDER          with the YAML of yours in this folder"""
MAX_WIDTH = 110  # columns; longer lines are hard to read
MIN_WIDTH = 40
WHERE = {"data": "pretrain", "models": "pretrain", "guidance": "sample"}  # commands that take them; else train


def list_choices(options: Options) -> int:
    """Print the lists that there are, one of them, or all of one entry; return the exit code.

    Raises:
        ConfigError: there is no such list, or no such name in it.
    """
    words = [item for item in options.settings if "=" not in item]
    domain = requested_domain([item for item in options.settings if "=" in item])
    match words:
        case []:
            print(overview(options.folders, domain))
        case [kind]:
            print(table(kind, catalogue(kind, options.folders, domain), terminal_width()))
        case [kind, name]:
            print(details(find(kind, name, options.folders), options.folders))
        case _:
            raise ConfigError(f"list: got {' '.join(words)}; usage: {USAGE.partition(chr(10))[0]}")
    return ExitCode.DONE


def requested_domain(settings: Sequence[str]) -> str | None:
    """Return the domain that the settings name; raises ConfigError for any other setting."""
    given = dict(item.split("=", 1) for item in settings)
    for name in given:
        if name != "domain":
            raise ConfigError(f"{name}=: molrl list has domain{did_you_mean(name, ['domain'])}")
    return given.get("domain")


def find(kind: str, name: str, folders: Sequence[Path]) -> Entry:
    """Return the entry of a name; raises ConfigError where there is none."""
    entries = {entry.name: entry for entry in catalogue(kind, folders)}
    if name not in entries:
        raise ConfigError(f"{name}: not among the {kind}; molrl list {kind} shows them{did_you_mean(name, entries)}")
    return entries[name]


def overview(folders: Sequence[Path], domain: str | None) -> str:
    """Return the kinds, each with the number of its entries and the setting that takes them."""
    rows = [(kind, len(catalogue(kind, folders, domain)), usage_of(kind)) for kind in GROUPS]
    lines = [f"  molrl list {kind:<11}{count:>4}  {usage}" for kind, count, usage in rows]
    return "\n".join(lines)


def usage_of(kind: str) -> str:
    """Return the command that takes an entry of a kind."""
    return f"molrl {WHERE.get(kind, 'train')} {GROUPS[kind]}=NAME"


def table(kind: str, entries: Sequence[Entry], width: int) -> str:
    """Return entries as paragraphs below the name of their domain, in at most `width` columns."""
    indent = 4 + max(len(entry.name) for entry in entries)
    parts = [f"{usage_of(kind)}; its settings: molrl list {kind} NAME"]
    for domain, group in groupby(entries, key=lambda entry: entry.domain):
        rows = "\n".join(paragraph(entry, indent, width) for entry in group)
        parts.append(f"{domain or 'of any domain'}\n{rows}")
    return "\n\n".join(parts)


def paragraph(entry: Entry, indent: int, width: int) -> str:
    """Return the name of an entry, and beside it what it is, then its papers, extra and place, each from a new line."""
    notes = [
        "; ".join(entry.papers),
        "" if entry.extra is None else f"needs pip install 'molrl[{entry.extra}]'",
        "" if entry.is_ours else f"from {entry.source}",
    ]
    lines = [entry.about or "(the file has no comment at its top)", *filter(None, notes)]
    beside = [line for text in lines for line in textwrap.wrap(text, width - indent, break_on_hyphens=False)]
    return f"  {entry.name}".ljust(indent) + f"\n{' ' * indent}".join(beside)


def terminal_width() -> int:
    """Return the number of columns to fill: those of the terminal, 80 where there is none."""
    return min(max(shutil.get_terminal_size((80, 24)).columns, MIN_WIDTH), MAX_WIDTH)
