"""Time the default network against EDM's, dense and as an edge list: `python benchmarks/networks.py`.

Complete samples are drawn as in training, by `Policy.rollout`, with the number of steps of each network.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from molrl.gaussian import Context, MaskedPoints
from molrl.models.molecules.edm import EDM
from molrl.models.molecules.egnn import EGNN
from molrl.models.precondition import Preconditioned
from molrl.policy import Policy
from molrl.samplers import DDIM
from molrl.schedule import LogLinear, Polynomial, Schedule

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "molecules"))
from edge_list import edge_list_edm  # noqa: E402

FEATURES = 6  # H, C, N, O, F one-hot and the charge
# Atoms per molecule in EDM's QM9 training split of 100,000 (Hoogeboom et al. 2022, arXiv:2203.17003, published code)
QM9_SIZES = (
    "3:1 4:4 5:5 6:9 7:16 8:49 9:124 10:362 11:807 12:1689 13:3060 14:5136 15:7796 16:10644 17:13025 18:13364 19:13832 "
    "20:9482 21:9970 22:3393 23:4848 24:539 25:1506 26:48 27:266 29:25"
)
DEFAULT_STEPS = 50
PUBLISHED_STEPS = 1000
ONE_SAMPLE = "one sample"


class EdgeListEDM(nn.Module):
    """EDM's equations over an edge list, sharing its parameters with the dense network."""

    def __init__(self, dense: EDM) -> None:
        super().__init__()
        self.dense = dense

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        """Predict the noise in a batch x [b, n, 3 + features]."""
        return edge_list_edm(dict(self.dense.named_parameters()), x, t, context["mask"])


class Contender(NamedTuple):
    """A denoiser with the schedule and the number of steps that it is sampled with."""

    name: str
    denoiser: nn.Module
    schedule: Schedule
    steps: int


class Batch(NamedTuple):
    """A batch of molecules of similar size, at their times."""

    x: Tensor  # [b, n, 3 + FEATURES]
    t: Tensor  # [b]
    context: Context

    def rows(self, count: int) -> "Batch":
        """Return the first molecules, without unnecessary padding."""
        atoms = int(self.context["mask"][:count].sum(1).max())
        return Batch(self.x[:count, :atoms], self.t[:count], {"mask": self.context["mask"][:count, :atoms]})


