"""`molrl sample`: molecules from a model, as an SDF."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from molrl.config import ConfigError, settings
from molrl.data.bonds import BondReader
from molrl.data.files import suffix
from molrl.data.molecule import Molecule
from molrl.data.sdf import write_sdf
from molrl.device import choose_device
from molrl.guidance import Guidance
from molrl.models.molecules import MoleculeDomain, molecule_policy
from molrl.models.pretrained import load
from molrl.noise import Key
from molrl.policy import Policy
from molrl.task import Reward, Task, opened


def draw_molecules(
    policy: Policy, domain: MoleculeDomain, n: int, *, seed: int, batch: int, device: torch.device
) -> list[Molecule]:
    """n molecules; molecule i depends on the seed and on i, not on n or the batch (to float rounding)."""
    key, molecules = Key(seed), list[Molecule]()
    for start in range(0, n, batch):
        samples = range(start, min(start + batch, n))
        context = domain.draw_context(samples, key)
        shape = domain.state_shape(context)
        context = {name: value.to(device) for name, value in context.items()}
        noise = partial(draw_noise, key, samples, shape, device)
        rolled = policy.rollout(context, noise)
        molecules.extend(domain.decode(rolled.final, context))
    return molecules


def draw_guided(task: Task, guidance: Guidance, n: int, *, seed: int, batch: int) -> tuple[list[Molecule], int]:
    """n molecules, and how often the reward was asked for them."""
    molecules, queries = list[Molecule](), 0
    for start in range(0, n, batch):
        drawn = guidance.draw(task, range(start, min(start + batch, n)), Key(seed))
        molecules += drawn.samples
        queries += drawn.reward_queries
    return molecules, queries


def draw_noise(key: Key, samples: Sequence[int], shape: Sequence[int], device: torch.device, draw: int) -> Tensor:
    """Noise of one draw: 0 for the prior, k + 1 for step k."""
    return key.normal(samples, draw + 1, shape).to(device)


def sample_file(
    *,
    weights: str,
    n: int,
    out: str,
    num_steps: int,
    grid_power: float,
    eta: float,
    seed: int,
    batch: int,
    device: str,
    reader: BondReader,
    condition: Mapping[str, float | None],
    guidance: Guidance | None,
    reward: Reward | None = None,
) -> int:
    """Write n molecules to an SDF and say what they are worth; returns the exit code.

    Args:
        condition: what a conditional model is asked for; what is left out or null is drawn as the training set has it.
        guidance: a way of drawing that asks the reward; None: the model's own samples.
        reward: what it asks.
    """
    if n < 1 or batch < 1:
        raise ConfigError(f"n, batch: got {n}, {batch}; need at least 1")
    if suffix(out) != ".sdf":
        raise ConfigError(f"out={out}: samples are written as .sdf or .sdf.gz")
    model = load(weights)
    asked = {name: value for name, value in condition.items() if value is not None}
    with settings():
        domain = MoleculeDomain(model=model, reader=reader, condition=asked)
        policy = molecule_policy(
            model, num_steps=num_steps, grid_power=grid_power, eta=eta, device=choose_device(device)
        )
    for told in model.conditions:
        low, high = told.span
        wanted = asked.get(told.name, "drawn as the training set has it")
        print(f"{told.name}: {wanted} (training set {low:.3g} to {high:.3g})")
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    if guidance is None or reward is None:
        molecules = draw_molecules(policy, domain, n, seed=seed, batch=batch, device=choose_device(device))
    else:
        task = Task("sample", policy, domain, reward, choose_device(device))
        with opened(reward):
            molecules, queries = draw_guided(task, guidance, n, seed=seed, batch=batch)
            mean = task.reward(molecules).nanmean().item()
        print(f"mean reward {mean:.3f}, {queries} reward queries")
    seconds = time.perf_counter() - began
    readable = write_sdf(molecules, Path(out), reader)
    found = domain.measure(molecules)
    names = ("validity", "validity_connected", "uniqueness", "novelty")
    print(
        f"{out}: {n} molecules in {seconds:.1f} s, {readable} readable; "
        + ", ".join(f"{name.replace('_', ' ')} {found[name]:.3f}" for name in names)
    )
    return 0 if readable else 3
