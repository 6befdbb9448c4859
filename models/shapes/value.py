"""A value function of states of point clouds, invariant to the order of the points."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.gaussian import Context
from molrl.models.shapes.set_transformer import SetTransformer


class ShapeValue(nn.Module):
    """The value V(x_t, t, context): a small set transformer, the mean of its outputs over the points, and a readout.

    Args:
        classes: number of classes of the model.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.network = SetTransformer(classes=classes, width=64, layers=2, inducers=16, heads=4, channels=32)
        self.readout = nn.Sequential(nn.Linear(33, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, x: Float[Tensor, "b n 3"], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, " b"]:
        """Return the values; t: the share of the chain that is still ahead, 1 at the prior."""
        mean = self.network(x, 6 * t - 3, context).mean(1)
        values: Tensor = self.readout(torch.cat([mean, t.unsqueeze(1)], 1))
        return values.squeeze(1)
