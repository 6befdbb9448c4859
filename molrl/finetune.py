"""Fine-tuning of a policy toward a reward: in each round roll out, score, check, and learn."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from molrl.agreement import check_agreement
from molrl.ahead import RecordedWeights, check_ahead, learner_of_round, round_of
from molrl.algos import Algorithm, Collected, Learner, Table
from molrl.diagnostics import RowFacts, pre_update_metrics
from molrl.diversity import Diversity
from molrl.diversity.fitting import fit_to_task, measure_reference
from molrl.diversity.shaped_reward import ShapedReward
from molrl.kl_budget import KLBudget
from molrl.machine.interruption import never
from molrl.machine.processes import Processes
from molrl.noise import Draw, Key, Stream
from molrl.policy import Policy
from molrl.reward_queue import explain_losses, part_rows
from molrl.runs.checkpoints import CheckpointPolicy
from molrl.runs.snapshot import seed_torch
from molrl.samplers import Denoiser
from molrl.task import Metrics, Rollouts, Task
from molrl.timing import Stopwatch, split_seconds
from molrl.trainable_parameters import parameters_to_freeze, trainable_module
from molrl.training_state import State, TrainingError


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """The settings of a fine-tuning run.

    Attributes:
        iterations: rounds of rollout and learning.
        rollouts: samples per round.
        minibatch: rows of the algorithm's table per optimiser step, over all processes.
        epochs: passes over the table of a round.
        optimizer: parameters -> torch optimiser.
        clip_norm: largest norm of the gradient.
        ratio_tolerance: nats; some reverse steps of each round are evaluated again before it learns, and a larger
            |log-ratio| means that rollout and training disagree about the policy (`molrl.agreement`).
        lost_limit: largest fraction of a round's samples that may be without a reward.
        seed: of all random numbers.
        save_every: rounds between checkpoints.
        fresh_optimizer: clear the state of the optimiser before every round.
        keep: which checkpoints stay.
        microbatch: rows of a minibatch that are computed at a time; None: as many as suit the device. Updates are the
            same.
        trainable_parameters: names of the denoiser's parameters to train, or patterns with *; the others are frozen.
            None: all.
        kl_round: nats that a round may move the policy by; its learning rate is adapted to that. None: any.
        kl_total: nats that the policy may move away from the pretrained one (`molrl.kl_budget`). None: any.
        ahead: rounds that are drawn, and their rewards asked for, before they are learned from (`molrl.ahead`).
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
    kl_round: float | None = None
    kl_total: float | None = None
    ahead: int = 0

    def __post_init__(self) -> None:
        for name in ("iterations", "rollouts", "minibatch", "epochs", "save_every", "microbatch"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}: got {value}, need at least 1")
        for name in ("clip_norm", "ratio_tolerance"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, need a number above 0")
        for name in ("kl_round", "kl_total"):
            if (value := getattr(self, name)) is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name}: got {value}, need a number of nats above 0, or null for no limit")
        if self.ahead < 0:
            raise ValueError(f"ahead: got {self.ahead}, need a number of rounds from 0")
        if not 0 <= self.lost_limit <= 1:
            raise ValueError(f"lost_limit: got {self.lost_limit}, allowed 0 to 1")


