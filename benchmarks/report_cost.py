"""Time and size of a report of many rounds and samples: python benchmarks/report_cost.py [--rounds 1000]."""

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import cast

import yaml

import molrl
from molrl.data.molecules.perception import perceive_bonds
from molrl.models.molecules.decoder import MoleculeDecoder
from molrl.models.molecules.policy import MoleculePolicy
from molrl.runs.report import MAX_SHARE, MIN_SECONDS, REPORT, write_report
from molrl.runs.report.page import ASSETS
from molrl.runs.report.sheet import write_sheet

REPEATS = 5


def main() -> None:
    """Print the seconds of a sheet and of a report, and the bytes of the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--metrics", type=int, default=60)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--policy", default="qm9_heavy")
    options = parser.parse_args()
    policy = cast(MoleculePolicy, molrl.load_policy(options.policy))
    decoder = MoleculeDecoder(model=policy.model, reader=perceive_bonds)
    samples = molrl.sample(options.policy, options.samples, seed=0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.yaml").write_text(yaml.safe_dump({"iterations": options.rounds}))
        rows = [
            {"iteration": i, **{f"metric_{k}": math.sin(i * k) for k in range(options.metrics)}}
            for i in range(options.rounds)
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        began = time.perf_counter()
        for when in ("before", "after"):
            write_sheet(folder / "report" / f"{when}.json", samples, [0.5] * len(samples), decoder)
        print(f"a sheet of {options.samples} samples: {(time.perf_counter() - began) / 2:.2f} s")
        seconds = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            write_report(folder)
            seconds.append(time.perf_counter() - began)
        size = (folder / REPORT).stat().st_size
        vendored = (ASSETS / "3Dmol-min.js").stat().st_size
        print(f"a report of {options.rounds} rounds: first {seconds[0]:.2f} s, then {min(seconds[1:]):.2f} s")
        print(f"so at most every {max(MIN_SECONDS, min(seconds[1:]) / MAX_SHARE):.0f} s of a run")
        print(f"{size / 1e6:.2f} MB, of which 3Dmol.js has {vendored / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
