"""The public functions: what the commands do, with samples as Python objects. Import them from `molrl` itself."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from jaxtyping import Float
from torch import Tensor

from molrl.building import build, call_command
from molrl.catalogue import Entry, catalogue
from molrl.composition import Composition
from molrl.config import ConfigError, check_arguments, dotted
from molrl.config import settings as wrong_settings
from molrl.domains import PolicySettings, Sampling, domain
from molrl.machine.device import choose_device
from molrl.machine.threads import torch_threads
from molrl.override import as_value
from molrl.plugins import reward_of
from molrl.reward_queue import check_rewards
from molrl.runs.folder import dated_folder
from molrl.runs.report.command import write_page
from molrl.runs.result import RunResult, read_result
from molrl.task import Reward, open_reward

BATCH = 256  # samples that are drawn at a time


def choices(kind: str, domain: str | None = None) -> list[Entry]:
    """Return what can be chosen of one kind, as `molrl list KIND` shows it.

    Args:
        kind: "rewards", "algorithms", "tasks", "policies", "data", "models", "diversity", "guidance" or "trackers".
        domain: whose samples it is for, such as "molecules", with what is for those of any domain; None: all.

    Raises:
        ConfigError: there is no such kind or domain.
    """
    return catalogue(kind, domain=domain)


def load_policy(name: str, **settings: Any) -> PolicySettings:
    """Return a model and how it is sampled, as `policy=NAME policy.SETTING=VALUE` does on the command line.

    Args:
        name: a shipped model ("qm9_heavy", "shapes", "images" ...), a model's folder, a run, or "hub:OWNER/NAME".
        settings: `num_steps`, `grid_power`, `eta`, and others of the domain, such as `guidance_scale` of images.

    Raises:
        ConfigError: there is no such model or setting.
    """
    overrides = [f"policy={name}", *flatten("policy", settings)]
    return cast(PolicySettings, build(Composition("sample", overrides).config["policy"], "policy"))


def sample(
    policy: PolicySettings | str,
    n: int,
    *,
    seed: int = 0,
    condition: Mapping[str, Any] | None = None,
    device: str = "auto",
    threads: int | None = None,
    **settings: Any,
) -> list[Any]:
    """Draw n finished samples: molecules, point clouds or images.

    Sample i depends on the seed and on i alone, not on n (up to float rounding).

    Args:
        policy: what `load_policy` returned, or the name that it takes.
        n: at least 1.
        seed: of the noise.
        condition: what the samples are asked for, such as {"class": "chair"} or {"prompt": "a red circle"}.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        threads: of torch during the call; None: as many as it has.
        settings: others of the domain, as `molrl sample` takes them, such as `atoms="18..24"` of molecules.

    Raises:
        ConfigError: a wrong argument.
        CheckpointError: the model is missing or damaged.
    """
    from molrl.models.draws import draw_samples

    if n < 1:
        raise ConfigError(f"n: got {n}, need at least 1")
    sampling = sampling_of(policy, condition or {}, device, settings)
    batch = min(BATCH, sampling.batch or BATCH)
    with torch_threads(threads):
        return draw_samples(sampling.policy, sampling.decoder, n, seed=seed, batch=batch, device=choose_device(device))


def score(
    samples: Sequence[Any], reward: str | Callable[..., Any], *, threads: int | None = None, **settings: Any
) -> Float[Tensor, " n"]:
    """Return the value of each sample by a reward, float32 [n]; NaN where one could not be scored.

    Args:
        samples: finished samples of the domain that the reward scores.
        reward: the name of a reward ("qed", "shape_stability" ...), code ("my_rewards.py:name"), or a function of
            samples.
        threads: of torch during the call; None: as many as it has.
        settings: of a named reward, as `reward.SETTING=VALUE` on the command line; nested ones as `{"site": {...}}`.

    Raises:
        ConfigError: there is no such reward or setting.
    """
    with torch_threads(threads):
        if callable(reward):
            return check_rewards(user_function(reward)(samples), len(samples))
        overrides = [f"reward={reward}", "file=none", *flatten("reward", settings)]
        scorer = build(Composition("score", overrides).config["reward"], "reward")
        with open_reward(scorer):
            return check_rewards(scorer(samples), len(samples))


def evaluate(samples: Sequence[Any], policy: PolicySettings | str, *, threads: int | None = None) -> dict[str, float]:
    """Return the held-out metrics of samples, such as validity, uniqueness and novelty of molecules, in [0, 1].

    Args:
        samples: finished samples.
        policy: the model whose training set or held-out samples they are compared with.
        threads: of torch during the call; None: as many as it has.
    """
    with torch_threads(threads):
        return dict(sampling_of(policy, {}, "cpu", {}).decoder.assess(samples))


def train(*settings: str, reward: Callable[..., Any] | None = None, **values: Any) -> RunResult:
    """Fine-tune a model toward a reward, as `molrl train` does, and return the finished run.

    A run that is complete already is returned as it is; one that was interrupted goes on.

        molrl.train("algo.clip=0.1", task="qed", algo="ddpo", iterations=20, run="runs/mine")

    Args:
        settings: `name=value`, as on the command line.
        reward: in place of a configured one, any function of finished samples that returns one number for each.
        values: settings, nested ones as `policy={"num_steps": 25}`; `threads` holds for the call.

    Raises:
        ConfigError: a wrong setting; nothing has been written then.
        RuntimeError: the run ended without a result; the message says why.
    """
    from molrl.run import train as run_training

    config = Composition("train", [*settings, *flatten("", values)]).config
    folder = Path(config["run"] or dated_folder(config["chosen"]["task"]))
    if code := run_training({**config, "run": str(folder)}, None if reward is None else user_function(reward)):
        raise RuntimeError(f"{folder}: the run ended with exit code {code}")
    return read_result(folder)


def pretrain(*settings: str, **values: Any) -> RunResult:
    """Train a diffusion model, as `molrl pretrain` does, and return the run; one that was interrupted goes on.

        molrl.pretrain("data.path=qm9.npz", "training.steps=2000", model="heavy", data="qm9", run="runs/heavy")

    Args:
        settings: `name=value`, as on the command line.
        values: settings, nested ones as `policy={"num_steps": 25}`; `threads` holds for the call.

    Raises:
        ConfigError: a wrong setting; nothing has been written then.
    """
    config = Composition("pretrain", [*settings, *flatten("", values)]).config
    call_command(config, config=config)
    return read_result(Path(config["run"]))


def load_run(folder: str | Path) -> RunResult:
    """Return a run of `molrl train` or `molrl pretrain`, which may have ended long ago or still go on.

        molrl.load_run("runs/mine").metrics.plot("iteration", "reward")

    Raises:
        ConfigError: there is no run in the folder, or one of its files is damaged.
    """
    return read_result(Path(folder).expanduser())


def report(*runs: RunResult | str | Path, out: str | Path | None = None, overwrite: bool = False) -> Path:
    """Write the report of a run, or a page that compares several, as `molrl report` does, and return its path.

    Args:
        runs: what `train` and `load_run` return, or folders.
        out: the HTML file; None: report.html in the folder of the run, or for several runs a new comparison.html here.
        overwrite: replace `out` where it exists.

    Raises:
        ConfigError: a folder holds no run, or the file cannot be written.
    """
    folders = [str(run.folder if isinstance(run, RunResult) else run) for run in runs]
    return write_page(runs=folders, out=None if out is None else str(out), overwrite=overwrite)


def user_function(function: Callable[..., Any]) -> Reward:
    """Return a reward for a function whose values may be a list, an array or a tensor."""
    return reward_of(function, getattr(function, "__name__", type(function).__name__))


def sampling_of(
    policy: PolicySettings | str, condition: Mapping[str, Any], device: str, settings: Mapping[str, Any]
) -> Sampling:
    """Return what to draw samples of a policy from; the domain's own settings are as YAML has them, unless given."""
    from molrl.models.sample import sample_file

    loaded = load_policy(policy) if isinstance(policy, str) else policy
    config = Composition("sample", [f"policy={loaded.weights}"]).config
    shared = {"chosen", "_target_", "threads", *inspect.signature(sample_file).parameters}
    own = {name: build(value, name) for name, value in config.items() if name not in shared}
    about = domain(loaded.domain)
    arguments = {"policy": loaded, "condition": condition, "device": choose_device(device), **own, **settings}
    check_arguments(about.sampling, arguments, "", partial=False)
    with wrong_settings():
        return about.sampling(**arguments)


def flatten(prefix: str, settings: Mapping[str, Any]) -> list[str]:
    """Return nested settings as `name=value`, with dots between the levels."""
    found: list[str] = []
    for name, value in settings.items():
        place = dotted(prefix, name)
        found += flatten(place, value) if isinstance(value, Mapping) else [f"{place}={as_value(value)}"]
    return found
