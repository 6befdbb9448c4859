"""Settings checked against the signatures they are passed to: the callee's signature is the schema."""

import contextlib
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from molrl.suggestions import did_you_mean

PLAIN = (int, float, str, bool, type(None))


class ConfigError(ValueError):
    """A wrong setting: names it, what it was given, and what is allowed."""


def dotted(prefix: str, name: str) -> str:
    """Return a name below another: a.b."""
    return f"{prefix}.{name}" if prefix else name


@contextlib.contextmanager
def settings(where: str = "") -> Iterator[None]:
    """Turn plain errors in here into errors of the settings."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if type(error) not in (ValueError, TypeError):
            raise
        raise ConfigError(f"{where}: {error}" if where else str(error)) from error


def check_arguments(callee: Callable[..., Any], values: Mapping[str, Any], where: str, partial: bool) -> None:
    """Raise ConfigError for an unknown or missing name and for a plain value of another type than annotated."""
    parameters = dict(inspect.signature(callee).parameters)
    open_to_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    parameters = {name: parameter for name, parameter in parameters.items() if parameter.kind not in variadic}
    for name in values:
        if name not in parameters and not open_to_all:
            hint = did_you_mean(name, list(parameters)) or f"; allowed are {', '.join(parameters)}"
            raise ConfigError(f"{dotted(where, name)}: no such setting{hint}")
    missing = [
        name for name, parameter in parameters.items() if parameter.default is parameter.empty and name not in values
    ]
    if missing and not partial:
        raise ConfigError(f"{where}: missing {', '.join(missing)}" if where else f"missing {', '.join(missing)}")
    hints = annotations(callee.__init__ if inspect.isclass(callee) else callee)
    for name, value in values.items():
        check_type(value, hints.get(name, Any), dotted(where, name))


def annotations(callee: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a callable, without those whose types are only imported for type checkers."""
    try:
        return typing.get_type_hints(callee)
    except NameError:
        return {name: hint for name, hint in inspect.get_annotations(callee).items() if not isinstance(hint, str)}


def check_type(value: Any, hint: Any, where: str) -> None:
    """Raise ConfigError for a plain value of another type; objects were checked when they were built."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    options = typing.get_args(hint) if union else (hint,)
    if not any(fits(value, option) for option in options):
        allowed = " or ".join("null" if option is type(None) else type_name(option) for option in options)
        raise ConfigError(f"{where}={'null' if value is None else repr(value)}: expected {allowed}")


def fits(value: Any, option: Any) -> bool:
    """Tell whether a value may be passed where the annotation, not a union, is `option`."""
    if typing.get_origin(option) is typing.Literal:
        return value in typing.get_args(option)
    if option in PLAIN:
        return type(value) is option or (option is float and type(value) is int)
    if type(value) in PLAIN:
        return option in (Any, object) or isinstance(option, typing.TypeVar)
    return True


def type_name(option: Any) -> str:
    """Return an annotation as a word."""
    if typing.get_origin(option) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(option)))
    return str(getattr(option, "__name__", option))
