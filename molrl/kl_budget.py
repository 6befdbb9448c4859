"""A step size in nats: how far a round, and a whole run, may move the policy.

A learning rate means another step for every reward, domain and algorithm; a KL between chains means the same for all
(TRPO: Schulman et al. 2015, arXiv:1502.05477). Here the learning rate of the policy is scaled so that a round of
updates comes to `kl_round`. A few times in a round the KL is measured; a policy that went farther is pulled back on the
straight line to where the round began, and the round's other updates are dropped. Likewise a policy farther than
`kl_total` from the pretrained one is pulled back toward that one, so that it learns on within the ball; with `kl_total`
alone this is measured at the end of a round.

The KL is that of whole chains: the exact Gaussian KL of some reverse steps of the round's own samples, spread over the
chain, times the number of steps. It needs nothing of an algorithm but its samples. A deterministic chain (eta = 0) has
no densities; there it is the KL of the ancestral chain (eta = 1) with the same predictions.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from molrl.algos import Collected, Table
from molrl.diagnostics import chain_kl, probe_rollouts
from molrl.policy import Policy
from molrl.task import Metrics
from molrl.training_state import State, TrainingError
from molrl.trajectory import Transitions

CHECKS = 4  # measurements in a round with a limit of its own, each a forward pass of `diagnostics.PROBE_ROWS` rows
AIM = 0.95  # of the limit, that a policy is pulled back to
MAX_PULLS = 20  # each keeps at least half of the distance
MAX_CHANGE = 4.0  # of the factor, from one round to the next
MAX_FACTOR = 64.0  # a reward that teaches nothing would let it grow without end


class KLBudget:
    """The budget of a run.

    Args:
        kl_round: largest KL of a round, in nats, to the policy that it began with; None: any.
        kl_total: largest KL to the pretrained policy, in nats; None: any.
        state: of the run, before training; its factor of the learning rate is adapted.
    """

    def __init__(self, kl_round: float | None, kl_total: float | None, state: State) -> None:
        self.kl_round, self.kl_total, self.state = kl_round, kl_total, state
        self.group = state.optimizer.param_groups[0]  # the policy's
        self.rate: float = self.group["lr"]
        self.parameters: list[Tensor] = [one for one in self.group["params"] if one.requires_grad]
        self.pretrained = copies(self.parameters) if kl_total is not None else []

    def begin(self, collected: Collected[Table], updates: int) -> "BudgetedRound | None":
        """Set the learning rate for a round of so many updates, and return what watches it; None without a limit."""
        if self.kl_round is None and self.kl_total is None:
            return None
        self.group["lr"] = self.rate * self.state.rate_factor
        return BudgetedRound(self, collected, updates)

    def adapt_rate(self, aim: float, kl: float, share: float) -> None:
        """Scale the learning rate so that a whole round would come to the KL aimed at; a KL grows with its square.

        Args:
            aim: for a round, in nats.
            kl: of the round, before it was pulled back.
            share: of its updates that were made.
        """
        change = math.sqrt(aim * share / max(kl, 1e-12))
        factor = self.state.rate_factor * min(max(change, 1 / MAX_CHANGE), MAX_CHANGE)
        self.state.rate_factor = min(max(factor, 1 / MAX_FACTOR), MAX_FACTOR)


class BudgetedRound:
    """A round of updates that is kept within the budget.

    Args:
        budget: of the run.
        collected: the samples of the round, at whose states the KLs are measured.
        updates: number of updates that are planned.
    """

    def __init__(self, budget: KLBudget, collected: Collected[Table], updates: int) -> None:
        self.budget, self.learner, self.updates = budget, budget.state.learner, updates
        self.every = math.ceil(updates / CHECKS) if budget.kl_round is not None else updates
        self.table = probe_rollouts(collected.rollouts)
        self.start = copies(budget.parameters)
        self.before, self.reference = (
            frozen(policy, self.table) for policy in (self.learner.policy, self.learner.reference)
        )

    def is_over(self, update: int) -> bool:
        """Check the policy after an update, counted from 1; pull it back where it is too far.

        Returns:
            Whether the round ends here: its KL is spent, or this was the last update.

        Raises:
            TrainingError: the KL is not a number.
        """
        last, budget = update == self.updates, self.budget
        if update % self.every and not last:
            return False
        spent = False
        if budget.kl_round is not None:
            moved = self.kl_to(self.before)
            spent = moved > budget.kl_round
            if spent or last:
                budget.adapt_rate(budget.kl_round, moved, update / self.updates)
            pull_back(budget.parameters, self.start, lambda: self.kl_to(self.before), budget.kl_round)
        if budget.kl_total is not None:
            pull_back(budget.parameters, budget.pretrained, lambda: self.kl_to(self.reference), budget.kl_total)
        return spent or last

    def metrics(self) -> Metrics:
        """Return the KL of the round and the factor of the next one's learning rate."""
        return {"kl_round": self.kl_to(self.before), "rate_factor": self.budget.state.rate_factor}

    def kl_to(self, other: Policy) -> float:
        """Estimate the KL of whole chains from the policy to another one, in nats."""
        kl = chain_kl(self.learner.policy, other, self.table, self.learner.task.processes)
        if math.isnan(kl):
            raise TrainingError("the KL of the policy is not a number: its predictions are not finite")
        return kl


@torch.no_grad()
def frozen(policy: Policy, table: Transitions) -> Policy:
    """Return the policy as it is now, for the states of a table alone, where its predictions are kept."""
    kept = policy.sampler.predict_target(policy.predict_target, table.x, table.step, table.context)
    return replace(policy, denoiser=lambda *_: kept, autocast=None)


@torch.no_grad()
def pull_back(
    parameters: Sequence[Tensor], start: Sequence[Tensor], measure: Callable[[], float], limit: float
) -> None:
    """Move parameters on the straight line to `start` until `measure`, which is zero there, is at most the limit.

    Near the start a KL is a parabola of the distance, so that few moves come to `AIM` of the limit. Elsewhere it may
    fall faster (with the fourth power for an adapter, a product of two matrices); hence no move goes more than halfway.
    """
    for _ in range(MAX_PULLS):
        if (kl := measure()) <= limit:
            return
        kept = max(math.sqrt(AIM * limit / kl), 0.5)
        for parameter, origin in zip(parameters, start, strict=True):
            parameter.copy_(origin + kept * (parameter - origin))
    for parameter, origin in zip(parameters, start, strict=True):
        parameter.copy_(origin)


def copies(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return copies of parameters, which training does not change."""
    return [parameter.detach().clone() for parameter in parameters]