def finetune(
    config: FinetuneConfig,
    task: Task,
    algorithm: Algorithm,
    reference: Policy,
    folder: Path | None,
    log: Callable[[Metrics], None],
    should_stop: Callable[[], bool] = never,
    diversity: Diversity | None = None,
    observe: Callable[[int, Rollouts], None] | None = None,
) -> int:
    """Fine-tune the denoiser of a task in place, and return the number of rounds behind it.

    Args:
        config: settings of the loop.
        task: with the policy to train. All its processes call this function; the main one writes.
        algorithm: makes the table that a round learns from, and the loss.
        reference: the policy before training: `freeze_copy(task.policy)`.
        folder: of the run, which goes on from its last checkpoint, bit for bit, and leaves checkpoints; None: no files.
        log: receives the metrics of each round, the same in all processes but for seconds.
        should_stop: asked after each round; True ends the run with a checkpoint.
        diversity: how variety is kept; None: algorithms learn from the reward as it is.
        observe: receives the number and the rollouts of each round, after its metrics; None: nobody does.

    Raises:
        ValueError: the settings do not fit the task: see `check_setup`.
        TrainingError: rollout and training disagree, a gradient is not finite, or too many rewards are missing.
    """
    check_setup(config, task, algorithm)
    shaped_task = fit_to_task(task, diversity)
    world, state = task.processes, build_state(config, shaped_task, algorithm, reference)
    budget = KLBudget(config.kl_round, config.kl_total, state)
    done = restore(state, folder)
    if not done:
        measure_reference(shaped_task, reference, Key(config.seed, Stream.REFERENCE))
    for iteration in range(done, config.iterations):
        samples, key = round_of(iteration, config.rollouts, config.seed)
        collecting, measuring, learning = Stopwatch(), Stopwatch(), Stopwatch()
        with collecting:
            learner = collecting_learner(config, state, algorithm, iteration)
            collected = algorithm.collect(learner, samples, key)
        with measuring:
            check_lost_rewards(task, collected.rollouts, config.lost_limit)
            metrics = summarise_rollouts(shaped_task, collected) | pre_update_metrics(learner, collected)
            dtype = collected.behaviour.autocast or collected.rollouts.trajectory.states.dtype
            check_agreement(metrics, algorithm, config.ratio_tolerance, dtype)
        with learning:
            metrics = {"iteration": iteration, **metrics, **learn(config, state, algorithm, collected, key, budget)}
        spent = {"collecting": collecting.seconds, "measuring": measuring.seconds, "learning": learning.seconds}
        seconds = split_seconds(collected.rollouts.seconds, collected.seconds_reward, **spent)
        log({**metrics, **seconds})  # before the checkpoint: a restart drops the rows after its checkpoint
        if observe is not None:
            observe(iteration, collected.rollouts)
        state.track_best(iteration, collected.behaviour, metrics)
        stopping, done = world.any(should_stop() or metrics.get("stop", 0.0) > 0), iteration + 1
        due = done % config.save_every == 0 or done == config.iterations or stopping
        if folder and world.is_main and due:
            state.save(folder, done)
        if stopping:
            break
    return done


def check_setup(config: FinetuneConfig, task: Task, algorithm: Algorithm) -> None:
    """Refuse settings that do not fit task and algorithm, before anything is computed.

    Raises:
        ValueError: a chain without noise, an algorithm that needs what the task lacks, incomplete groups, or a name
            that no parameter has.
    """
    if getattr(task.policy.sampler, "eta", 1.0) == 0 and getattr(algorithm, "needs_densities", True):
        name = type(algorithm).__name__
        raise ValueError(f"eta: got 0, a deterministic chain, whose steps have no density; {name} needs eta above 0")
    if task.policy.order != 1 and getattr(algorithm, "needs_steps", True):  # they depend on the state before, too
        name = type(algorithm).__name__
        raise ValueError(f"order: got {task.policy.order}; {name} learns from single steps and needs those of order 1")
    advantage = getattr(algorithm, "advantage", None)
    if getattr(advantage, "needs_amounts", False) and not getattr(task.decoder, "groups_are_amounts", False):
        kind = type(task.decoder).__name__
        raise ValueError(
            f"advantage.kind: got linear, which needs conditions that are amounts; those of {kind} are not"
        )
    parameters_to_freeze(trainable_module(task.policy), config.trainable_parameters)
    build_modules(config, task, algorithm)
    if config.ahead:
        check_ahead(task, algorithm)
    size = getattr(algorithm, "group_size", 1)
    if config.rollouts % size:
        raise ValueError(f"rollouts: got {config.rollouts}, need a multiple of the group size {size}")
    task.processes.share(config.rollouts, size)


def build_modules(config: FinetuneConfig, task: Task, algorithm: Algorithm) -> nn.ModuleDict:
    """Build the modules of the algorithm; the first weights of a value network follow from the seed."""
    with seed_torch(config.seed):
        return algorithm.modules(task)


def build_state(config: FinetuneConfig, task: Task, algorithm: Algorithm, reference: Policy) -> State:
    """Freeze the parameters that are not trained, and build the learner and its optimiser."""
    for parameter in parameters_to_freeze(trainable_module(task.policy), config.trainable_parameters):
        parameter.requires_grad = False
    learner = Learner(task, reference, build_modules(config, task, algorithm).to(task.device))
    recorded = RecordedWeights(trainable_module(learner.policy), config.ahead) if config.ahead else None
    return State(learner, config.optimizer(parameter_groups(learner, algorithm)), config.keep, recorded=recorded)


