"""`molrl sample`: draw samples from a policy into a file, with or without a reward that guides them."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from molrl.config import ConfigError, check_arguments, settings
from molrl.domains import PolicySettings, domain, refuse_other_kind
from molrl.exit_codes import ExitCode
from molrl.guidance.protocol import Guidance, GuidedSamples
from molrl.machine.device import autocast_dtype, choose_device, warn_of_slow_bfloat16
from molrl.models.draws import draw_samples
from molrl.noise import Key
from molrl.outputs import output_file, unused
from molrl.progress import stage
from molrl.runs.snapshot import seed_generators
from molrl.task import Reward, Task, open_reward


def draw_guided(task: Task, guidance: Guidance, n: int, *, seed: int, batch: int) -> GuidedSamples:
    """Return n samples that a reward guided, the number of reward queries, and the means of the method's facts."""
    samples, queries, facts = list[Any](), 0, dict[str, float]()
    with stage("guided samples drawn", n) as advance:
        for start in range(0, n, batch):
            drawn = guidance.draw(task, range(start, min(start + batch, n)), Key(seed))
            samples += drawn.samples
            queries += drawn.reward_queries
            for name, value in drawn.facts.items():
                facts[name] = facts.get(name, 0.0) + value * len(drawn.samples) / n
            advance(len(drawn.samples))
    return GuidedSamples(samples, queries, facts)


def sample_file(
    *,
    policy: PolicySettings,
    n: int,
    out: str | None,
    overwrite: bool,
    condition: Mapping[str, Any],
    seed: int,
    batch: int,
    device: str,
    precision: str,
    guidance: Guidance | None,
    reward: Reward | None = None,
    **domain_settings: Any,
) -> int:
    """Write n samples of a policy to a file, print their metrics, and return the exit code.

    Args:
        policy: the model, and how it is sampled.
        n: number of samples.
        out: file to write; None: `samples`, with the suffix of the domain, or `samples_2` and so on.
        overwrite: replace a file of that name.
        condition: requested properties or classes; those left out or null are drawn as the training set has them.
        seed: seed of the noise; sample i does not depend on n or on the batch (up to float rounding).
        batch: number of samples that are drawn at a time.
        device: device to draw on.
        precision: "float32", or "bfloat16" for the network alone; other samples, of the same quality.
        guidance: method of reward-guided sampling; None: samples of the model as it is.
        reward: reward that guides.
        domain_settings: further settings, of the domain.
    """
    if n < 1 or batch < 1:
        raise ConfigError(f"n, batch: got {n}, {batch}; need at least 1")
    seed_generators(seed)
    place, about = choose_device(device), domain(policy.domain)
    given = {name: value for name, value in condition.items() if value is not None}
    if reward is not None:
        refuse_other_kind(reward, policy)
    arguments = {"policy": policy, "condition": given, "device": place, **domain_settings}
    check_arguments(about.sampling, arguments, "", partial=False)
    with settings():
        sampling = about.sampling(**arguments)
    drawn_from = replace(sampling.policy, autocast=autocast_dtype(precision))
    if drawn_from.autocast is not None:
        warn_of_slow_bfloat16("precision=bfloat16", place)
    decoder, suffixes = sampling.decoder, sampling.decoder.suffixes
    if out is not None and not out.lower().endswith(tuple(suffixes)):
        raise ConfigError(f"out={out}: {about.name} are written as {' or '.join(suffixes)}")
    path = output_file(out or str(unused(Path(f"samples{suffixes[0]}"))), overwrite=overwrite)
    for note in sampling.notes:
        print(note)
    batch = min(batch, sampling.batch or batch)
    start = time.perf_counter()
    if guidance is None or reward is None:
        samples = draw_samples(drawn_from, decoder, n, seed=seed, batch=batch, device=place)
    else:
        task = Task("sample", drawn_from, decoder, reward, place)
        with open_reward(reward):
            guided = draw_guided(task, guidance, n, seed=seed, batch=batch)
            samples = guided.samples
            mean = task.reward(samples).nanmean().item()
        facts = (f", {name} {value:.3g}" for name, value in guided.facts.items())
        print(f"mean reward {mean:.3f}, {guided.reward_queries} reward queries{''.join(facts)}")
    seconds = time.perf_counter() - start
    with stage(f"writing {path} and measuring"):
        readable = decoder.write(samples, path, {})
        measured = decoder.measure(samples)
    metrics = ", ".join(f"{label} {measured[name]:.3f}" for name, label in about.headline.items() if name in measured)
    print(f"{path}: {n} {about.name} in {seconds:.1f} s, {readable} readable; {metrics}")
    return ExitCode.DONE if readable else ExitCode.NOTHING_SCORED
