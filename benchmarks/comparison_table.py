"""The table and the plot of a comparison (`compare.py`): what the samples of each method are, and what they took."""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molrl.data.molecules.circles import count_circles
from molrl.data.molecules.composition import compare_composition
from molrl.data.molecules.known import share_known
from molrl.data.molecules.perception import perceive_bonds
from molrl.data.molecules.quality import scaffolds
from molrl.data.molecules.unembedded import Graphs
from molrl.guidance.best_of import best_of_kl
from molrl.models.molecules.reference import Reference, load_reference

PRETRAINED = "pretrained"
NUM_VARIETY = 192  # first samples that variety is measured on: as many as the smallest method has
MAX_REFERENCE = 5000  # molecules of the training set that compositions are compared with
MAX_N = 256  # of best-of-n in the plot
COLUMNS: Mapping[str, tuple[str, int]] = {  # heading and digits
    "gain": ("gain, all", 3),
    "gain_valid": ("gain, valid", 3),
    "validity": ("valid", 3),
    "elements": ("elements, TV", 3),
    "groups": ("groups, TV", 3),
    "unseen": ("known, not seen", 3),  # where all molecules of a kind are known
    "outside": ("not known", 3),
    "novel": ("novel", 3),  # where they are not
    "unique": ("unique", 3),
    "scaffolds": ("scaffold-unique", 3),
    "circles": ("#Circles", 0),
    "kl": ("chain KL", 2),
    "seconds": ("CPU s", 0),
}


@dataclass(frozen=True)
class Judgement:
    """The references that figures of samples are made with.

    Attributes:
        composition: what elements and functional groups are compared with.
        seen: the training set.
        known: all molecules that are known; None: there is no such set.
    """

    composition: Graphs
    seen: Container[str]
    known: Container[str] | None

    def figures(self, job: Mapping[str, Any], pretrained: Mapping[str, Any]) -> dict[str, float]:
        """Return the figures of a job, with gains over the pretrained model on the same noise."""
        rewards, texts = np.array(job["rewards"]), list(filter(None, job["smiles"]))
        first = list(filter(None, job["smiles"][:NUM_VARIETY]))
        known = share_known(set(texts), self.seen, () if self.known is None else self.known)
        shifts = compare_composition(Graphs.parse(texts).mols, self.composition.mols)
        return {
            "n": len(rewards),
            "reward": float(rewards.mean()),
            "gain": float(rewards.mean() - np.mean(pretrained["rewards"])),
            "gain_valid": mean_of_valid(job) - mean_of_valid(pretrained),
            "validity": len(texts) / len(rewards),
            **{name: shift.distance if shift else math.nan for name, shift in shifts.items()},
            "seen": or_nan(known.seen),
            "unseen": math.nan if self.known is None else or_nan(known.unseen),
            "outside": math.nan if self.known is None else or_nan(known.outside),
            "novel": or_nan(known.outside) if self.known is None else math.nan,
            "unique": len(set(first)) / max(1, len(first)),
            "scaffolds": len(scaffolds(set(first))) / max(1, len(first)),
            "circles": count_circles(Graphs.parse(sorted(set(first)))),
            "kl": float(np.mean(job["kl"])) if job["kl"] else math.nan,
            "kl_sem": float(np.std(job["kl"], ddof=1) / len(job["kl"]) ** 0.5) if len(job["kl"]) > 1 else math.nan,
            "queries": job["queries"],
            "seconds": job["seconds"],
            "stopped": math.nan if (stopped := job.get("stopped")) is None else stopped,
        }


def write_table(folder: Path, model: str, known: str | None) -> None:
    """Print the table of the jobs that are done, and write comparison.csv and frontier.png.

    Args:
        folder: of the comparison.
        model: the pretrained one, for its training set; of one that keeps hashes alone, compositions are compared with
            those of its own samples.
        known: a model, or a file, of all molecules that are known; None: there is no such set.
    """
    jobs = read_jobs(folder)
    seen = reference("model", model)
    drawn = Graphs.parse([text for job in jobs[PRETRAINED].values() for text in job["smiles"] if text])
    real = None if known is None else reference("known", known).members
    judgement = Judgement(seen.choose(MAX_REFERENCE) if seen.smiles else drawn, seen.members, real)
    rows = {
        name: {seed: judgement.figures(job, jobs[PRETRAINED][seed]) for seed, job in by_seed.items()}
        for name, by_seed in jobs.items()
        if not name.startswith("trial ")
    }
    rows[PRETRAINED] = {seed: {**row, "gain": 0.0, "gain_valid": 0.0} for seed, row in rows[PRETRAINED].items()}
    write_csv(folder / "comparison.csv", rows)
    plot_frontier(folder / "frontier.png", rows, jobs[PRETRAINED])
    print(markdown(rows))
    if any(name.startswith("trial ") for name in jobs):
        print(f"\n{trials(jobs)}")


def read_jobs(folder: Path) -> dict[str, dict[int, Mapping[str, Any]]]:
    """Read the jobs that are done, by name and seed.

    Raises:
        SystemExit: the pretrained model, which all others are compared with, is not among them.
    """
    jobs = defaultdict[str, dict[int, Mapping[str, Any]]](dict)
    for path in sorted((folder / "jobs").glob("*.json")):
        job = json.loads(path.read_text("utf-8"))
        jobs[job["name"]][job["seed"]] = job
    if PRETRAINED not in jobs:
        raise SystemExit(f"{folder}: no job is done yet")
    return dict(jobs)


