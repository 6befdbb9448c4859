"""`molrl sample`: samples from a model: molecules as an SDF, shapes as an NPZ, or as a PLY or GLB file each, images
as a ZIP of PNG files or as one image.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from molrl.config import ConfigError, settings
from molrl.data.files import suffix
from molrl.data.images.prompts import prompt_list
from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.sdf import write_sdf
from molrl.guidance import Guidance
from molrl.machine.device import choose_device
from molrl.models.draws import draw_samples
from molrl.models.images.decoder import ImageDecoder, image_policy
from molrl.models.images.pipeline import DOMAIN as IMAGES
from molrl.models.images.pipeline import is_image_model, load_pipeline
from molrl.models.molecules.decoder import MoleculeDecoder, molecule_policy
from molrl.models.molecules.model import MOLECULES, domain_at, load
from molrl.models.shapes.decoder import WRITERS, ShapeDecoder, shape_policy
from molrl.models.shapes.model import DOMAIN as SHAPES
from molrl.models.shapes.model import load_shapes
from molrl.noise import Key
from molrl.policy import Policy
from molrl.task import Decoder, Reward, Task, open_reward

GUIDANCE = 5.0  # of images (Black et al. 2023, arXiv:2305.13301)
LARGEST = 32  # images per network call


@dataclass(frozen=True)
class Source:
    """A model as `molrl sample` needs it.

    Attributes:
        what: name of what is drawn.
        decoder: how it is drawn and measured.
        policy: its denoiser and chain.
        notes: what is worth saying before.
        suffixes: of the files that can be written, the default first.
        write: writes samples and returns how many of them can be read back as what they should be.
        figures: the metrics that are told, by name.
    """

    what: str
    decoder: Decoder
    policy: Policy
    notes: Sequence[str]
    suffixes: Sequence[str]
    write: Callable[[Sequence[Any], Path], int]
    figures: Sequence[str]


def molecule_source(
    weights: str, condition: Mapping[str, Any], points: int | None, reader: BondReader, **chain: Any
) -> Source:
    """A molecule model, asked for the values of some properties."""
    if points is not None:
        raise ValueError(f"points={points}: for shapes; molecules have the sizes of the training set")
    model = load(weights)
    notes = []
    for told in model.conditions:
        low, high = told.span
        wanted = condition.get(told.name, "drawn as the training set has it")
        notes.append(f"{told.name}: {wanted} (training set {low:.3g} to {high:.3g})")
    decoder = MoleculeDecoder(model=model, reader=reader, condition=condition)
    figures = ("validity", "validity_connected", "uniqueness", "novelty")

    def write(samples: Sequence[Any], path: Path) -> int:
        return write_sdf(samples, path, reader)

    policy = molecule_policy(model, **chain)
    return Source(MOLECULES, decoder, policy, notes, (decoder.suffix,), write, figures)


def shape_source(weights: str, condition: Mapping[str, Any], points: int | None, **chain: Any) -> Source:
    """A shape model, asked for a class."""
    model = load_shapes(weights)
    if unknown := condition.keys() - {"class"}:
        raise ValueError(f"condition.{min(unknown)}: a model of shapes takes condition.class only")
    decoder = ShapeDecoder(model=model, points=points, asked=condition.get("class"))

    def write(samples: Sequence[Any], path: Path) -> int:
        decoder.write(samples, path, {})
        return sum(len(sample) > 1 for sample in samples)

    figures = ("validity", "one_nna", "coverage", "diversity")
    return Source(SHAPES, decoder, shape_policy(model, **chain), [], (decoder.suffix, *WRITERS), write, figures)


def image_source(
    weights: str,
    condition: Mapping[str, Any],
    points: int | None,
    guidance_scale: float | None,
    batch: int,
    *,
    num_steps: int,
    eta: float,
    device: torch.device,
) -> Source:
    """A Stable Diffusion pipeline, asked for a prompt or for the captions of drawings."""
    if points is not None:
        raise ValueError(f"points={points}: for shapes; images have the size of their model")
    if unknown := condition.keys() - {"prompt"}:
        raise ValueError(f"condition.{min(unknown)}: a model of images takes condition.prompt only")
    texts = (str(condition["prompt"]),) if "prompt" in condition else prompt_list("drawings")
    pipeline, source = load_pipeline(weights, None, torch.float32)
    policy, note = image_policy(
        pipeline,
        texts,
        num_steps=num_steps,
        eta=eta,
        guidance_scale=GUIDANCE if guidance_scale is None else guidance_scale,
        batch=batch,
        dtype=torch.float32,
        device=device,
    )
    decoder = ImageDecoder(pipeline=pipeline, source=source, texts=texts, batch=batch)

    def write(samples: Sequence[Any], path: Path) -> int:
        decoder.write(samples, path, {})
        return sum(not sample.flaw for sample in samples)

    figures = ("validity", "bytes_per_pixel", "colour_entropy", "diversity")
    notes = [f"scheduler: {note}"] if note else []
    return Source(IMAGES, decoder, policy, notes, (decoder.suffix, ".png"), write, figures)


def draw_guided(task: Task, guidance: Guidance, n: int, *, seed: int, batch: int) -> tuple[list[Any], int]:
    """n samples, and how often the reward was asked for them."""
    samples, queries = list[Any](), 0
    for start in range(0, n, batch):
        drawn = guidance.draw(task, range(start, min(start + batch, n)), Key(seed))
        samples += drawn.samples
        queries += drawn.reward_queries
    return samples, queries


def sample_file(
    *,
    weights: str,
    n: int,
    out: str | None,
    points: int | None,
    num_steps: int,
    grid_power: float,
    eta: float,
    seed: int,
    batch: int,
    device: str,
    reader: BondReader,
    condition: Mapping[str, float | str | None],
    guidance: Guidance | None,
    guidance_scale: float | None,
    reward: Reward | None = None,
) -> int:
    """Write n samples of a model to a file and say what they are worth; returns the exit code.

    Args:
        out: the file; None: `samples`, with the suffix of what the model draws.
        points: of each shape; None: as many as the model was trained with.
        condition: what a conditional model is asked for; what is left out or null is drawn as the training set has it.
        guidance_scale: of images, classifier-free; 1: none, None: 5. For nothing else.
        guidance: a way of drawing that asks the reward; None: the model's own samples.
        reward: what it asks.
    """
    if n < 1 or batch < 1:
        raise ConfigError(f"n, batch: got {n}, {batch}; need at least 1")
    place = choose_device(device)
    asked = {name: value for name, value in condition.items() if value is not None}
    chain = {"num_steps": num_steps, "grid_power": grid_power, "eta": eta, "device": place}
    with settings():
        if is_image_model(weights):
            source = image_source(
                weights, asked, points, guidance_scale, min(batch, LARGEST), num_steps=num_steps, eta=eta, device=place
            )
        elif guidance_scale is not None:
            raise ValueError(f"guidance_scale={guidance_scale}: for images")
        elif domain_at(weights) == SHAPES:
            source = shape_source(weights, asked, points, **chain)
        else:
            source = molecule_source(weights, asked, points, reader, **chain)
    out = f"samples{source.suffixes[0]}" if out is None else out
    if suffix(out) not in source.suffixes:
        raise ConfigError(f"out={out}: {source.what} are written as {' or '.join(source.suffixes)}")
    for note in source.notes:
        print(note)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    if guidance is None or reward is None:
        samples = draw_samples(source.policy, source.decoder, n, seed=seed, batch=batch, device=place)
    else:
        task = Task("sample", source.policy, source.decoder, reward, place)
        with open_reward(reward):
            samples, queries = draw_guided(task, guidance, n, seed=seed, batch=batch)
            mean = task.reward(samples).nanmean().item()
        print(f"mean reward {mean:.3f}, {queries} reward queries")
    seconds = time.perf_counter() - began
    readable = source.write(samples, Path(out))
    found = source.decoder.measure(samples)
    told = ", ".join(f"{name.replace('_', ' ')} {found[name]:.3f}" for name in source.figures)
    print(f"{out}: {n} {source.what} in {seconds:.1f} s, {readable} readable; {told}")
    return 0 if readable else 3
