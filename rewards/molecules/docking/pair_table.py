"""Tables of the energies of pairs of atoms, by their types and the square of their distance."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from molrl.rewards.molecules.docking.scoring_function import CUTOFF, ScoringFunction

MAX_SQUARED = CUTOFF**2
BINS = 2048  # of the square of the distance, 1/32 square angstrom each, as in the package


class PairTable:
    """The energies of pairs of types at nodes of the square of the distance, linear in between.

    Attributes:
        energies: kcal/mol [a, b, bins + 1], 0 at the cutoff.
        flat: energy and its rise to the next node, of all pairs one after another and of one without energy
            [(a b + 1) (bins + 1), 2].
    """

    def __init__(self, first: Float[Tensor, "a 4"], second: Float[Tensor, "b 4"], function: ScoringFunction) -> None:
        """Tabulate pairs of types, each given by its radius in angstrom and as hydrophobic, donor, acceptor, 1 or 0."""
        one, other = first[:, None, None].unbind(-1), second[None, :, None].unbind(-1)
        nodes = torch.linspace(0, MAX_SQUARED, BINS + 1, dtype=first.dtype, device=first.device)
        either_way = (one[2] * other[3] + one[3] * other[2]).clamp(max=1.0)
        terms = function.pair_terms(nodes.sqrt() - one[0] - other[0], one[1] * other[1], either_way)
        self.energies = function.weighted_sum(terms)
        self.energies[..., -1] = 0.0
        padded = torch.cat([self.energies.flatten(0, 1), self.energies.new_zeros(1, BINS + 1)])
        rise = torch.nn.functional.pad(padded.diff(dim=-1), (0, 1))
        self.flat = torch.stack([padded, rise], dim=-1).flatten(0, 1)

    def __call__(self, squared: Float[Tensor, "*b"], rows: Int[Tensor, "*#b"]) -> tuple[Tensor, Tensor]:
        """Return the energies [*b] and their derivative by the square of the distance.

        Args:
            squared: distances, square angstrom.
            rows: pair of types, a B + b; the number of pairs for one without energy.
        """
        place = squared.clamp(max=MAX_SQUARED) * (BINS / MAX_SQUARED)
        node = place.long()
        low, rise = self.flat[node + rows * (BINS + 1)].unbind(-1)
        return low + (place - node) * rise, rise * (BINS / MAX_SQUARED)