def reference(setting: str, source: str) -> Reference:
    """Load the molecules that a model was trained with, or those of a file."""
    return load_reference(setting, source, perceive_bonds, "counts", perceive=False)


def mean_of_valid(job: Mapping[str, Any]) -> float:
    """Return the mean reward of the sound molecules alone."""
    valid = [float(reward) for reward, text in zip(job["rewards"], job["smiles"], strict=True) if text]
    return mean(valid) if valid else math.nan


def or_nan(value: float | None) -> float:
    """Return NaN for None."""
    return math.nan if value is None else value


def markdown(rows: Mapping[str, Mapping[int, Mapping[str, float]]]) -> str:
    """Return the table, largest gain first: means over the seeds and their standard errors; no columns without any."""
    numbers = [row for by_seed in rows.values() for row in by_seed.values()]
    columns = {key: COLUMNS[key] for key in COLUMNS if not all(math.isnan(row[key]) for row in numbers)}
    headings = [heading for heading, _ in columns.values()]
    lines = [f"| | seeds | {' | '.join(headings)} |", "|" + "---|" * (len(headings) + 2)]
    for name in sorted(rows, key=lambda name: -mean(row["gain"] for row in rows[name].values())):
        cells = [cell([row[key] for row in rows[name].values()], digits) for key, (_, digits) in columns.items()]
        lines.append(f"| {name}{early_ends(rows[name])} | {len(rows[name])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def early_ends(by_seed: Mapping[int, Mapping[str, float]]) -> str:
    """Return after how many rounds which seeds ended with an error, in brackets; empty where none did."""
    ends = [f"seed {seed} after {row['stopped']:.0f}" for seed, row in by_seed.items() if row["stopped"] >= 0]
    return f" (stopped: {', '.join(ends)} rounds)" if ends else ""


def cell(values: Sequence[float], digits: int) -> str:
    """Format a mean over the seeds with its standard error, where there are several."""
    if any(map(math.isnan, values)):
        return "-"
    error = f" ± {stdev(values) / len(values) ** 0.5:.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{error}"


def trials(jobs: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> str:
    """Return the table of the trials: the mean reward of the held-out task by the factor of the learning rate."""
    means = defaultdict[str, dict[float, float]](dict)
    for name, by_seed in jobs.items():
        if name.startswith("trial "):
            algorithm, factor = name.removeprefix("trial ").split(" lr x ")
            means[algorithm][float(factor)] = mean(mean(job["rewards"]) for job in by_seed.values())
    factors = sorted({factor for row in means.values() for factor in row})
    lines = [f"| held-out reward, lr x | {' | '.join(f'{factor:g}' for factor in factors)} |"]
    lines.append("|" + "---|" * (len(factors) + 1))
    for algorithm, row in means.items():
        lines.append(f"| {algorithm} | {' | '.join(f'{row[one]:.3f}' if one in row else '-' for one in factors)} |")
    return "\n".join(lines)


def write_csv(path: Path, rows: Mapping[str, Mapping[int, Mapping[str, float]]]) -> None:
    """Write one row for each method and seed."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        columns = list(next(iter(rows[PRETRAINED].values())))
        table.writerow(["method", "seed", *columns])
        for name, by_seed in rows.items():
            for seed, row in by_seed.items():
                table.writerow([name, seed, *(f"{row[column]:.4g}" for column in columns)])


def best_of_curve(rewards: NDArray[np.float64], max_n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute KL and mean reward of the best of n = 1 to `max_n` draws from these rewards.

    The best of n is the i-th smallest of N with probability (i / N)^n - ((i - 1) / N)^n.
    """
    ordered, cumulative = np.sort(rewards), np.arange(len(rewards) + 1) / len(rewards)
    numbers = range(1, max_n + 1)
    means = [float((ordered * np.diff(cumulative**n)).sum()) for n in numbers]
    return np.array([best_of_kl(n) for n in numbers]), np.array(means)


def plot_frontier(
    path: Path, rows: Mapping[str, Mapping[int, Mapping[str, float]]], pretrained: Mapping[int, Mapping[str, Any]]
) -> None:
    """Plot the mean reward of each method against the KL of its chains, with the curve of best-of-n."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5.5), layout="constrained")
    kl, means = best_of_curve(np.concatenate([job["rewards"] for job in pretrained.values()]), MAX_N)
    axes.plot(kl[1:], means[1:], color="0.4", label=f"best of n, 2 to {MAX_N}")
    error: Callable[[Sequence[float]], float] = lambda values: stdev(values) / len(values) ** 0.5 if values[1:] else 0.0  # noqa: E731
    for name, by_seed in rows.items():
        x, y = ([row[key] for row in by_seed.values()] for key in ("kl", "reward"))
        if name != PRETRAINED and not any(map(math.isnan, x)) and mean(x) > 0:
            colour = "0.6" if name.startswith(("placebo", "zero")) else "C1" if name.startswith("best") else "C0"
            axes.errorbar(mean(x), mean(y), error(y), error(x), "o", color=colour, markersize=4)
            axes.annotate(name, (mean(x), mean(y)), xytext=(4, 3), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("KL of a chain to the pretrained model (nats)")
    axes.set_ylabel("mean reward of all samples")
    axes.axhline(means[0], color="0.8", linewidth=1, label=PRETRAINED)
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)
