"""The network of a policy as a module, and the choice of its parameters that are trained."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from molrl.policy import Policy


def trainable_module(policy: Policy) -> nn.Module:
    """Return the denoiser of a policy as a torch module.

    Raises:
        TypeError: it is some other callable.
    """
    if not isinstance(policy.denoiser, nn.Module):
        raise TypeError(f"denoiser: got {type(policy.denoiser).__name__}, fine-tuning needs a torch module")
    return policy.denoiser


def parameters_to_freeze(network: nn.Module, trainable_parameters: str | Sequence[str] | None) -> list[nn.Parameter]:
    """Return the parameters that could be trained and are not to be.

    Args:
        network: its parameters that need no gradient stay out of consideration.
        trainable_parameters: names of the parameters to train, or patterns with *; None: all.

    Raises:
        ValueError: no parameter has such a name, or there is no name at all.
    """
    if trainable_parameters is None:
        return []
    candidates = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    patterns = [trainable_parameters] if isinstance(trainable_parameters, str) else trainable_parameters
    unknown = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in candidates)]
    if unknown or not patterns:
        examples = ", ".join([*list(candidates)[:4], "..."])
        raise ValueError(
            f"trainable_parameters: got {unknown}, no parameter that can learn is so called; some are {examples}"
        )
    return [one for name, one in candidates.items() if not any(fnmatchcase(name, pattern) for pattern in patterns)]
