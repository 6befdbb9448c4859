"""Windows of stochastic steps in chains whose other steps are deterministic (Li et al. 2025, MixGRPO,
arXiv:2507.21802, Sec. 4).

The window of a sample is part of its context, so that one kernel serves rollout and training, and the rows of a batch
may have different windows. A step outside it is a point mass: it has no density, and nothing is learned from it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from molrl.flow import FlowSDE
from molrl.gaussian import Context, Gaussian, Space
from molrl.noise import Draw, Key
from molrl.policy import Policy
from molrl.samplers import DDIM, Denoiser
from molrl.task import Decoder

WINDOW, START = "window", "start"


def is_stochastic(step: Int[Tensor, " b"], context: Context) -> Bool[Tensor, " b"]:
    """Return True for the steps inside the window of their sample."""
    window = context[WINDOW]
    return (window[:, 0] <= step) & (step < window[:, 1])


@dataclass(frozen=True)
class Windowed:
    """A chain with the steps of DDIM or of a flow's SDE inside the window of each sample, and with eta = 0 outside.

    `context["window"]` is int64 [b, 2]: the first stochastic step and the first one after the window. Where there is a
    `context["start"]` [b, ...], chains start from this noise in the place of their own.

    Attributes:
        inside: the chain with noise at every step.
    """

    inside: DDIM | FlowSDE

    @cached_property
    def outside(self) -> DDIM | FlowSDE:
        """Return the chain without noise, on the same grid."""
        return replace(self.inside, eta=0.0)

    @property
    def num_steps(self) -> int:
        """Return K, the number of steps, with and without noise."""
        return self.inside.num_steps

    @property
    def space(self) -> Space:
        """Return the subspace of the states."""
        return self.inside.space

    def prior(self, noise: Float[Tensor, "b ..."], context: Context) -> Float[Tensor, "b ..."]:
        """Project the noise, or that of the context."""
        return self.inside.prior(context.get(START, noise), context)

    def transition(
        self, denoiser: Denoiser, x: Float[Tensor, "b ..."], step: Int[Tensor, " b"], context: Context
    ) -> Gaussian:
        """Return p(x_s | x_t), a point mass outside the window."""
        predicted, stochastic = self.inside.predict_target(denoiser, x, step, context), is_stochastic(step, context)
        inside, outside = (chain.kernel(x, predicted, step, context) for chain in (self.inside, self.outside))
        rows = stochastic.view(-1, *[1] * (x.dim() - 1))
        return replace(
            inside, mean=inside.mean.where(rows, outside.mean), std=inside.std.where(stochastic, outside.std)
        )

    def add_noise(
        self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], step: Int[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """Compute alpha_t x_0 + sigma_t noise at grid point `step`."""
        return self.inside.add_noise(x0, noise, step)

    def target(self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """Return what the network is to predict."""
        return self.inside.target(x0, noise)

    def predict_target(
        self, denoiser: Denoiser, x: Float[Tensor, "b ..."], step: Int[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b ..."]:
        """Return the prediction of the network in states at grid point `step`."""
        return self.inside.predict_target(denoiser, x, step, context)

    def predict_x0(
        self, denoiser: Denoiser, x: Float[Tensor, "b ..."], step: Int[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b ..."]:
        """Compute the clean estimate at grid point `step`."""
        return self.inside.predict_x0(denoiser, x, step, context)

    def lookahead_x0(
        self, denoiser: Denoiser, x: Float[Tensor, "b ..."], step: Int[Tensor, " b"], num_jumps: int, context: Context
    ) -> Float[Tensor, "b ..."]:
        """Compute the clean estimate after `num_jumps` deterministic steps toward the data."""
        return self.inside.lookahead_x0(denoiser, x, step, num_jumps, context)


def windowed(policy: Policy) -> Policy:
    """Return the policy with the chain of `Windowed`.

    Raises:
        ValueError: its chain has no form without noise.
    """
    if not isinstance(policy.sampler, DDIM | FlowSDE):
        name = type(policy.sampler).__name__
        raise ValueError(f"sampler: got {name}, need DDIM or FlowSDE for windows of stochastic steps")
    return replace(policy, sampler=Windowed(policy.sampler))


@dataclass(frozen=True)
class WindowedDecoder:
    """A decoder whose contexts have the windows of `Windowed`, one for each group of samples.

    Attributes:
        decoder: of the domain.
        window: (number of the group, key) -> the stochastic steps of its members.
        shared_start: let the members of a group start from one noise.
    """

    decoder: Decoder
    window: Callable[[int, Key], range]
    shared_start: bool

    def draw_context(self, samples: Sequence[int], key: Key) -> Context:
        """Draw the conditions of the groups with these numbers, and their windows."""
        context = dict(self.decoder.draw_context(samples, key))
        windows = {group: self.window(group, key) for group in dict.fromkeys(samples)}
        context[WINDOW] = torch.tensor([[windows[group].start, windows[group].stop] for group in samples])
        if self.shared_start:
            context[START] = key.normal(samples, Draw.PRIOR, self.state_shape(context))
        return context

    def state_shape(self, context: Context) -> tuple[int, ...]:
        """Return the shape of the state of one sample."""
        return self.decoder.state_shape(context)

    def decode(self, x0: Float[Tensor, "b ..."], context: Context) -> Sequence[Any]:
        """Make finished samples of clean states."""
        return self.decoder.decode(x0, context)

    def measure(self, samples: Sequence[Any]) -> Mapping[str, float]:
        """Compute held-out metrics, as the domain does."""
        return self.decoder.measure(samples)

    def groups(self, context: Context) -> Sequence[int]:
        """Return a number per sample, equal for samples with equal conditions."""
        return self.decoder.groups(context)
