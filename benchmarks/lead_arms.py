"""The arms of the hit-to-lead arena: ways to draw molecules that grow from the core of a series.

All arms draw the number of new atoms of a sample from the sizes of the series. With "base", "rl" and "random" sample i
of a seed has the same number; guided sampling draws more molecules than it keeps.

- "base" is the policy as it comes; "rl" is fine-tuned toward the Vina score where a molecule lies, with
  `Budget.scores` reward queries in all, and then draws without any.
- "best of 4" and "smc" spend as many queries on sampling, four for a molecule, and so draw a quarter as many.
- "random" are substituents cut from real molecules (`random_substituents.py`).
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
from lead_judge import Judge
from lead_series import Series, core_piece, sites_of, write_core
from random_substituents import Fragments, RandomSubstituents

from molrl.composition import compose
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.perception import perceive_bonds
from molrl.finetune import finetune, freeze_copy
from molrl.guidance import SMC, BestOf
from molrl.models.molecules.growth_decoder import GrowthDecoder
from molrl.noise import Key, Stream
from molrl.rewards.molecules.docking.pose import PoseScore
from molrl.rewards.molecules.docking.site import Site, box_around
from molrl.run import Run, prepare
from molrl.task import Metrics, Task, sample_chains
from molrl.training_state import TrainingError

MARGIN = 4.0  # angstrom of the box around all poses of a series
ALGORITHM = "nft"  # learns from finished samples, whatever the order of the steps
STEPS = ("policy.num_steps=25", "policy.order=2", "policy.eta=1.0")
LEARNING = ("algo.noisings=8", "epochs=1", "minibatch=400", "optimizer.lr=1e-4", "precision=bfloat16", "save_every=1")
NUM_PARTICLES, NUM_SCORED = 10, 3  # of SMC, which keeps all particles, four scores for each; 10 divide a batch
BEST_OF = 4
QUERIES = {"best of 4": BEST_OF, "smc": NUM_SCORED + 1}  # for a sample
ROUNDS = "rounds.jsonl"
RANDOM_STREAM = 7  # of the key, for the baseline's fragments
ARMS = ("random", "base", "best of 4", "smc", "rl")


@dataclass(frozen=True)
class Budget:
    """The size of the arena.

    Attributes:
        scores: reward queries of an arm that uses any.
        rounds: of fine-tuning, which divide the scores.
        unique: an arm stops at so many different valid molecules,
        draws: or after so many samples.
        batch: samples drawn at a time, and kept in one file.
        strained: different molecules whose strain is computed, the first.
    """

    scores: int = 1600
    rounds: int = 16
    unique: int = 1000
    draws: int = 2000
    batch: int = 100
    strained: int = 20


@dataclass(frozen=True, eq=False)
class Cell:
    """A series and a seed.

    Attributes:
        series: its core is kept.
        seed: of all random numbers.
        folder: of its files.
        settings: of `molrl train`: the policy.
        budget: of every arm.
        fragments: what the baseline draws from.
    """

    series: Series
    seed: int
    folder: Path
    settings: Sequence[str]
    budget: Budget
    fragments: Fragments

    @cached_property
    def site(self) -> Site:
        """Return the pocket, in a box around all poses of the series."""
        poses = np.concatenate([ligand.molecule.positions for ligand in self.series.ligands])
        box = box_around(poses, MARGIN)
        return Site(receptor=str(self.series.receptor), centre=list(box.centre), size=list(box.size))

    @cached_property
    def judge(self) -> Judge:
        """Return the judge of all arms."""
        return Judge(self.site)

    @cached_property
    def task(self) -> Task:
        """Return the policy as it comes, the decoder and the reward."""
        return self.prepared().task

    @cached_property
    def trained(self) -> Task:
        """Return the policy after fine-tuning, which goes on from the last checkpoint if there is one."""
        run, rounds = self.prepared(), Rounds(self.folder)
        try:
            finetune(run.finetuning, run.task, run.algorithm, freeze_copy(run.task.policy), self.folder, rounds.log)
        except TrainingError as error:  # such a policy is judged as it is then
            print(f"{self.folder}: {error}", flush=True)
        return run.task

    def prepared(self) -> Run:
        """Return the fine-tuning run before it begins."""
        self.folder.mkdir(parents=True, exist_ok=True)
        core = self.folder / "core.sdf"
        write_core(self.series.ligands[self.series.reference], core)
        site, sizes = self.site, ",".join(f"{size}: {count}" for size, count in self.series.sizes.items())
        rounds = (f"iterations={self.budget.rounds}", f"rollouts={self.budget.scores // self.budget.rounds}")
        config = compose(
            "train",
            [
                *("task=grow", f"algo={ALGORITHM}", f"seed={self.seed}", "threads=1", "compile=false", *STEPS),
                *(f"task.core={core}", f"task.attach={self.series.attach}".replace(" ", "")),
                *(f"task.atoms={{{sizes}}}", f"task.avoid={site.receptor}", f"reward.site.receptor={site.receptor}"),
                *(f"reward.site.centre={list(site.centre or ())}", f"reward.site.size={list(site.size or ())}"),
                *(*LEARNING, *rounds, *self.settings),
            ],
        )
        return prepare(config, PoseScore(reader=perceive_bonds, site=site))

    @property
    def decoder(self) -> GrowthDecoder:
        """Return the decoder, which draws sizes and reads samples."""
        return cast(GrowthDecoder, self.task.decoder)

    @property
    def key(self) -> Key:
        """Return the key of the samples that are judged, the same for all arms."""
        return Key(self.seed, Stream.MEASUREMENT)

    def last(self, arm: str) -> int:
        """Return how many samples an arm may draw."""
        draws, each = self.budget.draws, QUERIES.get(arm, 0)
        return min(draws, self.budget.scores // each) if each else draws

    def draw(self, arm: str, samples: range) -> Sequence[Molecule | None]:
        """Return the samples of an arm with these indices."""
        if arm == "random":
            return self.draw_random(samples)
        if arm == "best of 4":
            return BestOf(of=BEST_OF).draw(self.task, samples, self.key).samples
        if arm == "smc":
            return self.smc.draw(self.task, samples, self.key).samples
        policy = (self.trained if arm == "rl" else self.task).policy
        chains = sample_chains(policy, self.decoder, samples, self.key, self.task.device)
        return self.decoder.decode(chains.final, chains.context)

    @property
    def smc(self) -> SMC:
        """Return the settings of SMC: conf/guidance/smc.yaml but for what it keeps and the unit, kcal/mol."""
        return SMC(
            particles=NUM_PARTICLES,
            kept=NUM_PARTICLES,
            temperature=1.0,
            threshold=0.5,
            first=0.4,
            last=0.8,
            scored=NUM_SCORED,
            lookahead=3,
        )

    def draw_random(self, samples: range) -> Sequence[Molecule | None]:
        """Return molecules of the baseline with the numbers of new atoms that the other arms draw."""
        reference = self.series.ligands[self.series.reference]
        sampler = RandomSubstituents(
            core=core_piece(reference),
            molecule=self.decoder.core.molecule,
            sites=sites_of(reference),
            fragments=self.fragments,
            overlap=self.judge.clashes,
        )
        sizes = self.decoder.sizes.draw(samples, self.key)
        streams = (np.random.default_rng([self.seed, RANDOM_STREAM, sample]) for sample in samples)
        return [sampler.draw(size, stream) for size, stream in zip(sizes, streams, strict=True)]


class Rounds:
    """The rounds of a fine-tuning, kept in its folder with their CPU seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.began = folder, time.process_time()

    def log(self, row: Metrics) -> None:
        """Add a round, and print its mean reward."""
        now = time.process_time()
        kept = {name: row[name] for name in ("iteration", "reward", "reward_queries")}
        kept["cpu_seconds"] = now - self.began
        with (self.folder / ROUNDS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(kept) + "\n")
        print(f"{self.folder}: round {row['iteration']:.0f}, reward {row['reward']:.3f}", flush=True)
        self.began = now
