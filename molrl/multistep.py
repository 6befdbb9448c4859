"""Second-order steps of a chain, for sampling alone: DPM-Solver++(2M) and its SDE form (Lu et al. 2022,
arXiv:2211.01095, Algorithm 2 and Eq. 18).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from molrl.gaussian import Context, Gaussian
from molrl.samplers import DDIM, Denoiser, per_row
from molrl.schedule import alpha, sigma


@dataclass
class Multistep:
    """The steps of one rollout, each with the clean estimate extrapolated from that of the step before.

    With lambda = log(alpha / sigma), h the width of a step in it, and r = h_before / h, a step of DDIM(eta) is taken
    with D_k + (D_k - D_{k-1}) / (2 r) in place of the clean estimate D_k; the first step is DDIM's. For eta = 0 this is
    DPM-Solver++(2M), for eta = 1 SDE-DPM-Solver++(2M). Errors fall with the square of the width, at the same cost.

    A step depends on the state before, too, so that the chain is no Markov chain and has no policy gradient.

    Attributes:
        sampler: the chain of first order: its grid, its noise and its space.
        denoiser: predicts the noise in a state.
    """

    sampler: DDIM
    denoiser: Denoiser

    def __post_init__(self) -> None:
        if not isinstance(self.sampler, DDIM):
            raise ValueError(f"order: got 2 for a {type(self.sampler).__name__}, which has steps of first order alone")
        self.previous: Tensor | None = None

    def transition(self, x: Float[Tensor, "b ..."], step: Int[Tensor, " b"], context: Context) -> Gaussian:
        """Return the kernel of the next state, for a batch of states that are all at grid point `step`."""
        eps = self.sampler.predict_target(self.denoiser, x, step, context)
        clean = clean_estimate(self.sampler, x, eps, step)
        eps = extrapolate(self.sampler, eps, clean, clean if self.previous is None else self.previous, step)
        self.previous = clean
        return self.sampler.transition(lambda *_: eps, x, step, context)

    def rearrange(self, parents: Int[Tensor, " b"]) -> None:
        """Go on with other rows of the batch: row i with what is remembered of row `parents[i]`."""
        self.previous = None if self.previous is None else self.previous[parents]


def clean_estimate(
    sampler: DDIM, x: Float[Tensor, "b ..."], eps: Float[Tensor, "b ..."], step: Int[Tensor, " b"]
) -> Float[Tensor, "b ..."]:
    """Return D = (x - sigma eps) / alpha."""
    return (x - per_row(sigma(sampler.log_snr), step, x) * eps) / per_row(alpha(sampler.log_snr), step, x)


def extrapolate(
    sampler: DDIM,
    eps: Float[Tensor, "b ..."],
    clean: Float[Tensor, "b ..."],
    previous: Float[Tensor, "b ..."],
    step: Int[Tensor, " b"],
) -> Float[Tensor, "b ..."]:
    """Return the noise that belongs to the clean estimate D_k + (D_k - D_{k-1}) / (2 r).

    Args:
        sampler: with the grid.
        eps: predicted noise.
        clean: D_k, which it belongs to.
        previous: D_{k-1}; that of the first step is its own.
        step: k.
    """
    width = sampler.log_snr.diff()
    half_ratio = torch.cat([width[:1], width[1:] / width[:-1]]) / 2
    snr = alpha(sampler.log_snr) / sigma(sampler.log_snr)
    return eps - per_row(snr, step, eps) * per_row(half_ratio, step, eps) * (clean - previous)
