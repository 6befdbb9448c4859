"""Reward-guided training: our reconstruction after Zhang and Xu 2023 (arXiv:2304.07132).

No code of the paper is public, and reviews of it name no table of settings; this is what its published description
leads to, not a reproduction. A reverse step is pulled toward the pay-off distribution q(y) ~ exp(r(y) / tau) on a ball
around it (reward-augmented maximum likelihood: Norouzi et al. 2016, arXiv:1609.00150). With candidates
y_j = y + R u_j, u_j uniform in the unit ball of the noise space, and weights w = softmax(r / tau), the loss
-sum_j w_j log p(y_j | x) has the gradient of a regression of the mean on m + sum_j w_j (y_j - y), m the mean of the
ordinary step.
"""

import time
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from molrl.advantages import SMALLEST_STD
from molrl.algos import Collected, Facts, Learner, checks
from molrl.algos.steps import random_steps, window_of
from molrl.gaussian import Context, Gaussian, Space, sum_per_sample
from molrl.noise import Key
from molrl.policy import Policy
from molrl.reward_queue import RewardQueue, checked, parts
from molrl.task import Metrics, Rollouts, Task
from molrl.trajectory import Transitions

STATE_STREAM = -2  # keyed draws with this step number choose the states to score
HELD_STREAM = -3  # and those of this one the states to hold
NOISE_STREAM, DATA_STREAM = -50, -60  # noise of states and steps made from clean samples
BALL_STREAM = -1000  # draws below this one are the candidates


