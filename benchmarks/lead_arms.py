"""The arms of the hit-to-lead arena: ways to draw molecules that grow from the core of a series.

All arms draw the numbers of new atoms of sample i from the sizes of the series with the same random number, so that they
are the same molecule by molecule ("rl", "base", "random") or in distribution.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch
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
STEPS = ("policy.num_steps=25", "policy.order=2", "policy.eta=1.0")
LEARNING = ("algo.noisings=8", "epochs=1", "minibatch=400", "optimizer.lr=1e-4", "precision=bfloat16", "save_every=1")
NUM_PARTICLES, NUM_SCORED = 12, 3  # of SMC, which keeps all particles: 4 scores for each
BEST_OF = 4
RANDOM_STREAM = 7  # of the key, for the baseline's fragments
ARMS = ("base", "rl", "best of 4", "smc", "random")


@dataclass(frozen=True)
class Budget:
    """The size of the arena.

    Attributes:
        scores: reward queries of an arm that uses any.
        rounds: of fine-tuning, which divide the scores.
        unique: an arm stops at so many different valid molecules,
        draws: or after so many samples.
        batch: samples drawn at a time, and kept in one file.
        strained: first different molecules whose strain is computed.
    """

    scores: int = 1600
    rounds: int = 16
    unique: int = 1000
    draws: int = 2000
    batch: int = 100
    strained: int = 50


@dataclass(frozen=True, eq=False)
class Cell:
    """A series and a seed.

    Attributes:
        series: its core is kept.
        seed: of all random numbers.
        folder: of its files.
        algorithm: that fine-tunes.
        settings: of `molrl train`, such as the policy.
        budget: of every arm.
        fragments: what the baseline draws from.
    """

    series: Series
    seed: int
    folder: Path
    algorithm: str
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
    def run(self) -> Run:
        """Return the fine-tuning run, whose task before training is what "base" and guided sampling draw from."""
        self.folder.mkdir(parents=True, exist_ok=True)
        core = self.folder / "core.sdf"
        write_core(self.series.ligands[self.series.reference], core)
        site, sizes = self.site, ",".join(f"{size}: {count}" for size, count in self.series.sizes.items())
        rounds = (f"iterations={self.budget.rounds}", f"rollouts={self.budget.scores // self.budget.rounds}")
        config = compose(
            "train",
            [
                *("task=grow", f"algo={self.algorithm}", f"seed={self.seed}", "threads=1", "compile=false", *STEPS),
                *(f"task.core={core}", f"task.attach={self.series.attach}".replace(" ", "")),
                *(f"task.atoms={{{sizes}}}", f"task.avoid={site.receptor}", f"reward.site.receptor={site.receptor}"),
                *(f"reward.site.centre={list(site.centre or ())}", f"reward.site.size={list(site.size or ())}"),
                *(*LEARNING, *rounds, *self.settings),
            ],
        )
        return prepare(config, PoseScore(reader=perceive_bonds, site=site))

    @property
    def task(self) -> Task:
        """Return the task of the run."""
        return self.run.task

    @property
    def decoder(self) -> GrowthDecoder:
        """Return the decoder, which draws sizes and reads samples."""
        return cast(GrowthDecoder, self.task.decoder)

    @property
    def key(self) -> Key:
        """Return the key of the samples that are judged, the same for all arms."""
        return Key(self.seed, Stream.MEASUREMENT)

    def draws(self, arm: str, start: int) -> Iterator[Sequence[Molecule | None]]:
        """Yield the samples of an arm from an index on, batch by batch, up to the end of its budget."""
        if arm == "rl":
            self.train()
        last = self.budget.draws
        if arm in ("best of 4", "smc"):
            last = min(last, self.budget.scores // (BEST_OF if arm == "best of 4" else NUM_SCORED + 1))
        for first in range(start, last, self.budget.batch):
            yield self.draw(arm, range(first, min(first + self.budget.batch, last)))

    @torch.no_grad()
    def draw(self, arm: str, samples: range) -> Sequence[Molecule | None]:
        """Return the samples of an arm with these indices."""
        if arm == "random":
            return self.draw_random(samples)
        if arm == "best of 4":
            return BestOf(of=BEST_OF).draw(self.task, samples, self.key).samples
        if arm == "smc":
            return self.smc.draw(self.task, samples, self.key).samples
        chains = sample_chains(self.task.policy, self.decoder, samples, self.key, self.task.device)
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

    def train(self) -> None:
        """Fine-tune the policy in place, from the last checkpoint if there is one."""
        run = self.run
        try:
            finetune(run.finetuning, run.task, run.algorithm, freeze_copy(run.task.policy), self.folder, self.log)
        except TrainingError as error:  # such a policy is judged as it is then
            print(f"{self.folder}: {error}", flush=True)

    def log(self, row: Metrics) -> None:
        """Print the mean reward of a round."""
        print(f"{self.folder}: round {row['iteration']:.0f}, reward {row['reward_mean']:.3f}", flush=True)


def without_training(cell: Cell) -> Cell:
    """Return a cell whose policy is as it was before training."""
    return replace(cell)


def mean(values: Mapping[str, float]) -> float:
    """Return a mean."""
    return math.fsum(values.values()) / len(values)
