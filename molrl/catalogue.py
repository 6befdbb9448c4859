"""The catalogue of what can be chosen: rewards, algorithms, tasks and the rest, each with what its YAML says of it.

Nothing is stated here a second time. The names are those that a command takes, ours, those of plug-ins and those of
the user's own folders; the rest is the comment at the top of the file that a name stands for. Its first sentence says
what the thing is, brackets with a year, an arXiv number or a doi cite the paper (or say `no paper`), and
`needs the extra NAME` is what has to be installed for it.
"""

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from molrl.composition import CODE_GROUPS, CONF, Choice, Composition
from molrl.config import ConfigError
from molrl.domains import names as domains
from molrl.plugins import load_registered, registered
from molrl.suggestions import did_you_mean
from molrl.usage import described

GROUPS = {
    **{"rewards": "reward", "algorithms": "algo", "tasks": "task", "policies": "policy", "data": "data"},
    **{"models": "model", "diversity": "diversity", "guidance": "guidance", "trackers": "tracker"},
}
IDENTIFIER = r"arXiv:\d{4}\.\d{4,5}|doi:[^\s;,]+"
CITATION = re.compile(rf"{IDENTIFIER}|\b(19|20)\d\d\b")
BRACKET = re.compile(r"\s*\(([^()]*)\)")
NO_PAPER = "no paper"
EXTRA = re.compile(r"needs the extra (\w+)", re.IGNORECASE)
SENTENCE_END = re.compile(r"(?<!et al)[.;](?=\s|$)")


@dataclass(frozen=True)
class Entry:
    """A thing that can be chosen by name.

    Attributes:
        kind: one of `GROUPS`.
        name: as it is written behind `reward=`, `algo=` and so on.
        domain: whose samples it is for; None: those of any.
        about: what it is, in one sentence.
        papers: citations; empty where it says that there is no paper, or nothing of one.
        extra: of the package, which it needs; None: none.
        source: the YAML file, or the object that an installed package registered.
        is_ours: it comes with the package.
    """

    kind: str
    name: str
    domain: str | None
    about: str
    papers: tuple[str, ...]
    extra: str | None
    source: str
    is_ours: bool


def catalogue(kind: str, folders: Sequence[Path] = (), domain: str | None = None) -> list[Entry]:
    """Return what can be chosen of one kind: ours, that of plug-ins, and that in the user's own YAML folders.

    Args:
        kind: "rewards", "algorithms", "tasks", "policies", "data", "models", "diversity", "guidance" or "trackers".
        folders: the user's own YAML folders, as --config-dir takes them.
        domain: whose samples it is for, such as "molecules", with what is for those of any domain; None: all.

    Raises:
        ConfigError: there is no such kind, folder or domain.
    """
    if kind not in GROUPS:
        hint = next((f"; did you mean {of}?" for of, own in GROUPS.items() if own == kind), did_you_mean(kind, GROUPS))
        raise ConfigError(f"{kind}: no such list; known are {', '.join(GROUPS)}{hint}")
    group, composition = GROUPS[kind], Composition("train", (), folders)
    found = [described_file(kind, name, option, composition) for name, option in composition.options(group).items()]
    names = {entry.name for entry in found}
    points = registered(CODE_GROUPS[group]) if group in CODE_GROUPS else {}
    found += [described_code(kind, name) for name in points if name not in names]
    if domain is not None and domain not in (known := domains()):
        raise ConfigError(f"domain={domain}: no such domain; known are {', '.join(known)}{did_you_mean(domain, known)}")
    fitting = [entry for entry in found if domain in (None, entry.domain) or entry.domain is None]
    return sorted(fitting, key=lambda entry: (entry.domain or "", entry.name))


def described_file(kind: str, name: str, option: str, composition: Composition) -> Entry:
    """Return the entry of a YAML file."""
    path = composition.find(f"{GROUPS[kind]}/{option}")
    assert path is not None
    text = comment(path.read_text("utf-8"))
    domain = option.rpartition("/")[0] or None
    extra = EXTRA.search(text)
    is_ours = path.is_relative_to(CONF)
    return Entry(kind, name, domain, first_sentence(text), citations(text), extra and extra[1], str(path), is_ours)


def described_code(kind: str, name: str) -> Entry:
    """Return the entry of what an installed package registered: its docstring, or why it cannot be imported."""
    group = CODE_GROUPS[GROUPS[kind]]
    source = registered(group)[name].value
    try:
        found = load_registered(group, name)
    except ConfigError as error:
        return Entry(kind, name, None, str(error), (), None, source, is_ours=False)
    text = " ".join((inspect.getdoc(found) or "").split())
    domain = getattr(found, "kind", None)
    domain = domain if isinstance(domain, str) else None
    return Entry(kind, name, domain, first_sentence(text), citations(text), None, source, is_ours=False)


def comment(text: str) -> str:
    """Return the comment at the top of a YAML file as one paragraph, without what only Hydra reads."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.lstrip("# "))
    return " ".join(lines)


def first_sentence(text: str) -> str:
    """Return the first sentence of a comment, up to a full stop or a semicolon, without its citations and extras."""
    plain = BRACKET.sub(lambda found: "" if is_aside(found[1]) else found[0], text)
    return SENTENCE_END.split(plain, maxsplit=1)[0].strip()


def is_aside(bracket: str) -> bool:
    """Tell whether the text in brackets is a citation, says that there is none, or names an extra."""
    return bool(CITATION.search(bracket) or EXTRA.search(bracket)) or bracket == NO_PAPER


def citations(text: str) -> tuple[str, ...]:
    """Return the papers that a comment cites in brackets, each up to its arXiv number or doi, if it has one."""
    parts = [part.strip() for bracket in BRACKET.findall(text) for part in bracket.split(";")]
    cited = (part for part in parts if CITATION.search(part))
    return tuple(dict.fromkeys(re.sub(rf"({IDENTIFIER}).*", r"\1", part) for part in cited))


def details(entry: Entry, folders: Sequence[Path] = ()) -> str:
    """Return all that is known of an entry: its comment, and the settings with their defaults."""
    group = GROUPS[entry.kind]
    if not entry.source.endswith(".yaml"):
        return f"{group}={entry.name}: {entry.about}\n\nfrom the installed package: {entry.source}"
    composition = Composition("train", (), folders)
    choice = Choice(group, entry.name, composition.options(group)[entry.name])
    return f"{described(composition, group, choice)}\n\nfrom {entry.source}"
