"""From YAML and overrides to objects: composed by Hydra, checked against the signatures they will be passed to.

The callee's signature is the schema. A target is built only if the object it names lives in molrl or is one of torch's
optimisers, and nothing that came with a checkpoint is ever built.
"""

import difflib
import functools
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

CONF = Path(__file__).parent / "conf"
GROUPS = ("task", "algo", "reward", "model", "data")


class ConfigError(ValueError):
    """A wrong setting: names it, what it was given, and what is allowed."""


def compose(command: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The resolved configuration of a command as plain Python values."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for override in overrides:
        refuse_unknown_choice(override)
    try:
        with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
            config = hydra_compose(command, overrides=list(overrides))
        return typing.cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(command, overrides, error)) from error


def choices(group: str) -> list[str]:
    """Names that `group=` accepts."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def refuse_unknown_choice(override: str) -> None:
    """task=... and algo=... must name a file."""
    group, _, name = override.partition("=")
    if group in GROUPS and (CONF / group).is_dir() and name not in choices(group):
        near = difflib.get_close_matches(name, choices(group), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{group}={name}: no such {group}; known are {', '.join(choices(group))}{hint}")


def explain(command: str, overrides: Sequence[str], error: Exception) -> str:
    """Hydra's complaint in one line, with the near matches of a misspelt key."""
    known = flat_keys(compose(command, [])) if overrides else []
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key not in known and not any(name.startswith(f"{key}.") for name in known):
            near = difflib.get_close_matches(key, known, 3, 0.5)
            return f"{override}: no setting {key!r}" + (f"; did you mean {' or '.join(near)}?" if near else "")
    return str(error).splitlines()[0]


def flat_keys(node: Any, prefix: str = "") -> list[str]:
    """Dotted names of all settings."""
    if not isinstance(node, Mapping):
        return [prefix]
    return [
        key for name, value in node.items() for key in flat_keys(value, f"{prefix}.{name}" if prefix else str(name))
    ]


def build(node: Any, where: str, **extra: Any) -> Any:
    """Build what `_target_` names, inner nodes first; plain values stay as they are.

    Args:
        where: dotted name of the node, for error messages.
        extra: arguments that are objects already.
    """
    if isinstance(node, Mapping):
        values = {
            str(key): build(value, f"{where}.{key}") for key, value in node.items() if not str(key).startswith("_")
        }
        if "_target_" not in node:
            return values
        callee = target(str(node["_target_"]), where)
        check_arguments(callee, values | extra, where, partial=bool(node.get("_partial_", False)))
        if node.get("_partial_", False):
            return functools.partial(callee, **values, **extra) if values or extra else callee
        try:
            return callee(**values, **extra)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{where}: {error}") from error
    if isinstance(node, list):
        return [build(value, f"{where}[{index}]") for index, value in enumerate(node)]
    return node


def target(path: str, where: str) -> Callable[..., Any]:
    """The class or function a `_target_` names, if it is one that may be built."""
    module, _, name = path.rpartition(".")
    if module != "torch.optim" and not module.startswith("molrl."):
        raise ConfigError(f"{where}._target_={path}: refused, only molrl.* and torch.optim.* can be built")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where}._target_={path}: {error}") from error
    home = str(getattr(found, "__module__", ""))
    if not (home.startswith("molrl.") or (home.startswith("torch.optim.") and inspect.isclass(found))):
        raise ConfigError(f"{where}._target_={path}: refused, it is defined in {home!r}")
    return typing.cast(Callable[..., Any], found)


def check_arguments(callee: Callable[..., Any], values: Mapping[str, Any], where: str, partial: bool) -> None:
    """Every name exists, none is missing, and every plain value has the type its annotation asks for."""
    parameters = inspect.signature(callee).parameters
    for name in values:
        if name not in parameters:
            near = difflib.get_close_matches(name, list(parameters), 1, 0.5)
            hint = f"; did you mean {near[0]}?" if near else f"; allowed are {', '.join(parameters)}"
            raise ConfigError(f"{where}.{name}: no such setting{hint}")
    missing = [
        name for name, parameter in parameters.items() if parameter.default is parameter.empty and name not in values
    ]
    if missing and not partial:
        raise ConfigError(f"{where}: missing {', '.join(missing)}")
    hints = typing.get_type_hints(callee.__init__ if inspect.isclass(callee) else callee)
    for name, value in values.items():
        check_type(value, hints.get(name, Any), f"{where}.{name}")


def check_type(value: Any, hint: Any, where: str) -> None:
    """Numbers, text, truth values and None are checked; objects were checked when they were built."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    plain = [option for option in options if option in (int, float, str, bool, type(None))]
    if len(plain) < len(options) or not plain:
        return
    if isinstance(value, bool):
        fits = bool in plain
    elif isinstance(value, int):
        fits = int in plain or float in plain
    else:
        fits = type(value) in plain
    if not fits:
        allowed = " or ".join("null" if option is type(None) else option.__name__ for option in plain)
        raise ConfigError(f"{where}={value!r}: got {type(value).__name__}, expected {allowed}")