def collecting_learner(config: FinetuneConfig, state: State, algorithm: Algorithm, iteration: int) -> Learner:
    """Return the learner that draws a round: the one in training, or with `ahead` the one of some rounds before."""
    if state.recorded is None:
        return state.learner
    last = config.iterations - 1
    return learner_of_round(state.recorded, state.learner, algorithm, iteration, last, config.rollouts, config.seed)


def restore(state: State, folder: Path | None) -> int:
    """Restore the last checkpoint in every process, and return the number of rounds behind it.

    Raises:
        TrainingError: the processes found different checkpoints.
    """
    world = state.learner.task.processes
    with world.main_first():
        start = state.restore(folder) if folder else 0
    starts = world.gather(torch.tensor([start])).tolist()
    if len(set(starts)) > 1:
        raise TrainingError(
            f"processes found checkpoints of {starts} rounds: the run folder must be one for all of them"
        )
    world.agree(tensor for module in state.modules.values() for tensor in module.state_dict().values())
    return start


def learn(
    config: FinetuneConfig,
    state: State,
    algorithm: Algorithm,
    collected: Collected[Table],
    key: Key,
    budget: KLBudget,
) -> Metrics:
    """Make `epochs` passes of minibatch updates, and return the means of the loss and of what it reports.

    A minibatch is drawn from the rows of all processes; each process adds the gradient of its own rows.
    """
    learner, optimizer = state.learner, state.optimizer
    world, facts = learner.task.processes, RowFacts()
    numbers_of_state = collected.rollouts.trajectory.final.shape[1:].numel()
    config = replace(config, microbatch=config.microbatch or part_rows(numbers_of_state, learner.task.device))
    numbers, count = number_rows(collected, world)
    check_rows(len(collected.table), count, world)
    if config.fresh_optimizer:
        optimizer.state.clear()
    losses, norms = list[float](), list[float]()
    own_rows = torch.full((count,), -1).scatter(0, numbers, torch.arange(len(numbers)))  # -1: of another process
    batches = list(minibatches(config, count, key))
    watch = budget.begin(collected, len(batches))
    for update, rows in enumerate(batches, 1):
        optimizer.zero_grad()
        losses.append(accumulate_gradient(config, learner, algorithm, collected.table, own_rows[rows], facts))
        world.sum_gradients(parameter for group in optimizer.param_groups for parameter in group["params"])
        norms.append(clip_gradients(optimizer, config.clip_norm))
        optimizer.step()
        if watch and watch.is_over(update):
            break
    means = facts.summary(learner.policy.sampler.num_steps, world)
    losses, updates = world.sum(torch.tensor(losses, dtype=torch.float64)).tolist(), len(losses)
    means |= watch.metrics() if watch else {}
    passed = sum(len(rows) for rows in batches[:updates])  # rows, each as often as there were epochs
    means["reward_queries"] = float(collected.reward_queries + collected.queries_per_row * passed)
    return {**means, "loss": sum(losses) / updates, "grad_norm": sum(norms) / updates, "updates": float(updates)}


def accumulate_gradient(
    config: FinetuneConfig, learner: Learner, algorithm: Algorithm, table: Table, rows: Tensor, facts: RowFacts
) -> float:
    """Add this process's part of the gradient of a minibatch, and return its part of the mean loss.

    Args:
        config: settings of the loop.
        learner: with the policy in training.
        algorithm: the loss.
        table: rows of this process.
        rows: for each row of the minibatch its index in `table`; -1: another process has it.
        facts: collects what the loss reports of each row.
    """
    world, loss = learner.task.processes, 0.0
    parts = microbatches(config, rows[rows >= 0])
    missing = world.missing_passes(len(parts))
    for part in parts:
        batch, weight = table[part], len(part) / len(rows)
        mean, reported = algorithm.loss(learner, batch)
        (mean * weight).backward()
        facts.add(batch.step, reported)
        loss += mean.item() * weight
    for _ in range(missing):  # processes that share a network pass through it together
        (algorithm.loss(learner, table[rows.new_zeros(1)])[0] * 0).backward()
    return loss


def microbatches(config: FinetuneConfig, rows: Tensor) -> Sequence[Tensor]:
    """Split the rows of this process in a minibatch into parts of at most `microbatch`."""
    return rows.split(config.microbatch or len(rows)) if len(rows) else ()


