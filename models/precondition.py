"""Karras preconditioning: a noise predictor from a network with unit-scale inputs and targets at every noise level.

(Karras et al. 2022, arXiv:2206.00364, Sec. 5, Table 1.)
"""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.gaussian import Context
from molrl.models.size_groups import predict_by_size
from molrl.schedule import Schedule, alpha, sigma


class Preconditioned(nn.Module):
    """A noise predictor around a raw network F: D(y; s) = c_skip y + c_out F(c_in y, log s), eps = (y - D) / s.

    Here y = x_t / alpha_t is the noisy sample in the units of the data and s = sigma_t / alpha_t its noise. With d the
    data_std of a channel, c_skip = d^2 / (s^2 + d^2), c_out = s d / sqrt(s^2 + d^2), c_in = 1 / sqrt(s^2 + d^2): the
    network predicts the clean sample at high noise and the noise at low noise, so that neither end of a chain divides
    an error of the network by a small number. c_in must be equal in all position channels for equivariance.

    Args:
        network: F(x [b, n, c], log_noise [b], context) -> [b, n, c].
        schedule: log SNR as a function of t.
        data_std: standard deviation of each channel of the data, c numbers.
    """

    data_std: Tensor

    def __init__(self, network: nn.Module, schedule: Schedule, data_std: Sequence[float]) -> None:
        super().__init__()
        stds = torch.tensor([float(std) for std in data_std])
        if not (stds.isfinite() & (stds > 0)).all():
            raise ValueError(f"data_std: got {list(data_std)}, every channel needs a finite value above 0")
        self.network = network
        self.schedule = schedule
        self.register_buffer("data_std", stds, persistent=False)

    def forward(self, x: Float[Tensor, "b n c"], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, "b n c"]:
        """Predict the noise in x_t; on a CPU by sizes, where the network works on pairs and says so."""
        if getattr(self.network, "by_size", False) and x.device.type == "cpu":
            return predict_by_size(self.predict, x, t, context)
        return self.predict(x, t, context)

    def predict(self, x: Float[Tensor, "b n c"], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, "b n c"]:
        """Predict the noise in x_t, all of a batch at once."""
        log_snr = self.schedule.log_snr(t).view(-1, 1, 1)
        a, noise = alpha(log_snr), sigma(log_snr)
        d, s = self.data_std.to(x.dtype), noise / a
        norm = (s.square() + d.square()).sqrt()
        raw = self.raw(x, t, context)
        for _ in range(1, self.passes):
            raw = self.raw(x, t, context, self.clean_estimate(x, t, raw))
        # eps = (y - D) / s with y = x / a, rearranged so that nothing cancels: (s y / norm - d F) / norm
        return (s * (x / a) / norm - d * raw) / norm

    @property
    def repeated_blocks(self) -> Sequence[nn.Module]:
        """Return the blocks of the network, where it says that they can be compiled one by one."""
        return list(self.network.blocks) if getattr(self.network, "compilable", False) else []  # type: ignore[arg-type]

    @property
    def passes(self) -> int:
        """Return the number of calls of the network in each prediction."""
        return int(getattr(self.network, "passes", 1))

    def raw(
        self,
        x: Float[Tensor, "b n c"],
        t: Float[Tensor, " b"],
        context: Context,
        estimate: Float[Tensor, "b n c"] | None = None,
        written: int | None = None,
    ) -> Float[Tensor, "b k c"]:
        """Compute the network's output F at x_t in one pass, with the estimate of an earlier pass if there was one.

        Args:
            written: the number of points that the output is computed of, the first ones, for a network that can read
                more points than it writes; None: all.
        """
        log_snr = self.schedule.log_snr(t)
        a, s = alpha(log_snr).view(-1, 1, 1), (-log_snr / 2).exp().view(-1, 1, 1)
        scaled = x / a / (s.square() + self.data_std.to(x.dtype).square()).sqrt()
        earlier = () if estimate is None else (estimate,)
        some = {} if written is None else {"written": written}
        return cast(Tensor, self.network(scaled, -log_snr / 2, context, *earlier, **some))

    def clean_estimate(
        self, x: Float[Tensor, "b n c"], t: Float[Tensor, " b"], raw: Float[Tensor, "b n c"]
    ) -> Float[Tensor, "b n c"]:
        """Compute the clean estimate at unit scale, D / d = (d y / sqrt(s^2 + d^2) + s F) / sqrt(s^2 + d^2)."""
        log_snr = self.schedule.log_snr(t).view(-1, 1, 1)
        d, s = self.data_std.to(x.dtype), (-log_snr / 2).exp()
        norm = (s.square() + d.square()).sqrt()
        return (d * (x / alpha(log_snr)) / norm + s * raw.to(x.dtype)) / norm

    def target(
        self, x0: Float[Tensor, "b n c"], eps: Float[Tensor, "b n c"], t: Float[Tensor, " b"]
    ) -> Float[Tensor, "b n c"]:
        """Compute the unit-variance target of F, (x_0 - c_skip y) / c_out = (s x_0 / d - d eps) / sqrt(s^2 + d^2)."""
        s = (-self.schedule.log_snr(t) / 2).exp().view(-1, 1, 1)
        d = self.data_std.to(x0.dtype)
        return (s * x0 / d - d * eps) / (s.square() + d.square()).sqrt()
