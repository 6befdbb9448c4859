"""Settings that were searched for one task against those of its domain, with and without a budget of KL.

    python benchmarks/kl_budget.py TASK ALGORITHM [folder] [seed ...] [setting=value ...]

Trains with the task's own file in conf/tuned (`searched`), with the file of the domain and the algorithm (`domain`),
and with that and `kl_round` and `kl_total` (`budget`), and prints the gain of each run on the same fresh noise, with
its KL in nats. `share` is the mean gain over that of `searched`: a file that the others reach within 90 % can go.
Settings, such as `reward.target=chair.ply` or `evaluate=128`, are for all runs; `kl_round` and `kl_total` for `budget`.
Each run has a folder of its own (default runs/kl_budget/TASK_ALGORITHM_NAME_SEED); complete ones are not repeated.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

import yaml

from molrl.composition import Choice, Composition, names
from molrl.override import as_value

LIMITS = {"kl_round": "0.2", "kl_total": "3.0"}  # of `budget`, where none are given


class DomainSettings(Composition):
    """A configuration without the task's own file in conf/tuned."""

    def tuned_option(self, choices: Mapping[str, Choice]) -> str | None:
        """Return the option for the domain and the algorithm alone."""
        option = f"{choices['task'].domain}/{choices['algo'].option}"
        return option if self.find(f"tuned/{option}") else None


def domain_settings(task: str, algo: str, given: Sequence[str]) -> list[str]:
    """Return the settings that undo the task's own file: of what it and its bases change, the values of the domain.

    Raises:
        SystemExit: the task has no file of its own.
    """
    chosen = [f"task={task}", f"algo={algo}", *given]
    own, domain = Composition("train", chosen), DomainSettings("train", chosen)
    option = own.tuned_option(own.choices)
    if option == domain.tuned_option(domain.choices):
        sys.exit(f"task={task} algo={algo} has no file of its own in conf/tuned")
    searched, plain = names(own.base), names(domain.base)
    leaves = [name for name, value in plain.items() if not isinstance(value, Mapping)]
    if added := sorted(name for name in searched if name not in plain):
        sys.exit(f"conf/tuned/{option}.yaml adds {', '.join(added)}, which the domain's settings lack")
    return [f"{name}={as_value(plain[name])}" for name in leaves if searched.get(name) != plain[name]]


def train(run: Path, settings: Sequence[str]) -> tuple[float, float, float]:
    """Run `molrl train`, unless the run is complete; return the mean reward before and after, and the KL."""
    subprocess.run([sys.executable, "-m", "molrl.cli", "train", *settings, f"run={run}"], check=True, stdout=sys.stderr)
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    return summary["before"]["reward_mean"], summary["after"]["reward_mean"], summary["after"]["kl"]


def main() -> None:
    """Run what is missing, and print a row for each run and each variant."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    task, algo, *others = sys.argv[1:]
    settings = [item for item in others if "=" in item]
    limits = {**LIMITS, **dict(item.split("=", 1) for item in settings if item.split("=", 1)[0] in LIMITS)}
    given = [item for item in settings if item.split("=", 1)[0] not in LIMITS]
    seeds = [item for item in others if item.isdecimal()] or ["0", "1"]
    folder = Path(next((item for item in others if "=" not in item and not item.isdecimal()), "runs/kl_budget"))
    domain = domain_settings(task, algo, given)
    print(f"searched: conf/tuned; domain: {yaml.safe_dump(domain, default_flow_style=True, width=10_000).strip()}")
    budget = [*domain, *(f"{name}={value}" for name, value in limits.items())]
    variants: dict[str, list[str]] = {"searched": [], "domain": domain, f"budget {limits}": budget}
    print("| settings | seed | before | after | gain | KL (nats) | share |\n|---|---|---|---|---|---|---|")
    reference = float("nan")
    for name, changes in variants.items():
        runs = list[tuple[float, float, float]]()
        for seed in seeds:
            run = folder / f"{task}_{algo}_{name.split()[0]}_{seed}"
            runs.append(train(run, [f"task={task}", f"algo={algo}", *changes, *given, f"seed={seed}"]))
            before, after, kl = runs[-1]
            print(f"| {name} | {seed} | {before:.4f} | {after:.4f} | {after - before:+.4f} | {kl:.1f} | |", flush=True)
        before, after, kl = (mean(column) for column in zip(*runs, strict=True))
        reference = after - before if name == "searched" else reference
        share = (after - before) / reference
        print(f"| **{name}** | | {before:.4f} | {after:.4f} | {after - before:+.4f} | {kl:.1f} | {share:.2f} |")


if __name__ == "__main__":
    main()
