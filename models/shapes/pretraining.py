"""What pretraining needs of shapes: a training set of point clouds, and the model to fit it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from molrl.config import settings
from molrl.data.shapes.cloud import MAX_POINTS
from molrl.data.shapes.sets import ShapeSet
from molrl.gaussian import Euclidean
from molrl.machine.device import choose_device
from molrl.machine.interruption import patient
from molrl.machine.memory import enough_memory
from molrl.models.draws import draw_samples
from molrl.models.molecules.pretraining import FREE, refuse_other_data, refuse_other_model
from molrl.models.shapes.decoder import ShapeDecoder, shape_policy
from molrl.models.shapes.model import ShapeArchitecture, ShapeModel, load_shapes, save_shapes
from molrl.models.shapes.stable_target import Pools, StableLoss
from molrl.pretrain import Loss, Pretraining, denoising_loss
from molrl.runs.checkpoint import check_fits
from molrl.runs.folder import claim, refuse_another
from molrl.runs.tracking import append_row


@dataclass(frozen=True)
class ShapeDesign:
    """A shape model before it has met its data."""

    network: Mapping[str, Any]
    points: int
    pool: int
    noise_min: float
    noise_max: float

    def fit(self, shapes: ShapeSet) -> tuple[ShapeArchitecture, Pools]:
        """The architecture with the statistics of the training set, and the set as pools of points."""
        points = torch.from_numpy(np.stack([cloud.points for cloud in shapes.train])).flatten(0, 1)
        mean = points.mean(0, dtype=torch.float64)
        variance = (points - mean.float()).square().mean(0, dtype=torch.float64)
        std = variance.mean().sqrt()
        architecture = ShapeArchitecture(
            network=dict(self.network),
            classes=sorted({cloud.label for cloud in shapes.train}),
            points=self.points,
            mean=[round(value, 4) for value in mean.tolist()],
            std=round(std.item(), 4),
            data_std=[round(value, 4) for value in (variance.sqrt() / std).tolist()],
            noise_min=self.noise_min,
            noise_max=self.noise_max,
        )
        x0, classes = architecture.encode(shapes.train)
        return architecture, Pools(x0, {"class": classes}, self.points)

    @property
    def loss(self) -> Loss:
        """Of stable targets where a pool has more than a cloud."""
        return StableLoss(self.points) if self.pool > self.points else cast(Loss, denoising_loss)


def shape_design(
    *, network: Mapping[str, Any], points: int, pool: int, noise_min: float, noise_max: float
) -> ShapeDesign:
    """A design from plain numbers."""
    if points < 2:
        raise ValueError(f"points: got {points}, need at least 2")
    if not points <= pool <= MAX_POINTS:
        raise ValueError(f"pool: got {pool}, allowed {points} (points) to {MAX_POINTS}")
    return ShapeDesign(network, points, pool, noise_min, noise_max)


def pretrain_shapes(
    *,
    model: ShapeDesign,
    data: Callable[..., ShapeSet],
    training: Pretraining,
    run: str,
    init: str | None,
    device: str,
    evaluate: int,
    num_steps: int,
    grid_power: float,
    config: Mapping[str, Any],
) -> int:
    """`molrl pretrain model=shapes`: train, report sample quality along the way, and leave a model in the run folder.

    With `init`, training starts from the weights of that model instead of random ones. `config` is what all this was
    composed as; the folder keeps it.
    """
    place = choose_device(device)
    refuse_another(config, FREE)
    refuse_other_data(data, "points", "shapes")
    with settings("data"):
        shapes = data(points=model.pool)
    architecture, pools = model.fit(shapes)
    held_out = [replace(cloud, points=cloud.points[: model.points]) for cloud in shapes.held_out]
    torch.manual_seed(training.seed)
    with settings("model"):
        built = architecture.build()
    if init is not None:
        state = load_shapes(init).denoiser.state_dict()
        check_fits(built.denoiser.state_dict(), state, f"the network to be trained (init={init})")
        built.denoiser.load_state_dict(state)
    built.denoiser.to(place)
    sampling = partial(shape_policy, num_steps=num_steps, grid_power=grid_power, eta=1.0, device=place)
    with settings():
        sampling(built)
    folder = Path(run)
    parameters = sum(parameter.numel() for parameter in built.denoiser.parameters())
    print(f"{folder}: {len(shapes.train)} shapes, {parameters:,} parameters, {training.steps} steps", flush=True)

    def report(metrics: Mapping[str, float], average: Mapping[str, Tensor]) -> None:
        save_shapes(folder / "model", architecture, average, held_out)
        fresh: ShapeModel = load_shapes(str(folder / "model"))
        decoder = ShapeDecoder(model=fresh)
        drawn = draw_samples(sampling(fresh), decoder, evaluate, seed=training.seed, batch=64, device=place)
        measured = decoder.measure(drawn)
        row = {**metrics, **{name: None if math.isnan(value) else value for name, value in measured.items()}}
        append_row(folder / "pretrain.jsonl", row, "step")
        print(
            f"step {metrics['step']:.0f}/{training.steps} loss {metrics['loss']:.4f} 1-NNA {measured['one_nna']:.3f} "
            f"coverage {measured['coverage']:.3f} mmd {measured['mmd']:.4f} diversity {measured['diversity']:.3f} "
            f"{metrics['seconds']:.0f} s",
            flush=True,
        )

    with claim(config, FREE), patient("this step") as request, enough_memory("training.batch or evaluate"):
        refuse_other_model(folder, architecture.plain())
        training.run(built.denoiser, Euclidean(), [pools], folder, report, request.is_set, model.loss)
    request.raise_if_requested()
    print(f"model: {folder / 'model'}")
    return 0
