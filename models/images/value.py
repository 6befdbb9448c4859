"""A value function of latents and prompts."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.gaussian import Context


class ImageValue(nn.Module):
    """The value V(x_t, t, prompt): convolutions, averaged over the latent, the prompt's embedding, and a readout.

    Args:
        channels: channels of a latent.
        prompts: number of prompts; each has a learned embedding.
    """

    def __init__(self, channels: int, prompts: int) -> None:
        super().__init__()
        widths = (channels, 32, 64, 64)
        layers = [(nn.Conv2d(a, b, 3, 2, 1), nn.SiLU()) for a, b in pairwise(widths)]
        self.convolutions = nn.Sequential(*(layer for pair in layers for layer in pair))
        self.prompt_embedding = nn.Embedding(prompts, 32)
        self.readout = nn.Sequential(nn.Linear(64 + 32 + 1, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, " b"]:
        """Return the values; t: the share of the chain that is still ahead, 1 at the prior."""
        features = self.convolutions(x).mean((2, 3))
        values: Tensor = self.readout(
            torch.cat([features, self.prompt_embedding(context["prompt"]), t.unsqueeze(1)], 1)
        )
        return values.squeeze(1)
