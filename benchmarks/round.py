"""Where the seconds of a round of fine-tuning go, and how they compare with those of other code.

`python benchmarks/round.py rgdm ddpo dpok rwr` prints a row per algorithm; `--before FOLDER` names a checkout of other
code, whose rounds are run in turn with ours. Each measurement is a process of its own: one round that is not timed,
then `--rounds` of `molrl train task=qed` with a `--part` of the rollouts, scored in the same process, and some samples
as a run measures them before and after. `run` is what a whole run with the default settings then takes: its rounds and
both measurements. Times are CPU seconds, which other jobs on the machine change less than those on the wall, and
medians over `--repeats`. Further arguments are settings of `molrl train`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PARTS = ("rollout", "decode", "reward", "candidates", "metrics", "train")
MEASURED = 64  # samples, of the `evaluate` that a run measures


def main() -> None:
    """Measure all algorithms, with both codes in turn, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", help="algorithms and settings")
    parser.add_argument("--before", type=Path, help="folder of the other code; its settings are its own")
    parser.add_argument("--rounds", type=int, default=1, help="rounds that are timed, after one that is not")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--part", type=int, default=4, help="one in so many of a round's rollouts")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    settings = [argument for argument in given.arguments if "=" in argument]
    algorithms = [argument for argument in given.arguments if "=" not in argument] or ["rgdm", "ddpo", "dpok", "rwr"]
    if given.child:
        print(json.dumps(run_rounds(algorithms[0], settings, given.rounds, given.part)))
        return
    codes = {"after": ROOT} if given.before is None else {"before": given.before.resolve(), "after": ROOT}
    print("| algorithm | code | round | run | " + " | ".join(PARTS) + " |")
    print("|" + "---|" * (4 + len(PARTS)))
    for algorithm in algorithms:
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in codes}
        for _ in range(given.repeats):
            for name, folder in codes.items():
                found[name].append(measure(folder, algorithm, settings, given.rounds, given.part))
        print_rows(algorithm, found)


def measure(folder: Path, algorithm: str, settings: list[str], rounds: int, part: int) -> dict[str, Any]:
    """Run some rounds with the code of a folder, in a process of its own."""
    command = [sys.executable, __file__, "--child", f"--rounds={rounds}", f"--part={part}", algorithm, *settings]
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def run_rounds(algorithm: str, settings: list[str], rounds: int, part: int) -> dict[str, Any]:
    """Time rounds with the code that Python finds, and return CPU seconds of a whole round and run, and the parts."""
    import torch

    from molrl.composition import compose
    from molrl.finetune import finetune, freeze_copy
    from molrl.noise import Key
    from molrl.run import prepare

    torch.set_num_threads(1)
    config = compose("train", ["task=qed", f"algo={algorithm}", "reward.workers=0", "device=cpu", *settings])
    run = prepare(config)
    full = run.finetuning
    short = replace(full, iterations=rounds + 1, rollouts=full.rollouts // part, minibatch=full.minibatch // part)
    rows, clock = list[dict[str, float]](), [time.process_time()]

    def log(row: Any) -> None:
        rows.append(row)
        clock.append(time.process_time())

    reference = freeze_copy(run.task.policy)
    finetune(short, run.task, run.algorithm, reference, None, log)
    began = time.process_time()
    run.task.rollout(range(MEASURED), Key(0))
    measured = (time.process_time() - began) * config["evaluate"] / MEASURED
    cpu = (clock[-1] - clock[1]) / rounds * part
    wall = sum(row["seconds"] for row in rows[1:])
    shares = {name: sum(row.get(f"seconds_{name}", 0.0) for row in rows[1:]) / wall for name in PARTS}
    return {"round": cpu, "run": cpu * full.iterations + 2 * measured, **shares}


def print_rows(algorithm: str, found: dict[str, list[dict[str, Any]]]) -> None:
    """Print the medians of each code, and the ratio of the first to the last, repeat by repeat."""
    for name, answers in found.items():
        median = {key: statistics.median(answer[key] for answer in answers) for key in answers[0]}
        shares = " | ".join(f"{median[part]:.0%}" for part in PARTS)
        print(f"| {algorithm} | {name} | {median['round']:.2f} s | {median['run']:.0f} s | {shares} |", flush=True)
    if "before" in found:
        pairs = list(zip(found["before"], found["after"], strict=True))
        ratio = {key: statistics.median(old[key] / new[key] for old, new in pairs) for key in ("round", "run")}
        print(f"| {algorithm} | before / after | {ratio['round']:.2f} | {ratio['run']:.2f} |" + " |" * len(PARTS))


if __name__ == "__main__":
    main()
