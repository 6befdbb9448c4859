"""A value function of latents and prompts."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.gaussian import Context


class ImageValue(nn.Module):
    """V(x_t, t, prompt): four convolutions over the latent, its mean, and what is asked for, read out together.

    Args:
        channels: of a latent.
        prompts: how many there are; each has a learned embedding.
    """

    def __init__(self, channels: int, prompts: int) -> None:
        super().__init__()
        widths = (channels, 32, 64, 64)
        layers = [(nn.Conv2d(a, b, 3, 2, 1), nn.SiLU()) for a, b in pairwise(widths)]
        self.look = nn.Sequential(*(layer for pair in layers for layer in pair))
        self.asked = nn.Embedding(prompts, 32)
        self.readout = nn.Sequential(nn.Linear(64 + 32 + 1, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, " b"]:
        """t: share of the chain that is still to go, 1 at the prior."""
        seen = self.look(x).mean((2, 3))
        values: Tensor = self.readout(torch.cat([seen, self.asked(context["prompt"]), t.unsqueeze(1)], 1))
        return values.squeeze(1)
