"""Diagnostics of a round of learning: statistics along the chain, and divergence from the reference."""

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.algos import Collected, Learner, RowMetrics, Table
from molrl.gaussian import Gaussian, sum_per_sample
from molrl.machine.processes import SINGLE_PROCESS, Processes
from molrl.multistep import clean_estimate, extrapolate
from molrl.policy import Policy
from molrl.samplers import DDIM, Sampler
from molrl.task import Metrics, Rollouts
from molrl.trajectory import Trajectory, Transitions

PROBE_ROWS = 512  # reverse steps of a rollout that its KL and its log-ratios are estimated from, at most,
PROBE_SHARE = 8  # and one in so many: each costs two network calls where the rollout paid one
MIN_PROBE_ROWS = 128
CHAIN_PARTS = 5  # equal parts of the chain with statistics of their own; 1 begins at the prior, 5 ends at the data
EMPTY = torch.zeros(0)


class RowFacts:
    """The facts that a loss reports of each row, collected over many minibatches."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []
        self.facts: dict[str, list[Tensor]] = defaultdict(list)

    def add(self, step: Tensor, facts: RowMetrics) -> None:
        """Add the facts of one minibatch to the table."""
        self.steps.append(step.cpu())
        for name, values in facts.items():
            self.facts[name].append(values.detach().float().cpu())

    def summary(self, num_steps: int, world: Processes = SINGLE_PROCESS) -> Metrics:
        """Average over the rows of all processes; log-ratio and clipped fraction by parts of the chain as well."""
        names = dict.fromkeys(name for line in world.gather_strings(" ".join(self.facts)) for name in line.split())
        facts = {name: world.gather(torch.cat([EMPTY, *self.facts[name]])) for name in names}
        steps = world.gather(torch.cat([EMPTY.long(), *self.steps]))
        part = (steps * CHAIN_PARTS // num_steps).clamp(max=CHAIN_PARTS - 1) + 1  # grid point K is in the last
        log_ratio, clipped = facts.pop("log_ratio", None), facts.pop("clipped", None)
        metrics = {name: values.mean().item() for name, values in facts.items()}
        metrics["clip_fraction"] = 0.0 if clipped is None else clipped.mean().item()
        if log_ratio is not None:
            metrics["mean_abs_log_ratio"] = log_ratio.abs().mean().item()
        for number in part.unique().tolist():
            rows = part == number
            if log_ratio is not None:
                metrics[f"log_ratio_min_{number}"] = log_ratio[rows].min().item()
                metrics[f"log_ratio_mean_{number}"] = log_ratio[rows].mean().item()
                metrics[f"log_ratio_max_{number}"] = log_ratio[rows].max().item()
            if clipped is not None:
                metrics[f"clip_fraction_{number}"] = clipped[rows].mean().item()
        return metrics


def probe(trajectory: Trajectory, rows: int, first: int = 0, total: int | None = None) -> Transitions:
    """Take up to `rows` reverse steps, spread evenly over a rollout.

    Args:
        trajectory: the rollout, or the part of it that this process has.
        rows: number of steps, over all processes.
        first: index of the part's first sample in the rollout.
        total: samples in the rollout; None: those of the trajectory.
    """
    steps, batch = trajectory.log_prob.shape
    count = batch if total is None else total
    chosen = torch.linspace(0, steps * count - 1, min(rows, steps * count)).round().long()
    step, sample = chosen // count, chosen % count - first
    own = (sample >= 0) & (sample < batch)
    return trajectory.transitions(torch.zeros_like(trajectory.log_prob[0]))[(step * batch + sample)[own]]


def probe_rollouts(rollouts: Rollouts) -> Transitions:
    """Take this process's part of some reverse steps of a scored rollout, an eighth of them or so."""
    total = len(rollouts.rewards)
    rows = total * len(rollouts.trajectory.log_prob) // PROBE_SHARE
    return probe(rollouts.trajectory, min(max(rows, MIN_PROBE_ROWS), PROBE_ROWS), rollouts.first, total)


@torch.no_grad()
def pre_update_metrics(learner: Learner, collected: Collected[Table]) -> Metrics:
    """Compare the policy before a round of learning with its rollouts and with the reference.

    `max_abs_log_ratio_first` is the largest |log p(y|x) - recorded| in nats, p being the policy that made the rollouts:
    zero, unless rollout and training evaluate different policies. `max_prediction_error_first` says the same of the
    predicted noise, as a fraction of its norm, and does not grow with the size of a sample. `kl` is that of the chain
    to the reference, in nats, both with noise at every step, even where the rollouts had steps without. `noise_norm` is
    the root mean square of the predicted noise over that of the reference's.
    """
    table, world = probe_rollouts(collected.rollouts), learner.task.processes
    policy, reference = Evaluated.at(learner.policy, table), Evaluated.at(learner.reference, table)
    behaviour = policy if collected.behaviour is learner.policy else Evaluated.at(collected.behaviour, table)
    repeated = as_stepped(behaviour, collected.behaviour, collected.rollouts.trajectory)
    norms = [world.gather(one.square_norm).mean() for one in (policy, reference)]
    return {
        "max_abs_log_ratio_first": world.gather(repeated.rerun_errors()).max().item(),
        "max_prediction_error_first": world.gather(repeated.prediction_errors()).max().item(),
        "kl": chain_total(world.gather(policy.kl(reference)), learner.policy),
        "noise_norm": (norms[0] / norms[1]).sqrt().item(),
    }


