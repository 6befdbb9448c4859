"""Which parameters of a network learn."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn


def parameters_to_freeze(network: nn.Module, trainable: str | Sequence[str] | None) -> list[nn.Parameter]:
    """The parameters that could learn and are not to.

    Args:
        network: those of its parameters that have no gradient are out of the question.
        trainable: names of those that learn, or patterns with *; None: all.

    Raises:
        ValueError: a name that no parameter has, or no name at all.
    """
    if trainable is None:
        return []
    able = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    patterns = [trainable] if isinstance(trainable, str) else trainable
    unknown = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in able)]
    if unknown or not patterns:
        some = ", ".join([*list(able)[:4], "..."])
        raise ValueError(f"trainable: got {unknown}, no parameter that can learn is so called; some are {some}")
    return [one for name, one in able.items() if not any(fnmatchcase(name, pattern) for pattern in patterns)]
