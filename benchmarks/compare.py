"""All algorithms at the same number of reward queries, beside methods without fine-tuning.

    python benchmarks/compare.py FOLDER [--data QM9.npz] [--seeds 0,1] [--names ddpo,nft] [setting=value ...]
    python benchmarks/compare.py FOLDER --plan [the same options and settings]
    python benchmarks/compare.py FOLDER --table [--known MODEL] [setting=value ...]

The first command does the jobs that the folder lacks, one (method, seed) after the other in one process of one thread;
killed, the same command goes on. All methods of a seed come before the next seed. The second times a short round of
each algorithm and prints the core-minutes that these jobs will take (`comparison_plan.py`). The third prints the table
of the jobs that are done and writes comparison.csv and frontier.png (`comparison_table.py`). Settings, such as
`policy.weights=MODEL` or `policy=drugs`, are for all runs and for what they are judged by; a folder keeps to its first.

The protocol, which was fixed before the first run:

- The reward is QED. A method has `MAX_QUERIES` reward queries. `comparison_runs.py` divides them into rounds; an
  algorithm's other settings are the defaults of conf/algo, and of conf/tuned for the model.
- With `policy=qm9_half` the model is trained on one half of QM9, so that new molecules in the other half are known to
  be real. With `policy=drugs`, algorithms that learn from finished samples draw in steps of second order, its default.
- Whatever sampler trains, a policy is judged by `NUM_JUDGED` samples of one chain: 50 steps of first order, eta = 1,
  float32, and the noise of its seed, the same for all. Its KL is that of whole such chains to the pretrained model's,
  of some of them (`comparison_judge.py`).
- Tuning: four trials of each algorithm, `FACTORS` of its default learning rate, seed `TRIAL_SEED`, on another task, the
  desirability of logP. The best by mean reward, where it is not the default, has rows of its own, "tuned".
- A run that ends early, as its gradient is not finite or rollout and training disagree, is judged as it is then, and
  its row says after how many rounds.
- Best-of-n, SVDD and SMC spend the queries on sampling the pretrained model; a fine-tuned policy draws on without any.
- "conditioned" is the pretrained model, trained on with the QED of as many molecules of its training set as there are
  queries (EDM: Hoogeboom et al. 2022, Sec. 5.2), and asked for `CONDITION`.
- "placebo" learns from random numbers and "zero" from a constant reward: what they change is not the reward's doing.
- Algorithms that need the reward's gradient (`draft`, `refl`, `adjoint`) cannot learn from QED and are left out.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from comparison_judge import BATCH, NUM_JUDGED, Outcome, judge, judging, outcome_of
from comparison_plan import print_plan
from comparison_runs import KNOWN_OF_MODEL, MAX_QUERIES, RUNS, run_settings, shipped_model
from comparison_table import write_table
from whole_chain import random_number

from molrl.building import build
from molrl.composition import compose
from molrl.data.molecules.perception import perceive_bonds
from molrl.data.molecules.qm9 import KEYS, in_half
from molrl.finetune import finetune, freeze_copy
from molrl.guidance import BestOf, Guidance
from molrl.guidance.best_of import best_of_kl
from molrl.machine.files import replace_file
from molrl.policy import Policy
from molrl.rewards.desirability import Desirability
from molrl.rewards.molecules.logp import LogP
from molrl.rewards.molecules.qed import QED
from molrl.run import Run, prepare
from molrl.samplers import Denoiser
from molrl.task import Metrics, Reward, Task, sample_chains
from molrl.training_state import TrainingError

SEEDS, TRIAL_SEED = "0,1,2,3,4", 100
CHAIN = ("policy.num_steps=50", "policy.eta=1.0", "policy.order=1")  # of the judge
CONTROLS = ("ddpo", "nft", "rwr")  # one of each family learns from random numbers, and from a constant
SAMPLERS = {"best of 4": 4, "best of 12": 12, "svdd": 12, "smc": 12}  # queries for a sample
FACTORS = (0.25, 0.5, 1.0, 2.0)
CONDITION = 0.55
LABELLED = ("training.steps=600", "training.cooldown=200", "training.lr=3e-4", "evaluate=2")

reward_of_qed = QED(reader=perceive_bonds)
held_out_reward = Desirability(goal="window", low=1.0, high=3.0, slack=2.0, scorer=LogP(reader=perceive_bonds))


def zero_reward(samples: Sequence[Any]) -> torch.Tensor:
    """Return zero for each sample."""
    return torch.zeros(len(samples))


REWARDS: Mapping[str, Reward] = {"placebo": random_number, "zero": zero_reward}


Job: TypeAlias = tuple[str, int, Callable[[], Outcome]]
"""Name and seed of a job, and its work."""


@dataclass(frozen=True)
class Comparison:
    """The jobs of a comparison.

    Attributes:
        folder: of its files.
        settings: of all runs.
        names: the algorithms.
        seeds: of the runs.
        data: the file of QM9 that "conditioned" learns from; None: it is left out.
    """

    folder: Path
    settings: Sequence[str]
    names: Sequence[str]
    seeds: Sequence[int]
    data: Path | None

    @cached_property
    def base(self) -> Task:
        """Return the pretrained model with the chain of the judge."""
        return prepared([*self.settings, *CHAIN], reward_of_qed).task

    def jobs(self) -> Iterator[Job]:
        """Yield all jobs: those that are known beforehand, and what the trials chose."""
        yield from self.planned_jobs()
        for seed, name in product(self.seeds, self.names):
            if (factor := self.best_factor(name)) != 1.0:
                title = f"{name} tuned, lr x {factor:g}"
                yield title, seed, partial(self.fine_tune, title, name, seed, factor=factor)

    def planned_jobs(self) -> Iterator[Job]:
        """Yield the jobs of a seed, those of the next, and the trials."""
        for seed in self.seeds:
            yield from self.methods(seed)
        for name, factor in product(self.names, FACTORS):
            yield trial(name, factor), TRIAL_SEED, partial(self.try_rate, name, factor)

    def methods(self, seed: int) -> Iterator[Job]:
        """Yield the jobs of a seed with the default learning rates."""
        yield "pretrained", seed, partial(self.judge, self.base.policy, seed)
        for name in self.names:
            yield name, seed, partial(self.fine_tune, name, name, seed)
        for name in SAMPLERS:
            yield name, seed, partial(self.sample, name, seed)
        if self.data is not None:
            yield "conditioned", seed, partial(self.condition, self.data, seed)
        for name, (control, reward) in product(CONTROLS, REWARDS.items()):
            if name in self.names:
                title = f"{control} {name}"
                yield title, seed, partial(self.fine_tune, title, name, seed, reward=reward)

    def fine_tune(
        self, title: str, name: str, seed: int, *, reward: Reward = reward_of_qed, factor: float = 1.0
    ) -> Outcome:
        """Fine-tune with an algorithm, from the last checkpoint if there is one, and judge the policy."""
        denoiser, rounds = self.trained(title, name, seed, reward, factor)
        outcome = self.judge(replace(self.base.policy, denoiser=denoiser), seed)
        queries, seconds = round(rounds.total("reward_queries")), rounds.total("cpu_seconds")
        return replace(outcome, queries=queries, seconds=seconds, stopped=rounds.stopped)

    def try_rate(self, name: str, factor: float) -> Outcome:
        """Fine-tune toward the held-out task with a multiple of the default learning rate."""
        denoiser, _ = self.trained(trial(name, factor), name, TRIAL_SEED, held_out_reward, factor)
        return self.judge(replace(self.base.policy, denoiser=denoiser), TRIAL_SEED, held_out_reward)

    def trained(self, title: str, name: str, seed: int, reward: Reward, factor: float) -> tuple[Denoiser, "Rounds"]:
        """Return the denoiser that an algorithm trained, as far as it came, and its rounds."""
        settings = [f"algo={name}", f"seed={seed}", "save_every=4", *run_settings(name, self.settings, factor)]
        run, rounds = prepared(settings, reward), Rounds(self.folder / "runs" / f"{title}_{seed}")
        try:
            finetune(run.finetuning, run.task, run.algorithm, freeze_copy(run.task.policy), rounds.folder, rounds.log)
        except TrainingError as error:  # such a run is a result as well: it is judged as it is then
            rounds.stopped = rounds.number
            print(f"{title}, seed {seed}, after {rounds.stopped} rounds: {error}", flush=True)
        return run.task.policy.denoiser, rounds

    def best_factor(self, name: str) -> float:
        """Return the factor of the learning rate whose trial has the largest mean reward."""
        files = {factor: self.file(trial(name, factor), TRIAL_SEED) for factor in FACTORS}
        means = {factor: np.mean(json.loads(file.read_text("utf-8"))["rewards"]) for factor, file in files.items()}
        return max(means, key=lambda factor: means[factor])

    def judge(self, policy: Policy, seed: int, reward: Reward = reward_of_qed) -> Outcome:
        """Draw samples of a policy, and compare its chains with those of the pretrained model."""
        return judge(policy, self.base, reward, judging(seed))

    def sample(self, name: str, seed: int) -> Outcome:
        """Spend the queries on samples of the pretrained model."""
        n, samples, queries, began = SAMPLERS[name], list[Any](), 0, os.times()
        guidance: Guidance = BestOf(of=n) if name.startswith("best") else configured_guidance(name)
        for start in range(0, min(NUM_JUDGED, MAX_QUERIES // n), BATCH):
            rows = range(start, min(start + BATCH, NUM_JUDGED, MAX_QUERIES // n))
            drawn = guidance.draw(self.base, rows, judging(seed))
            samples += drawn.samples
            queries += drawn.reward_queries
        seconds = os.times().user - began.user
        kl = [best_of_kl(n)] if name.startswith("best") else []
        return replace(outcome_of(samples, reward_of_qed, kl), queries=queries, seconds=seconds)

    def condition(self, data: Path, seed: int) -> Outcome:
        """Train the pretrained model on with the QED of some molecules, and ask it for a high one."""
        place, began = self.folder / "runs" / f"conditioned_{seed}", os.times()
        labelled = self.folder / "labelled" / f"{seed}.npz"
        write_labelled(data, labelled, seed)
        init = base_weights(self.settings)
        command = ["pretrain", "model=heavy_qed", f"init={init}", "data=qm9", f"data.path={labelled}"]
        command += [*LABELLED, f"training.seed={seed}", "threads=1", f"run={place}"]
        subprocess.run([sys.executable, "-m", "molrl", *command], check=True, stdout=subprocess.DEVNULL)
        conditional = prepared([*self.settings, *CHAIN, f"policy.weights={place / 'model'}"], reward_of_qed).task
        decoder = replace(conditional.decoder, condition={"qed": CONDITION})  # type: ignore[type-var]
        chains = sample_chains(conditional.policy, decoder, range(NUM_JUDGED), judging(seed), conditional.device)
        seconds = os.times().children_user - began.children_user
        outcome = outcome_of(decoder.decode(chains.final, chains.context), reward_of_qed, [])
        return replace(outcome, queries=MAX_QUERIES, seconds=seconds)

    def file(self, name: str, seed: int) -> Path:
        """Return the file of a job that is done."""
        return self.folder / "jobs" / f"{name}_{seed}.json"


class Rounds:
    """The rounds of a run, kept in its folder: those before a kill count as well.

    `stopped` is the number of rounds after which an error ended it, or None.
    """

    def __init__(self, folder: Path) -> None:
        self.stopped: int | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.file, self.began = folder, folder / "rounds.jsonl", time.process_time()
        self.file.touch()

    def log(self, row: Metrics) -> None:
        """Add a round, with the CPU seconds since the one before."""
        now = time.process_time()
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**row, "cpu_seconds": now - self.began}) + "\n")
        self.began = now

    def total(self, name: str) -> float:
        """Return the sum of a figure over the rounds; one that was repeated after a kill counts once."""
        return float(sum(row[name] for row in self.rows().values()))

    @property
    def number(self) -> int:
        """Return the number of rounds that are done."""
        return len(self.rows())

    def rows(self) -> dict[int, Metrics]:
        """Return the last row of each round."""
        return {row["iteration"]: row for row in map(json.loads, self.file.read_text("utf-8").splitlines())}


def prepared(settings: Sequence[str], reward: Reward) -> Run:
    """Build a run toward a reward that is computed in this process."""
    return prepare(compose("train", ["task=qed", "threads=1", *settings]), reward)


def base_weights(settings: Sequence[str]) -> str:
    """Return the pretrained model that settings choose."""
    return str(compose("train", ["task=qed", *settings])["policy"]["weights"])


def trial(name: str, factor: float) -> str:
    """Return the name of the trial of a learning rate."""
    return f"trial {name} lr x {factor:g}"


def configured_guidance(name: str) -> Guidance:
    """Build a method of guided sampling as its file in conf/guidance has it."""
    guidance: Guidance = build(compose("sample", [f"guidance={name}"])["guidance"], "guidance")
    return guidance


def write_labelled(data: Path, path: Path, seed: int) -> None:
    """Write as many molecules of the first half of QM9 as there are queries, drawn at random."""
    with np.load(data, allow_pickle=False) as file:
        arrays = {key: file[key] for key in KEYS}
    half = [row for row, number in enumerate(arrays["index"].tolist()) if in_half(number, "first")]
    molecules = np.zeros(len(arrays["index"]), dtype=np.bool_)
    molecules[np.random.default_rng(seed).choice(half, MAX_QUERIES, replace=False)] = True
    atoms = np.repeat(molecules, arrays["num_atoms"])
    taken = {key: values[molecules if len(values) == len(molecules) else atoms] for key, values in arrays.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **taken)


def refuse_other_settings(folder: Path, settings: Sequence[str]) -> None:
    """Note the settings of a comparison in its folder.

    Raises:
        SystemExit: its jobs were begun with others.
    """
    file, text = folder / "settings.txt", "".join(f"{setting}\n" for setting in sorted(settings))
    if file.exists() and (begun := file.read_text("utf-8")) != text:
        sys.exit(f"{folder}: got the settings {text.splitlines()}, but its jobs were begun with {begun.splitlines()}")
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(file, text.encode())


def run_jobs(comparison: Comparison) -> None:
    """Do the jobs that the folder lacks, one after the other."""
    refuse_other_settings(comparison.folder, comparison.settings)
    for name, seed, work in comparison.jobs():
        file = comparison.file(name, seed)
        if file.exists():
            continue
        began = time.perf_counter()
        outcome = work()
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, json.dumps({"name": name, "seed": seed, **asdict(outcome)}).encode())
        took = time.perf_counter() - began
        print(f"{name}, seed {seed}: reward {np.mean(outcome.rewards):.3f}, {took:.0f} s", flush=True)


def main() -> None:
    """Do the missing jobs of a folder, print what they will take, or the table of those that are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--names", default=",".join(RUNS))
    parser.add_argument("--seeds", default=SEEDS)
    parser.add_argument("--known", help="a model, or a file, of all molecules that are known")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--table", action="store_true")
    options, settings = parser.parse_known_args()
    torch.set_num_threads(1)
    known = KNOWN_OF_MODEL.get(model := shipped_model(settings))
    if options.data and known is None:
        sys.exit(f"--data: got {options.data} with the policy {model}; allowed with {', '.join(KNOWN_OF_MODEL)}")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    comparison = Comparison(options.folder, settings, tuple(options.names.split(",")), seeds, options.data)
    if options.table:
        write_table(options.folder, base_weights(settings), options.known or known)
    elif options.plan:
        print_plan(comparison)
    else:
        run_jobs(comparison)


if __name__ == "__main__":
    main()
