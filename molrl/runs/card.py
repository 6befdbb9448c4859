"""The model card of a run: what the model is, what it does, how it was made, as README.md with a head of YAML.

The head has the keys that the Hugging Face Hub reads, and a table of molrl's own; all of it comes from the run's
settings and summary.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from molrl.composition import Composition, names
from molrl.config import ConfigError
from molrl.domains import is_shipped, model_folder
from molrl.machine.files import read_text, replace_file
from molrl.override import as_value, command_line
from molrl.runs.folder import CARD, FREE_SETTINGS, SETTINGS, load_plain_yaml, read_summary
from molrl.runs.report.about import read_about

FOLDERS = ("model", "best")  # of a run: the last model, and the best one of its checkpoints
SHIPPED_LICENCE = "apache-2.0"
UNKNOWN = "not recorded"
OWN_LICENCE = "other"  # the Hub then wants a name; the licence is that of the model that training began with
NAMES = {"reward_mean": "reward", "kl": "KL to the start (nats)"}  # of figures that no domain labels
DATA = re.compile(r"^- \*\*Data\*\*: (.+?)(?=^- |^\s*$|\Z)", re.MULTILINE | re.DOTALL)  # a paragraph of a card
LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
MAX_CARD_BYTES, MAX_DATA = 1 << 18, 1000  # characters of that paragraph
BODY = """
# {title}

A model of {domain}, fine-tuned with molrl from `{base}` toward the reward `{reward}` by `{algo}`.

```console
molrl sample policy=FOLDER n=100        # this folder, or hub:OWNER/NAME where it was pushed to
```

## What it does

| {n} samples each | before | after |
|---|---|---|
{rows}

Before and after are measured on the same noise{selection}.
{changes}
A reward stands for what is wanted and is not the thing itself: look at the other figures, and at samples.

## How it was made

```console
{command}
```

Seed {seed}, {rounds}, {queries:,} reward queries{ended}. Versions: {versions}.

## What training began with

- **Base**: `{base}`{origin}. Its limits are this model's too, and they are in its own card, as is its licence.
- **Data**: {data}
"""


def write_cards(run: Path, licence: str | None = None) -> list[Path]:
    """Write the card of a finished run into the folders of its models, and return the files.

    Args:
        run: the run's folder.
        licence: an identifier such as "cc-by-4.0"; None: that of the models that ship where training began with one,
            else `OWN_LICENCE`.

    Raises:
        OSError, ValueError: the run has no settings or no summary.
    """
    config, summary = load_plain_yaml(run / SETTINGS), read_summary(run)
    about = read_about(run)
    versions = about.launches[-1].get("versions", UNKNOWN) if about.launches else UNKNOWN
    written = []
    for name in FOLDERS:
        if (run / name).is_dir():
            text = render_card(config, summary, versions, about.labels, licence, is_best=name == "best")
            replace_file(run / name / CARD, text.encode())
            written.append(run / name / CARD)
    return written


def render_card(
    config: Mapping[str, Any],
    summary: Mapping[str, Any],
    versions: str,
    labels: Mapping[str, str],
    licence: str | None,
    *,
    is_best: bool,
) -> str:
    """Return the card of a run's last or best model; `labels` are names of metrics in words."""
    base, composition = str(config["policy"]["weights"]), composed(config)
    domain = (composition and composition.choices["policy"].domain) or "samples"
    made, named = {"command": command_of(config, composition), "versions": versions}, {**NAMES, **labels}
    head = yaml.safe_dump(
        front_matter(config, summary, licence, domain, made), sort_keys=False, allow_unicode=True, width=110
    )
    rounds = summary["iterations"]
    body = BODY.format(
        title=f"{summary['task']}, {summary['reward']}, {summary['algo']}",
        **{"domain": domain, "base": base, "reward": summary["reward"], "algo": summary["algo"]},
        n=summary["before"].get("n"),
        rows="\n".join(f"| {name} | {before} | {after} |" for name, before, after in rows_of(summary, named)),
        selection=selection(summary.get("best") or {}, named) if is_best else "",
        changes="\n".join(["", *(f"- {change}" for change in summary["changes"]), ""] if summary["changes"] else [""]),
        **{**made, "seed": summary["seed"], "queries": summary["reward_queries"]},
        rounds=f"{rounds} round{'' if rounds == 1 else 's'}",
        ended="" if rounds == config["iterations"] else f"; {summary['ended']}",
        origin=", which ships with molrl" if is_shipped(base) else "",
        data=training_data(base),
    )
    return f"---\n{head}---\n{body}"


