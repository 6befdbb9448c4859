"""A diffusion policy: a denoiser and the chain it drives (Black et al. 2023, arXiv:2305.13301, Sec. 4.1).

State (context, step, x_t), action x_{t-1}, and p(x_{t-1} | x_t) a Gaussian with a learned mean and a given std.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from molrl.gaussian import Context, Gaussian
from molrl.multistep import Multistep
from molrl.samplers import DDIM, Denoiser, Sampler
from molrl.trajectory import Trajectory, Transitions, select

Noise = Callable[[int], Tensor]
"""The standard normal noise [b, ...] of draw i: 0 for the prior, k + 1 for step k."""

Choose = Callable[[Gaussian, int, Tensor], tuple[Tensor, Tensor | None]]
"""The next states [b, ...] of a chain, from the kernel of step k, k, and the noise of that step; and the rows that each
of them comes from, None: its own."""


@dataclass(frozen=True)
class Policy:
    """A Gaussian policy with one kernel for rollout and training.

    Attributes:
        denoiser: predicts the noise in a state.
        sampler: turns that prediction into the kernel of a reverse step.
        autocast: dtype that the network computes in, by torch's autocast; None: that of its input. In any case states,
            means and log-probabilities are float32 or wider.
        order: of the steps of a rollout: 1, or 2 to sample in fewer of them (`molrl.multistep`); only those of first
            order have a density that a policy gradient can be taken of. Methods that learn from finished samples alone
            train on both.
        rows: samples that the network is called with, always as many; None: with all of a batch at once.
    """

    denoiser: Denoiser
    sampler: Sampler
    autocast: torch.dtype | None = None
    order: int = 1
    rows: int | None = None

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise ValueError(f"order: got {self.order}, allowed 1 and 2")

    def predict_target(
        self, x: Float[Tensor, "b ..."], t: Float[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b ..."]:
        """Call the network at x_t: it predicts the noise, for a flow the velocity, in the dtype of x_t."""
        if self.rows is None:
            return self.evaluate(x, t, context)
        filled = torch.arange(math.ceil(len(x) / self.rows) * self.rows, device=x.device) % max(len(x), 1)
        parts = [self.evaluate(x[part], t[part], select(context, part)) for part in filled.split(self.rows)]
        return torch.cat(parts)[: len(x)] if parts else x

    def evaluate(self, x: Float[Tensor, "b ..."], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, "b ..."]:
        """Call the network, in the dtype of `autocast`."""
        if self.autocast is None:
            return self.denoiser(x, t, context)
        with torch.autocast(x.device.type, self.autocast):
            return self.denoiser(x, t, context).to(x.dtype)

    @torch.no_grad()
    def rollout(self, context: Context, noise: Noise, choose: Choose | None = None) -> Trajectory:
        """Run the chain from the prior to the finished samples.

        Args:
            context: conditions of the b samples.
            noise: noise of each draw.
            choose: selects the next state of each step, as in guided sampling; None: a sample of the kernel.
        """
        second = Multistep(cast(DDIM, self.sampler), self.predict_target) if self.order == 2 else None
        transition = second.transition if second else partial(self.sampler.transition, self.predict_target)
        x = self.sampler.prior(noise(0), context)
        states, log_prob = [x], []
        for k in range(self.sampler.num_steps):
            kernel = transition(x, self.at(k, x), context)
            x, parents = (kernel.sample(noise(k + 1)), None) if choose is None else choose(kernel, k, noise(k + 1))
            if second and parents is not None:
                second.rearrange(parents)
            states.append(x)
            log_prob.append(kernel.log_prob(x))
        final = self.sampler.predict_x0(self.predict_target, x, self.at(self.sampler.num_steps, x), context)
        return Trajectory(torch.stack(states), torch.stack(log_prob), final, context)

    def transition(self, batch: Transitions) -> Gaussian:
        """Return p(. | x) for every row of the table."""
        return self.sampler.transition(self.predict_target, batch.x, batch.step, batch.context)

    def log_prob(self, batch: Transitions) -> Float[Tensor, " m"]:
        """Compute log p(y | x) in nats for every row of the table."""
        return self.transition(batch).log_prob(batch.y)

    def lookahead_x0(
        self, x: Float[Tensor, "b ..."], step: Int[Tensor, " b"], num_jumps: int, context: Context
    ) -> Float[Tensor, "b ..."]:
        """Estimate the finished sample from states at grid points `step`: see `DDIM.lookahead_x0`."""
        return self.sampler.lookahead_x0(self.predict_target, x, step, num_jumps, context)

    @staticmethod
    def at(step: int, x: Tensor) -> Int[Tensor, " b"]:
        """Return the same grid point for every sample."""
        return torch.full((len(x),), step, dtype=torch.long, device=x.device)