def clip_gradients(optimizer: torch.optim.Optimizer, clip_norm: float) -> float:
    """Clip the gradient of each parameter group by itself, and return the norm of the policy's before clipping.

    Raises:
        TrainingError: a gradient is not finite.
    """
    norms = [nn.utils.clip_grad_norm_(group["params"], clip_norm) for group in optimizer.param_groups]
    norm = norms[0].item() if all(norm.isfinite() for norm in norms) else math.nan
    if not math.isfinite(norm):
        raise TrainingError(f"gradient norm is {norm}: nothing was updated with it")
    return norm


def minibatches(config: FinetuneConfig, count: int, key: Key) -> Iterator[Tensor]:
    """Yield row numbers in a new order for every epoch, in equal parts of at most `minibatch`."""
    for epoch in range(config.epochs):
        order = key.permutation(count, Draw.SHUFFLE.at(epoch))
        yield from order.tensor_split(math.ceil(count / config.minibatch))


def number_rows(collected: Collected[Table], world: Processes) -> tuple[Tensor, int]:
    """Return the numbers that the rows of this process have in the table of all processes, and its length."""
    rollouts = collected.rollouts
    place = collected.row_order.cpu() * len(rollouts.rewards) + rollouts.first + collected.table.sample.cpu()
    places = world.gather(place).sort().values
    return torch.searchsorted(places, place), len(places)


def check_rows(own_count: int, count: int, world: Processes) -> None:
    """Raise TrainingError where no process, or one of those that share a network, has a row to learn from."""
    if not count or (world.lockstep and world.any(not own_count)):
        whom = "one of the processes that share a network" if count else "anybody"
        raise TrainingError(f"nothing is left to learn from for {whom}: no reward it needs could be computed")


def check_lost_rewards(task: Task, rollouts: Rollouts, lost_limit: float) -> None:
    """Raise TrainingError, with reasons, where too many samples have no reward."""
    rewards = rollouts.scores
    lost = rewards.isnan().float().mean().item()
    if lost > lost_limit:
        raise TrainingError(
            f"{lost:.0%} of {len(rewards)} samples could not be scored, more than the {lost_limit:.0%} allowed: "
            f"{explain_losses(task.reward, rollouts.samples, rewards.tolist())}"
        )


def parameter_groups(learner: Learner, algorithm: Algorithm) -> list[dict[str, Any]]:
    """Return the optimiser's groups: the denoiser, then each module of the algorithm with its own learning rate."""
    groups: list[dict[str, Any]] = [{"params": list(trainable_module(learner.policy).parameters())}]
    for name, module in learner.modules.items():
        if parameters := list(module.parameters()):
            groups.append({"params": parameters, "lr": algorithm.learning_rate(name)})
    return groups


class Adapted(Protocol):
    """A denoiser that trains an adapter on top of frozen weights."""

    def without_adapter(self) -> Denoiser:
        """Return the pretrained model: the same weights with the adapter switched off, at no cost of memory."""
        ...


def freeze_copy(policy: Policy) -> Policy:
    """Return the policy as it is now, whatever training does to it: the reference.

    It is a copy, or the policy's own weights without their adapter where the denoiser has `without_adapter`.
    """
    if hasattr(policy.denoiser, "without_adapter"):
        return replace(policy, denoiser=cast(Adapted, policy.denoiser).without_adapter())
    denoiser = copy.deepcopy(trainable_module(policy)).requires_grad_(False).eval()
    return replace(policy, denoiser=denoiser)


def summarise_rollouts(task: Task, collected: Collected[Table]) -> Metrics:
    """Summarise the rewards and the held-out metrics of a round."""
    rewards, shaped = collected.rollouts.scores, task.reward
    scored = rewards[~rewards.isnan()]
    held_out: dict[str, Any] = dict(task.decoder.measure(collected.rollouts.samples))
    return {
        "reward": scored.mean().item(),
        "reward_std": scored.std(correction=0).item(),
        "reward_sem": scored.std().item() / math.sqrt(len(scored)) if len(scored) > 1 else math.nan,
        "reward_lost": 1 - len(scored) / len(rewards),
        **held_out,
        **collected.metrics,
        **(shaped.diversity.metrics if isinstance(shaped, ShapedReward) else {}),
    }
