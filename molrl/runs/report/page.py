"""The page of a report: one HTML file that needs no other and asks the network for nothing.

Every text is escaped by the template. Only the scripts that this module puts into the page may run: the page's content
security policy names them by their hashes, and forbids every request.
"""

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from molrl.machine.printable import printable
from molrl.runs.report.about import read_about
from molrl.runs.report.charts import Rounds, make_charts
from molrl.runs.report.comparison import differing_settings, results
from molrl.runs.report.contents import Contents
from molrl.runs.report.drift import warnings
from molrl.runs.report.groups import SEED, Group, group_runs
from molrl.runs.report.makeup import make_tables
from molrl.runs.report.measurements import measured_rows
from molrl.runs.report.sheet import MAX_EXHIBITS, Sheet
from molrl.runs.report.wording import facts, headline, key_to_words

HERE = Path(__file__).parent
ASSETS, TEMPLATES = HERE / "assets", HERE / "templates"
MAX_FILES = 60  # of a run that are linked
MAX_SETTINGS = 12  # that differ and are shown at once
MAX_GALLERY = 4 * MAX_EXHIBITS  # samples of all runs together


class Link(NamedTuple):
    """A file of a run, its address as seen from the page, and its size in bytes."""

    name: str
    address: str
    size: int


class Set(NamedTuple):
    """Samples of one run at one time, under the name that the page gives them."""

    name: str
    sheet: Sheet


def render_page(runs: Sequence[Contents], place: Path) -> str:
    """Return the complete HTML file about one run, or about several side by side.

    Args:
        runs: at least one.
        place: the folder that the page will lie in, which links to the files of the runs start from.
    """
    names = run_names([run.folder for run in runs])
    groups = group_runs(runs, names)
    sets = collect_sets(groups)
    charts = make_charts([rounds_of(group, alone=len(groups) == 1) for group in groups])
    gallery = collect_gallery(sets)
    scripts = [asset("uPlot-min.js")]
    if any("sdf" in item for item in gallery["items"]):
        scripts.append(asset("3Dmol-min.js"))
    scripts.append(asset("report.js"))
    grouped = len(groups) < len(runs)
    labels = {id(run): Group(group.name, [run]).title for group in groups for run in group.runs}
    page = environment().get_template("report.html")
    return page.render(
        title=page_title(runs, groups),
        policy=content_policy(scripts),
        styles=[asset("uPlot-min.css"), asset("report.css")],
        scripts=scripts,
        max_files=MAX_FILES,
        max_settings=MAX_SETTINGS,
        runs=[describe_run(name, labels[id(run)], run, place) for name, run in zip(names, runs, strict=True)],
        groups=groups,
        settings=[
            row
            for row in differing_settings([group.runs[0] for group in groups])
            if not (grouped and row.name == SEED)  # of the first run alone
        ],
        results=[results(group.runs) for group in groups],
        each=[results([run]) for run in runs] if grouped else [],
        measured=measured_rows([run.summary for run in groups[0].runs], groups[0].runs[0].about.glossary)
        if len(groups) == 1
        else [],
        charts=list(enumerate(charts)),
        sets=[one.name for one in sets],
        tables=make_tables([one.sheet for one in sets]),
        gallery=gallery,
        turnable=any("sdf" in item or "points" in item for item in gallery["items"]),
        left_out=[f"{len(one.sheet.exhibits)} of {one.sheet.n:,} samples {one.name}" for one in sets],
        data={"charts": [chart.as_json() for chart in charts], "gallery": gallery},
    )


def page_title(runs: Sequence[Contents], groups: Sequence[Group]) -> str:
    """Return the heading of a page: the result of one run or of several seeds, or the number of what is compared."""
    if len(groups) > 1:
        return f"{len(groups)} groups of seeds compared" if len(groups) < len(runs) else f"{len(runs)} runs compared"
    if len(runs) == 1:
        return headline(runs[0].facts)
    known = {name: runs[0].facts[name] for name in ("task", "algo") if name in runs[0].facts}
    return f"{headline(known)}: {len(runs)} seeds"


