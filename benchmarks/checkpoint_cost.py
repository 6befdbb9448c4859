"""The cost of a checkpoint in seconds and bytes, by part and by size.

    python benchmarks/checkpoint_cost.py              the shipped models and a network of 17 million parameters
    python benchmarks/checkpoint_cost.py --out=costs.json

A training checkpoint holds the weights and AdamW's two moments, so three times the weights. Times are medians of SAVES.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from molrl.models.molecules.model import load
from molrl.models.shapes.model import load_shapes
from molrl.runs import checkpoint
from molrl.runs.checkpoints import Series
from molrl.runs.snapshot import RANDOM, collect_flags, describe_platform, random_tensors, random_values

SAVES = 3
WIDTH, LAYERS = 1024, 16


def networks() -> Iterator[tuple[str, nn.Module]]:
    """Yield the networks whose checkpoints are measured, by name."""
    yield "qm9_heavy", load("qm9_heavy").denoiser
    yield "shapes", load_shapes("shapes").denoiser
    yield "17 million parameters", nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))


def run_state(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors and values that a run saves after one step of AdamW."""
    optimizer = torch.optim.AdamW(module.parameters())
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    moments = checkpoint.optimizer_tensors(optimizer, names)
    tensors = {"denoiser": module.state_dict(), "optimizer": moments, RANDOM: random_tensors()}
    values = {
        "flags": collect_flags({"denoiser": module}),
        "layout": describe_platform(torch.device("cpu")),
        RANDOM: random_values(),
    }
    return tensors, values


def clock(work: Any) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(name: str, module: nn.Module, folder: Path) -> dict[str, Any]:
    """Return one row: bytes, and the seconds of a save, its hashes, its writing and syncing, and reading it back."""
    tensors, values = run_state(module)
    series, step = Series(folder / name), iter(range(1, 1000))
    saves = [clock(lambda: series.save(next(step), tensors, values)) for _ in range(SAVES)]
    files = checkpoint.contents(tensors, values)
    hashes = [clock(lambda: [checkpoint.sha256(data) for data in files.values()]) for _ in range(SAVES)]
    writes = [clock(lambda n=n: checkpoint.write(folder / f"{name} {n}", files)) for n in range(SAVES)]
    return {
        "network": name,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "bytes": sum(map(len, files.values())),
        "save": statistics.median(saves),
        "hash": statistics.median(hashes),
        "write_and_sync": statistics.median(writes),
        "read": statistics.median(clock(series.latest) for _ in range(SAVES)),
    }


def main() -> int:
    """Measure all networks and print the table."""
    parser = argparse.ArgumentParser(description="The cost of a checkpoint.")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; by default a temporary one")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = [measure(name, module, Path(folder)) for name, module in networks()]
    table = Table("network", "parameters", "MB", "save, s", "of it hashes", "writing, syncing", "read, s")
    for row in rows:
        seconds = [f"{row[part]:.3f}" for part in ("save", "hash", "write_and_sync", "read")]
        table.add_row(row["network"], f"{row['parameters']:,}", f"{row['bytes'] / 1e6:.1f}", *seconds)
    Console(width=120).print(table)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
