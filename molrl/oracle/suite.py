"""The suite of `molrl oracle`: every algorithm on a problem whose best policy is known."""

from molrl.oracle import control, forward, mixture, modes, pull, refit
from molrl.oracle.mixture import MixtureCase
from molrl.oracle.modes import ModeCase
from molrl.oracle.trial import ChainCase


def cases() -> list[ChainCase | MixtureCase | ModeCase]:
    """Return the cases of all families, in the order of the table."""
    return [*control.cases(), *refit.cases(), *forward.cases(), *pull.cases(), *mixture.cases(), *modes.cases()]
