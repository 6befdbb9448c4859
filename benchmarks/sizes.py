"""The speed of a network of molecules, all of a batch at once and by sizes: `python benchmarks/sizes.py`.

Prints milliseconds of CPU time of one thread per molecule and prediction, the least of `--repeats`, both ways in turn:
`--rows` molecules with sizes as in the training set, in the parts of `--part` that a rollout has.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from molrl.data.molecules.sizes import padding_mask
from molrl.gaussian import Context, MaskedPoints
from molrl.models.molecules.model import load
from molrl.models.precondition import Preconditioned
from molrl.noise import Key
from molrl.trajectory import select

Prediction = Callable[[Tensor, Tensor, Context], Tensor]


def main() -> None:
    """Print one Markdown row per precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="drugs")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--part", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = load(given.weights)
    denoiser, context = model.denoiser, {"mask": padding_mask(model.sizes.draw(list(range(given.rows)), Key(0)))}
    if not isinstance(denoiser, Preconditioned):
        parser.error(f"{given.weights}: got {type(denoiser).__name__}, need a preconditioned network")
    x = torch.randn(*context["mask"].shape, 3 + model.codec.features, generator=torch.Generator().manual_seed(0))
    inputs = MaskedPoints().project(x, context), torch.linspace(0.05, 0.95, given.rows), context
    ways: dict[str, Prediction] = {"at once": denoiser.predict, "by size": denoiser}
    print(f"| precision | {' | '.join(ways)} |\n|---|---|---|")
    for precision in (torch.float32, torch.bfloat16):
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(given.repeats):
            for name, way in ways.items():
                times[name].append(seconds(partial(predict, way, *inputs, given.part), precision))
        cells = " | ".join(f"{1000 * min(found) / given.rows:.1f}" for found in times.values())
        print(f"| {str(precision).removeprefix('torch.')} | {cells} |", flush=True)


def predict(way: Prediction, x: Tensor, t: Tensor, context: Context, part: int) -> None:
    """Predict a part at a time."""
    for start in range(0, len(x), part):
        rows = slice(start, start + part)
        way(x[rows], t[rows], select(context, rows))


@torch.no_grad()
def seconds(call: Callable[[], None], precision: torch.dtype) -> float:
    """Return the CPU seconds of a call in a precision."""
    began = time.process_time()
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        call()
    return time.process_time() - began


if __name__ == "__main__":
    main()
