"""The check of every round, before anything is learned, that rollout and training evaluate the same policy."""

import math
from collections.abc import Mapping

import torch

from molrl.algos import Algorithm
from molrl.training_state import TrainingError


def check_agreement(
    metrics: Mapping[str, float], algorithm: Algorithm, ratio_tolerance: float, dtype: torch.dtype
) -> None:
    """Check that steps of the rollout, evaluated again, are those that were recorded.

    A policy gradient weighs each step by its ratio of densities, which is one before the first update: the log-ratio is
    held to `ratio_tolerance`. It is a sum over all degrees of freedom, so that in bfloat16 rounding alone moves that of
    a large sample by a tenth of a nat. A method without densities uses predictions alone, and these are held to half of
    the digits of the arithmetic: their relative error to the root of the machine epsilon.

    Args:
        metrics: of the round, from `pre_update_metrics`.
        algorithm: that learns from it.
        ratio_tolerance: nats.
        dtype: that the network computes in.

    Raises:
        TrainingError: they are not.
    """
    if getattr(algorithm, "needs_densities", True):
        error, tolerance = metrics["max_abs_log_ratio_first"], ratio_tolerance
        what = f"log-ratio {error:.3g} nats"
    else:
        error, tolerance = metrics["max_prediction_error_first"], math.sqrt(torch.finfo(dtype).eps)
        what = f"relative error {error:.3g} of the predicted noise"
    if not error <= tolerance:
        raise TrainingError(
            f"{what} before any update, tolerance {tolerance:.2g}: rollout and training do not evaluate the same "
            f"policy; {likely_cause(dtype)}"
        )


def likely_cause(dtype: torch.dtype) -> str:
    """Return what to change: the precision where it is low, or else a network that does not repeat itself."""
    if dtype == torch.bfloat16:
        return "it computes in bfloat16, with three digits: take precision=float32"
    return "a network with dropout or random numbers of its own does that, or one with policy.dtype below float32"
