"""What a round of learning looked like from inside: along the chain, and against the reference."""

from collections import defaultdict

import torch
from torch import Tensor

from molrl.algos import Facts
from molrl.policy import Policy
from molrl.task import Metrics
from molrl.trajectory import Trajectory, Transitions

PARTS = 5  # equal parts of the chain that are told apart; 1 begins at the prior, 5 ends at the data


class Gathered:
    """The facts of many minibatches, row by row."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []
        self.facts: dict[str, list[Tensor]] = defaultdict(list)

    def add(self, step: Tensor, facts: Facts) -> None:
        """The facts of one minibatch."""
        self.steps.append(step.cpu())
        for name, values in facts.items():
            self.facts[name].append(values.detach().float().cpu())

    def summary(self, num_steps: int) -> Metrics:
        """Means over the rows; the log-ratio and the clipped share by parts of the chain as well."""
        facts = {name: torch.cat(values) for name, values in self.facts.items()}
        part = (torch.cat(self.steps) * PARTS // num_steps).clamp(max=PARTS - 1) + 1  # grid point K is in the last
        log_ratio, clipped = facts.pop("log_ratio", None), facts.pop("clipped", None)
        found = {name: values.mean().item() for name, values in facts.items()}
        found["clip_fraction"] = 0.0 if clipped is None else clipped.mean().item()
        if log_ratio is not None:
            found["mean_abs_log_ratio"] = log_ratio.abs().mean().item()
        for number in part.unique().tolist():
            here = part == number
            if log_ratio is not None:
                found[f"log_ratio_min_{number}"] = log_ratio[here].min().item()
                found[f"log_ratio_mean_{number}"] = log_ratio[here].mean().item()
                found[f"log_ratio_max_{number}"] = log_ratio[here].max().item()
            if clipped is not None:
                found[f"clip_fraction_{number}"] = clipped[here].mean().item()
        return found


def probe(trajectory: Trajectory, rows: int) -> Transitions:
    """Reverse steps spread evenly over a rollout."""
    table = trajectory.transitions(torch.zeros_like(trajectory.log_prob[0]))
    return table[torch.linspace(0, len(table) - 1, min(rows, len(table))).round().long()]


@torch.no_grad()
def stale(policy: Policy, table: Transitions) -> float:
    """Largest |log p(y|x) - recorded|, in nats: zero, unless rollout and training evaluate different policies."""
    return (policy.log_prob(table) - table.log_prob).abs().max().item()


@torch.no_grad()
def chain_kl(policy: Policy, reference: Policy, table: Transitions) -> float:
    """KL of whole chains to the reference, nats: the mean exact KL of the table's steps times the number of steps."""
    return policy.transition(table).kl(reference.transition(table)).mean().item() * policy.sampler.num_steps


def effective_share(weights: Tensor) -> float:
    """Effective sample size over the number of samples: (sum w)^2 / (n sum w^2); 1 when all weigh the same."""
    return ((weights.sum() ** 2 / weights.square().sum()) / len(weights)).nan_to_num(0).item()
