"""The embedding of a given core: which atoms are exact, and how many new bonds each is to make."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.gaussian import Context


class CoreEmbedding(nn.Module):
    """An embedding of the atoms that are given; molecules without a core do not see it.

    The number of new bonds follows from an atom's type and neighbours, but has to be known while the free atoms are
    still noise. Both embeddings are of the size of the other channels from the start: a network hardly learns to read
    ones that begin at zero.

    Context: "fixed", bool [b, n], the exact atoms, and "open", integers [b, n], their new bonds, 0 for all others;
    without "fixed" there is no core.

    Args:
        width: channels of an atom.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.exact = nn.Parameter(torch.randn(width))
        self.open = nn.Parameter(torch.randn(width))

    def forward(self, h: Float[Tensor, "b n w"], context: Context) -> Float[Tensor, "b n w"]:
        """Return the channels of all atoms, those of a core marked."""
        if "fixed" not in context:
            return h
        fixed, opened = (context[name].unsqueeze(-1).to(h.dtype) for name in ("fixed", "open"))
        return h + self.exact * fixed + self.open * opened
