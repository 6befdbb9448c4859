"""The fine-tuning loop: roll out, score, learn, look."""

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from molrl.algos import Algorithm, Collected, Learner, Table
from molrl.diagnostics import Gathered, pre_update_metrics
from molrl.machine.interruption import never
from molrl.machine.processes import Processes
from molrl.noise import Draw, Key, Stream
from molrl.policy import Policy
from molrl.runs import checkpoint
from molrl.runs.checkpoints import CHECKPOINTS, CheckpointPolicy, Series, as_checkpoint_error
from molrl.runs.snapshot import (
    RANDOM,
    flags,
    layout,
    random_tensors,
    random_values,
    restore_flags,
    restore_random,
    seeded,
    warn_of_another_layout,
)
from molrl.samplers import Denoiser
from molrl.task import Metrics, Task
from molrl.trainable_parameters import parameters_to_freeze


class TrainingError(RuntimeError):
    """Training cannot go on; says why, in one line."""


@dataclass(frozen=True, kw_only=True)
class Finetuning:
    """The numbers of one fine-tuning run.

    Attributes:
        iterations: rounds of rollout and learning.
        rollouts: samples per round.
        minibatch: rows of the algorithm's table per optimiser step, over all processes.
        epochs: passes over a round's table.
        optimizer: parameters -> torch optimiser.
        clip_norm: largest norm of the gradient.
        ratio_tolerance: nats; some reverse steps of each round are evaluated again before it learns, and a larger
            |log-ratio| means that rollout and training disagree about the policy.
        lost_limit: largest share of a round's samples that may be without a reward.
        seed: of everything random.
        save_every: rounds between checkpoints.
        fresh_optimizer: begin every round with an optimiser that remembers nothing of the last one.
        keep: which checkpoints stay.
        microbatch: rows of a minibatch that are computed at a time, where memory is short; None: all of them. Updates
            are the same.
        trained: names of the denoiser's parameters that learn, or patterns with * for them; the others stay as they
            are. None: all that can.
    """

    iterations: int
    rollouts: int
    minibatch: int
    epochs: int
    optimizer: Callable[[Iterable[Any]], torch.optim.Optimizer]
    clip_norm: float
    ratio_tolerance: float
    lost_limit: float
    seed: int
    save_every: int
    fresh_optimizer: bool
    keep: CheckpointPolicy
    microbatch: int | None = None
    trainable_parameters: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        for name in ("iterations", "rollouts", "minibatch", "epochs", "save_every", "microbatch"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}: got {value}, need at least 1")
        for name in ("clip_norm", "ratio_tolerance"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, need a number above 0")
        if not 0 <= self.lost_limit <= 1:
            raise ValueError(f"lost_limit: got {self.lost_limit}, allowed 0 to 1")

    def run(
        self,
        task: Task,
        algorithm: Algorithm,
        reference: Policy,
        folder: Path | None,
        log: Callable[[Metrics], None],
        should_stop: Callable[[], bool] = never,
    ) -> None:
        """Fine-tune the task's denoiser in place, one `log(metrics)` per round.

        With a folder, the run continues from the checkpoint in it, bit for bit, and leaves checkpoints there. It ends
        early, after a round and a checkpoint, once `should_stop` says so. All the task's processes call this; the first
        one writes, and all log the same numbers, but for seconds.

        Raises:
            TrainingError: rollout and training disagree, a gradient is not finite, or too many rewards are missing.
        """
        self.check(task, algorithm)
        for parameter in parameters_to_freeze(trainable(task.policy), self.trainable_parameters):
            parameter.requires_grad = False
        learner = Learner(task, reference, self.modules(task, algorithm).to(task.device))
        optimizer = self.optimizer(parameter_groups(learner, algorithm))
        state, world = State(learner, optimizer, self.keep), task.processes
        with world.main_first():
            start = state.restore(folder) if folder else 0
        refuse_another_start(start, world)
        world.agree(tensor for module in state.parts.values() for tensor in module.state_dict().values())
        for iteration in range(start, self.iterations):
            began = time.perf_counter()
            key = Key(self.seed, Stream.ROUND.at(iteration))
            samples = list(range(iteration * self.rollouts, (iteration + 1) * self.rollouts))
            collected = algorithm.collect(learner, samples, key)
            self.refuse_lost(collected.rollouts.rewards)
            metrics = {"iteration": iteration, **summary(task, collected), **pre_update_metrics(learner, collected)}
            self.refuse_log_ratio(metrics["max_abs_log_ratio_first"])
            learning = time.perf_counter()
            learned = self.learn(learner, algorithm, collected, optimizer, key)
            seconds = {"seconds_train": time.perf_counter() - learning, "seconds": time.perf_counter() - began}
            log({**metrics, **learned, **seconds})  # before the checkpoint: a row too many is dropped at the restart
            state.track_best(iteration, collected.behaviour, {**metrics, **learned})
            stopping = world.any(should_stop())
            due = (iteration + 1) % self.save_every == 0 or iteration + 1 == self.iterations or stopping
            if folder and world.is_main and due:
                state.save(folder, iteration + 1)
            if stopping:
                return

    def check(self, task: Task, algorithm: Algorithm) -> None:
        """Refuse what cannot work before anything is done.

        Raises:
            ValueError: a chain without noise, an algorithm that asks for what the task has not, groups left incomplete,
                a name that no parameter has.
        """
        refuse_determinism(task.policy)
        parameters_to_freeze(trainable(task.policy), self.trainable_parameters)
        self.modules(task, algorithm)
        size = getattr(algorithm, "group_size", 1)
        if self.rollouts % size:
            raise ValueError(f"rollouts: got {self.rollouts}, need a multiple of the group size {size}")
        task.processes.share(self.rollouts, size)

    def modules(self, task: Task, algorithm: Algorithm) -> nn.ModuleDict:
        """What the algorithm owns; the weights that a value network begins with follow from the seed."""
        with seeded(self.seed):
            return algorithm.modules(task)

    def learn(
        self,
        learner: Learner,
        algorithm: Algorithm,
        collected: Collected[Table],
        optimizer: torch.optim.Optimizer,
        key: Key,
    ) -> Metrics:
        """`epochs` passes of minibatch updates; the means of what the loss reports.

        A minibatch is one of the rows of all processes; each adds the gradient of its own.
        """
        world, table = learner.task.processes, collected.table
        number, count = numbered(collected, world)
        if not count or (world.lockstep and world.any(not len(table))):
            whom = "one of the processes that share a network" if count else "anybody"
            raise TrainingError(f"nothing is left to learn from for {whom}: no reward it needs could be computed")
        if self.fresh_optimizer:
            optimizer.state.clear()
        seen, losses, norms = Gathered(), list[float](), list[float]()
        place = torch.full((count,), -1).scatter(0, number, torch.arange(len(table)))  # -1: another process has it
        for rows in self.minibatches(count, key):
            optimizer.zero_grad()
            loss = 0.0
            parts = list(self.microbatches(place[rows]))
            spare = world.missing_passes(len(parts))
            for part in parts:
                batch, share = table[part], len(part) / len(rows)
                mean, facts = algorithm.loss(learner, batch)
                (mean * share).backward()
                seen.add(batch.step, facts)
                loss += mean.item() * share
            for _ in range(spare):  # for the others' sake
                (algorithm.loss(learner, table[place.new_zeros(1)])[0] * 0).backward()
            world.sum_gradients(parameter for group in optimizer.param_groups for parameter in group["params"])
            norm = self.clipped_norm(optimizer)
            if not math.isfinite(norm):
                raise TrainingError(f"gradient norm is {norm}: nothing was updated with it")
            optimizer.step()
            losses.append(loss)
            norms.append(norm)
        found = seen.summary(learner.policy.sampler.num_steps, world)
        losses, updates = world.sum(torch.tensor(losses, dtype=torch.float64)).tolist(), len(losses)
        return {**found, "loss": sum(losses) / updates, "grad_norm": sum(norms) / updates, "updates": float(updates)}

    def clipped_norm(self, optimizer: torch.optim.Optimizer) -> float:
        """Clip the gradients of the policy and those of each module by themselves; the norm of the policy's before."""
        norms = [nn.utils.clip_grad_norm_(group["params"], self.clip_norm) for group in optimizer.param_groups]
        return norms[0].item() if all(norm.isfinite() for norm in norms) else math.nan

    def minibatches(self, rows: int, key: Key) -> Iterator[Tensor]:
        """Rows in a fresh order for every epoch, in equal shares of at most `minibatch`."""
        for epoch in range(self.epochs):
            order = key.permutation(rows, Draw.SHUFFLE.at(epoch))
            yield from order.tensor_split(math.ceil(rows / self.minibatch))

    def microbatches(self, places: Tensor) -> Iterator[Tensor]:
        """The rows of a minibatch that this process has, some at a time."""
        own = places[places >= 0]
        if len(own):
            yield from own.split(self.microbatch or len(own))

    def refuse_log_ratio(self, log_ratio: float) -> None:
        """Before the first update the ratio is one, or something is wrong."""
        if not log_ratio <= self.ratio_tolerance:
            raise TrainingError(
                f"log-ratio {log_ratio:.3g} nats before any update, tolerance {self.ratio_tolerance}: "
                "rollout and training do not evaluate the same policy"
            )

    def refuse_lost(self, rewards: Tensor) -> None:
        """Too many samples without a reward: nothing can be learned."""
        lost = rewards.isnan().float().mean().item()
        if lost > self.lost_limit:
            raise TrainingError(
                f"{lost:.0%} of {len(rewards)} samples could not be scored, more than the {self.lost_limit:.0%} allowed"
            )


@dataclass
class State:
    """Everything that changes from round to round; all randomness of ours is keyed by the round's number.

    Attributes:
        best: the number of rounds made of the best checkpoint so far, and its value of the metric.
        saved: the number of rounds made of the last checkpoint.
    """

    learner: Learner
    optimizer: torch.optim.Optimizer
    keep: CheckpointPolicy
    best: tuple[int, float] | None = None
    saved: int = 0

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The modules with a state, by the name of their file."""
        modules = {"denoiser": trainable(self.learner.policy), "algorithm": self.learner.modules}
        return {name: module for name, module in modules.items() if module.state_dict()}

    @property
    def names(self) -> dict[Tensor, str]:
        """Parameter -> name."""
        return {p: f"{part}.{name}" for part, module in self.parts.items() for name, p in module.named_parameters()}

    def track_best(self, iteration: int, behaviour: Policy, row: Mapping[str, float]) -> None:
        """A round tells how good the weights are that it sampled with: those of the checkpoint before it."""
        if self.keep.best not in row:
            raise TrainingError(f"keep.best={self.keep.best}: no such metric; there are {', '.join(sorted(row))}")
        value = row[self.keep.best]
        own = behaviour is self.learner.policy and self.saved == iteration > 0
        if own and self.keep.better(value, self.best[1] if self.best else math.nan):
            self.best = iteration, value

    def save(self, folder: Path, iteration: int) -> None:
        """Write the checkpoint after `iteration` rounds."""
        broken = [name for parameter, name in self.names.items() if not parameter.isfinite().all()]
        if broken:
            raise TrainingError(f"weights hold NaN or infinity and are not kept: {', '.join(broken)}")
        tensors = {name: module.state_dict() for name, module in self.parts.items()}
        tensors["optimizer"] = checkpoint.optimizer_tensors(self.optimizer, self.names)
        tensors[RANDOM] = random_tensors()
        values = {
            "progress": {"iteration": iteration, "best": self.best},
            "flags": flags(self.parts),
            "layout": layout(self.learner.task.device),
            RANDOM: random_values(),
        }
        self.series(folder).save(iteration, tensors, values, [self.best[0]] if self.best else [])
        self.saved = iteration

    def restore(self, folder: Path) -> int:
        """Continue from the folder's last checkpoint, if there is one; the number of rounds it had made."""
        last = self.series(folder).latest()
        if last is None:
            return 0
        with as_checkpoint_error(folder / CHECKPOINTS):
            for name, module in self.parts.items():
                checkpoint.check_fits(module.state_dict(), last.tensors.get(name, {}), f"the {name} of this run")
                module.load_state_dict(last.tensors[name])
            checkpoint.load_optimizer(self.optimizer, self.names, last.tensors["optimizer"])
            restore_flags(self.parts, last.values["flags"])
            restore_random(last.tensors[RANDOM], last.values[RANDOM])
            warn_of_another_layout(last.values["layout"], layout(self.learner.task.device))
            best = last.values["progress"]["best"]
            self.best = best and (int(best[0]), float(best[1]))
        self.saved = last.step
        return last.step

    def series(self, folder: Path) -> Series:
        """A run's checkpoints."""
        return Series(folder / CHECKPOINTS, self.keep.newest)


def numbered(collected: Collected[Table], world: Processes) -> tuple[Tensor, int]:
    """Numbers of this process's rows in the table that one process would have, and the length of that table."""
    rollouts = collected.rollouts
    place = collected.row_order.cpu() * len(rollouts.rewards) + rollouts.first + collected.table.sample.cpu()
    places = world.gather(place).sort().values
    return torch.searchsorted(places, place), len(places)


def refuse_another_start(start: int, world: Processes) -> None:
    """All processes must have read the same checkpoint."""
    starts = world.gather(torch.tensor([start])).tolist()
    if len(set(starts)) > 1:
        raise TrainingError(
            f"processes found checkpoints of {starts} rounds: the run folder must be one for all of them"
        )


def parameter_groups(learner: Learner, algorithm: Algorithm) -> list[dict[str, Any]]:
    """What is optimised: the policy's denoiser first, then the algorithm's modules, each at its own rate."""
    groups: list[dict[str, Any]] = [{"params": list(trainable(learner.policy).parameters())}]
    for name, module in learner.modules.items():
        if parameters := list(module.parameters()):
            groups.append({"params": parameters, "lr": algorithm.learning_rate(name)})
    return groups


def trainable(policy: Policy) -> nn.Module:
    """The policy's denoiser as a module."""
    if not isinstance(policy.denoiser, nn.Module):
        raise TypeError(f"denoiser: got {type(policy.denoiser).__name__}, fine-tuning needs a torch module")
    return policy.denoiser


def refuse_determinism(policy: Policy) -> None:
    """A step without noise has no density, and a policy gradient nothing to work on."""
    if getattr(policy.sampler, "eta", 1.0) == 0:
        raise ValueError("eta: got 0, a deterministic chain; fine-tuning needs eta above 0")


class Adapted(Protocol):
    """A denoiser that trains an adapter on top of weights that stay."""

    def without_adapter(self) -> Denoiser:
        """The same weights with the adapter switched off: the pretrained model, at no cost of memory."""
        ...


def frozen(policy: Policy) -> Policy:
    """The policy as it is now, whatever becomes of it: the reference.

    A copy, or the policy's own weights without their adapter, where it has `without_adapter`.
    """
    if hasattr(policy.denoiser, "without_adapter"):
        return replace(policy, denoiser=cast(Adapted, policy.denoiser).without_adapter())
    denoiser = copy.deepcopy(trainable(policy)).requires_grad_(False).eval()
    return replace(policy, denoiser=denoiser)


def summary(task: Task, collected: Collected[Table]) -> Metrics:
    """What every round reports of its rollouts."""
    rewards = collected.rollouts.rewards
    known = rewards[~rewards.isnan()]
    held_out: dict[str, Any] = dict(task.decoder.measure(collected.rollouts.samples))
    return {
        "reward": known.mean().item(),
        "reward_std": known.std(correction=0).item(),
        "reward_lost": 1 - len(known) / len(rewards),
        **held_out,
        **collected.metrics,
        "reward_queries": float(collected.reward_queries),
        "seconds_rollout": collected.rollouts.seconds["rollout"],
        "seconds_reward": collected.rollouts.seconds["reward"] + collected.seconds_reward,
    }