@dataclass(frozen=True, kw_only=True)
class RGDM:
    """Reward-guided training on reverse steps.

    Attributes:
        source: where the steps come from. "policy": reverse steps of fresh rollouts; nothing anchors them but the KL
            term. "replay": steps of the noising process from the rollouts' finished samples. "data": the same from real
            samples, which anchors the policy to the data.
        guidance: "candidates" (any reward) or "gradient" (a differentiable one: the limit of many candidates).
        candidates: J, an even number: they come in pairs y + v, y - v, so that a flat reward moves nothing.
        radius: rho. Candidates lie within R = rho std sqrt(dof + 2) of the step: each coordinate moves with a std of
            rho times the step's own, whatever the size of the molecule. They have more noise than the network is told
            of, the more the larger rho: where `payoff_reward`, their mean reward, is far from that of the samples, what
            is scored is no longer where steps lead.
        temperature: tau, in standard deviations of the reward over the rollouts.
        states: steps of each sample around which candidates are scored.
        first: share of the chain after which steps are scored (0 is the prior, 1 the end): earlier, the clean estimate
            that is scored is a blur.
        last: share of the chain up to which steps are scored: later, a candidate cannot change the outcome.
        lookahead: deterministic steps from a candidate toward the data before its clean estimate is scored: the plain
            estimate of an early state is a blur that no reward can read.
        held: other random steps of each sample, from the whole chain, that are learned from with no pull: they keep the
            rest of the chain where it is while the scored part moves.
        kl_weight: weight of the exact per-step KL to the reference: what the pull is held back by.
    """

    source: Literal["policy", "replay", "data"]
    guidance: Literal["candidates", "gradient"]
    candidates: int
    radius: float
    temperature: float
    states: int
    first: float
    last: float
    lookahead: int
    held: int
    kl_weight: float

    def __post_init__(self) -> None:
        checks.positive(candidates=self.candidates, radius=self.radius)
        checks.positive(temperature=self.temperature, states=self.states)
        if self.candidates % 2:
            raise ValueError(f"candidates: got {self.candidates}, need an even number (they come in pairs)")
        checks.window(self.first, self.last)
        checks.not_negative(kl_weight=self.kl_weight, held=self.held, lookahead=self.lookahead)

    def modules(self, task: Task) -> nn.ModuleDict:
        """Nothing but the policy."""
        if self.guidance == "gradient" and not getattr(task.reward, "differentiable", False):
            raise ValueError(f"guidance=gradient: the reward of task {task.name!r} has no gradient; use candidates")
        if self.source == "data" and task.data is None:
            raise ValueError(f"source=data: task {task.name!r} has no data set; use policy or replay")
        return nn.ModuleDict()

    def learning_rate(self, name: str) -> float:
        """Nothing but the policy."""
        return 0.0

    def collect(self, learner: Learner, samples: list[int], key: Key) -> Collected[Transitions]:
        """Pull some steps toward higher rewards; y of the table is the target of the step's mean."""
        task, world = learner.task, learner.task.processes
        rollouts = task.rollout(samples, key)
        samples = samples[rollouts.own]
        clean = self.clean_states(task, rollouts, samples, key)
        scored, held = self.choose(task.policy.sampler.num_steps, samples, key)
        steps, ordinary = self.steps(task.policy, clean, scored, samples, key)
        still, unmoved = self.steps(task.policy, clean, held, samples, key)
        known = rollouts.rewards[~rollouts.rewards.isnan()]
        scale = max(known.std(correction=0).item(), SMALLEST_STD) if len(known) else 1.0
        pulled = self.uphill if self.guidance == "gradient" else self.toward_payoff
        pull = pulled(task, steps, ordinary, scale, samples, key)
        moved = replace(steps, y=ordinary.mean + pull.by)[pull.known.nonzero().squeeze(1)]
        table, row_order = moved, moved.step
        if world.any(len(moved) > 0):
            table = moved.extended(replace(still, y=unmoved.mean))
            row_order = torch.cat([moved.step, still.step + task.policy.sampler.num_steps])
        length = (sum_per_sample(pull.by.square()) / ordinary.dof).sqrt() / ordinary.std
        metrics = {**pull.metrics, "pull": world.gather(length).mean().item()}
        queries = len(rollouts.rewards) + pull.queries
        return Collected(table, row_order, rollouts, task.policy, queries, pull.seconds, metrics)

    def loss(self, learner: Learner, batch: Transitions) -> tuple[Float[Tensor, ""], Facts]:
        """|mu - target|^2 / (2 std^2) + kl_weight KL(p || reference)."""
        kernel = learner.policy.transition(batch)
        missed = kernel.kl(replace(kernel, mean=batch.y))
        with torch.no_grad():
            anchor = learner.reference.transition(batch)
        return missed.mean() + self.kl_weight * kernel.kl(anchor).mean(), {"missed": missed.detach()}

    def clean_states(self, task: Task, rollouts: Rollouts, samples: list[int], key: Key) -> Rollouts:
        """Rollouts as they are, or with real samples in the place of their own."""
        if self.source != "data" or task.data is None:
            return rollouts
        x0, context = task.data(samples, key.child(DATA_STREAM - key.stream))
        context = {name: value.to(task.device) for name, value in context.items()}
        return replace(rollouts, trajectory=replace(rollouts.trajectory, final=x0.to(task.device), context=context))

    def choose(
        self, num_steps: int, samples: list[int], key: Key
    ) -> tuple[Bool[Tensor, "steps b"], Bool[Tensor, "steps b"]]:
        """Random steps of each sample: `states` to score, inside the window, and `held` others from the whole chain."""
        window = window_of(num_steps, self.first, self.last)
        scored = random_steps(num_steps, samples, key, STATE_STREAM, window, self.states)
        held = random_steps(num_steps, samples, key, HELD_STREAM, range(num_steps), self.held)
        return scored, held & ~scored

    def steps(
        self, policy: Policy, rollouts: Rollouts, chosen: Bool[Tensor, "steps b"], samples: list[int], key: Key
    ) -> tuple[Transitions, Gaussian]:
        """Ordinary steps x -> y at the chosen places, and the Gaussian that y was drawn from.

        From clean samples: x = alpha x_0 + sigma eps, and the step with the true eps in the place of the predicted one,
        which is q(y | x, x_0) (Song et al. 2021, arXiv:2010.02502, Eq. 7).
        """
        trajectory, flat = rollouts.trajectory, torch.zeros_like(rollouts.rewards)
        table = trajectory.transitions(flat, chosen.to(flat.device))
        if self.source == "policy":
            with torch.no_grad():
                return table, policy.transition(table)
        sampler, shape, x0 = policy.sampler, tuple(trajectory.final.shape[1:]), trajectory.final[table.sample]
        rows = row_numbers(table, samples, sampler.num_steps)
        noise, again = (key.normal(rows, NOISE_STREAM - k, shape).to(x0) if rows else x0 for k in range(2))
        eps = sampler.space.project(noise, table.context)
        x = sampler.add_noise(x0, eps, table.step)
        posterior = sampler.transition(lambda *_: eps, x, table.step, table.context)
        return replace(table, x=x, y=posterior.sample(again)), posterior

    def toward_payoff(
        self, task: Task, steps: Transitions, ordinary: Gaussian, scale: float, samples: list[int], key: Key
    ) -> "Pull":
        """sum_j w_j (y_j - y) over scored candidates."""
        offsets = self.candidate_offsets(task.policy, steps, ordinary.std, samples, key)
        rewards, seconds = self.score(task, steps, offsets)
        weights, known = payoff(rewards / scale, self.temperature)
        half = self.candidates // 2  # by pairs, so that equal weights pull by exactly nothing
        by = torch.einsum("jm,jm...->m...", weights[:half] - weights[half:], offsets[:half])
        everyones = task.processes.gather(rewards, dim=1)
        return Pull(by, known, everyones.numel(), seconds, self.told(everyones, scale))

    def told(self, rewards: Float[Tensor, "j m"], scale: float) -> Metrics:
        """What is logged of the rewards of the candidates of all processes."""
        weights, known = payoff(rewards / scale, self.temperature)
        return {
            "payoff_ess": (1 / weights.square().sum(0)).nan_to_num(posinf=0.0).mean().item() / self.candidates,
            "payoff_lost": rewards.isnan().float().mean().item(),
            "payoff_flat": (rewards.amax(0) == rewards.amin(0)).float().mean().item(),
            "payoff_reward": rewards.nanmean().item(),
            "payoff_std": rewards.where(known, 0).std(0, correction=0).nanmean().nan_to_num(0).item(),
        }

    def candidate_offsets(
        self, policy: Policy, table: Transitions, std: Float[Tensor, " m"], samples: list[int], key: Key
    ) -> Float[Tensor, "j m ..."]:
        """R u_j and -R u_j, with u_j uniform in the unit ball of the noise space."""
        space, shape, context = policy.sampler.space, tuple(table.x.shape[1:]), table.context
        radius = self.radius * std * (space.dof(table.x, context) + 2).sqrt()
        rows = row_numbers(table, samples, policy.sampler.num_steps)
        ball = []
        for j in range(self.candidates // 2):
            gaussian = key.normal(rows, BALL_STREAM - 2 * j, shape).to(table.x)
            uniform = torch.special.ndtr(key.normal(rows, BALL_STREAM - 2 * j - 1, (1,))).squeeze(1).to(table.x)
            ball.append(in_ball(gaussian, uniform, space, context))
        offsets = torch.stack(ball) * radius.view(1, -1, *[1] * len(shape))
        return torch.cat([offsets, -offsets])

    @torch.no_grad()
    def score(self, task: Task, table: Transitions, offsets: Float[Tensor, "j m ..."]) -> tuple[Tensor, float]:
        """Rewards [J, m] of the clean estimates of all candidates, and the seconds that `RewardQueue` took."""
        context, step, queue = table.context, table.step + 1, RewardQueue(task.reward)
        for offset in offsets:
            for part in parts(len(table), table.x.shape[1:].numel(), table.x.device):
                own = {name: value[part] for name, value in context.items()}
                clean = task.policy.lookahead_x0(table.y[part] + offset[part], step[part], self.lookahead, own)
                queue.submit(task.decoder.decode(clean, own))
        rewards = queue.results().to(table.x)
        return rewards.view(len(offsets), -1), queue.seconds

    def uphill(
        self, task: Task, steps: Transitions, ordinary: Gaussian, scale: float, samples: list[int], key: Key
    ) -> "Pull":
        """R^2 / (tau (d + 2)) times the gradient of the reward at y, no longer than R: many candidates, to first order
        in the spread of their rewards.
        """
        rewards, gradient, seconds = self.slopes(task, steps)
        reach = self.radius * ordinary.std  # R / sqrt(d + 2)
        by = ordinary.space.project(gradient / scale, steps.context) * ordinary.broadcast(reach**2 / self.temperature)
        excess = sum_per_sample(by.square()).sqrt() / (reach * (ordinary.dof + 2).sqrt())
        known = excess.isfinite() & rewards.isfinite()
        by = torch.where(ordinary.broadcast(known.float()) > 0, by / ordinary.broadcast(excess.clamp(min=1)), 0.0)
        lost = task.processes.gather(~known)
        return Pull(by, known, len(lost), seconds, {"payoff_lost": lost.float().mean().item()})

    def slopes(self, task: Task, steps: Transitions) -> tuple[Float[Tensor, " m"], Float[Tensor, "m ..."], float]:
        """Rewards [m] of the clean estimates of y, their gradients there, and the seconds that the reward took."""
        rewards, gradient, seconds = steps.y.new_empty(len(steps)), torch.empty_like(steps.y), 0.0
        for part in parts(len(steps), steps.y.shape[1:].numel(), steps.y.device):
            context = {name: value[part] for name, value in steps.context.items()}
            y = steps.y[part].clone().requires_grad_()
            with torch.enable_grad():
                clean = task.policy.lookahead_x0(y, steps.step[part] + 1, self.lookahead, context)
                start = time.perf_counter()
                found = task.reward(task.decoder.decode(clean, context))
                seconds += time.perf_counter() - start
                rewards[part] = checked(found, len(y))
                (gradient[part],) = torch.autograd.grad(found.sum(), y)
        return rewards, gradient, seconds


@dataclass(frozen=True)
class Pull:
    """Where steps are to go.

    Attributes:
        by: displacement of each step's mean [m, ...].
        known: which steps have one [m].
        queries: questions to the reward, of all processes.
        seconds: time it took to answer.
        metrics: to be logged.
    """

    by: Float[Tensor, "m ..."]
    known: Bool[Tensor, " m"]
    queries: int
    seconds: float
    metrics: Metrics


def row_numbers(table: Transitions, samples: list[int], num_steps: int) -> list[int]:
    """A number of its own for every (sample, step), to key noise by."""
    pairs = zip(table.sample.tolist(), table.step.tolist(), strict=True)
    return [samples[sample] * num_steps + step for sample, step in pairs]


def in_ball(
    gaussian: Float[Tensor, "m ..."], uniform: Float[Tensor, " m"], space: Space, context: Context
) -> Float[Tensor, "m ..."]:
    """Uniform in the unit ball of the space: g / |g| U^(1/dof)."""
    direction = space.project(gaussian, context)
    length = uniform ** (1 / space.dof(gaussian, context)) / sum_per_sample(direction.square()).sqrt()
    return direction * length.view(-1, *[1] * (gaussian.dim() - 1))


def payoff(rewards: Float[Tensor, "j m"], temperature: float) -> tuple[Float[Tensor, "j m"], Bool[Tensor, " m"]]:
    """Weights softmax(r / tau) over the candidates of each state, and which states have a score at all.

    A candidate that could not be scored has no weight, and neither has its mirror image: else the missing half of a
    pair would pull by itself. A state whose candidates all score the same is not pulled; it stays in the table, where
    it holds the policy in place.
    """
    unknown = rewards.isnan()
    unknown = unknown | unknown.roll(len(rewards) // 2, 0)
    weights = torch.softmax((rewards / temperature).masked_fill(unknown, -torch.inf), 0)
    return weights.nan_to_num(0), ~unknown.all(0)
