"""From plain values to objects: what `_target_` names is built, inner nodes first.

A target is built only if the object it names lives in molrl, is one of torch's optimisers, or lives in a package that
the user has installed as a plug-in or named on the command line; nothing that came with a checkpoint is ever built.
"""

import functools
import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from molrl.config import ConfigError, check_arguments, dotted, settings
from molrl.machine.threads import torch_threads
from molrl.plugins import plugin_packages

NAMED_PACKAGES: set[str] = set()  # packages that the user named with --plugin


def build(node: Any, where: str, **extra: Any) -> Any:
    """Build what `_target_` names, inner nodes first; keep plain values as they are.

    A node that `_shared_` names is checked and then left out: it is there for other nodes to refer to.

    Args:
        where: dotted name of the node, for error messages.
        extra: arguments that are objects already.

    Raises:
        ConfigError: a wrong name, type or value. Errors with a type of their own, such as that of a damaged
            checkpoint, are not about the settings and pass.
    """
    if isinstance(node, Mapping):
        values = {
            str(key): build(value, dotted(where, str(key)))
            for key, value in node.items()
            if not str(key).startswith("_")
        }
        if "_target_" not in node:
            return values
        values = {name: value for name, value in values.items() if name not in node.get("_shared_", ())}
        callee = target(str(node["_target_"]), where)
        partial = bool(node.get("_partial_", False))
        check_arguments(callee, values | extra, where, partial=partial)
        if partial:
            return functools.partial(callee, **values, **extra) if values or extra else callee
        with settings(where):
            return callee(**values, **extra)
    if isinstance(node, list):
        return [build(value, f"{where}[{index}]") for index, value in enumerate(node)]
    return node


def target(path: str, where: str) -> Callable[..., Any]:
    """Return the class or function that a `_target_` names.

    Raises:
        ConfigError: there is none, or it is not one that may be built.
    """
    named = f"{dotted(where, '_target_')}={path}"
    module, _, name = path.rpartition(".")
    packages = allowed_packages()
    if (module != "torch.optim" and module.partition(".")[0] not in packages) or module == "molrl":
        raise ConfigError(
            f"{named}: refused, only {', '.join(f'{one}.*' for one in packages)}, torch.optim.* are built"
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{named}: {error}") from error
    home = str(getattr(found, "__module__", ""))
    ours = home.partition(".")[0] in packages and home != "molrl"
    if not (ours or (home.startswith("torch.optim.") and inspect.isclass(found))):
        raise ConfigError(f"{named}: refused, it is defined in {home!r}")
    return typing.cast(Callable[..., Any], found)


def call_command(config: Mapping[str, Any], /, **extra: Any) -> int:
    """Call the function that a command's configuration names, within its number of threads; return the exit code.

    Args:
        extra: arguments that are objects already.
    """
    arguments = {name: value for name, value in config.items() if name not in ("chosen", "threads")}
    with torch_threads(config.get("threads")):
        return int(build({**arguments, "_partial_": True}, "", **extra)())


def allowed_packages() -> list[str]:
    """Return the packages whose objects may be built: ours, installed plug-ins, and those that the user named."""
    return sorted({"molrl", *plugin_packages(), *NAMED_PACKAGES})
