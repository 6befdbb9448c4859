"""Networks by name: a domain's own, and those that installed packages register as entry points `molrl.denoisers`.

A model's description names its network. The name is looked up here, so a file can only choose among networks that are
installed.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from molrl.models.shipped import MAX_WIDTH
from molrl.plugins import DENOISERS, load_registered, registered


def network_class(kind: str, own: Mapping[str, Callable[..., nn.Module]]) -> Callable[..., nn.Module]:
    """Return the class of a network: the domain's own, or a registered one.

    Raises:
        ValueError: there is none of this name.
    """
    if kind in own:
        return own[kind]
    if kind in registered(DENOISERS):
        found: Callable[..., nn.Module] = load_registered(DENOISERS, kind)
        return found
    raise ValueError(f"network: got kind {kind!r}, allowed are {', '.join([*own, *registered(DENOISERS)])}")


def build_network(network: Mapping[str, Any], own: Mapping[str, Callable[..., nn.Module]], **given: Any) -> nn.Module:
    """Return a network with freshly initialised weights.

    Args:
        network: "kind", its name, and the sizes it takes, whole numbers up to `MAX_WIDTH`.
        own: the domain's networks by name.
        given: what the domain passes, of which a network takes what its constructor names.

    Raises:
        ValueError: no such network, or a size out of bounds.
    """
    sizes = {name: size for name, size in network.items() if name != "kind"}
    if any(type(size) is not int or not 0 < size <= MAX_WIDTH for size in sizes.values()):
        raise ValueError(f"network: got {dict(network)}, sizes are whole numbers from 1 to {MAX_WIDTH}")
    made = network_class(str(network.get("kind")), own)
    taken = inspect.signature(made).parameters
    return made(**{name: value for name, value in given.items() if name in taken}, **sizes)


def takes(kind: str, own: Mapping[str, Callable[..., nn.Module]], argument: str) -> bool:
    """Tell whether a network's constructor takes an argument."""
    return argument in inspect.signature(network_class(kind, own)).parameters
