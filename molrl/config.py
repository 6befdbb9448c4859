"""From YAML and overrides to objects: composed by Hydra, checked against the signatures they will be passed to.

The callee's signature is the schema. A target is built only if the object it names lives in molrl or is one of torch's
optimisers, and nothing that came with a checkpoint is ever built.
"""

import contextlib
import difflib
import functools
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

CONF = Path(__file__).parent / "conf"
PLAIN = (int, float, str, bool, type(None))
MISSING = "???"


class ConfigError(ValueError):
    """A wrong setting: names it, what it was given, and what is allowed."""


class Choice(NamedTuple):
    """What is taken of a group: the file `name` of `folder`."""

    folder: str
    name: str


def compose(command: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The resolved configuration of a command as plain Python values; `chosen` has the name taken of each group."""
    chosen = groups(command, overrides)
    known = known_settings(command, overrides)
    for override in overrides:
        refuse_unknown_setting(override, known, command)
    config = composed(command, overrides)
    if missing := [name for name, value in names(config).items() if value == MISSING]:
        raise ConfigError(f"{missing[0]}: missing, it has no default; see molrl {command} --help")
    return {"chosen": {group: name for group, (_, name) in chosen.items()}, **config} if chosen else config


def known_settings(command: str, overrides: Sequence[str]) -> list[str]:
    """Dotted names of all settings there are with what the overrides choose."""
    chosen = groups(command, overrides)
    return list(
        names(composed(command, [item for item in overrides if item.partition("=")[0] in chosen or added(item)]))
    )


def added(override: str) -> bool:
    """Whether it is `+folder@setting=name`, which puts a file's settings in a place that has none."""
    name = override.partition("=")[0]
    return name.startswith("+") and (CONF / name.removeprefix("+").partition("@")[0]).is_dir()


def composed(command: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What Hydra makes of it."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    chosen = groups(command, overrides)
    own = [override for override in overrides if is_plain(override, chosen)]
    try:
        with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
            config = hydra_compose(
                command, overrides=[in_full(override, chosen) for override in overrides if override not in own]
            )
        for override in own:
            name, _, value = override.partition("=")
            OmegaConf.update(config, name, value)
        return typing.cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(str(error).splitlines()[0]) from error


def groups(command: str, overrides: Sequence[str] = ()) -> dict[str, Choice]:
    """The groups a command chooses from, with what it takes of each.

    A chosen file may bring a group of its own: a task its rewards, with the one it takes by default.

    Raises:
        ConfigError: an override takes what its group does not have.
    """
    asked = {group: name for group, _, name in (override.partition("=") for override in overrides)}
    return chosen_by(f"{command}.yaml", asked)


def chosen_by(path: str, asked: Mapping[str, str]) -> dict[str, Choice]:
    """The groups in a file's defaults list, each `folder: name` or `/folder@_global_.group: name`, and in theirs.

    An `optional` entry follows another choice and is none itself.
    """
    import yaml

    found: dict[str, Choice] = {}
    for entry in (yaml.safe_load((CONF / path).read_text()) or {}).get("defaults", []):
        for key, default in entry.items() if isinstance(entry, dict) else ():
            if key.startswith("optional "):
                continue
            folder, _, package = key.removeprefix("/").partition("@")
            group = package.removeprefix("_global_.") or folder
            choice = Choice(folder, asked.get(group, default))
            refuse_unknown_choice(group, choice)
            found |= {group: choice, **chosen_by(f"{folder}/{choice.name}.yaml", asked)}
    return found


def is_plain(override: str, chosen: Mapping[str, Choice]) -> bool:
    """Whether a setting of the command has the name of a group that others choose from, which Hydra takes it for."""
    name = override.partition("=")[0]
    return name not in chosen and (CONF / name).is_dir()


def in_full(override: str, chosen: Mapping[str, Choice]) -> str:
    """`group=name` as Hydra calls it where the group's files are in a folder of another name."""
    group, _, name = override.partition("=")
    if group not in chosen or chosen[group].folder == group:
        return override
    return f"{chosen[group].folder}@{group}={name}"


def choices(folder: str) -> list[str]:
    """Names that a group with its files in this folder accepts."""
    return sorted(path.stem for path in (CONF / folder).glob("*.yaml"))


def names(node: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value of all settings, inner nodes included."""
    found = {prefix: node} if prefix else {}
    for name, value in node.items() if isinstance(node, Mapping) else ():
        found |= names(value, dotted(prefix, str(name)))
    return found


def dotted(prefix: str, name: str) -> str:
    """A name below another: a.b."""
    return f"{prefix}.{name}" if prefix else name


def refuse_unknown_choice(group: str, choice: Choice) -> None:
    """task=... and algo=... must name a file."""
    known = choices(choice.folder)
    if choice.name not in known:
        near = difflib.get_close_matches(choice.name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{group}={choice.name}: no such {group}; known are {', '.join(known)}{hint}")


def refuse_unknown_setting(override: str, known: Sequence[str], command: str) -> None:
    """The name before the = must exist; `+name=value` adds one, which the callee's signature then has to know."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        raise ConfigError(f"{override}: cannot be read; put special characters in quotes: \"name='value'\"") from error
    if parsed.is_sweep_override():
        raise ConfigError(f"{override}: several values; give one, or put it in quotes: \"name='value'\"")
    key = parsed.key_or_group
    if not parsed.is_add() and (key not in known or parsed.is_delete()):
        near = nearest(key, known)
        hint = f"did you mean {' or '.join(near)}?" if near else f"molrl {command} --help lists them"
        raise ConfigError(f"{override}: no setting {override.partition('=')[0]!r}; {hint}")


def nearest(key: str, known: Sequence[str]) -> list[str]:
    """Names that were perhaps meant: those with the same last part, and those spelt nearly alike."""
    open_to_all = [name for name in known if not name.rpartition(".")[2].startswith("_")]
    same = [name for name in open_to_all if name.rpartition(".")[2] == key.rpartition(".")[2]]
    return list(dict.fromkeys(same + difflib.get_close_matches(key, open_to_all, 3, 0.6)))[:3]


def build(node: Any, where: str, **extra: Any) -> Any:
    """Build what `_target_` names, inner nodes first; plain values stay as they are.

    What `_shared_` names is checked and then left out: it is there for other nodes to refer to.

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


@contextlib.contextmanager
def settings(where: str = "") -> Iterator[None]:
    """What is wrong in here is wrong with the settings."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if type(error) not in (ValueError, TypeError):
            raise
        raise ConfigError(f"{where}: {error}" if where else str(error)) from error


def target(path: str, where: str) -> Callable[..., Any]:
    """The class or function a `_target_` names, if it is one that may be built."""
    named = f"{dotted(where, '_target_')}={path}"
    module, _, name = path.rpartition(".")
    if module != "torch.optim" and not module.startswith("molrl."):
        raise ConfigError(f"{named}: refused, only molrl.* and torch.optim.* can be built")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{named}: {error}") from error
    home = str(getattr(found, "__module__", ""))
    if not (home.startswith("molrl.") or (home.startswith("torch.optim.") and inspect.isclass(found))):
        raise ConfigError(f"{named}: refused, it is defined in {home!r}")
    return typing.cast(Callable[..., Any], found)


def check_arguments(callee: Callable[..., Any], values: Mapping[str, Any], where: str, partial: bool) -> None:
    """Every name exists, none is missing, and every plain value has the type its annotation asks for."""
    parameters = inspect.signature(callee).parameters
    for name in values:
        if name not in parameters:
            near = difflib.get_close_matches(name, list(parameters), 1, 0.5)
            hint = f"; did you mean {near[0]}?" if near else f"; allowed are {', '.join(parameters)}"
            raise ConfigError(f"{dotted(where, name)}: no such setting{hint}")
    missing = [
        name for name, parameter in parameters.items() if parameter.default is parameter.empty and name not in values
    ]
    if missing and not partial:
        raise ConfigError(f"{where}: missing {', '.join(missing)}" if where else f"missing {', '.join(missing)}")
    hints = typing.get_type_hints(callee.__init__ if inspect.isclass(callee) else callee)
    for name, value in values.items():
        check_type(value, hints.get(name, Any), dotted(where, name))


def check_type(value: Any, hint: Any, where: str) -> None:
    """Numbers, text, truth values and None are checked; objects were checked when they were built."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    options = typing.get_args(hint) if union else (hint,)
    if not any(fits(value, option) for option in options):
        allowed = " or ".join("null" if option is type(None) else type_name(option) for option in options)
        raise ConfigError(f"{where}={'null' if value is None else repr(value)}: expected {allowed}")


def fits(value: Any, option: Any) -> bool:
    """Whether a value may be passed where the annotation, not a union, is `option`."""
    if typing.get_origin(option) is typing.Literal:
        return value in typing.get_args(option)
    if option in PLAIN:
        return type(value) is option or (option is float and type(value) is int)
    if type(value) in PLAIN:
        return option in (Any, object) or isinstance(option, typing.TypeVar)
    return True


def type_name(option: Any) -> str:
    """An annotation as a word."""
    if typing.get_origin(option) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(option)))
    return str(getattr(option, "__name__", option))
