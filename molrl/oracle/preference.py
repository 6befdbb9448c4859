"""Diffusion-DPO on the linear-Gaussian chain: two records, of which one is preferred three times out of four.

Only the offsets of the predicted noise are trained. A line with the slope 1 / sigma - slope would have the same
log-odds as one with the reference's slope, whatever the noise, and there would be no fixed point but two.
"""

import math
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from molrl.algos.dpo import DiffusionDPO
from molrl.oracle.chain import Chain
from molrl.oracle.linear_gaussian import QUADRATIC, ParabolaReward, linear_gaussian_task
from molrl.oracle.trial import Outcome, format_moments, noise_error, train
from molrl.preferences import RecordStates
from molrl.samplers import DDIM
from molrl.schedule import alpha, sigma

RECORDS = (-0.5, 2.5)  # the second one wins
WINS, LOSSES = 3, 1
NODES = 60  # of the quadrature over the noise
INNER = slice(2, 10)  # grid points where the two records differ enough in their errors for a quick fit


def preference_loss(
    sampler: DDIM, reference: Chain, beta: float, slope: Float[Tensor, " points"], offset: Float[Tensor, " points"]
) -> Float[Tensor, " points"]:
    """Compute the expected loss of eps(x) = slope x + offset at each grid point, by Gauss-Hermite quadrature.

    With u = -beta / 2 ((e(w) - e_ref(w)) - (e(l) - e_ref(l))) for w, l = the second and the first record it is the mean
    over the noise of -p log sigmoid(u) - (1 - p) log sigmoid(-u), p being the share of the wins.
    """
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(NODES))
    a, s = (table(sampler.log_snr)[:, None] for table in (alpha, sigma))
    moved = []
    for x0 in RECORDS:
        x = a * x0 + s * nodes  # [points, nodes]
        own, before = (
            (nodes - column[0][:, None] * x - column[1][:, None]) ** 2
            for column in ((slope, offset), reference.predicted_noise(sampler))
        )
        moved.append(own - before)
    odds = -beta / 2 * (moved[1] - moved[0])
    share = WINS / (WINS + LOSSES)
    losses = -share * logsigmoid(odds) - (1 - share) * logsigmoid(-odds)
    return (losses * weights).sum(1) / weights.sum()


def dpo(sampler: DDIM, reference: Chain, beta: float) -> Chain:
    """Return a chain whose implicit rewards have exactly the log-odds of the preferences, at the points of `INNER`.

    Where only the offset moves, by d, e(w) - e_ref(w) - (e(l) - e_ref(l)) = 2 d slope a (w - l) whatever the noise; so
    d = -logit(p) / (beta slope a (w - l)). The loss is then the entropy of the preferences, and no other is lower.
    """
    slope, offset = reference.predicted_noise(sampler)
    logit, offset = math.log(WINS / LOSSES), offset.clone()
    gap = (slope * alpha(sampler.log_snr))[INNER] * (RECORDS[1] - RECORDS[0])
    offset[INNER] -= logit / (beta * gap)
    return Chain.from_noise(sampler, slope, offset)


def with_inner(sampler: DDIM, reference: Chain, chain: Chain) -> Chain:
    """Return the chain with what it predicts at the points of `INNER`, and at the others what the reference does."""
    slope, offset = (column.clone() for column in reference.predicted_noise(sampler))
    slope[INNER], offset[INNER] = (column[INNER] for column in chain.predicted_noise(sampler))
    return Chain.from_noise(sampler, slope, offset)


@dataclass(frozen=True, kw_only=True)
class PreferenceCase:
    """Diffusion-DPO from a table of pairs, whose least loss is known: their entropy.

    Both chains have the reference's predictions outside of `INNER`, where the loss is nearly flat and a fit is slow.

    Attributes:
        name: of the algorithm in conf/algo, and what is varied.
        beta: of the loss, on the sum over dimensions.
        loop: settings of the fine-tuning that differ from the default.
    """

    name: str
    beta: float
    loop: dict[str, Any]

    def run(self, seed: int) -> Outcome:
        """Train, and compare the mean loss over the inner grid points with the least one."""
        began = time.perf_counter()
        states = RecordStates(torch.tensor(RECORDS)[:, None], {"sample": torch.arange(2)}, [1, 2])
        task = replace(linear_gaussian_task(ParabolaReward(QUADRATIC), in_stds=False), records=lambda: states)
        sampler, reference = cast(DDIM, task.policy.sampler), Chain.from_policy(task.policy, torch.float32)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pairs.csv"
            path.write_text("\n".join(["winner,loser", *["2,1"] * WINS, *["1,2"] * LOSSES]) + "\n")
            train(task, self.algorithm(path), seed, self.loop)
        reached = with_inner(sampler, reference, Chain.from_policy(task.policy, torch.float32))
        best = dpo(sampler, reference, self.beta)
        start, least, value = (
            -preference_loss(sampler, reference, self.beta, *chain.predicted_noise(sampler))[INNER].mean().item()
            for chain in (reference, best, reached)
        )
        return Outcome(
            algorithm=self.name,
            problem=f"chain, two records, beta {self.beta:g}",
            fixed_point=format_moments(best),
            reached=format_moments(reached),
            start=start,
            best=least,
            value=value,
            error=noise_error(sampler, best, reached),
            seconds=time.perf_counter() - began,
        )

    def algorithm(self, path: Path) -> DiffusionDPO:
        """Return the algorithm with the pairs of a file."""
        return DiffusionDPO(
            source="records",
            preferences=str(path),
            column=None,
            group_size=1,
            pairs=1,
            margin=0.0,
            noisings=11,
            beta=self.beta,
            likelihood="joint",
        )


def cases() -> list[PreferenceCase]:
    """Return Diffusion-DPO with its own optimum."""
    loop = {"rollouts": 512, "optimizer": partial(torch.optim.SGD, lr=3.0), "trainable_parameters": "shift"}
    return [PreferenceCase(name="dpo, pairs of records", beta=2.0, loop=loop)]
