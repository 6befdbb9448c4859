"""The loss of point clouds, and the variance of its gradient, with and without stable targets.

`python benchmarks/stable_targets.py [weights=shapes] [tippy=0.3] [asymmetric=0.3]` takes procedural shapes of the
validation split at some noise levels, and compares the usual loss of a model with that of stable targets
(`molrl.models.shapes.stable_target`), and the variance of the gradients of BATCHES batches of BATCH point clouds. The
expected gradient is the same, so that a tenth of the variance is worth ten times the batch.
"""

import sys
from math import log
from typing import cast

import torch
from torch import Tensor

from molrl.data.shapes.procedural import Procedural
from molrl.gaussian import Euclidean
from molrl.models.precondition import Preconditioned
from molrl.models.shapes.model import load_shapes
from molrl.models.shapes.stable_target import Pools, StableLoss
from molrl.pretraining import denoising_loss

BATCHES, BATCH, POOL = 24, 16, 2048
NOISES = (10.0, 3.0, 1.5, 0.7, 0.35, 0.15, 0.08)


def main() -> None:
    """Measure both losses and print the table."""
    given = dict(item.split("=", 1) for item in sys.argv[1:])
    weights = given.pop("weights", "shapes")
    tippy, asymmetric = (float(given.pop(name, 0.3)) for name in ("tippy", "asymmetric"))
    if given:
        sys.exit(f"{', '.join(given)}: allowed are weights, tippy and asymmetric")
    model = load_shapes(weights)
    denoiser, parameters = cast(Preconditioned, model.denoiser), list(model.denoiser.parameters())
    source = Procedural(split="validation", tippy=tippy, asymmetric=asymmetric)
    points, lowest, highest = model.architecture.points, model.schedule.noise_min, model.schedule.noise_max
    x0, classes = model.architecture.encode([source.point_cloud(index, POOL) for index in range(BATCHES * BATCH)])
    pools = Pools(x0, {"class": classes}, points)

    def gradient(loss: Tensor) -> Tensor:
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)])

    print(f"{weights}, {points} points, {BATCHES} batches of {BATCH}\n")
    print("| noise, std of the data | loss | stable | times less | variance of the gradient, times less |")
    print("|---|---|---|---|---|")
    for noise in NOISES:
        draw, losses, gradients = torch.Generator().manual_seed(0), [], []
        for batch in torch.arange(0, len(pools), pools.point_clouds_per_pool).split(BATCH):
            rows, context = pools.rows(batch)
            eps = torch.randn(rows.shape, generator=draw)
            t = torch.full((len(rows),), log(noise / lowest) / log(highest / lowest))
            plain = denoising_loss(denoiser, Euclidean(), rows[:, :points], t, eps[:, :points], context).mean()
            stable = StableLoss(points)(denoiser, Euclidean(), rows, t, eps, context).mean()
            gradients.append(torch.stack([gradient(plain), gradient(stable)]))
            losses.append(torch.stack([plain, stable]).detach())
        loss, variance = torch.stack(losses).mean(0), torch.stack(gradients).var(0).sum(-1)
        print(
            f"| {noise} | {loss[0]:.4f} | {loss[1]:.4f} | {loss[0] / loss[1]:.0f} | {variance[0] / variance[1]:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
