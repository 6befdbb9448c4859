"""Denoising pretraining: the simple loss at random noise levels, with an exponential moving average of the weights.

(Ho et al. 2020, arXiv:2006.11239, Eq. 14; noise levels drawn as in Kingma et al. 2021, arXiv:2107.00630, App. I.1.)
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.gaussian import Context, Space, sum_per_sample
from molrl.machine.interruption import never
from molrl.noise import Key, Stream
from molrl.optimizers import KINDS, Kind, load_optimizers, make_optimizers, optimizer_tensors, set_learning_rate
from molrl.progress import stage
from molrl.runs import checkpoint
from molrl.runs.checkpoints import CHECKPOINTS, Series, as_checkpoint_error
from molrl.runs.snapshot import (
    RANDOM,
    collect_flags,
    describe_platform,
    random_tensors,
    random_values,
    restore_flags,
    restore_random,
    warn_of_another_platform,
)
from molrl.schedule import Schedule, alpha, sigma
from molrl.trajectory import move_context


class Preconditioner(Protocol):
    """A denoiser whose raw network has a target of unit variance at every noise level."""

    @property
    def schedule(self) -> Schedule:
        """Return the log SNR of x_t as a function of t."""
        ...

    def raw(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        """Compute the output of the raw network at x_t."""
        ...

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Compute the target of that output."""
        ...


Loss = Callable[[Any, Space, Tensor, Tensor, Tensor, Context], Tensor]
"""The loss [b] of a model at clean samples, times, noise of the samples' shape, and their context."""


@dataclass(frozen=True)
class Bucket:
    """Clean samples of similar size, padded to the same shape: x0 [N, ...] and the context of each row."""

    x0: Tensor
    context: Context

    def __len__(self) -> int:
        return len(self.x0)

    def rows(self, index: Tensor) -> tuple[Tensor, Context]:
        """Return some of the samples with their context."""
        return self.x0[index], {name: value[index] for name, value in self.context.items()}


def draw_batches(buckets: Sequence[Bucket], batch: int, key: Key, start: int = 0) -> Iterator[tuple[Tensor, Context]]:
    """Yield endless batches, each from one bucket; batch `i` depends on the key and on i alone.

    All steps cost about the same: states of n rows come in batches of about batch * mean(n^2) / n^2. Buckets are drawn
    in proportion to samples times n^2, so that on average each sample is seen equally often; a loss must therefore be
    the sum over a batch divided by the fixed `batch`, not the mean.
    """
    sizes = torch.tensor([len(bucket) for bucket in buckets], dtype=torch.float64)
    cost = torch.tensor([bucket.x0[0].shape[0] ** 2 for bucket in buckets], dtype=torch.float64)
    typical = float((sizes * cost).sum() / sizes.sum())
    cumulative = (sizes * cost / (sizes * cost).sum()).cumsum(0)
    step = start
    while True:
        generator = key.generator(0, step)
        chosen = int(torch.searchsorted(cumulative, generator.random(), right=True).clamp(max=len(buckets) - 1))
        count = max(1, round(batch * typical / float(cost[chosen])))
        yield buckets[chosen].rows(torch.from_numpy(generator.integers(len(buckets[chosen]), size=count)))
        step += 1


def denoising_loss(
    model: Preconditioner,
    space: Space,
    x0: Float[Tensor, "b ..."],
    t: Float[Tensor, " b"],
    noise: Float[Tensor, "b ..."],
    context: Context,
) -> Float[Tensor, " b"]:
    """Compute |F(x_t) - target|^2 per degree of freedom, one number per sample."""
    log_snr = model.schedule.log_snr(t).view(-1, *[1] * (x0.dim() - 1))
    eps = space.project(noise, context)
    x_t = alpha(log_snr) * x0 + sigma(log_snr) * eps
    error = space.project(model.raw(x_t, t, context).float() - model.target(x0, eps, t), context)
    return sum_per_sample(error.square()) / space.dof(x0, context)


def stratified_times(generator: Any, batch: int) -> Float[Tensor, " b"]:
    """Draw one time in each of `batch` equal parts of [0, 1], shifted together: uniform, with less variance."""
    return torch.from_numpy((generator.random() + generator.permutation(batch) / batch) % 1.0).float()


def normal_times(uniform: Float[Tensor, " b"], mean: float, std: float) -> Float[Tensor, " b"]:
    """Map uniform times to N(mean, std^2) truncated to [0, 1], by the inverse of its distribution function.

    On a log-linear schedule these are the log-normal noise levels of Karras et al. 2022, arXiv:2206.00364, Table 1.
    """
    low, high = (torch.special.ndtr(torch.tensor((end - mean) / std, dtype=torch.float64)) for end in (0.0, 1.0))
    t: Tensor = mean + std * torch.special.ndtri(low + (high - low) * uniform.double())
    return t.clamp(0, 1).to(uniform.dtype)


