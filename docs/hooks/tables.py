"""Tables of settings in the documents, from the YAML of conf/ and the docstrings of what it builds.

A table stands between the lines `<!-- settings GROUP/NAME -->` and `<!-- end -->`. In place of `settings`, `about` is
the comment at the head of a YAML file, `list` all files of a folder, `oracle` the rows of the measured optima.
`python docs/hooks/tables.py` writes all of them anew; a test compares them with the sources.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MARKED = re.compile(r"<!-- (?P<kind>settings|about|list|oracle) (?P<name>[\w/]+) -->\n.*?<!-- end -->", re.DOTALL)
LOOP = ("iterations", "rollouts", "epochs", "minibatch", "fresh_optimizer", "clip_norm", "ratio_tolerance", "evaluate")
LOOP_MEANING = {"iterations": "rounds of sampling and learning", "rollouts": "samples of a round"}
NOT_SETTINGS = {"_target_", "_partial_", "_shared_", "reader", "optimizer", "defaults"}
SHARED = {  # what builds more than one setting, and where it is explained
    "advantage": "how rewards become advantages: [five kinds]({up}algorithms/index.md#advantages)",
    "held_out": "a second reward that is never trained on: [held-out rewards]({up}algorithms/gradients.md)",
    "site": "receptor and box: [your pocket]({up}howto/own_pocket.md)",
    "off_site": "receptor and box of the pocket to be avoided, in the same way",
    "optimizer.lr": "learning rate of the policy",
}


def source(name: str) -> str:
    """Return the text of conf/NAME.yaml."""
    return (ROOT / f"conf/{name}.yaml").read_text("utf-8")


def about(name: str) -> str:
    """Return the comment that a YAML file begins with, as one paragraph."""
    lines = [line for line in source(name).splitlines() if not line.startswith("# @package")]
    head = lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]
    return links(" ".join(line.lstrip("# ") for line in head).replace(" (no paper)", ""))


def links(text: str) -> str:
    """Return a text whose papers, named by arXiv number or DOI, are links."""
    text = re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    return re.sub(r"doi:(10\.\d+/[^\s),;]+)", r"[doi:\1](https://doi.org/\1)", text)


def comments(text: str) -> dict[str, str]:
    """Return the comment behind each setting of a YAML file, by its dotted name."""
    found, path = dict[str, str](), list[tuple[int, str]]()
    for line in text.splitlines():
        if match := re.match(r"( *)(\w+):(?: .*?)??(?: +# (.*))?$", line):
            indent, key, comment = len(match[1]), match[2], match[3]
            path = [*(part for part in path if part[0] < indent), (indent, key)]
            if comment:
                found[".".join(part for _, part in path)] = comment
    return found


def attributes(target: str) -> dict[str, str]:
    """Return what the docstrings of a class and its bases, or of a function, say of each argument, on one line."""
    module, _, name = target.rpartition(".")
    built = getattr(import_module(module), name)
    found: dict[str, str] = {}
    for each in reversed(inspect.getmro(built) if inspect.isclass(built) else (built,)):
        text = inspect.getdoc(each) or "" if not inspect.isclass(each) or "__doc__" in vars(each) else ""
        section = re.search(r"^(?:Attributes|Args):\n((?:(?: .*)?\n?)*)", text, re.MULTILINE)
        for item in re.split(r"\n(?=    \w)", section[1].rstrip()) if section else []:
            names, _, meaning = item.strip().partition(": ")
            found |= dict.fromkeys(names.split(", "), " ".join(meaning.split()))
    return found


def settings(
    config: dict[str, Any], prefix: str, remarks: dict[str, str], path: str = ""
) -> Iterator[tuple[str, Any, str]]:
    """Yield the name, the default and the meaning of each setting of a part of a configuration."""
    known = attributes(config["_target_"]) if "_target_" in config else {}
    for key, value in config.items():
        place = f"{path}.{key}".lstrip(".")
        if key in NOT_SETTINGS or str(value).startswith("${"):
            continue
        if isinstance(value, dict) and key not in SHARED:
            yield from settings(value, prefix, remarks, place)
        else:
            yield f"{prefix}{place}", value, remarks.get(place) or known.get(key, "")


def shown(value: Any) -> str:
    """Return a default as it is written on the command line."""
    if isinstance(value, dict):
        return str(value.get("kind", "")) and f"kind `{value['kind']}`" if "kind" in value else ""
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
    return "required" if value == "???" else f"`{text}`"


def table(name: str, up: str) -> str:
    """Return the table of settings of conf/NAME.yaml, for a page from which the root of docs/ is `up`."""
    text, config = source(name), yaml.safe_load(source(name))
    remarks = comments(text)
    if name.startswith("algo/"):
        rows = list(settings({"algo": config["algo"]}, "", remarks))
        rows += [(key, config[key], loop_remark(key)) for key in LOOP if key in config]
        rows.append(("optimizer.lr", config["optimizer"]["lr"], SHARED["optimizer.lr"]))
    else:
        rows = list(settings(config, f"{name.split('/', maxsplit=1)[0]}.", remarks))
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for place, value, meaning in rows:
        shared = SHARED.get(place.rpartition(".")[2])
        said = shared.format(up=up) if shared and isinstance(value, dict) else meaning
        lines.append(f"| `{place}` | {shown(value)} | {links(said.rstrip('.')).replace('|', chr(92) + '|')} |")
    return "\n".join(lines) if rows else "It has no settings."


def loop_remark(key: str) -> str:
    """Return what conf/train.yaml says of a setting of the loop, or its docstring."""
    documented = attributes("molrl.finetune.FinetuneConfig")
    return LOOP_MEANING.get(key) or comments(source("train")).get(key) or documented.get(key, "")


def listed(folder: str) -> str:
    """Return the table of the files of a folder of conf/, each with a link to its page and its first comment."""
    lines = ["| | |", "|---|---|"]
    for path in sorted((ROOT / "conf" / folder).glob("*.yaml")):
        page = f"{folder.removeprefix('reward/')}/{path.stem}.md"
        lines.append(f"| [`{path.stem}`]({page}) | {about(f'{folder}/{path.stem}')} |")
    return "\n".join(lines)


def optima(name: str) -> str:
    """Return the rows of docs/results/oracle.md about an algorithm."""
    rows = [line for line in (DOCS / "results/oracle.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    return "\n".join(
        [rows[0], "|---" * rows[0].count(" | ") + "|---|", *(row for row in rows if re.match(rf"\| {name}\b", row))]
    )


def filled(text: str, up: str) -> str:
    """Return a page with its tables as they should be."""

    def part(match: re.Match[str]) -> str:
        kind, name = match["kind"], match["name"]
        body = table(name, up) if kind == "settings" else {"about": about, "list": listed, "oracle": optima}[kind](name)
        return f"<!-- {kind} {name} -->\n\n{body}\n\n<!-- end -->"

    return MARKED.sub(part, text)


def pages() -> Iterator[tuple[Path, str]]:
    """Yield each page of docs/ with the way from it to the root of docs/."""
    for path in sorted(DOCS.rglob("*.md")):
        yield path, "../" * (len(path.relative_to(DOCS).parts) - 1)


def main() -> int:
    """Write all tables anew and return 0."""
    for path, up in pages():
        text = path.read_text("utf-8")
        if (new := filled(text, up)) != text:
            path.write_text(new, "utf-8")
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
