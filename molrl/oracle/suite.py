"""The suite of `molrl oracle`: every algorithm on a problem whose best policy is known."""

from molrl.oracle import control, mixture, preference, pull, refit, reward_gradient
from molrl.oracle.mixture import MixtureCase
from molrl.oracle.preference import PreferenceCase
from molrl.oracle.trial import ChainCase


def cases() -> list[ChainCase | MixtureCase | PreferenceCase]:
    """Return the cases of all families, in the order of the table."""
    return [
        *control.cases(),
        *refit.cases(),
        *pull.cases(),
        *reward_gradient.cases(),
        *preference.cases(),
        *mixture.cases(),
    ]
