"""Layers that the networks of several domains share: Fourier features of the noise level, and zero initialisation."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FourierFeatures(nn.Module):
    """Sine and cosine of the log noise level at geometric frequencies: [b] -> [b, 2 count]."""

    frequencies: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(-1, 1, count), persistent=False)

    def forward(self, log_noise: Float[Tensor, " b"]) -> Float[Tensor, "b f"]:
        """Return the features of log(sigma_t / alpha_t)."""
        angle = log_noise.unsqueeze(-1) * self.frequencies.to(log_noise.dtype)
        return torch.cat([angle.sin(), angle.cos()], -1)


def zero_init(layer: nn.Linear) -> nn.Linear:
    """Set a layer's weight and bias to zero and return it, for a residual block that starts as the identity."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
