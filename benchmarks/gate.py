r"""Networks for drug-size molecules at equal compute: error per atom against core-hours of `molrl pretrain`.

    python benchmarks/gate.py train FOLDER drugs.smi [setting=value ...] --hours 0.5 [--arms pair,egnn]
    python benchmarks/gate.py table FOLDER --csv gate.csv --plot gate.png

The first command measures the core-seconds of a step of every arm, in turn in one process, so that a busy machine slows
all of them alike, and writes them to speeds.json. Then it trains the arms, one after the other, on one thread, with the
same data and seed, each for as many steps as fit the core-hours; killed, it goes on. Core-hours are steps times those
seconds.

The error per atom e solves (1 - e)^n = c for molecules of n heavy atoms, of which the share c is valid and connected:
it compares models of molecules of different sizes, and falls as a power of the compute as losses do.
"""

import argparse
import csv
import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformer_network import PlainTransformer, TransformerNetwork

import molrl
from molrl.building import build
from molrl.composition import compose
from molrl.gaussian import Context
from molrl.machine.device import computes_bfloat16
from molrl.machine.files import replace_file
from molrl.models.molecules.model import NETWORKS
from molrl.models.pretraining import Trainee
from molrl.noise import Key
from molrl.optimizers import make_optimizers
from molrl.pretraining import Average, Pretraining, PretrainingState, draw_batches
from molrl.runs.folder import AUTO
from molrl.runs.tracking import PRETRAINING_FILE

SECONDS_PER_HOUR = 3600
TIMED_STEPS, REPORTS = 24, 2
SPEEDS_FILE = "speeds.json"
ARMS: Mapping[str, str] = {
    "pair": "{kind: pair_network, width: 256, pair_width: 64, blocks: 6, radial: 24, passes: 2}",  # as `drugs`
    "pair_one_pass": "{kind: pair_network, width: 256, pair_width: 64, blocks: 6, radial: 24}",
    "transformer": "{kind: transformer, width: 192, heads: 12, blocks: 8, radial: 24}",
    "egnn": "{kind: egnn, width: 256, pair_width: 64, blocks: 6, radial: 20}",
    "plain_transformer": "{kind: plain_transformer, width: 192, heads: 12, blocks: 8, radial: 24}",
}
OWN_NETWORKS = {"transformer": TransformerNetwork, "plain_transformer": PlainTransformer}  # of this benchmark alone


class Point(NamedTuple):
    """A report of a run.

    Attributes:
        hours: core-hours of training so far.
        connected: share of the samples that are valid and connected.
        error: error per atom; NaN where no sample is connected.
    """

    hours: float
    step: int
    loss: float
    connected: float
    error: float


def read_points(folder: Path, speed: float) -> list[Point]:
    """Return the reports of a run of `molrl pretrain`, whose steps take so many core-seconds."""
    rows: list[Mapping[str, Any]] = [json.loads(line) for line in (folder / PRETRAINING_FILE).read_text().splitlines()]
    return [
        Point(
            row["step"] * speed / SECONDS_PER_HOUR, row["step"], row["loss"], row["validity_connected"], atom_error(row)
        )
        for row in rows
    ]


def atom_error(row: Mapping[str, Any]) -> float:
    """Return the error per atom of the samples of a report."""
    connected, atoms = float(row["validity_connected"] or 0.0), float(row["mean_heavy_atoms"])
    return 1 - math.pow(connected, 1 / atoms) if connected > 0 else math.nan


def slope(points: Sequence[Point]) -> float:
    """Return the exponent of the error as a power of the core-hours, by least squares in logarithms."""
    logs = [(math.log(point.hours), math.log(point.error)) for point in points if 0 < point.error < 1]
    if len(logs) < 2:
        return math.nan
    mean_x, mean_y = (sum(column) / len(logs) for column in zip(*logs, strict=True))
    return float(sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs))


def table(arms: Mapping[str, Sequence[Point]]) -> str:
    """Return the last report of each arm as a Markdown table."""
    lines = ["| arm | core-hours | steps | loss | valid and connected | error per atom | slope |", "|---|" + "---|" * 6]
    for name, points in arms.items():
        last = points[-1]
        cells = [f"{last.hours:.2f}", f"{last.step:,}", f"{last.loss:.4f}", f"{last.connected:.1%}"]
        lines.append(f"| {name} | {' | '.join(cells)} | {last.error:.4f} | {slope(points):.2f} |")
    return "\n".join(lines)


