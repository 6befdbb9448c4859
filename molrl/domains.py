"""The domains that molrl knows: what kinds of samples it draws, and who reads, draws, scores and measures them.

One object per domain, found by entry points of the group `molrl.domains`, ours included. A model belongs to the domain
that its model.json names, a file to the domain that claims it, a reward to the one that its `kind` names.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from molrl.config import ConfigError
from molrl.plugins import DOMAINS, load_registered, registered
from molrl.suggestions import did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from molrl.policy import Policy
    from molrl.task import Reward, Task


class PolicySettings(Protocol):
    """The settings that the group `policy=` builds: which model, and how it is sampled."""

    @property
    def domain(self) -> str:
        """Return the name of the domain."""
        ...

    @property
    def weights(self) -> str:
        """Return what names the model."""
        ...


@dataclass(frozen=True)
class Sampling:
    """A policy and a decoder that `molrl sample` draws from.

    Attributes:
        policy: denoiser and sampler.
        decoder: draws contexts, turns states into samples, measures and writes them.
        notes: lines that are worth printing before.
        batch: the most samples that are drawn at a time; None: as many as asked for.
    """

    policy: "Policy"
    decoder: Any
    notes: Sequence[str] = ()
    batch: int | None = None


class Domain(Protocol):
    """One kind of samples: everything that the commands need to know of it.

    Attributes:
        name: as in `model.json`, in the names of configuration folders, and in the `kind` of rewards.
        suffixes: of the files that it reads.
        headline: the metrics that a line on the screen tells, each with its label.

    It may also have a `glossary`, metric -> `Term`: what the metrics mean, which a report tells.
    """

    name: str
    suffixes: Sequence[str]
    headline: Mapping[str, str]

    def claims(self, path: Path) -> bool:
        """Tell whether a file or folder holds samples of this domain."""
        ...

    def recognises(self, source: str) -> bool:
        """Tell whether a model without a model.json of ours is one of this domain."""
        ...

    def policy(self, *, weights: str, num_steps: int, grid_power: float, eta: float) -> PolicySettings:
        """Return the settings of a policy for a model that no YAML describes."""
        ...

    def task(self, *, name: str, policy: Any, reward: "Reward", device: "torch.device", **settings: Any) -> "Task":
        """Return the task of fine-tuning a policy toward a reward."""
        ...

    def sampling(
        self, *, policy: Any, condition: Mapping[str, Any], device: "torch.device", **settings: Any
    ) -> Sampling:
        """Return what to draw samples from that are asked for by a condition."""
        ...

    def source(self, **settings: Any) -> Any:
        """Return the reader of records for `molrl score`: a `molrl.rewards.scoring.record.Source`."""
        ...

    def evaluate(self, *, file: str, reference: str | None, out: str | None, **settings: Any) -> int:
        """Print the metrics of a file of samples and return the exit code."""
        ...

    def upgrade(
        self, description: Mapping[str, Any], weights: Mapping[str, "Tensor"]
    ) -> "tuple[dict[str, Any], dict[str, Tensor]] | None":
        """Return description and weights of a model in today's format, for those of an older one; None: not of ours."""
        ...


def names() -> list[str]:
    """Return the names of all domains, sorted."""
    return sorted(registered(DOMAINS))


@functools.cache
def domain(name: str) -> Domain:
    """Return a domain by name.

    Raises:
        ConfigError: there is no such domain.
    """
    if name not in registered(DOMAINS):
        raise ConfigError(f"domain {name!r}: not known; known are {', '.join(names())}{did_you_mean(name, names())}")
    found: Domain = load_registered(DOMAINS, name)
    return found


def domain_of_file(path: str | Path) -> Domain:
    """Return the domain that reads a file or a folder.

    Raises:
        ValueError: none does.
    """
    claims = [found for found in map(domain, names()) if found.claims(Path(path))]
    if len(claims) == 1:
        return claims[0]
    if claims:
        raise ValueError(f"{path}: may be of {' or '.join(found.name for found in claims)}; say which, domain=NAME")
    allowed = "; ".join(f"{one.name}: {' '.join(one.suffixes)}" for one in map(domain, names()) if one.suffixes)
    raise ValueError(f"{path}: no domain reads such a file; allowed are {allowed}")


def domain_of_model(source: str) -> str:
    """Return the name of the domain of a model: a shipped one, a folder, a run's folder or `hub:OWNER/NAME`.

    Raises:
        CheckpointError: there is no such model, or its domain is not known.
    """
    from molrl.models.description import description_file, domain_of
    from molrl.models.shipped import find_model
    from molrl.runs.errors import CheckpointError

    folder = find_model(source)
    path = None if folder is None else description_file(folder)
    if folder is None or path is None:
        named = next((name for name in names() if domain(name).recognises(source)), "")
    else:
        named = domain_of(folder)
    if named not in names():
        about = f"a model of the domain {named!r}" if named else "names no domain"
        raise CheckpointError(f"{path or folder or source}: {about}; known are {', '.join(names())}")
    return named


def is_shipped(source: str) -> bool:
    """Tell whether a name stands for a model that ships in the package."""
    from molrl.models.shipped import shipped_names

    return source in shipped_names()


def model_folder(source: str) -> Path | None:
    """Return the folder of a model that is on this machine: shipped, of a run, or fetched before; None for no other."""
    from molrl.models.shipped import find_model

    return find_model(source)


def custom_task(
    *, name: str, policy: PolicySettings, reward: "Reward", device: "torch.device", **settings: Any
) -> "Task":
    """Return a task for any policy and any reward, with the domain's own defaults for all else."""
    return domain(policy.domain).task(name=name, policy=policy, reward=reward, device=device, **settings)


def plain_policy(*, weights: str, num_steps: int, grid_power: float, eta: float) -> PolicySettings:
    """Return the settings of a policy of a domain that has no YAML for its policies."""
    make: Callable[..., PolicySettings] = domain(domain_of_model(weights)).policy
    return make(weights=weights, num_steps=num_steps, grid_power=grid_power, eta=eta)


def reward_kinds(reward: Any) -> frozenset[str]:
    """Return the domains whose samples a reward scores, or the scorers that it wraps; empty where it states none.

    A scorer states its domain as an attribute `kind`; pools, budgets and combinations take it from those that they
    wrap (`inner`). A user's function need not state any.
    """
    if inner := getattr(reward, "inner", ()):
        return frozenset[str]().union(*map(reward_kinds, inner))
    kind = getattr(reward, "kind", None)
    return frozenset({kind}) if isinstance(kind, str) else frozenset()


def refuse_other_kind(reward: Any, policy: PolicySettings) -> None:
    """Raise ConfigError where a reward states that it scores other samples than the policy draws."""
    kinds = reward_kinds(reward)
    if kinds - {policy.domain}:
        raise ConfigError(
            f"reward: scores {' and '.join(sorted(kinds))}, but policy={policy.weights} draws {policy.domain}"
        )
