"""A value function of states of point clouds: the same for every order of the points."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.gaussian import Context
from molrl.models.shapes.set_transformer import SetTransformer


class ShapeValue(nn.Module):
    """V(x_t, t, context): the points' outputs of a small set transformer, averaged, and read out.

    Args:
        classes: that the model knows.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.network = SetTransformer(classes=classes, width=64, layers=2, inducers=16, heads=4, channels=32)
        self.readout = nn.Sequential(nn.Linear(33, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, x: Float[Tensor, "b n 3"], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, " b"]:
        """t: share of the chain that is still to go, 1 at the prior."""
        mean = self.network(x, 6 * t - 3, context).mean(1)
        values: Tensor = self.readout(torch.cat([mean, t.unsqueeze(1)], 1))
        return values.squeeze(1)
