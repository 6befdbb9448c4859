"""Groups of runs that differ in the seed alone, with the names and the samples that a report shows of each group."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from molrl.exhibit import Counts
from molrl.runs.report.comparison import NONE, comparable_settings
from molrl.runs.report.contents import SHEETS, Contents
from molrl.runs.report.sheet import MAX_EXHIBITS, Sheet

SEED, CHOSEN = "seed", "chosen."
MAX_NAMED = 3  # settings in the name of a group


@dataclass(frozen=True)
class Group:
    """Runs that differ in the seed alone.

    Attributes:
        name: that tells it from the other groups.
        runs: at least one.
    """

    name: str
    runs: Sequence[Contents]

    @property
    def title(self) -> str:
        """Return the name with the seeds."""
        seeds = [comparable_settings(run).get(SEED, NONE) for run in self.runs]
        return f"{self.name}, seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}".removeprefix(", ")

    @property
    def sheets(self) -> Mapping[str, Sheet]:
        """Return the samples of all runs together, by when they were drawn."""
        found = {when: [run.sheets[when] for run in self.runs if when in run.sheets] for when in SHEETS}
        return {when: join_sheets(sheets) for when, sheets in found.items() if sheets}


def group_runs(runs: Sequence[Contents], names: Sequence[str]) -> list[Group]:
    """Return the groups in the order of their first runs.

    Args:
        runs: of any settings.
        names: of the runs; groups have those where all have one run, and the only group has none.
    """
    gathered: dict[object, list[int]] = {}
    times: Counter[object] = Counter()
    for number, run in enumerate(runs):
        own = comparable_settings(run)
        seed, others = own.pop(SEED, NONE), tuple(sorted(own.items()))
        gathered.setdefault((others, times[others, seed]), []).append(number)  # the same seed again is no other sample
        times[others, seed] += 1
    parts = list(gathered.values())
    if all(len(part) == 1 for part in parts):
        return [Group(name, [run]) for name, run in zip(names, runs, strict=True)]
    if len(parts) == 1:
        return [Group("", runs)]
    titles = name_groups([comparable_settings(runs[part[0]]) for part in parts], [names[part[0]] for part in parts])
    return [Group(title, [runs[number] for number in part]) for title, part in zip(titles, parts, strict=True)]


def name_groups(settings: Sequence[Mapping[str, str]], names: Sequence[str]) -> list[str]:
    """Return short names by the settings that tell groups apart; `names` where these are too many.

    They are the names taken of the configuration's groups that differ, such as ddpo, and the settings that differ
    among groups of the same such names.
    """
    known = {name: [one.get(name, NONE) for one in settings] for name in dict.fromkeys(chain(*settings))}
    differing = {name: texts for name, texts in known.items() if len(set(texts)) > 1 and name != SEED}
    chosen = [texts for name, texts in differing.items() if name.startswith(CHOSEN)]
    short = list(zip(*chosen, strict=True)) if chosen else [() for _ in settings]
    others = {
        name: texts
        for name, texts in differing.items()
        if not name.startswith(CHOSEN) and len(set(zip(short, texts, strict=True))) > len(set(short))
    }
    if len(others) > MAX_NAMED:
        return list(names)
    values = [[*own, *(f"{name}={texts[row]}" for name, texts in others.items())] for row, own in enumerate(short)]
    titles = [", ".join(one) for one in values]
    return titles if len(set(titles)) == len(titles) else list(names)


def join_sheets(sheets: Sequence[Sheet]) -> Sheet:
    """Return the samples of several sheets as one: of each in turn the next one is shown."""
    titles = dict.fromkeys(title for sheet in sheets for title in sheet.makeup)
    makeup = {title: add_counts([sheet.makeup[title] for sheet in sheets if title in sheet.makeup]) for title in titles}
    shown = [one for row in zip_longest(*(sheet.exhibits for sheet in sheets)) for one in row if one is not None]
    surroundings = next((sheet.surroundings for sheet in sheets if sheet.surroundings), "")
    rewards = [reward for sheet in sheets for reward in sheet.rewards]
    return Sheet(sum(sheet.n for sheet in sheets), rewards, makeup, shown[:MAX_EXHIBITS], surroundings)


def add_counts(counts: Sequence[Counts]) -> Counts:
    """Return the sum of distributions of one property."""
    names = dict.fromkeys(name for one in counts for name in one.counts)
    sums = {name: sum(one.counts.get(name, 0) for one in counts) for name in names}
    return Counts(sums, sum(one.total for one in counts), counts[0].of)
