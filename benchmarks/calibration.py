"""Calibration of a shape model along the chain: noise real shapes, continue the chain, and compare the results.

`python benchmarks/calibration.py [class=chair] [weights=shapes] [tippy=0.3] [asymmetric=0.3] [num_steps=50]` takes
SHAPES procedural shapes of the validation split, noises them to some steps of the chain, and lets the model continue
from there. A model that has learned its data keeps every column constant, wherever it starts: the difference of a
column between a row and the row above arises between these steps. `kind` is the fraction of KINDS of
`molrl.data.shapes.procedural` (for chairs: armchairs). With so few shapes the standard error of a fraction is 0.04. The
fractions of defects are those of the training set.
"""

import sys
from collections.abc import Sequence

import torch
from shapes import criteria

from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.procedural import Procedural
from molrl.models.shapes.checks import checks
from molrl.models.shapes.model import load_shapes
from molrl.models.shapes.policy import shape_policy
from molrl.models.shapes.quality import quality
from molrl.noise import Key
from molrl.policy import Policy
from molrl.schedule import alpha, sigma

SHAPES, BATCH_SIZE, ROWS = 128, 32, 10
COLUMNS = {"diversity": ".3f", "one_nna": ".2f", "standing": ".2f", "symmetric": ".2f", "kind": ".2f"}


@torch.no_grad()
def finish(policy: Policy, x0: torch.Tensor, classes: torch.Tensor, start: int) -> torch.Tensor:
    """Noise clean states [n, points, 3] to step `start` of the chain, and finish the chain from there."""
    sampler, key, done = policy.sampler, Key(0), []
    for rows in torch.arange(len(x0)).split(BATCH_SIZE):
        context, samples, shape = {"class": classes[rows]}, rows.tolist(), x0.shape[1:]
        x = sampler.add_noise(x0[rows], key.normal(samples, 0, shape).to(x0), torch.full_like(rows, start))
        for step in range(start, sampler.num_steps):
            kernel = sampler.transition(policy.predict_target, x, torch.full_like(rows, step), context)
            x = kernel.sample(key.normal(samples, step + 1, shape).to(x0))
        done.append(sampler.predict_x0(policy.predict_target, x, torch.full_like(rows, sampler.num_steps), context))
    return torch.cat(done)


def row(name: str, noise: str, shapes: Sequence[PointCloud], held_out: Sequence[PointCloud]) -> str:
    """Return one row of the table."""
    kind = sum(map(criteria()["class_logit"], shapes)) / len(shapes)
    metrics = {**checks(shapes), **quality(shapes, held_out), "kind": kind}
    return f"| {name} | {noise} | {' | '.join(format(metrics[n], form) for n, form in COLUMNS.items())} |"


def main() -> None:
    """Noise shapes, finish their chains and print the table."""
    given = dict(item.split("=", 1) for item in sys.argv[1:])
    family, weights, steps = (
        given.pop("class", "chair"),
        given.pop("weights", "shapes"),
        int(given.pop("num_steps", 50)),
    )
    tippy, asymmetric = (float(given.pop(name, 0.3)) for name in ("tippy", "asymmetric"))
    if given:
        sys.exit(f"{', '.join(given)}: allowed are class, weights, tippy, asymmetric, num_steps")
    torch.set_num_threads(1)
    model = load_shapes(weights)
    architecture = model.architecture
    policy = shape_policy(model, num_steps=steps, grid_power=1.0, eta=1.0, device=torch.device("cpu"))
    source = Procedural(families=(family,), split="validation", tippy=tippy, asymmetric=asymmetric)
    shapes = [source.point_cloud(number, architecture.points) for number in range(2 * SHAPES)]
    shapes, held_out = shapes[:SHAPES], shapes[SHAPES:]
    x0, classes = architecture.encode(shapes)
    print(f"| from step | noise, std of the data | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 2)}")
    for start in range(0, steps, max(1, steps // ROWS)):
        drawn = architecture.decode(finish(policy, x0, classes, start), classes)
        log_snr = model.schedule.log_snr(torch.tensor(1 - start / steps))
        noise = f"{sigma(log_snr) / alpha(log_snr):.2f}"
        print(row(f"{start} of {steps}", noise, drawn, held_out), flush=True)
    print(row("data", "0", shapes, held_out), flush=True)


if __name__ == "__main__":
    main()