def main() -> None:
    """Time all networks in turn and print one table."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    contenders = _contenders(torch.device(arguments.device))
    batches = list(_batches(arguments.molecules, arguments.batch, torch.device(arguments.device)))
    _check_equal(contenders[1].denoiser, contenders[2].denoiser, batches[0])
    jobs: dict[str, Callable[[Contender], None]] = {
        "forward": lambda contender: _forward(contender, batches),
        "training step": lambda contender: _train(contender, batches),
    }
    seconds: dict[tuple[str, str], list[float]] = {}
    for repeat in range(arguments.repeats + 1):
        for job, run in jobs.items():
            for contender in contenders:
                taken = _seconds(partial(run, contender), arguments.device)
                if repeat > 0:  # the first round warms up
                    seconds.setdefault((job, contender.name), []).append(taken / arguments.molecules)
    drawn = batches[len(batches) // 2].rows(arguments.samples)  # the batches go from small to large
    for _ in range(arguments.chains):  # minutes each, so without a warm-up
        for contender in contenders:
            taken = _seconds(partial(_sample, contender, drawn), arguments.device)
            seconds.setdefault((ONE_SAMPLE, contender.name), []).append(taken / len(drawn.x))
    sizes = torch.cat([batch.context["mask"].sum(1) for batch in batches])
    print(
        f"torch {torch.__version__}, {arguments.device}, {torch.get_num_threads()} threads; "
        f"{arguments.molecules} molecules of {sizes.min()} to {sizes.max()} atoms (QM9's sizes), "
        f"batches of {arguments.batch} similar ones, median of {arguments.repeats}; "
        f"whole samples: {len(drawn.x)} in a batch, of up to {drawn.x.shape[1]} atoms, median of {arguments.chains}"
    )
    _table(contenders, {key: statistics.median(values) for key, values in seconds.items()})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--molecules", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8, help="molecules per batch")
    parser.add_argument("--samples", type=int, default=2, help="whole samples in one batch")
    parser.add_argument("--chains", type=int, default=1, help="such batches; a busy machine needs several")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def _contenders(device: torch.device) -> tuple[Contender, Contender, Contender]:
    schedule = LogLinear(noise_min=0.01, noise_max=20.0)
    fast = Preconditioned(EGNN(features=FEATURES, **_default_settings()), schedule, [1.0] * (3 + FEATURES)).to(device)
    dense = EDM(width=256, blocks=9, features=FEATURES).to(device)
    return (
        Contender("default network", fast, schedule, DEFAULT_STEPS),
        Contender("EDM, dense", dense, Polynomial(), PUBLISHED_STEPS),
        Contender("EDM, edge list", EdgeListEDM(dense), Polynomial(), PUBLISHED_STEPS),
    )


def _default_settings() -> dict[str, int]:
    """Return the sizes of the default network of all-atom models."""
    network = OmegaConf.load(ROOT / "conf" / "model" / "all_atoms.yaml").model.network
    return {str(name): int(size) for name, size in network.items() if name != "kind"}


def _batches(molecules: int, size: int, device: torch.device) -> Iterator[Batch]:
    """Draw sizes from QM9, sort them, and fill each batch with noise at t = 0.5."""
    histogram = torch.tensor([[int(number) for number in entry.split(":")] for entry in QM9_SIZES.split()])
    drawn = torch.multinomial(histogram[:, 1].float(), molecules, replacement=True)
    atoms = histogram[drawn, 0].sort().values
    for start in range(0, molecules, size):
        group = atoms[start : start + size]
        context = {"mask": (torch.arange(int(group.max())) < group[:, None]).to(device)}
        x = torch.randn(len(group), int(group.max()), 3 + FEATURES).to(device)
        yield Batch(MaskedPoints().project(x, context), torch.full((len(group),), 0.5, device=device), context)


def _check_equal(dense: nn.Module, edge_list: nn.Module, batch: Batch) -> None:
    """Check that both networks of equal parameters give equal outputs, so that only their speed differs."""
    with torch.no_grad():
        torch.testing.assert_close(dense(*batch), edge_list(*batch), rtol=1e-3, atol=1e-4)


def _forward(contender: Contender, batches: list[Batch]) -> None:
    with torch.no_grad():
        for batch in batches:
            contender.denoiser(*batch)


def _train(contender: Contender, batches: list[Batch]) -> None:
    optimizer = torch.optim.AdamW(contender.denoiser.parameters(), lr=1e-9)
    for batch in batches:
        optimizer.zero_grad()
        (contender.denoiser(*batch) - batch.x).square().mean().backward()
        optimizer.step()


def _sample(contender: Contender, batch: Batch) -> None:
    sampler = DDIM(schedule=contender.schedule, num_steps=contender.steps, space=MaskedPoints())
    Policy(contender.denoiser, sampler).rollout(batch.context, lambda _: torch.randn_like(batch.x))


def _seconds(run: Callable[[], None], device: str) -> float:
    start = time.perf_counter()
    run()
    if device != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - start


def _table(contenders: tuple[Contender, ...], seconds: dict[tuple[str, str], float]) -> None:
    """Print milliseconds per molecule, and their ratio to the default network."""
    rows = {job: [seconds[job, contender.name] for contender in contenders] for job, _ in seconds}
    steps = ", ".join(str(contender.steps) for contender in contenders)
    rows[f"{ONE_SAMPLE} ({steps} steps)"] = rows.pop(ONE_SAMPLE)
    print(f"{'ms per molecule (ratio)':<36}" + "".join(f"{contender.name:>24}" for contender in contenders))
    counts = [sum(p.numel() for p in contender.denoiser.parameters()) for contender in contenders]
    print(f"{'parameters':<36}" + "".join(f"{count:>24,}" for count in counts))
    for job, values in rows.items():
        print(f"{job:<36}" + "".join(f"{1e3 * value:>14.2f} ({value / values[0]:7.1f})" for value in values))


if __name__ == "__main__":
    main()
