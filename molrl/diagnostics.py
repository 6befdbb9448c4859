"""What a round of learning looked like from inside: along the chain, and against the reference."""

from collections import defaultdict

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.algos import Collected, Learner, RowMetrics, Table
from molrl.gaussian import Gaussian
from molrl.machine.processes import ALONE, Processes
from molrl.policy import Policy
from molrl.task import Metrics, Rollouts
from molrl.trajectory import Trajectory, Transitions

PROBED = 512  # reverse steps that a round, or a measurement, is judged by
NONE = torch.zeros(0)
PARTS = 5  # equal parts of the chain that are told apart; 1 begins at the prior, 5 ends at the data


class Gathered:
    """The facts of many minibatches, row by row."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []
        self.facts: dict[str, list[Tensor]] = defaultdict(list)

    def add(self, step: Tensor, facts: RowMetrics) -> None:
        """The facts of one minibatch."""
        self.steps.append(step.cpu())
        for name, values in facts.items():
            self.facts[name].append(values.detach().float().cpu())

    def summary(self, num_steps: int, world: Processes = ALONE) -> Metrics:
        """Means over the rows of all processes; the log-ratio and the clipped share by parts of the chain as well."""
        names = dict.fromkeys(name for told in world.gather_strings(" ".join(self.facts)) for name in told.split())
        facts = {name: world.gather(torch.cat([NONE, *self.facts[name]])) for name in names}
        steps = world.gather(torch.cat([NONE.long(), *self.steps]))
        part = (steps * PARTS // num_steps).clamp(max=PARTS - 1) + 1  # grid point K is in the last
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


def probe(trajectory: Trajectory, rows: int, first: int = 0, among: int | None = None) -> Transitions:
    """Reverse steps spread evenly over a rollout.

    Where it is part of a rollout of `among` samples, the part from sample `first` on, those of them that it has.
    """
    steps, here = trajectory.log_prob.shape
    count = here if among is None else among
    chosen = torch.linspace(0, steps * count - 1, min(rows, steps * count)).round().long()
    step, sample = chosen // count, chosen % count - first
    own = (sample >= 0) & (sample < here)
    return trajectory.transitions(torch.zeros_like(trajectory.log_prob[0]))[(step * here + sample)[own]]


def probed(rollouts: Rollouts) -> Transitions:
    """The steps that a round, or a measurement, is judged by: those of this process."""
    return probe(rollouts.trajectory, PROBED, rollouts.first, len(rollouts.rewards))


@torch.no_grad()
def pre_update_metrics(learner: Learner, collected: Collected[Table]) -> Metrics:
    """Where the policy stands before a round of learning, judged by `PROBED` reverse steps of the round's rollouts.

    `max_abs_log_ratio_first` is the largest |log p(y|x) - recorded| in nats, p being the policy that made the rollouts:
    zero, unless rollout and training evaluate different policies. `kl` is that of whole chains to the reference.
    """
    table, world = probed(collected.rollouts), learner.task.processes
    policy, reference = learner.policy.transition(table), learner.reference.transition(table)
    behaviour = policy if collected.behaviour is learner.policy else reference
    kl = chain_total(world.gather(policy.kl(reference)), learner.policy)
    return {"max_abs_log_ratio_first": max_log_ratio_error(behaviour, table, world), "kl": kl}


def max_log_ratio_error(kernel: Gaussian, table: Transitions, world: Processes = ALONE) -> float:
    """Largest |log p(y|x) - recorded| over the tables of all processes, in nats."""
    return world.gather((kernel.log_prob(table.y) - table.log_prob).abs()).max().item()


@torch.no_grad()
def chain_kl(policy: Policy, reference: Policy, table: Transitions, world: Processes = ALONE) -> float:
    """KL of whole chains to the reference, nats, judged by some steps of a rollout of the policy."""
    return chain_total(world.gather(policy.transition(table).kl(reference.transition(table))), policy)


def chain_total(kl: Float[Tensor, " m"], policy: Policy) -> float:
    """The mean KL of some steps, times the number of steps."""
    return kl.mean().item() * policy.sampler.num_steps


def effective_share(weights: Tensor) -> float:
    """Effective sample size over the number of samples: (sum w)^2 / (n sum w^2); 1 when all weigh the same."""
    return ((weights.sum() ** 2 / weights.square().sum()) / len(weights)).nan_to_num(0).item()
