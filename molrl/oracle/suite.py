"""The suite of `molrl oracle`: every algorithm on a problem whose best policy is known."""

from molrl.oracle import control, forward, mixture, modes, off_policy, preference, pull, refit, reward_gradient, windows
from molrl.oracle.mixture import MixtureCase
from molrl.oracle.modes import ModeCase
from molrl.oracle.preference import PreferenceCase
from molrl.oracle.trial import ChainCase


def cases() -> list[ChainCase | PreferenceCase | MixtureCase | ModeCase]:
    """Return the cases of all families, in the order of the table."""
    steps = [*control.cases(), *windows.cases(), *reward_gradient.cases()]
    samples = [*refit.cases(), *forward.cases(), *off_policy.cases(), *pull.cases()]
    return [*steps, *samples, *preference.cases(), *mixture.cases(), *modes.cases()]