def plot(arms: Mapping[str, Sequence[Point]], path: Path) -> None:
    """Draw the error per atom of each arm against its core-hours, both on logarithmic axes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in arms.items():
        shown = [point for point in points if point.error > 0]
        axes.loglog([point.hours for point in shown], [point.error for point in shown], "o-", label=name)
    axes.set(xlabel="core-hours of training", ylabel="error per atom")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(ScalarFormatter())
    axes.legend()
    figure.savefig(path, dpi=150)


def train(folder: Path, data: Path, names: Sequence[str], hours: float, settings: Sequence[str]) -> None:
    """Train arms for some core-hours each, in processes of their own."""
    if not (folder / SPEEDS_FILE).exists():
        subprocess.run([sys.executable, __file__, "speed", str(folder), *own_settings(data, settings)], check=True)
    speeds = read_speeds(folder)
    for name in names:
        every = max(1, int(hours * SECONDS_PER_HOUR / speeds[name] / REPORTS))
        print(f"{name}: {speeds[name]:.2f} core-seconds a step, {every * REPORTS:,} steps", flush=True)
        call_arm(name, data, folder / "arms" / name, every, settings)


def call_arm(name: str, data: Path, run: Path, every: int, settings: Sequence[str]) -> None:
    """Train one arm in a process of its own; a complete one has no steps left."""
    steps = every * REPORTS
    schedule = [f"training.steps={steps}", f"training.cooldown={steps // 4}", f"training.save_every={every}"]
    command = [sys.executable, __file__, "arm", name, f"run={run}", *own_settings(data, settings), *schedule]
    subprocess.run(command, check=True)


def own_settings(data: Path, settings: Sequence[str]) -> list[str]:
    """Return the settings of `molrl pretrain` that all arms share."""
    return ["model=drugs", "threads=1", f"data.path={data}", *settings]


def measure_speeds(folder: Path, settings: Sequence[str]) -> None:
    """Write the core-seconds of a step of every arm, the mean over `TIMED_STEPS` batches that all arms see in turn."""
    torch.set_num_threads(1)
    know_own_networks()
    configs = {
        name: compose("pretrain", [f"model.network={network}", f"run={folder}", *settings])
        for name, network in ARMS.items()
    }
    first = configs["pair"]
    training: Pretraining = build(first["training"], "training")
    if training.bf16 == AUTO:
        training = replace(training, bf16=computes_bfloat16(torch.device("cpu")))
    examples = build(first["model"], "model").load_data(build(first["data"], "data"), None)
    learners = {name: Learner.of(config, examples, training) for name, config in configs.items()}
    buckets = learners["pair"].trainee.batches
    batches = islice(draw_batches(buckets, training.batch, Key(training.seed)), TIMED_STEPS)
    for batch in batches:
        for learner in learners.values():
            learner.learn(*batch)
    speeds = {name: learner.seconds / TIMED_STEPS for name, learner in learners.items()}
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / SPEEDS_FILE, json.dumps(speeds, indent=1).encode())


def read_speeds(folder: Path) -> Mapping[str, float]:
    """Return the core-seconds of a step of every arm."""
    speeds: Mapping[str, float] = json.loads((folder / SPEEDS_FILE).read_text("utf-8"))
    return speeds


@dataclass
class Learner:
    """A model in training, whose steps are timed.

    Attributes:
        seconds: of this thread, of all steps so far.
    """

    trainee: Trainee
    training: Pretraining
    state: PretrainingState
    seconds: float = 0.0

    @classmethod
    def of(cls, config: Mapping[str, Any], examples: Any, training: Pretraining) -> "Learner":
        """Return the model of a configuration, with random weights."""
        trainee: Trainee = build(config["model"], "model").fit(examples)
        model = trainee.denoiser
        optimizers = make_optimizers(training.optimizer, model, lr=training.lr, weight_decay=training.weight_decay)
        return cls(trainee, training, PretrainingState(model, optimizers, Average(training.ema)))

    def learn(self, x0: Tensor, context: Context) -> None:
        """Make one step on a batch."""
        began = time.process_time()
        self.training.update(self.state, self.trainee.space, x0, context, self.trainee.loss)
        self.seconds += time.process_time() - began


def train_arm(name: str, settings: Sequence[str]) -> None:
    """Train one arm in this process, which knows the networks of this benchmark too."""
    know_own_networks()
    molrl.pretrain(f"model.network={ARMS[name]}", *settings)


def know_own_networks() -> None:
    """Let this process know the networks of this benchmark by their kinds."""
    assert isinstance(NETWORKS, dict)
    NETWORKS.update(OWN_NETWORKS)


def main() -> None:
    """Train arms, or print their table and write their reports and the plot where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train the arms")
    training.add_argument("folder", type=Path)
    training.add_argument("data", type=Path, help="a file of SMILES")
    training.add_argument("--hours", type=float, default=2.0, help="core-hours of each arm")
    training.add_argument("--arms", default=",".join(ARMS))
    training.add_argument("settings", nargs="*", help="of molrl pretrain, for all arms")
    one = commands.add_parser("arm", help="train one arm; `train` calls this")
    one.add_argument("name", choices=list(ARMS))
    one.add_argument("settings", nargs="*")
    timing = commands.add_parser("speed", help="measure the arms; `train` calls this")
    timing.add_argument("folder", type=Path)
    timing.add_argument("settings", nargs="*")
    showing = commands.add_parser("table", help="print the table")
    showing.add_argument("folder", type=Path)
    showing.add_argument("--csv", type=Path, help="also write every report here")
    showing.add_argument("--plot", type=Path, help="also draw the curves here")
    arguments = parser.parse_args()
    if arguments.command == "train":
        names = [name.strip() for name in arguments.arms.split(",")]
        if unknown := set(names) - set(ARMS):
            parser.error(f"--arms: got {', '.join(sorted(unknown))}, allowed are {', '.join(ARMS)}")
        train(arguments.folder, arguments.data.resolve(), names, arguments.hours, arguments.settings)
    elif arguments.command == "arm":
        train_arm(arguments.name, arguments.settings)
    elif arguments.command == "speed":
        measure_speeds(arguments.folder, arguments.settings)
    else:
        show(arguments.folder, arguments.csv, arguments.plot)


def show(folder: Path, csv_path: Path | None, plot_path: Path | None) -> None:
    """Print the table of the arms of a folder, and write their reports and the plot where asked to."""
    runs = {name: (folder / "arms" / name, speed) for name, speed in read_speeds(folder).items()}
    arms = {name: read_points(*run) for name, run in runs.items() if (run[0] / PRETRAINING_FILE).exists()}
    print(table(arms))
    if csv_path:
        with csv_path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["arm", *Point._fields])
            for name, points in arms.items():
                rows.writerows([name, *(round(value, 5) for value in point)] for point in points)
    if plot_path:
        plot(arms, plot_path)


if __name__ == "__main__":
    main()
