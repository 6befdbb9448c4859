"""Value functions of molecular states, invariant to rotation, translation, the order of the atoms and padding."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.gaussian import Context
from molrl.models.molecules.core_fixed import centre, whole_context
from molrl.models.molecules.egnn import EGNN


class MoleculeValue(nn.Module):
    """The value V(x_t, t, context): a small EGNN, the mean of its invariant outputs over the atoms, and a readout.

    Args:
        features: feature channels per atom, after the three position channels.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.network = EGNN(features=features, width=64, pair_width=32, blocks=2, radial=12)
        self.readout = nn.Sequential(nn.Linear(features + 1, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, x: Float[Tensor, "b n c"], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, " b"]:
        """Return the values; t: the share of the chain that is still ahead, 1 at the prior."""
        atoms = self.network(x, 6 * t - 3, context)[..., 3:]
        mean = atoms.sum(1) / context["mask"].sum(1, keepdim=True)
        values: Tensor = self.readout(torch.cat([mean, t.unsqueeze(1)], 1))
        return values.squeeze(1)


class GrowthValue(nn.Module):
    """The value V(x_t, t, context) of free atoms beside the core, with the symmetries of the two together."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.value = MoleculeValue(features)

    def forward(self, x: Float[Tensor, "b m c"], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, " b"]:
        """Return the values; t: the share of the chain that is still ahead, 1 at the prior."""
        whole = whole_context(context)
        state = torch.cat([context["core"], x], 1)
        values: Tensor = self.value(centre(state, whole["mask"]), t, whole)
        return values
