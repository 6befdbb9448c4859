"""Vinardo, a second opinion on poses that were found by Vina's function, and never what is searched or trained on.

Quiroga and Villarreal 2016, PLoS ONE 11, e0155183: other radii, a wider attraction in place of Vina's two, and other
ramps. Weights, ramps and radii are those of AutoDock Vina 1.2 (`--scoring vinardo`).
"""

from molrl.rewards.molecules.docking.atom_types import RADII, AtomTypes
from molrl.rewards.molecules.docking.scoring_function import ScoringFunction

VINARDO_RADII = {"C": 2.0, "N": 1.7, "O": 1.6}  # angstrom; those of the other elements are Vina's


def vinardo_types(types: AtomTypes) -> AtomTypes:
    """Return the types of atoms with Vinardo's radii; a radius of 1.8 is nitrogen's but for hydrophobic chlorine."""
    radius = types.radius.copy()
    for element, value in VINARDO_RADII.items():
        same = types.radius == RADII[element]
        radius[same & ~types.hydrophobic if element == "N" else same] = value
    return types._replace(radius=radius)


VINARDO = ScoringFunction(
    weights=(-0.045, 0.0, 0.8, -0.035, -0.6),
    gauss1_width=0.8,
    hydrophobic=(0.0, 2.5),
    hydrogen_bond=-0.6,
    types=vinardo_types,
)