@dataclass(frozen=True)
class Evaluated:
    """A policy at the states of some reverse steps.

    A deterministic chain has no densities. Its KL is that of the ancestral chain with the same predictions, and its
    rollouts are repeated to within so many stds of ancestral steps, which is the std of a log-ratio. The KL of a chain
    of second order is that of first order with the same predictions, at the states of its rollouts.

    Attributes:
        sampler: of the policy.
        table: the steps.
        prediction: what the network of the policy predicts in their states [m, ...].
    """

    sampler: Sampler
    table: Transitions
    prediction: Float[Tensor, "m ..."]

    @classmethod
    def at(cls, policy: Policy, table: Transitions) -> "Evaluated":
        """Return the policy at the states of the table."""
        prediction = policy.sampler.predict_target(policy.predict_target, table.x, table.step, table.context)
        return cls(policy.sampler, table, prediction)

    def kernel(self, sampler: Sampler) -> Gaussian:
        """Return the reverse steps of a sampler with these predictions."""
        return sampler.transition(lambda *_: self.prediction, self.table.x, self.table.step, self.table.context)

    @property
    def square_norm(self) -> Float[Tensor, " m"]:
        """Return the squared norm of each prediction in the space of the states."""
        return sum_per_sample(self.sampler.space.project(self.prediction, self.table.context).square())

    def kl(self, other: "Evaluated") -> Float[Tensor, " m"]:
        """Compute the KL of each step to that of another policy, in nats."""
        one, two = (each.kernel(densities(each.sampler)) for each in (self, other))
        return one.kl(two)

    def rerun_errors(self) -> Float[Tensor, " m"]:
        """Compute by how much each step differs from the recorded one."""
        kernel, noisy = self.kernel(self.sampler), densities(self.sampler)
        if noisy is self.sampler:
            return log_ratio_errors(kernel, self.table)
        missed = sum_per_sample(kernel.space.project(self.table.y - kernel.mean, kernel.context).square())
        return missed.sqrt() / self.kernel(noisy).std

    def prediction_errors(self) -> Float[Tensor, " m"]:
        """Estimate |eps - recorded| / |eps| of every step: how far its mean is off, over how far eps moves it."""
        kernel, idle = (
            self.kernel(self.sampler),
            replace(self, prediction=torch.zeros_like(self.prediction)).kernel(self.sampler),
        )
        moved = sum_per_sample((kernel.mean - idle.mean).square()).sqrt()
        off = self.rerun_errors() * self.kernel(densities(self.sampler)).std
        return off / moved.clamp(min=torch.finfo(moved.dtype).tiny)


def as_stepped(evaluated: Evaluated, policy: Policy, trajectory: Trajectory) -> Evaluated:
    """Return a policy with the predictions that its rollout took steps with: of second order, extrapolated ones."""
    if policy.order == 1:
        return evaluated
    table, sampler = evaluated.table, cast(DDIM, policy.sampler)
    before = (table.step - 1).clamp(min=0)
    earlier = Evaluated.at(policy, replace(table, x=trajectory.states[before, table.sample], step=before))
    now, then = (clean_estimate(sampler, one.table.x, one.prediction, one.table.step) for one in (evaluated, earlier))
    return replace(evaluated, prediction=extrapolate(sampler, evaluated.prediction, now, then, table.step))


def densities(sampler: Sampler) -> Sampler:
    """Return the sampler, or its ancestral form where its steps have no densities."""
    noisy: Sampler = getattr(sampler, "with_densities", sampler)
    return noisy


def log_ratio_errors(kernel: Gaussian, table: Transitions) -> Float[Tensor, " m"]:
    """Compute |log p(y|x) - recorded| of every step, in nats; of steps without noise, which have no density, zero."""
    return (kernel.log_prob(table.y) - table.log_prob).abs()


@torch.no_grad()
def chain_kl(policy: Policy, reference: Policy, table: Transitions, world: Processes = SINGLE_PROCESS) -> float:
    """Estimate the KL of the chain to the reference in nats, from some steps of a rollout of the policy."""
    kl = Evaluated.at(policy, table).kl(Evaluated.at(reference, table))
    return chain_total(world.gather(kl), policy)


def chain_total(kl: Float[Tensor, " m"], policy: Policy) -> float:
    """Multiply the mean KL of some steps by the number of steps of the chain."""
    return kl.mean().item() * policy.sampler.num_steps


def effective_share(weights: Tensor) -> float:
    """Compute the effective sample fraction (sum w)^2 / (n sum w^2); it is 1 when all weights are equal."""
    return ((weights.sum() ** 2 / weights.square().sum()) / len(weights)).nan_to_num(0).item()
