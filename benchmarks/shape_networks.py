"""Networks of point clouds at equal compute: the stable loss at 1,024 points against core-seconds of training.

`python benchmarks/shape_networks.py seconds=120 out=networks.csv` trains each arm on one thread from the same random
seed, by the same shapes and loss, in turns of SLICE core-seconds, so that other work on the machine slows all of them
alike. It prints the loss of held-out shapes at four noise levels (`molrl.models.shapes.stable_target`); one arm trains
on 256 points and is measured at 1,024 like the others.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from math import log
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from molrl.data.shapes.procedural import Procedural
from molrl.gaussian import Euclidean
from molrl.models.shapes.model import ShapeArchitecture
from molrl.models.shapes.stable_target import Pools, StableLoss
from molrl.pretraining import Average, learning_rate, stratified_times

SHAPES, HELD_OUT, POOL, POINTS, BATCH = 800, 24, 2048, 1024, 16
NOISES = (3.0, 1.0, 0.35, 0.1)
SLICE = 20.0  # core-seconds of each arm at a time
SET = {"kind": "set_transformer", "width": 64, "layers": 4, "inducers": 32, "heads": 2}
LATENT = {
    "kind": "latent_transformer",
    "width": 64,
    "latents": 32,
    "latent_width": 192,
    "blocks": 3,
    "layers": 1,
    "heads": 4,
}
ARMS: Mapping[str, tuple[Mapping[str, Any], int, int | None, float]] = {  # network, points, written, learning rate
    "set 64": (SET, 1024, None, 1.2e-3),
    "set 64, 256 points": (SET, 256, None, 1.2e-3),
    "latents 192": (LATENT, 1024, 256, 1.0e-3),
}


@dataclass
class Arm:
    """A network in training.

    Attributes:
        seconds: of one core so far.
    """

    network: Mapping[str, Any]
    points: int
    written: int | None
    lr: float
    shapes: tuple[Tensor, Tensor]
    std: tuple[list[float], float]
    seconds: float = 0.0
    step: int = 0
    average: Average = field(default_factory=lambda: Average(0.99))

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.model = architecture(self.network, self.points, self.std).build().denoiser
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.lr, weight_decay=0.01)
        self.batches = self.draw_batches()

    def draw_batches(self) -> Iterator[tuple[Tensor, Mapping[str, Tensor]]]:
        """Yield batches of pools without end."""
        pools = Pools(self.shapes[0], {"class": self.shapes[1]}, self.points)
        for epoch in count():
            order = torch.randperm(len(pools), generator=torch.Generator().manual_seed(epoch))
            for rows in order[: len(order) // BATCH * BATCH].split(BATCH):
                yield pools.rows(rows)

    def train(self, seconds: float) -> None:
        """Train for so many seconds of one core."""
        loss, start = StableLoss(self.points, self.written), time.process_time()
        generator = torch.Generator().manual_seed(self.step)
        while time.process_time() - start < seconds:
            pool, context = next(self.batches)
            t = stratified_times(torch_random(generator), len(pool))
            noise = torch.randn(pool.shape, generator=generator)
            with torch.autocast("cpu", torch.bfloat16):
                losses = loss(self.model, Euclidean(), pool, t, noise, dict(context))
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.step, peak=self.lr, warmup=50, cooldown=0, steps=1)
            self.optimizer.zero_grad()
            losses.mean().backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.step += 1
            self.average.update(self.model, self.step)
        self.seconds += time.process_time() - start

    @torch.no_grad()
    def measure(self, held_out: tuple[Tensor, Tensor]) -> list[float]:
        """Return the stable loss of the averaged weights at each noise level, at 1,024 points."""
        model = architecture(self.network, self.points, self.std).build().denoiser.eval()
        model.load_state_dict(self.average.shadow)
        losses = []
        for noise in NOISES:
            eps = torch.randn(held_out[0].shape, generator=torch.Generator().manual_seed(1))
            t = torch.full((len(eps),), log(noise / 0.03) / log(20.0 / 0.03))
            with torch.autocast("cpu", torch.bfloat16):
                loss = StableLoss(POINTS)(model, Euclidean(), held_out[0], t, eps, {"class": held_out[1]})
            losses.append(loss.mean().item())
        return losses


def torch_random(generator: torch.Generator) -> Any:
    """Return a numpy generator that is seeded by a draw of one of torch."""
    import numpy as np

    return np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))


def architecture(network: Mapping[str, Any], points: int, std: tuple[list[float], float]) -> ShapeArchitecture:
    """Return the description of a model with a network."""
    settings: dict[str, Any] = {
        "mean": std[0],
        "std": std[1],
        "data_std": [1.0] * 3,
        "noise_min": 0.03,
        "noise_max": 20.0,
    }
    return ShapeArchitecture(network=network, classes=list(Procedural().families), points=points, **settings)


def load(split: str, number: int, std: tuple[list[float], float]) -> tuple[Tensor, Tensor]:
    """Return the states [number, pool, 3] and classes of the first shapes of a split."""
    source = Procedural(split=split)
    return architecture(SET, POINTS, std).encode([source.point_cloud(index, POOL) for index in range(number)])


def main() -> None:
    """Train the arms in turns and print a row after each of them."""
    given = dict(item.split("=", 1) for item in sys.argv[1:])
    seconds, out = float(given.pop("seconds", 120)), Path(given.pop("out", "shape_networks.csv"))
    if given:
        sys.exit(f"{', '.join(given)}: allowed are seconds and out")
    torch.set_num_threads(1)
    std = ([0.0, 0.0, 0.0], 0.45)
    shapes, held_out = load("train", SHAPES, std), load("validation", HELD_OUT, std)
    arms = {
        name: Arm(network, points, written, lr, shapes, std) for name, (network, points, written, lr) in ARMS.items()
    }
    rows = ["arm,core_seconds,steps," + ",".join(f"loss_{noise}" for noise in NOISES)]
    while any(arm.seconds < seconds for arm in arms.values()):
        for name, arm in arms.items():
            arm.train(SLICE)
            numbers = ",".join(f"{loss:.4f}" for loss in arm.measure(held_out))
            rows.append(f'"{name}",{arm.seconds:.0f},{arm.step},{numbers}')
            print(rows[-1], flush=True)
            out.write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
