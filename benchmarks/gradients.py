"""Methods that follow the gradient of a reward, on point clouds, with a held-out scorer beside the one they follow.

    python benchmarks/gradients.py METHOD [SEED ...]      # draft, draft_kl, refl, adjoint or rgdm

Fine-tunes the shipped model of shapes toward one kind of its class by one classifier (`task=class_logit`), for few and
small rounds, and reads off what a second classifier of other weights says of whether the same samples are still of
their class (`held out`). Each row is a run: the means of both before and after training on the same fresh noise, the
KL of the chain in nats, and the seconds of the training alone.
"""

import sys
import time

from molrl.building import build
from molrl.composition import compose
from molrl.diagnostics import chain_kl, probe_rollouts
from molrl.finetune import finetune, freeze_copy
from molrl.noise import Key, Stream
from molrl.policy import Policy
from molrl.run import Run, prepare

ROUNDS, ROLLOUTS, MEASURED, STEPS = 6, 16, 32, 10
COMMON = ("task=class_logit", f"iterations={ROUNDS}", f"rollouts={ROLLOUTS}", f"policy.num_steps={STEPS}", "device=cpu")
METHODS: dict[str, tuple[str, ...]] = {
    "draft": ("algo=draft", "minibatch=16"),
    "draft_kl": ("algo=draft", "algo.steps=5", "algo.kl_weight=0.1", "minibatch=16"),
    "refl": ("algo=refl", "minibatch=16"),
    "adjoint": ("algo=adjoint", "algo.kl_weight=0.1", "minibatch=64"),
    "rgdm": ("algo=rgdm", "algo.guidance=gradient", "minibatch=64"),
}
JUDGE = ("task=class_logit", "reward=shape_class", "reward.weights=shape_judge")


def scores(run: Run, reference: Policy) -> tuple[float, float, float]:
    """Return the means of both rewards over fresh samples of the policy, and the KL of its chain."""
    rollouts = run.task.rollout(list(range(MEASURED)), Key(run.finetuning.seed, Stream.MEASUREMENT))
    held_out = build(compose("train", JUDGE)["reward"], "reward")(rollouts.samples)
    kl = chain_kl(run.task.policy, reference, probe_rollouts(rollouts))
    return rollouts.rewards.nanmean().item(), held_out.nanmean().item(), kl


def measure(name: str, seed: int) -> str:
    """Fine-tune once and return a row in Markdown."""
    run = prepare(compose("train", [*COMMON, *METHODS[name], f"seed={seed}"]))
    reference = freeze_copy(run.task.policy)
    before, began = scores(run, reference), time.perf_counter()
    finetune(run.finetuning, run.task, run.algorithm, reference, None, lambda _: None)
    seconds, after = time.perf_counter() - began, scores(run, reference)
    numbers = (before[0], after[0], before[1], after[1], after[2])
    return f"| {name} | {seed} | " + " | ".join(f"{number:.3f}" for number in numbers) + f" | {seconds:.0f} |"


if __name__ == "__main__":
    for number in map(int, sys.argv[2:] or ["0"]):
        print(measure(sys.argv[1], number), flush=True)
