"""A diffusion policy: a denoiser and the chain it drives (Black et al. 2023, arXiv:2305.13301, Sec. 4.1).

State (context, step, x_t), action x_{t-1}, and p(x_{t-1} | x_t) a Gaussian with a learned mean and a given std.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from molrl.gaussian import Context, Gaussian
from molrl.samplers import Denoiser, Sampler
from molrl.trajectory import Trajectory, Transitions

Noise = Callable[[int], Tensor]
"""Noise of draw i: 0 for the prior, k + 1 for step k."""


@dataclass(frozen=True)
class Policy:
    """The same kernel serves the rollout and the training.

    Attributes:
        autocast: what the network computes in, by torch's autocast; None: in what it is given. Whatever it is, states,
            means and log-probabilities are float32 or wider.
    """

    denoiser: Denoiser
    sampler: Sampler
    autocast: torch.dtype | None = None

    def predict_noise(
        self, x: Float[Tensor, "b ..."], t: Float[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b ..."]:
        """What the network sees as the noise in x_t."""
        if self.autocast is None:
            return self.denoiser(x, t, context)
        with torch.autocast(x.device.type, self.autocast):
            return self.denoiser(x, t, context).to(x.dtype)

    @torch.no_grad()
    def rollout(self, context: Context, noise: Noise) -> Trajectory:
        """Sample the chain."""
        x = self.sampler.prior(noise(0), context)
        states, log_prob = [x], []
        for k in range(self.sampler.num_steps):
            kernel = self.sampler.transition(self.predict_noise, x, self.at(k, x), context)
            x = kernel.sample(noise(k + 1))
            states.append(x)
            log_prob.append(kernel.log_prob(x))
        final = self.sampler.predict_x0(self.predict_noise, x, self.at(self.sampler.num_steps, x), context)
        return Trajectory(torch.stack(states), torch.stack(log_prob), final, context)

    def transition(self, batch: Transitions) -> Gaussian:
        """p(. | x) for every row of the table."""
        return self.sampler.transition(self.predict_noise, batch.x, batch.step, batch.context)

    def log_prob(self, batch: Transitions) -> Float[Tensor, " m"]:
        """log p(y | x) for every row of the table, in nats."""
        return self.transition(batch).log_prob(batch.y)

    def lookahead_x0(
        self, x: Float[Tensor, "b ..."], step: Int[Tensor, " b"], num_jumps: int, context: Context
    ) -> Float[Tensor, "b ..."]:
        """Estimate of the finished sample from states at grid points `step`: see `DDIM.lookahead_x0`."""
        return self.sampler.lookahead_x0(self.predict_noise, x, step, num_jumps, context)

    @staticmethod
    def at(step: int, x: Tensor) -> Int[Tensor, " b"]:
        """The same grid point for every sample."""
        return torch.full((len(x),), step, dtype=torch.long, device=x.device)
