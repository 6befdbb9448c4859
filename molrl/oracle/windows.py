"""GRPO on the linear-Gaussian chain with a window of stochastic steps: the optimum of such a chain is not the tilt.

Where a chain has steps without noise, its end depends on its start, and optimal control tilts each path from its start
alone. `optimal_control` holds for any stds: a step without noise keeps its mean.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from molrl.algos.grpo import GRPO
from molrl.algos.windows import WINDOW, windowed
from molrl.oracle.chain import Chain
from molrl.oracle.control import optimal_control, optimal_control_standardised
from molrl.oracle.linear_gaussian import QUADRATIC
from molrl.oracle.trial import UNCLIPPED, ChainCase
from molrl.policy import Policy
from molrl.samplers import DDIM

GROUP_SIZE, STOCHASTIC = 16, range(3, 7)  # of ten steps
OWN_SHARE = 1 - 1 / GROUP_SIZE  # a member is part of the mean it is compared with, which shortens the gradient


@dataclass(frozen=True, kw_only=True)
class WindowCase(ChainCase):
    """A case whose chain has noise at the steps of a window only.

    Attributes:
        stochastic: the steps with noise.
    """

    stochastic: range

    def chain(self, policy: Policy) -> Chain:
        """Return the chain with noise in the window."""
        window = torch.tensor([[self.stochastic.start, self.stochastic.stop]] * 3)
        return Chain.from_policy(windowed(policy), torch.float32, {WINDOW: window})


def cases() -> list[WindowCase]:
    """Return GRPO without division by a std, and with that of the round and groups that share their start."""
    settings: dict[str, Any] = {
        **{"group_size": GROUP_SIZE, "advantage_clip": UNCLIPPED, "clip": UNCLIPPED, "kl_weight": 1.0},
        **{"window": len(STOCHASTIC), "first": 0.3, "last": 0.7, "schedule": "moving", "stride": 1, "every": 1},
    }
    loop = {"optimizer": partial(torch.optim.SGD, lr=0.5 * len(STOCHASTIC))}
    beta = 1 / OWN_SHARE

    def plain(_: DDIM, reference: Chain) -> Chain:
        return optimal_control(reference, QUADRATIC, beta, "local")

    def standardised(_: DDIM, reference: Chain) -> Chain:
        return optimal_control_standardised(reference, QUADRATIC, beta, "local")

    return [
        WindowCase(
            name="grpo, window of 4",
            algorithm=GRPO(scale="none", shared_start=False, **settings),
            reward=QUADRATIC,
            beta=beta,
            fixed_point=plain,
            stochastic=STOCHASTIC,
            loop=loop,
        ),
        WindowCase(
            name="grpo, window of 4, shared start, std of the round",
            algorithm=GRPO(scale="global", shared_start=True, **settings),
            reward=QUADRATIC,
            fixed_point=standardised,
            stochastic=STOCHASTIC,
            loop=loop,
        ),
    ]
