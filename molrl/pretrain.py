"""Denoising pretraining: the simple loss at random noise levels, with an exponential moving average of the weights.

(Ho et al. 2020, arXiv:2006.11239, Eq. 14; noise levels drawn as in Kingma et al. 2021, arXiv:2107.00630, App. I.1.)
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.gaussian import Context, Space, sum_per_sample
from molrl.machine.interruption import never
from molrl.noise import Key
from molrl.runs import checkpoint
from molrl.runs.checkpoints import CHECKPOINTS, Series, as_checkpoint_error
from molrl.runs.snapshot import (
    RANDOM,
    flags,
    layout,
    random_tensors,
    random_values,
    restore_flags,
    restore_random,
    warn_of_another_layout,
)
from molrl.schedule import Schedule, alpha, sigma


class Preconditioner(Protocol):
    """A denoiser whose raw network has a target of unit variance at every noise level."""

    schedule: Schedule

    def raw(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        """The network's output at x_t."""
        ...

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What the network should have said."""
        ...


Loss = Callable[[Any, Space, Tensor, Tensor, Tensor, Context], Tensor]
"""Of a model at clean samples, times, noise of the samples' shape, and their context."""


@dataclass(frozen=True)
class Bucket:
    """Clean samples of nearly one size, padded to the same shape: x0 [N, ...] and the context of each row."""

    x0: Tensor
    context: Context

    def __len__(self) -> int:
        return len(self.x0)

    def rows(self, index: Tensor) -> tuple[Tensor, Context]:
        """Some of them."""
        return self.x0[index], {name: value[index] for name, value in self.context.items()}


def draw_batches(buckets: Sequence[Bucket], batch: int, key: Key, start: int = 0) -> Iterator[tuple[Tensor, Context]]:
    """Endless batches, each from one bucket; batch `i` depends on the key and on i alone.

    A step costs about the same whatever the bucket: states of n rows come in batches of about batch * mean(n^2) / n^2.
    Buckets are drawn by samples times n^2, so that on average each sample is seen equally often; a loss must therefore
    be the sum over a batch divided by the fixed `batch`, not the mean.
    """
    sizes = torch.tensor([len(bucket) for bucket in buckets], dtype=torch.float64)
    cost = torch.tensor([bucket.x0[0].shape[0] ** 2 for bucket in buckets], dtype=torch.float64)
    typical = float((sizes * cost).sum() / sizes.sum())
    share = (sizes * cost / (sizes * cost).sum()).cumsum(0)
    step = start
    while True:
        generator = key.generator(0, step)
        chosen = int(torch.searchsorted(share, generator.random(), right=True).clamp(max=len(buckets) - 1))
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
    """|F(x_t) - target|^2 per degree of freedom, one number per sample."""
    log_snr = model.schedule.log_snr(t).view(-1, *[1] * (x0.dim() - 1))
    eps = space.project(noise, context)
    x_t = alpha(log_snr) * x0 + sigma(log_snr) * eps
    error = space.project(model.raw(x_t, t, context).float() - model.target(x0, eps, t), context)
    return sum_per_sample(error.square()) / space.dof(x0, context)


def stratified_times(generator: Any, batch: int) -> Float[Tensor, " b"]:
    """One time in each of `batch` equal parts of [0, 1], shifted together: uniform, with less variance."""
    return torch.from_numpy((generator.random() + generator.permutation(batch) / batch) % 1.0).float()


def learning_rate(step: int, *, peak: float, warmup: int, cooldown: int, steps: int) -> float:
    """Linear warm-up, plateau, and a 1 - sqrt cool-down over the last `cooldown` steps (Haegele et al. 2024,
    arXiv:2405.18392): a run can be prolonged from its plateau.
    """
    rising = min(1.0, (step + 1) / max(1, warmup))
    falling = max(0.0, (step - (steps - cooldown)) / max(1, cooldown))
    return peak * rising * (1 - math.sqrt(falling))


