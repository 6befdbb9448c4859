"""Reward-guided training: our reconstruction after Zhang and Xu 2023 (arXiv:2304.07132).

No code of the paper is public, and reviews of it name no table of settings; this is what its published description
leads to, not a reproduction. A reverse step is pulled toward the pay-off distribution q(y) ~ exp(r(y) / tau) on a ball
around it (reward-augmented maximum likelihood: Norouzi et al. 2016, arXiv:1609.00150). With candidates
y_j = y + R u_j, u_j uniform in the unit ball of the noise space, and weights w = softmax(r / tau), the loss
-sum_j w_j log p(y_j | x) has the gradient of a regression of the mean on mu_old + sum_j w_j (y_j - y).
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.advantages import SMALLEST_STD
from molrl.algos import Collected
from molrl.algos.ddpo import log_ratio_metrics, positive, refuse_empty_window, window_of
from molrl.gaussian import Context, Space, sum_per_sample
from molrl.noise import Key
from molrl.policy import Policy
from molrl.task import Metrics, Rollouts, Task, checked
from molrl.trajectory import Transitions

STATE_STREAM = -2  # keyed draws with this step number choose the states to score
BALL_STREAM = -1000  # and those below this one draw the candidates around them


@dataclass(frozen=True, kw_only=True)
class RGDM:
    """Reward-guided training on the reverse steps of fresh rollouts.

    Attributes:
        candidates: J, an even number: they come in pairs y + v, y - v, so that a flat reward moves nothing.
        radius: rho. Candidates lie within R = rho std sqrt(dof + 2) of the step: each coordinate moves with a std of
            rho times the step's own, whatever the size of the molecule.
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
        positive(candidates=self.candidates, radius=self.radius, temperature=self.temperature, states=self.states)
        if self.candidates % 2:
            raise ValueError(f"candidates: got {self.candidates}, need an even number (they come in pairs)")
        refuse_empty_window(self.first, self.last)
        if min(self.kl_weight, self.held, self.lookahead) < 0:
            got = f"{self.kl_weight}, {self.held}, {self.lookahead}"
            raise ValueError(f"kl_weight, held, lookahead: got {got}; allowed 0 or more")

    def collect(self, task: Task, samples: list[int], key: Key) -> Collected:
        """Score candidates around some steps of each rollout; y of the table is the target of the step's mean."""
        rollouts = task.rollout(samples, key)
        scored, held = self.choose(rollouts, samples, key)
        with torch.no_grad():
            kernel, still = task.policy.transition(scored), task.policy.transition(held)
        offsets = self.candidate_offsets(kernel.std, scored, kernel.space, samples, key)
        rewards, seconds = self.score(task, scored, offsets)
        known = rollouts.rewards[~rollouts.rewards.isnan()]
        scale = max(known.std(correction=0).item(), SMALLEST_STD) if len(known) else 1.0
        weights, found = payoff(rewards / scale, self.temperature)
        half = self.candidates // 2  # by pairs, so that equal weights pull by exactly nothing
        pull = torch.einsum("jm,jm...->m...", weights[:half] - weights[half:], offsets[:half])
        target = kernel.mean + pull
        moved = replace(scored, y=target, log_prob=kernel.log_prob(target))[found.nonzero().squeeze(1)]
        table = (
            moved.extended(replace(held, y=still.mean, log_prob=still.log_prob(still.mean))) if len(moved) else moved
        )
        metrics = {
            "payoff_ess": (1 / weights.square().sum(0)).nan_to_num(posinf=0.0).mean().item() / self.candidates,
            "payoff_lost": rewards.isnan().float().mean().item(),
            "payoff_flat": (rewards.amax(0) == rewards.amin(0)).float().mean().item(),
            "payoff_std": rewards.nan_to_num(0).std(0, correction=0).mean().item(),
            "pull": (sum_per_sample(pull.square()) / kernel.dof).sqrt().div(kernel.std).mean().item(),
        }
        return Collected(table, rollouts, len(samples) + rewards.numel(), seconds, metrics)

    def loss(self, policy: Policy, reference: Policy, batch: Transitions) -> tuple[Float[Tensor, ""], Metrics]:
        """|mu - target|^2 / (2 std^2) + kl_weight KL(p || reference)."""
        kernel = policy.transition(batch)
        log_ratio = kernel.log_prob(batch.y) - batch.log_prob
        with torch.no_grad():
            anchor = reference.transition(batch)
        loss = -log_ratio.mean() + self.kl_weight * kernel.kl(anchor).mean()
        return loss, {"clip_fraction": 0.0, **log_ratio_metrics(log_ratio)}

    def choose(self, rollouts: Rollouts, samples: list[int], key: Key) -> tuple[Transitions, Transitions]:
        """Random steps of each sample: `states` to score, inside the window, and `held` others from the whole chain."""
        steps, batch = rollouts.trajectory.log_prob.shape
        window = window_of(steps, self.first, self.last)
        scored = torch.zeros(steps, batch, dtype=torch.bool, device=rollouts.rewards.device)
        held = torch.zeros_like(scored)
        for column, sample in enumerate(samples):
            generator = key.generator(sample, STATE_STREAM)
            scored[torch.from_numpy(generator.permutation(window)[: self.states]), column] = True
            held[torch.from_numpy(generator.permutation(steps)[: self.held]), column] = True
        flat = torch.zeros_like(rollouts.rewards)
        return rollouts.trajectory.transitions(flat, scored), rollouts.trajectory.transitions(flat, held & ~scored)

    def candidate_offsets(
        self, std: Float[Tensor, " m"], table: Transitions, space: Space, samples: list[int], key: Key
    ) -> Float[Tensor, "j m ..."]:
        """R u_j and -R u_j, with u_j uniform in the unit ball of the noise space."""
        half, shape, context = self.candidates // 2, tuple(table.x.shape[1:]), table.context
        radius = self.radius * std * (space.dof(table.x, context) + 2).sqrt()
        drawn, uniform = torch.empty(half, len(table), *shape), torch.empty(half, len(table))
        for row, (sample, step) in enumerate(zip(table.sample.tolist(), table.step.tolist(), strict=True)):
            for j in range(half):
                generator = key.generator(samples[sample], BALL_STREAM - step * half - j)
                uniform[j, row] = generator.random()
                drawn[j, row] = torch.from_numpy(generator.standard_normal(shape, dtype="float32"))
        ball = torch.stack(
            [in_ball(g.to(table.x), u.to(table.x), space, context) for g, u in zip(drawn, uniform, strict=True)]
        )
        offsets = ball * radius.view(1, -1, *[1] * len(shape))
        return torch.cat([offsets, -offsets])

    @torch.no_grad()
    def score(self, task: Task, table: Transitions, offsets: Float[Tensor, "j m ..."]) -> tuple[Tensor, float]:
        """Rewards [J, m] of the clean estimates of all candidates, and the seconds the reward took."""
        context, step = table.context, table.step + 1
        finished: list[Any] = []
        for offset in offsets:
            clean = task.policy.foresee(table.y + offset, step, self.lookahead, context)
            finished.extend(task.domain.decode(clean, context))
        start = time.perf_counter()
        rewards = checked(task.reward(finished), len(finished)).to(table.x.device)
        return rewards.view(len(offsets), -1), time.perf_counter() - start


def in_ball(
    gaussian: Float[Tensor, "m ..."], uniform: Float[Tensor, " m"], space: Space, context: Context
) -> Float[Tensor, "m ..."]:
    """Uniform in the unit ball of the space: g / |g| U^(1/dof)."""
    direction = space.project(gaussian, context)
    length = uniform ** (1 / space.dof(gaussian, context)) / sum_per_sample(direction.square()).sqrt()
    return direction * length.view(-1, *[1] * (gaussian.dim() - 1))


def payoff(rewards: Float[Tensor, "j m"], temperature: float) -> tuple[Float[Tensor, "j m"], Tensor]:
    """Weights softmax(r / tau) over the candidates of each state, and which states have a score at all.

    A candidate that could not be scored has no weight, and neither has its mirror image: else the missing half of a
    pair would pull by itself. A state whose candidates all score the same is not pulled; it stays in the table, where
    it holds the policy in place.
    """
    unknown = rewards.isnan()
    unknown = unknown | unknown.roll(len(rewards) // 2, 0)
    weights = torch.softmax((rewards / temperature).masked_fill(unknown, -torch.inf), 0)
    return weights.nan_to_num(0), ~unknown.all(0)