def rounds_of(group: Group, *, alone: bool) -> Rounds:
    """Return the rounds of a group for its curves; the label of one that is alone says what its line is."""
    about, count = group.runs[0].about, len(group.runs)
    label = group.name if not alone else "mean of the round" if count == 1 else f"mean of {count} seeds"
    return Rounds(label, [run.rows for run in group.runs], about.labels, about.glossary)


def render_summary(folder: Path, summary: Mapping[str, Any]) -> str:
    """Return a run's figures before and after training as a part of an HTML page, for the output of a notebook."""
    path = folder / "report.html"
    return (
        environment()
        .get_template("run.html")
        .render(
            title=headline(summary),
            state=f"ended: {summary.get('ended', 'done')}",
            report=str(path),
            address=address(os.path.relpath(path.resolve())),
            rows=measured_rows([summary], read_about(folder).glossary),
        )
    )


def describe_run(name: str, label: str, run: Contents, place: Path) -> dict[str, Any]:
    """Return what the template shows of one run."""
    return {
        "name": name,
        "label": label,
        "state": run.state,
        "facts": facts({name: value for name, value in run.facts.items() if name != "ended"}),
        "warnings": [*run.problems, *warnings(run.rows, run.summary, run.sheets, run.about.labels)],
        "launches": run.about.launches,
        "settings": run.settings_text,
        "links": list_files(run.folder, place),
    }


def run_names(folders: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths of folders that tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-depth:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(one)} ({number})" for number, one in enumerate(parts, 1)]


def collect_sets(groups: Sequence[Group]) -> list[Set]:
    """Return the samples before and after one group, or after each of several, before where it has not ended."""
    if len(groups) == 1:
        return [Set(when, sheet) for when, sheet in groups[0].sheets.items()]
    last = {group.name: list(group.sheets.items())[-1] for group in groups if group.sheets}
    return [Set(f"{when} {name}", sheet) for name, (when, sheet) in last.items()]


def collect_gallery(sets: Sequence[Set]) -> dict[str, Any]:
    """Return the samples of all sets for JSON, each with the number of its set, at most `MAX_GALLERY`."""
    limit = MAX_GALLERY // max(1, len(sets))
    items = [{"set": number, **item} for number, one in enumerate(sets) for item in one.sheet.exhibits[:limit]]
    around = list(dict.fromkeys(one.sheet.surroundings for one in sets))
    return {
        "sets": [one.name for one in sets],
        "surroundings": around,
        "surroundingsOf": [around.index(one.sheet.surroundings) for one in sets],
        "items": items,
    }


def list_files(folder: Path, place: Path) -> list[Link]:
    """Return the regular files of a run, at most `MAX_FILES` and one, with their addresses as seen from a place."""
    found: list[Link] = []
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = Path(root) / name
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                relative = os.path.relpath(path.resolve(), place.resolve())
                found.append(Link(str(path.relative_to(folder)), address(relative), path.stat().st_size))
            if len(found) > MAX_FILES:
                return found
    return found


def address(relative: str) -> str:
    """Return a relative path as an address, which cannot be taken for one with a scheme."""
    return f"./{quote(relative.replace(os.sep, '/'), errors='surrogateescape')}"


@lru_cache
def asset(name: str) -> str:
    """Return the text of a script or a style sheet that is put into every page."""
    text = (ASSETS / name).read_text("utf-8")
    if "</script" in text or "</style" in text:
        raise ValueError(f"{name}: ends the element that it is put into")
    return text


def content_policy(scripts: Sequence[str]) -> str:
    """Return the content security policy of a page with these scripts and no others, which may request nothing."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii") for script in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )


@lru_cache
def environment() -> Environment:
    """Return the templates; every text is escaped, and an unknown name is an error."""
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.policies["json.dumps_kwargs"] = {"allow_nan": False}
    found.filters |= {"raw": Markup, "percent": percent, "size": file_size, "words": key_to_words}
    return found


def shown(value: Any) -> Any:
    """Return a value as the page shows it: text without control characters, markup as it is."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def percent(share: float | None) -> str:
    """Return a share in percent; an en dash for None."""
    return "–" if share is None else f"{100 * share:.1f}"


def file_size(size: int) -> str:
    """Return a number of bytes as text."""
    return f"{size} B" if size < 1000 else f"{size / 1000:.0f} kB" if size < 1_000_000 else f"{size / 1e6:.1f} MB"
