"""Estimate the core-minutes that the jobs of a comparison (`compare.py`) take here, from one short round of each.

A run is `iterations` times the CPU seconds of a round, measured with one in `PART` of its samples (`round.py`). The
judge draws a chain for each of its samples, and evaluates those of the KL twice more. Methods without training take at
most a chain for each query. "conditioned", which is pretraining, is left out. A whole round uses a core better than a
part, so that the real times are rather smaller.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from comparison_judge import NUM_CHAINS, NUM_JUDGED, judging
from comparison_runs import MAX_QUERIES, run_settings
from round import run_rounds

from molrl.composition import compose
from molrl.task import Task, sample_chains

if TYPE_CHECKING:
    from compare import Comparison

PART = 8  # of the samples of a round; the groups of an algorithm stay whole
TIMED = 16  # chains of the judge that are timed


def print_plan(comparison: "Comparison") -> None:
    """Print the jobs that are not done, by kind, with the core-minutes of each and of all of a kind."""
    missing = Counter(kind(name, comparison.names) for name, seed, _ in missing_jobs(comparison))
    chain = seconds_of_chain(comparison.base)
    judging_seconds = (NUM_JUDGED + 2 * NUM_CHAINS) * chain
    print("| job | missing | core-minutes each | core-minutes |\n|---|---|---|---|")
    total = 0.0
    for name, count in missing.items():
        minutes = (seconds(name, comparison, chain) + judging_seconds) / 60
        total += minutes * count
        print(f"| {name} | {count} | {minutes:.1f} | {minutes * count:.0f} |", flush=True)
    print(f"| all | {missing.total()} | | {total:.0f} |")
    print("\nBesides: a run for each seed of each algorithm whose trials find a better learning rate.")


def missing_jobs(comparison: "Comparison") -> Iterator[tuple[str, int, object]]:
    """Yield the jobs that have no file, of those that are known before the trials."""
    for job in comparison.planned_jobs():
        if job[0] != "conditioned" and not comparison.file(*job[:2]).exists():
            yield job


def kind(job: str, algorithms: Sequence[str]) -> str:
    """Return what a job spends its time on: the algorithm that it trains with, or its own name."""
    return next((name for name in algorithms if name in job.split()), job)


def seconds(name: str, comparison: "Comparison", chain: float) -> float:
    """Estimate the CPU seconds of a kind of job without those of the judge."""
    if name in comparison.names:
        settings = run_settings(name, comparison.settings)
        iterations: int = compose("train", ["task=qed", f"algo={name}", *settings])["iterations"]
        return float(run_rounds(name, settings, 1, PART)["round"]) * iterations
    return 0.0 if name == "pretrained" else MAX_QUERIES * chain


def seconds_of_chain(task: Task) -> float:
    """Measure the CPU seconds of one of the judge's chains."""
    began = time.process_time()
    sample_chains(task.policy, task.decoder, range(TIMED), judging(0), task.device)
    return (time.process_time() - began) / TIMED
