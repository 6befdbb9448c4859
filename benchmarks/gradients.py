"""Methods that follow the gradient of a reward, with a held-out scorer beside the one that they follow.

    python benchmarks/gradients.py shapes METHOD [SEED ...]     # draft, draft_kl, refl, adjoint or rgdm
    python benchmarks/gradients.py docking METHOD [SEED ...]

Fine-tunes a shipped model for few and small rounds. `shapes`: toward one kind of its class by one classifier
(`task=class_logit`); held out is what a second classifier of other weights says of whether the same samples are still
of their class. `docking`: molecules of `qm9_heavy` toward the docking score in the pocket of 1IEP (a file of the tests)
and QED; held out is the desirability of their strain. Each row is a run: the means of both before and after training on
the same fresh noise, the KL of the chain in nats, and the seconds of the training alone.
"""

import sys
import time
from typing import NamedTuple

from molrl.building import build
from molrl.composition import compose
from molrl.data.files import EXAMPLES
from molrl.diagnostics import chain_kl, probe_rollouts
from molrl.finetune import finetune, freeze_copy
from molrl.noise import Key, Stream
from molrl.policy import Policy
from molrl.run import Run, prepare

ROUNDS, ROLLOUTS = 6, 16
COMMON = (f"iterations={ROUNDS}", f"rollouts={ROLLOUTS}", "device=cpu")
METHODS: dict[str, tuple[str, ...]] = {
    "draft": ("algo=draft", "minibatch=16"),
    "draft_kl": ("algo=draft", "algo.steps=5", "algo.kl_weight=0.1", "minibatch=16"),
    "refl": ("algo=refl", "minibatch=16"),
    "adjoint": ("algo=adjoint", "algo.kl_weight=0.1", "minibatch=64"),
    "rgdm": ("algo=rgdm", "algo.guidance=gradient", "minibatch=64"),
}


class Problem(NamedTuple):
    """The reward of a task, the settings of its judge, and the number of samples that both are measured on."""

    settings: tuple[str, ...]
    judge: tuple[str, ...]
    measured: int


PROBLEMS = {
    "shapes": Problem(
        ("task=class_logit", "policy.num_steps=10"),
        ("task=class_logit", "reward=shape_class", "reward.weights=shape_judge"),
        32,
    ),
    "docking": Problem(
        (
            "task=docking",
            "reward.workers=0",
            f"reward.site.receptor={EXAMPLES / '1iep_pocket.pdbqt'}",
            f"reward.site.ligand={EXAMPLES / '1iep_ligand.pdbqt'}",
        ),
        ("task=qed", "reward=strain", "reward.workers=0"),
        64,
    ),
}


def scores(problem: Problem, run: Run, reference: Policy) -> tuple[float, float, float]:
    """Return the means of both rewards over fresh samples of the policy, and the KL of its chain."""
    rollouts = run.task.rollout(list(range(problem.measured)), Key(run.finetuning.seed, Stream.MEASUREMENT))
    held_out = build(compose("train", problem.judge)["reward"], "reward")(rollouts.samples)
    kl = chain_kl(run.task.policy, reference, probe_rollouts(rollouts))
    return rollouts.rewards.nanmean().item(), held_out.nanmean().item(), kl


def measure(problem: Problem, method: str, seed: int) -> str:
    """Fine-tune once and return a row in Markdown."""
    run = prepare(compose("train", [*problem.settings, *COMMON, *METHODS[method], f"seed={seed}"]))
    reference = freeze_copy(run.task.policy)
    before, began = scores(problem, run, reference), time.perf_counter()
    finetune(run.finetuning, run.task, run.algorithm, reference, None, lambda _: None)
    seconds, after = time.perf_counter() - began, scores(problem, run, reference)
    numbers = (before[0], after[0], before[1], after[1], after[2])
    return f"| {method} | {seed} | " + " | ".join(f"{number:.3f}" for number in numbers) + f" | {seconds:.0f} |"


if __name__ == "__main__":
    for number in map(int, sys.argv[3:] or ["0"]):
        print(measure(PROBLEMS[sys.argv[1]], sys.argv[2], number), flush=True)
