"""From YAML and overrides to one plain configuration: composed by Hydra once, checked name by name.

A command has groups (`task=`, `policy=`, `reward=`, `algo=` ...) and settings. The files of a group lie in a folder of
`conf/`, those of one domain in a folder of the domain's name within; the user writes the name alone. A user's own YAML
folders (`--config-dir`) are searched as well. `policy=` also takes a model's folder or `hub:OWNER/NAME`; `reward=` and
`algo=` take code (`molrl.plugins`).
"""

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

from molrl.apply_override import apply_override
from molrl.config import ConfigError, dotted
from molrl.override import literal, unquoted
from molrl.plugins import ALGORITHMS, REWARDS, is_code, plugin_folders, registered
from molrl.renamed import refuse_renamed_choice
from molrl.runs.sampling import run_origin, run_sampling
from molrl.suggestions import did_you_mean

CONF = Path(str(cast(ModuleSpec, find_spec("molrl.conf")).origin)).parent  # not by the link beside this file
MISSING = "???"
MAX_GENERATIONS = 16  # of runs that began from one another
CODE_GROUPS = {"reward": REWARDS, "algo": ALGORITHMS}  # groups that take code, with those of their entry points
CODE_OPTION, MODEL_OPTION = "code", "model"  # files for what no file describes: code, and a model of any domain


class Choice(NamedTuple):
    """The option that is chosen in a group.

    Attributes:
        folder: of the group's files.
        name: as the user writes it.
        option: the file within the folder, without its suffix.
        domain: that the file belongs to; None: it belongs to all.
        values: settings that follow from the name.
    """

    folder: str
    name: str
    option: str
    domain: str | None = None
    values: Mapping[str, str | int | float] = {}