def selection(best: Mapping[str, Any], named: Mapping[str, str]) -> str:
    """Return which of a run's models is the best one, as the end of a sentence."""
    label, value = label_of(str(best.get("metric", "reward")), named), best.get("value")
    worth = f" ({value:.4g})" if isinstance(value, int | float) else ""
    return (
        "; the figures after are those of the last model. "
        f"This one is the best by {label}{worth}, after {best.get('iteration')} rounds"
    )


def training_data(base: str) -> str:
    """Return what the card of a base says of its training data; where it says nothing, where to look."""
    try:
        folder = model_folder(base)
        text = "" if folder is None else read_text(folder / CARD, MAX_CARD_BYTES, errors="replace")
    except (OSError, ValueError):  # no card, or a link or a device in its place
        text = ""
    found = DATA.search(text)
    plain = LINK.sub(r"\1", " ".join(found[1].split())) if found else f"see the card of `{base}`."
    return plain if len(plain) <= MAX_DATA else f"{plain[:MAX_DATA]} ..."


def front_matter(
    config: Mapping[str, Any], summary: Mapping[str, Any], licence: str | None, domain: str, made: Mapping[str, str]
) -> dict[str, Any]:
    """Return the head of a card as a table; `made` is how the model was made."""
    base = str(config["policy"]["weights"])
    licence = licence or (SHIPPED_LICENCE if is_shipped(base) else OWN_LICENCE)
    named = {"license_name": "that-of-the-base-model"} if licence == OWN_LICENCE else {}
    hub = {"base_model": base.removeprefix("hub:").partition("@")[0]} if base.startswith("hub:") else {}
    facts = {name: summary[name] for name in ("task", "reward", "algo", "seed", "iterations")}
    figures = {when: dict(summary[when]) for when in ("before", "after")}
    return {
        **{"license": licence, **named, **hub, "library_name": "molrl"},
        "tags": ["molrl", "diffusion", "reinforcement-learning", domain],
        "molrl": {**facts, "base_model": base, **made, **figures},
    }


def rows_of(summary: Mapping[str, Any], named: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return the figures that were measured before and after: name in words, before and after as text."""
    before, after = summary["before"], summary["after"]
    found = [name for name in before if name in after and name not in ("n", "lost", "reward_sem")]
    return [(label_of(name, named), number(before, name), number(after, name)) for name in found]


def label_of(name: str, named: Mapping[str, str]) -> str:
    """Return the name of a metric in words."""
    return named.get(name, name.replace("_", " "))


def number(figures: Mapping[str, Any], name: str) -> str:
    """Return a figure with four digits, the mean reward with its standard error; what is not known is a dash."""
    value, error = figures[name], figures.get("reward_sem") if name == "reward_mean" else None
    text = f"{value:.4g}" if isinstance(value, int | float) else "-"
    return text if error is None else f"{text} ± {error:.2g}"


def composed(config: Mapping[str, Any]) -> Composition | None:
    """Return what the names that a run chose from each group bring; None where one is not to be had here."""
    chosen = [f"{group}={as_value(name)}" for group, name in config["chosen"].items()]
    composition = Composition("train", chosen)
    try:
        return composition if composition.choices and composition.base else None
    except ConfigError:  # a reward that was a Python function, or a plug-in that is not installed here
        return None


def command_of(config: Mapping[str, Any], composition: Composition | None) -> str:
    """Return the command of a run: what was chosen from each group, and the settings that differ from what that brings.

    Where a run computes and how long it may take (`FREE_SETTINGS`) are left out.
    """
    if composition is None:
        return "# molrl.train from Python, or with a plug-in; config.yaml of the run has all settings"
    implied = {name for choice in composition.choices.values() for name in choice.values}
    known, given = names(composition.base), names({name: value for name, value in config.items() if name != "chosen"})
    changed = {
        name if name in known else f"+{name}": value
        for name, value in given.items()
        if name.partition(".")[0] not in FREE_SETTINGS
        and name not in implied
        and not isinstance(value, Mapping)
        and known.get(name, config) != value
    }
    chosen = {group: name for group, name in config["chosen"].items() if group not in FREE_SETTINGS}
    return command_line("train", {**chosen, **changed})
