"""Diffusion-DPO: preferences without a reward model (Wallace et al. 2023, arXiv:2311.12908, Eq. 14).

    minimise  -log sigmoid(-beta / 2 ((e_theta(w) - e_ref(w)) - (e_theta(l) - e_ref(l))))

where e(x) = |eps - eps(x_t)|^2, and winner w and loser l have the same t and eps. The optimum has the log-odds of the
preferences as the difference of the implicit rewards -beta / 2 (e_theta - e_ref).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from molrl.algos import Collected, Learner, RowMetrics, checks
from molrl.gaussian import Context, sum_per_sample
from molrl.noise import Draw, Key, Stream
from molrl.preferences import PreferenceTable, extremes, field_scores, pair_source, read_preferences
from molrl.samplers import Sampler
from molrl.task import Rollouts, Task
from molrl.trajectory import select


@dataclass(frozen=True)
class Pairs:
    """A flat table of m noised pairs, the winner first.

    Attributes:
        x: x_t of winner and loser [m, 2, ...].
        target: what the network is to predict in both [m, 2, ...]; their noise is one draw, on the space of each.
        step: grid point of both.
        weight: 1; 0 of a pair without a preference, which is there so that a round never is without rows.
        sample: the rollout that the pair is numbered by.
        rows: rows of `contexts` [m, 2].
        contexts: context of every state, stored once.
    """

    x: Float[Tensor, "m 2 ..."]
    target: Float[Tensor, "m 2 ..."]
    step: Int[Tensor, " m"]
    weight: Float[Tensor, " m"]
    sample: Int[Tensor, " m"]
    rows: Int[Tensor, "m 2"]
    contexts: Context

    def __len__(self) -> int:
        return len(self.step)

    def __getitem__(self, rows: Tensor) -> "Pairs":
        """Return some of the pairs."""
        return replace(
            self,
            x=self.x[rows],
            target=self.target[rows],
            step=self.step[rows],
            weight=self.weight[rows],
            sample=self.sample[rows],
            rows=self.rows[rows],
        )


@dataclass(frozen=True, kw_only=True)
class DiffusionDPO:
    """Direct preference optimisation of the denoiser.

    Attributes:
        source: where the pairs come from. "policy": the best and the worst of each group of rollouts. "records": a
            table of preferences about the records of `task.records`; rollouts then only report the reward.
        preferences: the table, a CSV file; see `molrl.preferences`. None: a field of the records, named by `column`.
        column: of its scores; None: the only one.
        group_size: rollouts of one condition in a group; 1 with "records".
        pairs: pairs of records that are drawn for each rollout; 1 with "policy", which has one pair in each group.
        margin: least difference of the scores of a pair, in their standard deviations.
        noisings: noised states of each pair in a round.
        beta: the strength of the KL to the reference.
        likelihood: "joint": e is a sum over the degrees of freedom, so that beta is per nat of a sample; "per_dim": a
            mean over them, as published (beta 5000 for Stable Diffusion).
    """

    source: Literal["policy", "records"]
    preferences: str | None
    column: str | None
    group_size: int
    pairs: int
    margin: float
    noisings: int
    beta: float
    likelihood: Literal["joint", "per_dim"]

    def __post_init__(self) -> None:
        checks.require_positive(group_size=self.group_size, pairs=self.pairs, noisings=self.noisings, beta=self.beta)
        checks.require_non_negative(margin=self.margin)
        if self.source == "policy" and self.group_size < 2:
            raise ValueError(f"group_size: got {self.group_size}, need at least 2 for a best and a worst")
        if self.source == "records" and self.group_size > 1:
            raise ValueError(f"group_size: got {self.group_size}; with source=records pairs come from a file, need 1")
        if self.source == "policy" and self.pairs > 1:
            raise ValueError(f"pairs: got {self.pairs}; with source=policy each group has one pair, need 1")
        given = self.preferences is not None or (self.source == "records" and self.column is not None)
        if given != (self.source == "records"):
            raise ValueError(
                f"preferences: got {self.preferences} with source={self.source}; need a CSV file with source=records, "
                "or column=NAME of a field of the records, and null with source=policy"
            )

    @cached_property
    def table(self) -> PreferenceTable:
        """Return the preferences of the file."""
        return read_preferences(str(self.preferences), self.column)

    def preferences_of(self, task: Task) -> PreferenceTable:
        """Return the preferences of the file, or else those by a field of the task's records.

        Raises:
            ValueError: the records have no such field, or one that is no number.
        """
        if self.preferences is not None:
            return self.table
        read: Callable[[str], Mapping[int, str]] | None = getattr(task.records, "field_values", None)
        if read is None:
            raise ValueError(f"preferences: the records of task {task.name!r} have no fields; give a CSV file")
        return field_scores(read(str(self.column)), str(self.column), "task.records")

    def modules(self, task: Task) -> nn.ModuleDict:
        """Return no modules; refuse a task without records, and preferences that no pair can be made of."""
        if self.source == "records":
            if task.records is None:
                raise ValueError(f"source=records: task {task.name!r} has no file of records; give task.records=FILE")
            states = task.records()
            pair_source(self.preferences_of(task), states.numbers, task.decoder.groups(states.context), self.margin)
        return nn.ModuleDict()

    def learning_rate(self, name: str) -> float:
        """Return zero, for there is no module."""
        return 0.0

    def collect(self, learner: Learner, samples: list[int], key: Key) -> Collected[Pairs]:
        """Roll out, make or draw the pairs, and add noise to them."""
        task = learner.task
        rollouts = task.rollout(samples, key, self.group_size)
        own = samples[rollouts.own]
        if self.source == "policy":
            x0, context = rollouts.trajectory.final, rollouts.trajectory.context
            rows, decided = self.extreme_rows(rollouts)
            numbers: list[int] = (rows[:, 0] // self.group_size * self.group_size).tolist()
        else:
            x0, context, rows = self.drawn_rows(task, own, key)
            decided, numbers = torch.ones_like(rows[:, 0]), [row // self.pairs for row in range(len(rows))]
        keys = [own[number] * self.pairs + row % self.pairs for row, number in enumerate(numbers)]
        table = self.noise_pairs(task.policy.sampler, x0, context, rows, keys, key)
        sample = torch.tensor(numbers, dtype=torch.long, device=x0.device).repeat(self.noisings)
        table = replace(table, sample=sample, weight=decided.to(x0).repeat(self.noisings))
        order = torch.arange(self.noisings).repeat_interleave(len(numbers)) * self.pairs
        order += torch.arange(len(order)) % self.pairs
        share = task.processes.gather(decided.float()).mean().nan_to_num(0).item()
        metrics = {"preferences": share}
        return Collected(table, order, rollouts, task.policy, len(rollouts.rewards), metrics=metrics)

    def extreme_rows(self, rollouts: Rollouts) -> tuple[Int[Tensor, "p 2"], Tensor]:
        """Return best and worst of each group of this process, and which groups have a preference."""
        rewards = rollouts.rewards
        known = rewards[~rewards.isnan()]
        spread = known.std(correction=0).item() if len(known) else 0.0
        rows, decided = extremes(rewards[rollouts.own], self.group_size, self.margin, spread)
        return rows.to(rewards.device), decided.to(rewards.device)

    def drawn_rows(self, task: Task, samples: list[int], key: Key) -> tuple[Tensor, Context, Int[Tensor, "p 2"]]:
        """Draw the pairs of records of each sample; return the states of the file, their context and the rows."""
        assert task.records is not None
        states = task.records()
        source = pair_source(
            self.preferences_of(task), states.numbers, task.decoder.groups(states.context), self.margin
        )
        key = key.child(Stream.DATA.at(key.stream))
        generators = [key.generator(sample, Draw.CONTEXT) for sample in samples]
        drawn = [source.draw(generator) for generator in generators for _ in range(self.pairs)]
        context = {name: value.to(task.device) for name, value in states.context.items()}
        return states.x0.to(task.device), context, torch.tensor(drawn, device=task.device).view(-1, 2)

    def noise_pairs(
        self,
        sampler: Sampler,
        x0: Float[Tensor, "n ..."],
        context: Context,
        rows: Int[Tensor, "p 2"],
        numbers: Sequence[int],
        key: Key,
    ) -> Pairs:
        """Add the same noise to winner and loser, `noisings` times, at grid points that cover the chain evenly."""
        points, shape = sampler.num_steps + 1, tuple(x0.shape[1:])
        start = torch.tensor([key.generator(number, Draw.GRID).random() for number in numbers], dtype=torch.float64)
        both, flat = select(context, rows.flatten()), x0[rows.flatten()]
        x, target, step = [], [], []
        for k in range(self.noisings):
            point = (((start + k / self.noisings) % 1.0) * points).long().to(x0.device)
            draws = key.normal(numbers, Draw.NOISING.at(k), shape).to(x0) if len(numbers) else x0[:0]
            eps = sampler.space.project(draws.repeat_interleave(2, 0), both)
            x.append(sampler.add_noise(flat, eps, point.repeat_interleave(2)).view(-1, 2, *shape))
            target.append(sampler.target(flat, eps).view(-1, 2, *shape))
            step.append(point)
        again = rows.repeat(self.noisings, 1)
        weight, sample = x0.new_ones(len(again)), torch.zeros_like(again[:, 0])
        return Pairs(torch.cat(x), torch.cat(target), torch.cat(step), weight, sample, again, context)

    def loss(self, learner: Learner, batch: Pairs) -> tuple[Float[Tensor, ""], RowMetrics]:
        """Compute -log sigmoid of the difference of the implicit rewards."""
        sampler, context = learner.policy.sampler, select(batch.contexts, batch.rows.flatten())
        x, target, step = batch.x.flatten(0, 1), batch.target.flatten(0, 1), batch.step.repeat_interleave(2)
        predicted = sampler.predict_target(learner.policy.predict_target, x, step, context)
        with torch.no_grad():
            anchor = sampler.predict_target(learner.reference.predict_target, x, step, context)
        dof = sampler.space.dof(x, context)
        own, reference = (
            sum_per_sample(sampler.space.project(one - target, context).square()) for one in (predicted, anchor)
        )
        moved = (own - reference) / (dof if self.likelihood == "per_dim" else 1.0)
        rewards = -self.beta / 2 * moved.view(-1, 2)
        log_odds = rewards[:, 0] - rewards[:, 1]
        norms = [(sum_per_sample(eps.detach().square()) / dof).view(-1, 2).mean(1) for eps in (predicted, anchor)]
        metrics = {
            "log_odds": log_odds.detach(),
            "preferred": (log_odds.detach() > 0).float(),
            "implicit_reward_winner": rewards[:, 0].detach(),
            "implicit_reward_loser": rewards[:, 1].detach(),
            "prediction_norm": norms[0],
            "reference_norm": norms[1],
        }
        return -(batch.weight * logsigmoid(log_odds)).mean(), metrics