@dataclass(frozen=True)
class Composition:
    """A command's configuration, from what the user wrote.

    Attributes:
        command: its name.
        overrides: `group=name` and `setting=value`, in the user's order.
        folders: the user's own YAML folders.
        domain: of a command that has no group to tell it (`evaluate`); None: that of its groups.
    """

    command: str
    overrides: Sequence[str] = ()
    folders: Sequence[Path] = ()
    domain: str | None = None
    override_values: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pairs = (override.partition("=") for override in self.overrides)
        object.__setattr__(self, "override_values", {name: value for name, equals, value in pairs if equals})
        for folder in self.folders:
            if not folder.is_dir():
                raise ConfigError(f"--config-dir {folder}: no such folder")

    @functools.cached_property
    def search_path(self) -> tuple[Path, ...]:
        """Return the folders in which YAML is looked for: ours, those of plug-ins, the user's own."""
        return (CONF, *plugin_folders(), *(folder.resolve() for folder in self.folders))

    @functools.cached_property
    def choices(self) -> dict[str, Choice]:
        """Return what is taken of each group.

        Raises:
            ConfigError: there is no such choice, or two of them are for different domains.
        """
        found = dict(self.walk(self.command))
        if policy := self.tuned_policy(found):
            found |= dict(self.walk(policy))
        if own := self.domain_option(found):
            found |= dict(self.walk(own))
        refuse_other_domains(found)
        return found

    @functools.cached_property
    def chosen(self) -> dict[str, str]:
        """Return the name taken of each group."""
        return {group: choice.name for group, choice in self.choices.items()}

    def walk(self, path: str) -> Iterator[tuple[str, Choice]]:
        """Yield the groups of a file's defaults list and of those files that it takes; the base files of a file too.

        An entry is `folder: option` or `/folder@_global_.group: option`.
        """
        for entry in self.defaults(path):
            if isinstance(entry, str):
                if entry != "_self_":
                    yield from self.walk(base_path(entry, path))
                continue
            for key, default in entry.items():
                folder, _, package = key.removeprefix("override ").lstrip("/").partition("@")
                group = package.removeprefix("_global_.") or folder
                choice = self.choose(group, folder, self.override_values.get(group, default))
                yield group, choice
                yield from self.walk(f"{folder}/{choice.option}")

    def defaults(self, path: str) -> list[Any]:
        """Return the defaults list of a file."""
        import yaml

        found = next(folder / f"{path}.yaml" for folder in self.search_path if (folder / f"{path}.yaml").is_file())
        try:
            return list((yaml.safe_load(found.read_text()) or {}).get("defaults", []))
        except (yaml.YAMLError, AttributeError, TypeError) as error:
            raise ConfigError(f"{found}: no table of settings ({' '.join(str(error).split())})") from error

    def choose(self, group: str, folder: str, name: str) -> Choice:
        """Return what a name means in a group: a file, a model, or code.

        Raises:
            ConfigError: it means nothing.
        """
        options = self.options(folder)
        name = unquoted(name) if group in ("policy", *CODE_GROUPS) else name
        if name == MISSING:
            raise ConfigError(f"{group}: missing, it has no default here; known are {', '.join(options)}")
        if name in options or name in options.values():
            option = options.get(name, name)
            return Choice(folder, name.rpartition("/")[2], option, option.rpartition("/")[0] or None)
        if group in CODE_GROUPS and (is_code(name) or name in registered(CODE_GROUPS[group])):
            source = name if is_code(name) else registered(CODE_GROUPS[group])[name].value
            return Choice(folder, name, CODE_OPTION, None, {f"{group}.source": source})
        if group == "policy" and (found := self.option_of_model(name := pinned(name))):
            sampling = {f"policy.{setting}": value for setting, value in run_sampling(name).items()}
            return Choice(folder, name, *found, {"policy.weights": name, **sampling})
        refuse_renamed_choice(group, name)
        is_path = group == "policy" and ("/" in name or "." in name)
        hint = "" if is_path else did_you_mean(name.rpartition("/")[2], self.names(folder))
        more = ", or a folder with a model in it, or hub:OWNER/NAME" if group == "policy" else ""
        missing = "model is there" if is_path else f"such {group}"
        raise ConfigError(f"{group}={name}: no {missing}; known are {', '.join(options)}{more}{hint}")

    def option_of_model(self, source: str) -> tuple[str, str] | None:
        """Return the file for a model that has none of its own, and the model's domain; None: there is no such model.

        The file is the one named after the domain, or the one for any domain.
        """
        from molrl.domains import domain_of_model
        from molrl.models.shipped import find_model

        is_file = source.endswith(".safetensors") and Path(source).is_file()
        if not source.startswith("hub:") and find_model(source) is None and not is_file:
            return None
        domain = domain_of_model(source)
        return domain if self.find(f"policy/{domain}") else MODEL_OPTION, domain

    def options(self, folder: str) -> dict[str, str]:
        """Return the names that a group with its files in this folder accepts, each with its file.

        Left out are base files, which are named after the folder of those they are the base of, and the files for
        models and code.
        """
        found: dict[str, str] = {}
        for root in self.search_path:
            for path in sorted((root / folder).rglob("*.yaml")):
                option = path.relative_to(root / folder).with_suffix("").as_posix()
                if path.with_suffix("").is_dir() or option in (CODE_OPTION, MODEL_OPTION):
                    continue
                if found.setdefault(path.stem, option) != option:
                    raise ConfigError(f"{folder}={path.stem}: stands for {found[path.stem]} and for {option}")
        return dict(sorted(found.items()))

    def find(self, path: str) -> Path | None:
        """Return the file of a configuration path."""
        return next((root / f"{path}.yaml" for root in self.search_path if (root / f"{path}.yaml").is_file()), None)

    def domain_option(self, choices: Mapping[str, Choice]) -> str | None:
        """Return the path of a command's own settings for the domain that it is used for."""
        domain = self.domain or domain_of(choices)
        return f"{self.command}/{domain}" if domain and self.find(f"{self.command}/{domain}") else None

    def ancestor(self, policy: Choice) -> str:
        """Return the option of the policy that a run's model comes from, whose tuned settings it has; or its own."""
        options = self.options(policy.folder)
        name: str | None = policy.name
        for _ in range(MAX_GENERATIONS):
            if name is None or name in options:
                break
            name = run_origin(name)
        option = options.get(name or "", "")
        return option if policy.domain and option.startswith(f"{policy.domain}/") else policy.option

    def tuned_policy(self, choices: Mapping[str, Choice]) -> str | None:
        """Return the path of a policy's own settings, which may choose an algorithm; None: there are none."""
        if not {"policy", "algo"} <= choices.keys():
            return None
        path = f"tuned/{self.ancestor(choices['policy'])}"
        return path if self.find(path) else None

    def tuned_option(self, choices: Mapping[str, Choice]) -> str | None:
        """Return the option of `tuned` for what is trained; None: there is none.

        In fine-tuning that is the algorithm with the policy, or else the task, or else the domain; in pretraining that
        starts from other weights (`init=`), the kind of model.
        """
        if "model" in choices and self.override_values.get("init", "null") != "null":
            option = f"{choices['model'].option}_init"
            return option if self.find(f"tuned/{option}") else None
        if not {"task", "policy", "algo"} <= choices.keys():
            return None
        policy, task, algo = self.ancestor(choices["policy"]), choices["task"].option, choices["algo"].option
        options = (f"{policy}_{algo}", f"{task}_{algo}", f"{domain_of(choices)}/{algo}")
        return next((option for option in options if self.find(f"tuned/{option}")), None)

    def names(self, folder: str) -> list[str]:
        """Return the names that a group accepts: its files, and what installed packages registered."""
        found = registered(CODE_GROUPS[folder]) if folder in CODE_GROUPS else {}
        return sorted({*self.options(folder), *found})

    def options_of_domains(self) -> list[str]:
        """Return the paths of the command's own settings for each domain that has some."""
        found = {path.stem for root in self.search_path for path in (root / self.command).glob("*.yaml")}
        return [f"{self.command}/{name}" for name in sorted(found)]

    @functools.cached_property
    def base(self) -> dict[str, Any]:
        """Return the settings as the choices make them, before any value is overridden."""
        return cast(dict[str, Any], self.plain(self.composed))

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """Return the configuration as plain values; `chosen` has the name taken of each group.

        Raises:
            ConfigError: a setting that is not there, a value that cannot be read, or one that is missing.
        """
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        config, known = copy.deepcopy(self.composed), self.settings
        try:
            for choice in self.choices.values():
                for name, value in choice.values.items():
                    if name in known:  # a run of another version may have settings that are gone
                        OmegaConf.update(config, name, literal(value) if isinstance(value, str) else value)
            for override in self.overrides:
                if override.partition("=")[0] not in self.choices and not self.adds_file(override):
                    apply_override(config, override, known, self.command)
        except OmegaConfBaseException as error:
            raise ConfigError(str(error).splitlines()[0]) from error
        found = cast(dict[str, Any], self.plain(config))
        if missing := [name for name, value in names(found).items() if value == MISSING]:
            raise ConfigError(f"{missing[0]}: missing, it has no default; see molrl {self.command} --help")
        return {"chosen": self.chosen, **found} if self.choices else found

    @functools.cached_property
    def settings(self) -> list[str]:
        """Return the dotted names of all settings."""
        return list(names(self.base))

    def adds_file(self, override: str) -> bool:
        """Tell whether it is `+folder@setting=name`, which puts a file's settings in a place that has none."""
        name = override.partition("=")[0]
        return name.startswith("+") and (CONF / name.removeprefix("+").partition("@")[0]).is_dir()

    @functools.cached_property
    def composed(self) -> Any:
        """Return what Hydra composes of the choices."""
        from hydra import compose as hydra_compose
        from hydra import initialize_config_dir
        from hydra.core.global_hydra import GlobalHydra
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        taken = [
            f"{group if choice.folder == group else f'{choice.folder}@{group}'}={choice.option}"
            for group, choice in self.choices.items()
        ]
        taken += [self.added(override) for override in self.overrides if self.adds_file(override)]
        if tuned := self.tuned_option(self.choices):
            taken.append(f"+tuned@_global_={tuned}")
        if own := self.domain_option(self.choices):
            taken.append(f"+{self.command}@_global_={own.partition('/')[2]}")
        if self.search_path[1:]:
            taken.append(f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in self.search_path[1:])}]")
        hydra = GlobalHydra.instance()
        sweep, hydra.hydra = hydra.hydra, None  # a run of a sweep is composed while Hydra is at work on the sweep
        try:
            with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
                return hydra_compose(self.command, overrides=taken)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(str(error).splitlines()[0]) from error
        finally:
            hydra.hydra = sweep

    def added(self, override: str) -> str:
        """Return `+folder@setting=name` with the file that the name stands for."""
        place, _, name = override.partition("=")
        folder = place.removeprefix("+").partition("@")[0]
        return f"{place}={self.choose(folder, folder, name).option}"

    @staticmethod
    def plain(config: Any) -> Any:
        """Return a configuration as plain Python values."""
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        try:
            return OmegaConf.to_container(config, resolve=True)
        except OmegaConfBaseException as error:
            raise ConfigError(str(error).splitlines()[0]) from error


