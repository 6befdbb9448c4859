"""Code of other people: rewards, algorithms, networks and domains that a user names or has installed.

A user names code on the command line, as `my_rewards.py:rings` or `package.module:object`, or installs a package that
registers it as an entry point of one of `GROUPS`. Nothing that travels with a model or a run names code.
"""

import functools
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from molrl.config import ConfigError, check_arguments, settings
from molrl.suggestions import did_you_mean

REWARDS, ALGORITHMS = "molrl.rewards", "molrl.algorithms"
DENOISERS, DOMAINS = "molrl.denoisers", "molrl.domains"
GROUPS = (REWARDS, ALGORITHMS, DENOISERS, DOMAINS)
CODE = re.compile(r".+\.py:[A-Za-z_]\w*|[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*")


@functools.cache
def registered(group: str) -> Mapping[str, EntryPoint]:
    """Return the entry points of a group by name."""
    return {point.name: point for point in entry_points(group=group)}


@functools.cache
def plugin_packages() -> frozenset[str]:
    """Return the top-level packages that registered something with molrl."""
    return frozenset(point.module.partition(".")[0] for group in GROUPS for point in registered(group).values())


@functools.cache
def plugin_folders() -> tuple[Path, ...]:
    """Return the folders `conf/` in the packages of plug-ins, without importing these."""
    specs = [importlib.util.find_spec(name) for name in sorted(plugin_packages() - {"molrl"})]
    places = [Path(place) / "conf" for spec in specs if spec for place in spec.submodule_search_locations or ()]
    return tuple(place.resolve() for place in places if place.is_dir())


def load_registered(group: str, name: str) -> Any:
    """Import the object that an entry point names.

    Raises:
        ConfigError: it cannot be imported.
    """
    point = registered(group)[name]
    try:
        return point.load()
    except Exception as error:  # whatever the package does when it is imported
        raise ConfigError(f"{group} {name} ({point.value}): {type(error).__name__}: {error}") from error


def is_code(text: str) -> bool:
    """Tell whether a choice is written as code: `FILE.py:NAME` or `PACKAGE.MODULE:NAME`."""
    return CODE.fullmatch(text) is not None


def load_object(source: str) -> Any:
    """Import the object that `FILE.py:NAME` or `PACKAGE.MODULE:NAME` names.

    Raises:
        ConfigError: the file, the module or the name is not there, or importing it failed.
    """
    place, _, name = source.rpartition(":")
    try:
        module = import_file(Path(place).expanduser()) if place.endswith(".py") else importlib.import_module(place)
    except ConfigError:
        raise
    except Exception as error:  # whatever the module does when it is imported
        raise ConfigError(f"{source}: cannot be imported ({type(error).__name__}: {error})") from error
    if not hasattr(module, name):
        public = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        has = ", ".join(public[:8]) or "nothing to call"
        raise ConfigError(f"{source}: no {name!r} there; it has {has}{did_you_mean(name, public)}")
    return getattr(module, name)


def import_file(path: Path) -> ModuleType:
    """Import a Python file once, under a name of its own."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    name = f"molrl_user_{path.stem}"
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) == str(path.resolve()):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def instance(source: str, values: Mapping[str, Any], group: str) -> Any:
    """Return the object that code names: a class is called with the settings, a function or an object takes none.

    Args:
        source: `FILE.py:NAME` or `PACKAGE.MODULE:NAME`.
        values: the settings.
        group: where these are given, as `+GROUP.NAME=VALUE`.

    Raises:
        ConfigError: there is no such code, it cannot be called, or the settings do not fit.
    """
    found = load_object(source)
    if not callable(found):
        raise ConfigError(f"{source}: got a {type(found).__name__}, need something that can be called")
    if not inspect.isclass(found):
        if values:
            raise ConfigError(f"{source}: takes no settings, got {', '.join(values)}; a class would take them")
        return found
    try:
        check_arguments(found, values, group, partial=False)
    except ConfigError as error:
        raise ConfigError(f"{error}; settings of {source} are given as +{group}.NAME=VALUE") from error
    with settings(source):
        return found(**values)


def user_reward(*, source: str, **values: Any) -> Callable[..., Any]:
    """Return the reward that a user wrote: any function of finished samples, or a class of such objects.

    Args:
        source: `FILE.py:NAME` or `PACKAGE.MODULE:NAME`.
        values: settings, given as `+reward.NAME=VALUE`, for the constructor of a class.
    """
    return reward_of(instance(source, values, "reward"), source)


def reward_of(function: Callable[..., Any], source: str) -> Callable[..., Any]:
    """Return what gives its values as a tensor: a reward of molrl's own kinds as it is, any other function wrapped."""
    own = any(hasattr(function, name) for name in ("score_one", "submit", "start"))
    return function if own else UserReward(function, source)


def user_algorithm(*, source: str, **values: Any) -> Any:
    """Return the algorithm that a user wrote: a class with `modules`, `collect` and `loss`.

    Args:
        source: `FILE.py:NAME` or `PACKAGE.MODULE:NAME`.
        values: settings, given as `+algo.NAME=VALUE`, for its constructor.
    """
    found = instance(source, values, "algo")
    if lacking := [name for name in ("modules", "collect", "loss") if not hasattr(found, name)]:
        raise ConfigError(f"{source}: is no algorithm, it has no {', '.join(lacking)}")
    return found


class UserReward:
    """A function of finished samples whose values may come as a tensor, an array or a list of numbers."""

    def __init__(self, function: Callable[..., Any], source: str) -> None:
        self.function = function
        self.source = source
        self.kind = getattr(function, "kind", None)
        self.__name__ = source.rpartition(":")[2]

    def __call__(self, samples: Any, /) -> Any:
        """Return one float32 for each sample; NaN where it could not be scored.

        Raises:
            RuntimeError: the function failed, with its line.
            ValueError: it returned something other than numbers.
        """
        import torch

        try:
            values = self.function(samples)
        except (ConfigError, MemoryError):
            raise
        except Exception as error:  # whatever the user's code does
            place = line_of(error)
            raise RuntimeError(f"{self.source}: {type(error).__name__}: {error}{place}") from error
        try:
            return values if isinstance(values, torch.Tensor) else torch.as_tensor(values, dtype=torch.float32)
        except (RuntimeError, TypeError, ValueError) as error:
            kind = type(values).__name__
            raise ValueError(
                f"{self.source}: returned a {kind}, expected one number for each sample ({error})"
            ) from error


def line_of(error: Exception) -> str:
    """Return the file and line of the function that was called, where an error came from; empty where it has none."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
