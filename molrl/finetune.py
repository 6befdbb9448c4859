"""The fine-tuning loop: roll out, score, learn, look."""

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from molrl import checkpoint
from molrl.algos import Algorithm, Collected
from molrl.noise import Key
from molrl.policy import Policy
from molrl.task import Metrics, Task
from molrl.trajectory import Transitions

SHUFFLE_STREAM = -3  # keyed draws with this step number order the minibatches


class TrainingError(RuntimeError):
    """Training cannot go on; says why, in one line."""


@dataclass(frozen=True, kw_only=True)
class Finetuning:
    """The numbers of one fine-tuning run.

    Attributes:
        iterations: rounds of rollout and learning.
        rollouts: samples per round.
        minibatch: reverse steps per optimiser step.
        epochs: passes over a round's reverse steps.
        optimizer: parameters -> torch optimiser.
        clip_norm: largest norm of the gradient.
        ratio_tolerance: nats; the first minibatch of a round is evaluated with unchanged weights, so that a larger
            |log-ratio| means that rollout and training disagree about the policy.
        lost_limit: largest share of a round's samples that may be without a reward.
        seed: of everything random.
        save_every: rounds between checkpoints.
    """

    iterations: int
    rollouts: int
    minibatch: int
    epochs: int
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    clip_norm: float
    ratio_tolerance: float
    lost_limit: float
    seed: int
    save_every: int

    def __post_init__(self) -> None:
        for name in ("iterations", "rollouts", "minibatch", "epochs", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, need at least 1")
        for name in ("clip_norm", "ratio_tolerance"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, need a number above 0")
        if not 0 <= self.lost_limit <= 1:
            raise ValueError(f"lost_limit: got {self.lost_limit}, allowed 0 to 1")

    def run(
        self, task: Task, algorithm: Algorithm, reference: Policy, folder: Path | None, log: Callable[[Metrics], None]
    ) -> None:
        """Fine-tune the task's denoiser in place, one `log(metrics)` per round.

        With a folder, the run continues from the checkpoint in it, bit for bit, and leaves checkpoints there.

        Raises:
            TrainingError: rollout and training disagree, a gradient is not finite, or too many rewards are missing.
        """
        refuse_determinism(task.policy)
        denoiser = trainable(task.policy)
        optimizer = self.optimizer(denoiser.parameters())
        state = State(denoiser, optimizer)
        start = state.restore(folder) if folder else 0
        for iteration in range(start, self.iterations):
            began = time.perf_counter()
            key = Key(self.seed, stream=iteration + 1)
            samples = list(range(iteration * self.rollouts, (iteration + 1) * self.rollouts))
            collected = algorithm.collect(task, samples, key)
            self.refuse_lost(collected.rollouts.rewards)
            learning = time.perf_counter()
            learned = self.learn(task.policy, reference, algorithm, collected.table, optimizer, key)
            metrics = {
                "iteration": iteration,
                **summary(task, collected),
                **collected.metrics,
                **learned,
                "kl": chain_kl(task.policy, reference, all_steps(collected), self.minibatch),
                "seconds_train": time.perf_counter() - learning,
                "seconds": time.perf_counter() - began,
            }
            log(metrics)  # first: a row too many is dropped at the restart, a row too few would be lost
            if folder and ((iteration + 1) % self.save_every == 0 or iteration + 1 == self.iterations):
                state.save(folder, iteration + 1)

    def learn(
        self,
        policy: Policy,
        reference: Policy,
        algorithm: Algorithm,
        table: Transitions,
        optimizer: torch.optim.Optimizer,
        key: Key,
    ) -> Metrics:
        """`epochs` passes of minibatch updates; the means of what the loss reports."""
        if not len(table):
            raise TrainingError("no reverse step is left to learn from: none of the rewards it needs could be computed")
        seen: list[Metrics] = []
        parameters = list(trainable(policy).parameters())
        for rows in self.minibatches(len(table), key):
            batch = table[rows.to(table.x.device)]
            loss, metrics = algorithm.loss(policy, reference, batch)
            if not seen:
                metrics["max_abs_log_ratio_first"] = self.refuse_stale(metrics["max_abs_log_ratio"])
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(parameters, self.clip_norm)
            if not norm.isfinite():
                raise TrainingError(f"gradient norm is {norm.item()}: nothing was updated with it")
            optimizer.step()
            seen.append({**metrics, "loss": loss.item(), "grad_norm": norm.item()})
        first = seen[0].pop("max_abs_log_ratio_first")
        mean = {name: sum(step[name] for step in seen) / len(seen) for name in seen[0]}
        return {**mean, "max_abs_log_ratio_first": first, "updates": float(len(seen))}

    def minibatches(self, rows: int, key: Key) -> Iterator[Tensor]:
        """Rows in a fresh order for every epoch, in equal shares of at most `minibatch`."""
        for epoch in range(self.epochs):
            order = key.permutation(rows, SHUFFLE_STREAM - epoch)
            yield from order.tensor_split(math.ceil(rows / self.minibatch))

    def refuse_stale(self, log_ratio: float) -> float:
        """Before the first update the ratio is one, or something is wrong."""
        if not log_ratio <= self.ratio_tolerance:
            raise TrainingError(
                f"log-ratio {log_ratio:.3g} nats before any update, tolerance {self.ratio_tolerance}: "
                "rollout and training do not evaluate the same policy"
            )
        return log_ratio

    def refuse_lost(self, rewards: Tensor) -> None:
        """Too many samples without a reward: nothing can be learned."""
        lost = rewards.isnan().float().mean().item()
        if lost > self.lost_limit:
            raise TrainingError(
                f"{lost:.0%} of {len(rewards)} samples could not be scored, more than the {self.lost_limit:.0%} allowed"
            )


@dataclass(frozen=True)
class State:
    """Everything that changes from round to round; all randomness is keyed by the round's number."""

    denoiser: nn.Module
    optimizer: torch.optim.Optimizer

    @property
    def names(self) -> dict[Tensor, str]:
        """Parameter -> name."""
        return {parameter: name for name, parameter in self.denoiser.named_parameters()}

    def save(self, folder: Path, iteration: int) -> None:
        """Write the checkpoint after `iteration` rounds."""
        optimizer = checkpoint.optimizer_tensors(self.optimizer, self.names)
        tensors = {"denoiser": self.denoiser.state_dict(), "optimizer": optimizer}
        checkpoint.save(folder / "checkpoint", tensors, {"progress": {"iteration": iteration}})

    def restore(self, folder: Path) -> int:
        """Continue from the folder's checkpoint, if there is one; the number of rounds it had made."""
        if not checkpoint.present(folder / "checkpoint"):
            return 0
        tensors, values = checkpoint.load(folder / "checkpoint")
        checkpoint.check_fits(self.denoiser.state_dict(), tensors["denoiser"], type(self.denoiser).__name__)
        self.denoiser.load_state_dict(tensors["denoiser"])
        checkpoint.load_optimizer(self.optimizer, self.names, tensors["optimizer"])
        return int(values["progress"]["iteration"])


def trainable(policy: Policy) -> nn.Module:
    """The policy's denoiser as a module."""
    if not isinstance(policy.denoiser, nn.Module):
        raise TypeError(f"denoiser: got {type(policy.denoiser).__name__}, fine-tuning needs a torch module")
    return policy.denoiser


def refuse_determinism(policy: Policy) -> None:
    """A step without noise has no density, and a policy gradient nothing to work on."""
    if getattr(policy.sampler, "eta", 1.0) == 0:
        raise ValueError("eta: got 0, a deterministic chain; fine-tuning needs eta above 0")


def frozen(policy: Policy) -> Policy:
    """A copy that stays as it is: the reference."""
    denoiser = copy.deepcopy(trainable(policy)).requires_grad_(False).eval()
    return replace(policy, denoiser=denoiser)


def summary(task: Task, collected: Collected) -> Metrics:
    """What every round reports of its rollouts."""
    rewards = collected.rollouts.rewards
    known = rewards[~rewards.isnan()]
    held_out: dict[str, Any] = dict(task.domain.measure(collected.rollouts.samples))
    return {
        "reward": known.mean().item(),
        "reward_std": known.std(correction=0).item(),
        "reward_lost": 1 - len(known) / len(rewards),
        **held_out,
        "reward_queries": float(collected.reward_queries),
        "seconds_rollout": collected.rollouts.seconds["rollout"],
        "seconds_reward": collected.rollouts.seconds["reward"] + collected.seconds_reward,
    }


def all_steps(collected: Collected) -> Transitions:
    """Every reverse step of the round's rollouts, whatever part of them was learned from."""
    return collected.rollouts.trajectory.transitions(torch.zeros_like(collected.rollouts.rewards))


@torch.no_grad()
def chain_kl(policy: Policy, reference: Policy, table: Transitions, rows: int) -> float:
    """KL of whole chains to the reference, nats: the mean exact KL of the table's steps times the number of steps."""
    batch = table[torch.linspace(0, len(table) - 1, min(rows, len(table))).round().long().to(table.x.device)]
    return policy.transition(batch).kl(reference.transition(batch)).mean().item() * policy.sampler.num_steps