@functools.cache
def pinned(source: str) -> str:
    """Return the name of a model of ours on the Hub with the commit that was fetched, and any other as it is."""
    if not source.startswith("hub:"):
        return source
    from molrl.models.hub import fetch

    return fetch(source) or source


def compose(command: str, overrides: Sequence[str] = (), folders: Sequence[Path] = ()) -> dict[str, Any]:
    """Return the configuration of a command as plain values."""
    return Composition(command, overrides, folders).config


def choices(folder: str) -> list[str]:
    """Return the names that a group with its files in this folder of ours accepts."""
    return list(Composition("train").options(folder))


def base_path(entry: str, path: str) -> str:
    """Return the path of a base file, `/folder/option@package` or `option` in the folder of the file that names it."""
    option = entry.partition("@")[0]
    return option.lstrip("/") if option.startswith("/") else f"{path.rpartition('/')[0]}/{option}"


def names(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return the dotted names of all settings with their values, inner nodes included."""
    found = {prefix: node} if prefix else {}
    for name, value in node.items() if isinstance(node, Mapping) else ():
        found |= names(value, dotted(prefix, str(name)))
    return found


def domain_of(choices: Mapping[str, Choice]) -> str | None:
    """Return the domain that the choices are for; None: any."""
    return next((choice.domain for choice in choices.values() if choice.domain), None)


def refuse_other_domains(choices: Mapping[str, Choice]) -> None:
    """Raise ConfigError where what is taken of two groups is for different domains."""
    domains = {group: choice.domain for group, choice in choices.items() if choice.domain}
    if len(set(domains.values())) > 1:
        choices_text = ", ".join(f"{group}={choices[group].name} is for {domain}" for group, domain in domains.items())
        raise ConfigError(f"{choices_text}: they do not go together")