def learning_rate(step: int, *, peak: float, warmup: int, cooldown: int, steps: int) -> float:
    """Compute the learning rate of a step: linear warm-up, plateau, and a 1 - sqrt cool-down over the last steps.

    A run can be prolonged from its plateau (Haegele et al. 2024, arXiv:2405.18392).
    """
    rising = min(1.0, (step + 1) / max(1, warmup))
    falling = max(0.0, (step - (steps - cooldown)) / max(1, cooldown))
    return peak * rising * (1 - math.sqrt(falling))


@dataclass
class Average:
    """An exponential moving average of weights, whose decay ramps up as (1 + step) / (10 + step)."""

    decay: float
    shadow: dict[str, Tensor] = field(default_factory=dict)

    def update(self, module: nn.Module, step: int) -> None:
        """Set shadow to decay shadow + (1 - decay) weights."""
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in module.state_dict().items():
                if name not in self.shadow:
                    self.shadow[name] = value.clone()
                else:
                    self.shadow[name].lerp_(value, 1 - decay)


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """The settings of a pretraining run.

    Attributes:
        steps: optimiser steps in all.
        batch: samples per step, for states of typical size.
        optimizer: "adamw", or "muon" for hidden matrices with AdamW for the rest.
        lr: peak learning rate.
        warmup: steps of linear warm-up.
        cooldown: last steps, over which the rate falls to zero.
        ema: decay of the average of the weights.
        weight_decay: decoupled weight decay.
        clip_norm: largest norm of the gradient.
        time_mean, time_std: normal distribution of the times in [0, 1] at which samples are noised; None: uniform.
        save_every: steps between checkpoints and reports.
        bf16: run the network in bfloat16 (state, geometry and loss stay float32); "auto": to be decided before.
        compile: compile the network with torch, which pays off after some thousand steps.
        seed: of data order, noise levels and noise.
    """

    steps: int
    batch: int
    optimizer: Kind
    lr: float
    warmup: int
    cooldown: int
    ema: float
    weight_decay: float
    clip_norm: float
    time_mean: float | None
    time_std: float | None
    save_every: int
    bf16: bool | Literal["auto"]
    compile: bool
    seed: int

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, need at least 1")
        for name in ("lr", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, need a number above 0")
        for name in ("warmup", "cooldown", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, need 0 or more")
        if self.optimizer not in KINDS:
            raise ValueError(f"optimizer: got {self.optimizer!r}, allowed are {', '.join(KINDS)}")
        if (self.time_mean is None) != (self.time_std is None) or not (self.time_std is None or self.time_std > 0):
            raise ValueError(
                f"time_mean, time_std: got {self.time_mean}, {self.time_std}, need both, with a std above 0, or null"
            )
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema: got {self.ema}, allowed 0 up to, not including, 1")

    def run(
        self,
        model: nn.Module,
        space: Space,
        buckets: Sequence[Bucket],
        folder: Path,
        report: Callable[[Mapping[str, float], Mapping[str, Tensor]], None],
        should_stop: Callable[[], bool] = never,
        loss_of: Loss | None = None,
    ) -> dict[str, Tensor]:
        """Train `model` in place and return the averaged weights.

        Args:
            model: the network; by default a `Preconditioner`.
            space: the subspace of the states.
            buckets: the clean samples.
            folder: of the run, which goes on from the checkpoint in it, if there is one.
            report: called with metrics and averaged weights every `save_every` steps, before the checkpoint. Its time
                is that of training alone. After a restart some steps are reported again, and the new report
                replaces the old one.
            should_stop: asked after each step; True ends the run with a checkpoint.
            loss_of: the loss of each sample; None: the denoising loss.
        """
        optimizers = make_optimizers(self.optimizer, model, lr=self.lr, weight_decay=self.weight_decay)
        state = PretrainingState(model, optimizers, Average(self.ema))
        state.restore(folder)
        if self.compile:
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 4 * len(buckets))
            model.network.compile(dynamic=False)  # type: ignore[union-attr]
        loss_of = cast(Loss, denoising_loss) if loss_of is None else loss_of
        key, clock, stopping = Key(self.seed, Stream.SAMPLING), Clock(), False
        label = "compiling, then training: steps" if self.compile else "training: steps"
        with stage(label, self.steps, state.step) as advance:
            for x0, context in draw_batches(buckets, self.batch, key, state.step):
                if state.step >= self.steps or stopping:
                    break
                self.update(state, space, x0, context, loss_of)
                advance(1)
                stopping = should_stop()
                due = state.step % self.save_every == 0 or state.step == self.steps
                if due:
                    mean_loss, mean_norm = torch.tensor(state.losses).mean(0).tolist()
                    metrics = {"step": state.step, "loss": mean_loss, "grad_norm": mean_norm, **clock.read()}
                    report(metrics, state.average.shadow)
                    clock = Clock()
                    state.losses.clear()
                if due or stopping:
                    state.save(folder)
        return state.average.shadow

    def times(self, generator: Any, batch: int) -> Float[Tensor, " b"]:
        """Draw the times of a batch."""
        uniform = stratified_times(generator, batch)
        if self.time_mean is None or self.time_std is None:
            return uniform
        return normal_times(uniform, self.time_mean, self.time_std)

    def update(self, state: "PretrainingState", space: Space, x0: Tensor, context: Context, loss_of: Loss) -> None:
        """Make one optimiser step on a batch, and update the average."""
        device = next(state.model.parameters()).device
        set_learning_rate(
            state.optimizers,
            learning_rate(state.step, peak=self.lr, warmup=self.warmup, cooldown=self.cooldown, steps=self.steps),
        )
        generator = Key(self.seed, Stream.ROUND.at(0)).generator(0, state.step)
        t = self.times(generator, len(x0)).to(device)
        noise = torch.from_numpy(generator.standard_normal(tuple(x0.shape), dtype="float32")).to(device)
        context = move_context(context, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16 is True):
            losses = loss_of(state.model, space, x0.to(device), t, noise, context)
        state.model.zero_grad()
        (losses.sum() / self.batch).backward()
        norm = nn.utils.clip_grad_norm_(state.model.parameters(), self.clip_norm, error_if_nonfinite=True)
        for optimizer in state.optimizers:
            optimizer.step()
        state.step += 1
        state.average.update(state.model, state.step)
        state.losses.append((losses.mean().item(), norm.item()))


@dataclass(frozen=True)
class Clock:
    """The time since it was made, on the wall and of all cores that this process used."""

    wall: float = field(default_factory=time.perf_counter)
    cores: float = field(default_factory=time.process_time)

    def read(self) -> dict[str, float]:
        """Return the seconds and the core-seconds."""
        return {"seconds": time.perf_counter() - self.wall, "core_seconds": time.process_time() - self.cores}


@dataclass
class PretrainingState:
    """Everything that changes from step to step.

    Attributes:
        model: the network in training.
        optimizers: of its parameters.
        average: of its weights.
        step: optimiser steps so far.
        losses: loss and gradient norm of each step since the last report.
    """

    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    average: Average
    step: int = 0
    losses: list[tuple[float, float]] = field(default_factory=list)

    @property
    def names(self) -> dict[Tensor, str]:
        """Return the name of every parameter, as checkpoints spell it."""
        return {parameter: name for name, parameter in self.model.named_parameters()}

    def save(self, folder: Path) -> None:
        """Write a checkpoint to the folder of a run."""
        tensors = {
            "model": self.model.state_dict(),
            "average": self.average.shadow,
            "optimizer": optimizer_tensors(self.optimizers, self.names),
            RANDOM: random_tensors(),
        }
        values = {
            "flags": collect_flags({"model": self.model}),
            "pending": self.losses,
            "layout": describe_platform(next(self.model.parameters()).device),
            RANDOM: random_values(),
        }
        Series(folder / CHECKPOINTS).save(self.step, tensors, values)

    def restore(self, folder: Path) -> None:
        """Load the last checkpoint of a folder, if there is one."""
        last = Series(folder / CHECKPOINTS).latest()
        if last is None:
            return
        device = next(self.model.parameters()).device
        with as_checkpoint_error(folder / CHECKPOINTS):
            for part in ("model", "average"):
                checkpoint.check_fits(self.model.state_dict(), last.tensors[part], type(self.model).__name__)
            self.model.load_state_dict(last.tensors["model"])
            self.average.shadow = {name: value.to(device) for name, value in last.tensors["average"].items()}
            load_optimizers(self.optimizers, self.names, last.tensors["optimizer"])
            restore_flags({"model": self.model}, last.values["flags"])
            restore_random(last.tensors[RANDOM], last.values[RANDOM])
            warn_of_another_platform(last.values["layout"], describe_platform(device))
            self.losses = [(float(loss), float(norm)) for loss, norm in last.values["pending"]]
        self.step = last.step