@dataclass
class Average:
    """Exponential moving average of weights; the decay ramps up as (1 + step) / (10 + step)."""

    decay: float
    shadow: dict[str, Tensor] = field(default_factory=dict)

    def update(self, module: nn.Module, step: int) -> None:
        """shadow <- decay shadow + (1 - decay) weights."""
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in module.state_dict().items():
                if name not in self.shadow:
                    self.shadow[name] = value.clone()
                else:
                    self.shadow[name].lerp_(value, 1 - decay)


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """The numbers of one pretraining run.

    Attributes:
        steps: optimiser steps in all.
        batch: samples per step, for states of typical size.
        lr: peak learning rate of AdamW.
        warmup: steps of linear warm-up.
        cooldown: last steps, over which the rate falls to zero.
        ema: decay of the average of the weights.
        weight_decay: of AdamW.
        clip_norm: largest norm of the gradient.
        save_every: steps between checkpoints and reports.
        bf16: run the network in bfloat16 (state, geometry and loss stay float32).
        compile: let torch compile the network; pays off after some thousand steps.
        seed: of data order, noise levels and noise.
    """

    steps: int
    batch: int
    lr: float
    warmup: int
    cooldown: int
    ema: float
    weight_decay: float
    clip_norm: float
    save_every: int
    bf16: bool
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
        """Train `model` in place, continuing from `folder` if it holds a checkpoint; return the averaged weights.

        It ends early, after a step and a checkpoint, once `should_stop` says so. `loss_of` is what is minimised, one
        number for each sample; None: the denoising loss of a `Preconditioner`.

        `report(metrics, averaged weights)` is called every `save_every` steps, before the checkpoint: what it wrote of
        steps that a run makes again is to be replaced.
        """
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.lr, weight_decay=self.weight_decay, betas=(0.9, 0.99))
        names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        average = Average(self.ema)
        step, losses = self.restore(folder, model, optimizer, names, average)
        if self.compile:
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 2 * len(buckets))
            model.network.compile(dynamic=False)  # type: ignore[union-attr]
        loss_of = cast(Loss, denoising_loss) if loss_of is None else loss_of
        key, since = Key(self.seed), time.perf_counter()
        device, stopping = next(model.parameters()).device, False
        for x0, conditions in draw_batches(buckets, self.batch, key, step):
            if step >= self.steps or stopping:
                break
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(
                    step, peak=self.lr, warmup=self.warmup, cooldown=self.cooldown, steps=self.steps
                )
            generator = key.child(1).generator(0, step)
            t = stratified_times(generator, len(x0)).to(device)
            noise = torch.from_numpy(generator.standard_normal(tuple(x0.shape), dtype="float32")).to(device)
            context = {name: value.to(device) for name, value in conditions.items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                each = loss_of(model, space, x0.to(device), t, noise, context)
            loss = each.sum() / self.batch
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), self.clip_norm, error_if_nonfinite=True)
            optimizer.step()
            step += 1
            average.update(model, step)
            losses.append((each.mean().item(), norm.item()))
            stopping = should_stop()
            if step % self.save_every == 0 or step == self.steps:
                seconds, since = time.perf_counter() - since, time.perf_counter()
                mean_loss, mean_norm = torch.tensor(losses).mean(0).tolist()
                metrics = {"step": step, "loss": mean_loss, "grad_norm": mean_norm, "seconds": seconds}
                report(metrics, average.shadow)
                losses = []
                self.save(folder, step, model, optimizer, names, average, losses)
            elif stopping:
                self.save(folder, step, model, optimizer, names, average, losses)
        return average.shadow

    @staticmethod
    def save(
        folder: Path,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        names: Mapping[Tensor, str],
        average: Average,
        losses: list[tuple[float, float]],
    ) -> None:
        """Everything that is needed to go on; `losses` and norms of the steps since the last report are part of it."""
        tensors = {
            "model": model.state_dict(),
            "average": average.shadow,
            "optimizer": checkpoint.optimizer_tensors(optimizer, names),
            RANDOM: random_tensors(),
        }
        values = {
            "flags": flags({"model": model}),
            "pending": losses,
            "layout": layout(next(model.parameters()).device),
            RANDOM: random_values(),
        }
        Series(folder / CHECKPOINTS).save(step, tensors, values)

    @staticmethod
    def restore(
        folder: Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        names: Mapping[Tensor, str],
        average: Average,
    ) -> tuple[int, list[tuple[float, float]]]:
        """Continue from the folder's checkpoint, if any: the steps it had made, and what is not reported of them."""
        last = Series(folder / CHECKPOINTS).latest()
        if last is None:
            return 0, []
        device = next(model.parameters()).device
        with as_checkpoint_error(folder / CHECKPOINTS):
            for part in ("model", "average"):
                checkpoint.check_fits(model.state_dict(), last.tensors[part], type(model).__name__)
            model.load_state_dict(last.tensors["model"])
            average.shadow = {name: value.to(device) for name, value in last.tensors["average"].items()}
            checkpoint.load_optimizer(optimizer, names, last.tensors["optimizer"])
            restore_flags({"model": model}, last.values["flags"])
            restore_random(last.tensors[RANDOM], last.values[RANDOM])
            warn_of_another_layout(last.values["layout"], layout(device))
            pending = [(float(loss), float(norm)) for loss, norm in last.values["pending"]]
        return last.step, pending
